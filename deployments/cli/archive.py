"""Commands for the archive: archive search and fetch."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from deployments.cli.options import DEFAULTS, Common, find_site
from deployments.cli.output import Answer
from imaging.errors import InputError
from imaging.identity import check_night
from tasks.engine.jobs import ExitCode

if TYPE_CHECKING:
    import httpx

    from blocks.site import Site
    from deployments.archive.search import ArchiveFile
    from imaging.skymap.model import SkyMap

archive = App(
    name="archive",
    help="Search the NOIRLab Astro Data Archive; fetch exposures, calibration frames and templates.",
    help_format="plaintext",
)

SHOWN = 40
"""Number of files that are listed one by one."""


@Parameter(name="*")
@dataclass(frozen=True)
class Wish:
    """What is wanted of the archive; all conditions hold.

    Attributes
    ----------
    kind
        Kinds of files: raw, bias, flat, instcal (image, mask and weight), mastercal.
    night
        Night, or first and last night, YYYYMMDD.
    proposal
        Proposal, such as 2022B-715089.
    expnum
        Exposure numbers.
    bands
        Bands: gi or g,i.
    cone
        RA, Dec and radius of a circle that contains the exposures' centres, degrees.
    skymap
        Sky map whose region contains the exposures' centres.
    level
        Probability of that region.
    for_night
        A registered night: everything that it lacks.
    """

    kind: Annotated[tuple[str, ...], Parameter(name="--type", consume_multiple=True, negative="")] = ()
    night: Annotated[tuple[int, ...], Parameter(name="--night", consume_multiple=True, negative="")] = ()
    proposal: Annotated[str, Parameter(name="--proposal")] = ""
    expnum: Annotated[tuple[int, ...], Parameter(name="--expnum", consume_multiple=True, negative="")] = ()
    bands: Annotated[str, Parameter(name="--bands")] = ""
    cone: Annotated[tuple[float, float, float] | None, Parameter(name="--cone")] = None
    skymap: Annotated[Path | None, Parameter(name="--skymap")] = None
    level: Annotated[float, Parameter(name="--level")] = 0.9
    for_night: Annotated[int | None, Parameter(name="--for-night")] = None


EVERYTHING = Wish()


@archive.command(name="search")
def search_archive(*, wish: Wish = EVERYTHING, common: Common = DEFAULTS) -> Answer:
    """List files of the archive, and their volume."""
    from deployments.archive.search import archive_client

    with archive_client() as client:
        files, notes = _found(client, find_site(common).site, wish)
    return _listing("archive search", files, notes)


@archive.command
def fetch(
    *,
    wish: Wish = EVERYTHING,
    to: Annotated[
        Path | None,
        Parameter(name="--to", help="Folder; default: that of raw exposures for raw frames, archive for the others."),
    ] = None,
    connections: Annotated[int, Parameter(name="--connections", help="Files at a time, 1 to 16.")] = 4,
    dry_run: Annotated[bool, Parameter(name="--dry-run", negative="", help="Print number and volume only.")] = False,
    common: Common = DEFAULTS,
) -> Answer:
    """Download files of the archive; interrupted or repeated, the command continues where it ended."""
    from deployments.archive.download import Downloader, folder_of
    from deployments.archive.search import archive_client

    if not 1 <= connections <= 16:
        raise InputError("number of connections out of range", value=connections, limit="1 to 16")
    site = find_site(common).site
    with archive_client() as client:
        files, notes = _found(client, site, wish)
        if dry_run:
            return _listing("archive fetch", files, notes)
        placed = [(file, to or folder_of(site, file)) for file in files]
        account = Downloader(client, _say).fetch(placed, connections)
    n_there = len(account.fetched) + len(account.present)
    lines = [f"{len(account.fetched)} fetched, {len(account.present)} were there, {len(account.failed)} failed"]
    lines += [f"{name}: {reason}" for name, reason in sorted(account.failed.items())]
    document = {
        "command": "archive fetch",
        "fetched": [str(path) for path in account.fetched],
        "present": [str(path) for path in account.present],
        "failed": account.failed,
        "notes": notes,
    }
    code = ExitCode.COMPLETE if not account.failed else ExitCode.MISSING if n_there else ExitCode.FAILED
    return Answer(document, [*lines, *notes], code)


def _found(client: "httpx.Client", site: "Site", wish: Wish) -> "tuple[list[ArchiveFile], list[str]]":
    """Search for what is wanted; return the files, and what to know about them."""
    from deployments.archive.region import cones_of
    from deployments.archive.search import ArchiveQuery, Cone, search
    from deployments.events.alerts import given_skymap
    from imaging.io.list_rows import bands_in

    if wish.for_night is not None:
        from blocks.nights import read_night
        from deployments.archive.night import lacking

        if wish != Wish(for_night=wish.for_night):
            raise InputError("--for-night stands alone", remedy="leave the other conditions out")
        check_night(wish.for_night)
        lack = lacking(client, site, read_night(site, wish.for_night))
        return lack.files, lack.notes
    if len(wish.night) > 2:
        raise InputError("too many nights", value=len(wish.night), limit="one, or the first and the last")
    for night in wish.night:
        check_night(night)
    if not (wish.night or wish.proposal or wish.expnum or wish.cone or wish.skymap):
        raise InputError("no condition is given", remedy="name nights, a proposal, exposures, a circle or a sky map")
    if wish.cone and not (0 <= wish.cone[0] < 360 and -90 <= wish.cone[1] <= 90 and 0 < wish.cone[2] <= 180):
        raise InputError("no circle on the sky", value=wish.cone, limit="RA 0 to 360, Dec -90 to 90, radius above 0")
    bands = bands_in(wish.bands)
    sky = given_skymap(wish.skymap) if wish.skymap else None
    cones: list[Cone | None] = [Cone(*wish.cone)] if wish.cone else [None]
    if sky is not None and wish.cone is None:
        cones = [*cones_of(sky, wish.level)]
    queries = [
        ArchiveQuery(
            kind=kind,
            nights=(min(wish.night), max(wish.night)) if wish.night else None,
            proposal=wish.proposal,
            expnums=wish.expnum,
            bands=bands,
            cone=cone,
        )
        for kind in wish.kind or ("raw",)
        for cone in cones
    ]
    found = search(client, queries)
    files = _in_region(found.files, sky, wish.level) if sky is not None else found.files
    return files, [f"left out, not understood: {row}" for row in found.refused]


def _in_region(files: "Sequence[ArchiveFile]", sky: "SkyMap", level: float) -> "list[ArchiveFile]":
    """Return the files whose centres lie in the region of a sky map."""
    known = [file for file in files if isfinite(file.ra_deg) and isfinite(file.dec_deg)]
    levels = sky.credible_level_at([file.ra_deg for file in known], [file.dec_deg for file in known])
    return [file for file, reached in zip(known, levels, strict=True) if reached <= level]


def _listing(command: str, files: "Sequence[ArchiveFile]", notes: Sequence[str]) -> Answer:
    """Return the files as the answer of a command."""
    n_bytes = sum(file.size for file in files)
    lines = [
        f"{file.night} {file.expnum or '':>8} {file.band or '-':2} {file.kind:8} {file.exptime_s:6.0f} s "
        f"{file.size / 1e6:7.1f} MB {file.name}"
        for file in files[:SHOWN]
    ]
    if len(files) > SHOWN:
        lines.append(f"... and {len(files) - SHOWN} more")
    lines.append(f"{len(files)} files, {n_bytes / 1e9:.2f} GB")
    document = {"command": command, "files": [file.document() for file in files], "bytes": n_bytes, "notes": [*notes]}
    return Answer(document, [*lines, *notes])


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
