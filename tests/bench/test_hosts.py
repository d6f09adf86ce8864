"""A host is cut off while an exposure is processed on two of them, and comes back; the plan of the other faults."""

import json
import subprocess

import pytest

from bench.hosts import FAULTS, NIGHTS, plan
from bench.two_hosts import enter, why_not


def test_every_fault_strikes_in_three_nights_while_there_is_work():
    kinds = [kind for kind, _ in plan()]
    assert len(kinds) == NIGHTS == 20
    assert {kinds.count(kind) for kind in FAULTS} == {3, 4}
    assert all(0 < moment < 0.8 for _, moment in plan())
    assert plan() == plan()


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.dask
@pytest.mark.optional
@pytest.mark.skipif(bool(why_not()), reason=f"two hosts: {why_not()}")
def test_a_host_that_was_cut_off_serves_again_and_nothing_is_done_twice(tmp_path, capfd):
    result = tmp_path / "result.json"
    code = enter("bench.hosts", [str(result)], stdout=subprocess.DEVNULL)
    assert code == 0, capfd.readouterr().err[-2000:]
    found = json.loads(result.read_text())
    assert found["exit_code"] == 0, found["said"]
    assert found["differing"] == []
    assert found["workers_while_away"] == 1, "the scheduler gave the host up"
    assert found["steps"] == 2 * 12 + 2
    assert found["again"] <= 1, "the step that was in flight at most"
