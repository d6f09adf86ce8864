"""Inject fake transients into a copy of a difference and match them to detections.

For a given kernel and background the subtraction is linear: a source added to the search image changes the whitened
difference only by that source convolved with the local response kernel. The fakes are therefore added to the
difference, with their photon noise, and pass through the same filter, detection and cuts as real sources. This is
equivalent to injection into the search image and subtraction with the same kernel, at a hundredth of the cost.
Transients hardly affect the kernel itself, because stamps of deviating sources are clipped.

A source is drawn with the PSF model that also measures, which hides an error of the model, or with the image of a star
(:mod:`imaging.difference.star_images`), which shows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from imaging.difference.detect import BrightStars, DifferenceDetections, detect
from imaging.difference.filter import flux_errors, significance
from imaging.difference.noise import HALF
from imaging.difference.records import Difference
from imaging.difference.response import PSF_HALF_WIDTH, draw_source, respond, response_at
from imaging.difference.score import judge
from imaging.difference.settings import DetectionSettings, FakeSettings
from imaging.difference.star_images import SOURCE_HALF, cut_star_images
from imaging.image import FloatImage
from imaging.numerics.convolution import convolve
from imaging.photometry.transparency import at_places
from imaging.templates.relative import find_bright_sources

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FULL_CCD_PIXELS = 2048 * 4096
SIZE = fft.next_fast_len(4 * PSF_HALF_WIDTH + 1, real=True)

CORE_HALF = 8
"""Half width of the square in which the score of a fake is that of its flux over its error, pixels."""


@dataclass(frozen=True, eq=False)
class Fakes:
    """Fakes with their detections; (n,) arrays.

    Attributes
    ----------
    x, y
        Position, pixels.
    mag, flux
        Injected magnitude and electrons.
    snr_expected
        Flux over the local flux error.
    on_host
        Whether it was placed on a galaxy.
    surface_brightness
        Electrons per pixel of the template at the position.
    on_good_pixels
        Whether no masked pixel lies within one FWHM.
    match
        Index of the matching detection; -1 if there is none.
    detections
        All detections on the copy.
    """

    x: FloatArray
    y: FloatArray
    mag: FloatArray
    flux: FloatArray
    snr_expected: FloatArray
    on_host: BoolArray
    surface_brightness: FloatArray
    on_good_pixels: BoolArray
    match: NDArray[np.int64]
    detections: DifferenceDetections

    def __len__(self) -> int:
        return self.x.size

    @property
    def detected(self) -> BoolArray:
        """Which were detected above the threshold."""
        return self.match >= 0

    @property
    def passed(self) -> BoolArray:
        """Which were detected and passed all cuts."""
        passed = np.append(self.detections.passed, False)
        return passed[self.match] & self.detected


def inject_fakes(
    difference: Difference,
    real: DifferenceDetections,
    seed: tuple[int, ...],
    settings: FakeSettings,
    detection: DetectionSettings,
    stars: BrightStars | None = None,
) -> Fakes:
    """Add fakes to a copy of the difference, run the detection on it, and match.

    Parameters
    ----------
    difference
        The difference; it is not changed.
    real
        Detections on the difference; fakes are not placed on them.
    seed
        Numbers that identify exposure and CCD.
    settings
        Numbers, magnitudes and positions of fakes; whether images of stars draw them: none if there is no such star.
    detection
        Settings of the search itself.
    stars
        Bright stars, as in the search.
    """
    rng = np.random.default_rng((*seed, 3))
    share = difference.image.size / FULL_CCD_PIXELS
    n_blank = max(round(settings.n_blank * min(share, 1.0)), min(settings.n_blank, 4))
    n_hosts = max(round(settings.n_hosts * min(share, 1.0)), min(settings.n_hosts, 4))
    drawn_with = cut_star_images(difference.search, settings.star_snr) if settings.star_images else None
    if drawn_with is not None and not len(drawn_with):
        n_blank = n_hosts = 0
    x, y, on_host = _places(difference, real, rng, n_blank, n_hosts, settings)
    images = None
    if drawn_with is not None and x.size:
        x, y, number = drawn_with.nearest(x, y)
        images = [drawn_with.images[k] for k in number]
    noise, systematic = flux_errors(
        *(difference.filtered, x, y, difference.scale_error, difference.shift_error),
        *(difference.widths, difference.tiling),
    )
    error = np.hypot(noise, systematic)
    mag = draw_magnitudes(rng, error, difference.search.zeropoint_mag, detection.threshold_sigma, settings)
    flux = 10 ** (-0.4 * (mag - difference.search.zeropoint_mag))
    expected = flux / error
    clouds = at_places(difference.transparency_error, x, y) * rng.standard_normal(flux.size)
    copy = add_sources(difference, x, y, flux * (1.0 + clouds), rng, images)
    found, _ = judge(detect(copy, detection, stars), difference.psf.fwhm_pixels, detection)
    match = _match(x, y, found, settings.match_radius_fwhm * difference.psf.fwhm_pixels)
    i, j = np.rint(x).astype(int), np.rint(y).astype(int)
    return Fakes(
        *(x, y, mag, flux, expected, on_host, difference.model[j, i].astype(float)),
        *(_on_good_pixels(difference, x, y), match, found),
    )


def draw_magnitudes(
    rng: np.random.Generator, error: FloatArray, zeropoint_mag: float, threshold: float, settings: FakeSettings
) -> FloatArray:
    """Draw magnitudes over the whole range, a fraction of them near the threshold, where the efficiency falls.

    Parameters
    ----------
    rng
        Random numbers.
    error
        (n,) error of a point source's flux at each position, electrons.
    zeropoint_mag
        AB magnitude of one electron.
    threshold
        Detection threshold, sigma.
    settings
        Magnitude range, fraction near the threshold, and width of that range.
    """
    brightest, faintest = settings.brightest_mag, settings.faintest_mag
    anywhere = rng.uniform(brightest, faintest, error.size)
    limit = zeropoint_mag - 2.5 * np.log10(threshold * error)
    near = limit + rng.uniform(-settings.threshold_width_mag, settings.threshold_width_mag, error.size)
    chosen = (rng.uniform(size=error.size) < settings.threshold_share) & (near > brightest) & (near < faintest)
    return np.where(chosen, near, anywhere)


def add_sources(
    difference: Difference,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    rng: np.random.Generator,
    images: Sequence[FloatArray] | None = None,
) -> Difference:
    """Return a copy of a difference with point sources added, as if they had been in the search image.

    Parameters
    ----------
    difference
        The difference.
    x, y, flux
        (n,) positions (pixels) and electrons.
    rng
        Random generator of the photon noise.
    images
        n images of unit flux of the sources on the pixels about theirs, (2 ``SOURCE_HALF`` + 1)^2 pixels each; None
        draws with the PSF model of the search image.
    """
    image, numerator = difference.image.copy(), difference.filtered.numerator.copy()
    science = difference.search.pixels.science.copy()
    gain = float(difference.search.pixels.header.get("GAIN", 1.0))
    half = PSF_HALF_WIDTH
    ny, nx = image.shape
    for k in range(x.size):
        cx, cy = int(np.floor(x[k] + 0.5)), int(np.floor(y[k] + 0.5))
        tile = difference.tiling.index(x[k], y[k])
        shift = (x[k] - cx, y[k] - cy)
        unit = draw_source(difference.search.psf, x[k], y[k], SOURCE_HALF, shift) if images is None else images[k]
        source = flux[k] * unit
        photons = rng.standard_normal(source.shape) * np.sqrt(np.maximum(source, 0.0) / gain)
        drawn = source + photons
        change = respond(drawn, response_at(difference.noise, difference.tiling, float(x[k]), float(y[k])))
        ys, xs = slice(max(cy - half, 0), min(cy + half + 1, ny)), slice(max(cx - half, 0), min(cx + half + 1, nx))
        inner = (slice(ys.start - cy + half, ys.stop - cy + half), slice(xs.start - cx + half, xs.stop - cx + half))
        science[ys, xs] += drawn[HALF:-HALF, HALF:-HALF][inner].astype(np.float32)
        weight = difference.weight[ys, xs]
        part = np.where(weight > 0, change[inner], 0.0)
        image[ys, xs] += part.astype(np.float32)
        weighted, psf = np.zeros_like(change), difference.filtered.psf_stamps[tile]
        weighted[inner] = part * weight
        ratio = _norm_ratio(difference.filtered.norm, difference.weight, psf, cx, cy)
        _add_filtered(numerator, weighted, psf, ratio, cx, cy)
    filtered = replace(difference.filtered, numerator=numerator)
    score = significance(filtered, difference.scale_error, difference.shift_error, difference.widths, difference.tiling)
    pixels = replace(difference.search.pixels, science=science)
    search = replace(difference.search, pixels=pixels, resampling_inputs=None)
    return replace(difference, search=search, image=image, filtered=filtered, score=score)


def _norm_ratio(norm: FloatImage, weight: FloatImage, psf: FloatArray, cx: int, cy: int) -> FloatArray:
    """Return the norm about a pixel over that of the pixels' weights: below one beside noisy pixels."""
    values = []
    for image, half in ((norm, CORE_HALF), (weight, CORE_HALF + PSF_HALF_WIDTH)):
        ys, xs = slice(max(cy - half, 0), cy + half + 1), slice(max(cx - half, 0), cx + half + 1)
        window, inside = np.zeros((2 * half + 1, 2 * half + 1)), image[ys, xs]
        first_y, first_x = ys.start - cy + half, xs.start - cx + half
        window[first_y : first_y + inside.shape[0], first_x : first_x + inside.shape[1]] = inside
        values.append(window)
    of_pixels = convolve(values[1], psf[::-1, ::-1] ** 2, "valid")
    return np.divide(values[0], of_pixels, out=np.ones_like(of_pixels), where=of_pixels > 1e-9 * of_pixels.max())


