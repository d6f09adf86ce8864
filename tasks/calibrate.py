"""Calibrate a CCD: final coordinates, streaks predicted from its neighbours, and its own zero point."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from blocks.site import Site
from imaging.astrometry.reference import reference_at_epoch
from imaging.astrometry.solution import BETTER_IN_CATALOGUE, TiedCcd
from imaging.errors import StorageError
from imaging.exposure import Exposure, exposure_from_header
from imaging.foreign.cards import FILE_GAIN, GIVEN_ZEROPOINT
from imaging.foreign.noise import CORRELATION
from imaging.identity import ExposureId
from imaging.image import CcdImage, ResamplingInputs
from imaging.io.colour_terms import COLOUR_TERMS, read_colour_terms
from imaging.io.images import read_planes, write_planes
from imaging.io.keywords import COLOUR_SLOPE
from imaging.io.psf import read_psf
from imaging.io.reference import read_reference_cone
from imaging.io.tables import read_table, write_table
from imaging.measure.clean import mask_streaks
from imaging.photometry.cascade import GAIA, cascade_magnitudes
from imaging.photometry.colours import (
    REFERENCE_COLOUR_MAG,
    BandMagnitudes,
    ColourTerms,
    band_magnitudes,
    gaia_release,
    published_colour_terms,
)
from imaging.photometry.expected_colours import source_colours
from imaging.photometry.match import match_reference
from imaging.photometry.settings import CalibrationSettings, PhotometrySettings
from imaging.photometry.transparency import (
    ERROR_PLANE,
    Transparency,
    final_catalogue,
    scaled_fluxes,
    without_clouds,
)
from imaging.photometry.zeropoint import CcdZeropoint, solve_ccd
from imaging.quantise import image_steps
from imaging.schemas.reference import CALIBRATED_STARS
from imaging.tables import column, with_column, with_facts
from imaging.templates.resampling_inputs import make_resampling_inputs, resampling_planes
from imaging.timing import StepTimes
from imaging.wcs.header import corner_keywords
from imaging.wcs.sphere import footprint, polygon_centre, separation_deg
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.measure import reference_inputs
from tasks.products import observed_exposure, product_inputs
from tasks.raw_files import find_raw
from tasks.steps import CALIBRATE
from tasks.tie_astrometry import read_ccd_tie

ADOPTED_ZEROPOINT = (
    "MAGZERO is from the stars of this CCD alone. The adopted zero point, from all CCDs of the exposure, is in its "
    "table zeropoints.parquet."
)
"""Comment in the header of final images, which are written before the zero points of the exposure are solved."""

POSITIONS = (
    "ra and dec contain the turbulence between reference stars, the refraction of stars by their colours (estimated "
    "from G and the flux where the reference has none) and, "
    "where the image states PIXDISP, tree rings and edges: better than the image header's coordinates"
)
"""Fact about the final catalogue."""

COLOUR = (
    f"fluxes are those in the passband of the CCD; zero points hold for BP - RP = {REFERENCE_COLOUR_MAG:g} where the "
    "image states COLSLOPE, by which they change per mag of BP - RP, and else for the mean colour of reference stars"
)
"""Fact about the final catalogue."""

MARGIN_DEG = 0.005
"""Margin around a CCD within which reference stars are read, degrees."""


def calibrate_job(exposure: ExposureId, ccd: int, site: Site, settings: CalibrationSettings) -> StepJob:
    """Plan the calibration of one CCD from the products of ``measure`` and ``tie_astrometry``.

    Raises
    ------
    CcdError
        If one of these products is missing (reason ``no_product``).
    """
    job = StepJob(exposure=exposure, ccd=ccd, site=site, settings=settings)
    inputs = product_inputs(job, {"image": "measured.fits", "catalogue": "cat.parquet"}, "measure")
    inputs |= product_inputs(job, {"tie": "tie.json"}, "tie_astrometry")
    if job.product_path("psf.fits").is_file():
        inputs |= product_inputs(job, {"psf": "psf.fits"}, "measure")
    observed = _observed(job, exposure)
    for catalogue in (GAIA, *_surveys(site, settings.photometry, exposure.band)):
        inputs |= reference_inputs(site, observed, ccd, 0.0, catalogue)
    colour_terms = site.calibrations / COLOUR_TERMS
    if colour_terms.is_file():
        inputs["colour_terms"] = fingerprint(site, colour_terms)
    return job.model_copy(update={"inputs": inputs})


def _observed(job: StepJob, exposure: ExposureId) -> Exposure:
    """Return the exposure as its measured image states it or, if that was removed, its final image or raw file."""
    if job.product_path("measured.fits").is_file():
        return observed_exposure(job, "measured.fits")
    with suppress(StorageError):
        return observed_exposure(job, "immask.fits")
    return find_raw(job.site, exposure).exposure


def _surveys(site: Site, settings: PhotometrySettings, band: str) -> list[str]:
    """Return the photometric surveys that the settings prefer in a band and that the site has."""
    wanted = [name for name in settings.preferred(band) if name != GAIA]
    return [name for name in wanted if (site.reference / name / "partition_info.csv").is_file()]


@step(CALIBRATE)
def calibrate(job: StepJob) -> StepResult:
    """Write the final image of one CCD with coordinates and mask, and match its stars to the reference catalogue."""
    settings = job.settings_as(CalibrationSettings)
    times = StepTimes()
    with times.step("read"):
        planes, header = read_planes(job.input_path("image"), optional=(CORRELATION,))
        catalogue = read_table(job.input_path("catalogue"))
        tied, streaks = read_ccd_tie(job.input_path("tie"))
    image = CcdImage(planes["SCI"], planes["MSK"], planes["WGT"], header)
    with times.step("coordinates"):
        mask_streaks(image, streaks)
        image, catalogue = without_areas(image, catalogue, tied)
        catalogue = place_sources(catalogue, tied, image.shape)
    with times.step("zero_point"):
        matches, own, pairs, clouds = _match(job, catalogue, tied, image, settings)
        catalogue = final_catalogue(catalogue, clouds)
        colours = source_colours(catalogue, pairs, settings.photometry)
        catalogue = place_sources(catalogue, tied, image.shape, colours)
        image = image if clouds is None else without_clouds(image, clouds)
    with times.step("resampling_inputs"):
        resampling_inputs = _resampling_inputs(job, image, settings)
    with times.step("write"):
        extra = {} if resampling_inputs is None else resampling_planes(resampling_inputs)
        extra |= {CORRELATION: planes[CORRELATION]} if CORRELATION in planes else {}
        extra |= {} if clouds is None else {ERROR_PLANE: clouds.error}
        products = _write(job, image, extra, tied, catalogue, matches, own)
    quality = {
        "own_zeropoint_mag": own.zeropoint_mag,
        "own_zeropoint_error_mag": own.zeropoint_error_mag,
        "scatter_mag": own.scatter_mag,
        "n_matched": own.n_matched,
        "n_used": own.n_used,
        "clouds_rms": 0.0 if clouds is None else clouds.rms,
        "clouds_error": 0.0 if clouds is None else clouds.error_rms,
        "unit_mag": 2.5 * math.log10(image.header.get(FILE_GAIN, 1.0)),
        "n_predicted_streaks": len(streaks),
        "astrometry_source": tied.source,
        "n_astrometry": tied.n_stars,
        "astrometry_rms_mas": _per_axis(tied.rms_mas),
    }
    return job.result(products, quality=quality, cpu_s=times.cpu_s)


def own_zeropoint(result: StepResult) -> CcdZeropoint:
    """Return the zero point of a CCD alone from the result of its calibration."""
    quality: dict[str, Any] = dict(result.quality)
    return CcdZeropoint(
        zeropoint_mag=quality["own_zeropoint_mag"],
        zeropoint_error_mag=quality["own_zeropoint_error_mag"],
        scatter_mag=quality["scatter_mag"],
        n_matched=quality["n_matched"],
        n_used=quality["n_used"],
    )


def without_areas(image: CcdImage, catalogue: pa.Table, tied: TiedCcd) -> tuple[CcdImage, pa.Table]:
    """Return image and catalogue with the fluxes of sources, not divided by the areas of the pixels in the flat."""
    if tied.displacement is None:
        return image, catalogue
    x, y = (column(catalogue, name).astype(np.float64) for name in ("x", "y"))
    return tied.displacement.times_area(image), scaled_fluxes(catalogue, tied.displacement.area(x, y))


def place_sources(
    catalogue: pa.Table, tied: TiedCcd, shape: tuple[int, int], colour_mag: NDArray[np.float64] | None = None
) -> pa.Table:
    """Return a catalogue with positions from the exposure's solution, for the colours of its sources if given."""
    ra, dec = tied.sky(column(catalogue, "x"), column(catalogue, "y"), shape, colour_mag)
    return with_column(with_column(catalogue, "ra", ra), "dec", dec)


