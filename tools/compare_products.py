"""Compare the products of two sites: pixels, table values, header cards and texts, to the last bit.

``python -m tools.compare_products BEFORE AFTER`` compares the folders of two sites that were processed from the same
raw files by two versions of the code. It prints all differences and exits with 1 if there are any. Renamed items are in
:data:`RENAMED`; versions of code and settings (:data:`VERSIONS`) and descriptions of columns are not compared.
"""

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
from astropy.io import fits
from PIL import Image

FOLDERS = ("raw", "calibrations", "reference", "products")

RENAMED: dict[str, dict[str, str]] = {
    "file": {"evidence.feather": "lightcurve_likelihood.feather"},
    "extension": {"GROUNDWORK": "RESAMPLING"},
    "column": {
        f"part_{part}": f"loglr_{part}"
        for part in ("skymap", "distance", "real", "lightcurve", "host", "time", "history", "motion")
    },
    "key": {"efficiency_ceiling": "efficiency_max", "evidence": "likelihood", "groundwork": "resampling_inputs"},
    "card": {},
}
"""Kind of name to {name before: name after}."""

VERSIONS = {"code_version", "settings_hash", "made_with", "version", "upstream", "code", "settings", "likelihood"}
"""Columns and keys with versions of code or settings, or with hashes of files that contain these."""

WORDS = {
    "part_${": "loglr_${",
    "what would have been found": "detection probability against magnitude, by band",
    "a typical kilonova would have been found": "probability to detect a typical kilonova",
}
"""Words on pages, before and after."""


def compare_sites(before: Path, after: Path) -> tuple[list[str], Counter[str]]:
    """Compare two sites.

    Returns
    -------
    differences
        One line each: file and what differs.
    counts
        Number of compared files by kind of agreement.
    """
    differences: list[str] = []
    counts: Counter[str] = Counter()
    for folder in FOLDERS:
        old = {_new_name(path.relative_to(before)): path for path in _files(before / folder)}
        new = {path.relative_to(after): path for path in _files(after / folder)}
        differences += [f"{name}: only before" for name in sorted(set(old) - set(new))]
        differences += [f"{name}: only after" for name in sorted(set(new) - set(old))]
        for name in sorted(set(old) & set(new)):
            found = list(compare_files(old[name], new[name]))
            counts["identical bytes" if _digest(old[name]) == _digest(new[name]) else "same content"] += not found
            counts["different"] += bool(found)
            differences += [f"{name}: {line}" for line in found]
    return differences, counts


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))


def _new_name(path: Path) -> Path:
    return path.with_name(RENAMED["file"].get(path.name, path.name))


def _digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").digest()


def compare_files(before: Path, after: Path) -> Iterator[str]:
    """Yield what differs between two files of one product."""
    if _digest(before) == _digest(after):
        return
    match "".join(after.suffixes[-2:]) if after.suffix in (".fz", ".gz") else after.suffix:
        case ".fits" | ".fits.fz":
            yield from _compare_fits(before, after)
        case ".parquet":
            yield from _compare_tables(pq.read_table(before), pq.read_table(after))
        case ".feather":
            yield from _compare_tables(feather.read_table(before), feather.read_table(after))
        case ".json":
            yield from _compare_values(json.loads(before.read_text()), json.loads(after.read_text()), "")
        case ".png":
            if not np.array_equal(np.asarray(Image.open(before)), np.asarray(Image.open(after))):
                yield "pixels of the picture differ"
        case _:
            yield from _compare_texts(before.read_text(), after.read_text())


def _compare_fits(before: Path, after: Path) -> Iterator[str]:
    with fits.open(before) as old, fits.open(after) as new:
        if len(old) != len(new):
            yield f"{len(old)} extensions, then {len(new)}"
        for one, other in zip(old, new, strict=False):
            name = RENAMED["extension"].get(one.name, one.name)
            if name != other.name:
                yield f"extension {one.name}, then {other.name}"
            yield from (f"{name}: {line}" for line in _compare_headers(one.header, other.header))
            same = one.data is None if other.data is None else _same_array(one.data, other.data)
            if not same:
                yield f"{name}: values differ"


