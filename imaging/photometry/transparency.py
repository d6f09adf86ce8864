"""Measure a transparency that varies within a CCD: thin clouds.

Thin clouds dim the stars by per cents over arcminutes. The relative brightness of stars, against their magnitudes in a
catalogue or against another image, is interpolated as the mean of Gaussian processes of several lengths, amplitudes and
smoothness, weighted by their likelihoods, beside a scatter of single stars (variables, colours, errors of the PSF).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.image import CcdImage, FloatImage
from imaging.numerics.robust import excess_scatter, mad_sigma
from imaging.numerics.source_field import NODE, log_likelihood, node_distances, node_places
from imaging.schemas.catalogue import CATALOGUE, FINAL_CATALOGUE
from imaging.tables import column, make_table, with_column

FloatArray = NDArray[np.float64]

MIN_SCATTER = 0.01
"""Least scatter of the brightness beyond its errors that is interpolated: variables and PSF errors leave less."""

PARTS = ((0.5, 0.5), (0.8, 0.2), (1.0, 0.05), (1.0, 0.01), (2.0, 0.05), (2.0, 0.01))
"""Variances tried, in units of the scatter's: of the part that neighbours have in common, and of single stars."""

LEAST_WEIGHT = 0.05
"""Least likelihood, relative to the best, of the processes whose mean is taken."""

MEAN_VARIANCE = 1.0
"""Variance of the mean brightness before the stars are seen: nothing is known of it."""

PAIRED = 2
"""Every second node in both directions takes part in the covariance of the mean over an image with itself."""

MAX_STARS = 400
"""Most stars, those of the smallest errors: the cost rises with the cube of their number."""

CLIP_SIGMA, MAX_ROUNDS, MIN_GAIN = 4.0, 5, 4.0
"""Limit of a star's deviation from its neighbours, rounds of clipping, and least gain in log likelihood."""

ERROR_PLANE = "TRANSPARENCY_ERROR"
"""Extension of an image with the error of the transparency that was taken out, as :attr:`Transparency.error`."""

FLUXES = (
    *("flux_psf", "flux_psf_error", "flux_auto", "flux_auto_error", "flux_aper", "flux_aper_error"),
    *("background", "peak"),
)
"""Columns of a catalogue in electrons."""

ROWS = 256
"""Rows of an image that are changed at a time, so that intermediate images need not be in memory entirely."""


