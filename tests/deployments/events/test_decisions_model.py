"""Whatever happens in whatever order, the list is that of the newest revision, and no revision runs twice.

A model of nights, alerts, raw files, a server and its runs: steps are killed, requests are lost before and after their
effect, runs are cancelled, the database is lost. The real decisions read and write a real folder.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from fake_runs import EVENT, ServerDiedError, World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from blocks.gw_events import is_retracted
from blocks.night_runs import PROCESS, read_runs
from blocks.nights import is_registered, read_night
from deployments.events import due as due_module
from deployments.events.decisions import read_ranked

NIGHTS = (20230923, 20230924)
EXAMPLES = int(os.environ.get("GW_WORKFLOW_EXAMPLES", "150"))
OTHER_EVENT = "S231001a"
EVENTS = dict(zip(NIGHTS, (EVENT, OTHER_EVENT), strict=True))


class Nights(RuleBasedStateMachine):
    """Two nights of two events, and all that may happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.folder = Path(tempfile.mkdtemp())
        self.world = World(self.folder)
        self.world.patch(self.patch)
        self.patch.setattr(due_module, "PATIENCE_S", 0.0)  # a look later than the last arrival counts as patience
        self.listed: dict[int, set[int]] = {night: set() for night in NIGHTS}
        self.n_alerts = 0
        self.completed: dict[str, frozenset[int]] = {}
        self.retracted: set[str] = set()

    def teardown(self) -> None:
        """Let everything end, then compare the lists with the newest state."""
        try:
            self.check_end()
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)

    @rule(night=st.sampled_from(NIGHTS), numbers=st.sets(st.integers(1, 4), min_size=1, max_size=3))
    def register(self, night: int, numbers: set[int]) -> None:
        numbers = {night * 10 + n for n in numbers}
        self.world.register(night, sorted(numbers), event=EVENTS[night], update=bool(self.listed[night]))
        self.listed[night] |= numbers

    @rule(night=st.sampled_from(NIGHTS))
    def register_anew(self, night: int) -> None:
        """Remove the folder of a night and register the same again."""
        if not self.listed[night] or any(self.world.server.by_id[i].night == night for i in self.world.alive):
            return
        shutil.rmtree(self.world.site.nights / str(night))
        self.world.register(night, sorted(self.listed[night]), event=EVENTS[night])

    @rule(night=st.sampled_from(NIGHTS), number=st.integers(1, 4))
    def arrive(self, night: int, number: int) -> None:
        self.world.arrived.add(night * 10 + number)

    @rule(event=st.sampled_from([EVENT, OTHER_EVENT]), kind=st.sampled_from(["UPDATE", "INITIAL", "RETRACTION"]))
    def alert(self, event: str, kind: str) -> None:
        self.n_alerts += 1
        self.world.alert(kind, self.n_alerts, event)

    @rule()
    def look(self) -> None:
        self.world.look()

    @rule(n=st.integers(0, 6))
    def look_and_lose_the_server(self, n: int) -> None:
        """A request is lost before its effect or after it; the look ends there."""
        self.world.server.dies_in = n
        with suppress(ServerDiedError):
            self.world.look()
        self.world.server.dies_in = None

    @precondition(lambda self: self.world.scheduled())
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.start_one(data.draw(st.sampled_from(self.world.scheduled())))

    def start_one(self, identity: str) -> None:
        run = self.world.server.by_id[identity]
        self.world.start(identity)
        if run.flow != PROCESS or identity not in self.world.alive:
            return
        record, night = self.world.alive[identity], read_night(self.world.site, run.night)
        for other in read_runs(night):
            done = other.flow == PROCESS and other.end == "completed" and other.revision >= night.record.list_revision
            assert not (done and set(record.exposures) <= set(other.exposures)), f"{run.name} has run before"

    @precondition(lambda self: self.world.alive)
    @rule(data=st.data(), ranked=st.booleans())
    def finish(self, data: st.DataObject, ranked: bool) -> None:
        identity = data.draw(st.sampled_from(sorted(self.world.alive)))
        self.world.finish(identity, ranked=ranked or self.world.alive[identity].flow != PROCESS)

    @precondition(lambda self: self.world.alive)
    @rule(data=st.data(), ranked=st.booleans())
    def kill(self, data: st.DataObject, ranked: bool) -> None:
        """Kill a run, before it has written its list or after."""
        identity = data.draw(st.sampled_from(sorted(self.world.alive)))
        if ranked and identity in self.world.server.by_id:
            self.world.rank(identity)
        self.world.kill(identity)

    @rule()
    def power_cut(self) -> None:
        for identity in list(self.world.alive):
            self.world.kill(identity)

    @precondition(lambda self: self.world.scheduled())
    @rule(data=st.data())
    def cancel_waiting(self, data: st.DataObject) -> None:
        self.world.server.set(data.draw(st.sampled_from(self.world.scheduled())), "CANCELLED")

    @precondition(lambda self: self.world.alive)
    @rule(data=st.data())
    def cancel_running(self, data: st.DataObject) -> None:
        identity = data.draw(st.sampled_from(sorted(self.world.alive)))
        if identity in self.world.server.by_id:
            self.world.server.set(identity, "CANCELLED")
            self.world.kill(identity)

    @precondition(lambda self: not self.world.alive)
    @rule()
    def lose_the_database(self) -> None:
        self.world.server.forget()

    @invariant()
    def one_run_of_a_night_at_a_time(self) -> None:
        for night in NIGHTS:
            runs = [r for r in self.world.server.active() if r.flow == PROCESS and r.night == night]
            states = [run for run in runs if run.state == "SCHEDULED" or run.identity in self.world.alive]
            assert len(states) <= 1, states

    def check_end(self) -> None:
        found = self.world.settle()
        for night in NIGHTS:
            if not is_registered(self.world.site, night) or night in found.held:
                continue
            registered = read_night(self.world.site, night)
            at_hand = self.world.arrived & self.listed[night]
            runs = [run for run in read_runs(registered) if run.flow == PROCESS]
            seen = {n for run in runs if run.end == "completed" for n in run.exposures}
            assert at_hand <= seen, f"night {night}: {at_hand - seen} were not processed"
            assert max(run.revision for run in runs if run.end == "completed") >= registered.record.list_revision
            ranked = read_ranked(self.world.site, night)
            if ranked is not None:
                assert ranked.skymap_hash == registered.record.skymap_hash, f"night {night}: list of another map"
                assert ranked.retracted == is_retracted(self.world.site, registered.record.event)


TestNights = Nights.TestCase
TestNights.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
