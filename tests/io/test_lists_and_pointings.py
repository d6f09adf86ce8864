"""Lists of exposures and of pointings: round trips, sexagesimal coordinates, units, names of columns, order."""

import csv
import json
import math
from datetime import date

import numpy as np
import pytest
from astropy.coordinates import Angle, Latitude, Longitude
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.bands import BANDS
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.io.exposure_list import COLUMNS, ListedExposure, read_exposure_list, write_exposure_list
from imaging.io.pointings import Pointing, read_pointings
from imaging.wcs.sphere import separation_deg

FAST = settings(max_examples=60, deadline=None, derandomize=True, database=None)
WORDS = st.text("abcXYZ059 -_+./:()=é,'\"#", max_size=20).map(str.strip)
RA, DEC = st.floats(0.0, 360.0, exclude_max=True), st.floats(-90.0, 90.0)

EXPOSURES = st.builds(
    Exposure,
    expnum=st.integers(1, 10**12),
    band=st.sampled_from(sorted(BANDS)),
    night=st.dates(date(2012, 1, 1), date(2099, 12, 31)).map(lambda day: int(f"{day:%Y%m%d}")),
    mjd=st.floats(56001.0, 99999.0),
    exptime_s=st.integers(1, 9999).map(lambda n: n / 10),
    ra_deg=RA,
    dec_deg=DEC,
    airmass=st.just(math.nan),
    obstype=st.sampled_from(["object", "dome flat", "zero"]),
    object_name=WORDS,
    propid=WORDS,
)
T_EFF = st.just(math.nan) | st.floats(0.0, 3.0)
LISTS = st.lists(
    st.builds(ListedExposure, EXPOSURES, T_EFF), min_size=1, max_size=5, unique_by=lambda i: i.exposure.expnum
)


@FAST
@given(LISTS)
def test_a_list_comes_back_to_a_milliarcsecond_and_a_millisecond(tmp_path_factory, listed):
    path = tmp_path_factory.getbasetemp() / "list.csv"
    write_exposure_list(path, listed)
    with path.open(newline="", encoding="utf-8") as stream:
        assert tuple(next(csv.reader(stream))) == COLUMNS
    found = read_exposure_list(path)
    assert len(found) == len(listed)
    for item, again in zip(listed, found, strict=True):
        old, new = item.exposure, again.exposure
        for name in ("expnum", "band", "night", "exptime_s", "obstype", "object_name", "propid"):
            assert getattr(new, name) == getattr(old, name)
        assert abs(new.mjd - old.mjd) * 86400e3 < 0.5  # eight decimals of a day are 0.86 ms
        assert 0.0 <= new.ra_deg < 360.0 and math.isnan(new.airmass)
        assert separation_deg(old.ra_deg, old.dec_deg, new.ra_deg, new.dec_deg) * 3600e3 < 2.6  # half of 1e-6 deg each
        assert again.t_eff == pytest.approx(item.t_eff, abs=5.1e-4, nan_ok=True)


def test_a_comma_in_a_name_and_a_column_too_many_do_not_shift_the_others(tmp_path):
    exposure = Exposure(7, "z", 20240510, 60440.25, 30.0, 12.5, -3.25, 1.1, object_name="field, 3", propid="2024A-1")
    write_exposure_list(tmp_path / "a.csv", [ListedExposure(exposure, 0.25)])
    assert read_exposure_list(tmp_path / "a.csv")[0].exposure.object_name == "field, 3"
    text = "# made by hand\nSEEING,BAND,DEC,RA,EXPTIME,MJD,NITE,EXPNUM\n\n1.1, Y ,-3.25,-347.5,30,60440.25,20240510,7\n"
    (tmp_path / "b.csv").write_text(text)
    (found,) = read_exposure_list(tmp_path / "b.csv")
    assert (found.exposure.band, found.exposure.ra_deg, found.exposure.dec_deg) == ("Y", 12.5, -3.25)
    assert (found.exposure.obstype, found.exposure.propid) == ("object", "") and math.isnan(found.t_eff)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("7,20240510,60440.25", "line 6: the line ends before RA"),
        ("7,20240510,60440.25,9,-9,z", "line 6: the line ends before EXPTIME"),
        ("7,20240510,noon,9,-9,z,30", "line 6: .*noon"),
        ("5,20240510,60440.25,9,-9,z,30", "twice .5 in .*line 6"),
    ],
)
def test_a_line_that_is_not_understood_is_named_by_its_number_in_the_file(tmp_path, line, words):
    before = "# by hand\n\nEXPNUM,NITE,MJD,RA,DEC,BAND,EXPTIME\n5,20240510,60440.25,9,-9,z,30\n# next\n"
    (tmp_path / "list.csv").write_text(f"{before}{line}\n")
    with pytest.raises(InputError, match=rf"list\.csv, {words}" if "twice" not in words else words):
        read_exposure_list(tmp_path / "list.csv")


