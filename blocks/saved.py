"""Load saved blocks without starting a temporary server."""

from typing import TypeVar

from prefect.blocks.core import Block
from prefect.settings import PREFECT_API_URL

Kind = TypeVar("Kind", bound=Block)


def saved_block(kind: type[Kind], name: str) -> Kind | None:
    """Return the saved block of a class and name; None if ``PREFECT_API_URL`` is not set or there is no such block."""
    if not PREFECT_API_URL.value():
        return None
    try:
        block = kind.load(name)
    except ValueError:  # raised by Prefect for a block that does not exist
        return None
    return block if isinstance(block, kind) else None
