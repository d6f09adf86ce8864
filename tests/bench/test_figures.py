"""Output of the benches: limits that are met or missed, and the page of figures."""

import json

import numpy as np
import pytest

from bench.demo import found_share, grade
from bench.figures import page
from bench.report import at_least, at_most, print_report


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (at_most("a", 1.0, "s", 1.0), True),
        (at_most("a", 1.1, "s", 1.0), False),
        (at_least("a", 1.0, "%", 1.0), True),
        (at_least("a", 0.9, "%", 1.0), False),
        (at_most("a", None, "s", 1.0), None),
        (at_most("a", np.nan, "s", 1.0), False),
    ],
)
def test_a_limit_is_met_or_not_and_nan_never_meets_it(row, met):
    assert row.ok is met


def test_page_of_figures_shows_misses(capsys):
    rows = [at_most("width of the noise", 0.031, "", 0.02, n=8, seeds=(1, 2)), at_least("found", 99.3, "%", 95)]
    print_report(rows, as_json=True, title="Difference")
    text = page([("difference", json.loads(capsys.readouterr().out))])
    assert "## Difference" in text
    assert "`python -m bench.difference`" in text
    assert "| width of the noise | 0.031 |  | 0.02 | **NO** | 8 | 1,2 |" in text
    assert "| found | 99.3 | % | 95 | yes |" in text


def test_share_of_injected_transients_is_weighted_by_their_number():
    completeness = [
        {"snr_min": 8.0, "n": 1000, "passed": 0.0},
        {"snr_min": 10.0, "n": 300, "passed": 1.0},
        {"snr_min": 15.0, "n": 0, "passed": None},
        {"snr_min": 20.0, "n": 100, "passed": 0.8},
    ]
    assert found_share(completeness, 10.0) == (pytest.approx(0.95), 400)


def test_the_worst_ccd_of_all_seeds_counts_and_a_lost_kilonova_fails():
    def document(rms, width, rank):
        ccd = {"astrometry_rms_mas": rms, "zeropoint_error_mmag": -3.0, "difference_noise_width": width}
        return {
            "ccds": [ccd, ccd | {"difference_noise_width": None}],
            "completeness": [{"snr_min": 10.0, "n": 10, "passed": 1.0}],
            "kilonova_rank": rank,
        }

    rows = {row.name: row for row in grade([document(9.0, 1.01, 1), document(21.0, 0.93, None)], (1, 2))}
    assert rows["astrometry against the truth, worst CCD"].value == 21.0
    assert rows["astrometry against the truth, worst CCD"].ok is False
    assert rows["zero point against the truth, worst CCD"].value == 3.0
    assert rows["noise width minus one, worst CCD"].value == pytest.approx(0.07)
    assert rows["rank of the kilonova, worst seed"].ok is False
    assert rows["fakes above S/N 10 on good pixels found"].ok is True
