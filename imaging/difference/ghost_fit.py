"""Subtract the ghosts of bright stars from an image: what a calibration predicts, fitted to their rims.

The radii, displacements and levels of a calibration are the start. At the rims of the donut and of its hole the light
falls by the level within some pixels, on whatever else is there: pieces of a rim, each with smooth light for the
rest, give level, centre, radii and width of the edges by robust least squares. The brightest ghost of a star tells its
light, with which the others start. What is known well is subtracted and adds its photons to the noise; its errors, and
ghosts that are only predicted, stay for the difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.optimize import OptimizeResult, least_squares

from imaging.bits import NOT_SEARCHED, MaskBit
from imaging.difference.detect import BrightStars
from imaging.difference.ghost_model import Ghost, GhostModel, predict_ghosts
from imaging.image import CalibratedImage, CcdImage, FloatImage
from imaging.wcs.tpv import TpvWcs

FloatArray = NDArray[np.float64]
BoolImage = NDArray[np.bool_]

FAINTEST_SIGMA = 0.3
"""Flux that a ghost imitates, in units of the error of a flux, below which it is left out."""

FITTED_SIGMA = 1.0
"""The same, from which its rims are fitted."""

LEAST_SIGNIFICANCE = 10.0
"""Level in units of its error from which a fitted ghost is subtracted."""

LARGEST_RIM_ERROR = 1.5
"""Largest error of the place of the outer rim of a ghost that is subtracted, pixels."""

LARGEST_LEVEL, LARGEST_LEVEL_ERROR = 2.5, 0.3
"""Largest level in units of the predicted one, more is other light; largest error of a measured level in that unit."""

SPAN, PIECE, RIM_PIXELS = 24, 48.0, 100_000
"""Pixels on either side of a rim that are fitted; length of its pieces, pixels; most pixels of a rim that are used."""

SMALLEST_RIM = 60.0
"""Radius of the smallest rim that is fitted, pixels: nearer is the light of the star itself."""

FEWEST_PIXELS, FEWEST_BINS = 5, 0.6
"""Fewest pixels of a bin across a rim; smallest share of the bins of a piece that have them."""

EDGE, EDGE_ERROR, LEVEL_ERROR = 5.0, 4.0, 0.4
"""Width of the edges and its error, pixels; least relative error of a level that no other ghost of the star tells."""

HALO_POWERS = (0.0, 2.0, 4.0)
"""Powers of one over the radius that describe other light across a rim: halos of stars fall with a power of two to
three."""

MEDIAN = 1.2533
"""Error of a median in units of that of a mean."""

CLIP_SIGMA = 3.0
"""Deviation from which a measurement counts less, sigma."""

SMOOTH_PIXELS = 65
"""Width over which the noise of subtracted light rises: a step of the weight would be one of the stack's shares, and of
its level where the skies of the templates differ."""

SHAPE_ERROR = 0.01
"""Relative error of a level by the shape of the edges: that of a cubic for an error function or a ramp."""


def without_ghosts(image: CalibratedImage, stars: BrightStars, model: GhostModel) -> CalibratedImage:
    """Return an image without the light of ghosts that fit, and with all its ghosts.

    Parameters
    ----------
    image
        Calibrated image; unchanged.
    stars
        Bright stars in its pixels, also far outside.
    model
        Ghosts of its band.

    Returns
    -------
    image
        The image; its weight has the photons of what was subtracted.
    """
    if not isinstance(image.wcs, TpvWcs):
        return image
    pixels = image.pixels
    good = pixels.weight[::16, ::16]
    if not (good > 0).any():
        return image
    sigma = 1.0 / float(np.sqrt(np.median(good[good > 0])))
    per_level = 0.664 / image.psf.fwhm_pixels * sigma  # level that imitates a flux of one sigma, of a Gaussian
    flux = 10 ** (0.4 * (image.zeropoint_mag - stars.mag))
    axis = (image.wcs.crpix[0] - 1.0, image.wcs.crpix[1] - 1.0)
    places = zip(stars.x.tolist(), stars.y.tolist(), flux.tolist(), strict=True)
    ghosts = predict_ghosts(model, places, axis, pixels.shape, FAINTEST_SIGMA * per_level)
    if not ghosts:
        return image
    fitted = fit_ghosts(pixels, ghosts, sigma, FITTED_SIGMA * per_level)
    seen = [ghost for ghost in fitted if ghost.subtracted]
    light = np.zeros(pixels.shape, np.float32)
    for ghost in seen:
        ghost.add_light(light)
    left = _subtract(image, light) if seen else image
    return replace(left, ghosts=tuple(fitted))


def _subtract(image: CalibratedImage, light: FloatImage) -> CalibratedImage:
    """Return an image without some light, whose photons stay in the noise."""
    pixels, inputs = image.pixels, image.resampling_inputs
    gain = np.float32(pixels.header.get("GAIN", 1.0))
    weight = pixels.weight / (1.0 + pixels.weight * uniform_filter(light, SMOOTH_PIXELS) / gain)
    if inputs is not None:
        inputs = replace(inputs, repaired=inputs.repaired - light.reshape(-1)[inputs.repaired_at])
    left = CcdImage(pixels.science - light, pixels.mask, weight, pixels.header)
    return replace(image, pixels=left, resampling_inputs=inputs)


def fit_ghosts(pixels: CcdImage, ghosts: Sequence[Ghost], sigma: float, least: float) -> list[Ghost]:
    """Fit one predicted ghost after the other on the image without all others.

    Parameters
    ----------
    pixels
        Image; unchanged.
    ghosts
        What :func:`predict_ghosts` returns, the brightest first.
    sigma
        Noise of a pixel, electrons.
    least
        Predicted level from which rims are fitted; what is fainter has the light that other ghosts of its star tell.
    """
    bad = ((pixels.mask & np.int16(int(NOT_SEARCHED | MaskBit.STREAK))) != 0) | (pixels.weight == 0)
    left = pixels.science.copy()
    for ghost in ghosts:
        ghost.add_light(left, -1.0)
    fitted: list[Ghost] = []
    known: dict[int, tuple[float, float]] = {}
    for ghost in ghosts:
        told = _told(ghost, known.get(ghost.star, (1.0, np.inf)))
        if ghost.level < least:
            fitted.append(replace(told, subtracted=_is_known(told)))
            continue
        ghost.add_light(left)
        found = _fit(left, bad, told, sigma)
        found.add_light(left, -1.0)
        fitted.append(found)
        if found.subtracted and ghost.star >= 0:
            error = float(np.hypot(found.level_error / found.level, ghost.ratio_error))
            if error < known.get(ghost.star, (1.0, np.inf))[1]:
                known[ghost.star] = found.level / ghost.level, error
    return fitted


@dataclass(frozen=True, eq=False)
class _Rim:
    """Medians across the pieces of a rim: (pieces, bins) weighted values without smooth light in every piece.

    ``sign`` is 1 where the light is inside, -1 at a hole; ``cos`` and ``sin`` (pieces, 1) are directions, ``radius``
    (bins,) distances from the centre.
    """

    sign: float
    radius: FloatArray
    cos: FloatArray
    sin: FloatArray
    weight: FloatArray
    smooth: Sequence[FloatArray]
    value: FloatArray

    def without_smooth(self, values: FloatArray) -> FloatArray:
        """Return weighted values without smooth light in every piece."""
        left = values * self.weight
        for shape in self.smooth:
            left = left - shape * np.sum(left * shape, axis=1, keepdims=True)
        return left

    def model(self, p: FloatArray) -> tuple[FloatArray, list[FloatArray]]:
        """Return the light by level, x, y, outer and inner radius and edge, and its derivatives."""
        level, dx, dy, outer, inner, edge = p
        at = (outer if self.sign > 0 else inner) + dx * self.cos + dy * self.sin
        away = self.sign * (at - self.radius) / edge
        part = np.clip(away + 0.5, 0.0, 1.0)
        share, slope = part**2 * (3.0 - 2.0 * part), level * 6.0 * part * (1.0 - part) / edge
        moved, none = self.sign * slope, np.zeros_like(share)
        rims = (moved, none) if self.sign > 0 else (none, moved)
        return level * share, [share, moved * self.cos, moved * self.sin, *rims, -slope * away]

    def error(self, covariance: FloatArray) -> float:
        """Return the error of the rim's place."""
        seen = self.weight.any(axis=1)
        one = np.ones(int(seen.sum()))
        terms = np.stack([self.cos[seen, 0], self.sin[seen, 0], one], axis=1)
        chosen = [1, 2, 3 if self.sign > 0 else 4]
        return float(np.sqrt(np.mean(np.einsum("ni,ij,nj->n", terms, covariance[np.ix_(chosen, chosen)], terms))))