def _match(
    job: StepJob, catalogue: pa.Table, tied: TiedCcd, image: CcdImage, settings: CalibrationSettings
) -> tuple[pa.Table, CcdZeropoint, pa.Table, Transparency | None]:
    """Match the catalogue to the reference.

    Returns
    -------
    matches, own
        Matches to stars with a magnitude in the band, with a flag for those used, and the CCD's own zero point.
    pairs
        Matches to all stars, whatever their colours.
    clouds
        Transparency over the CCD; None where it does not vary.
    """
    observed = exposure_from_header(image.header, str(job.input_path("image")))
    corners = footprint(tied.wcs(), image.shape[1], image.shape[0])
    centre = polygon_centre(corners)
    radius = float(separation_deg(*centre, corners[:, 0], corners[:, 1]).max()) + MARGIN_DEG
    stars = read_reference_cone(job.site.reference / GAIA, *centre, radius)
    terms = _colour_terms(job, stars)
    reference = reference_at_epoch(stars, observed.mjd_mid, settings.astrometry)
    surveys = {
        name: read_reference_cone(job.site.reference / name, *centre, radius, CALIBRATED_STARS)
        for name in _surveys(job.site, settings.photometry, observed.band)
    }
    preferred = settings.photometry.preferred(observed.band)
    from_gaia = band_magnitudes(stars, observed.band, terms)
    magnitudes = cascade_magnitudes(stars, from_gaia, surveys, preferred, observed.band)
    matches = match_reference(catalogue, reference, magnitudes, settings.photometry)
    n = len(reference)
    everything = BandMagnitudes(reference.g_mag, np.zeros(n), np.zeros(n, bool))
    pairs = match_reference(catalogue, reference, everything, settings.photometry)
    slope = float(image.header.get(COLOUR_SLOPE, 0.0))
    own, matches, clouds = solve_ccd(matches, image.shape, settings.photometry, slope)
    if GIVEN_ZEROPOINT in image.header:
        given, error = float(image.header[GIVEN_ZEROPOINT]), settings.photometry.error_floor_mag
        own = replace(own, zeropoint_mag=given, zeropoint_error_mag=error, scatter_mag=own.scatter_mag or 0.0)
    return matches, own, pairs, clouds


