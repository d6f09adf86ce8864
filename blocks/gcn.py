"""The block with the credentials for alerts of the General Coordinates Network."""

from prefect.blocks.core import Block
from pydantic import Field, SecretStr


class GcnCredentials(Block):
    """Client of the General Coordinates Network, https://gcn.nasa.gov."""

    _block_type_name = "GCN Credentials"
    _block_type_slug = "gw-gcn-credentials"
    _description = "Client of the General Coordinates Network, for gravitational-wave alerts over Kafka."

    client_id: str = Field(title="Client ID", description="From https://gcn.nasa.gov, quick start.")
    client_secret: SecretStr = Field(title="Client secret", description="From the same page.")
    domain: str = Field(default="gcn.nasa.gov", description="Domain of the brokers.")
    topics: tuple[str, ...] = Field(default=("igwn.gwalert",), description="Topics to listen to.")
