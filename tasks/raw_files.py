"""Find the raw files of exposures, and cache the index of their contents."""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash
from pydantic import TypeAdapter

from blocks.site import Site, raw_path
from imaging.detector.status import working_ccds
from imaging.errors import GWWorkflowError, InputError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.checked import DAMAGE
from imaging.io.raw import RawExtension, RawIndex, index_raw, read_exposure
from imaging.io.sealed import read_sealed, write_sealed
from tasks.engine.jobs import FileRecord


@dataclass(frozen=True, slots=True)
class RawFile:
    """A raw file and the index of its contents.

    Attributes
    ----------
    path
        The file.
    index
        The exposure and its CCDs.
    """

    path: Path
    index: RawIndex

    @property
    def exposure(self) -> Exposure:
        """The exposure of the primary header."""
        return self.index.exposure

    def extension(self, ccd: int) -> RawExtension:
        """Return the extension of a CCD; if the file lacks it, a placeholder that raises the error when it is read."""
        absent = RawExtension(ccd, -1, "", "the raw file has no extension of this CCD")
        return self.index.extensions.get(ccd, absent)

    def record(self, site: Site, ccds: Iterable[int]) -> FileRecord:
        """Describe the file as an input of a step that reads only some of its CCDs.

        The content hash covers these CCDs and the primary header, so that a repaired copy of the file recomputes only
        the CCDs that changed.
        """
        status = self.path.stat()
        parts = [self.index.header_hash, *(f"{ccd}={self.extension(ccd).content_hash}" for ccd in sorted(ccds))]
        return FileRecord(
            path=site.name_of(self.path),
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            content_hash=xxhash.xxh3_128_hexdigest(";".join(parts).encode()),
        )


BIAS_KINDS, FLAT_KINDS = ("zero", "bias"), ("dome flat", "flat")
"""Values of OBSTYPE of calibration exposures, in lower case."""

QUIET_S = 10.0
"""Seconds since the last change of a file below which it may still be written."""

OLD_S = 600.0
"""Seconds since the last change of a file above which it counts as final, even if incomplete."""


def has_arrived(site: Site, exposure: ExposureId, *, quiet_s: float = QUIET_S) -> bool:
    """Whether the raw file of an exposure exists and is complete.

    Parameters
    ----------
    site, exposure
        Site and exposure.
    quiet_s
        Minimum time since the last change of the file, seconds.
    """
    path = raw_path(site, exposure)
    try:
        age_s = time.time() - path.stat().st_mtime
    except OSError:
        return False
    if age_s < quiet_s:
        return False
    try:
        return bool(find_raw(site, exposure))
    except GWWorkflowError:
        return False


def is_at_hand(site: Site, exposure: ExposureId) -> bool:
    """Whether the raw file of an exposure can be processed now: it is complete, or unchanged for :data:`OLD_S`."""
    try:
        age_s = time.time() - raw_path(site, exposure).stat().st_mtime
    except OSError:
        return False
    return age_s > OLD_S or has_arrived(site, exposure, quiet_s=0.0)


def find_raw(site: Site, exposure: ExposureId) -> RawFile:
    """Find the raw file of an exposure and check exposure number, night and band.

    Raises
    ------
    InputError
        If it is missing, unreadable, or of another exposure, night or band.
    """
    path = raw_path(site, exposure)
    raw = RawFile(path, _remembered_index(site, path))
    found = raw.exposure
    for what, asked, got in (
        ("exposure number", exposure.expnum, found.expnum),
        ("night", exposure.night, found.night),
        ("band", exposure.band, found.band),
    ):
        if asked != got:
            raise InputError(
                f"raw file of another {what}",
                expnum=exposure.expnum,
                value=f"{got} in {path}",
                limit=asked,
                remedy=f"process the {what} {got}, or replace the file",
            )
    return raw


def raw_of_kind(site: Site, night: int, kinds: Iterable[str]) -> list[RawFile]:
    """Return the raw files of a night with one of these observation types, in order of exposure number.

    Parameters
    ----------
    site, night
        Site and night, YYYYMMDD.
    kinds
        Values of OBSTYPE in lower case, such as ``zero`` or ``dome flat``.

    Raises
    ------
    InputError
        If a file is not readable, or is of another night.
    """
    wanted = set(kinds)
    found = [
        RawFile(path, _remembered_index(site, path))
        for path in sorted((site.raw / str(night)).glob("DECam_*.fits*"))
        if read_exposure(path).obstype.lower() in wanted
    ]
    for raw in found:
        if raw.exposure.night != night:
            raise InputError(
                "raw file of another night",
                expnum=raw.exposure.expnum,
                value=f"{raw.exposure.night} in {raw.path}",
                limit=night,
                remedy="move the file to the folder of its night",
            )
    return sorted(found, key=lambda raw: raw.exposure.expnum)


def ccds_to_process(raw: RawFile, asked: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the CCDs to process: the given ones, or all that were functional on the night and are in the file.

    Of a file that has lost extensions all are tried, so that each that is not there is told.
    """
    if asked is not None:
        return asked
    working = working_ccds(raw.exposure.night)
    return working if raw.index.lost else tuple(ccd for ccd in working if ccd in raw.index.extensions)


def _remembered_index(site: Site, path: Path) -> RawIndex:
    """Return the index of a raw file, cached as long as its size and modification time are unchanged."""
    memory = site.state / "raw" / f"{path.name}.json"
    try:
        status = path.stat()
        stamp = [site.name_of(path), status.st_size, status.st_mtime_ns]
        document = json.loads(read_sealed(memory))
        if document["stamp"] == stamp:
            return _index_from(document)
    except DAMAGE:
        pass  # no usable cache
    index = index_raw(path)
    status = path.stat()
    document = {
        "stamp": [site.name_of(path), status.st_size, status.st_mtime_ns],
        "exposure": asdict(index.exposure),
        "header_hash": index.header_hash,
        "extensions": [asdict(e) for e in index.extensions.values()],
        "lost": index.lost,
    }
    write_sealed(memory, json.dumps(document))
    return index


def _index_from(document: dict[str, Any]) -> RawIndex:
    # Of JSON: strict validation of Python objects takes no dictionary for a dataclass.
    extensions = TypeAdapter(list[RawExtension]).validate_json(json.dumps(document["extensions"]), strict=True)
    exposure = TypeAdapter(Exposure).validate_python(document["exposure"])
    return RawIndex(
        exposure, str(document["header_hash"]), {e.ccdnum: e for e in extensions}, document.get("lost", False)
    )
