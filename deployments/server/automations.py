"""Automations of the server: mark runs without heartbeat as crashed, and send notifications."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from blocks.notification import NotificationTarget, load_target, sending_block
from deployments.server.server_settings import HEARTBEAT_S
from tasks.announce_candidates import RANKED
from tasks.engine.final_state import WITH_FAILURES

if TYPE_CHECKING:
    from prefect.automations import AutomationCore
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events import EventTrigger
    from prefect.events.schemas.automations import Automation

ZOMBIES = "gw-workflow: mark runs without heartbeat as crashed"
NIGHT_FAILED = "gw-workflow: notify of a failed night"
RUN_CRASHED = "gw-workflow: notify of a crashed run"
CANDIDATE_RANKED = "gw-workflow: notify of a high-ranking candidate"

FORMER_NAMES = {
    ZOMBIES: "gw-workflow: close runs without a sign of life",
    NIGHT_FAILED: "gw-workflow: tell of a failed night",
    RUN_CRASHED: "gw-workflow: tell of a crashed run",
    CANDIDATE_RANKED: "gw-workflow: tell of a candidate that stands out",
}
"""Names before version 0.2; such automations are renamed."""

NOTIFICATIONS = (NIGHT_FAILED, RUN_CRASHED, CANDIDATE_RANKED)
"""Names of the automations that exist only if the block Notification Target has a receiver."""

PATIENCE_S = 3 * HEARTBEAT_S
"""A run without heartbeat for this long is dead: its process and the process that watched it were killed. The server
looks every five seconds, and so marks the run as crashed within two minutes."""

SIGN_OF_LIFE = "prefect.flow-run.heartbeat"

ENDS = ("Completed", WITH_FAILURES, "Failed", "Crashed", "Cancelled", "TimedOut")
"""Names of the final states."""

NIGHT_FLOW = "process-night"

ABOUT_RUN = "{{ flow_run.name }}: {{ flow_run.state.name }}"

RUN_BODY = "{{ flow_run.state.message }}\n{{ flow_run | ui_url }}"


def create_automations(target: NotificationTarget | None = None, flows: Sequence[str] = ()) -> tuple[str, ...]:
    """Create or renew the automations on the server that Prefect's settings name; return their names.

    An automation that was switched off stays off. One that is up to date is not written: the server would forget whose
    heartbeats it waits for.

    Parameters
    ----------
    target
        Receiver of notifications; None for the saved block Notification Target. Without a receiver none are sent.
    flows
        Names of the deployments whose crashed runs are notified.

    Raises
    ------
    InputError
        If the target names a block that does not exist or cannot send.
    """
    from prefect.client.orchestration import get_client

    target = target or load_target()
    wanted = [close_zombies()]
    if target.is_set:
        wanted += notifications(sending_block(target), flows)
    with get_client(sync_client=True) as client:
        for automation in wanted:
            known = _read(client, automation.name)
            if not known:
                client.create_automation(automation)
            elif known[0].name != automation.name or _essence(known[0]) != _essence(automation):
                kept = automation.model_copy(update={"enabled": known[0].enabled})
                client.update_automation(known[0].id, kept)
        names = {automation.name for automation in wanted}
        for name in set(NOTIFICATIONS) - names:
            for automation in _read(client, name):
                client.delete_automation(automation.id)
    return tuple(names)


def _read(client: "SyncPrefectClient", name: str) -> "list[Automation]":
    """Return the automations with a name, or with its former name."""
    return client.read_automations_by_name(name) or client.read_automations_by_name(FORMER_NAMES[name])


def _essence(automation: "AutomationCore") -> dict[str, Any]:
    """Return trigger and actions of an automation, without the fields that the server adds."""
    document = automation.model_dump(mode="json", include={"description": True, "trigger": True, "actions": True})
    for part in ("expect", "after", "for_each"):
        document["trigger"][part] = sorted(document["trigger"][part])
    document["trigger"].pop("id", None)
    return document


def close_zombies() -> "AutomationCore":
    """Return the automation that marks a run without heartbeat as crashed."""
    from prefect.automations import AutomationCore
    from prefect.client.schemas.objects import StateType
    from prefect.events import EventTrigger, Posture
    from prefect.events.actions import ChangeFlowRunState

    return AutomationCore(
        name=ZOMBIES,
        description="A run that sends no heartbeats is marked Crashed.",
        trigger=EventTrigger(
            after={SIGN_OF_LIFE},
            expect={SIGN_OF_LIFE, *(f"prefect.flow-run.{name}" for name in ENDS)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=PATIENCE_S),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name=None,
                message=f"no heartbeat for {PATIENCE_S} s; run it again, finished steps are kept",
            )
        ],
    )


def notifications(block: str, flows: Sequence[str]) -> "list[AutomationCore]":
    """Return the automations that send notifications.

    Parameters
    ----------
    block
        Identity of the block document that sends.
    flows
        Names of the deployments whose crashed runs are notified.
    """
    from uuid import UUID

    from prefect.automations import AutomationCore
    from prefect.events.actions import SendNotification

    def notify(name: str, description: str, trigger: "EventTrigger", subject: str, body: str) -> AutomationCore:
        action = SendNotification(block_document_id=UUID(block), subject=subject, body=body)
        return AutomationCore(name=name, description=description, trigger=trigger, actions=[action])

    ends = [f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")]
    failed = _on(ends, "prefect.flow-run.*", {"prefect.resource.role": "flow", "prefect.resource.name": NIGHT_FLOW})
    others = [name for name in flows if name != NIGHT_FLOW]
    by_deployment: dict[str, str | list[str]] = {
        "prefect.resource.role": "deployment",
        "prefect.resource.name": others or ["-"],
    }
    crashed = _on(ends[1:], "prefect.flow-run.*", by_deployment)
    ranked = _on([RANKED], "gw.night.*", {})
    return [
        notify(NIGHT_FAILED, "A night failed, crashed or timed out.", failed, ABOUT_RUN, RUN_BODY),
        notify(RUN_CRASHED, "A run of another deployment crashed.", crashed, ABOUT_RUN, RUN_BODY),
        notify(
            CANDIDATE_RANKED,
            "A candidate ranks high for the first time.",
            ranked,
            "{{ event.payload.subject }}",
            "{{ event.payload.text }}",
        ),
    ]


def _on(events: Sequence[str], resource: str, related: Mapping[str, Any]) -> "EventTrigger":
    """Return a trigger that fires at each of these events."""
    from prefect.events import EventTrigger, Posture, ResourceSpecification

    return EventTrigger(
        expect=set(events),
        match=ResourceSpecification({"prefect.resource.id": resource}),
        match_related=ResourceSpecification(dict(related)),
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )
