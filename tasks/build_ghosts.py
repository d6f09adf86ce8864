"""Build the model of the ghosts of bright stars of a band from the final images of many exposures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from blocks.site import Site
from imaging.astrometry.reference import reference_at_epoch
from imaging.astrometry.settings import AstrometrySettings
from imaging.bits import MaskBit
from imaging.detector.ccds import NX, NY
from imaging.difference.ghost_model import GhostModel
from imaging.identity import ExposureId
from imaging.image import CcdImage
from imaging.io.ghosts import write_ghosts
from imaging.io.images import read_header, read_planes
from imaging.io.reference import partitions_in_cone, read_reference_cone
from imaging.masters.ghost_levels import SeenGhost, fitted_ghosts, with_rims
from imaging.masters.ghosts import StarBins, fields_on_ccd, fit_families
from imaging.masters.settings import GhostSettings
from imaging.masters.sky_modes import bin_sky
from imaging.tables import column
from imaging.timing import StepTimes
from imaging.wcs.tpv import TpvWcs
from tasks.calibration_files import master_path
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.step import step
from tasks.fitted_exposures import band_of
from tasks.jobs import StepJob
from tasks.products import read_summary, summary_path
from tasks.steps import FIT_GHOSTS

FIELD_DEG = 1.25
"""Radius of the cone of stars around the pointing of an exposure."""


def ghosts_job(
    exposures: Sequence[ExposureId], site: Site, epoch: str, settings: GhostSettings
) -> tuple[StepJob, tuple[int, ...]]:
    """Plan the fit of the ghosts of one band to the final images of verified exposures; also return their CCDs.

    Raises
    ------
    InputError
        If there are too few exposures, they are of several bands, or one has not been verified.
    """
    band = band_of(exposures, "a model of ghosts", settings.minimum_exposures)
    inputs: dict[str, FileRecord] = {}
    seen: dict[str, dict[str, Any]] = {}
    for exposure in exposures:
        summary = read_summary(summary_path(exposure, site), exposure.expnum)
        observed = summary.exposure
        for ccd in sorted(summary.usable):
            path = StepJob(exposure=exposure, ccd=ccd, site=site).product_path("immask.fits")
            inputs[f"{exposure.expnum}_{ccd:02d}"] = fingerprint(site, path)
        for path in partitions_in_cone(site.reference / "gaia", observed.ra_deg, observed.dec_deg, FIELD_DEG):
            inputs[f"gaia_{path.stem}"] = fingerprint(site, path)
        seen[str(exposure.expnum)] = {
            "pointing": [observed.ra_deg, observed.dec_deg],
            "mjd": observed.mjd_mid,
            "zeropoints_mag": {str(ccd): row["zeropoint_mag"] for ccd, row in sorted(summary.usable.items())},
        }
    parameters = {"epoch": epoch, "band": band, "exposures": seen}
    job = StepJob(topic=f"ghosts-{band}", site=site, inputs=inputs, settings=settings, parameters=parameters)
    return job, tuple(sorted({int(ccd) for about in seen.values() for ccd in about["zeropoints_mag"]}))


@step(FIT_GHOSTS)
def fit_ghosts(job: StepJob) -> StepResult:
    """Bin the images around bright stars, fit the families of their ghosts and write the model."""
    settings, times, band = job.settings_as(GhostSettings), StepTimes(), job.parameters["band"]
    images = [image for expnum in sorted(job.parameters["exposures"]) for image in _images(job, expnum, settings)]
    path = master_path(job.site, job.parameters["epoch"], "ghosts", 0, band)
    with times.step("bin"):
        fields = [found for image in images for found in image.fields(settings)]
    with times.step("fit"):
        model = GhostModel(name=path.name, band=band, families=fit_families(fields, settings))
    with times.step("rims"):
        model = with_rims(model, [image.ghosts(model) for image in images])
    families = model.families
    write_ghosts(path, model)
    quality = {"n_families": float(len(families)), "n_stars": float(len({field.star for field in fields}))}
    for number, family in enumerate(families):
        quality |= {f"{name}_{number}": value for name, value in family.model_dump().items()}
    return job.result({"ghosts": path}, quality=quality, cpu_s=times.cpu_s)


@dataclass(frozen=True, eq=False)
class _Image:
    """A final image with the numbers, positions and fluxes of the bright stars on and beside it."""

    path: Path
    wcs: TpvWcs
    stars: list[tuple[int, float, float, float]]

    @property
    def axis(self) -> tuple[float, float]:
        """Place of the optical axis, pixels."""
        return self.wcs.crpix[0] - 1.0, self.wcs.crpix[1] - 1.0

    def fields(self, settings: GhostSettings) -> list[StarBins]:
        """Return the surroundings of the stars; those in halos of bright stars belong to them."""
        planes, _ = read_planes(self.path, ["SCI", "MSK"])
        binned = bin_sky(planes["SCI"], planes["MSK"] & ~np.int16(MaskBit.STAR), settings.bin_pixels)
        scale = float(np.sqrt(self.wcs.pixel_area_arcsec2(NX / 2, NY / 2)))
        limits = settings.nearest_arcsec / scale, settings.largest_pixels
        return fields_on_ccd(binned, settings.bin_pixels, self.stars, self.axis, limits)

    def ghosts(self, model: GhostModel) -> list[SeenGhost]:
        """Return the ghosts that are seen."""
        planes, header = read_planes(self.path, ["SCI", "MSK", "WGT"])
        pixels = CcdImage(planes["SCI"], planes["MSK"], planes["WGT"], header)
        return fitted_ghosts(pixels, [star[1:] for star in self.stars], self.axis, model)


def _images(job: StepJob, expnum: str, settings: GhostSettings) -> list[_Image]:
    """Return the images of an exposure that have bright stars on or beside them."""
    about, images = job.parameters["exposures"][expnum], []
    ra, dec = about["pointing"]
    reference = read_reference_cone(job.site.reference / "gaia", ra, dec, FIELD_DEG)
    bright = reference.filter(pa.array(column(reference, "phot_g_mean_mag") < settings.faintest_mag))
    numbers = column(bright, "source_id").tolist()
    stars = reference_at_epoch(bright, about["mjd"], AstrometrySettings())
    for ccd, zeropoint_mag in about["zeropoints_mag"].items():
        path = job.input_path(f"{expnum}_{int(ccd):02d}")
        wcs = TpvWcs.from_header(read_header(path))
        x, y = wcs.sky_to_pixel(stars.ra, stars.dec)
        reach = settings.largest_pixels
        near = np.flatnonzero((x > -reach) & (y > -reach) & (x < NX + reach) & (y < NY + reach))
        flux = 10 ** (0.4 * (zeropoint_mag - stars.g_mag))
        if near.size:
            images.append(_Image(path, wcs, [(numbers[k], float(x[k]), float(y[k]), float(flux[k])) for k in near]))
    return images