def _told(ghost: Ghost, light: tuple[float, float]) -> Ghost:
    """Return a ghost with the level by its star's light, in units of the predicted one, and the error of that."""
    level = light[0] * ghost.level
    error = level * float(np.hypot(light[1], ghost.ratio_error))
    return replace(ghost, level=level, level_error=error, is_told=True) if error < ghost.level_error else ghost


def _fit(image: FloatImage, bad: BoolImage, ghost: Ghost, sigma: float) -> Ghost:
    """Return the fitted ghost, the predicted one with the measured level, or the predicted one if no rim is seen."""
    sides = ((1.0, ghost.outer_pixels), (-1.0, ghost.inner_pixels))
    rims = [_rim(image, bad, ghost, side, sigma) for side in sides if side[1] > SMALLEST_RIM]
    seen = [rim for rim in rims if rim is not None]
    if not any(rim.sign > 0 for rim in seen):
        return replace(ghost, subtracted=_is_known(ghost))
    start = np.array([ghost.level, 0.0, 0.0, ghost.outer_pixels, ghost.inner_pixels, EDGE])
    level_error = ghost.level_error if ghost.is_told else max(LEVEL_ERROR * ghost.level, ghost.level_error)
    prior = np.array([level_error, *[ghost.outer_error] * 3, ghost.inner_error, EDGE_ERROR])
    fit, scale = _solve(seen, start, prior), 1.0
    n = sum(int((rim.weight > 0).sum()) for rim in seen)
    if (chi2 := 2.0 * fit.cost / n) > 1.0:  # other light than that of sky and halo: trust the rims less
        fit, scale = _solve(seen, start, prior / np.sqrt(chi2)), chi2
    level, dx, dy, outer, inner, edge = fit.x.tolist()
    covariance = np.linalg.inv(fit.jac.T @ fit.jac) * scale
    error = float(np.hypot(np.sqrt(covariance[0, 0]), SHAPE_ERROR * level))
    if level > LARGEST_LEVEL * ghost.level or error > LARGEST_LEVEL_ERROR * ghost.level:
        return ghost
    places = {rim.sign: rim.error(covariance) for rim in seen}
    found = replace(ghost, level=level, level_error=error, is_told=True)
    moved = replace(
        found,
        x=ghost.x + dx,
        y=ghost.y + dy,
        outer_pixels=outer,
        inner_pixels=inner,
        edge_pixels=edge,
        outer_error=places[1.0],
        inner_error=places.get(-1.0, ghost.inner_error),
        subtracted=True,
    )
    return moved if _is_known(moved) else found


