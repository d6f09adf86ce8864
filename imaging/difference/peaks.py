"""Which peaks of the significance are sources of their own, and which belong to a brighter one or to diffuse light.

The filter turns a point source into the autocorrelation of the PSF, which has lobes of both signs where the difference
was whitened, and the PSF model is not exact. A bright variable would otherwise be detected two to four times. What is
left of ghosts and halos is no source, but lifts peaks of noise above the threshold.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from imaging.difference.tiles import Tiling
from imaging.image import FloatImage
from imaging.numerics.convolution import convolve

FloatArray = NDArray[np.float64]

STAR_RESIDUAL, STAR_REACH = 0.01, 5
"""What is left of a bright star of the template, relative to its flux, where it is detected: steady stars of 16 to 18
mag leave 0.004, one that has varied has another PSF in the stack than they; and pixels between it and its peaks."""

LEVEL_FWHM, LEVEL_CLIP, LEVEL_SIGMA = (1.6, 6.0), 3.0, 2.5
"""Ring around a peak in which the diffuse light is measured, FWHM; largest distance of its pixels from their median,
significance; and significance of diffuse light that is believed: of six places in a thousand without any it is."""

RIDGE_DIRECTIONS, RIDGE_FWHM = 12, 0.6
"""Directions of a ridge that are tried, and half its width in FWHM."""

RIDGE_LEAST, RIDGE_KNOWN, RIDGE_BELOW = 1.0, 3, 3.0
"""Mean significance, beyond that of the ring, above which all pieces of a ridge are, four of which some may be masked;
fewest that are not; and how far beyond the threshold peaks on ridges are looked at."""


def diffuse_levels(
    score: FloatImage,
    known: NDArray[np.bool_],
    peaks: tuple[FloatArray, FloatArray, FloatArray],
    noise_pixels: float,
    fwhm_pixels: float,
    may_ridge: NDArray[np.bool_] | None = None,
) -> FloatArray:
    """Return the (n,) significance that diffuse light adds to peaks; zero where there is none beyond its error.

    It is a plane through the ring around the peak or, if more, the fainter side of a ridge through the peak: the
    rim of a ghost or a spike lifts a peak and what is on both sides of it, along a line of 12 FWHM.

    Parameters
    ----------
    score
        (ny, nx) float32, significance of a point source.
    known
        (ny, nx) which pixels have a score.
    peaks
        (n,) x and y, pixels, and significance.
    noise_pixels
        Pixels per independent value of the score.
    fwhm_pixels
        Width of the PSF.
    may_ridge
        (n,) peaks that a ridge may lift; None: all.
    """
    (ny, nx), reach = score.shape, int(LEVEL_FWHM[1] * fwhm_pixels)
    right, up = np.mgrid[-reach : reach + 1, -reach : reach + 1][::-1] / fwhm_pixels
    ring = (np.hypot(right, up) > LEVEL_FWHM[0]) & (np.hypot(right, up) < LEVEL_FWHM[1])
    pieces = _ridge_pieces(right, up)
    levels = np.zeros(peaks[0].size)
    for k, (a, b, peak) in enumerate(zip(*(values.tolist() for values in peaks), strict=True)):
        row, column = int(b), int(a)
        top, left = max(row - reach, 0), max(column - reach, 0)
        near = slice(top, min(row + reach + 1, ny)), slice(left, min(column + reach + 1, nx))
        inside = tuple(slice(s.start - o + reach, s.stop - o + reach) for s, o in zip(near, (row, column), strict=True))
        seen = known[near] & ring[inside]
        values = np.where(seen, score[near] * np.sign(peak), 0.0)
        quiet = seen & (np.abs(values - (np.median(values[seen]) if seen.any() else 0.0)) < LEVEL_CLIP)
        if np.count_nonzero(quiet) > noise_pixels:
            plane = np.stack([np.ones(quiet.sum()), right[inside][quiet], up[inside][quiet]])
            inverse = np.linalg.pinv(plane @ plane.T)
            level = float(inverse[0] @ (plane @ values[quiet]))
            levels[k] = level if abs(level) > LEVEL_SIGMA * np.sqrt(noise_pixels * inverse[0, 0]) else 0.0
        if may_ridge is not None and not may_ridge[k]:
            continue
        cells = pieces[:, :, :, inside[0], inside[1]].reshape(*pieces.shape[:3], -1)
        n_known = cells @ seen.ravel()
        lit = n_known > 0.5 * noise_pixels
        means = np.where(lit, (cells @ values.ravel()) / np.maximum(n_known, 1.0), np.inf)
        on_ridge = (means.min(axis=(1, 2)) > RIDGE_LEAST + levels[k]) & (lit.sum(axis=(1, 2)) >= RIDGE_KNOWN)
        if on_ridge.any():
            sides = np.where(lit, means, 0.0).sum(axis=2) / np.maximum(lit.sum(axis=2), 1)
            levels[k] = max(levels[k], float(sides.min(axis=1)[on_ridge].max()))
    return levels * np.sign(peaks[2])


def _ridge_pieces(right: FloatArray, up: FloatArray) -> FloatArray:
    """Return (d, 2, 2, k, k) ones in the near and the far half of both sides of ridges of d directions, else zero.

    Parameters
    ----------
    right, up
        (k, k) offsets from the peak, FWHM.
    """
    angle = np.pi * np.arange(RIDGE_DIRECTIONS)[:, None, None] / RIDGE_DIRECTIONS
    along, across = right * np.cos(angle) + up * np.sin(angle), up * np.cos(angle) - right * np.sin(angle)
    first, last = LEVEL_FWHM
    ends = np.array([[first, 0.5 * (first + last)], [0.5 * (first + last), last]])
    sides = np.stack([along, -along], axis=1)[:, :, None]
    inside = (sides > ends[:, 0, None, None]) & (sides < ends[:, 1, None, None])
    return np.asarray(inside & (np.abs(across) < RIDGE_FWHM)[:, None, None], dtype=float)


def one_of_each_place(x: FloatArray, y: FloatArray, score: FloatArray, apart: float) -> NDArray[np.bool_]:
    """Return which sources have no more significant one of the same sign at their fitted place.

    Two peaks of a star that has varied, on both sides of what its subtraction leaves, are fitted by the same source.

    Parameters
    ----------
    x, y
        (n,) fitted places, pixels.
    score
        (n,) significance, signed.
    apart
        Largest distance of two fits of one source, pixels.
    """
    kept = np.ones(x.size, dtype=bool)
    pairs = KDTree(np.stack([x, y], axis=1)).query_pairs(apart, output_type="ndarray") if x.size else []
    for first, second in pairs:
        if score[first] * score[second] > 0:
            kept[first if abs(score[first]) < abs(score[second]) else second] = False
    return kept


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
