"""Spikes of bright stars, by one angle and one law of brightness per image, as a part of the noise.

The vanes that hold the prime-focus cage diffract light across themselves: two crossing lines through every star. The
mounting is equatorial, so the vanes do not turn against the CCDs, and all stars of an exposure and of its templates
have the same directions. Far from the star the light along a spike falls as the square of the distance (Fraunhofer
diffraction by a strip, Born and Wolf, chapter 8.5); the wavelength sets its level. Angle, level and power are measured
on the template with all bright stars on and around the CCD, relative to their flux by the catalogue, as their cores are
saturated. The share of that light that is left in the difference is measured too. A spike that no star shows is below
the noise and adds none.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from imaging.difference.residual_noise import ResidualNoise
from imaging.difference.star_surroundings import MEDIAN, RING_AREA, typical_in_pieces
from imaging.masks.streak_strip import MEDIAN_NOISE

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Excess = NDArray[np.float32]

MEASURED_STARS = 8
"""Number of stars, the brightest, with which angle and brightness are measured."""

ANGLE_STEP_DEG, FINE_STEP_DEG = 0.25, 0.02
"""Steps of the directions tried: at 250 arcseconds a spike is 0.2 degrees wide."""

ALONG_COLUMNS_DEG = 2.0
"""Directions so near to those of columns and rows are left out: bleed trails and their crosstalk lie there."""

INNER_FWHM, OUTER_ARCSEC, STEP_FWHM = 6.0, 240.0, 1.5
"""Distances from the star between which spikes are measured, and their steps."""

SIDE_FWHM = 3.0
"""Distance of the light on both sides that is taken for that of halo and sky."""

CLIP_SIGMA = 4.0
"""Largest significance of one point."""

LEAST_SIGMA = 10.0
"""Least significance of a direction: 360 are tried, and sources add to the noise."""

RINGS, LEAST_RINGS = 8, 4
"""Number of distances at which the brightness is measured; where fewer show it, the power is that of theory."""

POWER = 2.0
"""Power of the distance by which the light of a thin strip falls."""

LEAST_RING_SIGMA, MOST_RING_SIGMA = 3.0, 10.0
"""Least significance of the light in a ring, and the one above which rings count alike: fringes add to the noise."""

REACH_FWHM, WIDTH_FWHM = 2.0, 2.0
"""Half width of the noise of a spike, and its full width at half maximum: the flux across it is 1.4 FWHM wide, and PSFs
that differ leave light on its flanks."""

FAINTEST_SIGMA = 0.3
"""Flux that a spike imitates, in units of the error of a flux, below which it changes nothing."""

LEFT_GROWTH, LEAST_PIXELS = 1.3, 200
"""Growth of the distance from ring to ring in which the share that is left is measured, and fewest pixels of a ring; a
ring with fewer has the share of the next one farther out. It grows towards the star, beyond the kernel's reach."""


@dataclass(frozen=True)
class SpikeModel:
    """Spikes of all stars of an image.

    Attributes
    ----------
    angle_deg
        Direction of the first spike from x towards y, 0 to 90; the others are at right angles.
    level
        Flux that a point source seems to have on a spike at :attr:`distance_pixels`, over the flux of the star.
    power
        Power of the distance by which it falls.
    distance_pixels
        The distance.
    """

    angle_deg: float
    level: float
    power: float
    distance_pixels: float

    def share(self, radius: FloatArray) -> FloatArray:
        """Return the flux that a point source seems to have on a spike over that of the star."""
        return self.level * (radius / self.distance_pixels) ** -self.power


@dataclass(frozen=True, eq=False)
class SpikeLight:
    """Light of spikes, (n,) per pixel: place, distance from the star, flux that a point source seems to have."""

    rows: IntArray
    columns: IntArray
    radius: FloatArray
    light: FloatArray


def add_spikes(noise: ResidualNoise, x: FloatArray, y: FloatArray, flux: FloatArray) -> SpikeModel | None:
    """Raise the noise of a difference on the spikes of stars, in place.

    Parameters
    ----------
    noise
        Noise of the difference.
    x, y
        (n,) places of the stars, pixels; those beyond the edges count as well.
    flux
        (n,) their fluxes by a catalogue at the zero point of the difference, electrons.

    Returns
    -------
    model
        The spikes of the template; None if its stars show none.
    """
    used = np.argsort(-flux)[:MEASURED_STARS]
    model = measure_spikes(noise, x[used], y[used], flux[used])
    if model is None:
        return None
    spikes = predicted_spikes(noise, model, x, y, flux)
    variance, sigma = noise.measured_at(spikes.rows, spikes.columns)
    distance = spikes.radius / (INNER_FWHM * noise.fwhm_pixels)
    light, area = spikes.light / np.sqrt(variance), RING_AREA * noise.fwhm_pixels**2
    left = _share_left(distance, light, np.abs(sigma), area)
    noise.add(spikes.rows, spikes.columns, (left * spikes.light) ** 2)
    return model


