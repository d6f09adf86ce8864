"""Write the comma-separated tables and lists of the original."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from imaging.io.atomic import atomic_path


def write_csv(path: Path, rows: pa.Table | Sequence[Mapping[str, Any]]) -> None:
    """Write a table as comma-separated values with a line of names; what is unknown is empty.

    Parameters
    ----------
    path
        The file.
    rows
        A table, or its rows, all with the same names.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist([dict(row) for row in rows])
    with atomic_path(path) as temporary:
        pacsv.write_csv(table, temporary, pacsv.WriteOptions(quoting_style="needed"))
