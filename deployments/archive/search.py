"""Search the NOIRLab Astro Data Archive for exposures of the Dark Energy Camera.

The interface is the archive's ``adv_search``: a request names the fields to return and conditions on fields, and the
answer is a list whose first element describes the others. The archive takes ranges, not circles; a circle is asked for
as a box and cut here.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from blocks.archive import ADDRESS_VARIABLE, archive_access
from deployments.reports.sending import UnansweredError, ask
from imaging.bands import BANDS
from imaging.errors import InputError
from imaging.wcs.sphere import separation_deg

SEARCH_PATH = "/api/adv_search/find/"

MOST_ROWS = 20_000
"""Largest number of files of one answer; a search that reaches it is refused, since files would be missing."""

SEARCH_TIMEOUT_S = 120.0

KINDS: Mapping[str, Mapping[str, Any]] = {
    "raw": {"proc_type": "raw", "obs_type": "object", "prod_type": "image"},
    "bias": {"proc_type": "raw", "obs_type": "zero", "prod_type": "image"},
    "flat": {"proc_type": "raw", "obs_type": "dome flat", "prod_type": "image"},
    "instcal": {"proc_type": "instcal", "obs_type": "object", "prod_type": ("image", "dqmask", "wtmap")},
    "mastercal": {"proc_type": "mastercal"},
}
"""Kind of file to conditions on the archive's fields; a tuple is searched value by value."""

RAW_KINDS = ("raw", "bias", "flat")
"""Kinds of frames as the camera wrote them."""

FIELDS = (
    *("md5sum", "archive_filename", "original_filename", "filesize", "proc_type", "prod_type", "obs_type", "caldat"),
    *("dateobs_center", "ifilter", "exposure", "ra_center", "dec_center", "proposal", "release_date", "EXPNUM"),
)
"""Fields that are returned."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,150}\.fits(\.fz|\.gz)?")
_RAW_NAME = re.compile(r"(DECam_\d{8})\.fits(\.fz)?")
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Cone:
    """A circle on the sky, degrees."""

    ra_deg: float
    dec_deg: float
    radius_deg: float


@dataclass(frozen=True, slots=True)
class ArchiveQuery:
    """Conditions on files; all must hold.

    Attributes
    ----------
    kind
        One of :data:`KINDS`.
    nights
        First and last night, YYYYMMDD.
    proposal
        Proposal, such as 2022B-715089.
    expnums
        Exposure numbers.
    bands
        Bands; empty for all.
    cone
        Circle that must contain the centre of the exposure.
    min_exptime_s
        Shortest exposure, seconds.
    """

    kind: str
    nights: tuple[int, int] | None = None
    proposal: str = ""
    expnums: tuple[int, ...] = ()
    bands: tuple[str, ...] = ()
    cone: Cone | None = None
    min_exptime_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A file of the archive.

    Attributes
    ----------
    md5, size
        Checksum and size, bytes.
    name
        Name under which it is stored here: the camera's own for raw files that have one, else the archive's.
    kind
        The kind that was searched.
    expnum
        Exposure number; None if the archive does not know it.
    night
        Night, YYYYMMDD.
    band
        Band; empty for a bias.
    exptime_s, ra_deg, dec_deg
        Exposure time and centre; NaN if unknown.
    proposal, release_date
        Proposal, and the day from which the file is public.
    """

    md5: str
    size: int
    name: str
    kind: str
    expnum: int | None
    night: int
    band: str
    exptime_s: float = math.nan
    ra_deg: float = math.nan
    dec_deg: float = math.nan
    proposal: str = ""
    release_date: str = ""

    def document(self) -> dict[str, Any]:
        """Return the file as JSON."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: None if value != value else value for name, value in values.items()}


@dataclass(slots=True)
class Found:
    """Result of a search.

    Attributes
    ----------
    files
        The files, by night, exposure number and name.
    refused
        Descriptions of rows that cannot be right, with the reason.
    """

    files: list[ArchiveFile] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@contextmanager
def archive_client() -> Iterator[httpx.Client]:
    """Yield a client with the archive's address, and with the token for proprietary data if there is one.

    Raises
    ------
    InputError
        If the address is no URL.
    """
    try:
        access = archive_access()
    except ValueError as error:
        raise InputError("the address of the archive is no URL", remedy=f"correct {ADDRESS_VARIABLE}") from error
    token = access.token.get_secret_value()
    headers = {"Authorization": token} if token else {}
    with httpx.Client(
        base_url=access.address, headers=headers, timeout=SEARCH_TIMEOUT_S, follow_redirects=True
    ) as client:
        yield client


def search(client: httpx.Client, queries: Iterable[ArchiveQuery]) -> Found:
    """Return the files that satisfy at least one of the queries, each once.

    Parameters
    ----------
    client
        Client with the archive's address.
    queries
        Conditions.

    Raises
    ------
    InputError
        If the archive cannot be reached, refuses, answers with something else than a list of files, or with so many
        that some are missing.
    """
    found = Found()
    known: dict[str, ArchiveFile] = {}
    for query in queries:
        for conditions in _conditions(query):
            for row in _rows(client, conditions):
                try:
                    file = _parsed(row, query.kind)
                except ValueError as error:
                    found.refused.append(f"{row.get('archive_filename') or row.get('md5sum')}: {error}")
                    continue
                if _is_wanted(file, query):
                    known.setdefault(file.md5, file)
    found.files = sorted(known.values(), key=lambda file: (file.night, file.expnum or 0, file.name))
    return found


def _conditions(query: ArchiveQuery) -> list[list[list[Any]]]:
    """Return the conditions of each request that a query needs."""
    if query.kind not in KINDS:
        raise InputError("unknown kind of file", value=query.kind, limit=", ".join(KINDS))
    common: list[list[Any]] = [["instrument", "decam"]]
    if query.nights:
        common.append(["caldat", *(_with_dashes(night) for night in query.nights)])
    if query.proposal:
        common.append(["proposal", query.proposal])
    if query.min_exptime_s > 0.0:
        common.append(["exposure", query.min_exptime_s, 1e5])
    variants = [common]
    for name, value in KINDS[query.kind].items():
        options = value if isinstance(value, tuple) else (value,)
        variants = [[*conditions, [name, option]] for conditions in variants for option in options]
    if query.bands and query.kind != "bias":
        variants = [[*c, ["ifilter", f"{band} ", "startswith"]] for c in variants for band in query.bands]
    if query.expnums:
        variants = [[*c, ["EXPNUM", low, high]] for c in variants for low, high in _ranges(query.expnums)]
    if query.cone:
        variants = [[*c, *box] for c in variants for box in _boxes(query.cone)]
    return variants


def _with_dashes(night: int) -> str:
    text = f"{night:08d}"
    return f"{text[:4]}-{text[4:6]}-{text[6:]}"


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return the ranges of consecutive numbers."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    return ranges


def _boxes(cone: Cone) -> list[list[list[Any]]]:
    """Return the boxes around a circle, as conditions; two where it crosses zero of right ascension."""
    low, high = max(cone.dec_deg - cone.radius_deg, -90.0), min(cone.dec_deg + cone.radius_deg, 90.0)
    dec = ["dec_center", round(low, 6), round(high, 6)]
    widest = max(abs(low), abs(high))
    ratio = math.sin(math.radians(cone.radius_deg)) / max(math.cos(math.radians(cone.dec_deg)), 1e-9)
    if widest >= 90.0 or ratio >= 1.0:
        return [[dec]]
    half = math.degrees(math.asin(ratio))
    first, last = cone.ra_deg - half, cone.ra_deg + half
    parts = [(first, last)]
    if first < 0.0:
        parts = [(0.0, last), (first + 360.0, 360.0)]
    elif last > 360.0:
        parts = [(first, 360.0), (0.0, last - 360.0)]
    return [[dec, ["ra_center", round(a, 6), round(b, 6)]] for a, b in parts]


def _rows(client: httpx.Client, conditions: list[list[Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of an answer of the archive."""
    request = {"outfields": list(FIELDS), "search": conditions}
    content: Any = None
    try:
        answer = ask(client, "POST", f"{SEARCH_PATH}?format=json&limit={MOST_ROWS}", json=request)
        with suppress(ValueError):
            content = answer.json()
    except UnansweredError as error:
        remedy = "try again later, or narrow the search"
        raise InputError(f"the archive did not answer: {error}", value=client.base_url, remedy=remedy) from None
    if isinstance(content, dict) and "errorMessage" in content:
        raise InputError(f"the archive refuses the search: {str(content['errorMessage'])[:300]}", value=conditions)
    rows = content[1:] if isinstance(content, list) else None
    if answer.is_error or rows is None or not all(isinstance(row, dict) for row in rows):
        raise InputError(
            "the answer of the archive is no list of files",
            value=f"{client.base_url}, status {answer.status_code}",
            remedy="check the address in the block Archive Access, or try again later",
        )
    if len(rows) >= MOST_ROWS:
        raise InputError("too many files", value=len(rows), limit=MOST_ROWS, remedy="narrow the search")
    return rows


