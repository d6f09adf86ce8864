"""The block that says who is told of failed nights and of candidates that stand out."""

from typing import cast

from prefect import get_client
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from pydantic import Field, SecretStr

from blocks.saved import saved_block
from imaging.errors import InputError

WEBHOOK = "gw-workflow"
"""Name of Prefect's own block that the server sends with; it is made from the target."""


class NotificationTarget(Block):
    """Who is told of failed nights, crashed runs and candidates that stand out."""

    _block_type_name = "Notification Target"
    _block_type_slug = "gw-notification-target"
    _description = (
        "Who is told of failed nights, crashed runs and candidates that stand out. Deploy again after a change."
    )

    webhook: SecretStr | None = Field(
        default=None,
        title="Webhook",
        description='Address that takes {"text": "..."} by POST, as Slack, Mattermost and Rocket.Chat give them out; '
        "empty: nobody is told.",
    )
    prefect_block: str = Field(
        default="",
        title="Prefect block",
        description="TYPE/NAME of one of Prefect's own notification blocks, such as slack-webhook/astronomers, to be "
        "used in place of the webhook.",
    )
    minimum_score: float = Field(
        default=10.0,
        title="Minimum score",
        description="Candidates with at least this rank_score, and no flag against them, are told of: 10 is a "
        "likelihood ratio of 22,000 to 1.",
    )

    @property
    def address(self) -> str:
        """The webhook in plain text; empty if there is none."""
        return self.webhook.get_secret_value() if self.webhook else ""

    @property
    def is_set(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self.address or self.prefect_block)


def load_target() -> NotificationTarget:
    """Return the saved block; one that tells nobody if there is none."""
    return saved_block(NotificationTarget, "default") or NotificationTarget()


def sending_block(target: NotificationTarget) -> str:
    """Make or find the block of Prefect that sends to a target; return the identity of its document.

    The server loads what it sends with by itself and knows Prefect's own kinds of blocks only.

    Raises
    ------
    InputError
        If the target names a block that does not exist or does not send.
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
        raise InputError("the block does not send notifications", value=name)
    kind, _, saved_as = name.partition("/")
    with get_client(sync_client=True) as client:
        return str(client.read_block_document_by_name(saved_as, kind, include_secrets=False).id)
