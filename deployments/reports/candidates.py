"""Read the ranked candidates of a night, and write a selection of them."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from blocks.site import Site
from imaging.errors import InputError
from imaging.identity import check_night


def candidate_table(site: Site, night: int) -> Path:
    """Return the path of a night's ranked candidates."""
    return site.store / "nights" / str(night) / "candidates.parquet"


def ranked_table(site: Site, night: int) -> pa.Table:
    """Read the ranked candidates of a night, the best first.

    Returns
    -------
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.

    Raises
    ------
    InputError
        If the night has no candidates.
    """
    from imaging.io.candidates import read_candidates as read

    check_night(night)
    path = candidate_table(site, night)
    if not path.is_file():
        raise InputError("night has no candidates yet", value=path, remedy="process it with gw-workflow night")
    return read(path).sort_by("rank")


def read_candidates(site: Site, night: int) -> list[dict[str, Any]]:
    """Read the ranked candidates of a night as dictionaries, the best first.

    Raises
    ------
    InputError
        If the night has no candidates.
    """
    return ranked_table(site, night).to_pylist()


def chosen_columns(table: pa.Table, text: str) -> list[str]:
    """Return the names in a comma-separated list.

    Raises
    ------
    InputError
        If the table lacks one of them.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in table.schema.names]
    if unknown or not names:
        raise InputError("no such column", value=", ".join(unknown), limit=", ".join(table.schema.names))
    return names


def write_selection(path: Path, candidates: pa.Table) -> None:
    """Write candidates in the format of the file's suffix.

    Raises
    ------
    InputError
        If the suffix is unknown.
    StorageError
        If the file cannot be written.
    """
    from imaging.io.atomic import write_text
    from imaging.io.candidates import region_text, write_candidates, write_candidates_csv

    suffix = path.suffix.lower()
    if suffix == ".parquet":
        write_candidates(path, candidates)
    elif suffix == ".csv":
        write_candidates_csv(path, candidates)
    elif suffix == ".reg":
        write_text(path, region_text(candidates))
    else:
        raise InputError("unknown format of a file of candidates", value=path.name, limit=".parquet, .csv, .reg")