def _colour_terms(job: StepJob, stars: pa.Table) -> ColourTerms:
    """Return the colour terms of the library; if it has none, those shipped for the Gaia release of the stars."""
    if "colour_terms" in job.inputs:
        return read_colour_terms(job.input_path("colour_terms"))
    return published_colour_terms(gaia_release(stars))


def _per_axis(rms_mas: tuple[float, float] | None) -> float | None:
    return None if rms_mas is None else float(np.hypot(*rms_mas) / np.sqrt(2.0))


def _resampling_inputs(job: StepJob, image: CcdImage, settings: CalibrationSettings) -> ResamplingInputs | None:
    """Compute the resampling inputs of the final image, used by every difference; None for products without PSF."""
    if "psf" not in job.inputs:
        return None
    saturation = float(image.header.get("SATURATE", np.inf))
    return make_resampling_inputs(image, read_psf(job.input_path("psf")), saturation, settings.resampling_inputs)


def _write(
    job: StepJob,
    image: CcdImage,
    extra: Mapping[str, NDArray[Any]],
    tied: TiedCcd,
    catalogue: pa.Table,
    matches: pa.Table,
    own: CcdZeropoint,
) -> dict[str, Path]:
    paths = job.product_paths(CALIBRATE)
    wcs = tied.wcs()
    header = image.header | wcs.to_header() | corner_keywords(wcs, image.shape)
    header |= {"SCAMPNUM": tied.n_stars, "SCAMPREF": "GAIA", "SCAMPFLG": 0 if tied.source == "own" else 1}
    header |= {"ASTRRMS": _per_axis(tied.rms_mas), "ASTRRMSC": _per_axis(tied.left_out_rms_mas)}
    if tied.displacement is not None:
        header["PIXDISP"] = (tied.displacement.name, "taken from catalogue positions, and from fluxes")
    header["MAGZERO"] = (own.zeropoint_mag, "[mag] of one electron, by the CCD's own stars")
    if COLOUR_SLOPE in header:
        header["COLREF"] = REFERENCE_COLOUR_MAG
    planes: dict[str, NDArray[Any]] = {"SCI": image.science, "MSK": image.mask, "WGT": image.weight, **extra}
    comments = [BETTER_IN_CATALOGUE, ADOPTED_ZEROPOINT]
    write_planes(paths["image"], planes, header, pack=True, steps=image_steps(image.weight), comments=comments)
    write_table(paths["catalogue"], with_facts(catalogue, {"POSITIONS": POSITIONS, "COLOUR": COLOUR}))
    write_table(paths["zero_point_matches"], matches)
    return paths
