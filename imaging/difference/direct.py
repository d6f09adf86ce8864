"""Forced PSF photometry on the unsubtracted search and template images, host light included.

A difference measures the deviation of an epoch from the stack of templates; variability among the templates, or a
source present in all of them, is only visible on the template images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.difference.forced import ForcedFluxes, forced_fluxes, photometry_columns
from imaging.difference.records import Identity
from imaging.difference.settings import DetectionSettings
from imaging.image import FloatImage, no_error
from imaging.photometry.transparency import at_places
from imaging.psf.model import PsfModel
from imaging.schemas.difference import DIRECT_PHOTOMETRY
from imaging.tables import make_table

if TYPE_CHECKING:
    from imaging.wcs.foreign import ImageWcs

FloatArray = NDArray[np.float64]

MARGIN = 10
"""Margin around the window of a fit for the local background, pixels."""

RING_FWHM = 3.0
"""Inner radius of the local background, in FWHM."""

MIN_RING = 200
"""Fewest good pixels of the annulus; with fewer no local background is subtracted."""

BACKGROUND_ERROR = 0.2
"""Error of the local background as a fraction of it: wings of stars beside a place change with the seeing. Among
templates in a crowded field, fluxes beside stars of 13 to 16.5 mag scatter by 1.3 of their error without, 0.7 with it;
a constant source measured three times would scatter by 0.8."""


@dataclass(frozen=True, eq=False)
class DirectImage:
    """An image whose pixels are read on demand.

    Attributes
    ----------
    pixels
        Function of a slice in y and one in x that returns science (electrons, sky subtracted) and inverse variance.
    shape
        (ny, nx).
    wcs
        World coordinates.
    psf
        Point-spread function.
    zeropoint_mag
        AB magnitude of one electron.
    gain
        Photo-electrons per unit of flux.
    transparency_error
        Relative error of the transparency, see :class:`imaging.image.CalibratedImage`.
    """

    pixels: Callable[[slice, slice], tuple[FloatImage, FloatImage]]
    shape: tuple[int, int]
    wcs: "ImageWcs"
    psf: PsfModel
    zeropoint_mag: float
    gain: float
    transparency_error: FloatArray = field(default_factory=no_error)


def direct_table(
    image: DirectImage,
    identity: Identity,
    side: str,
    candidate_ids: Sequence[str],
    ra_deg: FloatArray,
    dec_deg: FloatArray,
    settings: DetectionSettings,
) -> pa.Table:
    """Measure candidates on one image and return the table DIRECT_PHOTOMETRY.

    The median of an annulus around each is subtracted first, because the sky model of an image with many faint sources
    is too high, and its error, :data:`BACKGROUND_ERROR`, is a part of the flux's.

    Parameters
    ----------
    image
        The image.
    identity
        Exposure and CCD of the image.
    side
        ``search`` or ``template``.
    candidate_ids
        (n,) names.
    ra_deg, dec_deg
        (n,) positions; those outside the image are omitted from the table.
    settings
        Radius of the fit, as on the difference.
    """
    ny, nx = image.shape
    x, y = image.wcs.sky_to_pixel(ra_deg, dec_deg)
    inside = np.flatnonzero((x > -0.5) & (y > -0.5) & (x < nx - 0.5) & (y < ny - 0.5))
    half = settings.stamp_half_width + MARGIN
    flux, error, masked_share, light = (np.full(inside.size, np.nan) for _ in range(4))
    for k, number in enumerate(inside.tolist()):
        x0, y0 = (max(round(float(p)) - half, 0) for p in (x[number], y[number]))
        window = slice(y0, min(y0 + 2 * half + 1, ny)), slice(x0, min(x0 + 2 * half + 1, nx))
        science, weight = image.pixels(*window)
        origin = (image.psf.origin[0] - x0, image.psf.origin[1] - y0)
        place = (np.array([x[number] - x0]), np.array([y[number] - y0]))
        psf = replace(image.psf, origin=origin)
        background = np.full_like(science, _background(science, weight, *place, RING_FWHM * psf.fwhm_pixels))
        measured = forced_fluxes(science - background, weight, psf, *place, image.gain, settings)
        flux[k], error[k], masked_share[k] = (values[0] for values in measured)
        light[k] = forced_fluxes(background, weight, psf, *place, image.gain, settings)[0][0]
    error = np.hypot(error, at_places(image.transparency_error, x[inside], y[inside]) * flux)
    error = np.hypot(error, BACKGROUND_ERROR * light)
    forced = ForcedFluxes(flux, error, masked_share > settings.max_masked_fraction)
    columns = identity.columns(inside.size) | {
        "candidate_id": [candidate_ids[number] for number in inside.tolist()],
        "mjd": np.full(inside.size, identity.mjd),
        "side": [side] * inside.size,
    }
    return make_table(columns | photometry_columns(forced, image.zeropoint_mag), DIRECT_PHOTOMETRY)


def _background(science: FloatImage, weight: FloatImage, x: FloatArray, y: FloatArray, inner: float) -> np.float32:
    """Return the median of the good pixels beyond a radius: the residual of the sky model."""
    rows, columns = np.ogrid[: science.shape[0], : science.shape[1]]
    ring = (np.hypot(rows - y[0], columns - x[0]) > inner) & (weight > 0)
    return np.float32(np.median(science[ring])) if ring.sum() >= MIN_RING else np.float32(0.0)
