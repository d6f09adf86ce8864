"""The command add-raw: what it takes, tells apart, copies and leaves, and that a second call reads only what is new."""

import gzip
import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from blocks.raw_index import described_files, read_raw_files
from blocks.site import Site
from deployments.cli import main
from deployments.events.add_raw import add_raw
from imaging.identity import ExposureId
from imaging.io import raw_headers
from tasks.raw_files import find_raw
from tests.raw_frames import write_frame
from tests.timing import least_s

NIGHT = 20230923


@pytest.fixture
def folder(tmp_path):
    """What an observer may have: archive names, plain files, a bias, a copy, a cut file, a processed image, a note."""
    folder = tmp_path / "archive"
    write_frame(folder / "n1/c4d_230924_011200_ori.fits.fz", 1241613)
    write_frame(folder / "n1/c4d_230923_220000_zri.fits.fz", 1241500, OBSTYPE="zero", EXPTIME=0.0, mjd=60210.9)
    plain = write_frame(folder / "n2/DECam_01241614.fits", 1241614, compressed=False, band="g")
    (folder / "n2/any.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
    cut = write_frame(folder / "n2/c4d_230924_012000_ori.fits.fz", 1241615)
    cut.write_bytes(cut.read_bytes()[:-2880])
    write_frame(folder / "c4d_230924_011200_ooi_i_v1.fits.fz", 1241613, PROCTYPE="InstCal")
    (folder / "notes.txt").write_text("cloudy")
    return folder


@pytest.fixture
def add(tmp_path, capsys):
    def run(*words):
        code = main.run(["add-raw", *map(str, words), "--site", str(tmp_path / "site"), "--json"])
        return int(code), json.loads(capsys.readouterr().out)

    return run


def test_files_are_known_where_they_lie(add, folder, tmp_path, monkeypatch):
    code, said = add(folder)
    assert code == 2, "a file is unfinished"
    assert sorted(item["expnum"] for item in said["new"]) == [1241500, 1241613, 1241614, 1241614]
    assert said["unfinished"] == [str(folder / "n2/c4d_230924_012000_ori.fits.fz")]
    plain, packed = str(folder / "n2/DECam_01241614.fits"), str(folder / "n2/any.fits.gz")
    assert said["duplicates"] == {"1241614": [plain, packed]} and said["conflicts"] == []
    (left,) = said["left"].items()
    assert left[0].endswith("ooi_i_v1.fits.fz") and "processed image" in left[1]
    site = Site.at(tmp_path / "site")
    assert find_raw(site, ExposureId(1241613, "i", NIGHT)).path == folder / "n1/c4d_230924_011200_ori.fits.fz"
    assert not site.raw.exists(), "nothing was copied"

    read = []
    real = raw_headers.read_raw_header
    monkeypatch.setattr(raw_headers, "read_raw_header", lambda path: read.append(path.name) or real(path))
    write_frame(folder / "n1/c4d_230924_013000_ori.fits.fz", 1241616)
    whole = write_frame(tmp_path / "whole.fits.fz", 1241615)
    shutil.copy(whole, folder / "n2/c4d_230924_012000_ori.fits.fz")
    code, said = add(folder)
    assert (code, said["n_known"], said["unfinished"]) == (0, 4, [])
    assert sorted(item["expnum"] for item in said["new"]) == [1241615, 1241616]
    assert sorted(read) == ["c4d_230924_012000_ori.fits.fz", "c4d_230924_013000_ori.fits.fz"]


@pytest.mark.parametrize("how", ["--copy", "--link"])
def test_files_are_copied_or_linked_into_the_raw_folder_once(add, folder, tmp_path, how):
    for _ in range(2):
        code, said = add(folder, how)
    assert (code, said["new"]) == (2, [])
    site = Site.at(tmp_path / "site")
    placed = {path.relative_to(site.raw).as_posix(): path for path in site.raw.rglob("*") if not path.is_dir()}
    names = ("DECam_01241614.fits", "c4d_230923_220000_zri.fits.fz", "c4d_230924_011200_ori.fits.fz")
    assert sorted(placed) == [f"{NIGHT}/{name}" for name in names]
    assert all(path.is_symlink() == (how == "--link") for path in placed.values())
    source = (folder / "n1/c4d_230924_011200_ori.fits.fz").read_bytes()
    assert placed[f"{NIGHT}/c4d_230924_011200_ori.fits.fz"].read_bytes() == source
    assert find_raw(site, ExposureId(1241614, "g", NIGHT)).path.is_relative_to(site.raw)


def test_files_that_are_known_where_they_lie_are_copied_when_asked_for(add, folder, tmp_path):
    add(folder)
    code, said = add(folder, "--copy")
    assert (code, len(said["new"]), said["n_known"]) == (2, 3, 1), "the fourth is another copy of one exposure"
    assert len(list((tmp_path / "site/raw").rglob("*.f*"))) == 3
    assert add(folder, "--copy")[1]["new"] == []


def test_two_commands_at_once_copy_each_file_once(folder, tmp_path, monkeypatch):
    """Both have read the files before one of them copies."""
    site, both = Site.at(tmp_path / "site"), threading.Barrier(2)

    def described(files, known, say=None):
        found = described_files(files, known, say)
        both.wait(timeout=60)
        return found

    monkeypatch.setattr("deployments.events.add_raw.described_files", described)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(add_raw, site, [folder / "n1"], "copy") for _ in range(2)]
        first, second = (call.result() for call in calls)
    assert sorted((len(first.new), len(second.new))) == [0, 2] and first.duplicates == second.duplicates == {}
    assert len([path for path in site.raw.rglob("*") if path.is_file()]) == 2


