"""What the doctor finds on a site, and what it says to do."""

import contextlib
import dataclasses
import json
import os
import urllib.error
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.time import Time
from listed_nights import NIGHT, check_map, write_list

from blocks.gw_events import AlertRecord, event_folder
from blocks.site import Site, raw_path
from deployments.checks import doctor, doctor_night
from deployments.cli import main
from deployments.events.registry import register_night
from deployments.server.automations import NIGHT_FAILED, ZOMBIES
from deployments.server.database import VARIABLE, prepare_sqlite
from deployments.server.definitions import DEFINITIONS
from imaging.detector.status import working_ccds
from imaging.errors import InputError
from imaging.identity import ExposureId
from imaging.io.atomic import write_text
from imaging.io.calibrations import write_manifest
from imaging.io.manifest import CalibrationEntry
from imaging.io.reference import write_reference_catalogue
from imaging.io.skymaps import write_skymap
from imaging.schemas.reference import REFERENCE_STARS
from imaging.skymap.build import gaussian_skymap
from tasks.exposure_requests import nominal_footprints
from tasks.prepare_templates import mjd_of_night
from tasks.steps import LIMITS
from tests.raw_frames import write_frame


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(doctor, "api_address", lambda site: os.environ.get("PREFECT_API_URL"))
    return Site.at(tmp_path / "site")


@pytest.fixture
def night(site, tmp_path):
    skymap = tmp_path / "map.fits"
    skymap.write_bytes(b"SIMPLE map")
    exposures = write_list(tmp_path / "list.csv", [1300001, 1300002])
    return register_night(
        site, NIGHT, event="GW170817", skymap=skymap, exposures=exposures, check_skymap=check_map
    ).night


def by_check(findings):
    return {finding.check.partition(": ")[2] or finding.check: finding for finding in findings}


def test_an_empty_site_is_told_what_it_lacks(site, night):
    found = by_check(doctor.examine(site))
    assert found["server"].verdict == "warning"
    assert found["file locks"].verdict == "good"
    assert found["raw files"].found == "3 of 3 are missing: 900001, 1300001, 1300002"
    assert found["calibrations"].verdict == "bad"
    assert "there is no calibration library" in found["calibrations"].found
    assert found["reference stars"].verdict == "bad"
    assert found["sky map"].verdict == "bad", "a file that is no sky map"
    assert all(finding.remedy for finding in found.values() if finding.verdict != "good")
    assert found["reference stars"].commands == ("gw-workflow reference-catalog build GAIA_FILES",)
    fetch = f"gw-workflow archive fetch --for-night {NIGHT}"
    for name in ("raw files", "calibrations", "templates"):
        assert fetch in found[name].commands, name


def test_a_raw_file_of_another_band_than_the_list_says_is_bad(site, night):
    listed = next(item.exposure for item in night.listed() if item.exposure.night == NIGHT)
    other = "r" if listed.band != "r" else "g"
    write_frames(site, NIGHT, mjd_of(NIGHT), ("object", other), first=listed.expnum)
    found = doctor_night._check_raw(site, "", [listed])
    assert found.verdict == "bad"
    assert f"{listed.expnum} (list {listed.band}, {NIGHT}; file {other}, {NIGHT})" in found.found


def write_frames(site, night, mjd, *kinds, first=1, ramp=False):
    """Write primary headers of calibration exposures into the raw folder of a night, of one exposure time or many."""
    folder = site.raw / str(night)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (obstype, band) in enumerate(kinds, first):
        exptime = float(number) if ramp else 1.0
        cards = {"EXPNUM": number, "OBSTYPE": obstype, "FILTER": f"{band} DECam", "MJD-OBS": mjd, "EXPTIME": exptime}
        primary = fits.PrimaryHDU(header=fits.Header(cards | {"TELRA": "10:00:00", "TELDEC": "-20:00:00"}))
        primary.writeto(folder / f"DECam_{number:08d}.fits")


