"""Concurrent exposures and their dependencies."""

import threading
import time

import pytest
from prefect.exceptions import TerminationSignal
from prefect.states import Completed, Failed

from flows.side_by_side import run_as_they_come, run_side_by_side
from tasks.engine.running_scheduler import SchedulerError
from tasks.night_plan import NightPlan
from tasks.requests import ExposureRequest


def request(expnum: int) -> ExposureRequest:
    return ExposureRequest(expnum=expnum, band="i", night=20260817)


class Log:
    """Records start and end of every flow."""

    def __init__(self, bad: int = 0) -> None:
        self.lines: list[tuple[str, int]] = []
        self.bad = bad
        self.lock = threading.Lock()

    def note(self, what: str, expnum: int) -> None:
        with self.lock:
            self.lines.append((what, expnum))

    def process(self, exposure):
        self.note("begin", exposure.expnum)
        self.note("end", exposure.expnum)
        return Failed() if exposure.expnum == self.bad else Completed()

    def search(self, exposure, running):
        for _ in running:
            pass
        self.note("search", exposure.expnum)
        return Completed()

    def at(self, what: str, expnum: int) -> int:
        return self.lines.index((what, expnum))


TEMPLATES, SEARCH = (1, 2, 3), (11, 12, 13, 14)
NEEDS = {11: (1,), 12: (1, 2), 13: (3,), 14: ()}


def run(log: Log, at_once: int):
    return run_as_they_come(log.process, [request(n) for n in TEMPLATES + SEARCH], log.search, NEEDS, at_once)


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_a_search_waits_for_its_own_templates_only(at_once):
    log = Log()
    processed, searched = run(log, at_once)
    assert (sorted(processed), sorted(searched)) == ([*TEMPLATES, *SEARCH], [*SEARCH])
    for expnum, templates in NEEDS.items():
        assert all(log.at("search", expnum) > log.at("end", other) for other in (expnum, *templates))


def test_the_first_search_begins_before_the_last_exposure():
    log = Log()
    run(log, 1)
    assert log.at("search", 11) < log.at("begin", 13)
    assert log.lines.count(("begin", 1)) == 1, "a template is processed once"


def test_a_failed_exposure_is_not_searched_and_a_failed_template_stops_no_search():
    assert sorted(run(Log(bad=12), 2)[1]) == [11, 13, 14]
    assert sorted(run(Log(bad=1), 2)[1]) == [11, 12, 13, 14]


def test_an_error_of_a_flow_reaches_the_night():
    def broken(exposure):
        raise ValueError(exposure.expnum)

    with pytest.raises(ValueError, match="1"):
        run_as_they_come(broken, [request(1)], broken, {}, 1)


@pytest.mark.parametrize("blow", [KeyboardInterrupt, TerminationSignal])
def test_a_cancelled_run_does_not_wait_and_starts_nothing_more(blow):
    """A cancelled night must not first finish all exposures that are running or planned."""
    log, begun, free = Log(), threading.Event(), threading.Event()

    def process(exposure):
        log.note("begin", exposure.expnum)
        begun.set()
        free.wait(30)
        return Completed()

    def exposures():
        yield request(1)
        yield request(2)
        assert begun.wait(10)
        raise blow(15) if blow is TerminationSignal else blow

    try:
        began = time.monotonic()
        with pytest.raises(blow):
            run_side_by_side(process, exposures(), 1)
        assert time.monotonic() - began < 20, "it waited for the exposure that was being processed"
    finally:
        free.set()
    time.sleep(0.2)
    assert log.lines == [("begin", 1)]


def test_an_error_of_one_exposure_lets_the_others_end():
    log = Log()

    def process(exposure):
        if exposure.expnum == 1:
            raise ValueError("a defect")
        return log.process(exposure)

    with pytest.raises(ValueError, match="a defect"):
        run_side_by_side(process, [request(1), request(2)], 1)
    assert log.lines == [("begin", 2), ("end", 2)]


