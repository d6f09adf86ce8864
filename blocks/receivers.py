"""The blocks with the credentials of those to whom candidates are reported. Without one, nothing can be sent."""

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, field_validator


def bare_address(value: str) -> str:
    """Return an address without a slash at its end.

    Raises
    ------
    ValueError
        If it does not begin with ``https://`` or ``http://``.
    """
    if not value.startswith(("https://", "http://")):
        raise ValueError("an address begins with https:// or http://")
    return value.rstrip("/")


class SkyPortalCredentials(Block):
    """A SkyPortal instance and a token for it."""

    _block_type_name = "SkyPortal Credentials"
    _block_type_slug = "gw-skyportal-credentials"
    _description = "A SkyPortal instance, such as Fritz, and a token that may upload candidates to it."

    address: str = Field(description="Address of the instance, such as https://fritz.science.")
    token: SecretStr = Field(description="From the page of your profile; it needs the permission Upload data.")

    _bare = field_validator("address")(bare_address)


class TnsCredentials(Block):
    """A bot of the Transient Name Server."""

    _block_type_name = "TNS Credentials"
    _block_type_slug = "gw-tns-credentials"
    _description = "A bot of the Transient Name Server; the sandbox unless another address is given."

    address: str = Field(
        default="https://sandbox.wis-tns.org",
        description="https://sandbox.wis-tns.org to try, https://www.wis-tns.org to report.",
    )
    bot_id: int = Field(title="Bot number", description="Number of the bot at the TNS.")
    bot_name: str = Field(title="Bot name", description="Its name.")
    api_key: SecretStr = Field(title="API key", description="Its key.")

    _bare = field_validator("address")(bare_address)

    @property
    def user_agent(self) -> str:
        """How the TNS wants a bot to present itself in every request."""
        return f'tns_marker{{"tns_id":{self.bot_id},"type":"bot","name":"{self.bot_name}"}}'


class BrokerCredentials(Block):
    """A topic of a Kafka broker that takes alert packets."""

    _block_type_name = "Alert Broker Credentials"
    _block_type_slug = "gw-broker-credentials"
    _description = "A topic of a Kafka broker that takes alert packets in Avro."

    servers: str = Field(description="Brokers, HOST:PORT, comma separated.")
    topic: str = Field(description="Topic to write to.")
    username: str = Field(default="", description="Empty for a broker that asks for none.")
    password: SecretStr = Field(default=SecretStr(""), description="Password of this user.")
    mechanism: str = Field(default="SCRAM-SHA-512", description="How the password is proven; with a user only.")

    def options(self) -> dict[str, str]:
        """Return the settings of librdkafka."""
        settings = {"bootstrap.servers": self.servers, "enable.idempotence": "true", "message.timeout.ms": "60000"}
        if self.username:
            settings |= {
                "security.protocol": "sasl_ssl",
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.username,
                "sasl.password": self.password.get_secret_value(),
            }
        return settings
