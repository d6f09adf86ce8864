"""Force photometry at every candidate of the night on one difference, found there or not."""

import numpy as np

from blocks.site import Site
from imaging.difference.chain import SearchSettings
from imaging.difference.forced import forced_table
from imaging.difference.records import Identity
from imaging.exposure import exposure_from_header
from imaging.identity import ExposureId
from imaging.image import CalibratedImage, CcdImage
from imaging.io.candidates import read_candidates
from imaging.io.images import read_planes
from imaging.io.psf import read_psf
from imaging.io.tables import column, write_table
from imaging.wcs.tpv import TpvWcs
from tasks.products import product_inputs
from tasks.records import StepJob, StepResult
from tasks.seam import step


def force_job(
    search: ExposureId, ccd: int, season: int, associated: StepResult, site: Site, settings: SearchSettings
) -> StepJob:
    """Plan the forced photometry on one difference.

    Parameters
    ----------
    search, ccd, season
        Which difference.
    associated
        Result of the night's association.
    site, settings
        Where and how.

    Raises
    ------
    CcdError
        If the CCD has not been subtracted (reason ``no_product``).
    """
    job = StepJob(exposure=search, ccd=ccd, season=season, site=site, settings=settings)
    suffixes = {"image": "diff.fits", "psf": "diffpsf.fits", "template": "template.fits"}
    inputs = product_inputs(job, suffixes, "difference") | {"candidates": associated.products["candidates"]}
    return job.model_copy(update={"inputs": inputs})


@step("force")
def force(job: StepJob) -> StepResult:
    """Measure the candidates that lie on one difference."""
    planes, header = read_planes(job.input_path("image"))
    image = CalibratedImage(
        pixels=CcdImage(planes["SCI"], planes["MSK"], planes["WGT"], header),
        wcs=TpvWcs.from_header(header),
        psf=read_psf(job.input_path("psf")),
        zeropoint_mag=float(header["MAGZERO"]),
        sky_electrons=float(header["SKYBRITE"]),
        saturation_electrons=float(header["SATURATE"]),
        label=job.input_path("image").name,
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
    path = job.product_path("forced.parquet")
    write_table(path, table)
    return job.result({"forced": path}, quality={"n_measured": table.num_rows})
