"""Describe calibration files as inputs of steps."""

from pathlib import Path

from blocks.site import Site
from imaging.exposure import Exposure
from imaging.io.calibrations import CalibrationLibrary, Kind
from tasks.fingerprints import fingerprint
from tasks.records import FileRecord


def calibration_record(site: Site, library: CalibrationLibrary, path: Path) -> FileRecord:
    """Describe a calibration file; its content hash is the manifest's where the manifest states one."""
    known = library.recorded_checksum(path)
    return FileRecord.of(site, path, known_hash=known) if known else fingerprint(site, path)


def optional_calibration(
    site: Site,
    library: CalibrationLibrary,
    kind: Kind,
    exposure: Exposure,
    ccd: int,
    *,
    epoch: str | None = None,
) -> dict[str, FileRecord]:
    """Describe a calibration that a step can do without: its kind to its file, or nothing."""
    if not library.holds(kind, exposure, epoch=epoch):
        return {}
    return {kind: calibration_record(site, library, library.find(kind, exposure, ccd, epoch=epoch))}
