"""Build PSF models from other PSF models: of a stack from its inputs, of a difference from the search image."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from imaging.psf.model import PsfModel, polynomial_terms

if TYPE_CHECKING:
    from imaging.wcs.foreign import ImageWcs

FloatArray = NDArray[np.float64]

PARALLEL = 0.02
"""Largest deviation of two images' pixel axes that is ignored."""

STEP = 0.5
"""Pixels per sample of the built models: coarser ones lose 0.2 % of a sharp star's flux."""


def fine_samples(psf: PsfModel, x: float, y: float, half_width: int) -> FloatArray:
    """Sample a PSF at every half pixel.

    Parameters
    ----------
    psf
        Model to sample.
    x, y
        Position in pixels.
    half_width
        Half size in pixels.

    Returns
    -------
    samples
        (4 half_width + 1, 4 half_width + 1), flux per pixel, centred on sample [2 half_width, 2 half_width].
    """
    offsets = np.arange(-2.0 * half_width, 2 * half_width + 1) * STEP
    return psf.at_offsets(x, y, offsets, offsets)


def pixel_matrix(output: "ImageWcs", source: "ImageWcs", x: float, y: float) -> FloatArray:
    """Return (2, 2) pixels of an input image per pixel of an output image, (x, y) both, at an output position.

    Parameters
    ----------
    output, source
        Coordinates of the two images.
    x, y
        Output pixel.
    """
    ra, dec = output.pixel_to_sky(np.array([x, x + 1.0, x]), np.array([y, y, y + 1.0]))
    xs, ys = source.sky_to_pixel(ra, dec)
    return np.array([[xs[1] - xs[0], xs[2] - xs[0]], [ys[1] - ys[0], ys[2] - ys[0]]])


def turned(samples: FloatArray, matrix: FloatArray) -> FloatArray:
    """Resample a PSF to the pixel axes of another image; axes that agree to a degree are treated as the same.

    Parameters
    ----------
    samples
        (n, n) flux per pixel, odd n, centre in the middle.
    matrix
        (2, 2) from :func:`pixel_matrix`.
    """
    if np.abs(matrix - np.eye(2)).max() < PARALLEL:
        return samples
    centre = np.full(2, (samples.shape[0] - 1) / 2)
    rows_first = matrix[::-1, ::-1]
    out = affine_transform(samples, rows_first, centre - rows_first @ centre, order=3, mode="constant")
    return out * abs(float(np.linalg.det(matrix)))


def fit_psf_model(
    sample_at: Callable[[float, float], FloatArray],
    shape: tuple[int, int],
    *,
    degree: int,
    nodes: int,
    n_stars: int = 0,
) -> PsfModel:
    """Fit a polynomial model to a PSF known at all positions.

    Parameters
    ----------
    sample_at
        Function of a position (x, y) in pixels that returns the PSF sampled at every half pixel, (n, n).
    shape
        (ny, nx) of the image.
    degree
        Degree of the polynomial in position.
    nodes
        Positions per axis at which the PSF is sampled, more than ``degree``.
    n_stars
        Number to record in the model.
    """
    ny, nx = shape
    gy, gx = np.meshgrid((np.arange(nodes) + 0.5) * ny / nodes, (np.arange(nodes) + 0.5) * nx / nodes, indexing="ij")
    places = list(zip(gx.ravel(), gy.ravel(), strict=True))
    samples = np.array([sample_at(x, y) for x, y in places])
    origin, scale = (nx / 2, ny / 2), (max(nx / 2, 1.0), max(ny / 2, 1.0))
    u, v = (gx.ravel() - origin[0]) / scale[0], (gy.ravel() - origin[1]) / scale[1]
    basis = np.stack([u**i * v**j for i, j in polynomial_terms(degree)], axis=1)
    coefficients = np.linalg.lstsq(basis, samples.reshape(len(places), -1), rcond=None)[0]
    n = samples.shape[1]
    middle = samples[np.argmin(u * u + v * v)]
    return PsfModel(
        coefficients=coefficients.reshape(-1, n, n).astype(np.float32),
        degree=degree,
        step=STEP,
        origin=origin,
        scale=scale,
        fwhm_pixels=fwhm_of_samples(middle, STEP),
        n_stars=n_stars,
    )


def fwhm_of_samples(samples: FloatArray, step: float) -> float:
    """Measure the full width at half maximum of a sampled PSF, pixels: twice the radius of the half-maximum area."""
    peak = float(samples.max())
    fine = np.sort(samples.ravel())[::-1]
    above = int(np.searchsorted(-fine, -0.5 * peak))
    if above == 0 or above >= fine.size:
        return float("nan")
    span = fine[above - 1] - fine[above]
    area = above + (0.0 if span == 0 else (fine[above - 1] - 0.5 * peak) / span) - 0.5
    return float(2.0 * np.sqrt(max(area, 0.5) / np.pi) * step)
