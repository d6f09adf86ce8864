"""Read and write the quality numbers of a CCD, stored beside its products."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from imaging.errors import StorageError
from imaging.io.atomic import write_text
from imaging.schemas.quality import QUALITY
from tasks.engine.jobs import QualityValue, plain_quality


def write_quality(path: Path, quality: Mapping[str, Any]) -> Path:
    """Write quality numbers as JSON and return the path; NaN and infinities become null."""
    write_text(path, json.dumps(plain_quality(quality), indent=1, sort_keys=True) + "\n")
    return path


def read_quality(path: Path) -> dict[str, QualityValue]:
    """Read quality numbers.

    Raises
    ------
    StorageError
        If the file is missing or damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise StorageError(
            "quality numbers missing or damaged", value=path, remedy="run the step that makes them again"
        ) from error


def quality_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Return the quality numbers of CCDs as a table of schema QUALITY; other numbers are left out."""
    names = QUALITY.names
    integers = {f.name for f in QUALITY if pa.types.is_integer(f.type)}
    clean = [
        {n: int(v) if n in integers and (v := row.get(n)) is not None else row.get(n) for n in names} for row in rows
    ]
    return pa.Table.from_pylist(clean, schema=QUALITY)
