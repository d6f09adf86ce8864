"""Which peaks of the significance are sources of their own, and which belong to a brighter one or to diffuse light.

The filter turns a point source into the autocorrelation of the PSF, which has lobes of both signs where the difference
was whitened, and the PSF model is not exact. A bright variable would otherwise be detected two to four times. What is
left of ghosts and halos is no source, but lifts peaks of noise above the threshold.
"""

import numpy as np
from numpy.typing import NDArray

from imaging.difference.tiles import Tiling
from imaging.image import FloatImage
from imaging.numerics.convolution import convolve

FloatArray = NDArray[np.float64]

STAR_RESIDUAL, STAR_REACH = 0.01, 5
"""What is left of a bright star of the template, relative to its flux, where it is detected: steady stars of 16 to 18
mag leave 0.004, one that has varied has another PSF in the stack than they; and pixels between it and its peaks."""

LEVEL_FWHM, LEVEL_CLIP, LEVEL_SIGMA = (1.6, 6.0), 3.0, 2.5
"""Ring around a peak in which the diffuse light is measured, FWHM; largest significance of its pixels; and significance
of diffuse light that is believed: of six places in a thousand without any it is."""


def diffuse_levels(
    score: FloatImage, known: NDArray[np.bool_], x: FloatArray, y: FloatArray, noise_pixels: float, fwhm_pixels: float
) -> FloatArray:
    """Return the (n,) significance that diffuse light adds to peaks; zero where there is none beyond its error.

    Parameters
    ----------
    score
        (ny, nx) float32, significance of a point source.
    known
        (ny, nx) which pixels have a score.
    x, y
        (n,) peaks, pixels.
    noise_pixels
        Pixels per independent value of the score.
    fwhm_pixels
        Width of the PSF.
    """
    (ny, nx), reach = score.shape, int(LEVEL_FWHM[1] * fwhm_pixels)
    radius = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) / fwhm_pixels
    ring = (radius > LEVEL_FWHM[0]) & (radius < LEVEL_FWHM[1])
    levels = np.zeros(x.size)
    for k, (a, b) in enumerate(zip(x.astype(int).tolist(), y.astype(int).tolist(), strict=True)):
        top, left = max(b - reach, 0), max(a - reach, 0)
        near = slice(top, min(b + reach + 1, ny)), slice(left, min(a + reach + 1, nx))
        values = score[near]
        inside = tuple(slice(s.start - o + reach, s.stop - o + reach) for s, o in zip(near, (b, a), strict=True))
        quiet = values[known[near] & ring[inside] & (np.abs(values) < LEVEL_CLIP)]
        if quiet.size > noise_pixels:
            level = float(quiet.mean(dtype=float))
            levels[k] = level if abs(level) > LEVEL_SIGMA * np.sqrt(noise_pixels / quiet.size) else 0.0
    return levels


def own_peaks(
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    error: FloatArray,
    template_flux: FloatImage,
    psf_stamps: FloatArray,
    tiling: Tiling,
    threshold: float,
    psf_error: FloatArray,
) -> NDArray[np.bool_]:
    """Return which peaks are more than the lobes of a brighter one.

    Parameters
    ----------
    x, y
        (n,) peaks, pixels.
    flux, error
        (n,) flux of a point source there, signed, and its error.
    template_flux
        (ny, nx) float32, flux of the subtracted template: a bright star leaves more than one peak around it.
    psf_stamps
        (n, m, k, k) PSF of the difference in the middle of every tile.
    tiling
        The tiles.
    threshold
        Lowest significance of a source beyond the lobes of others.
    psf_error
        (n,) relative error of the PSF model there.
    """
    own = np.ones(x.size, dtype=bool)
    known: dict[tuple[int, int], tuple[FloatArray, FloatArray]] = {}
    reach = psf_stamps.shape[-1] - 1
    for k in np.argsort(-np.abs(flux)):
        if not own[k]:
            continue
        near = own & (np.abs(x - x[k]) <= reach) & (np.abs(y - y[k]) <= reach) & (np.abs(flux) < np.abs(flux[k]))
        if not near.any():
            continue
        tile = tiling.index(float(x[k]), float(y[k]))
        if tile not in known:
            known[tile] = _lobes(psf_stamps[tile])
        lobes, envelope = known[tile]
        at = (y[near] - y[k]).astype(int) + reach, (x[near] - x[k]).astype(int) + reach
        light, star_x, star_y = _brightest(template_flux, int(x[k]), int(y[k]))
        from_star = tuple(
            np.clip((p[near] - s).astype(int) + reach, 0, 2 * reach) for p, s in ((y, star_y), (x, star_x))
        )
        beyond = np.abs(flux[near] - flux[k] * lobes[at])
        independent = error[near] * np.sqrt(np.maximum(1.0 - lobes[at] ** 2, 0.0))  # both have the noise of the first
        shape = np.hypot(psf_error[k] * flux[k] * envelope[at], STAR_RESIDUAL * light * envelope[from_star])
        own[near] = beyond > threshold * np.hypot(independent, shape)
    return own


def _brightest(image: FloatImage, x: int, y: int) -> tuple[float, int, int]:
    """Return the highest value near a pixel, at least zero, and its place."""
    top, left = max(y - STAR_REACH, 0), max(x - STAR_REACH, 0)
    around = image[top : y + STAR_REACH + 1, left : x + STAR_REACH + 1]
    j, i = np.unravel_index(int(np.argmax(around)), around.shape)
    return max(float(around[j, i]), 0.0), left + int(i), top + int(j)


def _lobes(psf: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (2 k - 1, 2 k - 1) the filtered image of a source of unit flux, and how far a wrong PSF changes it.

    The second falls from one outwards like the square root of the first's largest value at that distance or beyond.
    """
    lobes = convolve(psf, psf[::-1, ::-1], "full") / np.sum(psf**2)
    reach = psf.shape[0] - 1
    radius = np.rint(np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])).astype(int)
    highest = np.zeros(int(radius.max()) + 1)
    np.maximum.at(highest, radius.ravel(), np.abs(lobes).ravel())
    beyond = np.maximum.accumulate(highest[::-1])[::-1]
    return lobes, np.sqrt(beyond[radius])
