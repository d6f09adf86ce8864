"""What is decided about nights: what happened, what runs are created, which list results."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from fake_runs import EVENT, FakeRuns, ServerDiedError, World

from blocks import night_runs
from blocks.night_runs import PROCESS, RANK, is_alive, read_runs, recorded_run
from blocks.nights import read_night
from deployments.events import decisions
from deployments.events.decisions import EXPOSURE, RankedList, look, nights_to_do, read_ranked
from deployments.events.due import ATTEMPTS, PATIENCE_S, NightState, due
from tests.timing import least_s

NIGHT, OTHER = 20230923, 20230924
ONE, TWO, THREE = 1300001, 1300002, 1300003


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    world = World(tmp_path)
    world.patch(monkeypatch)
    return world


@pytest.fixture
def night(world):
    """A registered night with three exposures, of which the first is there."""
    world.register(NIGHT, [ONE, TWO, THREE])
    world.arrived.add(ONE)
    return world


def started(world, flow=PROCESS) -> str:
    """Look, and start the run of a flow that is due."""
    world.look()
    (identity,) = world.scheduled(flow)
    world.start(identity)
    return identity


def newest(world, number=NIGHT):
    return read_night(world.site, number)


def list_is_newest(world, number=NIGHT) -> bool:
    return read_ranked(world.site, number) == RankedList(newest(world, number).record.skymap_hash)


def flows(world) -> list[str]:
    return [run.flow for run in world.server.by_id.values()]


def test_a_registered_night_gets_one_run_with_its_name(night):
    assert night.look().created == [f"{PROCESS}-{NIGHT}-r1"]
    assert [night.look().created for _ in range(3)] == [[], [], []]
    assert night.server.parameters["run-1"] == {"night": NIGHT}
    assert list(nights_to_do(night.site)) == [NIGHT], "until the run has started"


@pytest.mark.parametrize("dies_in", range(3))
def test_a_request_that_was_lost_before_or_after_its_effect_is_repeated(night, dies_in):
    night.server.dies_in = dies_in
    with pytest.raises(ServerDiedError):
        night.look()
    night.look()
    assert flows(night) == [PROCESS]


def test_exposures_that_trickle_in_are_one_night(night):
    run = started(night)
    assert night.look().created == [], "what the run has seen is not processed again"
    night.arrived.add(TWO)
    found = night.look()
    assert (found.created, found.n_expected) == ([f"{EXPOSURE}-{TWO}"], 1)
    night.finish(run)
    assert night.look().created == []
    night.arrived.add(THREE)
    found = night.look()
    assert (found.created, found.n_expected) == ([f"{EXPOSURE}-{THREE}", f"{PROCESS}-{NIGHT}-r1"], 0)
    request = night.server.parameters["run-2"]["exposure"]
    assert (request["expnum"], request["night"], request["band"]) == (TWO, NIGHT, "i")
    night.settle()
    assert read_runs(newest(night))[-1].exposures == (ONE, TWO, THREE)


def test_a_raw_file_that_was_cut_when_its_night_ran_and_is_whole_later_is_processed_again(night):
    night.arrived |= {TWO, THREE}
    night.cut.add(TWO)
    night.finish(started(night))
    assert night.look().created == [], "as long as nothing more has come"
    night.cut.clear()
    assert night.look().created == [f"{EXPOSURE}-{TWO}", f"{PROCESS}-{NIGHT}-r1"]
    night.settle()
    assert read_runs(newest(night))[-1].partial == ()
    assert night.look().created == []


@pytest.mark.parametrize("is_ahead", [False, True], ids=["in time", "by a clock 40 days ahead"])
def test_a_night_is_processed_again_without_exposures_that_do_not_come(night, is_ahead):
    run = started(night)
    night.arrived.add(TWO)
    night.look()
    night.finish(run)
    assert night.look().created == []
    mark = newest(night).folder / "arrivals" / str(TWO)
    then = mark.stat().st_mtime + (3.5e6 if is_ahead else -PATIENCE_S - 1)
    os.utime(mark, (then, then))
    assert night.look().created == [f"{PROCESS}-{NIGHT}-r1"]
    assert night.look().created == []


def test_a_map_that_arrives_during_the_run_ranks_it_again(night):
    """Row 1: the first run goes on; the alert brings a new map before or after the list is made."""
    run = started(night)
    night.alert("INITIAL", 1)
    night.look()
    assert newest(night).record.revision == 2
    assert flows(night) == [PROCESS], "the run reads the newest map when it ranks"
    night.finish(run)
    night.settle()
    assert list_is_newest(night)
    run = started_again(night)
    night.rank(run)
    night.alert("UPDATE", 2)
    night.finish(run, ranked=False)
    night.settle()
    assert flows(night).count(RANK) == 1
    assert list_is_newest(night)


def started_again(world) -> str:
    world.register(NIGHT, [ONE, TWO, THREE, 1300004], update=True, skymap=newest(world).skymap)
    return started(world)


def test_a_map_of_a_person_stays_until_a_newer_alert(night):
    night.alert("INITIAL", 1)
    night.settle()
    night.register(NIGHT, [ONE], update=True)
    chosen = newest(night).record.skymap_hash
    night.settle()
    assert newest(night).record.skymap_hash == chosen
    night.alert("UPDATE", 2)
    night.settle()
    assert newest(night).record.skymap_hash != chosen
    assert list_is_newest(night)


def test_the_exposure_marked_last_before_the_server_died_gets_its_run(night):
    """Row 4: the mark follows the effect."""
    started(night)
    night.arrived.add(TWO)
    night.server.dies_in = 2  # after the run was created, before its reply
    with pytest.raises(ServerDiedError):
        night.look()
    assert newest(night).arrived() == set()
    night.look()
    assert flows(night).count(EXPOSURE) == 1
    assert newest(night).arrived() == {TWO}


def test_a_run_that_waits_long_stays_the_only_one(night):
    """Row 6: however long the wait."""
    for _ in range(50):
        night.look()
    assert flows(night) == [PROCESS]


def test_what_a_person_cancels_stays_cancelled_until_a_new_revision(night):
    night.look()
    night.server.set("run-1", "CANCELLED")
    found = [night.look() for _ in range(3)][-1]
    assert flows(night) == [PROCESS]
    assert "cancelled" in found.held[NIGHT]
    night.arrived |= {TWO, THREE}
    assert night.look().created == [], "what arrives changes nothing in that"
    night.server.forget()
    assert night.look().created == [], "nor does a new database"
    night.register(NIGHT, [1300004], update=True)
    assert night.look().created == [f"{PROCESS}-{NIGHT}-r2"]


def test_a_running_night_that_is_cancelled_stays_so(night):
    run = started(night)
    night.server.set(run, "CANCELLED")
    night.kill(run)
    for _ in range(3):
        found = night.look()
    assert "cancelled" in found.held[NIGHT]
    assert flows(night) == [PROCESS]


def test_a_night_removed_and_registered_again_runs_again(night):
    """Row 7."""
    night.settle()
    shutil.rmtree(newest(night).folder)
    night.register(NIGHT, [ONE, TWO, THREE])
    assert night.look().created == [f"{PROCESS}-{NIGHT}-r1"]


def test_a_killed_run_is_repeated_but_not_for_ever(night):
    for number in range(ATTEMPTS):
        run = started(night)
        night.kill(run)
        found = night.look()
        assert night.server.by_id[run].state == "CRASHED", f"attempt {number}: closed without its heartbeats"
    assert f"crashed {ATTEMPTS} times" in found.held[NIGHT]
    night.look()
    assert flows(night) == [PROCESS] * ATTEMPTS
    night.register(NIGHT, [1300004], update=True)
    assert night.look().created, "a new revision is a new start"


def test_a_run_on_another_host_is_not_declared_dead_by_its_lock(night, monkeypatch):
    run = started(night)
    night.kill(run)
    monkeypatch.setattr(decisions.socket, "gethostname", lambda: "another")
    night.look()
    assert night.server.by_id[run].state == "RUNNING"


def test_a_retracted_night_gives_way_and_says_so(night):
    """Row 15."""
    night.settle()
    night.register(NIGHT, [1300004], update=True)
    run = started(night)
    night.alert("RETRACTION", 1)
    night.look()
    assert night.server.by_id[run].state == "RUNNING", "no other night is waiting"
    night.register(OTHER, [1310001], event="S231001a")
    night.arrived.add(1310001)
    night.look()
    night.look()
    assert night.server.by_id[run].state == "CANCELLING"
    night.kill(run)
    night.server.set(run, "CANCELLED")
    found = night.look()
    assert "retracted" in found.held[NIGHT]
    (other,) = night.scheduled(PROCESS)
    assert night.server.by_id[other].night == OTHER
    night.start(other)
    assert "retracted" in night.look().held[NIGHT]
    night.finish(other)
    night.settle()
    record = newest(night).record
    assert read_ranked(night.site, NIGHT) == RankedList(record.skymap_hash, retracted=True)
    night.alert("UPDATE", 2)
    night.settle()
    assert list_is_newest(night), "an update after a retraction takes it back"


def test_a_run_that_a_person_started_does_not_give_way(night):
    run = started(night)
    night.server.by_id[run] = replace(night.server.by_id[run], is_served=False)
    night.alert("RETRACTION", 1)
    night.register(OTHER, [1310001], event="S231001a")
    night.look()
    night.look()
    assert night.server.by_id[run].state == "RUNNING"
    assert read_runs(newest(night))[0].end == "running"


def test_a_night_goes_on_when_its_late_exposures_cannot_have_runs(night, monkeypatch):
    run, create = started(night), FakeRuns.create
    night.finish(run)
    night.arrived |= {TWO, THREE}
    paused = "the deployment process-exposure is paused"

    def without_exposures(runs, flow, *given):
        return paused if flow == EXPOSURE else create(runs, flow, *given)

    monkeypatch.setattr(FakeRuns, "create", without_exposures)
    found = night.look()
    assert (found.created, found.held) == ([f"{PROCESS}-{NIGHT}-r1"], {NIGHT: paused})
    assert newest(night).arrived() == set()


def test_one_bad_night_does_not_stop_the_others(night):
    for name, content in {"20230101": b"{", "20230102": b"\xff\xfe", "20230103": b"[]"}.items():
        folder = night.site.nights / name
        folder.mkdir()
        (folder / "night.json").write_bytes(content)
    (night.site.nights / "2024-old").mkdir()
    shutil.copy(newest(night).folder / "night.json", night.site.nights / "2024-old" / "night.json")
    found = night.look()
    assert found.created == [f"{PROCESS}-{NIGHT}-r1"]
    assert sorted(found.errors) == [20230101, 20230102, 20230103]
    assert all("damaged" in text for text in found.errors.values())


def test_a_night_of_version_0_2_is_not_processed_again(night):
    """Its marks say which exposures its run had found."""
    folder = newest(night).folder
    former = newest(night).record.model_dump(mode="json", exclude={"registration", "list_revision", "alert"})
    (folder / "night.json").write_text(json.dumps(former | {"revision": 2}))
    (folder / "revision-1.started").write_text(f"[{ONE}]")
    (folder / "revision-2.started").write_text(f"[{ONE}, {TWO}]")
    night.arrived.add(TWO)
    assert night.look().created == []
    night.arrived.add(THREE)
    assert night.look().created == [f"{EXPOSURE}-{THREE}", f"{PROCESS}-{NIGHT}-r2"]


def test_a_server_without_deployments_creates_nothing_and_says_why(night, monkeypatch):
    monkeypatch.setattr(FakeRuns, "create", lambda *_, **__: "the deployment process-night is paused")
    found = night.look()
    assert (found.created, found.held) == ([], {NIGHT: "the deployment process-night is paused"})


def test_nothing_is_due_while_a_run_waits_for_its_start(night):
    state = NightState(newest(night).record, at_hand=frozenset({ONE}), waiting=frozenset({PROCESS}))
    assert not due(state)
    assert due(NightState(newest(night).record)).process, "without any raw file as well"


HOLD = """
import sys, time
from pathlib import Path
from blocks.night_runs import PROCESS, recorded_run
from blocks.nights import read_night
from blocks.site import Site

