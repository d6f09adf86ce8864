"""Aperture noise of a difference relative to the ideal difference of the same frames, with the truth subtracted."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.difference_runs import Truth
from imaging.difference.chain import CcdSearchResult
from imaging.image import CalibratedImage, FloatImage
from imaging.numerics.robust import mad_sigma
from imaging.psf.model import PsfModel
from imaging.simulation.pairs import Frame
from imaging.templates.settings import StackSettings
from imaging.templates.stack import stack_templates

FloatArray = NDArray[np.float64]

RADIUS_FWHM = 1.0
"""Radius of the apertures, FWHM of the ideal difference."""

PLACES = 30_000

DARK_SNR = 3.0
"""Maximum template flux in an aperture of blank sky, in units of the flux error."""


def noise_over_ideal(truth: Truth, searched: CcdSearchResult) -> float:
    """Return the noise of an aperture flux in blank sky over that of the ideal difference of the same frames.

    In the ideal difference the true brightness is subtracted from search image and templates before they are stacked
    and subtracted, so that no kernel, no registration and no background is needed; its PSF is the broader one of the
    two. A flux is an aperture's sum over the share of the PSF in it.

    Parameters
    ----------
    truth
        The frames.
    searched
        Result of their search.
    """
    difference = searched.difference
    search = _noise_of(truth.search)
    stack = stack_templates(search, [_noise_of(frame) for frame in truth.templates], StackSettings()).image
    ideal = search.pixels.science - stack.pixels.science
    broader = max(search.psf, stack.psf, key=lambda psf: psf.fwhm_pixels)
    bad = (search.pixels.weight == 0) | (stack.pixels.weight == 0) | (difference.weight == 0)
    filtered = difference.filtered
    lit = np.abs(filtered.template_flux) * np.sqrt(np.maximum(filtered.norm, 0.0)) > DARK_SNR
    radius = RADIUS_FWHM * broader.fwhm_pixels
    inside = _inside(radius)
    places = _places(bad, lit, inside.shape[0] // 2)
    ours = mad_sigma(_sums(difference.image, inside, places)) / _share(difference.psf, inside)
    return ours / (mad_sigma(_sums(ideal, inside, places)) / _share(broader, inside))


def _noise_of(frame: Frame) -> CalibratedImage:
    """Return a frame with the simulated sources subtracted."""
    pixels = frame.image.pixels
    return replace(frame.image, pixels=replace(pixels, science=pixels.science - frame.model))


def _inside(radius: float) -> NDArray[np.bool_]:
    axis = np.arange(-int(radius) - 1, int(radius) + 2)
    return np.hypot(axis[:, None], axis[None, :]) <= radius


def _places(bad: NDArray[np.bool_], lit: NDArray[np.bool_], reach: int) -> NDArray[np.int64]:
    """Draw (n, 2) rows and columns of apertures on good pixels in dark sky."""
    rng = np.random.default_rng(5)
    ny, nx = bad.shape
    drawn = np.stack([rng.integers(reach, ny - reach, PLACES), rng.integers(reach, nx - reach, PLACES)], axis=1)
    good = [
        not lit[j, i] and not bad[j - reach : j + reach + 1, i - reach : i + reach + 1].any() for j, i in drawn.tolist()
    ]
    return drawn[np.array(good)]


def _sums(image: FloatImage, inside: NDArray[np.bool_], places: NDArray[np.int64]) -> FloatArray:
    reach = inside.shape[0] // 2
    return np.array(
        [
            image[j - reach : j + reach + 1, i - reach : i + reach + 1][inside].sum(dtype=float)
            for j, i in places.tolist()
        ]
    )


def _share(psf: PsfModel, inside: NDArray[np.bool_]) -> float:
    x, y = psf.origin
    return float(psf.stamp(x, y, inside.shape[0] // 2)[inside].sum())