def test_plain_values_are_written_without_quotes(tmp_path):
    exposure = Exposure(7, "z", 20240510, 60440.25, 30.0, 12.5, -3.25, 1.1, object_name="a b", propid="2024A-1")
    write_exposure_list(tmp_path / "a.csv", [ListedExposure(exposure, 0.25)])
    line = "7,20240510,60440.25000000,12.500000,-3.250000,z,30,2024A-1,object,0.250,a b"
    assert (tmp_path / "a.csv").read_text().splitlines() == [",".join(COLUMNS), line]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00binary", b""])
def test_a_list_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "nights.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"nights\.csv"):
        read_exposure_list(path)


@FAST
@given(
    st.lists(st.tuples(st.floats(0.0, 359.9999), DEC, st.sampled_from(sorted(BANDS))), min_size=1, max_size=4),
    st.data(),
)
def test_sexagesimal_coordinates_are_those_of_astropy(tmp_path_factory, places, data):
    path = tmp_path_factory.getbasetemp() / "pointings.csv"
    hours = [Longitude(ra, "deg").to_string("hourangle", sep=":", precision=6, pad=True) for ra, _, _ in places]
    degrees = [
        Latitude(dec, "deg").to_string("deg", sep=":", precision=5, pad=True, alwayssign=True) for _, dec, _ in places
    ]
    order = data.draw(st.permutations([0, 1, 2]))
    names = [("RA", "Dec", "FILTER"), (" ra_deg", "DEC_DEG", "band")][data.draw(st.integers(0, 1))]
    rows = zip(hours, degrees, (band for _, _, band in places), strict=True)
    lines = [",".join(str(row[k]) for k in order) for row in [names, *rows]]
    path.write_text("# planned\n" + "\n".join(lines) + "\n")
    wanted = list(dict.fromkeys(zip(hours, degrees, (band for _, _, band in places), strict=True)))
    found = read_pointings(path)
    assert [p.band for p in found] == [band for _, _, band in wanted]
    for pointing, (ra, dec, _) in zip(found, wanted, strict=True):
        assert abs(Longitude(pointing.ra_deg - Angle(ra, "hourangle").deg, "deg", wrap_angle="180d").deg) < 1e-9
        assert pointing.dec_deg == pytest.approx(Angle(dec, "deg").deg, abs=1e-9)


@FAST
@given(
    st.lists(st.builds(Pointing, ra_deg=RA, dec_deg=DEC, band=st.sampled_from(sorted(BANDS))), min_size=1, max_size=6)
)
def test_numbers_are_degrees_in_text_and_json_and_a_repeated_pointing_counts_once(tmp_path_factory, pointings):
    folder = tmp_path_factory.getbasetemp()
    rows = [{"RA": p.ra_deg, "DEC": p.dec_deg, "filter": p.band, "exptime": 90} for p in (*pointings, pointings[0])]
    (folder / "p.json").write_text(json.dumps(rows))
    (folder / "q.json").write_text(json.dumps([{key: str(value) for key, value in row.items()} for row in rows]))
    text = "\n".join(["RA, DEC, FILTER", *(f"{r['RA']!r}, {r['DEC']!r}, {r['filter']}" for r in rows)])
    (folder / "p.txt").write_text(text)
    for name in ("p.json", "q.json", "p.txt"):
        assert read_pointings(folder / name) == tuple(dict.fromkeys(pointings)), name


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "RA,DEC,BAND\n1,2,i\n3,90.001,i\n", "pointing 2"),
        ("b.csv", "RA,DEC,BAND\n1,-90.001,i\n", "pointing 1"),
        ("c.csv", "RA,DEC,BAND\n1,2,w\n", "unknown band"),
        ("d.csv", "RA,DEC\n1,2\n", "lacks a column.*BAND"),
        ("e.csv", "RA,DEC,BAND\n1,,i\n", "lacks a column.*DEC"),
        ("f.csv", "RA,DEC,BAND\neast,2,i\n", "angle not understood"),
        ("g.csv", "RA,DEC,BAND\n", "empty.*give RA, Dec and band"),
        ("h.json", '{"RA": 1, "DEC": 2, "BAND": "i"}', "a JSON list of objects"),
        ("i.json", "[[1, 2, 3]]", "a JSON list of objects"),
        ("j.json", '[{"RA": 1,', "not JSON"),
        ("k.json", '[{"RA": NaN, "DEC": 2, "BAND": "i"}]', "pointing 1, entry 1: RA"),
    ],
)
def test_a_pointing_that_cannot_be_meant_is_refused(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_pointings(tmp_path / name)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_pointings_that_cannot_be_read_are_named(tmp_path, content):
    if content:
        (tmp_path / "plan.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"plan\.csv"):
        read_pointings(tmp_path / "plan.csv")


def test_right_ascension_wraps_and_minus_zero_degrees_are_south(tmp_path):
    (tmp_path / "p.csv").write_text("RA,DEC,BAND\n-0.5,-00:30:36,g\n370,+00:30:36,g\n24:00:00,0,g\n-00:02:00,0,r\n")
    found = np.array([(p.ra_deg, p.dec_deg) for p in read_pointings(tmp_path / "p.csv")])
    assert found == pytest.approx(np.array([(359.5, -0.51), (10.0, 0.51), (0.0, 0.0), (359.5, 0.0)]), abs=1e-9)
