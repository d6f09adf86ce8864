"""What the server does by itself: close runs that nobody works on any more, and tell people what they should know."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from blocks.notification import NotificationTarget, load_target, sending_block
from deployments.server.server_settings import HEARTBEAT_S
from tasks.announce_candidates import RANKED
from tasks.engine.final_state import WITH_FAILURES

if TYPE_CHECKING:
    from prefect.automations import AutomationCore
    from prefect.events import EventTrigger

ZOMBIES = "gw-workflow: close runs without a sign of life"
NIGHT_FAILED = "gw-workflow: tell of a failed night"
RUN_CRASHED = "gw-workflow: tell of a crashed run"
CANDIDATE_RANKED = "gw-workflow: tell of a candidate that stands out"

NOTIFICATIONS = (NIGHT_FAILED, RUN_CRASHED, CANDIDATE_RANKED)
"""Names of the automations that exist where the block Notification Target names somebody."""

PATIENCE_S = 3 * HEARTBEAT_S
"""A run that has been silent for as long is dead: its process was killed together with who watched it. The server looks
every five seconds, so that the run is closed within two minutes."""

SIGN_OF_LIFE = "prefect.flow-run.heartbeat"

ENDS = ("Completed", WITH_FAILURES, "Failed", "Crashed", "Cancelled", "TimedOut")
"""Names of the states in which a run may end."""

NIGHT_FLOW = "process-night"

ABOUT_RUN = "{{ flow_run.name }}: {{ flow_run.state.name }}"

RUN_BODY = "{{ flow_run.state.message }}\n{{ flow_run | ui_url }}"


def create_automations(target: NotificationTarget | None = None, flows: Sequence[str] = ()) -> tuple[str, ...]:
    """Create or renew the automations on the server that Prefect's settings name; return their names.

    One that somebody has switched off stays off. One that is as it should be is not touched: the server would forget
    whose heartbeats it waits for.

    Parameters
    ----------
    target
        Who is told; None for the saved block Notification Target. Where it names nobody, nobody is told.
    flows
        Names of the deployments of whose crashed runs people are told.

    Raises
    ------
    InputError
        If the target names a block that does not exist or does not send.
    """
    from prefect.client.orchestration import get_client

    target = target or load_target()
    wanted = [close_zombies()]
    if target.is_set:
        wanted += notifications(sending_block(target), flows)
    with get_client(sync_client=True) as client:
        for automation in wanted:
            known = client.read_automations_by_name(automation.name)
            if not known:
                client.create_automation(automation)
            elif _essence(known[0]) != _essence(automation):
                kept = automation.model_copy(update={"enabled": known[0].enabled})
                client.update_automation(known[0].id, kept)
        names = {automation.name for automation in wanted}
        for name in set(NOTIFICATIONS) - names:
            for automation in client.read_automations_by_name(name):
                client.delete_automation(automation.id)
    return tuple(names)


def _essence(automation: "AutomationCore") -> dict[str, Any]:
    """Return what an automation does, without what the server has added."""
    told = automation.model_dump(mode="json", include={"description": True, "trigger": True, "actions": True})
    for part in ("expect", "after", "for_each"):
        told["trigger"][part] = sorted(told["trigger"][part])
    told["trigger"].pop("id", None)
    return told


def close_zombies() -> "AutomationCore":
    """Return the automation that marks a run as crashed whose heartbeat has stopped."""
    from prefect.automations import AutomationCore
    from prefect.client.schemas.objects import StateType
    from prefect.events import EventTrigger, Posture
    from prefect.events.actions import ChangeFlowRunState

    return AutomationCore(
        name=ZOMBIES,
        description="A run that sends no heartbeat any more is marked Crashed.",
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
                message=f"no sign of life for {PATIENCE_S} s; run it again, what is finished is kept",
            )
        ],
    )


def notifications(block: str, flows: Sequence[str]) -> "list[AutomationCore]":
    """Return the automations that tell people of what they should know.

    Parameters
    ----------
    block
        Identity of the block document that sends.
    flows
        Names of the deployments of whose crashed runs people are told.
    """
    from uuid import UUID

    from prefect.automations import AutomationCore
    from prefect.events.actions import SendNotification

    def tell(name: str, description: str, trigger: "EventTrigger", subject: str, body: str) -> AutomationCore:
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
        tell(NIGHT_FAILED, "A night that fails, crashes or takes too long.", failed, ABOUT_RUN, RUN_BODY),
        tell(RUN_CRASHED, "A run of another deployment that crashes.", crashed, ABOUT_RUN, RUN_BODY),
        tell(
            CANDIDATE_RANKED,
            "A candidate that ranks high, when it does so for the first time.",
            ranked,
            "{{ event.payload.subject }}",
            "{{ event.payload.text }}",
        ),
    ]


def _on(events: Sequence[str], resource: str, related: Mapping[str, Any]) -> "EventTrigger":
    """Return a trigger that fires at each of some events."""
    from prefect.events import EventTrigger, Posture, ResourceSpecification

    return EventTrigger(
        expect=set(events),
        match=ResourceSpecification({"prefect.resource.id": resource}),
        match_related=ResourceSpecification(dict(related)),
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )
