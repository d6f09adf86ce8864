"""The command listen."""

import sys
from contextlib import suppress
from typing import Annotated

from cyclopts import Parameter

from deployments.cli.options import DEFAULTS, Common, find_site
from deployments.cli.output import Answer


def listen(
    *,
    client_id: Annotated[str | None, Parameter(name="--client-id", env_var="GCN_CLIENT_ID")] = None,
    client_secret: Annotated[str | None, Parameter(name="--client-secret", env_var="GCN_CLIENT_SECRET")] = None,
    topic: Annotated[tuple[str, ...], Parameter(name="--topic", help="Topic; may be given several times.")] = (),
    broker: Annotated[str | None, Parameter(name="--broker", help="Broker of your own, HOST:PORT.")] = None,
    seconds: Annotated[float | None, Parameter(name="--seconds", help="How long; for ever without it.")] = None,
    common: Common = DEFAULTS,
) -> Answer:
    """Listen to gravitational-wave alerts: keep them and their sky maps, and tell the server; until interrupted.

    Credentials come from the options, the environment, or the block GCN Credentials called default.
    """
    from blocks.gcn import GcnCredentials
    from blocks.saved import saved_block
    from deployments.listening import listen as take_alerts
    from deployments.listening import open_consumer
    from deployments.server import server_for
    from imaging.errors import InputError

    site = find_site(common).site
    records = []
    with server_for(site):
        block = saved_block(GcnCredentials, "default") if client_id is None else None
        if block is None and (client_id is None or client_secret is None):
            raise InputError(
                "no credentials for the alerts",
                limit="--client-id and --client-secret, GCN_CLIENT_ID and GCN_CLIENT_SECRET, or the block",
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