def measure_spikes(noise: ResidualNoise, x: FloatArray, y: FloatArray, flux: FloatArray) -> SpikeModel | None:
    """Measure the spikes of the template of a difference; None if its stars show none.

    Parameters
    ----------
    noise
        Noise of the difference, with the flux of the template.
    x, y, flux
        (n,) places and fluxes of stars, as for :func:`add_spikes`.
    """
    width = noise.fwhm_pixels
    radius = np.arange(INNER_FWHM * width, OUTER_ARCSEC / noise.pixel_scale_arcsec, STEP_FWHM * width)
    angle = np.arange(ALONG_COLUMNS_DEG, 90.0 - ALONG_COLUMNS_DEG, ANGLE_STEP_DEG)
    excess = _excess(noise, x, y, angle, radius)
    error, highest = _errors(excess)
    total = _significance(excess, np.maximum(CLIP_SIGMA * error, highest))
    if not total.max() > LEAST_SIGMA:
        return None
    fine = float(angle[np.argmax(total)]) + np.arange(-2.0 * ANGLE_STEP_DEG, 2.0 * ANGLE_STEP_DEG, FINE_STEP_DEG)
    excess = _excess(noise, x, y, fine, radius)
    total = _significance(excess, np.maximum(CLIP_SIGMA * error, highest))
    best = float(np.average(fine, weights=np.maximum(total - 0.5 * total.max(), 0.0)))
    chosen = int(np.argmin(np.abs(fine - best)))
    return _law(float(fine[chosen]), radius, excess[:, chosen], error, flux)


def predicted_spikes(
    noise: ResidualNoise, model: SpikeModel, x: FloatArray, y: FloatArray, flux: FloatArray
) -> SpikeLight:
    """Return the light of the spikes of stars where it matters; where spikes of two stars cross, the brighter one.

    Parameters
    ----------
    noise
        Noise of the difference.
    model
        Spikes of the image.
    x, y, flux
        (n,) places and fluxes of stars.
    """
    norm, inner = noise.filtered.norm, INNER_FWHM * noise.fwhm_pixels
    light, radius = np.zeros((2, *norm.shape), dtype=np.float32)
    least = FAINTEST_SIGMA / float(np.sqrt(np.median(norm[norm > 0])))
    reach = model.distance_pixels * (model.level * flux / least) ** (1.0 / model.power)
    for k in np.flatnonzero(reach > inner):
        for arm in range(4):
            angle = np.radians(model.angle_deg + 90.0 * arm)
            rows, columns, along, across = _near_line(norm.shape, (float(x[k]), float(y[k])), angle, noise.fwhm_pixels)
            profile = np.exp(-4.0 * np.log(2.0) * (across / (WIDTH_FWHM * noise.fwhm_pixels)) ** 2)
            own = flux[k] * model.share(along) * profile
            here = (along > inner) & (along < reach[k]) & (own > light[rows, columns])
            light[rows[here], columns[here]], radius[rows[here], columns[here]] = own[here], along[here]
    light[0], light[-1], light[:, 0], light[:, -1] = 0.0, 0.0, 0.0, 0.0
    rows, columns = np.nonzero((light > 0) & (norm > 0))
    return SpikeLight(rows, columns, *(image[rows, columns].astype(float) for image in (radius, light)))


def _excess(noise: ResidualNoise, x: FloatArray, y: FloatArray, angle_deg: FloatArray, radius: FloatArray) -> Excess:
    """Return (n, angles, arms, radii) the template's flux above that on both sides of lines; NaN where it is masked."""
    template, norm = noise.filtered.template_flux, noise.filtered.norm
    angle = np.radians(angle_deg[:, None, None] + 90.0 * np.arange(4)[:, None])
    along_x, along_y = np.cos(angle) * radius, np.sin(angle) * radius
    side = SIDE_FWHM * noise.fwhm_pixels
    side_x, side_y = -np.sin(angle) * side, np.cos(angle) * side
    out = np.full((x.size, angle_deg.size, 4, radius.size), np.nan, np.float32)
    for k in range(x.size):
        values = np.zeros(out.shape[1:], np.float32)
        for step, weight in ((0.0, 1.0), (-1.0, -0.5), (1.0, -0.5)):
            column = np.rint(x[k] + along_x + step * side_x).astype(np.int32)
            row = np.rint(y[k] + along_y + step * side_y).astype(np.int32)
            inside = (row >= 0) & (row < norm.shape[0]) & (column >= 0) & (column < norm.shape[1])
            row, column = np.where(inside, row, 0), np.where(inside, column, 0)
            seen = inside & (norm[row, column] > 0)
            values += np.where(seen, np.float32(weight) * template[row, column], np.float32(np.nan))
        out[k] = values
    return out