def _is_known(ghost: Ghost) -> bool:
    """Return whether this image tells level and outer rim of a ghost so well that it is subtracted."""
    return (
        ghost.is_told and ghost.level > LEAST_SIGNIFICANCE * ghost.level_error and ghost.outer_error < LARGEST_RIM_ERROR
    )


def _solve(rims: Sequence[_Rim], start: FloatArray, prior: FloatArray) -> OptimizeResult:
    """Fit level, centre, radii and edge to rims, with their predicted values as measurements."""

    def residual(p: FloatArray) -> FloatArray:
        parts = [(rim.without_smooth(rim.model(p)[0]) - rim.value).ravel() for rim in rims]
        return np.concatenate([*parts, (p - start) / prior])

    def jacobian(p: FloatArray) -> FloatArray:
        parts = [np.stack([rim.without_smooth(d).ravel() for d in rim.model(p)[1]], axis=1) for rim in rims]
        return np.concatenate([*parts, np.diag(1.0 / prior)])

    low, high = start - 6.0 * prior, start + 6.0 * prior
    low[0], low[5] = 0.0, 1.0
    return least_squares(
        residual,
        start,
        jacobian,
        (low, high),
        loss="soft_l1",
        f_scale=CLIP_SIGMA,
        x_scale=prior,
        xtol=1e-4,
        max_nfev=25,
    )


