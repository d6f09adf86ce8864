"""How the flows of this process have ended, kept here because the server's word for it carries no data.

When the server's answer to the last state of a run is lost (a locked database, a proxy that gives up), Prefect's client
asks again, is told that the state is known already, and is given the server's copy of it: type, name and message, but
neither the summary nor the error that the flow had put into it.
"""

import functools
from typing import Any, TypeVar
from uuid import UUID

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.results import ResultRecord, ResultRecordMetadata

AnyFlow = TypeVar("AnyFlow", bound=Flow[Any, Any])

_ENDS: dict[UUID, object] = {}
"""Flow run to what its function has returned or raised."""


def remembered(run: AnyFlow) -> AnyFlow:
    """Keep what a flow returns or raises until its process ends, for :func:`content_of`.

    Parameters
    ----------
    run
        The flow; it is changed.

    Returns
    -------
    run
        The same flow.
    """
    body = run.fn

    @functools.wraps(body)
    def call(*words: Any, **options: Any) -> Any:  # noqa: ANN401
        try:
            end = body(*words, **options)
        except Exception as error:
            _remember(error)
            raise
        _remember(end.data if isinstance(end, State) else end)
        return end

    run.fn = call
    return run


def content_of(state: State[Any]) -> object:
    """Return the data of the state in which a flow has ended, also where only this process still knows them."""
    if state.data is None or isinstance(state.data, ResultRecordMetadata):
        run = state.state_details.flow_run_id
        return None if run is None else _ENDS.get(run)
    return state.data.result if isinstance(state.data, ResultRecord) else state.data


def _remember(end: object) -> None:
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        _ENDS[context.flow_run.id] = end