@dataclass(frozen=True, eq=False)
class Transparency:
    """A smooth field of relative brightness.

    Attributes
    ----------
    excess
        (n, m) relative excess of the image's brightness at every 64th pixel, starting at zero.
    error
        (n, m) standard error of ``excess``.
    length_pixels
        Correlation length of highest likelihood.
    rms_before, rms_after
        Scatter of the stars beyond their errors, the latter by leave-one-out prediction.
    mean_error
        Standard error of the mean of ``excess`` over the image: noise of the stars, and the field between them.
    """

    excess: FloatArray
    error: FloatArray
    length_pixels: float
    rms_before: float
    rms_after: float
    mean_error: float = 0.0

    def power(self, exponent: float) -> "Transparency":
        """Return the field of the brightness to a power: -1 for the other image, 0.5 for one half of it."""
        return replace(self, excess=(1.0 + self.excess) ** exponent - 1.0)

    def at(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the (n,) transparency, one plus the excess, at positions (pixels), and its standard error."""
        return 1.0 + at_places(self.excess, x, y), at_places(self.error, x, y)

    def with_mean_one(self) -> "Transparency":
        """Return the field relative to the mean over the image."""
        mean = float(np.mean(1.0 + self.excess))
        excess = (1.0 + self.excess) / mean - 1.0
        return replace(self, excess=excess, error=self.error / mean, mean_error=self.mean_error / mean)

    @property
    def rms(self) -> float:
        """Root mean square of the excess over the image."""
        return rms_of(self.excess)

    @property
    def error_rms(self) -> float:
        """Root mean square of the error over the image."""
        return rms_of(self.error)


def fit_transparency(
    x: FloatArray,
    y: FloatArray,
    scale: FloatArray,
    error: FloatArray,
    shape: tuple[int, int],
    lengths_pixels: Sequence[float],
    min_stars: int,
) -> Transparency | None:
    """Interpolate the relative brightness of stars as a Gaussian process; None if it does not vary smoothly.

    The mean of the process is unknown (ordinary kriging).

    Parameters
    ----------
    x, y
        (n,) positions, pixels.
    scale, error
        (n,) relative excess of brightness and its standard error.
    shape
        (ny, nx) of the image.
    lengths_pixels
        Correlation lengths to try, pixels.
    min_stars
        Fewest stars.
    """
    good = np.isfinite(scale) & (error > 0)
    good &= np.abs(scale - np.median(scale[good])) < 6.0 * mad_sigma(scale[good]) if good.any() else good
    good[np.flatnonzero(good)[np.argsort(error[good], kind="stable")[MAX_STARS:]]] = False
    before = excess_scatter(scale[good], error[good])
    if np.count_nonzero(good) < min_stars or before < MIN_SCATTER:
        return None
    for _ in range(MAX_ROUNDS):
        px, py, values, errors = x[good], y[good], scale[good], error[good]
        distance = np.hypot(px[:, None] - px, py[:, None] - py)
        tried = _processes(distance, errors, excess_scatter(values, errors), lengths_pixels)
        likelihoods = np.array([log_likelihood(values, process.covariance) for process in tried])
        best = int(np.argmax(likelihoods))
        if likelihoods[best] < likelihoods[0] + MIN_GAIN:
            return None
        inverse = np.linalg.inv(tried[best].covariance)
        left, width = (inverse @ values) / np.diag(inverse), 1.0 / np.sqrt(np.diag(inverse))
        near = np.abs(left) < CLIP_SIGMA * width
        if near.all() or np.count_nonzero(near) < min_stars:
            break
        good[np.flatnonzero(good)[~near]] = False
    weights = np.exp(likelihoods - likelihoods[best])
    weights[weights < LEAST_WEIGHT] = 0.0
    weighted = [(w, process) for w, process in zip(weights / weights.sum(), tried, strict=True) if w > 0.0]
    excess, uncertain, mean_error = _mean_process(weighted, values, (px, py), shape)
    return Transparency(excess, uncertain, tried[best].length, before, excess_scatter(left, errors), mean_error)


@dataclass(frozen=True, eq=False)
class _Process:
    """A Gaussian process: variance, correlation and its length, and the covariance of the stars with their errors."""

    variance: float
    like: Callable[[FloatArray], FloatArray]
    length: float
    covariance: FloatArray

    def between(self, distance: FloatArray) -> FloatArray:
        """Return the covariance of the field at places some pixels apart, its unknown mean included."""
        return MEAN_VARIANCE + self.variance * self.like(distance / self.length)


def _processes(distance: FloatArray, errors: FloatArray, scatter: float, lengths: Sequence[float]) -> list[_Process]:
    """Return the processes to try: first a scatter of single stars alone."""
    found = []
    for (common, single), like, length in [
        ((0.0, 1.0), _rough, lengths[0]),
        *product(PARTS, (_rough, _smooth), lengths),
    ]:
        process = _Process(scatter**2 * common, like, length, np.diag(errors**2 + scatter**2 * single))
        found.append(replace(process, covariance=process.between(distance) + process.covariance))
    return found


def _mean_process(
    weighted: Sequence[tuple[float, _Process]],
    values: FloatArray,
    stars: tuple[FloatArray, FloatArray],
    shape: tuple[int, int],
) -> tuple[FloatArray, FloatArray, float]:
    """Return the (r, c) mean and its error at the nodes, and the error of its mean over these.

    The stars are at two (n,) coordinates, pixels.
    """
    away = node_distances(*stars, shape)
    rows, columns, n = away.shape
    x, y = (axis[::PAIRED, ::PAIRED].ravel() for axis in node_places(shape))
    pairs = np.hypot(x[:, None] - x, y[:, None] - y)
    mean, square, mean_square = np.zeros((rows, columns)), np.zeros((rows, columns)), 0.0
    for weight, process in weighted:
        to_nodes = process.between(away).reshape(-1, n)
        to_mean = to_nodes.mean(axis=0)
        solved = np.linalg.solve(process.covariance, np.column_stack([values, to_mean, to_nodes.T]))
        excess = (to_nodes @ solved[:, 0]).reshape(mean.shape)
        known = np.einsum("kn,nk->k", to_nodes, solved[:, 2:]).reshape(mean.shape)
        mean += weight * excess
        square += weight * (np.maximum(process.variance + MEAN_VARIANCE - known, 0.0) + excess**2)
        unknown = float(process.between(pairs).mean()) - to_mean @ solved[:, 1]
        mean_square += weight * (max(unknown, 0.0) + float(excess.mean()) ** 2)
    error = np.sqrt(np.maximum(square - mean**2, 0.0))
    return mean, error, float(np.sqrt(max(mean_square - float(mean.mean()) ** 2, 0.0)))


def apply_transparency(image: FloatImage, field: Transparency) -> FloatImage:
    """Return an image with its brightness changed by a field, interpolated linearly.

    Parameters
    ----------
    image
        (ny, nx) float32.
    field
        Relative excess of brightness.
    """
    ny, nx = image.shape
    across = (field.excess @ _hats(np.arange(nx), field.excess.shape[1]).T).astype(np.float32)
    down = _hats(np.arange(ny), field.excess.shape[0]).astype(np.float32)
    out = image.copy()
    for first in range(0, ny, ROWS):
        rows = slice(first, first + ROWS)
        out[rows] *= np.float32(1.0) + down[rows] @ across
    return out


def without_clouds(image: CcdImage, clouds: Transparency) -> CcdImage:
    """Return an image as through the mean transparency, which its header then states.

    The saturation level is that of the most transparent place.

    Parameters
    ----------
    image
        Image with the sky subtracted.
    clouds
        Transparency over the image.
    """
    header = image.header | {
        "TRANSRMS": clouds.rms,
        "TRANSERR": clouds.error_rms,
    }
    if "SATURATE" in header:
        header["SATURATE"] = float(header["SATURATE"]) / (1.0 + max(float(clouds.excess.max()), 0.0))
    science, weight = (
        apply_transparency(plane, clouds.power(exponent))
        for plane, exponent in ((image.science, -1.0), (image.weight, 2.0))
    )
    return CcdImage(science, image.mask, weight, header)


def final_catalogue(catalogue: pa.Table, clouds: Transparency | None) -> pa.Table:
    """Return a catalogue whose fluxes are those through the mean transparency.

    Parameters
    ----------
    catalogue
        Columns of :data:`imaging.schemas.catalogue.CATALOGUE`.
    clouds
        Transparency over the image; None where it does not vary.

    Returns
    -------
    catalogue
        Columns of :data:`imaging.schemas.catalogue.FINAL_CATALOGUE`.
    """
    there, error = np.ones(catalogue.num_rows), np.zeros(catalogue.num_rows)
    if clouds is not None:
        there, error = clouds.at(column(catalogue, "x").astype(float), column(catalogue, "y").astype(float))
        catalogue = scaled_fluxes(catalogue, 1.0 / there)
    columns = {name: catalogue.column(name) for name in CATALOGUE.names}
    columns |= {"transparency": there, "transparency_error": error}
    return make_table(columns, FINAL_CATALOGUE).replace_schema_metadata(catalogue.schema.metadata)


def scaled_fluxes(catalogue: pa.Table, factor: FloatArray) -> pa.Table:
    """Return a catalogue with :data:`FLUXES` times a factor of each source, (n,)."""
    for name in FLUXES:
        values = column(catalogue, name)
        catalogue = with_column(
            catalogue, name, values * (factor if values.ndim == 1 else factor[:, None]).astype(np.float32)
        )
    return catalogue


def at_places(nodes: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return (n,) values at positions (pixels) of a field known at every 64th pixel, (r, c), or everywhere, (1, 1)."""
    (rows, columns), far = nodes.shape, float(NODE)
    across, down = _hats(np.clip(x, 0.0, far * (columns - 1)), columns), _hats(np.clip(y, 0.0, far * (rows - 1)), rows)
    return np.asarray(np.einsum("ij,nj,ni->n", nodes, across, down))


def rms_of(nodes: FloatArray) -> float:
    """Return the root mean square of a field."""
    return float(np.sqrt(np.mean(nodes**2)))


def _hats(places: NDArray[np.floating] | NDArray[np.integer], nodes: int) -> FloatArray:
    """Return (n, nodes) weights of linear interpolation."""
    return np.maximum(1.0 - np.abs(np.asarray(places)[:, None] / NODE - np.arange(nodes)), 0.0)


def _rough(distance: FloatArray) -> FloatArray:
    """Return the exponential correlation, nearly that of Kolmogorov turbulence."""
    return np.asarray(np.exp(-distance))


def _smooth(distance: FloatArray) -> FloatArray:
    """Return the Matern correlation of smoothness 3/2: a field with slopes."""
    return np.asarray((1.0 + np.sqrt(3.0) * distance) * np.exp(-np.sqrt(3.0) * distance))
