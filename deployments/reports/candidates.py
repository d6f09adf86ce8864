"""Read the ranked candidates of a night, and write a selection of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from blocks.site import Site
from imaging.errors import InputError
from imaging.identity import check_night
from imaging.schemas.candidates import CandidateFlag

STARS = CandidateFlag.ON_STAR | CandidateFlag.NEAR_STAR
"""Flags of candidates that are not reported unless asked for."""


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


def without_stars(candidates: pa.Table) -> pa.Table:
    """Return the candidates that are neither on a star with a parallax or proper motion nor in a bright star's halo."""
    bits = pc.bit_wise_and(candidates.column("flags").fill_null(0), pa.scalar(int(STARS), type=pa.int32()))
    return candidates.filter(pc.equal(bits, 0))


def write_selection(path: Path, candidates: pa.Table, image: Path | None = None) -> None:
    """Write candidates in the format of the file's suffix.

    Parameters
    ----------
    path
        File to write: ``.parquet``, ``.csv``, ``.fits``, ``.vot`` (VOTable), ``.ecsv`` or ``.reg`` (DS9).
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    image
        Image in whose pixels the regions are, with those on it; None for all in ICRS.

    Raises
    ------
    InputError
        If the suffix is unknown, or an image is given with another one than ``.reg``.
    StorageError
        If the file cannot be written, or the image cannot be read.
    """
    from imaging.io import astropy_tables
    from imaging.io.candidates import write_candidates, write_candidates_csv
    from imaging.io.regions import write_regions

    suffix = path.suffix.lower()
    if image is not None and suffix != ".reg":
        raise InputError("only regions can be in the pixels of an image", value=path.name, limit=".reg")
    writers: dict[str, Callable[[Path, pa.Table], None]] = {
        ".parquet": write_candidates,
        ".csv": write_candidates_csv,
        ".reg": lambda where, chosen: write_regions(where, chosen, image),
    }
    writers |= dict.fromkeys(astropy_tables.FORMATS, astropy_tables.write_candidates)
    if suffix not in writers:
        raise InputError("unknown format of a file of candidates", value=path.name, limit=", ".join(writers))
    writers[suffix](path, candidates)
