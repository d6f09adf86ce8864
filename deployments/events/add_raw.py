"""Enter raw files into the index of a site, and copy or link them into its raw folder if asked for."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from blocks.raw_index import (
    QUIET_S,
    IndexedFile,
    RawFiles,
    check_agreement,
    described_files,
    index_files,
    raw_files,
    with_files,
)
from blocks.site import Site
from imaging.errors import InputError
from imaging.identity import raw_name
from imaging.io.locks import locked
from imaging.io.raw_headers import copy_raw, raw_candidates

How = Literal["index", "copy", "link"]
"""What becomes of a file: it stays where it is, is copied into the raw folder, or linked there."""


@dataclass(slots=True)
class AddedRaw:
    """What became of raw files.

    Attributes
    ----------
    new
        Files that the index did not know, or that have changed since.
    known
        Files that it knew, or whose exposures the raw folder has.
    unfinished
        Files that are incomplete: still being written, or cut.
    duplicates
        Exposure number to its files, the first of which is used.
    conflicts
        Sentences about exposure numbers that different exposures claim.
    left
        File or folder to the reason why it is no raw exposure, or cannot be read.
    """

    new: list[IndexedFile] = field(default_factory=list)
    known: list[IndexedFile] = field(default_factory=list)
    unfinished: list[IndexedFile] = field(default_factory=list)
    duplicates: dict[int, list[Path]] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    left: dict[Path, str] = field(default_factory=dict)

    def contents(self) -> list[str]:
        """Return a line for each night: its exposures by kind, and the sky exposures by band."""
        nights: dict[int, Counter[str]] = {}
        for file in self.new:
            if (e := file.exposure) is not None:
                what = f"{e.obstype} {e.band}" if e.obstype.lower() in ("object", "dome flat") else e.obstype
                nights.setdefault(e.night, Counter())[what] += 1
        return [f"{n}: {', '.join(f'{m} {what}' for what, m in sorted(nights[n].items()))}" for n in sorted(nights)]


def add_raw(
    site: Site,
    paths: Iterable[Path],
    how: How = "index",
    *,
    say: Callable[[int], object] | None = None,
    wait: Callable[[float], object] = time.sleep,
) -> AddedRaw:
    """Enter raw files into the index of a site.

    Parameters
    ----------
    site
        The site.
    paths
        Files of any name, and folders, which are searched with their subfolders.
    how
        What becomes of the files.
    say
        Called with the number of files read so far.
    wait
        Waits some seconds, to see whether a file grows that has fewer extensions than it states.

    Returns
    -------
    added
        What became of them.

    Raises
    ------
    InputError
        If a path does not exist, no file is a raw exposure, or the index is damaged.
    StorageError
        If a file cannot be copied.
    """
    added = AddedRaw()
    files = list(dict.fromkeys(_found(paths, added.left)))
    before = raw_files(site)
    described = described_files(files, before, say)
    if any(file.is_complete and not file.is_final(time.time()) for file in described):
        wait(QUIET_S)
        described = described_files(files, RawFiles(described))
    for file in described:
        if file.problem:
            added.left[file.path] = file.problem
        elif not file.is_final(time.time()):
            added.unfinished.append(file)
        elif before.by_path.get(file.path) == file:
            added.known.append(file)
        else:
            added.new.append(file)
    if not (added.new or added.known or added.unfinished):
        reason = next(iter(added.left.values()), "no file there has the name of a FITS file")
        raise InputError("no raw exposure found", value=f"{', '.join(map(str, paths))}: {reason}")
    asked = {_expnum(file) for file in (*added.new, *added.known)}
    after = with_files(site, described, before) if how == "index" else _placed(site, added, link=how == "link")
    _compare(added, asked, after)
    return added


def _found(paths: Iterable[Path], left: dict[Path, str]) -> Iterator[Path]:
    """Yield the files that are named or lie below the named folders; note the folders that cannot be read."""

    def refused(folder: Path, error: OSError) -> None:
        left[folder] = f"the folder cannot be read ({folder}: {error.strerror})"

    for given in paths:
        path = Path(given).expanduser().absolute()
        if path.is_dir():
            yield from raw_candidates(path, refused=refused)
        elif path.is_file():
            yield path
        else:
            raise InputError("no such file or folder", value=path)


def _placed(site: Site, added: AddedRaw, *, link: bool) -> RawFiles:
    """Copy or link files into the raw folder, unless it has the exposure, perhaps since they were read.

    Returns the index with them.
    """
    with locked(site.state / "placing-raw.lock"):
        given = [*added.new, *added.known]
        everything = RawFiles((*raw_files(site).by_path.values(), *added.new))
        targets, new = [], []
        for file in given:
            copies = everything.copies(_expnum(file))
            if not _agree(copies):
                continue  # told below
            if any(copy.path.is_relative_to(site.raw) for copy in copies) or file != _best(copies, given):
                added.known += [] if file in added.known else [file]
                continue
            targets.append(_place_of(site, file))
            copy_raw(file.path, targets[-1], link=link)
            new.append(file)
        after = index_files(site, targets)
        conflicting = [file for file in added.new if file not in new and file not in added.known]
        added.new, added.known = new, [file for file in added.known if file not in new]
        return RawFiles((*after.by_path.values(), *conflicting))


def _expnum(file: IndexedFile) -> int:
    return 0 if file.exposure is None else file.exposure.expnum


def _best(copies: Iterable[IndexedFile], among: Collection[IndexedFile]) -> IndexedFile | None:
    """Return the first of some files that are among others."""
    return next((copy for copy in copies if copy in among), None)


def _agree(files: Iterable[IndexedFile]) -> bool:
    with suppress(InputError):
        check_agreement(files)
        return True
    return False


def _place_of(site: Site, file: IndexedFile) -> Path:
    """Return a free place for a file in the raw folder: its own name, or that of its exposure where another has it."""
    folder = site.raw / str(0 if file.exposure is None else file.exposure.night)
    for name in (file.path.name, raw_name(_expnum(file))):
        if not (folder / name).exists():
            return folder / name
    raise InputError("another file has this name", value=folder / file.path.name, remedy="rename one of them")


def _compare(added: AddedRaw, asked: Collection[int], known: RawFiles) -> None:
    """Tell duplicates from conflicts among the files of each exposure number."""
    for expnum in sorted(asked):
        copies = known.copies(expnum)
        if len(copies) < 2:
            continue
        try:
            check_agreement(copies)
        except InputError as error:
            added.conflicts.append(error.sentence())
        else:
            added.duplicates[expnum] = [file.path for file in copies]


def added_lines(added: AddedRaw, most: int = 10) -> Sequence[str]:
    """Return what became of the files as lines of text, of each kind some."""
    kinds = ("new", "known", "unfinished", "left")
    counts = {kind: len(getattr(added, kind)) for kind in kinds}
    total = f"{sum(counts.values())} files: {', '.join(f'{count} {kind}' for kind, count in counts.items())}"
    lines = [total, *added.contents()]
    several = "exposure {} has several files, of which the first is used: {}"
    told = [
        [several.format(expnum, ", ".join(map(str, paths))) for expnum, paths in added.duplicates.items()],
        added.conflicts,
        [f"unfinished, taken when it is whole: {file.path}" for file in added.unfinished],
        [f"left: {reason}" for reason in added.left.values()],
    ]
    for kind in told:
        lines += kind[:most]
        lines += [f"... and {len(kind) - most} more"] if len(kind) > most else []
    return lines
