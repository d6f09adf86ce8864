"""The form of a run: what cannot be right is refused when the run is created, by the schema that the pages show."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectHTTPStatusError

from blocks.site import Site
from deployments.cli.main import run
from deployments.cli.running import answer_of
from deployments.server.definitions import DEFINITIONS, served_deployment
from deployments.server.server import Server, server_for
from flows.exposure import process_exposure
from imaging.errors import InputError
from tasks.engine.jobs import ExitCode
from tasks.requests import ExposureRequest

ROOT = Path(__file__).parents[3]
EXPOSURE = {"expnum": 1300001, "band": "i", "night": 20260817}
VERSION = ("-r", "4", "-p", "5", "-S", "60")
STAGES = ("single-epoch", "calibration", "verification", "difference", "export", "process-exposure")


@pytest.fixture(scope="module")
def deployments(tmp_path_factory):
    """The deployments on a server: name to identity, and the environment of a process that uses the server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        site = Site.at(tmp_path_factory.mktemp("forms") / "site")
        with server_for(site):
            made = {d.name: served_deployment(d, str(site.root)).apply() for d in DEFINITIONS}
            yield made, os.environ | {"PYTHONPATH": str(ROOT)}


def create(deployments, name, parameters, **options):
    with get_client(sync_client=True) as client:
        identity = deployments[0][name]
        if options:
            client.update_deployment(identity, options)
        return client.create_flow_run_from_deployment(identity, parameters=parameters)


REFUSED = [
    *[(name, {}, "exposure") for name in STAGES],
    *[(name, {"exposure": EXPOSURE, "ccds": []}, "ccds") for name in STAGES],
    *[(name, {"exposure": EXPOSURE, "ccds": [63]}, "ccds") for name in STAGES],
    ("process-exposure", {"exposure": EXPOSURE, "stages": []}, "stages"),
    ("process-exposure", {"exposure": EXPOSURE, "stages": ["all"]}, "stages"),
    *[
        ("process-exposure", {"exposure": EXPOSURE | {field: value}}, field)
        for field, value in [
            ("rnum", -5),
            ("pnum", -1),
            ("season", -1),
            ("expnum", 0),
            ("band", ""),
            ("night", 0),
            ("night", 202608171),
        ]
    ],
    ("process-night", {"night": 17}, "night"),
    ("process-night", {"night": "soon"}, "night"),
    ("process-night", {"night": 20260817, "settings": {"concurrent_exposures": 0}}, "concurrent_exposures"),
    ("process-night", {"night": 20260817, "settings": {"version": {"rnum": -5}}}, "rnum"),
    ("rank-night", {"night": -1}, "night"),
    ("rank-night", {"night": 20260817, "skymap": ""}, "skymap"),
    ("prepare-templates", {"night": 1}, "night"),
    ("prepare-templates", {"pointings": []}, "pointings"),
    ("build-calibrations", {}, "night"),
    ("build-calibrations", {"night": 20260817, "ccds": []}, "ccds"),
    ("build-sky-modes", {}, "exposures"),
    ("build-sky-modes", {"exposures": [], "epoch": "y4"}, "exposures"),
    ("build-star-flat", {"exposures": [EXPOSURE], "epoch": ""}, "epoch"),
    ("build-pixel-displacement", {"exposures": [], "epoch": "y4"}, "exposures"),
    ("build-ghosts", {"exposures": [], "epoch": "y4"}, "exposures"),
    ("reference-catalogue", {"sources": []}, "sources"),
    ("housekeeping", {"intermediate_days": -1}, "intermediate_days"),
    ("housekeeping", {"scratch_days": -0.5}, "scratch_days"),
    ("watch-incoming", {"minutes": -1}, "minutes"),
]


@pytest.mark.server
def test_the_schema_refuses_what_cannot_be_right(deployments):
    taken = []
    for name, parameters, field in REFUSED:
        try:
            create(deployments, name, parameters)
        except PrefectHTTPStatusError as error:
            if error.response.status_code == 409 and field in error.response.text:
                continue
        taken.append((name, parameters))
    assert taken == []


TAKEN = [
    ("process-exposure", {"exposure": EXPOSURE | {"rnum": 4, "pnum": 5, "season": 60}, "ccds": [1, 62]}),
    ("process-night", {"night": 20260817, "settings": {"concurrent_exposures": 3}}),
    ("rank-night", {"event": {"night": 20260817, "skymap": "map.fits"}}),
    ("prepare-templates", {}),
    ("housekeeping", {"intermediate_days": 0, "scratch_days": 14}),
    ("watch-incoming", {"minutes": 9.0}),
]


@pytest.mark.server
def test_the_schema_takes_what_is_right(deployments):
    for name, parameters in TAKEN:
        assert create(deployments, name, parameters).state.type == StateType.SCHEDULED


ENDS = [
    ("process-night", {}, "process-night-without-a-night", "no night given"),
    ("rank-night", {"event": {"skymap": "map.fits"}}, "rank-night-without-a-night", "event has no valid night"),
    ("process-night", {"night": 20260231}, "process-night-20260231", "night is not a date"),
]


@pytest.mark.server
@pytest.mark.parametrize(("name", "parameters", "run_name", "sentence"), ENDS)
def test_what_the_schema_cannot_refuse_fails_with_a_sentence(deployments, name, parameters, run_name, sentence):
    run = create(deployments, name, parameters)
    words = [sys.executable, "-m", "prefect.engine", str(run.id)]  # as a worker and serve start it
    done = subprocess.run(words, env=deployments[1], capture_output=True, text=True, check=False)
    with get_client(sync_client=True) as client:
        ended = client.read_flow_run(run.id)
    assert ended.state_name == "Failed", done.stderr[-2000:]
    assert sentence in ended.state.message
    assert ended.name == run_name


@pytest.mark.server
def test_the_command_line_says_what_is_wrong_with_a_parameter(deployments):
    state = process_exposure(ExposureRequest(**EXPOSURE), stages=(), return_state=True)
    assert state.name == "Failed"
    with pytest.raises(InputError, match=r"invalid parameter.*stages.*at least 1 item.*--help"):
        answer_of("single-epoch", state, Server("http://127.0.0.1/api", embedded=True))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["night", "20260231"], "night is not a date (20260231; allowed: YYYYMMDD)"),
        (["build-calibrations", "17"], "night is not a date (17;"),
        (["night", "20260817", "--workers", "0"], 'Invalid value "0" for --workers. Must be >= 1.'),
        (["serve", "--limit", "0"], 'Invalid value "0" for --limit. Must be >= 1.'),
        (["deploy", "--limit", "-2"], 'Invalid value "-2" for --limit. Must be >= 1.'),
        (["single-epoch", "-E", "0", "-b", "i", "-n", "20260817", *VERSION], 'Invalid value "0" for -E'),
        (["single-epoch", "-E", "1", "-b", "i", "-n", "20260817", *VERSION, "-c", ""], "CCD list not understood ('';"),
        (
            ["single-epoch", "-E", "1", "-b", "i", "-n", "20260817", "-r=-5", *VERSION[2:]],
            "invalid version number ('-5'",
        ),
    ],
)
def test_a_command_refuses_odd_values_in_a_sentence(words, sentence, tmp_path, capsys):
    assert run([*words, "--site", str(tmp_path)]) == ExitCode.BAD_INPUT
    assert sentence in capsys.readouterr().err
