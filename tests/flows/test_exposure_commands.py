"""The stages of one exposure: run one by one, re-run, overwritten."""

import pytest
from night_site import SEARCH, borrow, contents, gw_workflow, single_epoch

from blocks.lone_runs import ended_lone_runs
from blocks.site import Site
from tasks.engine.jobs import ExitCode

pytestmark = pytest.mark.slow

CALIBRATE = ["calibrate", "--expnum", SEARCH[0], "--reqnum", 1, "--attnum", 1]


def steps(ran):
    """Return the numbers of computed and cached steps of each stage."""
    assert ran.code is ExitCode.COMPLETE, ran.document
    stages = ran.document["summary"]["stages"]
    return {name: (stage["n_computed"], stage["n_cached"]) for name, stage in stages.items()}


def names(site: Site, suffix: str) -> set[str]:
    return {path.name for path in site.store.rglob(f"*{suffix}")}


@pytest.fixture
def calibrated(command, borrowed):
    """A site with one CCD of one exposure, processed in this process."""
    assert command(borrowed, *single_epoch("-C")).code is ExitCode.COMPLETE
    return borrowed


def test_stages_can_be_run_one_by_one(command, borrowed):
    only_epoch = command(borrowed, *single_epoch("-t"))
    assert steps(only_epoch) == {"single_epoch": (4, 0)}
    assert names(borrowed, "_cat.parquet") == {f"D0{SEARCH[0]}_i_27_r1p1_cat.parquet"}
    assert not names(borrowed, "_immask.fits")

    only_calibration = command(borrowed, *single_epoch("-j"))
    assert steps(only_calibration) == {"calibration": (2, 0), "verification": (2, 0)}
    assert names(borrowed, "_immask.fits") == {f"D0{SEARCH[0]}_i_27_r1p1_immask.fits"}

    everything = command(borrowed, *single_epoch("-C"))
    assert steps(everything) == {"single_epoch": (0, 4), "calibration": (0, 2), "verification": (0, 2)}

    alone = command(borrowed, *CALIBRATE, "--workers", 1)
    assert alone.code is ExitCode.COMPLETE
    assert (alone.document["summary"]["n_computed"], alone.document["summary"]["n_cached"]) == (0, 2)


def test_overwriting_recomputes_all_and_gives_the_same_bytes(command, calibrated):
    before = contents(calibrated)
    again = command(calibrated, *single_epoch("-C", "-O"))
    assert again.code is ExitCode.COMPLETE
    assert all(cached == 0 for _, cached in steps(again).values())
    assert contents(calibrated) == before


def test_a_command_with_nothing_to_do_starts_no_server(command, calibrated):
    known = command(calibrated, *single_epoch("-C"))
    assert known.document["server"]
    before = contents(calibrated)
    alone = gw_workflow(*single_epoch("-C"), "--site", calibrated.root)
    assert alone.code is ExitCode.COMPLETE
    assert (alone.document["server"], alone.document["flow_run_id"]) == (None, None)
    assert not (calibrated.state / "server" / "address.json").exists()
    assert {name: alone.document[name] for name in ("message", "state", "summary")} == {
        name: known.document[name] for name in ("message", "state", "summary")
    }
    assert contents(calibrated) == before


def test_a_command_for_one_ccd_starts_no_server_and_gives_the_same_bytes(calibrated, borrowed, tmp_path):
    other = borrow(borrowed, tmp_path / "other")
    words = [word for word in single_epoch("-C") if word != "-s"]
    alone = gw_workflow(*words, "--site", other.root)
    assert alone.code is ExitCode.COMPLETE, alone.document
    assert steps(alone) == {"single_epoch": (4, 0), "calibration": (2, 0), "verification": (2, 0)}
    assert alone.document["server"] is None
    assert not (other.state / "server" / "address.json").exists()
    assert contents(other) == contents(calibrated)
    (run,) = ended_lone_runs(other)
    assert (str(run.run), run.state_type) == (alone.document["flow_run_id"], "COMPLETED")
    assert {page.key for page in run.pages} == {f"{n}-{SEARCH[0]}" for n in ("zero-points", "quality", "focal-plane")}


@pytest.mark.dask
def test_worker_processes_give_the_same_bytes_as_this_process(command, calibrated):
    before = contents(calibrated)
    words = [word for word in single_epoch("-C", "-O", "--workers", 2) if word != "-s"]
    assert command(calibrated, *words).code is ExitCode.COMPLETE
    assert contents(calibrated) == before


def test_another_version_is_filed_beside_the_first(command, calibrated):
    words = single_epoch("-t")
    words[words.index("-p") + 1] = 2
    assert steps(command(calibrated, *words)) == {"single_epoch": (4, 0)}
    assert names(calibrated, "_cat.parquet") == {f"D0{SEARCH[0]}_i_27_r1p{p}_cat.parquet" for p in (1, 2)}


def test_scratch_products_do_not_mix_with_the_kept_ones(command, calibrated):
    kept = contents(calibrated)
    ran = command(calibrated, *single_epoch("-t", "-d", "scratch"))
    assert ran.code is ExitCode.COMPLETE
    assert steps(ran) == {"single_epoch": (4, 0)}
    assert contents(calibrated) == kept


def test_status_names_what_failed(command, borrowed):
    (borrowed.calibrations / "bias" / "bias_c34.fits").unlink()
    command(borrowed, *single_epoch("-t", ccds="27,34"))
    status = command(borrowed, "status").document
    (subject,) = [subject for subject in status["subjects"] if subject["subject"] == str(SEARCH[0])]
    assert subject["done"]["measure"] == 1
    assert subject["failed"] == {"detrend": 1}
    assert subject["reasons"] == {"detrend": "bad_input 34"}
