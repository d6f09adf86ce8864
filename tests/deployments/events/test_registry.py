"""Registering nights: nothing is lost, nothing starts twice."""

import shutil
import threading

import pytest
from listed_nights import NIGHT, check_map, write_list

from blocks.nights import is_registered, read_night, registered_nights
from blocks.site import Site
from deployments.events.registry import register_night
from imaging.errors import InputError, StorageError


@pytest.fixture
def site(tmp_path) -> Site:
    return Site.at(tmp_path / "site")


@pytest.fixture
def files(tmp_path):
    skymap = tmp_path / "bayestar.multiorder.fits"
    skymap.write_bytes(b"SIMPLE map")
    return {"skymap": skymap, "exposures": write_list(tmp_path / "list.csv", [1300002, 1300001])}


def register(site, files, **changes):
    given = {"event": "GW170817", "check_skymap": check_map} | files | changes
    return register_night(site, given.pop("night", NIGHT), **given)


def test_a_night_is_stored_with_its_files(site, files):
    registration = register(site, files)
    for path in files.values():
        path.unlink()
    night = read_night(site, NIGHT)
    assert registration.changed
    assert night.record.exposures == (1300001, 1300002)
    assert night.record.templates == (900001,)
    assert night.skymap.read_bytes() == b"SIMPLE map"
    assert night.skymap.name == "skymap-1.multiorder.fits"
    assert [item.exposure.expnum for item in night.listed()] == [900001, 1300001, 1300002]
    assert registered_nights(site) == [NIGHT]


def test_the_event_carries_what_a_run_needs(site, files):
    record = register(site, files).night.record
    assert record.payload() == {
        "night": NIGHT,
        "event": "GW170817",
        "revision": 1,
        "skymap": "skymap-1.multiorder.fits",
        "exposures": [1300001, 1300002],
        "event_id": str(record.event_id),
    }


def test_a_night_that_is_removed_and_registered_again_is_another_one(site, files):
    first = register(site, files).night
    shutil.rmtree(first.folder)
    again = register(site, files).night.record
    assert again.registration != first.record.registration
    assert again.event_id != first.record.event_id
    assert again.revision == again.list_revision == 1


def test_the_revision_of_the_list_changes_with_the_list_only(site, files, tmp_path):
    register(site, files)
    better = tmp_path / "better.fits"
    better.write_bytes(b"SIMPLE better")
    record = register(site, files, skymap=better, update=True).night.record
    assert (record.revision, record.list_revision) == (2, 1)
    more = write_list(tmp_path / "more.csv", [1300003], templates=())
    record = register(site, files, skymap=better, exposures=more, update=True).night.record
    assert (record.revision, record.list_revision) == (3, 3)


def test_registering_twice_is_refused_and_changes_nothing(site, files):
    register(site, files)
    before = {path.name: path.read_bytes() for path in (site.nights / str(NIGHT)).iterdir()}
    with pytest.raises(InputError, match=r"already registered.*--update"):
        register(site, files)
    assert {path.name: path.read_bytes() for path in (site.nights / str(NIGHT)).iterdir()} == before


def test_an_update_without_news_changes_nothing(site, files):
    first = register(site, files).night.record
    again = register(site, files, update=True)
    assert not again.changed
    assert again.night.record == first == read_night(site, NIGHT).record


def test_exposures_may_trickle_in(site, files, tmp_path):
    first = register(site, files).night.record
    more = write_list(tmp_path / "more.csv", [1300003], templates=())
    second = register(site, files, exposures=more, update=True)
    assert second.changed
    assert second.night.record.exposures == (1300001, 1300002, 1300003)
    assert second.night.record.templates == (900001,)
    assert second.night.record.revision == 2
    assert second.night.record.event_id != first.event_id


def test_a_new_sky_map_takes_the_place_of_the_old(site, files, tmp_path):
    register(site, files)
    better = tmp_path / "better.fits.gz"
    better.write_bytes(b"SIMPLE better")
    night = register(site, files, skymap=better, update=True).night
    assert night.skymap.read_bytes() == b"SIMPLE better"
    assert night.skymap.name == "skymap-2.fits.gz"


def test_another_event_is_refused(site, files):
    register(site, files)
    with pytest.raises(InputError, match="another event"):
        register(site, files, event="GW170814", update=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"night": 20171345}, "not a date"),
        ({"event": " "}, "no event is called so"),
        ({"event": "../S190814bv"}, "no event is called so"),
        ({"night": 20170819}, "no exposure of the night.*20170818"),
        ({"skymap": "missing.fits"}, "sky map missing"),
        ({"exposures": "missing.csv"}, "exposure list missing"),
    ],
)
def test_bad_input_leaves_nothing_behind(site, files, changes, message, tmp_path):
    changes = {k: tmp_path / v if str(v).startswith("missing") else v for k, v in changes.items()}
    with pytest.raises(InputError, match=message):
        register(site, files, **changes)
    assert not is_registered(site, NIGHT)
    assert registered_nights(site) == []


def test_an_unreadable_sky_map_is_refused(site, files):
    files["skymap"].write_bytes(b"junk")
    with pytest.raises(InputError, match="not readable"):
        register(site, files)
    assert not is_registered(site, NIGHT)


def test_a_night_that_is_not_registered(site, files):
    register(site, files)
    with pytest.raises(InputError, match=r"not registered.*registered: 20170818"):
        read_night(site, 20170819)


def test_a_registry_that_cannot_be_written(site, files):
    site.state.parent.mkdir(parents=True)
    site.state.write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cannot write"):
        register(site, files)


def test_two_registrations_at_once_make_one_night(site, files):
    ends = []

    def work():
        try:
            ends.append(register(site, files).changed)
        except InputError:
            ends.append(None)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends.count(True) == 1
    assert ends.count(None) == 5
