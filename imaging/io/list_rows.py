"""Rows of the lists of exposures and pointings that people have, under one set of column names.

Comma-, semicolon- or tab-separated text with the columns in any order and case, the original pipeline's
``exposures.list`` (columns by place), ``qcinv`` inventories of the DES quality control, JSON of the observatory's queue
(SISPI, obztak) with comments and trailing commas, and the answer of the NOIRLab archive.
"""

import codecs
import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imaging.bands import BANDS, band_named, band_of_filter
from imaging.errors import InputError

COLUMNS = ("EXPNUM", "NITE", "MJD", "RA", "DEC", "BAND", "EXPTIME", "PROPID", "OBSTYPE", "TEFF", "OBJECT")
"""Columns of an exposure list, in the order of the original pipeline."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "EXPNUM": ("EXPNUM", "EXPID", "EXP_ID", "EXPOSURE_ID", "EXPOSURE_NUMBER"),
    "NITE": ("NITE", "NIGHT", "CALDAT"),
    "MJD": ("MJD", "MJD_OBS"),
    "RA": (
        "RA_DEG",
        "RADEG",
        "TRADEG",
        "RA",
        "RIGHT_ASCENSION",
        "RA_CENTER",
        "TELRA",
    ),  # beside degrees RA may be hours
    "DEC": ("DEC_DEG", "DECDEG", "TDECDEG", "DEC", "DECLINATION", "DEC_CENTER", "TELDEC"),
    "BAND": ("BAND", "FILTER", "FIL", "IFILTER"),
    "EXPTIME": ("EXPTIME", "EXPTIME_S", "EXPOSURE_TIME", "EXPOSURE", "TIME"),
    "PROPID": ("PROPID", "PROPOSAL"),
    "OBSTYPE": ("OBSTYPE", "OBS_TYPE", "EXPTYPE"),
    "TEFF": ("TEFF", "T_EFF"),
    "OBJECT": ("OBJECT", "OBJECT_NAME"),
    "START": ("DATE_OBS",),
    "CENTRE": ("DATEOBS_CENTER",),
    "UT": ("UT",),
    "FILE": ("ORIGINAL_FILENAME",),
    "PROCTYPE": ("PROC_TYPE",),
    "INSTRUMENT": ("INSTRUMENT",),
}
"""Column to the names that it has in lists, in upper case with underscores; the first that is present counts."""

TEXTS = ("OBJECT", "PROPID")
"""Columns in which any text is a value."""

UNKNOWN = frozenset(
    {"", "null", "none", "nan", "na", "n/a", "#n/a", "-", "--", "...", "?", "\\n", "masked", "<null>", "unknown"}
)
"""What stands for an unknown value, in lower case."""

_MEANING = {name: column for column, names in NAMES.items() for name in names}
_TOKEN = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|#[^\n]*|/\*.*?\*/', re.DOTALL)
_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[\]}])')
_QCINV = re.compile(r"^[ \t]*#?[ \t]*expid\s+ra\s+dec\s+ut\s+fil\s.*$", re.IGNORECASE | re.MULTILINE)
_NO_SKY = re.compile(r"\b(?:zero|bias|dark|(?:dome|sky|twilight)[ -]?flat)\b", re.IGNORECASE)
_QCINV_DATE = re.compile(r"MJD\s*=\s*(\d{5})\b")
FILLED = 7
"""Columns at the beginning of a row of ``qcinv`` that are never blank."""

_BANDS = {name.lower(): name for name in BANDS}


def band_in(text: str) -> str:
    """Return the band that a list names: g, ``Y`` or ``y``, ``i DECam SDSS c0003 7835.0 1470.0``.

    Raises
    ------
    InputError
        If there is no such band.
    """
    name = band_of_filter(text)
    return band_named(_BANDS.get(name.lower(), name)).name


def bands_in(text: str) -> tuple[str, ...]:
    """Return the bands in a row of names, with or without commas: ``gi``, ``g,VR``, ``VR``.

    Raises
    ------
    InputError
        If there is no such band.
    """
    names = text.split(",") if "," in text or text.upper() == "VR" else list(text)
    return tuple(band_in(name) for name in names if name.strip())


@dataclass(frozen=True, slots=True)
class ListRow:
    """One row.

    Attributes
    ----------
    place
        Where it stands: ``line 7``, or ``entry 3`` of a JSON list.
    values
        Column of :data:`NAMES` to text; columns with an unknown value are left out.
    names
        Column to the name that it has in the file, for messages.
    """

    place: str
    values: Mapping[str, str]
    names: Mapping[str, str]

    def name(self, column: str) -> str:
        """Return what a column is called in the file."""
        return self.names.get(column, column)


@dataclass(frozen=True, slots=True)
class ListRows:
    """The rows of a list.

    Attributes
    ----------
    rows
        The rows.
    columns
        Columns that the list has.
    first_mjd
        MJD of the midnight UT in a ``qcinv`` inventory, whose positions are known to 0.1 degree; None otherwise.
    """

    rows: tuple[ListRow, ...]
    columns: frozenset[str]
    first_mjd: int | None = None


def list_rows(content: bytes, path: Path) -> ListRows:
    """Return the rows of a list, of any of the forms.

    Parameters
    ----------
    content
        Content of the file: UTF-8, with or without a byte-order mark, or UTF-16 with one.
    path
        Its name, for messages.

    Raises
    ------
    InputError
        If the form is not understood.
    UnicodeDecodeError
        If it is not UTF-8.
    """
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    text = content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n").replace("\N{MINUS SIGN}", "-")
    text = text.rstrip("\x1a")  # the end of a file of old Windows programs
    if "\0" in text:
        raise InputError("list is no text", value=path)
    start = _COMMENTS.sub("", text).lstrip()[:1]
    if start in ("[", "{"):
        return _of_json(text, path)
    if (inventory := _QCINV.search(text)) is not None:
        return _of_qcinv(text, inventory[0], path)
    return _of_table(text, path)


_COMMENTS = re.compile(r"\A(?:\s*(?://[^\n]*|#[^\n]*|/\*.*?\*/))*", re.DOTALL)


_UNIT = re.compile(r"\s*[\[(]\s*(?:deg|degrees|s|sec|seconds|d|day|days)\s*[\])]\s*$", re.IGNORECASE)


def _canonical(name: object) -> str:
    """Return a column's name in upper case with underscores, without its unit in brackets."""
    return _UNIT.sub("", str(name).strip().lstrip("#").strip()).upper().replace("-", "_").replace(" ", "_")


