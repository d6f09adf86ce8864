"""Read the small tables and texts that ship with the package."""

import csv
from functools import lru_cache
from importlib import resources


@lru_cache
def read_text(package: str, name: str) -> str:
    """Return the text of a file in a package's ``data`` folder."""
    return resources.files(package).joinpath("data", name).read_text(encoding="utf-8")


@lru_cache
def read_table(package: str, name: str) -> tuple[dict[str, str], ...]:
    """Read a comma-separated table from a package's ``data`` folder; lines starting with ``#`` are comments.

    Parameters
    ----------
    package
        Package whose ``data`` folder holds the table, such as ``imaging.detector``.
    name
        File name.

    Returns
    -------
    rows
        One dictionary of strings per line.
    """
    lines = [line for line in read_text(package, name).splitlines() if line and not line.startswith("#")]
    return tuple(csv.DictReader(lines))
