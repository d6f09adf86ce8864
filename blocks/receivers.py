"""Blocks with the credentials of services to which candidates are reported; nothing is sent without one."""

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, field_validator


def bare_address(value: str) -> str:
    """Return a URL without a trailing slash.

    Raises
    ------
    ValueError
        If it does not begin with ``https://`` or ``http://``.
    """
    if not value.startswith(("https://", "http://")):
        raise ValueError("the address must begin with https:// or http://")
    return value.rstrip("/")


class SkyPortalCredentials(Block):
    """URL and API token of a SkyPortal instance."""

    _block_type_name = "SkyPortal Credentials"
    _block_type_slug = "gw-skyportal-credentials"
    _description = "URL of a SkyPortal instance, such as Fritz, and an API token with permission to upload data."

    address: str = Field(description="URL of the instance, such as https://fritz.science.")
    token: SecretStr = Field(description="API token from your profile page, with the permission Upload data.")

    _bare = field_validator("address")(bare_address)


class TnsCredentials(Block):
    """Credentials of a bot of the Transient Name Server."""

    _block_type_name = "TNS Credentials"
    _block_type_slug = "gw-tns-credentials"
    _description = "Credentials of a bot of the Transient Name Server; reports go to the sandbox by default."

    address: str = Field(
        default="https://sandbox.wis-tns.org",
        description="https://sandbox.wis-tns.org for tests, https://www.wis-tns.org for real reports.",
    )
    bot_id: int = Field(title="Bot ID", description="ID of the bot at the TNS.")
    bot_name: str = Field(title="Bot name", description="Name of the bot at the TNS.")
    api_key: SecretStr = Field(title="API key", description="API key of the bot.")

    _bare = field_validator("address")(bare_address)

    @property
    def user_agent(self) -> str:
        """The User-Agent header that the TNS requires in every request of a bot."""
        return f'tns_marker{{"tns_id":{self.bot_id},"type":"bot","name":"{self.bot_name}"}}'


class BrokerCredentials(Block):
    """A Kafka topic for alert packets."""

    _block_type_name = "Alert Broker Credentials"
    _block_type_slug = "gw-broker-credentials"
    _description = "Kafka brokers and topic to which alert packets in Avro are published."

    servers: str = Field(description="Bootstrap servers, HOST:PORT, comma separated.")
    topic: str = Field(description="Topic to publish to.")
    username: str = Field(default="", description="SASL user name; empty: no authentication.")
    password: SecretStr = Field(default=SecretStr(""), description="SASL password.")
    mechanism: str = Field(default="SCRAM-SHA-512", description="SASL mechanism; used only with a user name.")

    def options(self) -> dict[str, str]:
        """Return the configuration properties of librdkafka."""
        settings = {"bootstrap.servers": self.servers, "enable.idempotence": "true", "message.timeout.ms": "60000"}
        if self.username:
            settings |= {
                "security.protocol": "sasl_ssl",
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.username,
                "sasl.password": self.password.get_secret_value(),
            }
        return settings
