"""Measure sources with the PSF at their place where the PSF model of the difference is wrong.

A search image is convolved to the PSF of the stack, which jumps where a template ends. The model is a polynomial, whose
fluxes are right because the difference is scaled, but whose shape is up to a tenth wrong: a bright transient would be
no point source.
"""

from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from imaging.difference.measure import Measurements, measure_sources
from imaging.difference.records import Difference
from imaging.difference.response import local_psf
from imaging.difference.settings import DetectionSettings
from imaging.psf.model import PsfModel

FloatArray = NDArray[np.float64]

LEAST_ERROR, LEAST_SIGMA = 0.01, 1.0
"""Error of the PSF model, relative and in units of the source's flux error, above which the PSF is computed."""


def psf_errors(difference: Difference, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return (n,) the relative error of the PSF model at places, pixels: zero unless the search image was convolved."""
    parts = difference.noise.parts
    if parts is None:
        return np.zeros(x.size)
    return parts.at(parts.psf_error, x, y)


def measure_locally(
    difference: Difference, x: FloatArray, y: FloatArray, score: FloatArray, settings: DetectionSettings
) -> Measurements:
    """Measure sources of a difference, bright ones with the PSF of their piece of a tile where the model is wrong.

    Parameters
    ----------
    difference
        The difference.
    x, y, score
        (n,) peaks, pixels, and their significance.
    settings
        Radius of the fit, size of the window.
    """

    def measured(chosen: NDArray[np.bool_], psf: PsfModel) -> Measurements:
        return measure_sources(
            *(difference.image, difference.weight, psf, x[chosen], y[chosen]),
            difference.photon_gain,
            settings,
            (difference.model, difference.scale_error, difference.shift_error),
        )

    found = measured(np.ones(x.size, dtype=bool), difference.psf)
    parts, error = difference.noise.parts, psf_errors(difference, x, y)
    wrong = (error > LEAST_ERROR) & (error * np.abs(score) > LEAST_SIGMA)
    if parts is None or not wrong.any():
        return found
    tiles = [difference.tiling.index(float(a), float(b)) for a, b in zip(x, y, strict=True)]
    scale = parts.at(parts.scale, x, y)
    piece = np.column_stack([tiles, parts.at(parts.number, x, y)])
    for key in np.unique(piece[wrong], axis=0):
        chosen = wrong & (piece == key).all(axis=1)
        first = int(np.flatnonzero(chosen)[0])
        place = float(x[first]), float(y[first])
        psf = local_psf(difference.search.psf, difference.psf, difference.noise, difference.tiling, *place)
        of_piece = measured(chosen, psf)
        ratio = scale[first] / scale[chosen]  # the image of a source of unit flux is scaled like its block
        of_piece = replace(of_piece, flux=of_piece.flux * ratio, flux_error=of_piece.flux_error * ratio)
        for column in fields(Measurements):
            getattr(found, column.name)[chosen] = getattr(of_piece, column.name)
    return found
