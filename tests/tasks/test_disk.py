"""Whether a night fits on the disk."""

from types import SimpleNamespace

import pytest

from blocks.site import Site
from imaging.errors import InputError
from tasks import disk
from tasks.jobs import StepJob
from tasks.night_plan import NightPlan
from tasks.requests import ExposureRequest

NIGHT = 20240510


def request(expnum: int, night: int = NIGHT) -> ExposureRequest:
    return ExposureRequest(expnum=expnum, band="i", night=night)


@pytest.fixture
def plan() -> NightPlan:
    """Return a night of 100 exposures with 50 templates, none of which has arrived."""
    search = tuple(request(1300000 + n) for n in range(100))
    return NightPlan(search, {r.expnum: (request(1200000 + n // 2, 20240301),) for n, r in enumerate(search)})


def with_free(monkeypatch, gb: float) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=gb * 1e9))


def test_a_night_that_cannot_fit_is_refused_with_the_numbers(plan, tmp_path, monkeypatch):
    site = Site.at(tmp_path)
    monkeypatch.setattr(disk, "find_raw", lambda *_: None)
    monkeypatch.setattr(disk, "ccds_to_process", lambda *_: tuple(range(1, 61)))
    with_free(monkeypatch, 200.0)
    with pytest.raises(InputError) as caught:
        disk.check_room(plan, site, 2, tidies=True)
    # 150 exposures of 60 CCDs at 20 MB, 100 differences at 17 MB; intermediate images of two exposures in process
    needed = (150 * 60 * 20 + 100 * 60 * 17) / 1e3 + 2 * 60 * 34 / 1e3
    assert f"needs {needed:.1f} GB and does not fit" in caught.value.sentence()
    assert "allowed: 200.0 GB" in caught.value.sentence()
    assert "9000 CCDs" in caught.value.sentence()
    assert "200.0 GB are free" in caught.value.sentence()


def test_a_night_of_a_hundred_needs_five_gigabytes_beyond_what_it_keeps(plan, tmp_path, monkeypatch):
    site = Site.at(tmp_path)
    with_free(monkeypatch, 200.0)
    room = disk.check_room(plan, site, 2, tidies=True)  # nothing has arrived that would not fit
    assert room.needed_gb(tidies=True) - room.kept_gb < 5.0
    monkeypatch.setattr(disk, "find_raw", lambda *_: None)
    monkeypatch.setattr(disk, "ccds_to_process", lambda *_: tuple(range(1, 61)))
    with_free(monkeypatch, room.kept_gb + 5.0)
    disk.check_room(plan, site, 2, tidies=True)
    with pytest.raises(InputError, match="does not fit") as caught:
        disk.check_room(plan, site, 2, tidies=False)
    assert f"{room.kept_gb + 9000 * 34 / 1e3:.1f} GB" in caught.value.sentence()


def test_what_is_processed_needs_no_room(plan, tmp_path, monkeypatch):
    site = Site.at(tmp_path)
    monkeypatch.setattr(disk, "find_raw", lambda *_: None)
    monkeypatch.setattr(disk, "ccds_to_process", lambda *_: (1, 2, 3))
    assert disk.room_for(plan, site, 2).n_ccds == 450
    for each in plan.all:
        job = StepJob(exposure=each.exposure_id(), ccd=2, site=site)
        job.product_path("immask.fits").parent.mkdir(parents=True, exist_ok=True)
        job.product_path("immask.fits").touch()
    assert disk.room_for(plan, site, 2).n_ccds == 300
    season = StepJob(exposure=plan.search[0].exposure_id(), season=1, site=site).product_path("quality.parquet")
    season.parent.mkdir(parents=True)
    season.touch()
    assert disk.room_for(plan, site, 2).n_searched == 297
