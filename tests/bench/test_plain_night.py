"""A night of a bench goes on without an exposure that fails as a whole, and tells it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import sky_single_epoch
from bench.plain_night import PlainNight
from bench.sky_night import SkyNight
from blocks.site import Site
from imaging.errors import CcdError

TEMPLATE, CLOUDED, SEARCH, OTHER = 1, 2, 3, 4


def request(expnum):
    return SimpleNamespace(expnum=expnum, exposure_id=lambda: SimpleNamespace(expnum=expnum))


PLAN = SimpleNamespace(
    all=[request(n) for n in (TEMPLATE, CLOUDED, SEARCH, OTHER)],
    search=[request(SEARCH), request(OTHER)],
    templates={n: [request(TEMPLATE), request(CLOUDED)] for n in (SEARCH, OTHER)},
)


def night_of(monkeypatch, tmp_path, lost, failures):
    """Return a night whose exposures ``lost`` have no stars, and the list of exposures that it searches."""
    searched = []

    def single_epoch(self, who):
        if who.expnum in lost:
            raise CcdError("the exposure has too few matched stars", reason="astrometry_no_match", expnum=who.expnum)
        return {27: None}

    monkeypatch.setattr(PlainNight, "plan", lambda self, number: PLAN)
    monkeypatch.setattr(PlainNight, "single_epoch", single_epoch)
    monkeypatch.setattr(PlainNight, "difference", lambda self, who, templates: searched.append(who.expnum))
    monkeypatch.setattr(PlainNight, "candidates", lambda self, number: None)
    return PlainNight(Site.at(tmp_path), failures=failures), searched


@pytest.mark.parametrize(("lost", "left"), [({CLOUDED}, [SEARCH, OTHER]), ({CLOUDED, SEARCH}, [OTHER])])
def test_a_failed_exposure_is_told_and_the_others_are_searched(monkeypatch, tmp_path, lost, left):
    night, searched = night_of(monkeypatch, tmp_path, lost, [])
    night.process(20240510)
    assert searched == left
    assert [error.expnum for error in night.failures] == sorted(lost)


def test_without_a_list_of_failures_the_first_ends_the_night(monkeypatch, tmp_path):
    night, searched = night_of(monkeypatch, tmp_path, {CLOUDED}, None)
    with pytest.raises(CcdError, match="exposure 2: the exposure has too few matched stars"):
        night.process(20240510)
    assert searched == []


def test_a_ccd_is_missing_if_it_failed_and_not_if_no_plan_asks_for_its_exposure(monkeypatch):
    """Of the three template epochs of the night the plan processes two; no CCD has a catalogue."""
    night = SkyNight(Path("nowhere"), "hard", "i", False, 1, (26, 27))
    monkeypatch.setattr(PlainNight, "plan", lambda self, number: PLAN)
    monkeypatch.setattr(sky_single_epoch, "read_exposure_truth", lambda root, expnum: None)
    monkeypatch.setattr(sky_single_epoch, "_listed", lambda night, exposure: [])
    measured = sky_single_epoch.collect(night)
    assert night.planned() == [SEARCH, OTHER, TEMPLATE, CLOUDED]
    assert (measured.wanted, len(measured.solution_mas)) == (2 * 4, 0)
    assert sky_single_epoch.absent(night).wanted == 2 * 5
