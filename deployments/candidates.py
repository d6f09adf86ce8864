"""Read the ranked candidates of a night."""

from pathlib import Path
from typing import Any

from blocks.site import Site
from imaging.errors import InputError
from imaging.identity import check_night


def candidate_table(site: Site, night: int) -> Path:
    """Return where a night's ranked candidates lie."""
    return site.store / "nights" / str(night) / "candidates.parquet"


def read_candidates(site: Site, night: int) -> list[dict[str, Any]]:
    """Read the ranked candidates of a night, the best first.

    Returns
    -------
    rows
        The columns of :data:`imaging.schemas.candidates.CANDIDATES`.

    Raises
    ------
    InputError
        If there are none.
    """
    from imaging.io.tables import read_table

    check_night(night)
    path = candidate_table(site, night)
    if not path.is_file():
        raise InputError("night has no candidates yet", value=path, remedy="process it with gw-workflow night")
    rows = read_table(path).to_pylist()
    return sorted(rows, key=lambda row: row["rank"])
