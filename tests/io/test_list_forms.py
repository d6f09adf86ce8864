"""Lists in the forms that people have: each gives the same exposures, and what cannot be is refused with its place."""

import json
import math

import pytest

from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.io.exposure_list import read_exposure_list, read_given_list
from imaging.io.pointings import Pointing, read_pointings

ONE = Exposure(
    1241613, "r", 20230923, 60210.974, 5.0, 297.3312, -28.8211, 1.03, object_name="pointing", propid="2022B-1"
)
TWO = Exposure(1241650, "i", 20230923, 60211.05, 80.0, 197.45, -23.38, 1.2, propid="2022B-1")
KNOWN = {e.expnum: e for e in (ONE, TWO)}

HEAD = "EXPNUM,NITE,MJD,RA,DEC,BAND,EXPTIME,TEFF"
LINE = "1241650,20230923,60211.05,197.45,-23.38,i,80,0.9"


@pytest.fixture
def read(tmp_path):
    def reading(content, name="list.csv", known=None):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_given_list(tmp_path / name, {} if known is None else known)

    return reading


@pytest.mark.parametrize(
    "content",
    [
        f"{HEAD}\n{LINE}\n",
        b"\xef\xbb\xbf" + f"{HEAD}\r\n{LINE}\r\n".encode(),
        f"{HEAD}\n{LINE}".lower().replace(",", ", "),
        f"{HEAD}\n{LINE}".replace(",", ";"),
        f"{HEAD}\n{LINE}".replace(",", "\t"),
        "teff,fil,exptime,dec,ra,mjd,nite,seeing,expnum\n0.9,i,80.0,-23.38,197.45,60211.05,2023-09-23,1.1,1241650.0\n",
        "expnum,mjd,ra,dec,filter,exptime,t_eff\n1241650,60211.05,13:09:48,-23:22:48,i DECam SDSS c0003 7835.0,80,.9\n",
        "1241650 20230923 60211.05 197.45 -23.38 i 80 2022B-1 object 0.9 a field\n",
        "1241650 20230923 60211.05 197.45 -23.38 i 80 2022B-1 object 0.9 a field, deep\n",
        "# of the database\n# expnum teff  ra    dec   fil exptime mjd\n1241650 0.9 197.45 -23.38 i 80 60211.05\n",
        f"#{HEAD}\n{LINE}\n",
        f"{HEAD}\n{LINE}\n".replace(",", "|").replace("\n", "\n--|--\n", 1),
        f"{HEAD}\r\n{LINE}\r\n".replace(",", "\t").encode("utf-16"),
        f"sep=;\n{HEAD}\n{LINE}\n\x1a".replace(",", ";").replace("-23", "\N{MINUS SIGN}23"),
        "expnum,date-obs,RA (deg),dec [deg],filter,exptime (s),teff\n1241650,2023-09-24 01:12,197.45,-23.38,i,80,.9\n",
        "expnum,mjd,ra,ra_deg,dec,filter,exptime,teff\n1241650,60211.05,13.1633,197.45,-23d22m48s,i,80,.9\n",
        "expnum,mjd,tradeg,tdecdeg,band,exptime,teff\n1241650,60211.05,13h09m48s,-23 22 48,i,80,.9\n",
    ],
    ids=[
        "own",
        "BOM and Windows ends",
        "blanks, lower case",
        "semicolons",
        "tabs",
        "fil, any order",
        "sexagesimal",
        "original",
        "original, comma in the object",
        "header in a comment, blanks",
        "header in a comment, commas",
        "bars",
        "UTF-16",
        "Excel",
        "units, date",
        "hours beside degrees",
        "telescope, letters and blanks",
    ],
)
def test_every_form_of_a_table_gives_the_same_exposure(read, content):
    (item,) = read(content).listed
    e = item.exposure
    assert (e.expnum, e.night, e.band, e.exptime_s, e.obstype) == (1241650, 20230923, "i", 80.0, "object")
    assert (e.mjd, e.ra_deg, e.dec_deg) == pytest.approx((60211.05, 197.45, -23.38), abs=1e-9)
    assert item.t_eff == pytest.approx(0.9)


@pytest.mark.parametrize("text", ["", "NULL", "None", "nan", "NaN", "-1", "-1.0", "-9999", "n/a", "--", "#N/A", "\\N"])
def test_an_unknown_t_eff_is_unknown(read, text):
    (item,) = read(f"{HEAD}\n{LINE.rpartition(',')[0]},{text}\n").listed
    assert math.isnan(item.t_eff)


