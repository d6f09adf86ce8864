"""Image of a point source of the search image in the whitened difference: its PSF and photon noise."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from imaging.difference.noise import HALF, TileNoise
from imaging.difference.part_kernels import PartKernels, blocks_of
from imaging.difference.tiles import Tiling
from imaging.numerics.convolution import convolve
from imaging.psf.draw import draw_stamp, local_samples, position_terms
from imaging.psf.model import PsfModel
from imaging.templates.psf import fit_psf_model

FloatArray = NDArray[np.float64]

PSF_HALF_WIDTH = 20
"""Half width of the PSF in the difference, pixels; the wings beyond contain a percent of the flux and little signal."""

PSF_DEGREE = 3
PSF_NODES = 5

FLUX_RADIUS_FWHM = 1.5
"""Radius in FWHM within which fluxes are compared, that of the PSF fits."""

FLUX_PLACES = 5
"""Places along each axis at which the flux by the PSF model is compared with the true response."""


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
    return convolve(stamp, response, "valid")


def response_at(noise: TileNoise, tiling: Tiling, x: float, y: float) -> NDArray[np.float32]:
    """Return the (k, k) response at a position: the kernel there, and whitening and scale of its part of the tile.

    The whitening is constant in a tile, but the kernel of a convolved search image is not, so that the response at the
    tile's centre differs from that at its edge by about as much as the PSF does, and more in another part of the stack.
    """
    tile, parts = tiling.index(x, y), noise.parts
    if parts is None:
        return noise.response[tile]
    here = _between(parts.main, tiling, x, y) + parts.changes[parts.at(parts.number, x, y)]
    change = convolve(noise.whitening[tile], here - parts.main[tile] - parts.changes[parts.own[tile]], "same")
    scale = parts.at(parts.scale, x, y) / _tile_scale(parts, tiling)[tile]
    return ((noise.response[tile] + change) * scale).astype(np.float32)


def _tile_scale(parts: PartKernels, tiling: Tiling) -> FloatArray:
    """Return (n, m) the scale of the difference in the middle of the tiles."""
    return parts.at(parts.scale, *tiling.centres())


def _between(values: NDArray[Any], tiling: Tiling, x: float, y: float) -> NDArray[Any]:
    """Interpolate what is known at the tiles' centres, (n, m, ...), linearly; beyond them it continues."""
    xs, ys = tiling.centres()
    (j, v), (i, u) = _position(ys[:, 0], y), _position(xs[0], x)
    low, high = (values[min(k, len(ys) - 1)] for k in (j, j + 1))
    last = xs.shape[1] - 1
    rows = [(1 - u) * row[i] + u * row[min(i + 1, last)] for row in (low, high)]
    return (1 - v) * rows[0] + v * rows[1]


def _position(centres: FloatArray, place: float) -> tuple[int, float]:
    """Return the index of the centre below a place and the fraction of the way to the next one."""
    if centres.size == 1:
        return 0, 0.0
    k = int(np.clip(np.searchsorted(centres, place) - 1, 0, centres.size - 2))
    return k, float((place - centres[k]) / (centres[k + 1] - centres[k]))


def compare_with_psf(search: PsfModel, psf: PsfModel, noise: TileNoise, tiling: Tiling) -> PartKernels:
    """Compare the PSF model with the image of a source in every block of pixels.

    In a block is the image of a source in the middle of the tile, with the kernel of the block's part of the stack.

    Parameters
    ----------
    search, psf
        PSF of the search image and PSF model of the difference.
    noise, tiling
        Whitening per tile, and kernels with which the search image was convolved.

    Returns
    -------
    parts
        The kernels with the scale that makes fluxes by the PSF model right, and its error.
    """
    parts = noise.parts
    assert parts is not None
    xs, ys = tiling.centres()
    radius, reach = FLUX_RADIUS_FWHM * psf.fwhm_pixels, parts.main.shape[-1] // 2
    half = math.ceil(radius)
    inside = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1]) < radius
    images = np.array([draw_stamp(c, psf.step, 0.0, 0.0, half)[inside] for c in psf.coefficients])
    products = images @ images.T
    ratio, error = np.ones(parts.number.shape), np.zeros(parts.number.shape)
    for row, column, y, x in tiling:
        tile = row, column
        source = draw_source(search, float(xs[tile]), float(ys[tile]), half + reach + HALF)
        seen = respond(source, noise.whitening[tile])[::-1, ::-1]
        around = sliding_window_view(seen, (2 * reach + 1, 2 * reach + 1))[::-1, ::-1][inside]
        kernels = (parts.main[tile] + parts.changes).reshape(len(parts.changes), -1)
        stamps = kernels @ around.reshape(len(around), -1).T
        blocks = blocks_of(parts, y, x)
        number = parts.number[blocks]
        v, u = ((np.arange(k.start, k.stop) + 0.5) * parts.block - 0.5 for k in blocks)
        u, v = (u - psf.origin[0]) / psf.scale[0], (v[:, None] - psf.origin[1]) / psf.scale[1]
        terms = np.stack([u**i * v**j for i, j in psf.terms], axis=-1)
        both = np.sum(terms * (stamps @ images.T)[number], axis=-1)
        model = np.einsum("...p,pq,...q->...", terms, products, terms)
        ratio[blocks] = both / model
        error[blocks] = np.sqrt(np.maximum(np.sum(stamps**2, axis=1)[number] * model / both**2 - 1.0, 0.0))
    return replace(parts, scale=1.0 / ratio, psf_error=error)


