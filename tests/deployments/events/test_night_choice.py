"""A night without a list: exposures chosen from the raw files, and those that arrive without being listed."""

import base64
import json

import pytest
from fake_runs import FakeRuns

from blocks.gw_events import AlertRecord, event_folder
from blocks.night_runs import PROCESS, run_of, write_run
from blocks.nights import NightRecord, read_night
from blocks.site import Site
from deployments.cli import main, nights
from deployments.cli.output import Answer
from deployments.events.decisions import EXPOSURE, look
from imaging.exposure import Exposure
from imaging.io.skymaps import write_skymap
from imaging.skymap.build import gaussian_skymap
from imaging.templates.night_list import choose_exposures, fields_in_region
from imaging.templates.night_selection import NightSelection
from tests.raw_frames import write_frame

NIGHT, EVENT = 20230923, "S230922g"
MJD, EARLIER = 60211.05, 59800.05
SKYMAP = gaussian_skymap(197.45, -23.38, 1.0, distance_mpc=40.0, distance_sigma_mpc=8.0, order=6, mjd=60209.1)


def exposure(expnum, **changes):
    values = {"band": "i", "night": NIGHT, "mjd": MJD, "exptime_s": 80.0, "ra_deg": 197.45, "dec_deg": -23.38}
    values |= {"airmass": 1.2, "propid": "2022B-715089", "object_name": "hex 7"}
    return Exposure(expnum, **(values | changes))


def old(expnum, **changes):
    return exposure(expnum, **({"night": 20220808, "mjd": EARLIER} | changes))


def test_each_rule_takes_and_leaves_with_its_reason():
    known = [
        exposure(1),
        exposure(2, ra_deg=197.45 + 8.0),
        exposure(3, band="z"),
        exposure(4, object_name="pointing"),
        exposure(5, exptime_s=5.0),
        exposure(6, propid="2023B-1"),
        exposure(7, obstype="dome flat"),
        exposure(8, band="N964"),
        exposure(9, mjd=MJD + 0.2),
        old(21),
        old(22, band="z"),
        old(23, exptime_s=20.0),
        old(24, ra_deg=190.0),
        old(25, night=20230920, mjd=MJD - 3.0),
        old(26, ra_deg=198.9),
    ]
    rules = NightSelection(bands=("i", "r"), programs=("2022B-715089",), last_mjd=MJD + 0.1)
    chosen = choose_exposures(known, NIGHT, SKYMAP, rules)
    assert [e.expnum for e in chosen.search] == [1] and [e.expnum for e in chosen.templates] == [21, 26]
    assert chosen.left == {
        2: "outside of the 95% region",
        3: "band z",
        4: "its object's name marks it as a test or calibration",
        5: "shorter than 10 s",
        6: "proposal 2023B-1",
        8: "band N964 is not processed",
        9: "after MJD 60211.15",
    }
    assert chosen.left_templates == {
        23: "exposure of 20 s is shorter than 30 s",
        25: "3.0 d before the search, less than 15 d",
    }


def test_the_region_is_that_of_a_gaussian():
    """A Gaussian of 1 degree has 95 % within 2.448 degrees; the camera's field reaches 1.1 degrees further."""
    reach = 2.448 + 1.1
    offsets = (0.0, reach - 0.15, reach + 0.15, 8.0)
    field = [exposure(n, dec_deg=-23.38 + offset) for n, offset in enumerate(offsets, 1)]
    assert fields_in_region(field, SKYMAP, 0.95).tolist() == [True, True, False, False]
    assert fields_in_region([exposure(1, ra_deg=0.02, dec_deg=90.0)], SKYMAP, 0.95).tolist() == [False]


@pytest.fixture
def site(tmp_path) -> Site:
    return Site.at(tmp_path / "site")


@pytest.fixture
def register(site, tmp_path, capsys):
    write_skymap(tmp_path / "map.multiorder.fits", SKYMAP)

    def run(*words, code=0, command="register-night", event=EVENT):
        named = ["--event", event] if event else []
        words = [command, str(NIGHT), *named, *map(str, words), "--site", str(site.root), "--json"]
        assert main.run(words) == code
        return json.loads(capsys.readouterr().out)

    run.skymap = tmp_path / "map.multiorder.fits"
    return run


