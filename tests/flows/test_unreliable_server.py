"""A server that loses requests and responses costs time, but no results."""

import itertools
from urllib.parse import urlsplit

import pytest
from night_site import SEARCH, borrow_processed, gw_workflow, single_epoch
from prefect.settings import PREFECT_API_URL

from bench.unreliable import WAYS, Faults, unreliable
from tasks.engine.jobs import ExitCode

pytestmark = pytest.mark.slow


@pytest.fixture
def through(prefect_server):
    """Run a command in a separate process, with its server behind a proxy with faults."""

    def run(faults, site, *words):
        with unreliable(urlsplit(PREFECT_API_URL.value()).port, faults) as port:
            return gw_workflow(*words, "--site", site.root, api_url=f"http://127.0.0.1:{port}/api")

    return run


@pytest.fixture
def processed(simulated, tmp_path):
    return borrow_processed(simulated, tmp_path / "site")


def stages(ran):
    found = ran.document["summary"]["stages"]
    return {name: (stage["done"], stage["n_computed"], stage["n_cached"]) for name, stage in found.items()}


ALL_KNOWN = {
    "single_epoch": ([27, 34], 0, 6),
    "calibration": ([27, 34], 0, 3),
    "verification": ([27, 34], 0, 3),
}
BOTH = "27,34"


def lose_every_other(kind, n):
    """Lose the response about each state once; the server has the state when the request is repeated."""
    return "answer lost" if kind.endswith("/set_state") and n % 2 else None


def test_the_summary_of_an_exposure_survives_the_loss_of_every_response_about_a_state(through, processed):
    """The server's copy of a state has no summary: it must come from the process of the run."""
    faults = Faults(lose_every_other)
    ran = through(faults, processed, *single_epoch("-C", ccds=BOTH))
    assert faults.met["POST /api/flow_runs/*/set_state", "answer lost"] >= 8, "four runs, each begun and ended"
    assert ran.code is ExitCode.COMPLETE, ran.message
    assert stages(ran) == ALL_KNOWN
    assert ran.message == f"exposure {SEARCH[0]}: 2 of 2 done"


def test_every_kind_of_request_may_fail_once(through, processed):
    ways = itertools.cycle(WAYS)
    faults = Faults(lambda kind, n: next(ways) if n == 1 else None)
    ran = through(faults, processed, *single_epoch("-C", ccds=BOTH))
    assert ran.code is ExitCode.COMPLETE, ran.message
    assert stages(ran) == ALL_KNOWN
    kinds = {kind for kind, _ in faults.met}
    assert {"GET /api/health", "POST /api/flow_runs/", "POST /api/artifacts/"} <= kinds


def test_a_failed_ccd_has_its_reason_although_the_response_about_its_stage_was_lost(through, processed):
    (processed.calibrations / "bias" / "bias_c27.fits").unlink()
    ran = through(Faults(lose_every_other), processed, *single_epoch("-t", ccds=BOTH))
    assert ran.code is ExitCode.MISSING
    assert ran.failures["27"]["reason"] == "bad_input"
    assert "calibration file missing" in ran.failures["27"]["message"]
