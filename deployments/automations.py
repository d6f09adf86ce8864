"""What the server does by itself: it closes runs that nobody works on any more."""

from datetime import timedelta

from deployments.server_settings import HEARTBEAT_S
from tasks.verdict import WITH_FAILURES

ZOMBIES = "gw-workflow: close runs without a sign of life"
"""Name of the automation."""

PATIENCE_S = 3 * HEARTBEAT_S
"""A run that has been silent for as long is dead: its process was killed together with who watched it."""

SIGN_OF_LIFE = "prefect.flow-run.heartbeat"

ENDS = ("Completed", WITH_FAILURES, "Failed", "Crashed", "Cancelled", "TimedOut")
"""Names of the states in which a run may end."""


def create_automations() -> None:
    """Create the automations on the server that Prefect's settings name, unless they are there already."""
    from prefect.automations import AutomationCore
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.events import EventTrigger, Posture
    from prefect.events.actions import ChangeFlowRunState

    zombies = AutomationCore(
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
    with get_client(sync_client=True) as client:
        if not client.read_automations_by_name(ZOMBIES):
            client.create_automation(zombies)
