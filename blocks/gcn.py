"""The block with credentials for alerts of the General Coordinates Network."""

from prefect.blocks.core import Block
from pydantic import Field, SecretStr


class GcnCredentials(Block):
    """Client credentials of the General Coordinates Network, https://gcn.nasa.gov."""

    _block_type_name = "GCN Credentials"
    _block_type_slug = "gw-gcn-credentials"
    _description = "Client credentials of the General Coordinates Network, for gravitational-wave alerts over Kafka."

    client_id: str = Field(title="Client ID", description="Created at https://gcn.nasa.gov/quickstart.")
    client_secret: SecretStr = Field(title="Client secret", description="Created together with the client ID.")
    domain: str = Field(default="gcn.nasa.gov", description="Domain of the Kafka brokers.")
    topics: tuple[str, ...] = Field(default=("igwn.gwalert",), description="Kafka topics to subscribe to.")
