"""A width of the stars that changes with the charge at their peak is a note of the CCD."""

import pytest

from tasks.measure import trend_notes


@pytest.mark.parametrize(
    ("percent", "note"),
    [
        (0.62, None),
        (-1.0, None),
        (float("nan"), None),
        (1.44, "the width of the stars changes by 1.44 +- 0.03 % per 100,000 electrons at their peak"),
        (-2.0, "the width of the stars changes by -2.00 +- 0.03 % per 100,000 electrons at their peak"),
    ],
)
def test_trend_beyond_the_limit_of_the_green_grade(percent, note):
    notes = trend_notes({"psf_peak_trend_percent": percent, "psf_peak_trend_error_percent": 0.03}, "i")
    assert [each.partition(":")[0] for each in notes] == ([note] if note else [])
