import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.detector.ccds import CCDS, SCIENCE_CCDS, format_ccd_list, parse_ccd_list, science_ccd
from imaging.detector.sections import parse_section, raw_sections
from imaging.detector.status import bad_amplifiers, dead_ccds, working_ccds
from imaging.errors import InputError


def test_camera_has_its_ccds_in_raw_order():
    assert len(CCDS) == 70
    assert tuple(range(1, 63)) == SCIENCE_CCDS
    assert list(CCDS)[:6] == [25, 26, 27, 32, 33, 34]
    assert [CCDS[n].detpos for n in (1, 28, 31, 32, 61, 62)] == ["S29", "S4", "S7", "N1", "N30", "N31"]


def test_amplifier_a_is_left_in_the_north_and_right_in_the_south():
    for ccd in (science_ccd(n) for n in SCIENCE_CCDS):
        assert ccd.amplifier("A").is_left == ccd.detpos.startswith("N")
        assert ccd.amplifier("A").is_left != ccd.amplifier("B").is_left


def test_every_section_keyword_is_that_of_a_real_raw_exposure(real_data):
    compared = 0
    with (real_data / "raw_decam_cutout" / "derived_raw_layout.csv").open() as stream:
        for row in csv.DictReader(stream):
            sections = raw_sections(CCDS[int(row["CCDNUM"])])
            for key in sections.keys() & row.keys():
                assert str(sections[key]) == row[key], (row["DETPOS"], key)
                compared += 1
    assert compared == 70 * 20


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 4000))
def test_sections_survive_writing_and_reading(xa, xb, ya, yb):
    text = f"[{xa}:{xb},{ya}:{yb}]"
    assert str(parse_section(text)) == text


@given(st.sets(st.sampled_from(SCIENCE_CCDS), min_size=1))
def test_ccd_lists_survive_writing_and_reading(numbers):
    assert parse_ccd_list(format_ccd_list(list(numbers))) == tuple(sorted(numbers))


def test_ccd_list_of_the_command_line():
    assert parse_ccd_list("1,3-5,25") == (1, 3, 4, 5, 25)


@pytest.mark.parametrize("text", ["0", "63", "1,99", "5-3", "a", "", "1-"])
def test_bad_ccd_lists_are_refused_with_the_limit(text):
    with pytest.raises(InputError, match=r"CCD"):
        parse_ccd_list(text)


def test_dead_ccds_follow_the_date():
    assert dead_ccds(20121001) == frozenset()
    assert dead_ccds(20130901) == {61}
    assert dead_ccds(20150101) == {2, 61}
    assert dead_ccds(20260817) == {61}
    assert len(working_ccds(20260817)) == 61
    assert bad_amplifiers(20260817, 31) == ("A",)
    assert bad_amplifiers(20260817, 30) == ()
