"""Look up saved blocks without ever starting a server for it."""

from typing import TypeVar

from prefect.blocks.core import Block
from prefect.settings import PREFECT_API_URL

Kind = TypeVar("Kind", bound=Block)


def saved_block(kind: type[Kind], name: str) -> Kind | None:
    """Return the saved block of a kind and name; None if no server is named or it has no such block."""
    if not PREFECT_API_URL.value():
        return None
    try:
        block = kind.load(name)
    except ValueError:  # Prefect's word for a block that does not exist
        return None
    return block if isinstance(block, kind) else None
