"""The block with the address of the archive and a token for proprietary data."""

import os

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, field_validator

from blocks.receivers import bare_address
from blocks.saved import saved_block

ARCHIVE = "https://astroarchive.noirlab.edu"
"""The NOIRLab Astro Data Archive."""

ADDRESS_VARIABLE, TOKEN_VARIABLE = "GW_WORKFLOW_ARCHIVE", "GW_WORKFLOW_ARCHIVE_TOKEN"
"""Environment variables that take precedence over the block."""


class ArchiveAccess(Block):
    """Address of the archive of raw and calibrated exposures, and a token for proprietary data."""

    _block_type_name = "Archive Access"
    _block_type_slug = "gw-archive-access"
    _description = "Address of the NOIRLab Astro Data Archive, and a token for proprietary data."

    address: str = Field(default=ARCHIVE, description="URL of the archive, or of a mirror with the same interface.")
    token: SecretStr = Field(
        default=SecretStr(""), description="Token of the archive's api/get_token; empty: public data only."
    )

    _bare = field_validator("address")(bare_address)


def archive_access() -> ArchiveAccess:
    """Return the access that the environment names, else that of the block ``default``, else public access.

    Raises
    ------
    ValueError
        If the address is not a URL.
    """
    known = saved_block(ArchiveAccess, "default") or ArchiveAccess()
    return ArchiveAccess(
        address=os.environ.get(ADDRESS_VARIABLE) or known.address,
        token=SecretStr(os.environ.get(TOKEN_VARIABLE) or known.token.get_secret_value()),
    )