def test_doctor_of_a_night_ends_with_the_commands_that_bring_what_is_missing(site, night, capsys):
    code = main.run(["doctor", str(NIGHT), "--site", str(site.root)])
    lines = capsys.readouterr().out.splitlines()
    commands = [line.strip() for line in lines[lines.index("commands that bring what is missing:") + 1 :]]
    assert code == 3
    here = f" --site {site.root}"
    assert commands[:4] == [
        f"gw-workflow add-raw FOLDER{here}",
        f"gw-workflow archive fetch --for-night {NIGHT}{here}",
        f"gw-workflow import-calibrations FILE...{here}",
        f"gw-workflow import-calibrations linearity_table_v0.4.fits{here}",
    ]
    assert all(command.startswith("gw-workflow ") for command in commands)
    bands = {item.exposure.band for item in night.listed()}
    flats = [("dome flat", band) for band in bands] * 3
    write_frames(site, NIGHT, mjd_of(NIGHT), *[("zero", "i")] * 3, *flats)
    main.run(["doctor", str(NIGHT), "--site", str(site.root), "--json"])
    assert f"gw-workflow build-calibrations {NIGHT}{here}" in json.loads(capsys.readouterr().out)["commands"]


def mjd_of(night):
    return Time(f"{night // 10000}-{night // 100 % 100:02d}-{night % 100:02d}T21:00:00").mjd


def test_a_ramp_gives_the_linearity_and_many_nights_an_era(site, night):
    exposures = [item.exposure for item in night.listed()][:1]
    write_frames(site, 20230920, mjd_of(20230920), *[("dome flat", "g")] * 9, ramp=True)
    found = doctor_night._check_defaults(site, exposures, {exposures[0].expnum: (26,)})
    assert found.commands == ("gw-workflow build-linearity 20230920",), "without biases"
    others = [("zero", "g")] * 3 + [("dome flat", "i")] * 3
    write_frames(site, 20230920, mjd_of(20230920) + 0.05, *others, first=50)
    found = doctor_night._check_defaults(site, exposures, {exposures[0].expnum: (26,)})
    assert found.commands == ("gw-workflow build-calibrations 20230920",)
    nights = (20230801, 20231101, 20240115)
    for number, each in enumerate(nights, 1):
        frames = [("zero", "i")] * 3 + [("dome flat", "i")] * 3
        write_frames(site, each, mjd_of(each), *frames, first=100 * number)
    commands = doctor_night._building(site, [(20230803, "i"), (20231030, "i")])
    assert commands == ("gw-workflow build-calibrations 20230801", "gw-workflow build-calibrations 20231101")
    commands = doctor_night._building(site, [(20230730, "i"), (20231030, "i"), (20240120, "i"), (20200101, "g")])
    assert commands == (
        "gw-workflow build-calibrations --from 20230730 --to 20240120",
        "gw-workflow import-calibrations FILE...",
    )