def test_folders_that_cannot_be_read_are_told_and_loops_and_pipes_passed_over(add, folder, tmp_path, monkeypatch):
    closed = tmp_path / "archive/closed"
    closed.mkdir()
    (folder / "again").symlink_to(folder)
    (folder / "n1/up").symlink_to(folder)
    os.mkfifo(folder / "pipe.fits")
    (folder / "nowhere.fits").symlink_to(folder / "gone.fits")
    real = os.scandir

    def scandir(path):
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    _, said = add(folder)
    assert len(said["new"]) == 4
    assert said["left"][str(closed)] == f"the folder cannot be read ({closed}: Permission denied)"
    assert "Permission denied" in add(closed)[1]["error"]


@pytest.mark.parametrize(
    ("changes", "told"), [({"mjd": 60211.2}, "MJD 60211.20000"), ({"ra": "14:20:00"}, "RA 215.000")]
)
def test_another_exposure_of_a_number_is_a_conflict_and_is_not_copied(add, folder, tmp_path, changes, told):
    add(folder, "--copy")
    other = write_frame(tmp_path / "other.fits.fz", 1241613, **changes)
    code, said = add(other, "--copy")
    assert code == 2 and said["new"] == []
    (conflict,) = said["conflicts"]
    assert "exposure 1241613" in conflict and "other.fits.fz" in conflict and told in conflict
    assert find_raw(Site.at(tmp_path / "site"), ExposureId(1241613, "i", NIGHT)).exposure.mjd == 60211.05
    code, said = add(other)
    assert code == 2 and len(said["conflicts"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no raw files given"),
        (["missing"], "no such file or folder"),
        (["empty"], "no raw exposure found"),
        (["note.txt"], "is not FITS"),
        (["empty", "--copy", "--link"], "exclude each other"),
    ],
)
def test_what_cannot_be_added_is_refused(add, tmp_path, words, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("clouds, clouds")
    code, said = add(*(word if word.startswith("--") else tmp_path / word for word in words))
    assert code == 1 and message in said["error"]


def test_a_file_that_lacks_extensions_is_watched_for_some_seconds(tmp_path):
    path = write_frame(tmp_path / "a.fits.fz", 1241613, NEXTEND=62)
    waited = []
    now = time.time()

    def wait(seconds):
        nonlocal now
        waited.append(seconds)
        now += seconds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now)
        added = add_raw(Site.at(tmp_path / "site"), [path], wait=wait)
    assert len(waited) == 1 and len(added.new) == 1


def test_a_thousand_files_take_a_tenth_of_a_minute(tmp_path):
    """10,000 files in a minute: CPU time, since headers are read by threads."""
    content = write_frame(tmp_path / "a.fits.fz", 1241613).read_bytes()
    place = content.index(b"1241613")
    for n in range(1000):
        number = b"%07d" % (1300000 + n)
        (tmp_path / f"{n}.fits.fz").write_bytes(content[:place] + number + content[place + 7 :])
    sites = iter(Site.at(tmp_path / f"site{n}") for n in range(9))
    assert least_s(lambda: add_raw(next(sites), [tmp_path]), times=2) < 6.0
    site = Site.at(tmp_path / "site0")
    assert len(read_raw_files(site).by_path) == 1001
    assert least_s(lambda: add_raw(site, [tmp_path])) < 1.0, "nothing is read again"
