"""The index of raw files: what is read once, what is taken when, which copy is used, and what is refused."""

import os
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest

from blocks import raw_index
from blocks.raw_index import INDEX, OLD_S, QUIET_S, has_raw_files, index_files, raw_files, read_raw_files
from blocks.site import Site
from imaging.errors import InputError
from imaging.identity import ExposureId
from imaging.io.raw import read_raw_ccd
from imaging.io.tables import read_table
from tasks.night_plan import exposures_at_hand
from tasks.raw_files import arrived_exposures, find_raw, raw_of_kind
from tests.raw_frames import write_frame

NIGHT = 20230923
ONE = ExposureId(1241613, "i", NIGHT)


@pytest.fixture
def site(tmp_path) -> Site:
    return Site.at(tmp_path / "site")


@pytest.fixture
def reads(monkeypatch):
    """Count the headers that are read."""
    from imaging.io import raw_headers

    count = []
    real = raw_headers.read_raw_header
    monkeypatch.setattr(raw_headers, "read_raw_header", lambda path: count.append(path.name) or real(path))
    return count


@pytest.mark.parametrize(
    "name", ["c4d_230924_011200_ori.fits.fz", f"{NIGHT}/c4d_230924_011200_ori.fits.fz", "x/any.fits"]
)
def test_a_file_of_the_raw_folder_is_found_by_its_header_whatever_it_is_called(site, name, reads):
    assert not has_raw_files(site)
    path = write_frame(site.raw / name, ONE.expnum, compressed="fz" in name)
    for _ in range(3):
        raw = find_raw(site, ONE)
        assert raw.path == path and set(raw.index.extensions) == {3, 25}
    assert reads == [path.name]
    assert arrived_exposures(site, [ONE, ExposureId(5, "i", NIGHT)]) == {ONE.expnum}
    pixels = np.random.default_rng(ONE.expnum).integers(1000, 3000, (48, 40))
    assert np.array_equal(read_raw_ccd(path, raw.extension(3), ONE.expnum).pixels, pixels)


def test_the_index_states_what_the_header_says(site):
    write_frame(site.raw / "a.fits.fz", ONE.expnum)
    write_frame(site.raw / "b.fits.fz", 1241600, OBSTYPE="zero", EXPTIME=0.0, RA=None, TELRA=None)
    raw_files(site)
    one, bias = sorted(read_table(site.state / INDEX).to_pylist(), key=lambda row: row["path"])
    assert one["path"] == "raw/a.fits.fz" and one["size"] == (site.raw / "a.fits.fz").stat().st_size
    assert (one["expnum"], one["night"], one["obstype"], one["band"]) == (ONE.expnum, NIGHT, "object", "i")
    assert (one["exptime_s"], one["mjd"], one["airmass"], one["propid"]) == (80.0, 60211.05, 1.23, "2022B-715089")
    assert (bias["obstype"], bias["ra_deg"]) == ("zero", None)
    assert np.isnan(read_raw_files(site).exposures()[1241600].ra_deg)


