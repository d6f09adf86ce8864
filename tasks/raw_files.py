"""Find the raw files of exposures, and cache the index of their contents."""

import json
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash
from pydantic import TypeAdapter

from blocks.imports import has_import
from blocks.raw_index import IndexedFile, RawFiles, index_files, raw_files, read_raw_files
from blocks.site import Site, raw_path
from imaging.detector.status import working_ccds
from imaging.errors import GWWorkflowError, InputError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.damage import DAMAGE
from imaging.io.raw import RawExtension, RawIndex, index_raw
from imaging.io.raw_headers import is_gzipped, unpack_raw
from imaging.io.sealed import read_sealed, write_sealed
from tasks.engine.jobs import FileRecord

NOT_RAW = "no raw file"
"""Begin of the problem of a file that is no raw exposure at all, but may lie beside them."""


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

OFTEN = 3
"""Dome flats of one exposure time that are enough for a master."""


def arrived_exposures(site: Site, exposures: Iterable[ExposureId], *, whole: bool = False) -> set[int]:
    """Return the numbers of the exposures whose raw files are there and final, whatever they are called.

    A file is final when its content is complete, or when its size has stayed the same for some time; the latter not if
    it must be ``whole``. Imported exposures need none.

    Raises
    ------
    InputError
        If the index of raw files is damaged.
    """
    known, now, arrived = raw_files(site), time.time(), set()
    for exposure in exposures:
        with suppress(GWWorkflowError):
            if has_import(site, exposure):
                arrived.add(exposure.expnum)
                continue
            file = located(site, exposure, known)
            if file is not None and (file.is_whole if whole else file.is_final(now)) and find_raw(site, exposure):
                arrived.add(exposure.expnum)
    return arrived


def located(site: Site, exposure: ExposureId, known: RawFiles | None = None) -> IndexedFile | None:
    """Return the indexed raw file of an exposure, as it is now; None if there is none.

    Parameters
    ----------
    site, exposure
        Site and exposure.
    known
        The index with what has arrived; None to look into the raw folder only if the index has no such exposure.

    Raises
    ------
    InputError
        If the index is damaged, or several files hold different exposures of this number.
    """
    found = (read_raw_files(site) if known is None else known).find(exposure)
    if found is None and known is None:
        found = raw_files(site).find(exposure)
    if found is not None and not found.is_unchanged(found.path.stat()):
        found = index_files(site, [found.path]).find(exposure)
    return found


def find_raw(site: Site, exposure: ExposureId) -> RawFile:
    """Find the raw file of an exposure and check exposure number, night and band.

    Raises
    ------
    InputError
        If it is missing, unreadable, or of another exposure, night or band.
    """
    file = located(site, exposure)
    path = raw_path(site, exposure) if file is None else file.path  # who reads the usual place says what is wrong
    raw = _raw_file(site, path, exposure.expnum)
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
        If a file in the raw folder of the night is not readable.
    """
    wanted, known = set(kinds), raw_files(site)
    for file in known.by_path.values():
        if file.problem and file.path.parent == site.raw / str(night) and not file.problem.startswith(NOT_RAW):
            raise InputError("raw file of the night not understood", value=file.problem, remedy="fetch it again")
    chosen = [e for e in known.exposures().values() if e.night == night and e.obstype.lower() in wanted]
    return [indexed_raw(site, known, e.expnum) for e in chosen]


def indexed_raw(site: Site, known: RawFiles, expnum: int) -> RawFile:
    """Return the best raw file of an exposure that the index of raw files holds."""
    return _raw_file(site, known.copies(expnum)[0].path, expnum)


def usual_exposures(flats: Iterable[Exposure]) -> list[Exposure]:
    """Return the dome flats of the exposure time that is taken most often in their band and night.

    Of times taken equally often the longest is the usual one. Other times are a ramp. All are taken where no time was
    taken often enough for a master.
    """
    groups: dict[tuple[int, str], Counter[float]] = {}
    found = list(flats)
    for e in found:
        groups.setdefault((e.night, e.band), Counter())[round(e.exptime_s, 3)] += 1
    usual = {group: max(times, key=lambda time: (times[time], time)) for group, times in groups.items()}
    rare = {group for group, time in usual.items() if groups[group][time] < OFTEN}
    return [e for e in found if (e.night, e.band) in rare or round(e.exptime_s, 3) == usual[e.night, e.band]]


def ccds_to_process(raw: RawFile, asked: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the CCDs to process: the given ones, or all that were functional on the night and are in the file.

    Of a file that has lost extensions all are tried, so that each that is not there is told.
    """
    if asked is not None:
        return asked
    working = working_ccds(raw.exposure.night)
    return working if raw.index.lost else tuple(ccd for ccd in working if ccd in raw.index.extensions)


def _raw_file(site: Site, path: Path, expnum: int) -> RawFile:
    """Return a raw file with its index; a gzipped one is unpacked once, since each CCD is read by itself."""
    try:
        packed = is_gzipped(path)
    except OSError:
        packed = False  # the index says what is wrong
    if packed:
        status = path.stat()
        stamp = xxhash.xxh3_64_hexdigest(f"{path} {status.st_size} {status.st_mtime_ns}".encode())
        target = site.scratch / "raw" / f"DECam_{expnum:08d}-{stamp}.fits"
        if not target.exists():
            unpack_raw(path, target)
        path = target
    return RawFile(path, _remembered_index(site, path))


def _remembered_index(site: Site, path: Path) -> RawIndex:
    """Return the index of a raw file, cached as long as its size and modification time are unchanged."""
    is_usual = path.parent.parent == site.raw
    mark = "" if is_usual else f"-{xxhash.xxh3_64_hexdigest(str(path.parent).encode())}"
    memory = site.state / "raw" / f"{path.name}{mark}.json"
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