def test_a_low_t_eff_stays_low(read):
    (item,) = read(f"{HEAD}\n{LINE.rpartition(',')[0]},0.01\n").listed
    assert item.t_eff == 0.01


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("DEC", "95", "DEC: 95 is not between -90 and 90"),
        ("RA", "nan", "RA: no value"),
        ("RA", "1e300", r"RA: 1e\+300 is not between"),
        ("RA", "east", "RA: east is no number"),
        ("MJD", "2460211.5", r"MJD: 2.46021e\+06 is not between.*a Julian date"),
        ("MJD", "inf", "MJD: inf is not between"),
        ("MJD", "211.05", "MJD: 211.05 is not between"),
        ("MJD", "nan", "MJD: no value"),
        ("RA", "13:60:00", "RA: 13:60:00 is no number"),
        ("DEC", "-23:22:61", "DEC: -23:22:61 is no number"),
        ("EXPTIME", "0", "EXPTIME: 0 for an exposure of the sky"),
        ("EXPTIME", "80000", "EXPTIME: 80000 is not between"),
        ("EXPTIME", "-9999", "EXPTIME: -9999 is not between"),
        ("TEFF", "inf", "TEFF: inf is not between"),
        ("MJD", '"60211,05"', "MJD: 60211,05 is no number; write it with a decimal point"),
        ("DEC", '"-23,38"', "DEC: -23,38 is no number; write it with a decimal point"),
        ("TEFF", '"0,9"', "TEFF: 0,9 is no number; write it with a decimal point"),
        ("TEFF", "good", "TEFF: good is no number"),
        ("BAND", "q", "BAND: unknown band"),
        ("BAND", "", "BAND: unknown band"),
        ("NITE", "20231345", "NITE: 20231345 is no night"),
        ("EXPNUM", "0", "EXPNUM: 0 is no exposure number"),
        ("EXPNUM", "12.5", "EXPNUM: 12.5 is no exposure number"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_line_and_column(read, column, value, words):
    values = LINE.split(",")
    values[HEAD.split(",").index(column)] = value
    with pytest.raises(InputError, match=rf"list\.csv, line 4: column {words}"):
        read(f"# mine\n{HEAD}\n1,{LINE.partition(',')[2]}\n{','.join(values)}\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"{HEAD}\n{LINE},7,8\n", "line 2: 10 values for 8 columns"),
        (f"{HEAD}\n{LINE.replace('.', ',')}\n", "line 2: 12 values for 8 columns.*decimal point"),
        ("1241650 20230923 60211,05 197.45 -23.38 i 80 2022B-1 object 0.9 x\n", "line 1: column MJD.*decimal point"),
        (f"{HEAD},RA\n{LINE},3\n", "column twice .RA"),
        ("RA,DEC,BAND\n1,2,i\n", "lacks columns .EXPNUM.*add-raw"),
        ('{"errorMessage": "unknown field", "traceback": ""}', "archive has answered.*unknown field"),
        ('[{"RA": 1,', "not JSON"),
        ("[1, 2]", "a JSON list of objects"),
    ],
)
def test_what_is_not_understood_is_refused(read, content, words):
    with pytest.raises(InputError, match=words):
        read(content)


QUEUE = """# plan of the night
[ // first hour
  {"count": 1, "filter": "i", "exptime": 80, "RA": 197.45, "dec": -23.38, "object": "hex #7, // not a comment",
   "program": "desgw", "expType": "object", "propid": "2022B-715089", "seqid": "a", "wait": "False",},
  /* second */
  {"filter": "z", "exptime": 90, "RA": 10.0, "dec": -5.0, "object": "x", "expType": "object", "wait": "False"},
  {"filter": "i", "exptime": 20, "expType": "dome flat"},
]
"""


def test_the_queue_of_the_observatory_is_read_with_comments_and_trailing_commas(read, tmp_path):
    (tmp_path / "plan.json").write_text(QUEUE)
    wanted = (Pointing(ra_deg=197.45, dec_deg=-23.38, band="i"), Pointing(ra_deg=10.0, dec_deg=-5.0, band="z"))
    assert read_pointings(tmp_path / "plan.json") == wanted
    found = read(QUEUE, known=KNOWN)
    assert [item.exposure for item in found.listed] == [TWO]
    assert found.notes == ("1 of 2 planned pointings have no raw file",)
    with pytest.raises(InputError, match=r"lacks columns.*EXPNUM.*add-raw"):
        read(QUEUE)


INVENTORY = """#expid  ra     dec   ut  fil time secz  psf  sky  cloud  teff Object
1241613 297.3 -28.8 23:22  r    5 1.03  1.02  4.40 -0.08  0.01 pointing
1241650 197.4 -23.4 01:12  i   80 1.20                         hex 7 tile 3
1241651 197.4 -23.4 01:14  N395 80 1.20  1.1                   narrow
1241652 197.4 -23.4 01:16  i   80 1.20  1.12  0.30  0.01  0.75 DECaPS 12
MJD = 60211 (Sep 23/Sep 24)
"""


