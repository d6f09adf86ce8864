"""Measure and correct the residual shift field, and that of brightness, between search and template.

The kernel absorbs shifts that vary smoothly over the CCD. The remaining turbulence, correlated over arcminutes, is
measured at every source from the residual of the match, interpolated by a Gaussian process with fitted length and
amplitude, and applied to the matched image.
"""

from dataclasses import dataclass, field, replace

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.difference.settings import RegistrationSettings
from imaging.image import FloatImage
from imaging.numerics.robust import excess_scatter
from imaging.numerics.source_field import NODE, log_likelihood, node_distances
from imaging.photometry.transparency import Transparency, apply_transparency, fit_transparency

FloatArray = NDArray[np.float64]

TURBULENCE = 0.05
"""Largest scatter of shifts that all sources have; stars scatter more by their proper motions."""

STEADY_SIGMA, STEADY_SCALE, MOVED_SIGMA = 3.0, 0.01, 4.0
"""A star that moved has no change of brightness beyond so many errors and so much, but a shift beyond so many."""


@dataclass(frozen=True, eq=False)
class SourceShifts:
    """Shift and brightness of sources in the search image relative to the matched template.

    Attributes
    ----------
    x, y
        (n,) positions, pixels.
    dx, dy
        (n,) shift of the search image, pixels.
    error
        (n,) standard error of the shift per axis.
    scale
        (n,) relative excess of brightness.
    scale_error
        (n,) standard error of ``scale``.
    """

    x: FloatArray
    y: FloatArray
    dx: FloatArray
    dy: FloatArray
    error: FloatArray
    scale: FloatArray
    scale_error: FloatArray

    def select(self, keep: NDArray[np.bool_]) -> "SourceShifts":
        """Return the selected sources."""
        return SourceShifts(
            *(a[keep] for a in (self.x, self.y, self.dx, self.dy, self.error, self.scale, self.scale_error))
        )


@dataclass(frozen=True, eq=False)
class ShiftField:
    """A smooth field of shifts, and one of brightness.

    Attributes
    ----------
    dx, dy
        (n, m) shifts at every 64th pixel, starting at zero.
    length_pixels
        Correlation length; zero if the field is zero.
    rms_before_pixels, rms_after_pixels
        Scatter of the sources' shifts per axis beyond their errors, before and after the correction, the latter by
        leave-one-out prediction.
    n_sources
        Sources measured.
    moved
        (k, 3) stars that moved beyond the field: position and motion per axis, pixels.
    transparency
        Brightness of the search image relative to the matched template; None if it is the same everywhere.
    """

    dx: FloatArray
    dy: FloatArray
    length_pixels: float
    rms_before_pixels: float
    rms_after_pixels: float
    n_sources: int
    moved: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    transparency: Transparency | None = None

    def opposite(self) -> "ShiftField":
        """Return the field of the other image."""
        other = None if self.transparency is None else self.transparency.power(-1.0)
        return replace(self, dx=-self.dx, dy=-self.dy, transparency=other)


def measure_shifts(
    model: FloatImage, residual: FloatImage, weight: FloatImage, x: FloatArray, y: FloatArray, side: int
) -> SourceShifts:
    """Measure shifts from stamps of the matched image and of target minus matched image.

    To first order a shifted and brighter source leaves s M - dx dM/dx - dy dM/dy, which is fitted with a constant.

    Parameters
    ----------
    model, residual, weight
        (n, p) float32, stamps of ``side`` pixels squared; weight zero for unusable pixels.
    x, y
        (n,) centres of the stamps.
    side
        Pixels along a stamp's side.
    """
    slope_x, slope_y = image_slopes(model, side)
    columns = np.stack([-slope_x, -slope_y, model, np.ones_like(model)], axis=2)
    weighted = columns * weight[:, :, None]
    normal = np.matmul(columns.transpose(0, 2, 1), weighted).astype(float)
    right = np.matmul(weighted.transpose(0, 2, 1), residual[:, :, None])[:, :, 0].astype(float)
    covariance = np.linalg.pinv(normal, hermitian=True)
    solution = np.einsum("nij,nj->ni", covariance, right)
    chi2 = np.einsum("np,np->n", weight, residual**2, dtype=float) - np.einsum("ni,ni->n", solution, right)
    inflation = np.maximum(chi2 / np.maximum(np.count_nonzero(weight, axis=1) - 4, 1), 1.0)
    error = np.sqrt(inflation * 0.5 * (covariance[:, 0, 0] + covariance[:, 1, 1]))
    return SourceShifts(
        np.asarray(x, dtype=float),
        np.asarray(y, dtype=float),
        *(solution[:, 0], solution[:, 1], error, solution[:, 2]),
        np.sqrt(inflation * covariance[:, 2, 2]),
    )


