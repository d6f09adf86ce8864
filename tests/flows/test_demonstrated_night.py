"""A simulated night from registration and event to the ranked list, and its cached re-run."""

import time

import pytest
from night_site import CCDS, NIGHT, SEARCH, TEMPLATES, Demonstration, borrow_processed, contents, gw_workflow, raw_file

from imaging.io.tables import read_table

pytestmark = [pytest.mark.slow, pytest.mark.dask, pytest.mark.server]

EXPOSURES = (*TEMPLATES, *SEARCH)

CACHED_RUN_S = 90.0
"""A second run has to start a server (8 s on an idle machine) and to look at five exposures (4 to 6 s each, nearly all
of it for Prefect's flow runs); a machine that does other work too needs twice as long."""


def computed(document):
    """Return the number of computed (not cached) steps of a night's run by exposure and stage."""
    summary = document["summary"]
    counts = {
        (number, name): stage["n_computed"]
        for number, result in summary["exposures"].items()
        for name, stage in result["stages"].items()
    }
    return counts | {(number, "difference"): result["n_computed"] for number, result in summary["differences"].items()}


@pytest.fixture(scope="module")
def result(demonstration: Demonstration):
    return demonstration.ran.document


def test_an_event_starts_a_run_that_ends_well(demonstration, result):
    assert demonstration.ran.code == 0, demonstration.ran.error[-2000:]
    assert result["state"] == "Completed"
    assert f"night {NIGHT}: 5 exposures, 2 searched" in result["message"]


def test_kilonova_is_among_the_first_three(result):
    assert result["kilonova_rank"] in (1, 2, 3)


def test_astrometry_and_zero_points_hold_against_the_truth(result):
    assert {(row["expnum"], row["ccd"]) for row in result["ccds"]} == {(e, c) for e in EXPOSURES for c in CCDS}
    assert max(row["astrometry_rms_mas"] for row in result["ccds"]) < 20.0
    assert max(abs(row["zeropoint_error_mmag"]) for row in result["ccds"]) < 10.0


def test_difference_noise_agrees_with_its_stated_error(result):
    widths = [row["difference_noise_width"] for row in result["ccds"] if row["expnum"] in SEARCH]
    assert len(widths) == len(SEARCH) * len(CCDS)
    assert all(abs(width - 1.0) < 0.05 for width in widths)


def test_injected_transients_are_found(result):
    bright = [row for row in result["completeness"] if row["snr_min"] >= 10.0]
    n = sum(row["n"] for row in bright)
    assert n > 300
    assert sum(row["passed"] * row["n"] for row in bright) / n > 0.95


def test_every_stage_reports_its_cost(result):
    stages = {row["step"]: row for row in result["stages"]}
    assert stages["measure"]["n"] == len(EXPOSURES) * len(CCDS)
    assert stages["difference"]["n"] == len(SEARCH) * len(CCDS)
    assert all(row["cpu_s"] > 0 and row["peak_memory_mb"] > 100 for row in stages.values())


def test_no_product_contains_a_fake(demonstration):
    for expnum in SEARCH:
        (fakes,) = demonstration.site.store.glob(f"*/exp/*/{expnum}/**/*_27_*fakes.parquet")
        (detections,) = demonstration.site.store.glob(f"*/exp/*/{expnum}/**/*_27_*detections.parquet")
        found = sum(read_table(fakes, ["detected"])["detected"].to_pylist())
        assert found > 50
        assert read_table(detections).num_rows < found


def test_second_run_recomputes_nothing(demonstration):
    before = contents(demonstration.site)
    began = time.monotonic()
    ran = gw_workflow("night", NIGHT, "--site", demonstration.site.root)
    assert time.monotonic() - began < CACHED_RUN_S
    assert ran.code == 0
    assert set(computed(ran.document).values()) == {0}
    assert contents(demonstration.site) == before
    assert (ran.document["server"], ran.document["flow_run_id"]) == (None, None), "it starts no server"


def test_missing_and_damaged_products_are_made_again_byte_for_byte(demonstration):
    site = demonstration.site
    before = contents(site)
    (catalogue,) = site.store.glob(f"*/exp/*/{SEARCH[0]}/**/*_27_*fullcat.parquet")
    catalogue.write_bytes(catalogue.read_bytes()[:5000])
    (image,) = site.store.glob(f"*/exp/*/{SEARCH[1]}/**/*_34_*_diff.fits")
    image.unlink()

    ran = gw_workflow("night", NIGHT, "--site", site.root)

    assert ran.code == 0
    done = {key: n for key, n in computed(ran.document).items() if n}
    assert done == {(str(SEARCH[0]), "calibration"): 1, (str(SEARCH[1]), "difference"): 1}
    assert contents(site) == before


def test_commands_candidates_and_status(demonstration):
    listed = gw_workflow("candidates", NIGHT, "--site", demonstration.site.root)
    assert listed.code == 0
    assert [row["rank"] for row in listed.document["candidates"][:3]] == [1, 2, 3]
    assert listed.document["n_candidates"] == demonstration.ran.document["n_candidates"]
    status = gw_workflow("status", NIGHT, "--site", demonstration.site.root)
    assert status.code == 0
    assert {subject["subject"] for subject in status.document["subjects"]} >= {str(e) for e in EXPOSURES}


def test_pages_are_self_contained(demonstration):
    (folder,) = demonstration.site.store.glob(f"nights/{NIGHT}")
    page = (folder / "candidates.html").read_text(encoding="utf-8")
    assert "GWJ" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_late_exposure_fails_alone_and_is_added_when_it_arrives(demonstration, tmp_path):
    site = borrow_processed(demonstration.site, tmp_path / "site")
    before = contents(site)
    raw_file(site, SEARCH[1]).unlink()

    without = gw_workflow("night", NIGHT, "--site", site.root)
    assert without.code == 2
    assert without.document["state"] == "CompletedWithFailures"
    assert f"failed: {SEARCH[1]} stages" in without.message
    result = without.document["summary"]["failures"][f"{SEARCH[1]} stages"]["message"]
    assert "raw file missing" in result
    assert str(raw_file(site, SEARCH[1])) in result
    assert without.document["summary"]["candidates"]["n_candidates"] > 0

    raw_file(site, SEARCH[1]).symlink_to(raw_file(demonstration.site, SEARCH[1]))
    complete = gw_workflow("night", NIGHT, "--site", site.root)
    assert complete.code == 0
    assert not {key: n for key, n in computed(complete.document).items() if n}
    assert contents(site) == before
