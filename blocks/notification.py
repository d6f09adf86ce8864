"""The block that sets where notifications of failed nights and high-ranked candidates are sent."""

from typing import cast

from prefect import get_client
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from pydantic import Field, SecretStr

from blocks.saved import saved_block
from imaging.errors import InputError

WEBHOOK = "gw-workflow"
"""Name of the webhook block that is created from the target, for the server to send with."""


class NotificationTarget(Block):
    """Where notifications of failed nights, crashed runs and high-ranked candidates are sent."""

    _block_type_name = "Notification Target"
    _block_type_slug = "gw-notification-target"
    _description = (
        "Where notifications of failed nights, crashed runs and high-ranked candidates are sent. "
        "Run gw-workflow deploy after a change."
    )

    webhook: SecretStr | None = Field(
        default=None,
        title="Webhook",
        description='URL of an incoming webhook that accepts {"text": "..."} by POST, as in Slack, Mattermost and '
        "Rocket.Chat. Empty: no notifications.",
    )
    prefect_block: str = Field(
        default="",
        title="Prefect block",
        description="TYPE/NAME of a saved Prefect notification block, such as slack-webhook/astronomers, used instead "
        "of the webhook.",
    )
    minimum_score: float = Field(
        default=10.0,
        title="Minimum score",
        description="Minimum rank_score of candidates that are announced, if they have no disqualifying flag. 10 is a "
        "likelihood ratio of 22,000 to 1.",
    )

    @property
    def address(self) -> str:
        """URL of the webhook in plain text; empty if there is none."""
        return self.webhook.get_secret_value() if self.webhook else ""

    @property
    def is_set(self) -> bool:
        """Whether a webhook or a block is set."""
        return bool(self.address or self.prefect_block)


def load_target() -> NotificationTarget:
    """Return the saved block; an empty one if there is none."""
    return saved_block(NotificationTarget, "default") or NotificationTarget()


def sending_block(target: NotificationTarget) -> str:
    """Create or find the Prefect notification block of a target; return the identifier of its document.

    The server loads this block to send, and can load only block types that ship with Prefect.

    Raises
    ------
    InputError
        If the target names a block that does not exist or is not a notification block.
    """
    if target.prefect_block:
        return _named_block(target.prefect_block)
    block = CustomWebhookNotificationBlock(
        name=WEBHOOK,
        url="{{address}}",
        json_data={"text": "{{subject}}\n{{body}}"},
        secrets={"address": target.address},
    )
    return str(block.save(WEBHOOK, overwrite=True))


def _named_block(name: str) -> str:
    import prefect.blocks.notifications  # noqa: F401 (its kinds are known once it is imported)

    try:
        block = cast("Block", Block.load(name))
    except (ValueError, RuntimeError) as error:
        limit = "TYPE/NAME of a saved block"
        raise InputError("no such notification block", value=name, limit=limit) from error
    if "notify" not in block.get_block_capabilities():
        raise InputError("not a notification block", value=name)
    kind, _, saved_as = name.partition("/")
    with get_client(sync_client=True) as client:
        return str(client.read_block_document_by_name(saved_as, kind, include_secrets=False).id)