with recorded_run(read_night(Site.at(sys.argv[1]), int(sys.argv[2])), PROCESS, "a-run", exposures=[1300001]):
    print("running", flush=True)
    time.sleep(60)
"""


def test_a_record_tells_a_running_run_from_a_killed_one(tmp_path):
    world = World(tmp_path)
    world.register(NIGHT, [ONE])
    words = [sys.executable, "-c", HOLD, str(world.site.root), str(NIGHT)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "running\n"
        night = newest(world)
        (run,) = read_runs(night)
        assert (run.end, run.exposures, is_alive(night, run)) == ("running", (ONE,), True)
        process.kill()
    assert not is_alive(night, run)
    assert read_runs(night)[0].end == "running", "only the server knows how it ended"


def test_a_run_that_finds_nothing_to_do_is_recorded_at_its_end_only(tmp_path):
    world = World(tmp_path)
    world.register(NIGHT, [ONE])
    with pytest.raises(ZeroDivisionError), recorded_run(newest(world), PROCESS, None, at_end=True):
        raise ZeroDivisionError
    assert read_runs(newest(world)) == (), "the run that follows records itself"
    with recorded_run(newest(world), PROCESS, None, exposures=[ONE], at_end=True):
        assert read_runs(newest(world)) == ()
    (run,) = read_runs(newest(world))
    assert (run.end, run.exposures, is_alive(newest(world), run)) == ("completed", (ONE,), False)


@pytest.mark.parametrize(
    ("error", "end"), [(None, "completed"), (ValueError("x"), "failed"), (KeyboardInterrupt(), "cancelled")]
)
def test_a_record_tells_how_a_run_ended(tmp_path, error, end):
    world = World(tmp_path)
    world.register(NIGHT, [ONE])

    def run() -> None:
        with recorded_run(newest(world), RANK, "a-run"):
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(type(error)):
            run()
    (found,) = read_runs(newest(world))
    assert (found.end, found.flow, found.run) == (end, RANK, "a-run")
    assert not is_alive(newest(world), found)


def test_two_lists_of_a_night_are_written_one_after_the_other(tmp_path):
    world = World(tmp_path)
    world.register(NIGHT, [ONE])
    lock = newest(world).folder / "list.lock"
    with night_runs.list_lock(newest(world)), lock.open("ab") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_look_at_a_hundred_nights_takes_little(tmp_path, monkeypatch):
    world = World(tmp_path)
    world.patch(monkeypatch)
    for day in range(1, 29):
        world.register(20230900 + day, [20230900 + day], event=EVENT)
        world.arrived.add(20230900 + day)
    world.settle(most=400)
    assert least_s(lambda: look(world.site, world.server)) < 0.5
