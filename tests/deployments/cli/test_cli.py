"""The command line: usage errors, exit codes, one JSON document, what flows are asked for."""

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from listed_nights import NIGHT, write_list
from prefect import flow
from prefect.states import Completed

from blocks.nights import read_night
from blocks.site import Site
from deployments.cli import main, running
from deployments.events.decisions import nights_to_do
from deployments.server.server import Server
from imaging.errors import InputError
from imaging.skymap.build import gaussian_skymap
from tasks.engine import lone_run
from tasks.engine.failures import note_failure
from tasks.engine.final_state import final_state
from tasks.engine.jobs import ExitCode, Failure
from tasks.requests import ExposureRequest
from tests.timing import least_s

ROOT = Path(__file__).parents[3]
LETTERS = {"-r": "4", "-p": "5", "-E": "1300001", "-b": "i", "-n": "20170818", "-S": "60"}


def single_epoch(**changes):
    letters = LETTERS | {f"-{letter}": value for letter, value in changes.items()}
    return ["single-epoch", *(word for pair in letters.items() for word in pair)]


SINGLE_EPOCH = single_epoch()


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Run a command on a site of its own; return exit code, JSON document or text, and standard error."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("GW_WORKFLOW_ROOT", str(tmp_path / "site"))

    def do(*words):
        code = main.run([str(word) for word in words])
        captured = capsys.readouterr()
        document = json.loads(captured.out) if "--json" in words else captured.out
        return code, document, captured.err

    return do


@pytest.fixture
def asked(monkeypatch, prefect_server):
    """Flows that note what they are asked for; their state can be set."""
    notes = {"state": lambda: Completed(message="done", data={"ccds": 1})}

    def fake(module, name):
        def noting(*, return_state, **given):
            notes[name] = given
            state = notes["state"]

            @flow
            def small():
                return state() if callable(state) else state

            return small(return_state=True)

        stand_in = ModuleType(f"flows.{module}")
        setattr(stand_in, name, noting)
        monkeypatch.setitem(sys.modules, f"flows.{module}", stand_in)

    fake("exposure", "process_exposure")
    fake("calibration", "calibration")
    fake("difference", "difference")
    fake("night", "process_night")

    class Used:
        def __enter__(self):
            return Server("http://127.0.0.1:1/api", embedded=True)

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(running, "server_for", lambda site: Used())
    monkeypatch.setattr(lone_run, "run_alone", lambda flow, given, site, listener: flow(return_state=True, **given))
    return notes


@pytest.mark.parametrize(
    ("settings", "name", "code"),
    [
        ({"LC_ALL": "C"}, "sité", 0),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "sité", 1),
        ({"LC_ALL": "C.UTF-8"}, b"sit\xe9", 1),
    ],
    ids=["C", "C without UTF-8", "no UTF-8"],
)
def test_a_site_has_any_name_that_is_text(tmp_path, settings, name, code):
    folder = os.path.join(os.fsencode(tmp_path), os.fsencode(name))  # noqa: PTH118 (bytes)
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | settings
    words = [sys.executable, "-m", "deployments.cli.main", "cache", "list", "--site", folder]
    done = subprocess.run(words, env=environment, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.count(b"\n") == code
    assert (b"is not UTF-8" in done.stderr and b"LC_ALL=C.UTF-8" in done.stderr) == (code == 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonsense"], "Unknown command"),
        (["single-epoch", "-E", "5"], "--band"),
        (single_epoch(E="five"), "five"),
        (single_epoch(b="q"), "unknown band ('q'; allowed: one of u, g, r, i, z, Y, VR)"),
        (single_epoch(n="20171301"), "night is not a date"),
        (single_epoch(c="1,77"), "CCD number out of range (77; allowed: 1 to 62)"),
        (single_epoch(c="1,x"), "CCD list not understood"),
        (single_epoch(r="x"), "invalid version number"),
        (single_epoch(r="²"), "invalid version number"),
        ([*SINGLE_EPOCH, "--workers", "0"], "--workers"),
        (["candidates", "20170818", "--limit", "-5"], "--limit"),
        (["candidate-pictures", "20170818", "--limit", "0"], "--limit"),
        (["status", "--interval", "0"], "--interval"),
        (["serve", "--port", "99999999"], "--port"),
        (["metrics", "--port", "-3"], "--port"),
        (single_epoch(d="tape"), "tape"),
        (["difference", "-E", "1", "-r", "r4", "-p", "60", "-n", "20170818", "-b", "i"], "version tag not understood"),
        (["difference", "-E", "1", "-r", "r4p5", "-p", "x", "-n", "20170818", "-b", "i"], "season not understood"),
        (["calibrate", "--expnum", "1", "--reqnum", "4", "--attnum", "5"], "exposure has no products"),
        (["night", "20170818"], "night is not registered"),
        (["candidates", "20170818"], "night has no candidates yet"),
        (["status", "20170818"], "night is not registered"),
        (["simulate", "/tmp/never", "--bands", "q"], "unknown band"),
        (["register-night", "20170818", "--event", "GW170817", "--skymap", "no.fits", "--exposures", "no.csv"], "list"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_bad_input_is_one_sentence_and_exit_code_1(command, words, message):
    code, document, error = command(*words, "--json")
    assert code is ExitCode.BAD_INPUT
    assert document["exit_code"] == 1
    assert message in document["error"]
    assert error.startswith("gw-workflow: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("letters", "stages"),
    [
        ([], ("single_epoch", "verification")),
        (["-C"], ("single_epoch", "calibration", "verification")),
        (["-j"], ("calibration", "verification")),
        (["-C", "-t"], ("single_epoch", "calibration")),
        (["-j", "-t"], ("calibration",)),
    ],
)
def test_the_stages_that_the_original_letters_mean(command, asked, letters, stages):
    assert command(*SINGLE_EPOCH, *letters)[0] is ExitCode.COMPLETE
    assert asked["process_exposure"]["stages"] == stages


def test_single_epoch_passes_on_what_it_is_told(command, asked, tmp_path):
    words = [*SINGLE_EPOCH, "-c", "3-4,1", "-d", "scratch", "-m", "wsdiff", "-Y", "-O"]
    code, document, _ = command(*words, "--json")
    given = asked["process_exposure"]
    request = given.pop("exposure")
    assert code == 0
    assert request == ExposureRequest(
        expnum=1300001,
        band="i",
        night=20170818,
        rnum=4,
        pnum=5,
        season=60,
        schema_name="wsdiff",
        destination="scratch",
        calibration_epoch="y4e1",
    )
    assert given == {
        "site": str(tmp_path / "site"),
        "ccds": (1, 3, 4),
        "stages": ("single_epoch", "verification"),
        "overwrite": True,
    }
    assert document["state"] == "Completed"
    assert document["summary"] == {"ccds": 1}


def test_difference_passes_on_what_it_is_told(command, asked):
    command(
        "difference",
        *["-E", "1300001", "-r", "r4p5", "-p", "dp60", "-n", "20170818", "-b", "Y", "-c", "7", "-v", "gw8", "-F"],
    )
    given = asked["difference"]
    request = given.pop("exposure")
    assert (request.rnum, request.pnum, request.season, request.label) == (4, 5, 60, "gw8")
    assert given["ccds"] == (7,)


def test_calibrate_finds_night_and_band_of_a_processed_exposure(command, asked, tmp_path):
    folder = tmp_path / "site" / "products" / "gw" / "exp" / "20170818" / "1300001"
    folder.mkdir(parents=True)
    (folder / "D01300001_VR_07_r4p5_measured.fits").touch()
    command(
        "calibrate", *["--expnum", "1300001", "--reqnum", "4", "--attnum", "5", "--ccd", "7", "--magsType", "mag_psf"]
    )
    given = asked["calibration"]
    request = given.pop("exposure")
    assert (request.band, request.night, given["ccds"]) == ("VR", 20170818, (7,))
    assert given["magnitudes"] == "mag_psf"


@pytest.mark.parametrize("name", ["mag_auto", "mag_aper_8"])
def test_calibrate_passes_on_other_magnitudes_and_states_both_zero_points(command, asked, tmp_path, name):
    folder = tmp_path / "site" / "products" / "gw" / "exp" / "20170818" / "1300001"
    folder.mkdir(parents=True)
    (folder / "D01300001_i_07_r4p5_measured.fits").touch()
    zeropoints = {"zeropoints": {"mag_psf": 31.5, name: 31.61234, "file": "zeropoints.parquet"}}
    asked["state"] = lambda: final_state("exposure 1300001", [7], {}, summary=zeropoints)
    words = ["calibrate", "--expnum", "1300001", "--reqnum", "4", "--attnum", "5", "--magsType", name]
    code, text, _ = command(*words)
    assert asked["calibration"]["magnitudes"] == name
    assert code == 0
    assert "zero point of mag_psf: 31.5000 mag" in text
    assert f"zero point of {name}: 31.6123 mag" in text


@pytest.mark.parametrize(
    ("words", "level"),
    [((), 0), (("--verbose",), 1), (("--verbose", "0"), 0), (("--verbose", "2", "--json"), 2), (("--verbose=1",), 1)],
)
def test_verbose_takes_a_number_or_none(words, level):
    from deployments.cli.main import app, with_numbers

    _, bound, _ = app.parse_args(with_numbers(["status", *words, "20170818"]))
    assert bound.arguments["night"] == 20170818
    assert getattr(bound.arguments.get("common"), "verbose", 0) == level


def test_verbose_above_2_is_bad_usage(command):
    code, document, _ = command("status", "--verbose", "3", "--json")
    assert code == 1
    assert "verbose" in document["error"]


@pytest.mark.parametrize(
    ("done", "failures", "code", "word"),
    [
        ([1, 2], {}, 0, "complete:"),
        ([1], {2: Failure(reason="too_few_stars", message="", kind="ccd")}, 2, "complete with CCDs missing"),
        ([], {2: Failure(reason="lost_worker", message="", kind="lost")}, 3, "FAILED"),
    ],
)
def test_exit_codes_tell_how_a_run_ended(command, asked, done, failures, code, word):
    asked["state"] = lambda: final_state("exposure 1300001", done, failures)
    found, text, _ = command(*SINGLE_EPOCH)
    assert found == code
    assert word in text
    assert all(f.reason in text for f in failures.values())


def test_bad_input_that_a_flow_finds_is_exit_code_1(command, asked):
    def raising():
        raise InputError("raw file missing", expnum=1300001, value="/raw/x", remedy="fetch it")

    asked["state"] = raising
    code, document, _ = command(*SINGLE_EPOCH, "--json")
    assert code == 1
    assert document["error"] == "exposure 1300001: raw file missing (/raw/x). To do: fetch it."


def test_a_defect_is_exit_code_3(command, asked):
    def raising():
        raise ZeroDivisionError("a defect")

    asked["state"] = raising
    code, document, _ = command(*SINGLE_EPOCH, "--json")
    assert code == 3
    assert "a defect" in document["message"]


@pytest.fixture
def night_files(tmp_path, monkeypatch):
    known = gaussian_skymap(197.45, -23.38, 2.0, distance_mpc=40.0, distance_sigma_mpc=8.0, order=4, mjd=57982.53)
    monkeypatch.setattr("imaging.io.skymaps.read_skymap", lambda path: known)
    skymap = tmp_path / "map.fits"
    skymap.write_bytes(b"map")
    exposures = write_list(tmp_path / "list.csv", [1300001, 1300002])
    return ["--event", "GW170817", "--skymap", skymap, "--exposures", exposures]


def test_a_night_is_registered_without_a_server(command, night_files, tmp_path):
    code, document, _ = command("register-night", NIGHT, *night_files, "--json")
    assert code == 0
    assert (document["changed"], document["announced"], document["exposures"]) == (True, False, [1300001, 1300002])
    code, document, _ = command("register-night", NIGHT, *night_files, "--json")
    assert code == 1
    assert "already registered" in document["error"]
    code, document, _ = command("register-night", NIGHT, *night_files, "--update", "--json")
    assert (code, document["changed"]) == (0, False)


def test_a_night_that_the_server_does_not_take_is_stored_all_the_same(command, night_files, tmp_path, monkeypatch):
    def refuse(site, name):
        raise ConnectionResetError("gone")

    monkeypatch.setattr("deployments.server.server.known_address", lambda site: "http://127.0.0.1:1/api")
    monkeypatch.setattr("deployments.server.server.server_for", lambda site: nullcontext())
    monkeypatch.setattr("deployments.events.watching.decide_now", refuse)
    code, document, error = command("register-night", NIGHT, *night_files, "--json")
    assert (code, document["announced"]) == (0, False)
    assert "did not accept the announcement" in error
    assert nights_to_do(Site.at(tmp_path / "site"))[int(NIGHT)].process


def test_a_registered_night_can_be_processed(command, night_files, asked, tmp_path):
    command("register-night", NIGHT, *night_files)
    code, _, _ = command("night", NIGHT, "-O")
    assert code == 0
    assert asked["process_night"] == {"night": NIGHT, "site": str(tmp_path / "site"), "overwrite": True}


def test_status_counts_what_is_done_and_names_what_failed(command, night_files, tmp_path):
    from toy_jobs import record_toys

    command("register-night", NIGHT, *night_files)
    jobs = record_toys(tmp_path / "site", ccds=(1, 2, 3))
    failure = Failure(reason="too_few_stars", message="", kind="ccd")
    note_failure("measure", jobs[2], failure)
    code, document, _ = command("status", NIGHT, "--json")
    assert code == 0
    by_subject = {s["subject"]: s for s in document["subjects"]}
    assert by_subject["1300001"] == {
        "subject": "1300001",
        "done": {"detrend": 3},
        "failed": {"measure": 1},
        "reasons": {"measure": "too_few_stars 3"},
    }
    assert by_subject["1300002"]["done"] == {}
    assert document["running"] is None
    _, text, _ = command("status")
    assert "1300001 measure: too_few_stars 3" in text
    assert read_night(jobs[0].site, NIGHT).record.event == "GW170817"


def test_help_comes_at_once():
    words = [sys.executable, "-m", "deployments.cli.main", "--help"]
    text = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "single-epoch" in text
    assert "Exit codes" in text
    once = partial(subprocess.run, words, cwd=ROOT, capture_output=True, check=True)
    assert least_s(once, clock=time.monotonic) < 3, "a second on a quiet machine"


@pytest.mark.parametrize("words", [["--help"], ["status", "--json"], ["difference", "--help"], ["serve", "--help"]])
def test_the_command_line_loads_neither_orchestrator_nor_science_by_itself(words, tmp_path):
    heavy = {"prefect", "distributed", "flows", "numpy", "astropy", "numba", "pyarrow"}
    code = f"import sys; from deployments.cli.main import run; run({words}); sys.exit(bool({heavy} & set(sys.modules)))"
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | {"GW_WORKFLOW_ROOT": str(tmp_path)}
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


def test_a_command_loads_no_other_command():
    code = "import sys; from deployments.cli.main import run; run(['status', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {
        name.removeprefix("deployments.cli.") for name in done.stdout.split() if name.startswith("deployments.cli.")
    }
    # registration: night takes its options too
    assert loaded == {"main", "nights", "options", "output", "registration", "running"}