def fit_shift_field(shifts: SourceShifts, shape: tuple[int, int], settings: RegistrationSettings) -> ShiftField:
    """Interpolate the shifts of the sources, and their brightness, as Gaussian processes.

    The covariance is exponential in the distance; its amplitude is the scatter beyond the errors, its length that of
    highest marginal likelihood. If no length is better than a zero field, the field is zero.

    Parameters
    ----------
    shifts
        Measured shifts.
    shape
        (ny, nx) of the image.
    settings
        Lengths to try, limits.
    """
    found = _shift_field(shifts, shape, settings)
    if not settings.correct:
        return found
    brightness = (shifts.x, shifts.y, shifts.scale, shifts.scale_error)
    clouds = fit_transparency(*brightness, shape, settings.scales_pixels, settings.min_stars)
    return replace(found, transparency=clouds)


def _shift_field(shifts: SourceShifts, shape: tuple[int, int], settings: RegistrationSettings) -> ShiftField:
    radius = np.hypot(shifts.dx, shifts.dy)
    good = (shifts.error > 0) & (shifts.error < 0.3) & (radius < settings.max_shift_pixels)
    good &= radius < np.median(radius[good]) * 6.0 + 5.0 * shifts.error if good.any() else good
    s = shifts.select(good)
    before = excess_scatter(np.concatenate([s.dx, s.dy]), np.concatenate([s.error, s.error]))
    if len(s.x) < settings.min_stars or before == 0.0 or not settings.correct:
        return no_shift_field(shape, before, len(s.x))
    values, noise = np.stack([s.dx, s.dy], axis=1), np.diag(s.error**2)
    distance = np.hypot(s.x[:, None] - s.x[None, :], s.y[:, None] - s.y[None, :])
    best_length, best_likelihood = 0.0, log_likelihood(values, noise)
    for length in settings.scales_pixels:
        likelihood = log_likelihood(values, before**2 * np.exp(-distance / length) + noise)
        if likelihood > best_likelihood + 2.0:
            best_length, best_likelihood = length, likelihood
    if best_length == 0.0:
        return no_shift_field(shape, before, len(s.x))
    inverse = np.linalg.inv(before**2 * np.exp(-distance / best_length) + noise)
    left = (inverse @ values) / np.diag(inverse)[:, None]
    to_nodes = before**2 * np.exp(-node_distances(s.x, s.y, shape) / best_length)
    dx, dy = np.moveaxis(to_nodes @ (inverse @ values), -1, 0)
    after = excess_scatter(left.T.ravel(), np.tile(s.error, 2))
    return ShiftField(np.ascontiguousarray(dx), np.ascontiguousarray(dy), best_length, before, after, len(s.x))


def without_motions(
    found: ShiftField, shifts: SourceShifts, stars: NDArray[np.bool_], *, is_scatter: bool
) -> ShiftField:
    """Charge stars with their own motions, and other places with the error of a mean motion only.

    Parameters
    ----------
    found
        A field of zero shifts from few sources.
    shifts
        Shifts of n sources.
    stars
        (n,) point sources; galaxies do not move.
    is_scatter
        Whether the error of the field is the scatter of single sources.
    """
    error, size = found.rms_after_pixels, np.hypot(shifts.dx, shifts.dy)
    shared = min(error, TURBULENCE)
    steady = np.abs(shifts.scale) < STEADY_SIGMA * np.hypot(shifts.scale_error, STEADY_SCALE)
    far = size > MOVED_SIGMA * np.hypot(shifts.error, shared)
    moved = np.stack([shifts.x, shifts.y, size / np.sqrt(2.0)], axis=1)[stars & steady & far]
    if is_scatter:
        error = float(np.hypot(shared, error / np.sqrt(max(found.n_sources, 1))))
    return replace(found, rms_after_pixels=error, moved=moved)