def hold(site):
    """Put raw files with archive names into the site: two of the night, one elsewhere, and a template of each band."""
    write_frame(site.raw / "c4d_230924_011200_ori.fits.fz", 1241650, ra="13:09:48")
    write_frame(site.raw / "c4d_230924_011500_ori.fits.fz", 1241651, ra="13:09:48", band="g")
    write_frame(site.raw / "c4d_230924_011800_ori.fits.fz", 1241652, ra="03:00:00")
    write_frame(site.raw / "c4d_220809_011200_ori.fits.fz", 1100000, ra="13:09:48", mjd=EARLIER)
    write_frame(site.raw / "c4d_220809_011500_ori.fits.fz", 1100001, ra="13:09:48", mjd=EARLIER, band="g")


def test_a_night_is_registered_from_its_raw_files(register, site):
    hold(site)
    said = register("--skymap", register.skymap)
    assert (said["exposures"], said["templates"]) == ([1241650, 1241651], [1100000, 1100001])
    assert said["left"] == {"1241652": "outside of the 95% region"}
    assert said["notes"] == [
        "search exposures: 1 g, 1 i taken; left 1: outside of the 95% region",
        "templates: 1 g, 1 i taken",
    ]
    said = register("--skymap", register.skymap, "--update", "--region", "0.99", "--bands", "gi")
    assert (said["exposures"], said["revision"], said["list_revision"]) == ([1241650, 1241651], 2, 1)
    assert said["selection"] == {"bands": ["g", "i"], "region": 0.99}


def test_a_list_leans_on_the_raw_files(register, site, tmp_path):
    hold(site)
    (tmp_path / "numbers.csv").write_text("expnum\n1241650\n1100000\n99\n")
    said = register("--skymap", register.skymap, "--exposures", tmp_path / "numbers.csv")
    assert (said["exposures"], said["templates"]) == ([1241650], [1100000])
    assert said["notes"] == ["1 of the list left: no raw file is known, and the list does not say enough (99)"]


def test_the_map_of_an_alert_that_was_kept_needs_no_file(register, site):
    hold(site)
    assert "no alert of the event" in register(code=1)["error"]
    record = AlertRecord(superevent=EVENT, alert_type="UPDATE", time_created="2023-09-23T02:00:00Z")
    folder = event_folder(site, EVENT)
    folder.mkdir(parents=True)
    write_skymap(folder / f"{record.name}.multiorder.fits", SKYMAP)
    record = record.model_copy(update={"skymap": f"{record.name}.multiorder.fits"})
    (folder / f"{record.name}.json").write_text(record.model_dump_json())
    said = register()
    assert (said["exposures"], said["alert"]) == ([1241650, 1241651], record.name)
    assert said["prefetched"] == []
    over = AlertRecord(superevent=EVENT, alert_type="RETRACTION", time_created="2023-09-23T03:00:00Z")
    (folder / f"{over.name}.json").write_text(over.model_dump_json())
    assert register("--update")["prefetched"] == [f"{EVENT} is retracted by its newest alert"]


def alert_of(skymap, **changes) -> str:
    text = None if skymap is None else base64.b64encode(skymap.read_bytes()).decode()
    event = None if skymap is None else {"time": "2023-09-22T02:03:44.886Z", "skymap": text}
    document = {"superevent_id": EVENT, "alert_type": "INITIAL", "time_created": "2023-09-22T02:10:00Z", "event": event}
    return json.dumps(document | changes)


def test_an_alert_in_a_file_names_event_and_map(register, site, tmp_path):
    hold(site)
    path = tmp_path / "alert.json"
    path.write_text(alert_of(register.skymap))
    said = register("--skymap", path, event="")
    assert (said["event"], said["alert"]) == (EVENT, "20230922T021000Z-initial")
    assert said["exposures"] == [1241650, 1241651]
    said = register("--skymap", path, "--update", event="")
    assert (said["changed"], said["revision"]) == (False, 1)
    assert "the alert is of another event" in register("--skymap", path, event="S230922h", code=1)["error"]
    path.write_text(alert_of(None, alert_type="RETRACTION"))
    assert "the alert has no sky map" in register("--skymap", path, event="", code=1)["error"]
    path.write_text("{}")
    assert "invalid alert" in register("--skymap", path, event="", code=1)["error"]


