"""The end of a night of which an exposure failed as a whole: the rest counts, and the failure is told."""

from prefect.states import Completed

from tasks.engine.final_state import WITH_FAILURES, failed_state
from tasks.night_plan import night_state

NO_STARS = "exposure 2: 0 of 2 done; failed: astrometry_no_match (2)"
LOST = failed_state(NO_STARS, {"done": [], "failures": {"26": {}, "27": {}}})
WHOLE = Completed(message="exposure: 2 of 2 done", data={"done": [26, 27], "failures": {}})


def test_a_night_without_one_exposure_has_its_list_and_names_the_exposure():
    state = night_state("night 20240510", {1: WHOLE, 2: LOST, 3: WHOLE}, {3: WHOLE}, {}, {"n_candidates": 7})
    assert state.is_completed()
    assert state.name == WITH_FAILURES
    assert "7 candidates; 2 CCDs missing; failed: 2 stages" in state.message
    assert state.data["failures"]["2 stages"]["message"] == NO_STARS


def test_a_night_whose_searched_exposures_all_failed_has_failed():
    state = night_state("night 20240510", {1: WHOLE, 2: LOST}, {}, {}, {})
    assert state.is_failed()
    assert "no candidates" in state.message
    assert "failed: 2 stages" in state.message