def no_shift_field(shape: tuple[int, int], scatter_pixels: float = 0.0, n_sources: int = 0) -> ShiftField:
    """Return a field of zero shifts.

    Parameters
    ----------
    shape
        (ny, nx) of the image.
    scatter_pixels
        Scatter of the sources' shifts.
    n_sources
        Sources measured.
    """
    zero = np.zeros((shape[0] // NODE + 2, shape[1] // NODE + 2))
    return ShiftField(zero, zero, 0.0, scatter_pixels, scatter_pixels, n_sources)


def apply_shift(image: FloatImage, field: ShiftField) -> FloatImage:
    """Shift an image by a small fraction of a pixel (second-order Taylor expansion), and change its brightness.

    Parameters
    ----------
    image
        (ny, nx) float32, well sampled.
    field
        Shifts, positive towards larger x and y.
    """
    if field.length_pixels > 0.0:
        image = _apply_shift(image, field.dx.astype(np.float32), field.dy.astype(np.float32))
    return image if field.transparency is None else apply_transparency(image, field.transparency)


def image_slopes(model: FloatImage, side: int) -> tuple[FloatImage, FloatImage]:
    """Return the (n, p) derivatives along x and y of (n, p) stamps of ``side`` pixels squared."""
    image = model.reshape(len(model), side, side)
    return _slope(image, 2).reshape(model.shape), _slope(image, 1).reshape(model.shape)


def _slope(image: FloatImage, axis: int) -> FloatImage:
    """Return the derivative along an axis, of fourth order, zero in the outermost two pixels."""
    out = np.zeros_like(image)
    moved = np.moveaxis(image, axis, -1)
    near, far = moved[..., 3:-1] - moved[..., 1:-3], moved[..., 4:] - moved[..., :-4]
    np.moveaxis(out, axis, -1)[..., 2:-2] = (8.0 * near - far) / 12.0
    return out


@numba.njit(cache=True)
def _apply_shift(image: FloatImage, node_x: FloatImage, node_y: FloatImage) -> FloatImage:
    ny, nx = image.shape
    out = image.copy()
    half, quarter = np.float32(0.5), np.float32(0.25)
    near, far = np.float32(8.0 / 12.0), np.float32(1.0 / 12.0)
    step = np.float32(1.0 / NODE)
    for y in range(2, ny - 2):
        cy = y // NODE
        fy = np.float32(y - cy * NODE) * step
        for cx in range(node_x.shape[1] - 1):
            ax = node_x[cy, cx] + fy * (node_x[cy + 1, cx] - node_x[cy, cx])
            bx = node_x[cy, cx + 1] + fy * (node_x[cy + 1, cx + 1] - node_x[cy, cx + 1])
            ay = node_y[cy, cx] + fy * (node_y[cy + 1, cx] - node_y[cy, cx])
            by = node_y[cy, cx + 1] + fy * (node_y[cy + 1, cx + 1] - node_y[cy, cx + 1])
            first, last = max(cx * NODE, 2), min((cx + 1) * NODE, nx - 2)
            if first >= last:
                continue
            wide = slice(first - 2, last + 2)
            here, target = image[y, wide], out[y, first:last]
            up, up2, down, down2 = image[y + 1, wide], image[y + 2, wide], image[y - 1, wide], image[y - 2, wide]
            for i in range(target.size):
                f = np.float32(first - cx * NODE + i) * step
                dx, dy = ax + f * (bx - ax), ay + f * (by - ay)
                middle, right, left, above, below = here[i + 2], here[i + 3], here[i + 1], up[i + 2], down[i + 2]
                first_x = near * (right - left) - far * (here[i + 4] - here[i])
                first_y = near * (above - below) - far * (up2[i + 2] - down2[i + 2])
                second_x, second_y = right - middle - middle + left, above - middle - middle + below
                mixed = quarter * (up[i + 3] - up[i + 1] - down[i + 3] + down[i + 1])
                target[i] = (
                    middle
                    - dx * first_x
                    - dy * first_y
                    + half * (dx * dx * second_x + dy * dy * second_y)
                    + dx * dy * mixed
                )
    return out
