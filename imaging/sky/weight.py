"""Weight maps: inverse variance of every pixel from sky and readout noise."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.bits import NO_WEIGHT
from imaging.detector.ccds import AMPLIFIERS, Ccd
from imaging.detrend.header import read_noise_electrons

FloatImage = NDArray[np.float32]


def sky_weight(
    mask: NDArray[np.int16],
    sky: FloatImage,
    flat: FloatImage | None,
    star_flat: FloatImage | None,
    ccd: Ccd,
    header: Mapping[str, Any],
) -> FloatImage:
    """Compute the inverse variance of a flattened image.

    A pixel that collected n electrons with a read noise r and was divided by the flat f and the star flat s has the
    variance (r^2 + n) / (f s)^2, where n = f * sky. The light of sources is not included, because such weights bias
    fluxes.

    Parameters
    ----------
    mask
        (ny, nx) int16.
    sky
        (ny, nx) float32, subtracted sky, before the star flat, electrons.
    flat, star_flat
        (ny, nx) float32; None if not applied.
    ccd
        The CCD, for the columns of its amplifiers.
    header
        Keywords of the detrended image, with the measured read noise.

    Returns
    -------
    weight
        (ny, nx) float32, 1/electrons^2; zero where the mask has a bit of ``NO_WEIGHT`` or a flat is not positive.

    Raises
    ------
    InputError
        If the header is not that of a detrended image.
    """
    noise = read_noise_electrons(header)
    variance = np.empty(sky.shape[1], dtype=np.float32)
    for name in AMPLIFIERS:
        variance[ccd.amplifier(name).columns] = noise[name] ** 2
    none = np.empty((0, 0), dtype=np.float32)
    flats = (none if flat is None else flat, none if star_flat is None else star_flat)
    weight = np.empty_like(sky)
    _inverse_variance(mask, int(NO_WEIGHT), sky, *flats, variance, weight)
    return weight


def with_source_noise(weight: FloatImage, science: FloatImage) -> FloatImage:
    """Return weights that include the shot noise of sources.

    The number of collected electrons per electron of a flattened image is the product of the flats, assumed to be one;
    the shot noise is accurate to its deviation from one, a few per cent.

    Parameters
    ----------
    weight
        (ny, nx) float32, inverse variance of sky and readout.
    science
        (ny, nx) float32, electrons, sky subtracted; negative pixels add nothing.
    """
    return weight / (np.float32(1.0) + weight * np.maximum(science, np.float32(0.0)))


@njit(cache=True)
def _inverse_variance(
    mask: NDArray[np.int16],
    bits: int,
    sky: FloatImage,
    flat: FloatImage,
    star_flat: FloatImage,
    read_variance: NDArray[np.float32],
    weight: FloatImage,
) -> None:
    zero, one = np.float32(0.0), np.float32(1.0)
    for y in range(weight.shape[0]):
        row, flags, level = weight[y], mask[y], sky[y]
        for x in range(row.size):
            response = flat[y, x] if flat.size else one
            stellar = star_flat[y, x] if star_flat.size else one
            variance = read_variance[x] + response * max(level[x], zero)
            factor = response * stellar
            good = (flags[x] & bits) == 0 and response > zero and stellar > zero and variance > zero
            row[x] = factor * factor / variance if good else zero
