"""Downloads from an archive that cuts, stalls, is busy, and sends something else."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import httpx
import pytest

from deployments.archive.download import FIRST_WAIT_S, TIMEOUT, TRIES, Downloader
from deployments.archive.search import ArchiveQuery, search
from deployments.cli import main
from imaging.errors import InputError, StorageError

NIGHT = ["--night", "20230923"]


def content(seed: int, n_bytes: int = 300_000) -> bytes:
    return random.Random(seed).randbytes(n_bytes)


@pytest.fixture
def downloader(fake_archive):
    """A downloader that notes its waits instead of waiting."""
    waits: list[float] = []
    with httpx.Client(base_url=fake_archive.url) as client:
        yield Downloader(client, lambda line: None, waits.append), client, waits


def fetch(downloader, folder):
    loader, client, _ = downloader
    files = search(client, [ArchiveQuery("raw", nights=(20230923, 20230923))]).files
    return loader.fetch([(file, folder) for file in files])


@pytest.mark.parametrize("mishap", ["cut", "busy", "fails", "page", "wrong", "whole", "long"])
def test_a_file_is_right_after_any_mishap(mishap, fake_archive, downloader, tmp_path):
    md5 = fake_archive.add(content(1))
    fake_archive.mishaps[md5] = [mishap, "none"]
    account = fetch(downloader, tmp_path)
    assert account.failed == {}
    assert [path.read_bytes() for path in account.fetched] == [content(1)]
    assert [path.name for path in tmp_path.iterdir()] == ["DECam_01234567.fits.fz"], "no part is left"
    assert len(fake_archive.asked) == (1 if mishap == "whole" else 2)
    if mishap == "busy":
        assert downloader[2] == [7.0], "the archive says how long to wait"


def test_a_transfer_that_is_cut_often_goes_on_where_it_ended(fake_archive, downloader, tmp_path):
    md5 = fake_archive.add(content(2))
    fake_archive.mishaps[md5] = ["cut"] * (TRIES + 4)
    account = fetch(downloader, tmp_path)
    assert [path.read_bytes() for path in account.fetched] == [content(2)], "what makes progress is not given up"
    begins = [int(asked[6:-1]) for asked, _, _ in fake_archive.asked if asked]
    assert begins == sorted(set(begins)), "nothing is sent twice"
    assert set(downloader[2]) == {FIRST_WAIT_S}


def test_an_archive_that_ignores_ranges_sends_the_file_anew(fake_archive, downloader, tmp_path):
    md5 = fake_archive.add(content(3))
    fake_archive.mishaps[md5] = ["cut", "whole"]
    assert [path.read_bytes() for path in fetch(downloader, tmp_path).fetched] == [content(3)]


def test_a_file_that_never_comes_right_costs_itself_only(fake_archive, downloader, tmp_path):
    bad = fake_archive.add(content(4), original_filename="DECam_01234568.fits.fz", EXPNUM=1234568)
    fake_archive.add(content(5))
    fake_archive.mishaps[bad] = ["wrong"] * TRIES
    account = fetch(downloader, tmp_path)
    assert [path.read_bytes() for path in account.fetched] == [content(5)]
    assert list(account.failed) == ["DECam_01234568.fits.fz"]
    assert "MD5" in account.failed["DECam_01234568.fits.fz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["DECam_01234567.fits.fz"]
    waits = downloader[2]
    assert waits == sorted(waits), "the waits grow"
    assert waits[-1] > 10 * waits[0]


def test_a_second_call_fetches_nothing_and_keeps_what_differs(fake_archive, downloader, tmp_path):
    fake_archive.add(content(6))
    fetch(downloader, tmp_path)
    n_asked = len(fake_archive.asked)
    account = fetch(downloader, tmp_path)
    assert (len(account.present), account.fetched) == (1, [])
    (tmp_path / "DECam_01234567.fits.fz").write_bytes(b"of somebody")
    account = fetch(downloader, tmp_path)
    assert "another size" in account.failed["DECam_01234567.fits.fz"]
    assert (tmp_path / "DECam_01234567.fits.fz").read_bytes() == b"of somebody"
    assert len(fake_archive.asked) == n_asked


def test_an_interrupted_download_keeps_its_parts(fake_archive, tmp_path):
    md5 = fake_archive.add(content(7))
    fake_archive.mishaps[md5] = ["cut", "cut"]

    def interrupt(seconds):
        raise KeyboardInterrupt

    with httpx.Client(base_url=fake_archive.url) as client:
        files = search(client, [ArchiveQuery("raw", nights=(20230923, 20230923))]).files
        with pytest.raises(KeyboardInterrupt):
            Downloader(client, lambda line: None, interrupt).fetch([(files[0], tmp_path)])
        (part,) = tmp_path.iterdir()
        assert 0 < part.stat().st_size < len(content(7))
        Downloader(client, lambda line: None, lambda seconds: None).fetch([(files[0], tmp_path)])
    assert (tmp_path / "DECam_01234567.fits.fz").read_bytes() == content(7)
    assert not part.exists()
    assert fake_archive.asked[1][0] == f"bytes={len(content(7)) // 2}-"


def test_ctrl_c_ends_a_stalled_download_at_once_and_the_next_call_goes_on(fake_archive, tmp_path):
    md5 = fake_archive.add(content(9))
    fake_archive.mishaps[md5] = ["stall"]
    words = ["archive", "fetch", *NIGHT, "--to", str(tmp_path), "--site", str(tmp_path / "site"), "--json"]
    process = subprocess.Popen([sys.executable, "-m", "deployments.cli.main", *words], stdout=subprocess.PIPE)
    wait_until(lambda: any(part.stat().st_size for part in tmp_path.glob(".*.part")))
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    said = json.loads(process.communicate(timeout=TIMEOUT.read)[0])
    assert time.monotonic() - began < 0.5 * TIMEOUT.read, "the archive is not waited for"
    assert (process.returncode, "run the same command again" in str(said)) == (3, True)
    assert [path.name for path in tmp_path.glob("*.fz")] == [], "nothing half under the final name"
    assert main.run(words) == 0
    assert (tmp_path / "DECam_01234567.fits.fz").read_bytes() == content(9)
    assert fake_archive.asked[-1][0], "what had arrived is not sent again"


def wait_until(true: Callable[[], object]) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("did not happen within a minute")


def test_proprietary_data_need_the_token_which_nobody_sees(fake_archive, tmp_path, monkeypatch, capsys):
    fake_archive.proprietary.add(fake_archive.add(content(8)))
    words = ["archive", "fetch", *NIGHT, "--site", str(tmp_path), "--json"]
    assert main.run(words) == 3
    said = json.loads(capsys.readouterr().out)
    assert "proprietary until 2024-09-23" in said["failed"]["DECam_01234567.fits.fz"]
    monkeypatch.setenv("GW_WORKFLOW_ARCHIVE_TOKEN", "wrong-token")
    assert main.run(words) == 3
    said = capsys.readouterr()
    assert "wrong-token" not in said.out + said.err
    monkeypatch.setenv("GW_WORKFLOW_ARCHIVE_TOKEN", "right-token")
    assert main.run(words) == 0
    assert (tmp_path / "raw" / "20230923" / "DECam_01234567.fits.fz").read_bytes() == content(8)


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(fake_archive, downloader, tmp_path, monkeypatch):
    fake_archive.add(content(9))
    usage = os.statvfs(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 30, "total": usage.f_blocks}))
    with pytest.raises(StorageError, match=r"too small.*0\.0 GB"):
        fetch(downloader, tmp_path)
    assert fake_archive.asked == []


def test_two_files_of_one_name_are_refused(fake_archive, downloader, tmp_path):
    fake_archive.add(content(10))
    fake_archive.add(content(11))
    with pytest.raises(InputError, match="two files of the archive have one name"):
        fetch(downloader, tmp_path)


def test_a_dry_run_prints_number_and_volume(fake_archive, tmp_path, capsys):
    fake_archive.add(content(12))
    assert main.run(["archive", "fetch", *NIGHT, "--dry-run", "--site", str(tmp_path)]) == 0
    assert "1 files, 0.00 GB" in capsys.readouterr().out
    assert fake_archive.asked == []
