"""A host is cut off while exposures are processed on two of them, and comes back; the plan of the other faults."""

import pytest

from bench.hosts import FAULTS, NIGHTS, cut_off, measured, plan
from bench.two_hosts import why_not


def test_every_fault_strikes_in_three_nights_while_there_is_work():
    kinds = [kind for kind, _ in plan()]
    assert len(kinds) == NIGHTS == 20
    assert {kinds.count(kind) for kind in FAULTS} == {3, 4}
    assert all(0 < share < 0.8 for _, share in plan())
    assert plan() == plan()


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.dask
@pytest.mark.optional
@pytest.mark.skipif(bool(why_not()), reason=f"two hosts: {why_not()}")
def test_a_host_that_was_cut_off_serves_again_and_nothing_is_done_twice():
    number = [FAULTS[kind] for kind, _ in plan()].index(cut_off)
    rows = measured(number, number + 1, quick=True)
    values = {row.name.rpartition(": ")[2]: row.value for row in rows}
    assert (values["nights"], values["nights that it met"], values["steps of a night"]) == (1, 1, 56)
    assert values["not completed by themselves"] == 0
    assert values["products that differ"] == 0
    assert values["steps that ran again"] <= 1, "the step that was in flight at most"
