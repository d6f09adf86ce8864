"""The commands database create and database vacuum."""

from typing import Annotated

from cyclopts import App, Parameter

from deployments.cli.options import DEFAULTS, Common, find_site
from deployments.cli.output import Answer
from deployments.database import LOCAL_ADMINISTRATOR, VARIABLE

database = App(name="database", help="Look after the database of the Prefect server.", help_format="plaintext")

Address = Annotated[
    str | None,
    Parameter(name="--address", env_var=VARIABLE, help="As Prefect reads it: postgresql+asyncpg://..."),
]


@database.command
def create(
    *,
    address: Address = None,
    administrator: Annotated[
        str, Parameter(name="--administrator", help="How who may make roles and databases reaches the same PostgreSQL.")
    ] = LOCAL_ADMINISTRATOR,
    common: Common = DEFAULTS,  # noqa: ARG001 (--json is an option of every command)
) -> Answer:
    """Make role, database and tables for the server on PostgreSQL; may be repeated, also after an update of Prefect."""
    from deployments.database import create_database, parse_address
    from imaging.errors import InputError

    if address is None:
        raise InputError("no database is named", limit=f"--address or {VARIABLE}")
    done = create_database(address, administrator)
    shown = parse_address(address).render_as_string(hide_password=True)
    return Answer({"command": "database create", "database": shown, "done": list(done)}, (f"{shown}:", *done))


@database.command
def vacuum(*, address: Address = None, common: Common = DEFAULTS) -> Answer:
    """Give back the room of removed rows; the embedded server's database where no address is named."""
    from deployments.database import address_in_use, parse_address
    from deployments.database import vacuum as give_back

    named = address or address_in_use(find_site(common).site.state / "server", {})
    sizes = give_back(named).document()
    shown = parse_address(named).render_as_string(hide_password=True)
    line = f"{shown}: {sizes['freed_mb']:.1f} MB given back, {sizes['size_mb']:.1f} MB left"
    return Answer({"command": "database vacuum", "database": shown} | sizes, (line,))
