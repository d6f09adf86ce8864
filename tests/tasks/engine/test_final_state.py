"""Final states and exit codes of runs."""

import logging
import pickle
import sys

import pytest
from prefect.states import Crashed

from imaging.errors import InputError
from tasks.engine.failures import describe_failures
from tasks.engine.final_state import RunFailedError, error_of, exit_code, final_state, merged_state, summary_of
from tasks.engine.jobs import Failure

STARS = Failure(reason="too_few_stars", message="", kind="ccd")
LOST = Failure(reason="lost_worker", message="", kind="lost")
NOTHING = Failure(reason="no_template", message="", kind="no_work")


@pytest.mark.parametrize(
    ("done", "failures", "minimum", "name", "code"),
    [
        ([1, 2, 3], {}, 1, "Completed", 0),
        ([1, 2], {3: NOTHING}, 1, "Completed", 0),
        ([], {3: NOTHING}, 1, "Completed", 0),
        ([1, 2], {3: STARS}, 1, "CompletedWithFailures", 2),
        ([1], {2: STARS, 3: LOST}, 2, "Failed", 3),
        ([], {1: LOST}, 1, "Failed", 3),
    ],
)
def test_states_and_exit_codes(done, failures, minimum, name, code):
    state = final_state("exposure 1300001", done, failures, minimum=minimum, summary={"ccds": len(done)})
    assert state.name == name
    assert exit_code(state) == code
    assert summary_of(state) == {"ccds": len(done)}


def test_the_message_names_what_failed():
    state = final_state("exposure 1300001", [1, 2], {7: STARS, 8: STARS, 31: LOST, 40: NOTHING})
    assert state.message == (
        "exposure 1300001: 2 of 5 done, nothing to do for 1; failed: lost_worker 31; too_few_stars 7-8"
    )


def test_failures_may_be_named_by_text():
    assert describe_failures({"1300001 CCD 7": LOST, "1300002 CCD 9": LOST}) == (
        "lost_worker 1300001 CCD 7, 1300002 CCD 9"
    )


def test_a_crash_has_no_summary_and_is_a_failure():
    assert summary_of(Crashed(message="killed")) == {}
    assert exit_code(Crashed(message="killed")) == 3


def test_an_exposure_whose_stage_left_no_summary_is_not_complete():
    done = final_state("exposure 1", [27], {}, summary={"done": [27], "failures": {}})
    state = merged_state("exposure 1", {"single_epoch": done, "calibration": Crashed(message="killed")})
    assert exit_code(state) == 3
    assert state.message == ("exposure 1: calibration ended as Crashed without a summary; run it again to continue")
    assert summary_of(state)["stages"]["single_epoch"] == {"done": [27], "failures": {}}


def test_a_failed_run_is_logged_in_one_line():
    records = []
    state = final_state("exposure 1", [], {1: LOST}, summary={"stage": "detrend"})
    assert summary_of(state) == {"stage": "detrend"}
    assert error_of(state) is None, "a summary is no error"
    again = pickle.loads(pickle.dumps(state.data))
    assert (str(again), again.summary) == (state.message, {"stage": "detrend"})
    logger = logging.getLogger("prefect.engine")
    for error in (state.data, InputError("raw file is missing", expnum=1), TypeError("something else")):
        try:
            raise error
        except (RunFailedError, InputError, TypeError):
            record = logger.makeRecord(logger.name, logging.ERROR, "", 0, "unexpected exception", (), sys.exc_info())
        assert logger.filter(record)
        records.append(record)
    failed, inputs, surprises = records
    assert inputs.getMessage() == "The run has failed: exposure 1: raw file is missing."
    assert inputs.exc_info is None
    filters = [filter_.__class__.__name__ for filter_ in logging.getLogger("prefect.flow_runs").filters]
    assert filters.count("_OneSentence") == 1
    assert failed.getMessage() == f"The run has failed: {state.message}"
    assert failed.exc_info is None
    assert surprises.exc_info is not None
