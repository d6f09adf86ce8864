"""Select candidates by an SQL condition, which SQLite evaluates on a read-only table in memory."""

import sqlite3

import pyarrow as pa

from imaging.candidates.words import flag_names
from imaging.errors import InputError

READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}

FORBIDDEN = {"load_extension", "readfile", "writefile", "edit", "randomblob", "zeroblob"}

STEPS = 200_000_000
"""Limit of SQLite's virtual-machine steps for a condition; a simple one takes ten per row and term."""


def select_rows(table: pa.Table, where: str) -> pa.Table:
    """Return the rows of a table that meet an SQL condition, in their order.

    Parameters
    ----------
    table
        Candidates. The condition may use every column that is not a list, and ``flag_names``: the names of the flags,
        joined by semicolons.
    where
        Condition after WHERE, such as ``mag_last < 22 AND flag_names NOT LIKE '%MOVER%'``.

    Raises
    ------
    InputError
        If the condition is invalid, or is more than a condition.
    """
    columns = _columns(table, where)
    connection = sqlite3.connect(":memory:")
    try:
        names = ", ".join(f'"{name}"' for name in columns) or '"nothing"'
        connection.execute(f"CREATE TABLE candidates ({names})")
        marks = ", ".join("?" * max(len(columns), 1))
        rows = zip(*columns.values(), strict=True) if columns else [(None,)] * table.num_rows
        connection.executemany(f"INSERT INTO candidates VALUES ({marks})", rows)  # noqa: S608 (marks alone)
        connection.set_authorizer(_authorise)
        connection.set_progress_handler(lambda: 1, STEPS)
        found = connection.execute(f"SELECT rowid - 1 FROM candidates WHERE ({where}\n) ORDER BY 1")  # noqa: S608
        return table.take(pa.array([row[0] for row in found], type=pa.int64()))
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise InputError(
            f"invalid SQL condition: {error}",
            value=where,
            limit=f"SQL on {', '.join([*_usable(table), 'flag_names'])}",
        ) from error
    finally:
        connection.close()


def _usable(table: pa.Table) -> list[str]:
    return [field.name for field in table.schema if not pa.types.is_nested(field.type)]


def _columns(table: pa.Table, where: str) -> dict[str, list[object]]:
    """Return the columns that a condition names."""
    text = where.lower()
    columns = {name: table.column(name).to_pylist() for name in _usable(table) if name.lower() in text}
    if "flag_names" in text:
        bits = [int(flags or 0) for flags in table.column("flags").to_pylist()]
        words = {flags: ";".join(flag_names(flags)) for flags in set(bits)}
        columns["flag_names"] = [words[flags] for flags in bits]
    return columns


def _authorise(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """Allow reading and functions, except functions that access files or fill the memory."""
    if action not in READING or (action == sqlite3.SQLITE_FUNCTION and (second or first) in FORBIDDEN):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK
