"""Searches of the archive: conditions that are sent, answers that are believed, and what a night lacks."""

import math

import httpx
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.archive.night import FRAMES, nearest_frames
from deployments.archive.search import ArchiveFile, ArchiveQuery, Cone, _boxes, search
from deployments.cli import main
from imaging.errors import InputError


@pytest.fixture
def client(fake_archive):
    with httpx.Client(base_url=fake_archive.url) as client:
        yield client


def test_a_file_is_described_as_the_archive_does(fake_archive, client):
    md5 = fake_archive.add(b"content")
    (file,) = search(client, [ArchiveQuery("raw", proposal="2022B-715089", bands=("i",), expnums=(1234567,))]).files
    assert file == ArchiveFile(
        md5=md5,
        size=7,
        name="DECam_01234567.fits.fz",
        kind="raw",
        expnum=1234567,
        night=20230923,
        band="i",
        exptime_s=80.0,
        ra_deg=10.0,
        dec_deg=-30.0,
        proposal="2022B-715089",
        release_date="2024-09-23",
    )
    assert search(client, [ArchiveQuery("raw", bands=("z",))]).files == []
    assert search(client, [ArchiveQuery("raw", expnums=(1, 2, 3))]).files == []
    assert search(client, [ArchiveQuery("raw", nights=(20230901, 20230922))]).files == []


def test_an_instcal_is_image_mask_and_weight_under_the_archives_names(fake_archive, client):
    for letter, kind in zip("idw", ("image", "dqmask", "wtmap"), strict=True):
        name = f"c4d_230924_012345_oo{letter}_i_v1.fits.fz"
        about = {"proc_type": "instcal", "prod_type": kind}
        fake_archive.add(letter.encode(), archive_filename=f"/archive/{name}", **about)
    files = search(client, [ArchiveQuery("instcal", expnums=(1234567,))]).files
    assert [file.name[18:21] for file in files] == ["ood", "ooi", "oow"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"archive_filename": "../../etc/passwd", "original_filename": None}, "archive_filename"),
        ({"archive_filename": "/a/" + "x" * 300 + ".fits", "original_filename": ""}, "archive_filename"),
        ({"archive_filename": "a\x00.fits", "original_filename": ""}, "archive_filename"),
        ({"md5sum": "../../x"}, "md5sum"),
        ({"md5sum": None}, "md5sum"),
        ({"filesize": -5}, "filesize"),
        ({"filesize": "12"}, "filesize"),
        ({"caldat": "yesterday"}, "caldat"),
        ({"caldat": None}, "caldat"),
    ],
)
def test_a_row_that_cannot_be_is_refused_by_name(change, reason, fake_archive, client):
    fake_archive.add(b"good")
    fake_archive.rows.append(fake_archive.rows[0] | {"md5sum": "0" * 32} | change)
    found = search(client, [ArchiveQuery("raw")])
    assert [file.size for file in found.files] == [4]
    assert [reason in row for row in found.refused] == [True]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"errorMessage": "unknown field", "traceback": "..."}, "unknown field"),
        (["header", "text"], "no list of files"),
        ("<html>", "no list of files"),
    ],
)
def test_an_answer_that_is_no_list_is_refused(answer, reason, fake_archive, client):
    fake_archive.answer = answer
    with pytest.raises(InputError, match=reason):
        search(client, [ArchiveQuery("raw")])


def test_an_answer_at_its_limit_is_incomplete(fake_archive, client, monkeypatch):
    monkeypatch.setattr("deployments.archive.search.MOST_ROWS", 2)
    for number in range(2):
        fake_archive.add(b"%d" % number)
    with pytest.raises(InputError, match="too many files"):
        search(client, [ArchiveQuery("raw")])


@given(
    ra=st.floats(0.0, 359.999),
    dec=st.floats(-90.0, 90.0),
    radius=st.floats(0.05, 20.0),
    angle=st.floats(0.0, 360.0),
    share=st.floats(0.0, 0.999),
)
@settings(max_examples=150, deadline=None)
def test_a_point_of_the_circle_is_in_a_box(ra, dec, radius, angle, share):
    from astropy import units

    centre = SkyCoord(ra, dec, unit="deg")
    point = centre.directional_offset_by(angle * units.deg, share * radius * units.deg)
    values = {"ra_center": point.ra.deg % 360.0, "dec_center": point.dec.deg}
    boxes = _boxes(Cone(ra, dec, radius))
    inside = [all(low - 1e-5 <= values[name] <= high + 1e-5 for name, low, high in box) for box in boxes]
    assert any(inside)


def test_the_box_is_cut_to_the_circle(fake_archive, client):
    fake_archive.add(b"corner", ra_center=359.99, dec_center=-29.2)
    fake_archive.add(b"inside", ra_center=359.99, dec_center=-30.0)
    (file,) = search(client, [ArchiveQuery("raw", cone=Cone(0.9, -30.0, 0.9))]).files
    assert file.size == len(b"inside")
    assert len(fake_archive.searches) == 2, "zero of right ascension lies in the circle"


def test_frames_of_calibrations_come_from_the_nearest_complete_night():
    def frames(kind, night, band, number):
        return [ArchiveFile(f"{i:032d}", 1, f"{kind}{i}", kind, i, night, band) for i in range(number)]

    files = [
        *frames("bias", 20230924, "", FRAMES),
        *frames("flat", 20230924, "g", FRAMES - 1),
        *frames("bias", 20230926, "", FRAMES + 5),
        *frames("flat", 20230926, "g", FRAMES),
    ]
    chosen = nearest_frames(files, 20230923, ["g"])
    assert {file.night for file in chosen} == {20230926}
    assert len(chosen) == 2 * FRAMES
    assert nearest_frames(files, 20230923, ["g", "i"]) == []


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--night", "20231340"],
        ["--night", "20230901", "20230902", "20230903"],
        ["--night", "20230901", "--bands", "q"],
        ["--cone", "400", "0", "1"],
        ["--type", "spectrum", "--proposal", "x"],
        ["--for-night", "20230901", "--bands", "g"],
    ],
)
def test_a_search_that_makes_no_sense_is_refused(words, fake_archive, tmp_path, capsys):
    assert main.run(["archive", "search", *words, "--site", str(tmp_path)]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert fake_archive.searches == []


def test_an_archive_out_of_reach_is_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GW_WORKFLOW_ARCHIVE", "http://127.0.0.1:9")
    monkeypatch.setattr("deployments.reports.sending.FIRST_WAIT_S", 0.0)
    assert main.run(["archive", "search", "--night", "20230901", "--site", str(tmp_path)]) == 1
    assert "cannot be reached" in capsys.readouterr().err
    monkeypatch.setenv("GW_WORKFLOW_ARCHIVE", "archive.example")
    assert main.run(["archive", "search", "--night", "20230901", "--site", str(tmp_path)]) == 1
    assert "no URL" in capsys.readouterr().err


def test_unknown_numbers_are_null_in_json():
    file = ArchiveFile("0" * 32, 1, "a.fits", "bias", None, 20230901, "")
    assert file.document()["ra_deg"] is None
    assert not any(isinstance(value, float) and math.isnan(value) for value in file.document().values())