def test_an_inventory_gives_t_eff_and_the_raw_files_give_the_positions(read):
    found = read(INVENTORY, known=KNOWN)
    assert [item.exposure for item in found.listed] == [ONE, TWO], "the positions of an inventory have 0.1 degree"
    assert found.listed[0].t_eff == 0.01 and math.isnan(found.listed[1].t_eff)
    assert [note.partition(":")[0] for note in found.notes] == ["1 of the list left"] * 2
    with pytest.raises(InputError, match=r"no exposure of the list can be used.*add-raw"):
        read(INVENTORY)
    third = Exposure(1241652, "i", 20230923, 60211 + (1 + 16 / 60) / 24, 80.0, 197.41, -23.39, 1.2)
    assert [i.t_eff for i in read(INVENTORY, known={1241652: third}).listed] == [0.75]


@pytest.mark.parametrize(
    "changed",
    [
        INVENTORY.replace("#expid", "expid").replace("\n", "\r\n"),
        INVENTORY.replace("#expid", "# expid"),
        "Inventory of the night\n\n" + INVENTORY.replace("Object", "OBJECT").replace("#expid", "#EXPID"),
        "".join(f"  {line}\n" for line in INVENTORY.splitlines()),
        INVENTORY.replace(
            "MJD =", "1241600                   23:10  r   10                                dome flat\nMJD ="
        ),
    ],
    ids=["Windows, no hash", "blank after hash", "title, capitals", "indented", "a flat without position"],
)
def test_an_inventory_may_be_written_otherwise(read, changed):
    found = read(changed, known=KNOWN)
    assert found.listed[0].t_eff == 0.01
    assert [item.exposure for item in found.listed] == [ONE, TWO]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("197.4 -23.4 01:12", "199.4 -23.4 01:12", "line 3: column ra: 1.79 degrees"),
        ("01:12", "05:12", "line 3: column UT: 05:12 is not the time"),
        ("01:12  i ", "01:12  z ", "line 3: column fil: z, but the raw file states i"),
        ("01:12  i ", "01:12:20  i ", "list line not understood .*line 3: 1241650"),
        ("MJD = 60211", "night", "without its date"),
    ],
)
def test_an_inventory_that_contradicts_the_raw_files_is_refused(read, old, new, words):
    with pytest.raises(InputError, match=words):
        read(INVENTORY.replace(old, new), known=KNOWN)


def archive_row(**changes):
    row = {
        "archive_filename": "/net/archive/mtn/20230923/ct4m/2022B-1/c4d_230924_011200_ori.fits.fz",
        "original_filename": "/data/DTS/DECam_01241650.fits.fz",
        "caldat": "2023-09-23",
        "dateobs_center": "2023-09-24T01:12:40",
        "ifilter": "i DECam SDSS c0003 7835.0 1470.0",
        "exposure": 80.0,
        "ra_center": 197.45,
        "dec_center": -23.38,
        "proposal": "2022B-1",
        "obs_type": "object",
        "proc_type": "raw",
        "instrument": "decam",
    }
    return row | changes


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("BAND", "g", "BAND: g, but the raw file states i"),
        ("RA", "13.1633", r"RA: 1\d\d\.\d\d degrees from the pointing"),
        ("MJD", "60211.95", "MJD: 60211.95 is not the time of the raw file, MJD 60211.0500"),
        ("NITE", "20230924", "NITE: 20230924, but the raw file is of the night 20230923"),
    ],
)
def test_a_list_that_states_all_must_agree_with_the_raw_files(read, column, value, words):
    assert len(read(f"{HEAD}\n{LINE}\n", known=KNOWN).listed) == 1
    values = LINE.split(",")
    values[HEAD.split(",").index(column)] = value
    with pytest.raises(InputError, match=rf"list\.csv, line 2: column {words}"):
        read(f"{HEAD}\n{','.join(values)}\n", known=KNOWN)


def test_the_answer_of_the_archive_is_a_list(read):
    other = [archive_row(proc_type="instcal"), archive_row(instrument="mosaic3")]
    answer = [{"META": {"endpoint": "adv_search/find"}, "PARAMETERS": {"limit": 10}}, archive_row(), *other]
    (item,) = read(json.dumps(answer), "answer.json").listed
    e = item.exposure
    assert (e.expnum, e.night, e.band, e.propid) == (1241650, 20230923, "i", "2022B-1")
    assert abs(e.mjd - 60211.05) * 86400 < 0.01, "the archive states the middle"
    assert (e.ra_deg, e.dec_deg) == (197.45, -23.38)
    with pytest.raises(InputError, match="entry 2: column dec_center: 95 is not between"):
        read(json.dumps([archive_row(), archive_row(EXPNUM=5, dec_center=95)]), "answer.json")


def test_numbers_alone_are_completed_by_the_raw_files(read, tmp_path):
    found = read("expnum\n1241650\n1241613\n99\n", known=KNOWN)
    assert [item.exposure for item in found.listed] == [TWO, ONE]
    assert found.notes == ("1 of the list left: no raw file is known, and the list does not say enough (99)",)
    with pytest.raises(InputError, match=r"lacks columns.*RA"):
        read_exposure_list(tmp_path / "list.csv")