def test_a_file_from_the_future_is_taken_at_once_and_one_in_the_making_is_not(site):
    """The times of files decide nothing: what is whole is taken, what is not whole waits."""
    path = write_frame(site.raw / "a.fits.fz", ONE.expnum)
    os.utime(path, (time.time() + 40 * 86400,) * 2)
    assert arrived_exposures(site, [ONE]) == {ONE.expnum}
    content, cut = path.read_bytes(), site.raw / "b.fits.fz"
    write_frame(cut, 1241614)
    whole = cut.read_bytes()
    for size in (len(whole) // 3, len(whole) - 1):
        cut.write_bytes(whole[:size])
        os.utime(cut, (1e9, 1e9))  # an old file is no more finished than a new one
        assert arrived_exposures(site, [ONE, ExposureId(1241614, "i", NIGHT)]) == {ONE.expnum}
    cut.write_bytes(whole)
    os.utime(cut, (1e9, 1e9))
    assert arrived_exposures(site, [ExposureId(1241614, "i", NIGHT)]) == {1241614}
    assert path.read_bytes() == content


@pytest.mark.parametrize(("keep", "wait_s"), [(1, QUIET_S), (0, OLD_S)])
def test_what_stays_incomplete_is_taken_when_its_size_stays_the_same(site, keep, wait_s, monkeypatch):
    """One of two stated extensions, or a file that is cut: taken as it is, but late."""
    path = write_frame(site.raw / "a.fits.fz", ONE.expnum, NEXTEND=3)
    if not keep:
        path.write_bytes(path.read_bytes()[:-100])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    assert arrived_exposures(site, [ONE]) == set()
    now += wait_s - 1.0
    assert arrived_exposures(site, [ONE]) == set()
    path.write_bytes(path.read_bytes()[:-2880])  # another size: the waiting begins again
    assert arrived_exposures(site, [ONE]) == set()
    now += 2.0
    assert arrived_exposures(site, [ONE]) == set()
    now += OLD_S + 1.0
    assert arrived_exposures(site, [ONE]) == {ONE.expnum}
    listed = [SimpleNamespace(exposure=who) for who in (ONE, ExposureId(5, "i", NIGHT))]
    write_frame(site.raw / "b.fits.fz", 5)
    assert exposures_at_hand(SimpleNamespace(listed=lambda: listed), site) == ([ONE.expnum, 5], [ONE.expnum])
    now -= 40 * 86400  # the clock is set back
    assert arrived_exposures(site, [ONE]) == {ONE.expnum}


def test_a_file_that_is_replaced_is_read_again(site):
    path = write_frame(site.raw / "a.fits.fz", ONE.expnum)
    find_raw(site, ONE)
    write_frame(path, 1241699, shape=(40, 40))
    with pytest.raises(InputError, match="missing"):
        find_raw(site, ONE)
    assert find_raw(site, ExposureId(1241699, "i", NIGHT)).path == path


def test_a_copy_changes_nothing_and_another_exposure_of_the_number_is_refused(site, tmp_path):
    path = write_frame(site.raw / "b.fits.fz", ONE.expnum)
    first = find_raw(site, ONE)
    shutil.copy(path, site.raw / "a.fits.fz")
    raw_files(site)
    assert find_raw(site, ONE) == first, "the one that was there first stays"
    path.unlink()
    assert find_raw(site, ONE).path == site.raw / "a.fits.fz"
    write_frame(site.raw / "c.fits.fz", ONE.expnum, mjd=60211.06)
    raw_files(site)
    with pytest.raises(InputError, match=r"exposure 1241613: two raw files hold different.*a\.fits.*c\.fits"):
        find_raw(site, ONE)
    assert arrived_exposures(site, [ONE]) == set()
    assert list(read_raw_files(site).exposures()) == []


def test_the_copy_with_more_ccds_is_used(site):
    write_frame(site.raw / "a.fits.fz", ONE.expnum, ccds=(3,))
    write_frame(site.raw / "b.fits.fz", ONE.expnum, ccds=(3, 25, 61))
    assert find_raw(site, ONE).path.name == "b.fits.fz"


def test_files_outside_of_the_site_are_found_and_the_site_may_move(site, tmp_path):
    path = write_frame(tmp_path / "archive/c4d_230924_011200_ori.fits.fz", ONE.expnum)
    write_frame(site.raw / "here.fits.fz", 1241614)
    index_files(site, [path])
    raw_files(site)
    moved = Site.at(tmp_path / "moved")
    site.root.rename(moved.root)
    assert find_raw(moved, ONE).path == path
    assert find_raw(moved, ExposureId(1241614, "i", NIGHT)).path == moved.raw / "here.fits.fz"


def test_calibrations_of_a_night_are_found_wherever_they_lie(site, tmp_path):
    for n in range(3):
        write_frame(tmp_path / f"c4d_230923_22000{n}_zri.fits.fz", 1241500 + n, OBSTYPE="zero", EXPTIME=0.0)
    shutil.copy(tmp_path / "c4d_230923_220000_zri.fits.fz", tmp_path / "again.fits.fz")
    index_files(site, sorted(tmp_path.glob("*.fz")))
    found = raw_of_kind(site, NIGHT, ("zero",))
    assert [raw.exposure.expnum for raw in found] == [1241500, 1241501, 1241502], "each once"
    assert raw_of_kind(site, NIGHT, ("dome flat",)) == []


def test_a_damaged_index_is_refused_by_name(site):
    write_frame(site.raw / "a.fits.fz", ONE.expnum)
    raw_files(site)
    path = site.state / INDEX
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"index of raw files damaged.*{INDEX}.*add-raw"):
        find_raw(site, ONE)
    path.unlink()
    assert find_raw(site, ONE).path.name == "a.fits.fz"


def test_who_may_only_read_is_answered(site, monkeypatch):
    write_frame(site.raw / "a.fits.fz", ONE.expnum)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(raw_index, "_write", refuse)
    assert list(raw_files(site).exposures()) == [ONE.expnum]


def test_an_exposure_from_a_gzipped_file_has_the_pixels_of_the_plain_one(site, tmp_path):
    import gzip

    plain = write_frame(tmp_path / "a.fits", ONE.expnum, compressed=False)
    (site.raw).mkdir(parents=True)
    (site.raw / "a.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
    raw = find_raw(site, ONE)
    found = read_raw_ccd(raw.path, raw.extension(25), ONE.expnum).pixels
    assert np.array_equal(found, read_raw_ccd(plain, raw.extension(25), ONE.expnum).pixels)
    (site.raw / "a.fits.gz").unlink()
    with pytest.raises(InputError, match="missing"):
        find_raw(site, ONE)
