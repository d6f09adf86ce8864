"""Measure a CCD: source detection, astrometric solution, PSF model, catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.astrometry.fit import CcdAstrometry, Pairs, fit_ccd, pair_errors_mas
from imaging.astrometry.match import match_stars
from imaging.astrometry.reference import ReferenceStars, reference_at_epoch
from imaging.bits import NO_WEIGHT
from imaging.catalogue.build import REFERENCE_APERTURE, Sources, build_catalogue, find_sources, nullable
from imaging.catalogue.flags import CatalogueFlag
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.detector.distortion import seed_wcs
from imaging.errors import CcdError
from imaging.exposure import Exposure
from imaging.image import CcdImage
from imaging.measure.fwhm import estimate_fwhm
from imaging.measure.settings import MeasureSettings
from imaging.psf.fit import PsfFit, fit_psf
from imaging.psf.model import PsfModel
from imaging.psf.select import StarCandidates, select_psf_stars
from imaging.psf.shape import psf_ellipticity
from imaging.schemas.matches import ASTROMETRY_MATCHES
from imaging.tables import column, make_table, with_column
from imaging.timing import StepTimes
from imaging.wcs.tpv import TpvWcs, sky_to_plane

FloatArray = NDArray[np.float64]

BORDER_PIXELS = 12
"""Smallest distance of PSF stars from the border: the radius of the reference aperture."""

STELLAR_TOLERANCE = 0.25
"""Largest relative difference of a star's width from the seeing."""

EXTENDED_FACTOR = 1e-6
"""Factor on the brightness of extended sources in the ranking of stars."""

PEAK_ELECTRONS = 1e5
"""Charge at the peak of a star for which the change of the width is stated."""

MOST_TREND_ERROR = 0.33
"""Largest error of that change, per cent: a third of the limit of a green grade. With a larger one it is missing."""

UNUSABLE = CatalogueFlag.SATURATED | CatalogueFlag.DEBLENDED | CatalogueFlag.TRUNCATED
"""Sources with these flags are not used in the fits of WCS and PSF."""


@dataclass(frozen=True, eq=False)
class MeasuredCcd:
    """Results of the measurement of one CCD.

    Attributes
    ----------
    wcs
        World coordinates: the CCD's own solution, or the nominal ones if it failed.
    astrometry
        The CCD's own solution; None if it failed.
    astrometry_failure
        Why the solution failed, else None. The exposure's joint solution replaces it.
    psf
        PSF model and its fit.
    catalogue
        Columns of :data:`imaging.schemas.catalogue.CATALOGUE`.
    matches
        Columns of :data:`imaging.schemas.matches.ASTROMETRY_MATCHES`; empty without a match.
    quality
        Quality metrics, named as in :data:`imaging.schemas.quality.QUALITY`.
    times
        Seconds per step.
    """

    wcs: TpvWcs
    astrometry: CcdAstrometry | None
    astrometry_failure: CcdError | None
    psf: PsfFit
    catalogue: pa.Table
    matches: pa.Table
    quality: Mapping[str, float]
    times: StepTimes


def measure_ccd(
    image: CcdImage,
    exposure: Exposure,
    ccd: int,
    reference: pa.Table,
    settings: MeasureSettings,
    fwhm_pixels: float | None = None,
    *,
    nominal: TpvWcs | None = None,
    psf_model: PsfModel | None = None,
    pixel_scale_arcsec: float = PIXEL_SCALE_ARCSEC,
) -> MeasuredCcd:
    """Measure a sky-subtracted CCD with cosmic rays and streaks masked.

    Parameters
    ----------
    image
        Sky-subtracted pixels, final mask, and weight.
    exposure, ccd
        The exposure, whose pointing gives the nominal coordinates, and the CCD number.
    reference
        Reference stars around the CCD: columns of :data:`imaging.schemas.reference.REFERENCE_STARS`.
    settings
        Settings.
    fwhm_pixels
        Seeing, if known; otherwise it is estimated.
    nominal
        Coordinates to start from; None for those of the pointing.
    psf_model
        PSF, if known; otherwise it is fitted.
    pixel_scale_arcsec
        Side of a pixel.

    Raises
    ------
    CcdError
        If the CCD has too few stars to measure the seeing or the PSF, or too many sources. A failed astrometric match
        is recorded without an error, and the exposure's joint solution is used instead.
    """
    times = StepTimes()
    if fwhm_pixels is None:
        with times.step("seeing"):
            fwhm_pixels = estimate_fwhm(image.science, image.mask, settings).fwhm_pixels
    with times.step("sources"):
        sources = find_sources(image, fwhm_pixels, settings.catalogue)
    seed = nominal or seed_wcs(ccd, exposure.ra_deg, exposure.dec_deg)
    with times.step("astrometry"):
        stars = reference_at_epoch(reference, exposure.mjd_mid, settings.astrometry)
        astrometry, failure, matches = _solve_astrometry(
            *(sources, fwhm_pixels, stars, seed, exposure, ccd, image.shape, settings, pixel_scale_arcsec)
        )
    with times.step("psf"):
        known = None if psf_model is None else PsfFit(psf_model, np.zeros(0, np.bool_), np.zeros(0), 0.0)
        colour = _colours(sources, matches)
        psf = known or _model_psf(image, sources, fwhm_pixels, settings, colour, exposure.band)
    with times.step("catalogue"):
        wcs = astrometry.wcs if astrometry else seed
        catalogue = build_catalogue(image, sources, psf.model, wcs, exposure, ccd, settings.catalogue, colour)
    numbers = _quality(psf, astrometry, catalogue, image, pixel_scale_arcsec)
    return MeasuredCcd(wcs, astrometry, failure, psf, catalogue, _with_psf_errors(matches, catalogue), numbers, times)


