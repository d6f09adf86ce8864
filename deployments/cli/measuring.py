"""The command metrics."""

import sys
import threading
from contextlib import suppress
from typing import Annotated

from cyclopts import Parameter

from deployments.cli.options import DEFAULTS, Common, find_site
from deployments.cli.output import Answer


def metrics(
    *,
    port: Annotated[
        int | None,
        Parameter(name="--port", help="Serve them at this port; write them once without it."),
    ] = None,
    host: Annotated[str, Parameter(name="--host", help="Address of this machine to listen at.")] = "127.0.0.1",
    common: Common = DEFAULTS,
) -> Answer:
    """Write the figures of a site for Prometheus: steps done, runs by state, workers, disk, what waits."""
    from deployments.metrics import serve_metrics, write_metrics

    site = find_site(common).site
    if port is None:
        text = write_metrics(site)
        return Answer({"command": "metrics", "text": text}, text.splitlines())
    server = serve_metrics(site, port, host)
    sys.stderr.write(f"figures of {site.root} at http://{host}:{server.server_port}/metrics; interrupt to stop\n")
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    server.shutdown()
    return Answer({"command": "metrics", "port": port}, ("stopped",))