def _rim(image: FloatImage, bad: BoolImage, ghost: Ghost, side: tuple[float, float], sigma: float) -> _Rim | None:
    """Return the medians across the pieces of a rim; None if none is on the image."""
    sign, radius = side
    span = min(SPAN, int(0.4 * radius))
    n_pieces = max(round(2.0 * np.pi * radius / PIECE), 8)
    stride = max(int(2.0 * np.pi * radius * 2 * span / RIM_PIXELS), 1)
    values, labels = _pixels(image, bad, ghost.x, ghost.y, radius - span, 2 * span, n_pieces, stride)
    cells, first, count = np.unique(
        labels[order := np.lexsort((values, labels))], return_index=True, return_counts=True
    )
    middle = 0.5 * (values[order][first + (count - 1) // 2] + values[order][first + count // 2])
    value, weight = np.zeros((2, n_pieces * 2 * span))
    enough = count >= FEWEST_PIXELS
    value[cells[enough]] = middle[enough]
    weight[cells[enough]] = np.sqrt(count[enough]) / (MEDIAN * sigma)
    value, weight = value.reshape(n_pieces, -1), weight.reshape(n_pieces, -1)
    weight[(weight > 0).mean(axis=1) < FEWEST_BINS] = 0.0
    if not weight.any():
        return None
    angle = (np.arange(n_pieces)[:, None] + 0.5) / n_pieces * 2.0 * np.pi - np.pi
    at = (radius - span + 0.5 + np.arange(2 * span)).astype(float)
    smooth: list[FloatArray] = []
    for power in HALO_POWERS:
        column = weight * (radius / at) ** power
        for other in smooth:
            column = column - other * np.sum(column * other, axis=1, keepdims=True)
        smooth.append(column / np.maximum(np.sqrt(np.sum(column**2, axis=1, keepdims=True)), 1e-12))
    rim = _Rim(sign, at, np.cos(angle), np.sin(angle), weight, smooth, value)
    return replace(rim, value=rim.without_smooth(value))


@njit(cache=True)
def _pixels(
    image: FloatImage, bad: BoolImage, x: float, y: float, inner: float, bins: int, pieces: int, stride: int
) -> tuple[FloatImage, NDArray[np.int64]]:
    """Return the values of the good pixels of an annulus (every so-manieth), and their piece times bins plus bin."""
    ny, nx = image.shape
    outer = inner + bins
    most = int(np.pi * (outer**2 - inner**2) * 1.1) + 1000
    values, labels = np.empty(most, np.float32), np.empty(most, np.int64)
    n = 0
    for row in range(max(int(y - outer), 0), min(int(y + outer) + 1, ny - 1) + 1):
        half = np.sqrt(max(outer**2 - (row - y) ** 2, 0.0))
        for column in range(max(int(np.ceil(x - half)), 0), min(int(x + half), nx - 1) + 1):
            if bad[row, column] or (3 * row + column) % stride != 0:
                continue
            at = int(np.hypot(column - x, row - y) - inner) if np.hypot(column - x, row - y) >= inner else -1
            if at < 0 or at >= bins:
                continue
            piece = min(int((np.arctan2(row - y, column - x) / (2.0 * np.pi) + 0.5) * pieces), pieces - 1)
            values[n], labels[n] = image[row, column], piece * bins + at
            n += 1
    return values[:n], labels[:n]