def _errors(excess: Excess) -> tuple[FloatArray, FloatArray]:
    """Return (n, radii) scatter of the light of all lines, infinite if unknown, and the highest light on most arms."""
    absent = np.isnan(excess)
    error, highest = np.full((2, excess.shape[0], excess.shape[3]), np.inf)
    for k, ring in zip(*np.nonzero(np.count_nonzero(~absent, axis=(1, 2)) > excess.shape[1] // 4), strict=True):
        known, values = ~absent[k, :, :, ring], np.abs(excess[k, :, :, ring])
        error[k, ring] = 1.4826 * np.median(values[known]) or np.inf
        highest[k, ring] = np.median(np.where(known, values, 0.0).max(axis=0)[known.any(axis=0)])
    return error, highest


def _significance(excess: Excess, most: FloatArray) -> FloatArray:
    """Return (angles,) the signal to noise of all lines of a direction together.

    The light at a point counts relative to ``most`` (n, radii): no source decides, and distant points, which know the
    direction best, weigh as much as near ones.
    """
    total, number = np.zeros((2, excess.shape[1]))
    for light, limit in zip(excess, most, strict=True):
        total += np.nansum(CLIP_SIGMA * np.clip(light / limit, -1.0, 1.0), axis=(1, 2))
        number += np.count_nonzero(np.isfinite(light) & (limit < np.inf), axis=(1, 2))
    return np.asarray(total / np.sqrt(np.maximum(number, 1.0)))


def _law(
    angle_deg: float, radius: FloatArray, excess: Excess, error: FloatArray, flux: FloatArray
) -> SpikeModel | None:
    """Fit a power law to the medians in rings of the light over the flux, (n, arms, radii), weighted by its error."""
    ring = np.minimum((np.log(radius / radius[0]) / np.log(radius[-1] / radius[0]) * RINGS).astype(int), RINGS - 1)
    flat = excess / flux[:, None, None] * radius**POWER
    weight = np.broadcast_to((flux[:, None] / (error * radius**POWER))[:, None], excess.shape)
    found = []
    for number in range(RINGS):
        inside = np.isfinite(flat) & (weight > 0) & (ring == number)
        if not inside.any():
            continue
        value = float(np.quantile(flat[inside], 0.5, weights=weight[inside], method="inverted_cdf"))
        snr = value * float(np.sqrt(np.sum(weight[inside] ** 2))) / MEDIAN_NOISE
        if snr > LEAST_RING_SIGMA:
            distance = np.average(np.log(np.broadcast_to(radius, inside.shape)[inside]), weights=weight[inside])
            found.append((float(distance), np.log(value), min(snr, MOST_RING_SIGMA)))
    if not found:
        return None
    distance, level, weights = np.array(found).T
    middle = float(np.average(distance, weights=weights))
    slope = float(np.polyfit(distance - middle, level, 1, w=weights)[0]) if len(found) >= LEAST_RINGS else 0.0
    at_middle = float(np.average(level - slope * (distance - middle), weights=weights)) - POWER * middle
    return SpikeModel(angle_deg, float(np.exp(at_middle)), POWER - slope, float(np.exp(middle)))


def _near_line(
    shape: tuple[int, ...], star: tuple[float, float], angle: float, fwhm_pixels: float
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Return rows and columns of the pixels near a line that starts at a star, and distances along and across it."""
    c, s = float(np.cos(angle)), float(np.sin(angle))
    steep = abs(s) > abs(c)
    size, start, other = (shape[0], star[1], star[0]) if steep else (shape[1], star[0], star[1])
    places = np.arange(size)
    middle = np.rint(other + (places - start) * (c / s if steep else s / c)).astype(np.int64)
    half = int(np.ceil(REACH_FWHM * fwhm_pixels / max(abs(s), abs(c))))
    second = middle[:, None] + np.arange(-half, half + 1)
    first = np.broadcast_to(places[:, None], second.shape)
    rows, columns = (first, second) if steep else (second, first)
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    rows, columns = rows[inside], columns[inside]
    dx, dy = columns - star[0], rows - star[1]
    along, across = dx * c + dy * s, dy * c - dx * s
    near = (along > 0) & (np.abs(across) < REACH_FWHM * fwhm_pixels)
    return rows[near], columns[near], along[near], across[near]


def _share_left(distance: FloatArray, light: FloatArray, significance: FloatArray, area: float) -> FloatArray:
    """Return (n,) the share of the light that, added to the known errors, makes the residuals in rings those of noise.

    ``distance`` is in units of the smallest one, ``light`` and the absolute values ``significance`` in known errors,
    ``area`` the number of pixels that make one independent flux.
    """
    ring = (np.log(distance) / np.log(LEFT_GROWTH)).astype(np.int64)
    left = np.zeros(int(ring.max(initial=0)) + 2)
    seen = light > 1.0
    excess = typical_in_pieces(ring[seen], significance[seen], area, LEAST_PIXELS)
    enough = np.bincount(ring[seen], minlength=left.size) >= LEAST_PIXELS
    for number in range(left.size - 2, -1, -1):
        if not enough[number]:
            left[number] = left[number + 1]
        elif excess[number] > 1.0:
            here = seen & (ring == number)
            left[number] = _left(light[here], significance[here])
    return left[ring]


def _left(light: FloatArray, significance: FloatArray) -> float:
    """Return the share of the light, 0 to 1, with which half of the residuals are below the median of noise."""

    def excess(share: float) -> float:
        return float(np.median(significance / np.hypot(1.0, share * light))) - MEDIAN

    return float(brentq(excess, 0.0, 1.0, xtol=1e-3)) if excess(1.0) < 0.0 else 1.0
