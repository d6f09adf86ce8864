"""Results and errors of flows are kept in the process when the server's state has lost them."""

import cloudpickle
import pytest
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from imaging.errors import InputError
from tasks.engine.final_state import error_of, failed_state, keep_result, result_of, summary_of

pytestmark = pytest.mark.usefixtures("prefect_server")


@keep_result
@flow
def ends(how: str) -> State:
    """End with a summary, a failure or an error."""
    if how == "error":
        raise InputError("raw file is missing", expnum=1)
    if how == "failed":
        return failed_state("exposure 1: 0 of 1 done", {"done": []})
    return Completed(data={"done": [27]})


def as_the_server_knows_it(state: State) -> State:
    return state.model_copy(update={"data": None})


def test_the_summary_of_a_completed_run():
    state = ends("well", return_state=True)
    assert summary_of(state) == summary_of(as_the_server_knows_it(state)) == {"done": [27]}


def test_the_summary_of_a_failed_run():
    state = as_the_server_knows_it(ends("failed", return_state=True))
    assert state.is_failed()
    assert summary_of(state) == {"done": []}
    assert error_of(state) is None


def test_the_error_of_a_run():
    error = error_of(as_the_server_knows_it(ends("error", return_state=True)))
    assert isinstance(error, InputError)
    assert error.expnum == 1


def test_a_run_of_another_process_and_a_state_of_no_run_have_none():
    assert result_of(Failed()) is None
    assert result_of(Completed(data={"a": 1})) == {"a": 1}


def test_the_flow_keeps_its_signature_and_can_be_sent_to_a_worker():
    assert list(ends.parameters.properties) == ["how"]
    assert ends.fn.__name__ == "ends"
    assert cloudpickle.dumps(ends)
