"""The index of a site's raw files: which exposure each file holds, by its header, wherever it lies.

``state/raw-files.parquet`` has one row per file. Files of the raw folder enter it by themselves when an exposure is
looked up, others with ``gw-workflow add-raw``. A file is known again by its size and time, so that its header is read
once. The times of files decide nothing else: a file is taken when its content is complete, or when its size has stayed
the same while this index looked.
"""

import math
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from blocks.site import Site
from imaging.errors import GWWorkflowError, InputError, StorageError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.locks import locked

INDEX = "raw-files.parquet"
"""File of the index, in the state folder of the site."""

QUIET_S = 10.0
"""Seconds for which the size of a complete file with fewer extensions than it states must stay the same."""

OLD_S = 600.0
"""Seconds after which a file whose size stays the same counts as final, even if incomplete."""

SAME_S = 1.0
"""Largest difference of the starts of one exposure in two files, seconds."""

SAME_DEG = 0.1
"""Largest distance of the pointings of two files of one exposure, degrees."""

THREADS = 8
"""Files that are read at the same time: reading a header waits for the disk."""


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """One raw file of the index.

    Attributes
    ----------
    path
        The file.
    size, mtime_ns
        Size, and time of the last change; together they tell whether it is the same file.
    seen
        Unix time at which it was first seen with this size, seconds.
    exposure
        The exposure; None with a problem.
    n_stated, n_extensions, is_complete
        As in :class:`imaging.io.raw_headers.RawHeader`.
    problem
        Why it is no raw exposure; empty if it is one.
    """

    path: Path
    size: int
    mtime_ns: int
    seen: float
    exposure: Exposure | None = None
    n_stated: int = 0
    n_extensions: int = 0
    is_complete: bool = False
    problem: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the content is complete and has all extensions that it states."""
        return self.is_complete and (self.n_extensions >= self.n_stated or not self.n_extensions)

    def is_final(self, now: float) -> bool:
        """Whether nothing more is awaited of the file at a Unix time."""
        return self.is_whole or abs(now - self.seen) >= (QUIET_S if self.is_complete else OLD_S)

    def is_unchanged(self, status: os.stat_result) -> bool:
        """Whether the file still has the size and time of the index."""
        return (self.size, self.mtime_ns) == (status.st_size, status.st_mtime_ns)


def same_exposure(one: Exposure, other: Exposure) -> bool:
    """Whether two headers describe one exposure: number, kind, band, start, exposure time and pointing agree."""
    east_deg = math.remainder(one.ra_deg - other.ra_deg, 360.0) * math.cos(math.radians(one.dec_deg))
    return (
        (one.expnum, one.obstype.lower(), one.band) == (other.expnum, other.obstype.lower(), other.band)
        and abs(one.mjd - other.mjd) * 86400.0 <= SAME_S
        and abs(one.exptime_s - other.exptime_s) <= SAME_S
        and not math.hypot(east_deg, one.dec_deg - other.dec_deg) > SAME_DEG  # not a number: a bias without a pointing
    )


class RawFiles:
    """The raw files of a site as the index knows them.

    Parameters
    ----------
    files
        The files.
    """

    def __init__(self, files: Iterable[IndexedFile] = ()) -> None:
        self.by_path = {file.path: file for file in files}
        self._by_number: dict[int, list[IndexedFile]] = {}
        for file in self.by_path.values():
            if file.exposure is not None:
                self._by_number.setdefault(file.exposure.expnum, []).append(file)

    def copies(self, expnum: int) -> list[IndexedFile]:
        """Return the files of an exposure number that exist, the best first.

        Complete files come first, then those with more extensions, then those that were seen first, so that a copy
        that arrives later changes nothing.
        """
        found = [file for file in self._by_number.get(expnum, ()) if file.path.exists()]
        return sorted(found, key=lambda f: (not f.is_complete, -f.n_extensions, f.seen, f.path.as_posix()))

    def find(self, asked: ExposureId) -> IndexedFile | None:
        """Return the best file of an exposure; None if there is none.

        If no file is of the asked night and band, one of the exposure number is returned; who reads it tells.

        Raises
        ------
        InputError
            If several files hold different exposures of this number.
        """
        copies = self.copies(asked.expnum)
        same = [c for c in copies if c.exposure and (c.exposure.night, c.exposure.band) == (asked.night, asked.band)]
        found = same or copies
        check_agreement(found)
        return found[0] if found else None

    def exposures(self) -> dict[int, Exposure]:
        """Return exposure number to exposure of the files that exist, in order.

        A number that different exposures claim is left out.
        """
        found = {}
        for expnum in sorted(self._by_number):
            copies = self.copies(expnum)
            with suppress(InputError):
                check_agreement(copies)
                found[expnum] = copies[0].exposure if copies else None
        return {expnum: exposure for expnum, exposure in found.items() if exposure is not None}


def check_agreement(files: Iterable[IndexedFile]) -> None:
    """Raise if files of one exposure number hold different exposures.

    Raises
    ------
    InputError
        Naming two of the files, and how they differ.
    """
    first: IndexedFile | None = None
    for file in files:
        first = first or file
        if first.exposure and file.exposure and not same_exposure(first.exposure, file.exposure):
            shown = [
                f"{f.path} ({e.obstype}, {e.band}, {e.exptime_s:g} s, MJD {e.mjd:.5f}, "
                f"RA {e.ra_deg:.3f}, Dec {e.dec_deg:.3f})"
                for f in (first, file)
                if (e := f.exposure)
            ]
            raise InputError(
                "two raw files hold different exposures of one number",
                expnum=first.exposure.expnum,
                value=" and ".join(shown),
                remedy="remove the wrong one",
            )


def has_raw_files(site: Site) -> bool:
    """Whether a site may have raw files: a cheap question before the index is read."""
    return (site.state / INDEX).exists() or site.raw.is_dir()


def raw_files(site: Site) -> RawFiles:
    """Return the raw files of a site, with those that have arrived in its raw folder.

    Raises
    ------
    InputError
        If the index is damaged.
    """
    from imaging.io.raw_headers import raw_candidates

    known, now = read_raw_files(site), time.time()
    open_ones = [
        path
        for path in raw_candidates(site.raw)
        if (file := known.by_path.get(path)) is None or file.problem or not file.is_final(now)
    ]
    return index_files(site, open_ones, known) if open_ones else known


def index_files(site: Site, paths: Iterable[Path], known: RawFiles | None = None) -> RawFiles:
    """Read the headers of files that are new or have changed, and return the index with them.

    A site whose state cannot be written is answered from memory.

    Parameters
    ----------
    site
        The site.
    paths
        Files.
    known
        The index as it was read; None to read it.

    Raises
    ------
    InputError
        If the index is damaged.
    """
    known = read_raw_files(site) if known is None else known
    return with_files(site, described_files(paths, known), known)


def described_files(
    paths: Iterable[Path], known: RawFiles, say: Callable[[int], object] | None = None
) -> list[IndexedFile]:
    """Describe the files that exist, several at a time; the headers of those that the index knows are not read.

    Parameters
    ----------
    paths
        Files.
    known
        The index.
    say
        Called with the number of files so far.
    """
    now, described = time.time(), []
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda path: described_file(path, known.by_path.get(path), now), paths)
        for count, file in enumerate(found, 1):
            described += [] if file is None else [file]
            if say is not None:
                say(count)
    return described


def with_files(site: Site, described: Iterable[IndexedFile], known: RawFiles) -> RawFiles:
    """Enter files into the index, if they are new or have changed, and return it.

    Parameters
    ----------
    site
        The site.
    described
        Files.
    known
        The index as it was read.
    """
    entered = {file.path: file for file in described if known.by_path.get(file.path) != file}
    if not entered:
        return known
    try:
        with locked(site.state / f"{INDEX}.lock"):
            newest = read_raw_files(site).by_path | entered
            _write(site, newest.values())
    except (StorageError, OSError):  # asked by somebody who may only read
        newest = known.by_path | entered
    return RawFiles(newest.values())


def described_file(path: Path, known: IndexedFile | None, now: float) -> IndexedFile | None:
    """Return a file as the index describes it; None if it does not exist.

    Parameters
    ----------
    path
        The file.
    known
        What the index knows of it, which is returned as long as size and time are the same.
    now
        Unix time, seconds.
    """
    from imaging.io.raw_headers import read_raw_header

    try:
        status = path.stat()
    except OSError:
        return None
    if known is not None and known.is_unchanged(status):
        return known
    seen = known.seen if known is not None and known.size == status.st_size else now
    file = IndexedFile(path, status.st_size, status.st_mtime_ns, seen)
    try:
        header = read_raw_header(path)
    except GWWorkflowError as error:
        may_pass = isinstance(error.__cause__, OSError)  # a file without permission; it is read again at the next look
        return replace(file, problem=error.sentence(), mtime_ns=-1 if may_pass else file.mtime_ns)
    return replace(
        file,
        exposure=header.exposure,
        n_stated=header.n_stated,
        n_extensions=header.n_extensions,
        is_complete=header.is_complete,
    )


def read_raw_files(site: Site) -> RawFiles:
    """Read the index of a site as it is, without looking into its raw folder.

    Raises
    ------
    InputError
        If it is damaged.
    """
    path = site.state / INDEX
    try:
        status = path.stat()
    except OSError:
        return RawFiles()
    return _read(site, (status.st_mtime_ns, status.st_size, status.st_ino))


@lru_cache(maxsize=4)
def _read(site: Site, stamp: tuple[int, int, int]) -> RawFiles:
    from imaging.io.damage import reading
    from imaging.io.tables import read_table
    from imaging.schemas.raw import RAW_FILES

    del stamp  # part of the key: the file is replaced whenever it changes
    path = site.state / INDEX
    remedy = "remove it and run gw-workflow add-raw for the folders of raw files; the raw folder itself is read again"
    with reading(path, "index of raw files damaged", remedy):
        try:
            rows = read_table(path).select(RAW_FILES.names).cast(RAW_FILES).to_pylist()
        except StorageError as error:
            raise InputError("index of raw files damaged", value=error.value) from error
        return RawFiles([_file_of(site, row) for row in rows])


_OF_EXPOSURE = tuple(field.name for field in fields(Exposure))
_OF_FILE = tuple(field.name for field in fields(IndexedFile) if field.name not in ("exposure", "path"))
_UNKNOWN = ("ra_deg", "dec_deg", "airmass")
"""Numbers of an exposure that may be unknown: NaN, and null in the table."""


def _file_of(site: Site, row: dict[str, Any]) -> IndexedFile:
    """Return the file of a row.

    Raises
    ------
    ValueError
        If the row lacks a value.
    """
    needed = _OF_FILE if row["problem"] else (*_OF_FILE, *(name for name in _OF_EXPOSURE if name not in _UNKNOWN))
    for name in ("path", *needed):
        if row[name] is None:
            raise ValueError(f"a row without {name}")
    about = row | {name: math.nan for name in _UNKNOWN if row[name] is None}
    exposure = None if row["problem"] else Exposure(**{name: about[name] for name in _OF_EXPOSURE})
    return IndexedFile(site.path(row["path"]), exposure=exposure, **{name: row[name] for name in _OF_FILE})


def _write(site: Site, files: Iterable[IndexedFile]) -> None:
    from imaging.io.tables import write_table
    from imaging.schemas.raw import RAW_FILES
    from imaging.tables import make_table

    nothing: dict[str, Any] = dict.fromkeys(_OF_EXPOSURE)
    rows = []
    for file in sorted(files, key=lambda file: file.path):
        about = nothing if file.exposure is None else asdict(file.exposure)
        rows.append(about | {name: getattr(file, name) for name in _OF_FILE} | {"path": site.name_of(file.path)})
    for row in rows:
        row |= {name: None for name in _UNKNOWN if row[name] is not None and not math.isfinite(row[name])}
    columns = {name: [row[name] for row in rows] for name in RAW_FILES.names}
    write_table(site.state / INDEX, make_table(columns, RAW_FILES))
