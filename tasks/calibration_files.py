"""Describe calibration files as inputs of steps."""

from pathlib import Path

from blocks.site import Site
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.io.calibrations import CalibrationLibrary
from imaging.io.manifest import Kind
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import FileRecord


def calibration_record(site: Site, library: CalibrationLibrary, path: Path) -> FileRecord:
    """Describe a calibration file, and check it against the checksum in the manifest, if there is one.

    Raises
    ------
    InputError
        If the checksum differs.
    """
    found, recorded = fingerprint(site, path), library.recorded_checksum(path)
    if recorded is not None and recorded != found.content_hash:
        raise InputError(
            "checksum of the calibration file differs from the manifest",
            value=f"{path}: checksum {found.content_hash}",
            limit=recorded,
            remedy="copy the file again, or record the new one in the manifest",
        )
    return found


def optional_calibration(
    site: Site,
    library: CalibrationLibrary,
    kind: Kind,
    exposure: Exposure,
    ccd: int,
    *,
    epoch: str | None = None,
) -> dict[str, FileRecord]:
    """Describe an optional calibration: its kind to its file; empty if there is none."""
    if not library.holds(kind, exposure, ccd, epoch=epoch):
        return {}
    return {kind: calibration_record(site, library, library.find(kind, exposure, ccd, epoch=epoch))}
