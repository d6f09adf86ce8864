"""Write candidates as Parquet and CSV; read candidates and candidate labels."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from imaging.candidates.classify import CLASSES, probability_column
from imaging.candidates.words import flag_names
from imaging.errors import InputError
from imaging.io.atomic import atomic_path
from imaging.io.damage import reading
from imaging.io.tables import read_table, table_of, write_table
from imaging.plain_text import FORMULA, cell_text
from imaging.schemas.candidates import CANDIDATES
from imaging.schemas.fields import NO_ID
from imaging.schemas.labels import LABEL_NAMES, LABELS
from imaging.tables import make_table

PROVENANCE = ("expnums", "templates", "code_version", "settings_hash", "calibration_set")
"""Provenance columns."""

NEW_COLUMNS = tuple(
    name
    for name in CANDIDATES.names
    if name.startswith(("reported_", "known_", "minor_planet"))
    or name in ("host_distance_source", "loglr_reported", "probability_real", "trail_arcsec", "undecided_because")
)
"""Columns that tables of 0.2 lack: matches with catalogues of context, probability to be real, reason of no class,
trails."""

OLD_TERM = re.compile(r"^part_")
"""How version 0.1 began the names of the terms of the rank."""


def write_candidates(path: Path, candidates: pa.Table) -> None:
    """Write candidates as Parquet.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    write_table(path, candidates.select(CANDIDATES.names).cast(CANDIDATES))


def read_candidates(path: Path) -> pa.Table:
    """Read candidates from Parquet.

    Tables of earlier versions are read too: their terms of the rank are called ``part_*``, the identifier of a missing
    star is null, their light-curve classes and scores have no probabilities, they have no matches with catalogues of
    known sources, and the oldest have no provenance.

    Raises
    ------
    StorageError
        If the file is missing or damaged.
    """
    table = read_table(path)
    with table_of(path):
        return _of_this_version(table)


def _of_this_version(table: pa.Table) -> pa.Table:
    """Return a table of candidates of an earlier version with the columns of this one."""
    table = table.rename_columns([OLD_TERM.sub("loglr_", name) for name in table.column_names])
    for name in {*PROVENANCE, *NEW_COLUMNS, *map(probability_column, CLASSES)} - set(table.schema.names):
        table = table.append_column(name, pa.nulls(table.num_rows, CANDIDATES.field(name).type))
    ids = table.schema.get_field_index("gaia_source_id")
    table = table.set_column(ids, "gaia_source_id", table.column(ids).fill_null(NO_ID))
    return table.select(CANDIDATES.names).cast(CANDIDATES)


def write_candidates_csv(path: Path, candidates: pa.Table) -> None:
    """Write candidates as comma-separated text.

    Flags appear as their number and, in a column ``flag_names``, by name; lists are joined by semicolons.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    table = candidates
    for field in candidates.schema:
        if pa.types.is_list(field.type):
            joined = pc.binary_join(pc.cast(candidates.column(field.name), pa.list_(pa.string())), ";")
            table = table.set_column(table.schema.get_field_index(field.name), field.name, joined)
    if "flags" in table.schema.names:
        bits = table.column("flags").fill_null(0).combine_chunks().dictionary_encode()
        names = pa.array([";".join(flag_names(int(flags))) for flags in bits.dictionary.to_pylist()], type=pa.string())
        table = table.append_column("flag_names", names.take(bits.indices))
    with atomic_path(path) as temporary:
        pacsv.write_csv(without_formulas(table), temporary)


def without_formulas(table: pa.Table) -> pa.Table:
    """Return a table whose texts no spreadsheet computes."""
    for number, field in enumerate(table.schema):
        if not pa.types.is_string(field.type):
            continue
        if any(pc.any(pc.starts_with(table.column(number), sign)).as_py() for sign in FORMULA):
            texts = [text and cell_text(text) for text in table.column(number).to_pylist()]
            table = table.set_column(number, field.name, pa.array(texts, type=pa.string()))
    return table


def read_labels(path: Path) -> pa.Table:
    """Read the labels saved from the page of a night.

    Returns
    -------
    labels
        Rows of :data:`imaging.schemas.labels.LABELS`.

    Raises
    ------
    InputError
        If the file is not a file of labels.
    """
    remedy = "give a file saved from the page of a night"
    with reading(path, "the labels cannot be read", remedy):
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if document["kind"] != "gw-workflow labels":
            raise InputError("the file contains no labels", value=path, remedy=remedy)
        rows = document["labels"]
        unknown = {row["label"] for row in rows} - set(LABEL_NAMES)
        if unknown:
            raise InputError("unknown labels", value=sorted(unknown), limit=", ".join(LABEL_NAMES), remedy=remedy)
        texts = [document["event"], *(row[name] for row in rows for name in ("candidate_id", "marked_at"))]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("event, candidate_id and marked_at must be text")
        n = len(rows)
        return make_table(
            {
                "candidate_id": [str(row["candidate_id"]) for row in rows],
                "night": [int(document["night"])] * n,
                "event": [str(document["event"])] * n,
                "label": [row["label"] for row in rows],
                "marked_at": [str(row["marked_at"]) for row in rows],
                "detection_ids": [[int(i) for i in row["detection_ids"]] for row in rows],
            },
            LABELS,
        )
