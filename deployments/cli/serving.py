"""The command serve."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deployments.cli.options import DEFAULTS, Common, find_site
from deployments.cli.output import Answer, write_document
from deployments.cli.running import quiet_console

if TYPE_CHECKING:
    from deployments.server import Server


def serve(
    *,
    port: Annotated[int | None, Parameter(name="--port", help="Port of the server; any free one without it.")] = None,
    limit: Annotated[int, Parameter(name="--limit", help="How many exposures may be processed at once.")] = 2,
    common: Common = DEFAULTS,
) -> Answer:
    """Serve the site: Prefect server, deployments and event triggers, until interrupted.

    With --json the document is written when runs can be started.
    """
    from deployments import serve as serving

    quiet_console(verbose=common.verbose)
    found = find_site(common)
    os.environ["GW_WORKFLOW_ROOT"] = str(found.site.root)

    def ready(server: "Server") -> None:
        if common.json:
            write_document({"command": "serve", "server": server.ui_url, "api": server.api_url, "site": found.name})
        else:
            sys.stdout.write(f"serving {found.name} at {server.ui_url}; interrupt to stop\n")
            sys.stdout.flush()

    serving.serve(found.site, name=found.name, port=port, limit=limit, on_ready=ready)
    return Answer({}, ("stopped",))
