"""Forced photometry of all candidates of a night on one difference image, and on its search and template images."""

from typing import Any

import numpy as np
import pyarrow as pa

from blocks.site import Site
from imaging.difference.direct import DirectImage, direct_table
from imaging.difference.forced import forced_table
from imaging.difference.records import Identity
from imaging.difference.settings import SearchSettings
from imaging.exposure import exposure_from_header
from imaging.foreign.cards import LONG_RANGE_CARD
from imaging.identity import ExposureId
from imaging.image import CalibratedImage, CcdImage, no_error
from imaging.io.candidates import read_candidates
from imaging.io.images import read_cutout, read_header, read_planes
from imaging.io.psf import read_psf
from imaging.io.tables import write_table
from imaging.photometry.transparency import ERROR_PLANE
from imaging.schemas.difference import DIRECT_PHOTOMETRY
from imaging.tables import column
from imaging.wcs.tpv import TpvWcs
from tasks.choose_templates import subtracted_epochs
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.products import product_inputs, read_summary, summary_path
from tasks.steps import FORCED_PHOTOMETRY


def forced_photometry_job(
    search: ExposureId, ccd: int, season: int, associated: StepResult, site: Site, settings: SearchSettings
) -> StepJob:
    """Plan the forced photometry on one difference image.

    Parameters
    ----------
    search, ccd, season
        Search exposure, CCD number and season of the difference image.
    associated
        Result of the night's association.
    site, settings
        Site and settings.

    Raises
    ------
    CcdError
        If the CCD has no difference image (reason ``no_product``).
    """
    job = StepJob(exposure=search, ccd=ccd, season=season, site=site, settings=settings)
    suffixes = {"image": "diff.fits", "psf": "diffpsf.fits", "template": "template.fits"}
    inputs = product_inputs(job, suffixes, "difference") | {"candidates": associated.products["candidates"]}
    epochs, epoch_inputs = _epochs(job)
    return job.model_copy(update={"inputs": inputs | epoch_inputs, "parameters": {"epochs": epochs}})


def _epochs(job: StepJob) -> tuple[dict[str, dict[str, Any]], dict[str, FileRecord]]:
    """Return the search exposure and its subtracted templates by name, and the input files of each."""
    epochs: dict[str, dict[str, Any]] = {}
    inputs: dict[str, FileRecord] = {}
    members = [("search", job.exposure, job.ccd or 0)]
    members += [("template", exposure, ccd) for exposure, ccd in subtracted_epochs(job)]
    for number, (side, exposure, ccd) in enumerate(members):
        if exposure is None:
            continue
        name = f"epoch_{number:02d}"
        one = StepJob(exposure=exposure, ccd=ccd, site=job.site)
        inputs |= product_inputs(one, {f"{name}_image": "immask.fits"}, "calibrate")
        inputs |= product_inputs(one, {f"{name}_psf": "psf.fits"}, "measure")
        summary = read_summary(summary_path(exposure, job.site), exposure.expnum)
        epochs[name] = {"side": side, "ccd": ccd, "zeropoint_mag": summary.ccds[ccd]["zeropoint_mag"]}
    return epochs, inputs


@step(FORCED_PHOTOMETRY)
def forced_photometry(job: StepJob) -> StepResult:
    """Measure forced photometry of the candidates on one difference image."""
    planes, header = read_planes(job.input_path("image"), optional=(ERROR_PLANE,))
    image = CalibratedImage(
        pixels=CcdImage(planes["SCI"], planes["MSK"], planes["WGT"], header),
        wcs=TpvWcs.from_header(header),
        psf=read_psf(job.input_path("psf")),
        zeropoint_mag=float(header["MAGZERO"]),
        sky_electrons=float(header["SKYBRITE"]),
        saturation_electrons=float(header["SATURATE"]),
        label=job.input_path("image").name,
        transparency_error=planes.get(ERROR_PLANE, no_error()),
    )
    observed = exposure_from_header(header, image.label)
    identity = Identity(observed.expnum, observed.band, observed.night, job.ccd or 0, observed.mjd_mid)
    candidates = read_candidates(job.input_path("candidates"))
    table = forced_table(
        image,
        identity,
        candidates.column("candidate_id").to_pylist(),
        column(candidates, "ra").astype(np.float64),
        column(candidates, "dec").astype(np.float64),
        job.settings_as(SearchSettings).detection,
        read_planes(job.input_path("template"), ["FLX"])[0]["FLX"],
    )
    paths = job.product_paths(FORCED_PHOTOMETRY)
    write_table(paths["forced"], table)
    epochs = sorted(job.parameters["epochs"])
    write_table(
        paths["direct"], pa.concat_tables([DIRECT_PHOTOMETRY.empty_table(), *(_direct(job, e) for e in epochs)])
    )
    return job.result(paths, quality={"n_measured": table.num_rows, "n_epochs": len(epochs)})


def _direct(job: StepJob, name: str) -> pa.Table:
    """Measure the candidates on one search or template image, not subtracted."""
    epoch, path = job.parameters["epochs"][name], job.input_path(f"{name}_image")
    header = read_header(path)
    clouds = read_planes(path, (ERROR_PLANE,))[0] if "TRANSERR" in header else {}
    observed = exposure_from_header(header, path.name)
    share = np.float32(1.0 / float(header.get(LONG_RANGE_CARD, 1.0)))  # a stack's noise adds up over a star
    image = DirectImage(
        pixels=lambda y, x: (read_cutout(path, "SCI", y, x), read_cutout(path, "WGT", y, x) * share),
        shape=(int(header["NAXIS2"]), int(header["NAXIS1"])),
        wcs=TpvWcs.from_header(header),
        psf=read_psf(job.input_path(f"{name}_psf")),
        zeropoint_mag=float(epoch["zeropoint_mag"]),
        gain=float(header.get("GAIN", 1.0)),
        transparency_error=clouds.get(ERROR_PLANE, no_error()),
    )
    candidates = read_candidates(job.input_path("candidates"))
    return direct_table(
        image,
        Identity(observed.expnum, observed.band, observed.night, int(epoch["ccd"]), observed.mjd_mid),
        epoch["side"],
        candidates.column("candidate_id").to_pylist(),
        column(candidates, "ra").astype(np.float64),
        column(candidates, "dec").astype(np.float64),
        job.settings_as(SearchSettings).detection,
    )
