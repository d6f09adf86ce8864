"""The account of a night that stands on the page of its run."""

from imaging.pictures.markdown import graded_rows
from imaging.pictures.night_summary import exposure_table, failure_lines, night_summary_page, step_seconds, time_table

STARS = {
    "step": "measure",
    "reason": "too_few_stars",
    "message": "exposure 2, CCD 7: too few stars (3).",
    "kind": "ccd",
}
LIGHT = {"fwhm_arcsec": 1.04, "depth_mag": 23.38, "t_eff": 0.764, "sky_electrons": 3222.8, "airmass": 1.12}
DATA = {
    "exposures": {
        "2": {
            "state": "CompletedWithFailures",
            "message": "",
            "done": [1, 3],
            "failures": {"7": STARS},
            "stages": {
                "single_epoch": {"cpu_s": {"detrend": 2.0, "measure": 8.0}},
                "verification": {"cpu_s": {"verify": 0.5}, "exposure": LIGHT},
            },
        },
        "1": {"state": "Failed", "message": "raw file missing (/raw/1)", "stages": {}},
    },
    "differences": {
        "2": {
            "state": "Completed",
            "message": "",
            "done": [1, 3],
            "failures": {},
            "cpu_s": {"difference": 9.0},
            "exposure": {"m50_mag": 23.2, "n_detections": 51},
        }
    },
    "failures": {"1 stages": {"reason": "exposure_failed", "message": "m", "kind": "defect"}},
    "candidates": {"n_candidates": 4},
}


def test_the_light_of_every_exposure_is_told():
    lines = exposure_table(DATA)
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 1", "| 2"]
    assert lines[3] == "| 2 | 2 | 1 | 2 | 51 | 23.20 | 23.38 | 1.04 | – | 0.76 | 3223 | 1.12 |"


def test_the_time_of_every_step_and_of_the_orchestration_adds_up():
    assert step_seconds(DATA) == {"detrend": 2.0, "measure": 8.0, "verify": 0.5, "difference": 9.0}
    lines = time_table(DATA | {"cpu_s": {"rank": 0.5}}, flow_cpu_s=1.0, in_flow=("associate", "rank"))
    shares = [float(line.split(" | ")[2].rstrip("% |")) for line in lines[2:]]
    assert abs(sum(shares) - 100.0) < 0.3
    assert lines[-1] == "| orchestration | 0.5 | 2.4% |", "steps computed in the flow process are not orchestration"


def test_a_run_that_has_computed_nothing_says_so():
    nothing = {"exposures": {}, "differences": {}, "failures": {}, "candidates": {}}
    assert time_table(nothing, 3.0, ()) == ["Every result was cached; nothing was computed."]


def test_every_failure_is_named_once():
    assert list(failure_lines(DATA)) == [
        "- exposure 2, CCD 7: too few stars (3).",
        "- exposure 1: raw file missing (/raw/1)",
    ]
    page = night_summary_page(DATA, "night 20170818: 2 exposures", 1.0, ("associate", "rank"))
    assert page.startswith("night 20170818: 2 exposures.\n")
    assert "## What failed, and what to do" in page


def test_numbers_that_are_not_good_are_marked_in_words():
    rows = [{"ccd": 7, "status": "usable", "reason": None}]
    grades = [
        {"ccd": 7, "key": "fwhm_arcsec", "value": 2.345678, "unit": "arcsec", "grade": "orange"},
        {"ccd": 7, "key": "ellipticity", "value": 0.01, "unit": "", "grade": "green"},
        {"ccd": 7, "key": "sky", "value": None, "unit": "", "grade": "unknown"},
    ]
    assert graded_rows(rows, grades) == [
        {"CCD": 7, "status": "usable", "reason": "", "fwhm arcsec": "2.346 (POOR)", "ellipticity": "0.01"}
    ]