def _solve_astrometry(
    sources: Sources,
    fwhm_pixels: float,
    stars: ReferenceStars,
    seed: TpvWcs,
    exposure: Exposure,
    ccd: int,
    shape: tuple[int, int],
    settings: MeasureSettings,
    pixel_scale_arcsec: float,
) -> tuple[CcdAstrometry | None, CcdError | None, pa.Table]:
    """Match and fit; a failure is returned, not raised."""
    options = settings.astrometry
    nearby = stars.select(_near_ccd(stars, seed, shape, options.search_radius_arcsec / pixel_scale_arcsec))
    xi, eta = sky_to_plane(nearby.ra, nearby.dec, *seed.crval)
    detected = np.stack(seed.pixel_to_plane(sources.centroids.x, sources.centroids.y), axis=-1) * 3600.0
    try:
        reference = np.stack([xi, eta], axis=-1) * 3600.0
        match = match_stars(detected, _brightness_of_stars(sources, fwhm_pixels), reference, nearby.g_mag, options)
        usable = sources.centroids.converged & ((sources.flags & int(UNUSABLE)) == 0)
        usable &= (sources.shapes.mask & int(NO_WEIGHT)) == 0
        keep = usable[match.detection] & nearby.good[match.reference]
        found, wanted = match.detection[keep], match.reference[keep]
        pairs = _pairs(sources, nearby, (xi, eta), found, wanted, seed)
        astrometry = fit_ccd(seed, pairs, shape, options)
    except CcdError as error:
        return None, error, ASTROMETRY_MATCHES.empty_table()
    return astrometry, None, _match_table(sources, nearby, found, wanted, astrometry, exposure, ccd)


def _brightness_of_stars(sources: Sources, fwhm_pixels: float) -> FloatArray:
    """Return the fluxes of the sources, with extended ones ranked below all stars: they match no reference star."""
    saturated = (sources.flags & int(CatalogueFlag.SATURATED)) != 0
    stellar = saturated | (np.abs(sources.fwhm_pixels / fwhm_pixels - 1.0) < STELLAR_TOLERANCE)
    return np.where(stellar, 1.0, EXTENDED_FACTOR) * sources.shapes.flux


def _near_ccd(stars: ReferenceStars, seed: TpvWcs, shape: tuple[int, int], margin: float) -> NDArray[np.bool_]:
    """Return which stars may be on the CCD for any pointing error within the search radius, in pixels."""
    xi, eta = sky_to_plane(stars.ra, stars.dec, *seed.crval)
    ahead = np.isfinite(xi) & (np.hypot(xi, eta) < 3.0)
    x, y = np.full(len(stars), -np.inf), np.full(len(stars), -np.inf)
    x[ahead], y[ahead] = seed.plane_to_pixel(xi[ahead], eta[ahead])
    return (np.abs(x - shape[1] / 2) < shape[1] / 2 + margin) & (np.abs(y - shape[0] / 2) < shape[0] / 2 + margin)


def _pairs(
    sources: Sources,
    stars: ReferenceStars,
    plane: tuple[FloatArray, FloatArray],
    found: NDArray[np.int64],
    wanted: NDArray[np.int64],
    seed: TpvWcs,
) -> Pairs:
    centroids = sources.centroids
    x, y = centroids.x[found], centroids.y[found]
    errors = pair_errors_mas(
        seed,
        x,
        y,
        (centroids.x_error[found], centroids.y_error[found]),
        (stars.ra_error_mas[wanted], stars.dec_error_mas[wanted]),
    )
    return Pairs(x, y, plane[0][wanted], plane[1][wanted], *errors, sources.snr[found])