def _row(place: str, pairs: Iterable[tuple[Any, Any]]) -> ListRow:
    """Return a row from its names and values in the file."""
    found: dict[str, tuple[int, str, str]] = {}
    for name, value in pairs:
        column = _MEANING.get(_canonical(name))
        text = "" if value is None else str(value).strip()
        if column is None or not text or (column not in TEXTS and text.lower() in UNKNOWN):
            continue
        order = NAMES[column].index(_canonical(name))
        if column not in found or order < found[column][0]:
            found[column] = (order, str(name).strip(), text)
    values = {column: text for column, (_, _, text) in found.items()}
    return ListRow(place, values, {column: name for column, (_, name, _) in found.items()})


def _of_json(text: str, path: Path) -> ListRows:
    """Read a JSON list; comments and trailing commas, which JSON does not allow, are left out."""
    plain = _COMMA.sub(lambda match: match[1] or "", _TOKEN.sub(lambda match: match[1] or "", text))
    try:
        document = json.loads(plain)
    except (ValueError, RecursionError) as error:
        raise InputError("list is not JSON", value=f"{path}: {error}") from error
    if isinstance(document, dict) and "errorMessage" in document:
        raise InputError("the archive has answered with an error", value=f"{document['errorMessage']} in {path}")
    if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
        raise InputError("list not understood", value=path, limit="a JSON list of objects")
    rows = [_row(f"entry {number}", entry.items()) for number, entry in enumerate(document, 1)]
    if rows and not rows[0].values:
        del rows[0]  # the archive's first entry describes the others
    columns = {_MEANING.get(_canonical(name)) for entry in document for name in entry}
    return ListRows(tuple(rows), frozenset(column for column in columns if column))