def _parsed(row: Mapping[str, Any], kind: str) -> ArchiveFile:
    """Return the file of a row.

    Raises
    ------
    ValueError
        If a value that is needed is missing or cannot be.
    """
    md5, size = row.get("md5sum"), row.get("filesize")
    if not (isinstance(md5, str) and _MD5.fullmatch(md5)):
        raise ValueError(f"md5sum {md5!r}")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size < 1 << 40:
        raise ValueError(f"filesize {size!r}")
    names = [str(row.get(key) or "").replace("\\", "/").rpartition("/")[2] for key in _NAME_FIELDS]
    own = _RAW_NAME.fullmatch(names[1]) if kind in RAW_KINDS else None
    name = f"{own[1]}.fits.fz" if own else names[0]
    if not _NAME.fullmatch(name):
        raise ValueError(f"archive_filename {names[0]!r}")
    digits = str(row.get("caldat") or "")[:10].replace("-", "")
    if not (digits.isascii() and digits.isdigit() and len(digits) == 8):
        raise ValueError(f"caldat {row.get('caldat')!r}")
    text = str(row.get("ifilter") or "").partition(" ")[0]
    expnum = row.get("EXPNUM")
    if own and expnum is None:
        expnum = int(own[1].partition("_")[2])
    return ArchiveFile(
        md5=md5,
        size=size,
        name=name,
        kind=kind,
        expnum=expnum if isinstance(expnum, int) and not isinstance(expnum, bool) and expnum > 0 else None,
        night=int(digits),
        band=text if text in BANDS else "",
        exptime_s=_number(row.get("exposure")),
        ra_deg=_number(row.get("ra_center")),
        dec_deg=_number(row.get("dec_center")),
        proposal=str(row.get("proposal") or ""),
        release_date=str(row.get("release_date") or "")[:10],
    )


_NAME_FIELDS = ("archive_filename", "original_filename")


def _number(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else math.nan  # type: ignore[arg-type]


def _is_wanted(file: ArchiveFile, query: ArchiveQuery) -> bool:
    """Whether a file is what was asked for; the archive's conditions are wider."""
    if query.bands and query.kind != "bias" and file.band not in query.bands:
        return False
    if query.cone is None:
        return True
    distance = separation_deg(query.cone.ra_deg, query.cone.dec_deg, file.ra_deg, file.dec_deg)
    return bool(distance <= query.cone.radius_deg)