def _match_table(
    sources: Sources,
    stars: ReferenceStars,
    found: NDArray[np.int64],
    wanted: NDArray[np.int64],
    astrometry: CcdAstrometry,
    exposure: Exposure,
    ccd: int,
) -> pa.Table:
    n, centroids = found.size, sources.centroids
    columns = {
        "expnum": np.full(n, exposure.expnum, np.int64),
        "band": [exposure.band] * n,
        "night": np.full(n, exposure.night, np.int32),
        "ccd": np.full(n, ccd, np.int16),
        "source_id": stars.source_id[wanted],
        "number": (found + 1).astype(np.int32),
        "x": centroids.x[found],
        "y": centroids.y[found],
        "x_error": nullable(centroids.x_error[found]),
        "y_error": nullable(centroids.y_error[found]),
        "ra": stars.ra[wanted],
        "dec": stars.dec[wanted],
        "ra_error_mas": nullable(stars.ra_error_mas[wanted]),
        "dec_error_mas": nullable(stars.dec_error_mas[wanted]),
        "snr": nullable(sources.snr[found]),
        "colour_mag": nullable(stars.colour_mag[wanted]),
        "used": astrometry.used,
    }
    return make_table(columns, ASTROMETRY_MATCHES)


def _with_psf_errors(matches: pa.Table, catalogue: pa.Table) -> pa.Table:
    """Return matches with the errors of centroids that follow from the PSF, larger for images that are not the PSF.

    The errors of the catalogue are those of photons under the window, by the slopes of the PSF. Most centroids that are
    wrong by many of them are those of stars with a neighbour within a FWHM that was not detected (87 % in a crowded
    field). They are multiplied by the root of the reduced chi-square of the PSF fit where it exceeds one.
    """
    rows = column(matches, "number") - 1
    larger = np.sqrt(np.fmax(column(catalogue, "chi2_psf")[rows].astype(np.float64), 1.0))
    for name in ("x_error", "y_error"):
        matches = with_column(matches, name, column(catalogue, name)[rows] * larger)
    return matches


def _colours(sources: Sources, matches: pa.Table) -> FloatArray:
    """Return BP - RP of the sources that are matched to reference stars, NaN of the others: (n,) magnitudes."""
    colour = np.full(len(sources), np.nan)
    colour[column(matches, "number") - 1] = column(matches, "colour_mag").astype(np.float64)
    return colour


def _model_psf(
    image: CcdImage,
    sources: Sources,
    fwhm_pixels: float,
    settings: MeasureSettings,
    colour_mag: FloatArray,
    band: str,
) -> PsfFit:
    chosen = select_psf_stars(psf_candidates(image, sources), settings.psf, fwhm_pixels)
    centroids = sources.centroids
    return fit_psf(
        image.science,
        image.weight,
        sources.detections.segmentation,
        centroids.x[chosen],
        centroids.y[chosen],
        sources.apertures.flux[chosen, REFERENCE_APERTURE],
        fwhm_pixels,
        settings.psf,
        colour_mag[chosen],
        band,
    )


def psf_candidates(image: CcdImage, sources: Sources) -> StarCandidates:
    """Return the input of the PSF star selection."""
    ny, nx = image.shape
    x, y = sources.centroids.x, sources.centroids.y
    flux = sources.apertures.flux
    inside = (x > BORDER_PIXELS) & (x < nx - BORDER_PIXELS) & (y > BORDER_PIXELS) & (y < ny - BORDER_PIXELS)
    clean = inside & sources.centroids.converged & (sources.shapes.mask == 0)
    clean &= (sources.flags & int(UNUSABLE)) == 0
    small, large = flux[:, 1], flux[:, 4]
    positive = (small > 0) & (large > 0)
    ratio = np.divide(large, small, out=np.full(len(sources), np.nan), where=positive)
    return StarCandidates(
        x=x,
        y=y,
        flux=flux[:, REFERENCE_APERTURE],
        snr=sources.snr,
        fwhm_pixels=sources.fwhm_pixels,
        concentration_mag=2.5 * np.log10(ratio),
        ellipticity=1.0 - sources.shapes.b / sources.shapes.a,
        clean=clean,
        neighbour_fraction=sources.apertures.neighbour_fraction,
    )


def _quality(
    psf: PsfFit,
    astrometry: CcdAstrometry | None,
    catalogue: pa.Table,
    image: CcdImage,
    pixel_scale_arcsec: float,
) -> Mapping[str, float]:
    trend, trend_error = (100.0 * PEAK_ELECTRONS * each for each in (psf.peak_trend, psf.peak_trend_error))
    quality = {
        "fwhm_arcsec": psf.model.fwhm_pixels * pixel_scale_arcsec,
        "ellipticity": psf_ellipticity(psf.model),
        "n_sources": float(catalogue.num_rows),
        "n_psf_stars": float(psf.model.n_stars),
        "psf_chi2": psf.model.chi2,
        "psf_peak_trend_percent": trend if trend_error < MOST_TREND_ERROR else float("nan"),
        "psf_peak_trend_error_percent": trend_error,
        "masked_fraction": float(np.mean(image.weight <= 0.0)),
        "n_astrometry": 0.0,
    }
    if astrometry is not None:
        quality |= {
            "n_astrometry": float(astrometry.n_used),
            "astrometry_rms_mas": float(np.hypot(*astrometry.rms_mas) / np.sqrt(2.0)),
            "astrometry_chi2": astrometry.chi2,
        }
    return MappingProxyType(quality)
