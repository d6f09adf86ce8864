"""Build a CCD's source catalogue: detection and shapes, then PSF photometry, then the table."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.bits import MaskBit
from imaging.catalogue.apertures import AperturePhotometry, aperture_photometry
from imaging.catalogue.detect import Detections, detect
from imaging.catalogue.flags import CatalogueFlag
from imaging.catalogue.psf_photometry import PsfPhotometry, psf_photometry
from imaging.catalogue.settings import CatalogueSettings
from imaging.catalogue.shapes import Centroids, Shapes, core_widths, isophotal_shapes, windowed_centroids
from imaging.exposure import Exposure
from imaging.image import CcdImage
from imaging.psf.colour import flux_factor
from imaging.psf.model import PsfModel
from imaging.schemas.catalogue import CATALOGUE
from imaging.tables import column, make_table
from imaging.wcs.tpv import TpvWcs

FloatArray = NDArray[np.float64]

SNR_APERTURE = 3
"""Index of the aperture of 7.41 pixels, used for the signal to noise of a source."""

REFERENCE_APERTURE = 7
"""Index of the reference aperture of PSF and zero point, 22.22 pixels."""

NEIGHBOUR_LIMIT = 0.1
"""Largest fraction of the AUTO ellipse occupied by neighbours without a flag (SExtractor)."""


@dataclass(frozen=True, eq=False)
class Sources:
    """Sources of an image with all measurements that need neither PSF nor coordinates.

    Attributes
    ----------
    detections, shapes, centroids, apertures
        Results of the steps, one entry per source.
    fwhm_pixels
        (n,) float64, widths of the cores; NaN if not measurable.
    flags
        (n,) int16, bits of :class:`imaging.catalogue.flags.CatalogueFlag`.
    window_pixels
        Full width at half maximum of the centroids' window.
    """

    detections: Detections
    shapes: Shapes
    centroids: Centroids
    apertures: AperturePhotometry
    fwhm_pixels: FloatArray
    flags: NDArray[np.int16]
    window_pixels: float

    def __len__(self) -> int:
        return len(self.detections)

    @property
    def snr(self) -> FloatArray:
        """(n,) signal to noise in an aperture of 7.41 pixels."""
        return self.apertures.flux[:, SNR_APERTURE] / self.apertures.flux_error[:, SNR_APERTURE]


def find_sources(
    image: CcdImage, fwhm_pixels: float, settings: CatalogueSettings, *, n_apertures: int | None = None
) -> Sources:
    """Detect the sources of an image and measure everything that needs no PSF.

    Parameters
    ----------
    image
        Sky-subtracted pixels with mask and weight.
    fwhm_pixels
        Seeing.
    settings
        Settings.
    n_apertures
        As in :func:`imaging.catalogue.apertures.aperture_photometry`.

    Raises
    ------
    CcdError
        If there are too many sources to separate.
    """
    detections = detect(image, fwhm_pixels, settings)
    shapes = isophotal_shapes(image, detections)
    centroids = windowed_centroids(image, detections, shapes, fwhm_pixels)
    apertures = aperture_photometry(image, detections, shapes, centroids, settings, n_apertures)
    widths = core_widths(
        image.science, image.weight, centroids.x, centroids.y, shapes.peak, int(np.ceil(2.5 * fwhm_pixels))
    )
    flags = _flags(detections, shapes, apertures)
    return Sources(detections, shapes, centroids, apertures, widths, flags, fwhm_pixels)


def _flags(detections: Detections, shapes: Shapes, apertures: AperturePhotometry) -> NDArray[np.int16]:
    flags = np.zeros(len(detections), np.int16)
    for bit, condition in (
        (CatalogueFlag.NEIGHBOURS, apertures.neighbour_fraction > NEIGHBOUR_LIMIT),
        (CatalogueFlag.DEBLENDED, detections.deblended),
        (CatalogueFlag.SATURATED, (shapes.mask & int(MaskBit.SATURATE)) != 0),
        (CatalogueFlag.TRUNCATED, apertures.truncated),
        (CatalogueFlag.APERTURE_INCOMPLETE, apertures.missing_fraction > 0.0),
    ):
        flags[condition] |= np.int16(bit)
    return flags


def build_catalogue(
    image: CcdImage,
    sources: Sources,
    psf: PsfModel,
    wcs: TpvWcs,
    exposure: Exposure,
    ccd: int,
    settings: CatalogueSettings,
    colour_mag: FloatArray | None = None,
) -> pa.Table:
    """Measure the PSF fluxes of all sources and build the catalogue.

    Parameters
    ----------
    image
        Sky-subtracted pixels.
    sources
        Result of the detection.
    psf, wcs
        Point-spread function and coordinates.
    exposure, ccd
        Identity of the rows.
    settings
        Settings.
    colour_mag
        (n,) BP - RP of the sources, NaN if unknown, for PSF fluxes without a trend with colour; None if all are.

    Returns
    -------
    catalogue
        Columns of :data:`imaging.schemas.catalogue.CATALOGUE`, in the order of detection.
    """
    places = (sources.centroids.x, sources.centroids.y)
    photometry = psf_photometry(image, psf, *places, sources.shapes.flux, settings, sources.window_pixels)
    if colour_mag is not None:
        factor = flux_factor(psf, settings.psf_fit_radius_fwhm * psf.fwhm_pixels, colour_mag)
        photometry = replace(photometry, flux=photometry.flux * factor, flux_error=photometry.flux_error * factor)
    ra, dec = wcs.pixel_to_sky(photometry.x, photometry.y)
    return make_table(_columns(sources, photometry, ra, dec, exposure, ccd), CATALOGUE)


def _columns(
    sources: Sources, photometry: PsfPhotometry, ra: FloatArray, dec: FloatArray, exposure: Exposure, ccd: int
) -> dict[str, Any]:
    n = len(sources)
    shapes, apertures = sources.shapes, sources.apertures
    return {
        "expnum": np.full(n, exposure.expnum, np.int64),
        "band": [exposure.band] * n,
        "night": np.full(n, exposure.night, np.int32),
        "ccd": np.full(n, ccd, np.int16),
        "number": np.arange(1, n + 1, dtype=np.int32),
        "x": photometry.x,
        "y": photometry.y,
        "x_error": nullable(photometry.x_error),
        "y_error": nullable(photometry.y_error),
        "ra": ra,
        "dec": dec,
        "flux_psf": nullable(photometry.flux),
        "flux_psf_error": nullable(photometry.flux_error),
        "chi2_psf": nullable(photometry.chi2),
        "flux_auto": apertures.flux_auto.astype(np.float32),
        "flux_auto_error": apertures.flux_auto_error.astype(np.float32),
        "flux_aper": apertures.flux.astype(np.float32),
        "flux_aper_error": apertures.flux_error.astype(np.float32),
        "background": photometry.background.astype(np.float32),
        "a_image": shapes.a.astype(np.float32),
        "b_image": shapes.b.astype(np.float32),
        "theta_image": shapes.theta_deg.astype(np.float32),
        "kron_radius": apertures.kron_radius.astype(np.float32),
        "flux_radius": apertures.flux_radius.astype(np.float32),
        "fwhm_image": nullable(sources.fwhm_pixels),
        "isoarea": shapes.area.astype(np.int32),
        "peak": shapes.peak.astype(np.float32),
        "spread_model": nullable(photometry.spread_model),
        "spread_model_error": nullable(photometry.spread_model_error),
        "flags": sources.flags,
        "mask": shapes.mask,
    }


def nullable(values: FloatArray) -> pa.Array:
    """Return float32 values, null where not finite."""
    return pa.array(values.astype(np.float32), mask=~np.isfinite(values))


def place_on_sky(catalogue: pa.Table, wcs: TpvWcs) -> pa.Table:
    """Return a catalogue with ra and dec from another WCS, such as the exposure's joint solution.

    Parameters
    ----------
    catalogue
        Any table with columns x, y, ra, dec.
    wcs
        World coordinates of the CCD.
    """
    ra, dec = wcs.pixel_to_sky(column(catalogue, "x"), column(catalogue, "y"))
    for name, values in (("ra", ra), ("dec", dec)):
        index = catalogue.schema.get_field_index(name)
        catalogue = catalogue.set_column(index, catalogue.schema.field(name), pa.array(values))
    return catalogue
