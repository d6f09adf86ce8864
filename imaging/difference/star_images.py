"""Images of bright stars, cut out of a search image: fakes drawn with them do not use the PSF model that measures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import KDTree

from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.difference.noise import HALF
from imaging.difference.response import PSF_HALF_WIDTH, draw_source
from imaging.image import CalibratedImage
from imaging.numerics.robust import clipped
from imaging.templates.relative import ANNULUS_INNER, ANNULUS_OUTER, MIN_SKY_PIXELS
from imaging.templates.resampling_inputs import resampling_inputs_of

FloatArray = NDArray[np.float64]

SOURCE_HALF = PSF_HALF_WIDTH + HALF
"""Half width of the image of a source, pixels."""

RADIUS = REFERENCE_APERTURE_PIXELS / 2
CUT_RADIUS = RADIUS + 1.0
"""Radius to which the pixels of the star are taken; beyond are the wings of the PSF model, about 2 % of the flux."""

NEIGHBOUR_SNR, NEIGHBOUR_SHARE = 4.0, 0.3
"""A star is isolated if nothing beside it exceeds this S/N, smoothed, and this fraction of its own wing."""

_OFFSETS = np.mgrid[-SOURCE_HALF : SOURCE_HALF + 1, -SOURCE_HALF : SOURCE_HALF + 1]
_DISTANCE = np.hypot(*_OFFSETS)
_APERTURE = np.clip(RADIUS + 0.5 - _DISTANCE, 0.0, 1.0)
_ANNULUS = (_DISTANCE >= ANNULUS_INNER) & (_DISTANCE <= ANNULUS_OUTER)


@dataclass(frozen=True, eq=False)
class StarImages:
    """Images of single stars.

    Attributes
    ----------
    x, y
        (n,) centres, pixels.
    error
        (n,) relative error of the flux to which an image is normalised: its noise, which all fakes drawn with it share.
    images
        (n, k, k) the star on its own pixels, of unit flux in the reference aperture; k = 2 ``SOURCE_HALF`` + 1.
    """

    x: FloatArray
    y: FloatArray
    error: FloatArray
    images: FloatArray

    def __len__(self) -> int:
        return self.x.size

    def nearest(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
        """Return (n,) places, moved within their pixel to where the nearest star lies in its own, and its number."""
        number = KDTree(np.stack([self.x, self.y], axis=1)).query(np.stack([x, y], axis=1))[1].astype(np.int64)
        u, v = self.x[number], self.y[number]
        return _pixel(x) + u - _pixel(u), _pixel(y) + v - _pixel(v), number


def cut_star_images(search: CalibratedImage, min_snr: float) -> StarImages:
    """Cut out the isolated, unsaturated stars of a search image.

    The background is the median of an annulus, as far as the PSF model reaches, less the wing by the model. Galaxies
    are left out: relative to the PSF model they are less concentrated than most. A wrong model changes all stars alike.

    Parameters
    ----------
    search
        The search image.
    min_snr
        Lowest signal to noise of the flux in the reference aperture.
    """
    rows = [row for x, y in resampling_inputs_of(search).stars if (row := _cut(search, x, y, min_snr)) is not None]
    if not rows:
        nothing = np.zeros(0)
        return StarImages(nothing, nothing, nothing, np.zeros((0, *_DISTANCE.shape)))
    x, y, error, concentration = np.array([row[:4] for row in rows]).T
    star = clipped(concentration)
    return StarImages(x[star], y[star], error[star], np.array([row[4] for row in rows])[star])


def _cut(
    search: CalibratedImage, x: float, y: float, min_snr: float
) -> tuple[float, float, float, float, FloatArray] | None:
    """Return centre, error, concentration over that of the model, and image of a star; None if it is unusable."""
    i, j = int(_pixel(x)), int(_pixel(y))
    ny, nx = search.pixels.shape
    if min(i, j, nx - 1 - i, ny - 1 - j) < SOURCE_HALF:
        return None
    window = (slice(j - SOURCE_HALF, j + SOURCE_HALF + 1), slice(i - SOURCE_HALF, i + SOURCE_HALF + 1))
    science, weight = (plane[window].astype(float) for plane in (search.pixels.science, search.pixels.weight))
    reach = search.psf.step * (search.psf.coefficients.shape[1] // 2) - 0.5
    sky = _ANNULUS & (weight > 0) & (np.abs(_OFFSETS).max(axis=0) <= reach)
    if not (weight[_DISTANCE <= CUT_RADIUS] > 0).all() or np.count_nonzero(sky) < MIN_SKY_PIXELS:
        return None
    model = draw_source(search.psf, x, y, SOURCE_HALF, (x - i, y - j))
    area, level, wing = float(_APERTURE.sum()), float(np.median(science[sky])), float(np.median(model[sky]))
    flux = float((_APERTURE * (science - level)).sum() / (_APERTURE * (model - wing)).sum())
    gain, sky_weight = float(search.pixels.header.get("GAIN", 1.0)), float(np.median(weight[sky]))
    variance = (area + 0.5 * np.pi * area**2 / np.count_nonzero(sky)) / sky_weight
    error = float(np.sqrt(variance + max(flux, 0.0) / gain))
    if flux < min_snr * error:
        return None
    star = science - (level - flux * wing)
    if _has_neighbour(star - flux * model, flux * model, 1.0 / sky_weight, gain, search.psf.fwhm_pixels):
        return None
    core = search.psf.fwhm_pixels > _DISTANCE
    concentration = float(star[core].sum() / (flux * model[core].sum()))
    return x, y, error / flux, concentration, np.where(_DISTANCE <= CUT_RADIUS, star / flux, model)


def _has_neighbour(rest: FloatArray, model: FloatArray, variance: float, gain: float, fwhm: float) -> bool:
    """Return whether there is light beside a star that neither noise nor an error of its PSF model explains."""
    sigma = fwhm / 2.3548
    beside = (1.5 * fwhm < _DISTANCE) & (CUT_RADIUS + 0.5 * fwhm >= _DISTANCE)
    light, wing = gaussian_filter(rest, sigma), gaussian_filter(model, sigma)
    noise = np.sqrt(variance + np.maximum(wing, 0.0) / gain) / (2.0 * np.sqrt(np.pi) * sigma)
    return bool((light > NEIGHBOUR_SNR * noise + NEIGHBOUR_SHARE * wing)[beside].any())


def _pixel(place: FloatArray | float) -> FloatArray:
    """Return the middle of the pixel that holds a place."""
    return np.floor(np.asarray(place) + 0.5)