def psf_flux_error(search: PsfModel, psf: PsfModel, noise: TileNoise, tiling: Tiling) -> float:
    """Return the relative error of a point source's flux because the PSF model is smoother than the response.

    Parameters
    ----------
    search, psf
        PSF of the search image and PSF model of the difference.
    noise, tiling
        Response kernels in tiles.
    """
    ny, nx = tiling.shape
    errors = []
    for y in np.linspace(0.1, 0.9, FLUX_PLACES) * ny:
        for x in np.linspace(0.1, 0.9, FLUX_PLACES) * nx:
            a, b = float(np.floor(x)), float(np.floor(y))
            seen = draw_response(search, response_at(noise, tiling, a, b), a, b, PSF_HALF_WIDTH)
            model = psf.stamp(a, b, PSF_HALF_WIDTH)
            errors.append(np.sum(seen * model) / np.sum(model**2) - 1.0)
    return float(np.sqrt(np.mean(np.square(errors))))


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


def tile_scales(stamps: FloatArray, psf: PsfModel, tiling: Tiling) -> FloatArray:
    """Return (n, m) the scale of every tile that makes a flux by the PSF model right in its middle.

    Parameters
    ----------
    stamps
        Images of a source of unit flux in the middle of the tiles, of :func:`tile_stamps`.
    psf
        PSF model of the difference.
    """
    x, y = tiling.centres()
    scales = np.empty(tiling.grid)
    for index in np.ndindex(*tiling.grid):
        model = draw_source(psf, float(x[index]), float(y[index]), PSF_HALF_WIDTH)
        scales[index] = np.sum(model**2) / np.sum(stamps[index] * model)
    return scales


def local_psf(search: PsfModel, psf: PsfModel, noise: TileNoise, tiling: Tiling, x: float, y: float) -> PsfModel:
    """Return the PSF of the difference at a place as a model that is the same everywhere.

    Parameters
    ----------
    search, psf
        PSF of the search image and PSF model of the difference.
    noise, tiling
        Response kernels in tiles.
    x, y
        The place, pixels.
    """
    samples = _fine_samples(search, response_at(noise, tiling, x, y), x, y)
    return replace(psf, coefficients=samples[None].astype(np.float32), degree=0)


def _fine_samples(psf: PsfModel, response: NDArray[Any], x: float, y: float) -> FloatArray:
    """Return the image of a point source in the difference at every half pixel."""
    fine = np.empty((4 * PSF_HALF_WIDTH + 1, 4 * PSF_HALF_WIDTH + 1))
    for start_y in (0, 1):
        for start_x in (0, 1):
            target = fine[start_y::2, start_x::2]
            stamp = draw_response(psf, response, x, y, PSF_HALF_WIDTH, (-0.5 * start_x, -0.5 * start_y))
            target[:] = stamp[: target.shape[0], : target.shape[1]]
    return fine


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
        return _fine_samples(psf, _between(noise.response, tiling, x, y), x, y)

    nodes = min(PSF_NODES, max(tiling.grid))
    degree = min(PSF_DEGREE, nodes - 1)
    return fit_psf_model(samples, tiling.shape, degree=degree, nodes=nodes, n_stars=psf.n_stars)
