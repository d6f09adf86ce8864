"""Raw exposures that arrive while the night goes on."""

import os
import uuid

import pytest
from listed_nights import NIGHT, check_map, write_list

from blocks.site import Site
from deployments.events import watching
from deployments.events.registry import register_night
from deployments.events.watching import ARRIVED, PATIENCE_S, look_around, watch
from imaging.identity import ExposureId
from tasks import raw_files
from tasks.night_plan import exposures_at_hand
from tasks.raw_files import raw_path

ONE, TWO, THREE = 1300001, 1300002, 1300003


@pytest.fixture
def site(tmp_path) -> Site:
    return Site.at(tmp_path / "site")


@pytest.fixture
def night(site, tmp_path):
    skymap = tmp_path / "map.fits"
    skymap.write_bytes(b"SIMPLE map")
    exposures = write_list(tmp_path / "list.csv", [ONE, TWO, THREE], templates=())
    return register_night(
        site, NIGHT, event="GW170817", skymap=skymap, exposures=exposures, check_skymap=check_map
    ).night


@pytest.fixture
def heard(monkeypatch):
    events: list[tuple[str, str, uuid.UUID, dict]] = []

    def emit(name, event_id, resource, *, about, payload):
        events.append((name, resource, event_id, payload))

    return events, emit


@pytest.fixture
def arrive(site, night, monkeypatch):
    """Let a raw file arrive: whole, or half of it; the reader believes what the file says of itself."""

    def read(site, exposure):
        if raw_path(site, exposure).read_text() != "whole":
            raise raw_files.InputError("raw file is truncated or damaged")
        return True

    monkeypatch.setattr(raw_files, "find_raw", read)
    bands = {item.exposure.expnum: item.exposure.band for item in night.listed()}

    def do(expnum, content="whole", age_s=20.0):
        path = raw_path(site, ExposureId(expnum, bands[expnum], NIGHT))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        then = path.stat().st_mtime - age_s
        os.utime(path, (then, then))

    return do


def names(events):
    return [(name, resource) for name, resource, *_ in events]


def test_a_night_whose_exposures_trickle_in_is_one_night(site, night, heard, arrive):
    events, emit = heard
    arrive(ONE)
    assert look_around(site, emit_event=emit).nights == (NIGHT,), "the night itself"
    events.clear()
    night.mark_started(exposures_at_hand(night, site))
    assert night.seen() == {ONE}
    assert not look_around(site, emit_event=emit), "what the run has seen is not announced"

    arrive(TWO)
    found = look_around(site, emit_event=emit)
    assert (found.exposures, found.nights, found.n_expected) == ((TWO,), (), 1)
    assert names(events) == [(ARRIVED, f"gw.exposure.{TWO}")]
    assert events[0][3]["exposure"]["expnum"] == TWO

    events.clear()
    arrive(THREE)
    found = look_around(site, emit_event=emit)
    assert (found.exposures, found.nights, found.n_expected) == ((THREE,), (NIGHT,), 0)
    assert names(events) == [(ARRIVED, f"gw.exposure.{THREE}"), ("gw.night.registered", f"gw.night.{NIGHT}")]
    assert events[1][2] != night.record.event_id, "a new event, or the server would take no notice"
    assert events[1][3]["arrived"] == [TWO, THREE]
    assert not look_around(site, emit_event=emit)


def test_half_written_files_wait(site, night, heard, arrive):
    _, emit = heard
    night.mark_emitted()
    night.mark_started(exposures_at_hand(night, site))
    arrive(ONE, content="half")
    arrive(TWO, age_s=1.0)
    assert not look_around(site, emit_event=emit)
    arrive(ONE)
    assert look_around(site, emit_event=emit).exposures == (ONE,)


def test_a_file_that_is_being_written_when_the_run_begins_is_announced_later(site, night, heard, arrive):
    _, emit = heard
    night.mark_emitted()
    arrive(ONE, content="half", age_s=1.0)
    arrive(TWO, age_s=1.0)
    arrive(THREE, content="half", age_s=7200.0)
    night.mark_started(exposures_at_hand(night, site))
    assert night.seen() == {TWO, THREE}, "a broken file that nobody writes to any more is the run's to report"
    arrive(ONE)
    assert look_around(site, emit_event=emit).exposures == (ONE,)


def test_a_night_goes_on_without_exposures_that_do_not_come(site, night, heard, arrive):
    _, emit = heard
    night.mark_emitted()
    night.mark_started()
    arrive(ONE)
    assert look_around(site, emit_event=emit).nights == ()
    mark = night.folder / "arrivals" / str(ONE)
    then = mark.stat().st_mtime - PATIENCE_S - 1
    os.utime(mark, (then, then))
    assert look_around(site, emit_event=emit).nights == (NIGHT,)
    assert look_around(site, emit_event=emit).nights == ()


def test_what_a_server_did_not_take_is_announced_again(site, night, heard, arrive):
    events, emit = heard
    night.mark_emitted()
    night.mark_started()
    arrive(ONE)

    def down(*event, **content):
        raise ConnectionError("no server")

    with pytest.raises(ConnectionError):
        look_around(site, emit_event=down)
    assert look_around(site, emit_event=emit).exposures == (ONE,)
    assert len(events) == 1


def test_watching_ends_when_nothing_is_expected(site, monkeypatch):
    monkeypatch.setattr(watching.time, "sleep", lambda s: None)
    looks = iter([watching.Look((NIGHT,), (), 2), watching.Look((), (ONE,), 1), watching.Look((), (TWO,), 0)])
    assert watch(site, 1.0, 0.001, look=lambda site: next(looks)) == ([NIGHT], [ONE, TWO])
    assert watch(site, 0.0, 1.0, look=lambda site: watching.Look(n_expected=5)) == ([], [])
