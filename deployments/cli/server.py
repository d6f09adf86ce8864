"""Commands for the Prefect server: serve, deploy, settings, listen, metrics, database."""

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from deployments.cli.options import A_PORT, AT_LEAST_ONE, DEFAULT_DISPLAY, DEFAULTS, Common, Display, find_site
from deployments.cli.output import Answer, write_document
from deployments.cli.running import quiet_console
from deployments.server.database import ADMINISTRATOR_VARIABLE, LOCAL_ADMINISTRATOR, VARIABLE
from deployments.server.deploy import POOL

if TYPE_CHECKING:
    from deployments.server.server import Server


def serve(
    *,
    port: Annotated[
        int | None, Parameter(name="--port", validator=A_PORT, help="Port of the server; default: any free port.")
    ] = None,
    limit: Annotated[
        int | None,
        Parameter(
            name="--limit",
            validator=AT_LEAST_ONE,
            help="Number of exposures processed at the same time; default: the limit as it is.",
        ),
    ] = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Serve the site: Prefect server, deployments and event triggers, until interrupted.

    With --json the document is written when the server accepts runs.
    """
    from deployments.checks.needs import require_needs
    from deployments.server import serve as serving

    quiet_console(verbose=common.verbose)
    found = find_site(common)
    require_needs(found.site)
    os.environ["GW_WORKFLOW_ROOT"] = str(found.site.root)

    def ready(server: "Server") -> None:
        link = serving.sign_in_link(server)
        if common.json:
            document = {"command": "serve", "server": server.ui_url, "api": server.api_url, "site": found.name}
            write_document(document | {"sign_in": link})
        else:
            sys.stdout.write(f"serving {found.name} at {server.ui_url}; interrupt to stop\n")
            if link:
                sys.stdout.write(f"sign in, once: {link}\n")
            sys.stdout.flush()

    serving.serve(found.site, name=found.name, port=port, limit=limit, on_ready=ready)
    return Answer({}, ("stopped",))


def sign_in(common: Common = DEFAULTS) -> Answer:
    """Print a link that lets one browser in to the pages of the site's server, once, within a quarter of an hour."""
    from deployments.server.serve import sign_in_link
    from deployments.server.server import Server, known_address
    from imaging.errors import InputError

    found = find_site(common)
    api_url = known_address(found.site)
    if api_url is None:
        raise InputError("no server of the site runs", value=found.name, remedy="start it with gw-workflow serve")
    link = sign_in_link(Server(api_url, embedded=True))
    return Answer({"command": "sign-in", "link": link}, (str(link),))


def rotate_secret(
    *,
    now: Annotated[
        bool, Parameter(name="--now", negative="", help="Refuse the old secret at once; runs that go on fail.")
    ] = False,
    common: Common = DEFAULTS,
) -> Answer:
    """Replace the secret of the site's server; what runs goes on with the old one until the server ends."""
    from blocks.sharing import require_site
    from deployments.server import identity

    found = find_site(common)
    folder = found.site.state / "server"
    require_site(found.site, "server", write=True)
    if not (folder / "secret").exists():
        identity.make_secret(folder)
    identity.rotate_secret(folder, keep_previous=not now)
    after = "at once" if now else "when the server ends; restart gw-workflow serve when no run goes on"
    lines = (f"{found.name} has a new secret; the old one is refused {after}", "browsers sign in again: sign-in")
    return Answer({"command": "rotate-secret", "site": found.name, "old_is_refused": after}, lines)


def deploy(
    *,
    code: Annotated[Path, Parameter(name="--code", help="Folder of the checkout, with prefect.yaml.")] = Path(),
    limit: Annotated[
        int | None,
        Parameter(
            name="--limit",
            validator=AT_LEAST_ONE,
            help="Number of concurrent runs of the work pool; default: the limit as it is.",
        ),
    ] = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Create work pool, blocks, automations, limits and deployments on the server of PREFECT_API_URL."""
    from deployments.server.deploy import deploy as deploy_all

    names = deploy_all(find_site(common).site, code.absolute(), concurrent_runs=limit)
    start = f"prefect worker start --pool {POOL}"
    return Answer(
        {"command": "deploy", "deployments": list(names), "pool": POOL},
        (f"deployed: {', '.join(names)}", f"start workers with: {start}"),
    )


def settings(who: Literal["server", "worker"], /, *, display: Display = DEFAULT_DISPLAY) -> Answer:  # noqa: ARG001
    """Print the Prefect settings of a server or a worker as shell commands."""
    from deployments.server.identity import without_proxy
    from deployments.server.server_settings import CLIENT, SERVER

    chosen = (SERVER if who == "server" else CLIENT) | without_proxy()
    lines = [f"export {name}={value}" for name, value in chosen.items()]
    return Answer({"command": "settings", "settings": chosen}, lines)


def listen(
    *,
    client_id: Annotated[str | None, Parameter(name="--client-id", env_var="GCN_CLIENT_ID")] = None,
    client_secret_file: Annotated[
        Path | None,
        Parameter(name="--client-secret-file", help="File with the client secret, mode 600; or set GCN_CLIENT_SECRET."),
    ] = None,
    topic: Annotated[tuple[str, ...], Parameter(name="--topic", help="Topic; repeatable.")] = (),
    broker: Annotated[str | None, Parameter(name="--broker", help="Another broker, HOST:PORT.")] = None,
    seconds: Annotated[float | None, Parameter(name="--seconds", help="Stop after this time; default: never.")] = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Listen to gravitational-wave alerts until interrupted: store them and their maps, announce them to the server.

    Credentials come from the options, the environment, or the block GCN Credentials called default.
    """
    from blocks.gcn import GcnCredentials
    from blocks.saved import saved_block
    from deployments.events.listening import listen as take_alerts
    from deployments.events.listening import open_consumer
    from deployments.server.private import read_secret
    from deployments.server.server import server_for
    from imaging.errors import InputError

    site = find_site(common).site
    client_secret = os.environ.get("GCN_CLIENT_SECRET")
    if client_secret_file is not None:  # an option would show the secret in the list of processes
        client_secret = read_secret(client_secret_file, "then a new secret at https://gcn.nasa.gov")
    records = []
    with server_for(site):
        block = saved_block(GcnCredentials, "default") if client_id is None else None
        if block is None and (client_id is None or client_secret is None):
            raise InputError(
                "no credentials for gravitational-wave alerts",
                limit="--client-id and --client-secret-file, GCN_CLIENT_ID and GCN_CLIENT_SECRET, or the block",
                remedy="get them at https://gcn.nasa.gov",
            )
        if block is None:
            block = GcnCredentials(client_id=client_id, client_secret=client_secret)
        options = {"bootstrap.servers": broker, "security.protocol": "plaintext"} if broker else {}
        topics = topic or block.topics
        secret = block.client_secret.get_secret_value()
        consumer = open_consumer(block.client_id, secret, topics, block.domain, options)
        with suppress(KeyboardInterrupt):
            records = take_alerts(site, consumer, say=lambda text: print(text, file=sys.stderr), seconds=seconds)
    events = [record.model_dump(mode="json") for record in records]
    return Answer({"command": "listen", "alerts": events}, (f"{len(events)} new alerts",))


def metrics(
    *,
    port: Annotated[
        int | None,
        Parameter(name="--port", validator=A_PORT, help="Serve the metrics at this port; default: print them once."),
    ] = None,
    host: Annotated[
        str,
        Parameter(name="--host", help="Address to listen at; beyond this machine Prometheus needs the credential."),
    ] = "127.0.0.1",
    write_credential: Annotated[
        Path | None,
        Parameter(name="--write-credential", help="Write the credential for Prometheus to this file, and end."),
    ] = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Print or serve the metrics of a site for Prometheus: steps done, runs by state, workers, disk, pending events."""
    from deployments.server.identity import make_secret, metrics_token
    from deployments.server.metrics import serve_metrics, write_metrics
    from deployments.server.private import write_private
    from imaging.io.atomic import storage_error

    site = find_site(common).site
    if write_credential is not None:
        make_secret(site.state / "server")
        try:
            write_private(write_credential, metrics_token(site.state / "server"))
        except OSError as error:
            raise storage_error(error, write_credential) from error
        return Answer({"command": "metrics", "credential": str(write_credential)}, (f"{write_credential} written",))
    if port is None:
        text = write_metrics(site)
        return Answer({"command": "metrics", "text": text}, text.splitlines())
    server = serve_metrics(site, port, host)
    sys.stderr.write(f"metrics of {site.root} at http://{host}:{server.server_port}/metrics; interrupt to stop\n")
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    server.shutdown()
    return Answer({"command": "metrics", "port": port}, ("stopped",))


database = App(name="database", help="Create or vacuum the database of the Prefect server.", help_format="plaintext")

Address = Annotated[
    str | None,
    Parameter(
        name="--address",
        env_var=VARIABLE,
        help="Connection URL: postgresql+asyncpg://...; with a password, by variable.",
    ),
]


@database.command
def create(
    *,
    address: Address = None,
    administrator: Annotated[
        str,
        Parameter(
            name="--administrator",
            env_var=ADMINISTRATOR_VARIABLE,
            help="URL of an administrator of the same PostgreSQL; with a password, by variable.",
        ),
    ] = LOCAL_ADMINISTRATOR,
    common: Common = DEFAULTS,  # noqa: ARG001 (--json is an option of every command)
) -> Answer:
    """Create role, database and tables on PostgreSQL; repeatable, also after an update of Prefect."""
    from deployments.server.database import create_database, parse_address, refuse_visible_password
    from imaging.errors import InputError

    if address is None:
        raise InputError("no database is named", limit=f"--address or {VARIABLE}")
    refuse_visible_password("--address", address, VARIABLE)
    refuse_visible_password("--administrator", administrator, ADMINISTRATOR_VARIABLE)
    done = create_database(address, administrator)
    shown = parse_address(address).render_as_string(hide_password=True)
    return Answer({"command": "database create", "database": shown, "done": list(done)}, (f"{shown}:", *done))


@database.command
def vacuum(*, address: Address = None, common: Common = DEFAULTS) -> Answer:
    """Return the space of removed rows to the disk; default: the embedded server's database."""
    from deployments.server.database import address_in_use, parse_address, refuse_visible_password
    from deployments.server.database import vacuum as give_back

    refuse_visible_password("--address", address or "", VARIABLE)
    named = address or address_in_use(find_site(common).site.state / "server", {})
    sizes = give_back(named).document()
    shown = parse_address(named).render_as_string(hide_password=True)
    line = f"{shown}: {sizes['freed_mb']:.1f} MB freed, {sizes['size_mb']:.1f} MB left"
    return Answer({"command": "database vacuum", "database": shown} | sizes, (line,))
