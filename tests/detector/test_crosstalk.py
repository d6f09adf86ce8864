import pytest

from imaging.detector.crosstalk import format_crosstalk, observatory_crosstalk, parse_crosstalk
from imaging.errors import InputError


def test_published_matrix():
    matrix = observatory_crosstalk()
    within = [t for t in matrix.terms if t.victim[0] == t.source[0]]
    assert (len(within), len(matrix.terms) - len(within)) == (123, 126)
    assert matrix.sources_of(26) == (25, 27)


def test_text_format_survives_writing_and_reading():
    matrix = observatory_crosstalk()
    again = parse_crosstalk(format_crosstalk(matrix.terms))
    for one, other in zip(matrix.terms, again.terms, strict=True):
        assert (one.victim, one.source) == (other.victim, other.source)
        assert other.coefficient == pytest.approx(one.coefficient, rel=1e-6)
        assert other.polynomial == pytest.approx(one.polynomial, rel=1e-6)


def test_observatory_file_gives_the_same_matrix(real_data):
    text = (real_data / "instrument" / "DECam_xtalk_20130606.txt").read_text()
    published = parse_crosstalk(text)
    assert len(published.terms) == len(observatory_crosstalk().terms)
    assert published.terms[0] == observatory_crosstalk().terms[0]


def test_negligible_terms_are_dropped_and_bad_lines_named():
    assert not parse_crosstalk("ccd01A ccd02A 9e-7 0 1e10 0 0 0").terms
    with pytest.raises(InputError, match="line 2"):
        parse_crosstalk("# comment\nccd01C ccd02A 1e-4 0 1e10")
