import math

import numpy as np
import pytest

from imaging.bands import BANDS
from imaging.errors import InputError
from imaging.quality.grades import (
    ANY_BAND,
    Grade,
    grade_limits,
    grade_quality,
    grade_value,
    limits_of,
    parse_limits,
    worst,
)
from imaging.schemas.quality import QUALITY
from imaging.tables import make_table

OTHER_KEYS = {"t_eff", "zeropoint_loss_mag"}


def row(**changes):
    names = [f"{grade}_{side}" for grade in ("green", "yellow", "orange") for side in ("low", "high")]
    return dict.fromkeys(names, "") | {"key": "k", "band": "*", "unit": "", "meaning": "", "green_high": "1"} | changes


@pytest.mark.parametrize(
    ("key", "band", "value", "grade"),
    [
        ("fwhm_arcsec", "i", 0.9, "green"),
        ("fwhm_arcsec", "i", 1.5, "orange"),
        ("fwhm_arcsec", "u", 1.5, "yellow"),
        ("fwhm_arcsec", "i", 1.7, "red"),
        ("difference_noise_width", "g", 1.0, "green"),
        ("difference_noise_width", "g", 0.96, "yellow"),
        ("difference_noise_width", "g", 1.2, "red"),
        ("n_astrometry", "z", 12, "orange"),
        ("n_astrometry", "z", 3, "red"),
        ("astrometry_rms_mas", "Y", 28.0, "green"),
        ("astrometry_rms_mas", "r", 28.0, "yellow"),
        ("t_eff", "g", 0.25, "orange"),
        ("t_eff", "i", 0.25, "red"),
        ("fwhm_arcsec", "i", math.nan, "unknown"),
        ("fwhm_arcsec", "i", None, "unknown"),
        ("no_such_number", "i", 1.0, "unknown"),
    ],
)
def test_numbers_get_the_grade_of_the_table(key, band, value, grade):
    assert grade_value(key, band, value) == grade


def test_every_line_of_the_table_speaks_of_a_known_number_and_band():
    for (key, band), limits in grade_limits().items():
        assert key in set(QUALITY.names) | OTHER_KEYS
        assert band in {*BANDS, ANY_BAND}
        assert limits.meaning
        if key in QUALITY.names:
            assert limits.unit == QUALITY.field(key).metadata[b"unit"].decode()
    for band in BANDS:
        assert limits_of("fwhm_arcsec", band) is not None


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([row(), row()], "twice"),
        ([row(green_high="1", yellow_high="0.5")], "contain"),
        ([row(green_low="2", green_high="1")], "contain"),
        ([row(green_high="")], "contain"),
        ([row(green_high="1,5")], "not a number"),
        ([row(band="w")], "unknown band"),
    ],
)
def test_a_wrong_table_is_refused(rows, problem):
    with pytest.raises(InputError, match=problem):
        parse_limits(rows)


def test_limits_are_inclusive_and_open_ends_are_open():
    limits = parse_limits([row(yellow_high="2", orange_high="3")])["k", "*"]
    assert [limits.grade(v) for v in (-1e9, 1.0, 2.0, 3.0, 3.1)] == ["green", "green", "yellow", "orange", "red"]


def test_a_table_of_quality_is_graded():
    columns = {name: [None, None] for name in QUALITY.names}
    columns |= {
        "expnum": [1, 1],
        "band": ["g", "u"],
        "night": [20250101] * 2,
        "ccd": [3, 4],
        "status": ["good", "good"],
    }
    columns |= {"reason": ["", ""], "fwhm_arcsec": [1.4, 1.4], "masked_fraction": [0.02, np.nan]}
    grades = grade_quality(make_table(columns, QUALITY))
    found = {(r["ccd"], r["key"]): (r["grade"], r["unit"]) for r in grades.to_pylist()}
    assert found[3, "fwhm_arcsec"] == ("yellow", "arcsec")
    assert found[4, "fwhm_arcsec"] == ("yellow", "arcsec")
    assert found[3, "masked_fraction"] == ("green", "")
    assert found[4, "masked_fraction"] == ("unknown", "")
    assert found[3, "snr50"] == ("unknown", "")
    assert grade_quality(make_table(columns, QUALITY), ["fwhm_arcsec"]).num_rows == 2
    assert grade_quality(QUALITY.empty_table()).num_rows == 0


def test_the_worst_grade():
    assert worst(["green", "orange", "yellow"]) == Grade.ORANGE
    assert worst(["unknown", "green"]) == Grade.GREEN
    assert worst([]) == Grade.UNKNOWN
