"""Load saved blocks without starting a temporary server."""

from typing import TypeVar

from httpx import HTTPStatusError
from prefect.blocks.core import Block
from prefect.settings import PREFECT_API_URL

from imaging.errors import InputError

UNAUTHORIZED = 401


def no_access(api_url: str) -> InputError:
    """Return the error of a server that does not let this process in."""
    remedy = "set PREFECT_API_AUTH_STRING to the server's PREFECT_SERVER_API_AUTH_STRING; for the server of a site "
    remedy += "unset PREFECT_API_URL, the site knows it"
    return InputError("the server lets nobody in without its secret", value=api_url, remedy=remedy)


Kind = TypeVar("Kind", bound=Block)


def saved_block(kind: type[Kind], name: str) -> Kind | None:
    """Return the saved block of a class and name; None if ``PREFECT_API_URL`` is not set or there is no such block.

    Raises
    ------
    InputError
        If the server does not let this process in.
    """
    if not PREFECT_API_URL.value():
        return None
    try:
        block = kind.load(name)
    except HTTPStatusError as error:
        if error.response.status_code != UNAUTHORIZED:
            raise
        raise no_access(str(PREFECT_API_URL.value())) from error
    except ValueError:  # raised by Prefect for a block that does not exist
        return None
    return block if isinstance(block, kind) else None
