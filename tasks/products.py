"""Find products of earlier stages by their file names."""

import re
from collections.abc import Mapping

from blocks.site import Site
from imaging.errors import CcdError
from imaging.exposure import Exposure, exposure_from_header
from imaging.identity import ExposureId
from imaging.io.images import read_header
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import FileRecord
from tasks.jobs import StepJob


def ccds_with(exposure: ExposureId, site: Site, suffix: str) -> tuple[int, ...]:
    """Return the CCD numbers of an exposure that have a product with this suffix, sorted."""
    folder = site.store / exposure.folder
    name = re.compile(rf"D0*{exposure.expnum}_{exposure.band}_(\d+)_{exposure.rpnum}_{re.escape(suffix)}")
    matches = (name.fullmatch(path.name) for path in folder.glob(f"D*_{suffix}"))
    return tuple(sorted(int(match[1]) for match in matches if match))


def product_inputs(job: StepJob, suffixes: Mapping[str, str], made_by: str) -> dict[str, FileRecord]:
    """Describe the products of an earlier step as inputs of a job.

    Parameters
    ----------
    job
        A job with exposure and CCD.
    suffixes
        Name of the input to suffix of the product.
    made_by
        Name of the step that writes them, for the message.

    Raises
    ------
    CcdError
        If a product does not exist (reason ``no_product``).
    """
    inputs = {}
    for name, suffix in suffixes.items():
        path = job.product_path(suffix)
        try:
            inputs[name] = fingerprint(job.site, path)
        except OSError as error:
            raise CcdError(
                f"a product of the step {made_by} is missing",
                reason="no_product",
                expnum=job.expnum,
                ccd=job.ccd,
                value=path.name,
                remedy=f"process the CCD up to {made_by} first",
            ) from error
    return inputs


def observed_exposure(job: StepJob, suffix: str) -> Exposure:
    """Read the exposure from the header of a CCD's image product.

    Raises
    ------
    StorageError
        If the product is missing or damaged.
    """
    path = job.product_path(suffix)
    return exposure_from_header(read_header(path), str(path))
