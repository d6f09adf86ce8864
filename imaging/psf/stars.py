"""Cut-outs of the PSF stars, their shapes and their mean radial profile."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.optimize import least_squares

from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.image import FloatImage
from imaging.numerics.gaussian import FWHM_TO_SIGMA
from imaging.psf.profile import SEEING, ProfileBasis, Richness
from imaging.psf.settings import PsfSettings

FloatArray = NDArray[np.float64]

NEIGHBOUR_SIGMA = 5.0
"""Significance above which a neighbour that the catalogue does not have is masked in a star's cut-out."""

BACKGROUND_ERROR = 0.5
"""Expected common error of the backgrounds, in units of the sky noise, if all pixels were those of such neighbours."""


@dataclass(frozen=True, eq=False)
class StarStamps:
    """Cut-outs of stars.

    Attributes
    ----------
    x, y
        (n,) centroids, pixels, 0-based.
    flux
        (n,) electrons in the reference aperture.
    data, variance
        (n, size, size) float64 pixels and their sky variance; the variance is infinite for pixels that are masked,
        belong to a neighbour or are outside the image.
    dx, dy
        (n, size, size) float64, offsets of the pixels from the centroid.
    background_error
        Expected error that the backgrounds of all stars have in common, electrons per pixel.
    """

    x: FloatArray
    y: FloatArray
    flux: FloatArray
    data: FloatArray
    variance: FloatArray
    dx: FloatArray
    dy: FloatArray
    background_error: float = 0.0

    def __len__(self) -> int:
        return self.x.size


def cut_out_stars(
    science: FloatImage,
    weight: FloatImage,
    segmentation: NDArray[np.int32],
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    half_width: int,
) -> StarStamps:
    """Cut out stars, ignoring the pixels of other sources.

    Parameters
    ----------
    science, weight
        (ny, nx) planes.
    segmentation
        (ny, nx) isophotes; all zero if the stars are known to be isolated.
    x, y, flux
        (n,) stars.
    half_width
        Half size of the cut-outs.
    """
    size = 2 * half_width + 1
    data = np.zeros((x.size, size, size))
    variance = np.full((x.size, size, size), np.inf)
    dx, dy = np.empty_like(data), np.empty_like(data)
    offsets = np.arange(-half_width, half_width + 1)
    ny, nx = science.shape
    for k in range(x.size):
        cx, cy = int(np.floor(x[k] + 0.5)), int(np.floor(y[k] + 0.5))
        dx[k], dy[k] = (offsets + cx - x[k])[None, :], (offsets + cy - y[k])[:, None]
        y0, y1 = max(0, cy - half_width), min(ny, cy + half_width + 1)
        x0, x1 = max(0, cx - half_width), min(nx, cx + half_width + 1)
        source = (slice(y0, y1), slice(x0, x1))
        target = (slice(y0 - cy + half_width, y1 - cy + half_width), slice(x0 - cx + half_width, x1 - cx + half_width))
        owner = segmentation[source]
        good = (weight[source] > 0) & ((owner == 0) | (owner == segmentation[cy, cx]))
        data[k][target] = science[source]
        with np.errstate(divide="ignore"):
            variance[k][target] = np.where(good, 1.0 / weight[source], np.inf)
    return StarStamps(x, y, flux, data, variance, dx, dy)


def without_faint_neighbours(
    stamps: StarStamps, model: FloatArray, background: float, fwhm_pixels: float, model_error: float
) -> StarStamps:
    """Mask neighbours that the catalogue does not have, within half the seeing of where they stand out.

    A Gaussian of the seeing's width is fitted to the residuals at every pixel. A neighbour exceeds the place at the
    opposite side of the star; a galaxy, a wider star and a wrong model do not. The more pixels are masked, the more may
    the light in the rings that gave the backgrounds differ from that around the stars.

    Parameters
    ----------
    stamps
        Stars.
    model
        (n, size, size) models of the stars, electrons.
    background
        Error of the backgrounds, electrons per pixel.
    fwhm_pixels
        Seeing.
    model_error
        Relative error of the models, the same all over a star.
    """
    sigma = fwhm_pixels * FWHM_TO_SIGMA
    own = np.maximum(model, 0.0)
    weight = 1.0 / (stamps.variance + own)

    def smooth(values: FloatArray, width: float) -> FloatArray:
        return np.asarray(gaussian_filter(values, (0.0, width, width), mode="constant", truncate=3.0))

    information = np.maximum(smooth(weight, sigma / np.sqrt(2.0)) / (4.0 * np.pi * sigma**2), 1e-30)
    excess = smooth(weight * (stamps.data - model - background), sigma) / information
    error2 = 1.0 / information + (model_error * smooth(weight * own, sigma) / information) ** 2
    opposite = (slice(None), slice(None, None, -1), slice(None, None, -1))
    seen = excess - excess[opposite] > NEIGHBOUR_SIGMA * np.sqrt(error2 + error2[opposite])
    reach = int(np.ceil(fwhm_pixels / 2.0))
    offsets = np.arange(-reach, reach + 1)
    disk = np.hypot(offsets[:, None], offsets) <= fwhm_pixels / 2.0
    usable = np.isfinite(stamps.variance)
    hidden = usable & binary_dilation(seen, disk[None])
    share, noise = hidden.sum() / max(usable.sum(), 1), float(np.sqrt(np.median(stamps.variance[usable])))
    error = stamps.background_error + BACKGROUND_ERROR * share * noise
    return replace(stamps, variance=np.where(hidden, np.inf, stamps.variance), background_error=error)


