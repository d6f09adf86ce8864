"""Only the outermost of flow runs that call one another sends heartbeats: the server closes one that sends too few."""

from prefect import flow
from prefect.flow_engine import BaseFlowRunEngine

from deployments.server.server_settings import HEARTBEAT_S
from tasks.engine.task_runner import ComputeTaskRunner


@flow(name="stage", task_runner=ComputeTaskRunner())
def stage() -> None:
    """Do nothing."""


@flow(name="exposure", task_runner=ComputeTaskRunner())
def exposure() -> None:
    """Call a stage."""
    stage()


@flow(name="night", task_runner=ComputeTaskRunner())
def night() -> None:
    """Call an exposure."""
    exposure()


def test_a_run_that_is_called_by_another_one_sends_no_heartbeats(prefect_server, monkeypatch):
    monkeypatch.setenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT_S))
    sent = []

    def emit(engine: BaseFlowRunEngine, *_: object) -> None:
        sent.append(engine.flow.name)

    monkeypatch.setattr(BaseFlowRunEngine, "_emit_flow_run_heartbeat", emit)
    night()
    exposure()
    assert sent == ["night", "exposure"]