def _add_filtered(
    numerator: NDArray[np.float32], weighted: FloatArray, psf: FloatArray, ratio: FloatArray, cx: int, cy: int
) -> None:
    """Add the correlation of a weighted stamp with the PSF to the filter's numerator about a pixel.

    ``ratio`` scales its core.
    """
    half, ny, nx = PSF_HALF_WIDTH, *numerator.shape
    spectrum = fft.rfft2(weighted, s=(SIZE, SIZE)) * fft.rfft2(psf[::-1, ::-1], s=(SIZE, SIZE))
    full = fft.irfft2(spectrum, s=(SIZE, SIZE))
    reach = 2 * half
    core = slice(reach - CORE_HALF, reach + CORE_HALF + 1)
    full[core, core] *= ratio
    ys, xs = slice(max(cy - reach, 0), min(cy + reach + 1, ny)), slice(max(cx - reach, 0), min(cx + reach + 1, nx))
    inner = (slice(ys.start - cy + reach, ys.stop - cy + reach), slice(xs.start - cx + reach, xs.stop - cx + reach))
    numerator[ys, xs] += full[inner].astype(np.float32)


def _places(
    difference: Difference,
    real: DifferenceDetections,
    rng: np.random.Generator,
    n_blank: int,
    n_hosts: int,
    settings: FakeSettings,
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Choose positions of fakes: on galaxies first, then anywhere, not close to each other or to detections."""
    ny, nx = difference.image.shape
    hosts_x, hosts_y = _galaxies(difference)
    order = rng.permutation(hosts_x.size)
    radius = settings.max_host_offset_pixels * np.sqrt(rng.uniform(size=order.size))
    angle = rng.uniform(0.0, 2.0 * np.pi, order.size)
    host_x = hosts_x[order] + radius * np.cos(angle) + rng.uniform(-0.5, 0.5, order.size)
    host_y = hosts_y[order] + radius * np.sin(angle) + rng.uniform(-0.5, 0.5, order.size)
    blank_x, blank_y = rng.uniform(0, nx - 1, 20 * n_blank), rng.uniform(0, ny - 1, 20 * n_blank)
    taken_x, taken_y = list(real.measured.x), list(real.measured.y)
    chosen: list[tuple[float, float, bool]] = []
    for xs, ys, wanted, on_host in ((host_x, host_y, n_hosts, True), (blank_x, blank_y, n_blank, False)):
        count = 0
        for a, b in zip(xs, ys, strict=True):
            if count == wanted:
                break
            i, j = round(a), round(b)
            if not (0 <= i < nx and 0 <= j < ny) or difference.filtered.norm[j, i] <= 0:
                continue
            others = np.hypot(np.array(taken_x) - a, np.array(taken_y) - b)
            if others.size and others.min() < settings.separation_pixels:
                continue
            taken_x.append(a)
            taken_y.append(b)
            chosen.append((a, b, on_host))
            count += 1
    places = np.array(chosen, dtype=float).reshape(-1, 3)
    return places[:, 0], places[:, 1], places[:, 2] > 0.5


def _galaxies(difference: Difference) -> tuple[FloatArray, FloatArray]:
    """Find extended sources of the template: those less concentrated than the PSF."""
    model = difference.model
    sigma = 1.0 / np.sqrt(np.median(difference.weight[difference.weight > 0][::97]))
    ones = np.ones_like(model)
    x, y, peak = find_bright_sources(model, ones, min_snr=float(1.5 * sigma), maximum=float("inf"), border=12)
    psf = difference.search.psf.stamp(model.shape[1] / 2, model.shape[0] / 2, 8)
    offsets = np.hypot(*np.mgrid[-8:9, -8:9])
    ring = (offsets > 3.0) & (offsets <= 8.0)
    expected = psf[ring].sum() / psf.max()
    extended = np.zeros(x.size, dtype=bool)
    for k, (i, j) in enumerate(zip(x.astype(int), y.astype(int), strict=True)):
        around = model[j - 8 : j + 9, i - 8 : i + 9]
        extended[k] = around.shape == ring.shape and around[ring].sum() / peak[k] > 1.35 * expected
    return x[extended], y[extended]


def _match(x: FloatArray, y: FloatArray, found: DifferenceDetections, radius: float) -> NDArray[np.int64]:
    match = np.full(x.size, -1, dtype=np.int64)
    if len(found) == 0:
        return match
    positive = found.score > 0
    for k in range(x.size):
        distance = np.hypot(found.measured.x - x[k], found.measured.y - y[k])
        distance[~positive] = np.inf
        nearest = int(np.argmin(distance))
        if distance[nearest] <= radius:
            match[k] = nearest
    return match


def _on_good_pixels(difference: Difference, x: FloatArray, y: FloatArray) -> BoolArray:
    reach = round(difference.psf.fwhm_pixels)
    good = np.zeros(x.size, dtype=bool)
    ny, nx = difference.weight.shape
    for k, (i, j) in enumerate(zip(np.rint(x).astype(int), np.rint(y).astype(int), strict=True)):
        if reach <= i < nx - reach and reach <= j < ny - reach:
            good[k] = bool((difference.weight[j - reach : j + reach + 1, i - reach : i + reach + 1] > 0).all())
    return good