def mean_frame(stamps: StarStamps, fwhm_pixels: float) -> FloatArray:
    """Return the (2, 2) matrix of determinant one that makes the median star round.

    The moments are weighted with a Gaussian of the seeing's width and corrected for it as for a Gaussian star.
    """
    sigma2 = (fwhm_pixels * FWHM_TO_SIGMA) ** 2
    good = np.isfinite(stamps.variance)
    window = np.exp(-0.5 * (stamps.dx**2 + stamps.dy**2) / sigma2) * stamps.data * good
    total = window.sum(axis=(1, 2))
    products = (stamps.dx**2, stamps.dx * stamps.dy, stamps.dy**2)
    xx, xy, yy = (float(np.median((window * p).sum(axis=(1, 2)) / total)) for p in products)
    inverse = np.linalg.inv(np.array([[xx, xy], [xy, yy]])) - np.eye(2) / sigma2
    values, vectors = np.linalg.eigh(inverse)
    values = np.clip(values, values.max() / 25.0, None)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    return root / np.sqrt(np.linalg.det(root))


def fit_envelope(
    stamps: StarStamps, frame: FloatArray, fwhm_pixels: float, radius: float, richness: Richness = SEEING
) -> ProfileBasis:
    """Fit a Moffat profile to the mean radial profile of the stars.

    Parameters
    ----------
    stamps
        Stars.
    frame
        Frame in which they are round.
    fwhm_pixels
        Starting width.
    radius
        Radius of the fit, pixels.
    richness
        Size of the basis.
    """
    zx = frame[0, 0] * stamps.dx + frame[0, 1] * stamps.dy
    zy = frame[1, 0] * stamps.dx + frame[1, 1] * stamps.dy
    r = np.hypot(zx, zy)
    use = np.isfinite(stamps.variance) & (r < radius)
    scaled = (stamps.data / stamps.flux[:, None, None])[use]
    weight = (stamps.flux[:, None, None] ** 2 / stamps.variance)[use]
    edges = np.concatenate([np.arange(0.0, 8.0, 0.25), np.geomspace(8.0, radius, 12)])
    bins = np.digitize(r[use], edges)
    total = np.bincount(bins, weight, edges.size + 1)
    filled = total > 0
    mean_r2 = np.bincount(bins, weight * r[use] ** 2, edges.size + 1)[filled] / total[filled]
    profile = np.bincount(bins, weight * scaled, edges.size + 1)[filled] / total[filled]
    area = np.bincount(bins, minlength=edges.size + 1)[filled]
    error = np.sqrt(1.0 / total[filled] + (0.01 * profile) ** 2 / np.minimum(area, 100))

    def residual(p: FloatArray) -> FloatArray:
        return (np.exp(p[0]) * (1.0 + mean_r2 / np.exp(2 * p[1])) ** -np.exp(p[2]) - profile) / error

    start = np.log([max(profile.max(), 1e-6), fwhm_pixels, 3.0])
    bounds = (start - np.array([3.0, 2.0, 0.6]), start + np.array([3.0, 2.0, np.log(richness.steepest / 3.0)]))
    fitted = least_squares(residual, start, bounds=bounds, loss="soft_l1").x
    return ProfileBasis(frame, float(np.exp(fitted[1])), float(np.exp(fitted[2])), radius, richness)


def fit_radius(fwhm_pixels: float, settings: PsfSettings) -> float:
    """Return the radius of the PSF fit in pixels."""
    shortest = REFERENCE_APERTURE_PIXELS / 2 + 1.5
    return float(np.clip(settings.fit_radius_fwhm * fwhm_pixels, shortest, settings.maximum_radius_pixels))