def _compare_headers(before: fits.Header, after: fits.Header) -> Iterator[str]:
    skipped = {"CHECKSUM", "DATASUM", "EXTNAME", "", "HISTORY", "COMMENT"}
    old = {RENAMED["card"].get(key, key): value for key, value in before.items() if key not in skipped}
    new = {key: value for key, value in after.items() if key not in skipped}
    if "DES_EXT" in old:
        old["DES_EXT"] = RENAMED["extension"].get(old["DES_EXT"], old["DES_EXT"])
    changed = [key for key in old | new if old.get(key) != new.get(key)]
    yield from (f"card {key}: {old.get(key)!r}, then {new.get(key)!r}" for key in changed)


def _same_array(before: Any, after: Any) -> bool:  # noqa: ANN401
    return before.dtype == after.dtype and before.shape == after.shape and before.tobytes() == after.tobytes()


def _compare_tables(before: pa.Table, after: pa.Table) -> Iterator[str]:
    names = [RENAMED["column"].get(name, name) for name in before.column_names]
    if names != after.column_names:
        yield f"columns {sorted(set(names) ^ set(after.column_names))}"
        return
    for number, name in enumerate(names):
        one, other = before.column(number), after.column(number)
        if one.type != other.type:
            yield f"column {name}: {one.type}, then {other.type}"
        elif name not in VERSIONS and not _same_column(one, other):
            yield f"column {name}: values differ"
        yield from _compare_units(before.schema.field(number), after.schema.field(number))


def _same_column(before: pa.ChunkedArray, after: pa.ChunkedArray) -> bool:
    return before.equals(after) or before.to_pylist().__repr__() == after.to_pylist().__repr__()


def _compare_units(before: pa.Field, after: pa.Field) -> Iterator[str]:
    old, new = ((field.metadata or {}).get(b"unit") for field in (before, after))
    if old != new:
        yield f"column {after.name}: unit {old!r}, then {new!r}"


def _compare_values(before: Any, after: Any, place: str) -> Iterator[str]:  # noqa: ANN401
    if isinstance(before, dict) and isinstance(after, dict):
        old = {RENAMED["key"].get(key, RENAMED["column"].get(key, key)): value for key, value in before.items()}
        for key in sorted({*old, *after}, key=str):
            if key in VERSIONS:
                continue
            if key not in old or key not in after:
                yield f"{place}/{key}: only {'before' if key in old else 'after'}"
            else:
                yield from _compare_values(old[key], after[key], f"{place}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _compare_values(one, other, f"{place}/{number}")
    elif before != after:
        yield f"{place}: {str(before)[:60]!r}, then {str(after)[:60]!r}"


HASH = re.compile(r"\b[0-9a-f]{32}\b")


def _compare_texts(before: str, after: str) -> Iterator[str]:
    for name, then in (RENAMED["column"] | WORDS).items():
        before = before.replace(name, then)
    old, new = (HASH.sub("HASH", text).splitlines() for text in (before, after))
    lines = [number for number, (one, other) in enumerate(zip(old, new, strict=False), 1) if one != other]
    if lines or len(old) != len(new):
        first = lines[0] if lines else min(len(old), len(new)) + 1
        yield f"{len(lines)} lines differ, {len(old)} then {len(new)} in all, the first is {first}"


def main() -> None:
    """Print the differences of two sites; exit with 1 if there are any."""
    parser = argparse.ArgumentParser(description="Compare the products of two sites")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args()
    differences, counts = compare_sites(options.before, options.after)
    print("\n".join(differences))
    print(", ".join(f"{number} files with {what}" for what, number in sorted(counts.items())))
    sys.exit(1 if differences or not sum(counts.values()) else 0)


if __name__ == "__main__":
    main()