def _of_qcinv(text: str, header: str, path: Path) -> ListRows:
    """Read an inventory: columns of fixed places, some of them blank, and the date below."""
    date = _QCINV_DATE.search(text)
    if date is None:
        raise InputError("inventory without its date", value=path, limit="a last line such as MJD = 60211")
    heads = [(match[0], match.span()) for match in re.finditer(r"[^#\s]+", header)]
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not re.match(r"\s*\d+\s", line):
            continue
        tokens = list(re.finditer(r"\S+", line))
        if len(tokens) < FILLED or not re.fullmatch(r"\d{1,2}:\d{2}", tokens[3][0]):
            if _NO_SKY.search(line):
                continue  # calibration frames need no position
            raise InputError("list line not understood", value=f"{path}, line {number}: {line.strip()}")
        pairs: dict[str, str] = {head: token[0] for (head, _), token in zip(heads[:FILLED], tokens, strict=False)}
        object_start = heads[-1][1][0] - 1
        numbers = []
        for token in tokens[FILLED:]:
            if token.start() >= object_start or not re.fullmatch(r"-?\d*\.?\d+|nan", token[0]):
                pairs[heads[-1][0]] = line[token.start() :].strip()
                break
            numbers.append(token)
        measured = heads[FILLED:-1]
        names = [head for head, _ in measured]
        if len(numbers) != len(names):
            names = [_nearest(measured, sum(token.span()) / 2) for token in numbers]
        if len(set(names)) < len(names):
            raise InputError("list line not understood", value=f"{path}, line {number}: {line.strip()}")
        pairs |= {name: token[0] for name, token in zip(names, numbers, strict=True)}
        rows.append(_row(f"line {number}", pairs.items()))
    columns = frozenset(column for head, _ in heads if (column := _MEANING.get(_canonical(head))))
    return ListRows(tuple(rows), columns, int(date[1]))


def _nearest(heads: list[tuple[str, tuple[int, int]]], middle: float) -> str:
    """Return the head whose middle is nearest to a place in a line."""
    return min(heads, key=lambda head: abs(sum(head[1]) / 2 - middle))[0]


def _of_table(text: str, path: Path) -> ListRows:
    """Read separated values with a header, or the columns of the original pipeline by their places."""
    every = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip() and not _RULE.fullmatch(line)]
    lines = [(n, line) for n, line in every if not line.startswith("#")]
    if not lines:
        return ListRows((), frozenset())
    first = lines[0][1]
    above = next((line.lstrip("# \t") for n, line in reversed(every) if n < lines[0][0]), "")
    if not _n_known(first) and _n_known(above) >= FEWEST_NAMES:
        first, lines = above, [(0, above), *lines]  # a header in the last comment
    by_place = first.split()[0].isdigit()  # the original's list, in whose texts may be commas
    separator = None if by_place else next((mark for mark in ",;\t|" if mark in first), None)
    if separator is None:
        names = list(COLUMNS) if by_place else first.split()
        split = ((n, line.split(None, len(names) - 1)) for n, line in lines[not by_place :])
        return _named(names, split, path)
    reader = csv.reader((line for _, line in lines), delimiter=separator, skipinitialspace=True)
    try:
        names = next(reader)
        return _named(names, ((lines[reader.line_num - 1][0], values) for values in reader), path)
    except csv.Error as error:
        raise InputError("list not understood", value=f"{path}: {error}") from error


FEWEST_NAMES = 3
"""Least number of known columns in a comment that is a header."""

_RULE = re.compile(r"[\s|+:=-]+|sep=.", re.IGNORECASE)
"""A line between header and rows, or Excel's note of the separator."""


def _n_known(header: str) -> int:
    """Return how many known columns a line names."""
    return sum(
        _canonical(word.strip('"')) in _MEANING
        for word in re.split(r"[,;|\t]" if re.search(r"[,;|\t]", header) else r"\s+", header)
    )


def _named(names: list[str], split: Iterable[tuple[int, list[str]]], path: Path) -> ListRows:
    canonical = [_canonical(name) for name in names]
    columns = [_MEANING[name] for name in canonical if name in _MEANING]
    for name in canonical:
        if name in _MEANING and canonical.count(name) > 1:
            raise InputError("list names a column twice", value=f"{name} in {path}")
    rows = []
    for number, values in split:
        if len(values) < len(names):
            needed = next((n for n in canonical[len(values) :] if _MEANING.get(n) in COLUMNS[:7]), None)
            if needed is not None:
                problem = f"{path}, line {number}: the line ends before {needed}"
                raise InputError("exposure list line not understood", value=problem)
        if any(value.strip() for value in values[len(names) :]):
            problem = f"{path}, line {number}: {len(values)} values for {len(names)} columns"
            remedy = "write numbers with a decimal point, and texts with commas between quotes"
            raise InputError("exposure list line not understood", value=problem, remedy=remedy)
        rows.append(_row(f"line {number}", zip(names, values, strict=False)))
    return ListRows(tuple(rows), frozenset(columns))