def test_a_night_may_be_registered_and_processed_by_one_command(register, site, tmp_path, monkeypatch):
    processed = []

    def process(command, common, of, flow, parameters, **more):
        processed.append((flow, parameters["night"], read_night(of, NIGHT).record.exposures))
        return Answer({"command": command})

    monkeypatch.setattr(nights, "run_flow", process)
    hold(site)
    assert "night is not registered" in register(command="night", event="", code=1)["error"]
    assert "nothing names the event" in register("--bands", "i", command="night", event="", code=1)["error"]
    path = tmp_path / "alert.json"
    path.write_text(alert_of(register.skymap))
    for _ in range(2):
        register("--skymap", path, "--bands", "i", command="night", event="")
    register(command="night", event="")
    assert processed == 3 * [("flows.night:process_night", NIGHT, (1241650,))]
    assert read_night(site, NIGHT).record.revision == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bands", "q"], "unknown band"),
        (["--region", "0"], "no such region"),
        (["--selection", "missing.json"], "settings file missing"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(register, words, message):
    assert message in register("--skymap", register.skymap, *words, code=1)["error"]


def test_what_arrives_unlisted_is_taken_late_and_starts_nothing_that_was_cancelled(register, site):
    """A night registered before its first exposure; then two arrive, one elsewhere; then one during the run."""
    register("--skymap", register.skymap)
    server = FakeRuns()
    assert look(site, server).created == []
    hold(site)
    assert look(site, server).created == [f"{PROCESS}-{NIGHT}-r2"]
    night = read_night(site, NIGHT)
    assert (night.record.exposures, night.record.templates) == ((1241650, 1241651), (1100000, 1100001))
    assert (night.record.revision, night.record.list_revision) == (2, 1)
    assert look(site, server).created == []

    (identity,) = server.by_id
    server.set(identity, "COMPLETED")
    run = run_of(night.record, PROCESS, identity, exposures=(1241650, 1241651, 1100000, 1100001))
    write_run(night, run, end="completed")
    write_frame(site.raw / "c4d_230924_013000_ori.fits.fz", 1241660, ra="13:09:48", mjd=MJD + 0.01)
    found = look(site, server)
    assert found.created == [f"{EXPOSURE}-1241660", f"{PROCESS}-{NIGHT}-r3"]
    late = next(i for i, r in server.by_id.items() if r.flow == EXPOSURE)
    assert server.parameters[late]["exposure"]["band"] == "i"

    night = read_night(site, NIGHT)
    write_run(night, run_of(night.record, PROCESS, "two", exposures=night.record.exposures), end="cancelled")
    for name in server.by_id:
        server.set(name, "COMPLETED")
    write_frame(site.raw / "c4d_230924_014000_ori.fits.fz", 1241661, ra="13:09:48", mjd=MJD + 0.02)
    found = look(site, server)
    assert found.created == [] and "cancelled" in found.held[NIGHT]
    assert 1241661 in read_night(site, NIGHT).record.exposures


@pytest.mark.parametrize(
    ("unlisted", "taken"),
    [("never", []), ("region", [1241651]), ("program", [1241652]), ("either", [1241651, 1241652])],
)
def test_a_setting_says_what_is_taken_unlisted(register, site, tmp_path, unlisted, taken):
    """One of another proposal in the region, and one of the list's proposal elsewhere."""
    write_frame(site.raw / "a.fits.fz", 1241650, ra="13:09:48")
    (tmp_path / "rules.json").write_text(json.dumps({"unlisted": unlisted}))
    (tmp_path / "numbers.csv").write_text("expnum\n1241650\n")
    listed = ("--exposures", tmp_path / "numbers.csv", "--selection", tmp_path / "rules.json")
    said = register("--skymap", register.skymap, *listed)
    assert said["selection"]["list_programs"] == ["2022B-715089"]
    write_frame(site.raw / "b.fits.fz", 1241651, ra="13:09:48", PROPID="2023B-1")
    write_frame(site.raw / "c.fits.fz", 1241652, ra="03:00:00")
    look(site, FakeRuns())
    assert list(read_night(site, NIGHT).record.exposures) == [1241650, *taken]


def test_a_night_of_an_earlier_version_takes_nothing_by_itself(register, site):
    hold(site)
    register("--skymap", register.skymap)
    night = read_night(site, NIGHT)
    content = night.record.model_dump(mode="json", exclude={"selection"})
    former = NightRecord.model_validate(content)
    assert former.selection is None
    (night.folder / "night.json").write_text(former.model_dump_json())
    write_frame(site.raw / "d.fits.fz", 1241670, ra="13:09:48")
    look(site, FakeRuns())
    assert 1241670 not in read_night(site, NIGHT).record.exposures
