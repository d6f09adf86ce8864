"""Products of earlier steps: found by their file names, described as inputs, and read (quality numbers, summaries)."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from blocks.site import Site
from imaging.errors import CcdError, InputError, StorageError
from imaging.exposure import Exposure, exposure_from_header
from imaging.identity import ExposureId
from imaging.io.damage import reading
from imaging.io.images import read_header
from imaging.io.sealed import read_sealed, write_sealed
from imaging.schemas.quality import QUALITY
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import FileRecord, QualityValue, plain_quality
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


def observed_latest(exposures: Sequence[ExposureId], site: Site) -> Exposure:
    """Read the latest of calibrated exposures from the header of one of its final images.

    Raises
    ------
    InputError
        If it has not been calibrated.
    """
    latest, suffix = max(exposures, key=lambda who: who.night), "immask.fits"
    ccd = calibrated_ccds(latest, site, suffix)[0]
    return observed_exposure(StepJob(exposure=latest, ccd=ccd, site=site), suffix)


def calibrated_ccds(exposure: ExposureId, site: Site, suffix: str) -> tuple[int, ...]:
    """Return the CCDs of a calibrated exposure that have a product; raise ``InputError`` if none has it."""
    ccds = ccds_with(exposure, site, suffix)
    if not ccds:
        raise InputError(
            "the exposure has not been calibrated",
            expnum=exposure.expnum,
            remedy="run gw-workflow single-epoch --calibrate on it first",
        )
    return ccds


def write_quality(path: Path, quality: Mapping[str, Any]) -> Path:
    """Write quality numbers as JSON and return the path; NaN and infinities become null."""
    write_sealed(path, json.dumps(plain_quality(quality), indent=1, sort_keys=True) + "\n")
    return path


def read_quality(path: Path) -> dict[str, QualityValue]:
    """Read quality numbers.

    Raises
    ------
    StorageError
        If the file is missing or damaged.
    """
    remedy = "run the step that makes them again"
    with reading(path, "quality numbers missing or damaged", remedy, error=StorageError):
        return plain_quality(dict(json.loads(read_sealed(path))))


def quality_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Return the quality numbers of CCDs as a table of schema QUALITY; other numbers are left out."""
    names = QUALITY.names
    integers = {f.name for f in QUALITY if pa.types.is_integer(f.type)}
    clean = [
        {n: int(v) if n in integers and (v := row.get(n)) is not None else row.get(n) for n in names} for row in rows
    ]
    return pa.Table.from_pylist(clean, schema=QUALITY)


@dataclass(frozen=True, slots=True)
class ExposureSummary:
    """A verified exposure.

    Attributes
    ----------
    exposure
        The exposure.
    numbers
        Quality numbers of the exposure: ``t_eff``, ``depth_mag``, ``fwhm_arcsec``, ...; None if unknown.
    ccds
        CCD number to its ``status``, ``corners``, ``zeropoint_mag``, ``depth_mag`` and ``fwhm_arcsec``.
    """

    exposure: Exposure
    numbers: Mapping[str, Any]
    ccds: Mapping[int, Mapping[str, Any]]

    @property
    def usable(self) -> dict[int, Mapping[str, Any]]:
        """The CCDs that later stages may use: those with a zero point and a status other than bad."""
        good = {c: row for c, row in self.ccds.items() if row["status"] in ("good", "usable")}
        return {ccd: row for ccd, row in good.items() if row["zeropoint_mag"] is not None}


def summary_path(exposure: ExposureId, site: Site) -> Path:
    """Return the path of an exposure's summary."""
    return StepJob(exposure=exposure, site=site).product_path("summary.json")


def read_summary(path: Path, expnum: int | None = None) -> ExposureSummary:
    """Read the summary of a verified exposure.

    Raises
    ------
    InputError
        If the exposure has not been verified or the file is damaged.
    """
    if not path.exists():
        raise InputError(
            "the exposure has not been verified",
            expnum=expnum,
            value=path.name,
            remedy="process it with gw-workflow single-epoch -C first",
        )
    with reading(path, "summary of an exposure damaged", "verify the exposure again"):
        document = json.loads(read_sealed(path))
        known = {field.name: document["exposure"][field.name] for field in fields(Exposure)}
        known["airmass"] = math.nan if known["airmass"] is None else known["airmass"]
        return ExposureSummary(
            Exposure(**known), document["numbers"], {int(ccd): row for ccd, row in document["ccds"].items()}
        )