def test_doctor_of_a_night_that_is_not_registered_says_how_to_register_it(site, night, capsys):
    assert main.run(["doctor", "20240101", "--site", str(site.root), "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    command = "gw-workflow register-night 20240101 --event {} --site " + str(site.root)
    assert document["commands"] == [command.format("EVENT --skymap FILE")]
    events = (("S240101a", "map.fits", 2), ("S240101b", None, 3), ("MS240101c", "mock.fits", 4))
    for event, skymap, hour in events:
        record = AlertRecord(
            superevent=event, alert_type="INITIAL", time_created=f"2024-01-01T0{hour}:00:00Z", skymap=skymap
        )
        write_text(event_folder(site, event) / f"{record.name}.json", record.model_dump_json())
    main.run(["doctor", "20240101", "--site", str(site.root), "--json"])
    assert json.loads(capsys.readouterr().out)["commands"] == [command.format("S240101a")], "with a kept sky map"
    assert main.run(["doctor", "20241340", "--site", str(site.root)]) == 1


def test_defaults_of_a_library_are_named_and_unknown_linearity_is_a_warning(site, night):
    exposures = [item.exposure for item in night.listed()]
    looked_at = exposures, {e.expnum: (26, 27) for e in exposures}
    found = doctor_night._check_defaults(site, *looked_at)
    assert found.verdict == "warning"
    assert "linearity: none known; taken as linear below 90 %" in found.found
    assert "star_flat: none" in found.found
    kinds = ("linearity", "crosstalk", "star_flat", "sky_modes")
    entries = [CalibrationEntry(epoch="e", kind=k, files=f"{k}_{{band}}", made_night=20240101) for k in kinds]
    write_manifest(site.calibrations, entries[:1])
    found = doctor_night._check_defaults(site, *looked_at)
    assert (found.verdict, found.commands) == ("good", ())
    assert "linearity" not in found.found and "crosstalk" in found.found
    write_manifest(site.calibrations, entries)
    assert "every kind" in doctor_night._check_defaults(site, *looked_at).found


def test_files_that_come_are_seen(site, night):
    for item in night.listed():
        path = raw_path(site, ExposureId(item.exposure.expnum, item.exposure.band, item.exposure.night))
        e = item.exposure
        write_frame(path, e.expnum, mjd=mjd_of_night(e.night), band=e.band)
    assert by_check(doctor.examine(site))["raw files"].verdict == "good"


@pytest.mark.parametrize(("free_gb", "verdict"), [(5.0, "bad"), (100.0, "warning"), (900.0, "good")])
def test_the_free_disk_is_judged(site, monkeypatch, free_gb, verdict):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=free_gb * 1e9))
    assert by_check(doctor.check_machine(site))["disk of products"].verdict == verdict