def test_a_night_processes_every_exposure_once_and_searches_with_their_templates(monkeypatch, tmp_path):
    from flows import night
    from flows.settings import NightSettings

    asked = []
    monkeypatch.setattr(
        night,
        "process_exposure",
        lambda exposure, site, *, settings, overwrite, return_state: asked.append(exposure.expnum) or Completed(),
    )
    monkeypatch.setattr(
        night,
        "difference",
        lambda exposure, site, *, settings, templates, overwrite, ready, return_state: (
            asked.append((exposure.expnum, *(t.expnum for t in templates))) or Completed()
        ),
    )
    needs = {11: (request(1),), 12: (request(1), request(2))}
    plan = NightPlan((request(11), request(12)), needs)
    monkeypatch.setattr(night, "remove_intermediates", lambda who, _: asked.append(-who.expnum))
    settings = NightSettings.model_validate({"concurrent_exposures": 1, "tidy": {"enabled": False}})
    processed, searched = night.run_stages(plan, str(tmp_path), settings, None, overwrite=False)
    assert asked == [1, 11, 2, (11, 1), 12, (12, 1, 2)]
    assert (sorted(processed), sorted(searched)) == ([1, 2, 11, 12], [11, 12])
    asked.clear()
    night.run_stages(plan, str(tmp_path), NightSettings(concurrent_exposures=1), None, overwrite=False)
    assert asked == [1, -1, 11, -11, 2, -2, (11, 1), 12, -12, (12, 1, 2)], "intermediate images go with each exposure"


class Held:
    """A night of two templates and a search exposure; CCD 27 overlaps the first of them, CCD 34 both."""

    def __init__(self, state: type = Completed) -> None:
        self.log, self.go_on, self.state = Log(), threading.Event(), state
        self.plan = NightPlan(
            (request(11),), {11: (request(1), request(2))}, touched={11: {27: frozenset({1}), 34: frozenset({1, 2})}}
        )

    def process(self, exposure):
        self.log.note("begin", exposure.expnum)
        if exposure.expnum == 2:
            self.go_on.wait(30)
        self.log.note("end", exposure.expnum)
        return self.state() if exposure.expnum == 2 else Completed()

    def search(self, exposure, running):
        begun: set[int] = set()
        for left in running:
            for ccd in set(self.plan.ready(exposure.expnum, left)) - begun:
                begun.add(ccd)
                self.log.note("search", ccd)
            if begun:
                self.go_on.set()
        for ccd in {27, 34} - begun:
            self.log.note("search", ccd)
        return Completed()

    def run(self):
        needs = {11: (1, 2)}
        return run_as_they_come(self.process, self.plan.all, self.search, needs, 2)


@pytest.mark.parametrize("state", [Completed, Failed])
def test_a_ccd_is_searched_before_templates_end_that_do_not_overlap_it(state):
    night = Held(state)
    night.run()
    log = night.log
    assert log.at("end", 11) < log.at("search", 27) < log.at("end", 2) < log.at("search", 34)


def test_running_exposures_are_reported_until_all_have_ended():
    reported = []
    free = {1: threading.Event(), 2: threading.Event()}

    def process(exposure):
        if exposure.expnum in free:
            assert free[exposure.expnum].wait(30)
        return Completed()

    def search(exposure, running):
        for left in running:
            reported.append(set(left))
            free[min(left)].set()
        return Completed()

    run_as_they_come(process, [request(n) for n in (1, 2, 11)], search, {11: (1, 2)}, 3)
    assert reported == [{1, 2}, {2}]


@pytest.mark.parametrize("together", [True, False])
def test_a_scheduler_that_does_not_answer_ends_the_night_by_name(together):
    """The night used to end as "failed: 1270601 stages, ..."."""

    def process(exposure):
        lost = SchedulerError("the Dask scheduler does not answer", value="tls://10.0.0.1:8786")
        return Completed() if exposure.expnum == 1 else Failed(data=lost)

    with pytest.raises(SchedulerError, match=r"tls://10\.0\.0\.1:8786"):
        if together:
            run_side_by_side(process, [request(1), request(2)], 2)
        else:
            run_as_they_come(process, [request(1), request(2)], pytest.fail, {2: ()}, 2)
