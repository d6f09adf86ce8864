"""Write the CSV tables and lists of the original pipeline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from imaging.io.atomic import atomic_path


def write_csv(path: Path, rows: pa.Table | Sequence[Mapping[str, Any]]) -> None:
    """Write a table as comma-separated values with a header line; unknown values are empty.

    Parameters
    ----------
    path
        The file.
    rows
        A table, or rows with the same keys.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist([dict(row) for row in rows])
    with atomic_path(path) as temporary:
        pacsv.write_csv(table, temporary, pacsv.WriteOptions(quoting_style="needed"))
