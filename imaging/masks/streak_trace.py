"""Verify a candidate streak: straighten it, fit its course and profile, find its ends."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.masks.settings import StreakSettings
from imaging.masks.streak_model import Streak
from imaging.masks.streak_search import Candidate
from imaging.masks.streak_strip import (
    HALF_WIDTH,
    MEDIAN_NOISE,
    Course,
    Strip,
    smooth,
    step_across,
    straighten,
    without_sides,
)

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

STEPS, WIDE_STEPS = (1, 5), (12, 20)
"""Pixels per sample across of the strips for candidates of the search with small bins, and with large ones: the second
if the streak fills the first. The lights of an aircraft 10 km away are 270 pixels wide."""
WIDE_FWHM_PIXELS = 60.0
"""Width above which a streak must leave the CCD at both ends: galaxies and ghosts of that width do not."""
LEAST_WIDTHS = 4.0
"""Shortest streak above that width, in its widths: the edge of a ghost across a corner is shorter."""
SHORT_EVENNESS = 0.65
"""Lowest ratio of the quartiles of the brightness along a streak across a corner: there the edges hide where a galaxy
or a spike ends."""
MOFFAT_POWER = 2.5
"""Fall of a Moffat profile (beta 3) integrated along a line: (1 + t^2 / alpha^2)^-2.5."""
MAXIMUM_STEP = 0.5
"""Largest difference of the levels on both sides of a streak over its brightness; more indicates an edge."""


class StreakTracer:
    """Trace streak candidates on one image.

    Parameters
    ----------
    science, weight, mask
        (ny, nx) float32 electrons, float32 inverse variance, int16.
    bits
        Bits of ignored pixels.
    settings
        Limits.
    """

    def __init__(
        self, science: FloatImage, weight: FloatImage, mask: NDArray[np.int16], bits: int, settings: StreakSettings
    ) -> None:
        self.science, self.weight, self.mask, self.bits = science, weight, mask, bits
        self.settings = settings

    def trace(self, candidate: Candidate) -> Streak | None:
        """Verify a candidate and measure it; None if it is not a streak.

        If the candidate fills the narrow strip, a wider one is tried too, and the more significant result is used: the
        narrow strip contains only the middle of a wide streak.
        """
        narrow = self._trace(candidate, STEPS[0])
        if not self._fills(narrow, STEPS[0]):
            return narrow
        found = [streak for streak in (narrow, self._trace(candidate, STEPS[1])) if streak is not None]
        return max(found, key=lambda streak: streak.significance, default=None)

    def trace_wide(self, candidate: Candidate) -> Streak | None:
        """Verify a candidate of the search with large bins, in the wider strip if it fills the other one."""
        found = self._trace(candidate, WIDE_STEPS[0])
        return (self._trace(candidate, WIDE_STEPS[1]) or found) if self._fills(found, WIDE_STEPS[0]) else found

    @staticmethod
    def _fills(streak: Streak | None, step: int) -> bool:
        return streak is None or streak.fwhm_pixels >= 0.4 * HALF_WIDTH * step

    def _trace(self, candidate: Candidate, step: int) -> Streak | None:
        course = self._align(candidate, step)
        if course is None:
            return None
        low, high = course.chord(self.science.shape)
        if high - low < self.settings.minimum_length_pixels[0]:
            return None
        course = self._fit_course(course, low, high, step)
        strip = self._strip(course, low, high, step)
        fwhm = _stacked_fwhm(strip, candidate.reach)
        if fwhm is None or fwhm > 0.7 * HALF_WIDTH * step:
            return None
        return self._measure(course, strip, fwhm, (low, high))

    def _strip(self, course: Course, low: float, high: float, step: int) -> Strip:
        image = (self.science, self.weight, self.mask)
        return straighten(image, self.bits, course, (low, high), self.settings.segment_pixels, step)

    def _align(self, candidate: Candidate, step: int) -> Course | None:
        """Find the offset and tilt, within the resolution of the search, that maximise the sum of the pieces."""
        course = Course(candidate.x, candidate.y, float(np.cos(candidate.angle)), float(np.sin(candidate.angle)))
        edge_low, edge_high = course.chord(self.science.shape)
        low, high = max(-candidate.reach, edge_low), min(candidate.reach, edge_high)
        if high - low < self.settings.minimum_length_pixels[0]:
            return None
        strip = self._strip(course, low, high, step)
        smoothed = smooth(np.nan_to_num(without_sides(strip.profile, None)))
        best, choice = -np.inf, (0.0, 0.0)
        for tilt in np.arange(-0.016, 0.0161, 0.002):
            shift = np.rint(tilt * strip.along / step).astype(int)
            if np.abs(shift).max() > HALF_WIDTH - 12:
                continue
            for offset in range(-10, 11):
                score = smoothed[np.arange(smoothed.shape[0]), HALF_WIDTH + offset + shift].sum()
                if score > best:
                    best, choice = score, (float(offset * step), float(tilt))
        return replace(course, a=choice[0], b=choice[1])

    def _fit_course(self, course: Course, low: float, high: float, step: int) -> Course:
        """Fit a parabola to the peak positions of the pieces, weighted by their signal."""
        for reach, degree in ((10, 1), (8, 2), (6, 2)):
            strip = self._strip(course, low, high, step)
            window = smooth(without_sides(strip.profile, None))[:, HALF_WIDTH - reach : HALF_WIDTH + reach + 1]
            known = np.asarray(np.isfinite(window).all(axis=1))
            if known.sum() < 3:
                return course
            peak = np.zeros(len(window), dtype=int)
            peak[known] = np.argmax(window[known], axis=1)
            height = np.where(known, window[np.arange(len(window)), peak], 0.0)
            significance = height / (strip.error / np.sqrt(5.0))
            use = known & (significance > 4.0)
            if use.sum() < 3:
                return course
            across = (peak - reach) * float(step) + _centroid_shift(window, peak, known) * step
            course = _add_polynomial(course, strip.along, across, use, significance, degree if use.sum() >= 8 else 1)
        return course

    def _measure(self, course: Course, strip: Strip, fwhm: float, limits: tuple[float, float]) -> Streak | None:
        """Find the ends of the streak and test it."""
        settings = self.settings
        flux, error = _piece_fluxes(strip, fwhm)
        known = np.isfinite(flux)
        present = known & (flux > settings.segment_sigma * error)
        first, last = _best_interval(present, known)
        if last <= first:
            return None
        inside = np.zeros(present.size, dtype=bool)
        inside[first:last] = True
        half = 0.5 * (strip.along[1] - strip.along[0])
        low = limits[0] if first <= 1 else float(strip.along[first]) - half
        high = limits[1] if last >= present.size - 1 else float(strip.along[last - 1]) + half
        weights = 1.0 / error[inside & known] ** 2
        significance = float(np.sum(flux[inside & known] * weights) / np.sqrt(np.sum(weights)))
        shown = strip.profile[inside & present]
        middle = without_sides(shown, fwhm / strip.step)[:, HALF_WIDTH - 3 : HALF_WIDTH + 4]
        middle = middle[np.isfinite(middle).all(axis=1)]
        if not len(middle):
            return None
        surface = float(smooth(np.median(middle, axis=0)[None, :], 3).max())
        quartiles = np.quantile(flux[inside & present], (0.25, 0.75))
        free = (low > limits[0], high < limits[1])
        evenness = SHORT_EVENNESS if high - low < settings.minimum_length_pixels[1] else settings.minimum_evenness
        if (
            present[inside & known].mean() < settings.minimum_fill
            or high - low < settings.minimum_length_pixels[sum(free)]
            or quartiles[0] < evenness * quartiles[1]
            or significance < settings.minimum_significance
            or surface < settings.minimum_surface_sigma
            or (fwhm > WIDE_FWHM_PIXELS and (any(free) or high - low < LEAST_WIDTHS * fwhm))
            or not 2.0 <= fwhm <= settings.maximum_fwhm_pixels
            or step_across(shown, fwhm / strip.step) > MAXIMUM_STEP * surface
        ):
            return None
        half_width = mask_half_width(fwhm, surface, settings)
        # Beyond the border, so that the corners of the band are masked as well.
        low, high = low - (0.0 if free[0] else 3.0 * half_width), high + (0.0 if free[1] else 3.0 * half_width)
        start, end = course.position(low), course.position(high)
        return Streak(
            x0=float(start[0]),
            y0=float(start[1]),
            x1=float(end[0]),
            y1=float(end[1]),
            sagitta_pixels=float(-course.c * (high - low) ** 2 / 4.0),
            fwhm_pixels=fwhm,
            half_width_pixels=half_width,
            surface_electrons=surface * self._sigma(course, strip.along[inside]),
            surface_sigma=surface,
            significance=significance,
        )

    def _sigma(self, course: Course, along: FloatArray) -> float:
        """Return the median pixel noise along the course, electrons."""
        ny, nx = self.science.shape
        places = [course.position(float(s)) for s in along]
        x = np.clip([round(p[0]) for p in places], 0, nx - 1)
        y = np.clip([round(p[1]) for p in places], 0, ny - 1)
        weights = self.weight[y, x]
        weights = weights[weights > 0]
        return float(1.0 / np.sqrt(np.median(weights))) if weights.size else float("nan")


def mask_half_width(fwhm_pixels: float, surface_sigma: float, settings: StreakSettings) -> float:
    """Return the half width of the mask beyond which a streak is fainter than the limit."""
    alpha = fwhm_pixels / (2.0 * np.sqrt(2.0 ** (1.0 / MOFFAT_POWER) - 1.0))
    ratio = max(surface_sigma / settings.mask_residual_sigma, 1.0)
    wings = alpha * np.sqrt(ratio ** (1.0 / MOFFAT_POWER) - 1.0)
    return float(max(settings.mask_factor * fwhm_pixels, wings))


def _centroid_shift(window: FloatArray, peak: NDArray[np.intp], known: NDArray[np.bool_]) -> FloatArray:
    """Interpolate each peak with a parabola through its neighbours, samples."""
    shift = np.zeros(len(window))
    rows = np.flatnonzero(known & (peak > 0) & (peak < window.shape[1] - 1))
    left, middle, right = (window[rows, peak[rows] + d] for d in (-1, 0, 1))
    curvature = left - 2.0 * middle + right
    bent = curvature < 0
    shift[rows[bent]] = np.clip(0.5 * (left[bent] - right[bent]) / curvature[bent], -0.5, 0.5)
    return shift


def _add_polynomial(
    course: Course,
    along: FloatArray,
    across: FloatArray,
    use: NDArray[np.bool_],
    significance: FloatArray,
    degree: int,
) -> Course:
    """Correct a course by a clipped polynomial fit to the offsets of its pieces."""
    keep = use.copy()
    weights = np.sqrt(np.clip(significance, 0.0, 50.0))
    scale = max(float(np.abs(along).max()), 1.0)
    fit: NDArray[Any] = np.zeros(degree + 1)
    for _ in range(4):
        fit = np.polynomial.polynomial.polyfit(along[keep] / scale, across[keep], degree, w=weights[keep])
        residual = across - np.polynomial.polynomial.polyval(along / scale, fit)
        limit = 3.0 * max(1.4826 * float(np.median(np.abs(residual[keep]))), 0.3)
        new = use & (np.abs(residual) < limit)
        if new.sum() < degree + 2 or np.array_equal(new, keep):
            break
        keep = new
    a, b, c = (*fit, 0.0)[:3]
    return replace(course, a=course.a + a, b=course.b + b / scale, c=course.c + c / scale**2)


def _stacked_fwhm(strip: Strip, reach: float) -> float | None:
    """Measure the full width at half maximum of the median profile, pixels; None if there is no peak.

    Both sides must fall to half of it where most pieces are inside the image: at a corner one side is short, and the
    highest value may be its last.
    """
    near = np.abs(strip.along) <= max(reach, 200.0)
    flat = without_sides(strip.profile, None)
    core = flat[:, HALF_WIDTH - 2 : HALF_WIDTH + 3]
    usable = near & np.isfinite(core).all(axis=1)
    shows = usable & (core.mean(axis=1) > 3.0 * strip.error / np.sqrt(5.0))
    flat = flat[shows if shows.sum() >= 3 else usable]
    inside = np.isfinite(flat).sum(axis=0) >= max(3.0, 0.5 * len(flat))
    if not inside[HALF_WIDTH - 4 : HALF_WIDTH + 5].all():
        return None
    low, high = (HALF_WIDTH + sign * int(np.argmin(inside[HALF_WIDTH::sign])) for sign in (-1, 1))
    low, high = (low + 1 if low < HALF_WIDTH else 0), (high if high > HALF_WIDTH else inside.size)
    stack = smooth(np.nanmedian(flat[:, low:high], axis=0)[None, :], 3)[0]
    middle = HALF_WIDTH - 4 - low + int(np.argmax(stack[HALF_WIDTH - 4 - low : HALF_WIDTH + 5 - low]))
    peak = stack[middle]
    if peak <= 3.0 * MEDIAN_NOISE * float(np.median(strip.error)) / np.sqrt(3.0 * len(flat)):
        return None
    if not 0 < middle < stack.size - 1:
        return None
    crossings = []
    for direction in (-1, 1):
        i = middle
        while 0 < i < stack.size - 1 and stack[i] > 0.5 * peak:
            i += direction
        inner, outer = stack[i - direction], stack[i]
        if outer > 0.5 * peak and stack.size < inside.size:
            return None
        share = (inner - 0.5 * peak) / max(inner - outer, 1e-9)
        crossings.append(abs(i - direction - middle) + float(np.clip(share, 0.0, 1.0)))
    return max(sum(crossings), 1.0) * strip.step


def _piece_fluxes(strip: Strip, fwhm: float) -> tuple[FloatArray, FloatArray]:
    """Average each piece over the streak's core, minus its sides: value and error in units of the pixel noise."""
    core = np.abs(strip.across) <= max(0.6 * fwhm, strip.step)
    flat = without_sides(strip.profile, fwhm / strip.step)[:, core]
    known = np.isfinite(flat).mean(axis=1) > 0.7
    flux = np.full(len(flat), np.nan)
    flux[known] = np.nanmean(flat[known], axis=1)
    error = strip.error * np.sqrt(1.0 / core.sum() + 0.1)
    return flux, error


def _best_interval(present: NDArray[np.bool_], known: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the half-open interval of pieces with the largest number of present minus absent ones.

    Adjacent masked pieces are included.
    """
    score = np.where(known, np.where(present, 1, -1), 0)
    best, start, total, interval = 0, 0, 0, (0, 0)
    for i, value in enumerate(score):
        total += int(value)
        if total <= 0:
            total, start = 0, i + 1
        elif total > best:
            best, interval = total, (start, i + 1)
    first, last = interval
    while 0 < first < last and not known[first - 1]:
        first -= 1
    while first < last < known.size and not known[last]:
        last += 1
    return first, last