def test_a_named_server_that_is_down_is_bad(site, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    (found,) = doctor.check_server(site)
    assert (found.verdict, found.remedy) == ("bad", "start it, or unset PREFECT_API_URL")


CHANGED = ("process-night", "prepare-templates")


def deployed(definition):
    """A deployment as the API describes it."""
    limit = definition.concurrency_limit
    return {
        "name": definition.name,
        "status": "READY",
        "paused": False,
        "global_concurrency_limit": {"limit": limit["limit"]},
        "concurrency_options": {"collision_strategy": limit["collision_strategy"], "grace_period_seconds": None},
        "schedules": [
            {
                "slug": schedule["slug"],
                "active": schedule["active"],
                "parameters": {},
                "schedule": {"cron": schedule["cron"], "timezone": schedule["timezone"], "day_or": True},
            }
            for schedule in definition.schedules
        ],
    }


def refused(request, timeout_s):
    raise urllib.error.HTTPError(request.full_url, 401, "Unauthorized", {}, None)


@pytest.fixture
def server(site, monkeypatch):
    """A server that says what the test puts into its answers."""
    answers = {
        "deployments/filter": [deployed(d) for d in DEFINITIONS],
        "automations/filter": [
            {"name": name, "enabled": True}
            for name in [ZOMBIES, NIGHT_FAILED] + [trigger["name"] for d in DEFINITIONS for trigger in d.triggers]
        ],
        "block_types/filter": [{"id": slug, "slug": slug} for slug in doctor.BLOCKS],
        "block_documents/filter": [{"block_type_id": slug, "name": "default"} for slug in doctor.BLOCKS],
        "v2/concurrency_limits/filter": [
            {"name": name, "limit": slots, "active": True} for name, slots in LIMITS.items()
        ],
    }
    monkeypatch.setenv("PREFECT_API_URL", "https://server/api")
    monkeypatch.setattr(doctor, "open_url", refused)
    monkeypatch.setattr(doctor, "is_healthy", lambda url: True)
    monkeypatch.setattr(doctor, "ask_server", lambda url, what, question: answers[what])
    return answers


def test_a_server_with_everything_is_good(site, server):
    assert {finding.verdict for finding in doctor.check_server(site)} == {"good"}


def test_a_server_that_is_open_or_reached_in_clear_text_is_told(site, server, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://server/api")
    found = by_check(doctor.check_server(site))
    assert (found["encryption"].verdict, found["access"].verdict) == ("warning", "good")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    monkeypatch.setattr(doctor, "open_url", lambda request, timeout_s: contextlib.nullcontext())
    found = by_check(doctor.check_server(site))
    assert "encryption" not in found
    assert found["access"].verdict == "warning"
    assert "PREFECT_SERVER_API_AUTH_STRING" in found["access"].remedy


def test_what_a_server_lacks_is_named(site, server):
    server["deployments/filter"].pop(0)
    server["automations/filter"].pop(2)
    found = by_check(doctor.check_server(site))
    assert found["deployments"].found == "missing: process-night"
    assert found["automations"].found == "missing: watch-incoming-on-event"
    assert found["automations"].remedy == "gw-workflow deploy"


def test_what_somebody_changed_has_a_row_each(site, server):
    night, dusk = (next(d for d in server["deployments/filter"] if d["name"] == n) for n in CHANGED)
    night["global_concurrency_limit"]["limit"] = 3
    night["paused"] = True
    dusk["schedules"][0]["active"] = False
    server["v2/concurrency_limits/filter"][0]["limit"] = 7
    trigger = next(a for a in server["automations/filter"] if a["name"] == "prepare-templates-on-event")
    trigger["enabled"] = False
    dusk_text = "cron 30 17 * * *, timezone America/Santiago"
    found = {f.check: (f.verdict, f.found) for f in doctor.check_server(site) if f.verdict != "good"}
    assert found == {
        "process-night: limit": ("warning", "changed to 3; the default is 1"),
        "process-night: paused": ("warning", "changed to on; the default is off"),
        "prepare-templates: schedule at-dusk": (
            "warning",
            f"changed to {dusk_text}, active off; the default is {dusk_text}, active on",
        ),
        f"limit {next(iter(LIMITS))}": ("warning", f"changed to 7; the default is {next(iter(LIMITS.values()))}"),
        "prepare-templates-on-event": ("bad", "switched off"),
    }


def test_missing_blocks_limits_and_notifications_are_named(site, server):
    server["block_documents/filter"][0]["name"] = "mountain"
    server["v2/concurrency_limits/filter"].pop()
    server["automations/filter"] = [a for a in server["automations/filter"] if a["name"] != NIGHT_FAILED]
    found = by_check(doctor.check_server(site))
    assert (found["blocks"].verdict, found["blocks"].found) == ("bad", "no block default of gw-storage-roots")
    assert (found["limits"].verdict, found["limits"].found) == ("warning", "missing: gw-write-nights")
    assert found["notifications"].remedy == "fill in the block Notification Target / default, then gw-workflow deploy"


def test_a_database_that_is_not_reached_or_has_grown_is_told(site, monkeypatch):
    monkeypatch.setenv(VARIABLE, "postgresql+asyncpg://gw:secret@127.0.0.1:9/prefect")
    found = by_check(doctor.check_server(site))["database"]
    assert found.verdict == "bad"
    assert "secret" not in found.found
    monkeypatch.delenv(VARIABLE)
    path = site.state / "server" / "prefect.db"
    path.parent.mkdir(parents=True)
    prepare_sqlite(path)
    assert by_check(doctor.check_server(site))["database"].verdict == "good"
    monkeypatch.setattr(doctor, "DATABASE_GB", 1e-9)
    assert by_check(doctor.check_server(site))["database"].remedy.startswith("gw-workflow database vacuum")


RA, DEC = 197.45, -23.38


@pytest.fixture
def pointed(site, night, monkeypatch):
    """Exposures at one place; of the raw file of the first only two CCDs are there."""
    exposures = [dataclasses.replace(item.exposure, ra_deg=RA, dec_deg=DEC) for item in night.listed()]

    def expected(site, exposure):
        return (26, 27) if exposure.expnum == exposures[0].expnum else tuple(working_ccds(exposure.night))

    return exposures, {e.expnum: expected(site, e) for e in exposures}


def write_gaia(site, *places):
    columns = {field.name: pa.nulls(len(places), field.type) for field in REFERENCE_STARS}
    columns |= {"source_id": pa.array(range(len(places)), pa.int64())}
    columns |= {name: pa.array([place[n] for place in places]) for n, name in enumerate(("ra", "dec"))}
    stars = pa.table(columns).cast(REFERENCE_STARS)
    write_reference_catalogue(site.reference / "gaia", stars, name="gaia", order=7)


def test_reference_stars_are_looked_for_under_every_ccd(site, night, pointed):
    exposures, expected = pointed
    write_gaia(site, (RA + 40.0, DEC))
    found = doctor_night._check_reference(site, night, exposures, expected)
    assert found.verdict == "bad"
    assert "(2 of 2 CCDs)" in found.found
    assert found.commands[0].endswith(f" --skymap {night.skymap}")
    grid = [(RA + x, DEC + y) for x in np.arange(-1.6, 1.6, 0.2) for y in np.arange(-1.4, 1.4, 0.2)]
    write_gaia(site, *grid)
    assert doctor_night._check_reference(site, night, exposures, expected).verdict == "good"
    write_gaia(site, *[place for place in grid if place[1] < DEC + 0.3])
    found = doctor_night._check_reference(site, night, exposures, expected)
    assert found.verdict == "warning", "part of the shards is missing"
    assert "prefetch" in found.remedy
    first = exposures[0].expnum
    corners = nominal_footprints(exposures[0])
    is_north = any(corners[ccd][:, 1].max() > DEC + 0.3 for ccd in expected[first])
    assert (f"{first} (" in found.found) == is_north


def test_calibrations_are_asked_of_the_ccds_that_the_raw_files_hold(site, pointed, monkeypatch):
    exposures, expected = pointed
    asked = []

    def look(library, exposure, ccd):
        asked.append(ccd)
        if ccd != 26:
            raise InputError("calibration file missing: bias", ccd=ccd)

    library = SimpleNamespace(age_warnings=lambda exposure: ())
    monkeypatch.setattr("imaging.io.calibrations.CalibrationLibrary", lambda root: library)
    monkeypatch.setattr("imaging.io.detrend_calibrations.detrend_calibration_paths", look)
    found = doctor_night._check_calibrations(site, exposures[:1], expected)
    assert asked == [26, 27]
    assert found.found.startswith("missing for 1 of 2 CCDs")


def test_the_region_of_the_sky_map_is_held_against_the_reference_stars(site, night):
    skymap = gaussian_skymap(RA, DEC, 0.3, distance_mpc=40.0, distance_sigma_mpc=8.0)
    write_skymap(night.skymap, skymap)
    write_gaia(site, (RA + 40.0, DEC))
    found = doctor_night._check_skymap(site, night)
    assert found.verdict == "warning"
    assert found.found.startswith("9"), "almost all of it"
    write_gaia(site, *[(RA + x, DEC + y) for x in np.arange(-2.5, 2.5, 0.2) for y in np.arange(-2.0, 2.0, 0.2)])
    assert doctor_night._check_skymap(site, night).verdict == "good"


def test_deployments_that_nobody_serves_are_bad(site, server):
    for deployment in server["deployments/filter"]:
        deployment["status"] = "NOT_READY"
    found = by_check(doctor.check_server(site))["workers"]
    assert (found.verdict, found.remedy) == ("bad", "prefect worker start --pool gw-workflow")


def test_the_command_ends_with_3_if_a_night_cannot_run(site, night, capsys):
    code = main.run(["doctor", "--site", str(site.root), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (code, document["exit_code"]) == (3, 3)
    assert document["counts"]["bad"] >= 2
