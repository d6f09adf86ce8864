"""Image of a point source of the search image in the whitened difference: its PSF and photon noise."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from imaging.difference.noise import HALF, TileNoise
from imaging.difference.tiles import Tiling
from imaging.psf.draw import draw_stamp, local_samples, position_terms
from imaging.psf.model import PsfModel
from imaging.templates.psf import fit_psf_model

FloatArray = NDArray[np.float64]

PSF_HALF_WIDTH = 20
"""Half width of the PSF in the difference, pixels; the wings beyond contain a percent of the flux and little signal."""

PSF_DEGREE = 3
PSF_NODES = 5


def draw_response(
    psf: PsfModel,
    response: NDArray[np.float32],
    x: float,
    y: float,
    half_width: int,
    shift: tuple[float, float] = (0.0, 0.0),
) -> FloatArray:
    """Draw a source of unit flux in the whitened difference.

    Parameters
    ----------
    psf
        PSF of the search image.
    response
        (k, k) local response kernel.
    x, y
        Position of the PSF, pixels.
    half_width
        Half size of the stamp.
    shift
        Offset (in x, in y) of the source from the middle of the stamp, pixels.

    Returns
    -------
    stamp
        (2 half_width + 1, 2 half_width + 1) float64.
    """
    return respond(draw_source(psf, x, y, half_width + HALF, shift), response)


def draw_source(
    psf: PsfModel, x: float, y: float, half_width: int, shift: tuple[float, float] = (0.0, 0.0)
) -> FloatArray:
    """Draw a source of unit flux in the search image; see :func:`draw_response` for the parameters."""
    terms = position_terms(x, y, psf.degree, psf.origin, psf.scale)
    samples = local_samples(psf.coefficients, terms, psf.coefficients.shape[1])
    return draw_stamp(samples, psf.step, shift[0], shift[1], half_width)


def respond(stamp: FloatArray, response: NDArray[np.float32]) -> FloatArray:
    """Return the contribution of a search-image stamp (n, n) to the whitened difference, (n - 2 HALF, n - 2 HALF)."""
    side = stamp.shape[0]
    size = fft.next_fast_len(side, real=True)
    full = fft.irfft2(fft.rfft2(stamp, s=(size, size)) * fft.rfft2(response, s=(size, size)), s=(size, size))
    return full[2 * HALF : side, 2 * HALF : side]  # the circular convolution is contaminated below


def photon_factor(psf: PsfModel, noise: TileNoise, tiling: Tiling) -> float:
    """Return the ratio of a source's photon noise in its flux to that of white noise with the source's profile.

    Photon noise is white in the search image and is convolved with the response kernel like the source.

    Parameters
    ----------
    psf
        PSF of the search image.
    noise, tiling
        Response kernels in tiles; the central one is used.
    """
    ny, nx = tiling.shape
    x, y = nx // 2, ny // 2
    response = noise.response[tiling.index(x, y)]
    seen = draw_response(psf, response, x, y, PSF_HALF_WIDTH)
    padded = np.pad(seen, HALF)
    weights = respond(padded, response[::-1, ::-1])
    source = draw_source(psf, x, y, PSF_HALF_WIDTH)
    return float(np.sum(np.maximum(source, 0.0) * weights**2) / np.sum(np.maximum(seen, 0.0) * seen**2))


def tile_stamps(psf: PsfModel, noise: TileNoise, tiling: Tiling) -> FloatArray:
    """Return the (n, m, k, k) image of a source of unit flux in the middle of every tile of the whitened difference."""
    x, y = tiling.centres()
    side = 2 * PSF_HALF_WIDTH + 1
    stamps = np.empty((*tiling.grid, side, side))
    for index in np.ndindex(*tiling.grid):
        stamps[index] = draw_response(psf, noise.response[index], float(x[index]), float(y[index]), PSF_HALF_WIDTH)
    return stamps


def difference_psf(psf: PsfModel, noise: TileNoise, tiling: Tiling) -> PsfModel:
    """Build the PSF model of the whitened difference.

    Parameters
    ----------
    psf
        PSF of the search image.
    noise, tiling
        Response kernels in tiles.
    """

    def samples(x: float, y: float) -> FloatArray:
        response = noise.response[tiling.index(x, y)]
        fine = np.empty((4 * PSF_HALF_WIDTH + 1, 4 * PSF_HALF_WIDTH + 1))
        for start_y in (0, 1):
            for start_x in (0, 1):
                target = fine[start_y::2, start_x::2]
                stamp = draw_response(psf, response, x, y, PSF_HALF_WIDTH, (-0.5 * start_x, -0.5 * start_y))
                target[:] = stamp[: target.shape[0], : target.shape[1]]
        return fine

    nodes = min(PSF_NODES, max(tiling.grid))
    degree = min(PSF_DEGREE, nodes - 1)
    return fit_psf_model(samples, tiling.shape, degree=degree, nodes=nodes, n_stars=psf.n_stars)
