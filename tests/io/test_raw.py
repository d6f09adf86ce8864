import shutil

import fitsio
import numpy as np
import pytest

from imaging.errors import CcdError, InputError
from imaging.exposure import angle_deg, night_of
from imaging.io.raw import index_raw, read_raw_ccd

PRIMARY = {
    "EXPNUM": 1300001, "FILTER": "i DECam SDSS c0003 7835.0 1470.0", "MJD-OBS": 61270.05, "EXPTIME": 90.0,
    "TELRA": "13:09:48.1", "TELDEC": "-23:22:53.0", "AIRMASS": "NaN", "OBSTYPE": "object",
}  # fmt: skip


@pytest.fixture
def raw(tmp_path):
    """A raw file of three small CCDs in odd order."""
    path = tmp_path / "DECam_01300001.fits.fz"
    rng = np.random.default_rng(3)
    with fitsio.FITS(str(path), "rw") as file:
        file.write(None, header=[{"name": k, "value": v} for k, v in PRIMARY.items()])
        for ccd in (7, 3, 25):
            pixels = rng.integers(1000, 3000, (50, 40)).astype(np.uint16)
            file.write(pixels, header={"CCDNUM": ccd}, extname=f"S{ccd}", compress="RICE")
    return path


def test_extensions_are_found_by_number(raw):
    index = index_raw(raw)
    assert list(index.extensions) == [7, 3, 25]
    assert [e.hdu for e in index.extensions.values()] == [1, 2, 3]
    assert (index.exposure.band, index.exposure.night) == ("i", 20260817)
    assert index.exposure.ra_deg == pytest.approx(197.45042, abs=1e-5)
    assert np.isnan(index.exposure.airmass)
    ccd = read_raw_ccd(raw, index.extensions[3], 1300001)
    assert ccd.pixels.shape == (50, 40)
    assert ccd.header["CCDNUM"] == 3


def test_the_hash_of_an_extension_does_not_depend_on_the_others(raw, tmp_path):
    before = index_raw(raw).extensions
    other = tmp_path / "other.fits.fz"
    shutil.copy(raw, other)
    with fitsio.FITS(str(other), "rw") as file:
        file[2].write_key("OBJECT", "changed")
    after = index_raw(other).extensions
    assert after[7].content_hash == before[7].content_hash
    assert after[3].content_hash != before[3].content_hash


def test_a_truncated_file_loses_only_its_last_ccds(raw):
    raw.write_bytes(raw.read_bytes()[:-3000])
    index = index_raw(raw)
    assert index.extensions[7].problem == index.extensions[3].problem == ""
    with pytest.raises(CcdError, match=r"exposure 1300001, CCD 25, read raw: .*ends inside") as caught:
        read_raw_ccd(raw, index.extensions[25], 1300001)
    assert caught.value.reason == "unreadable_extension"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "missing"), (b"hello world, no FITS here", "not FITS"), (b"SIMPLE  =                    T", "truncated")],
)
def test_unusable_files_are_refused(tmp_path, content, message):
    path = tmp_path / "raw.fits.fz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        index_raw(path)


@pytest.mark.parametrize("key", ["EXPNUM", "FILTER", "MJD-OBS", "EXPTIME", "OBSTYPE"])
def test_a_missing_keyword_is_named(tmp_path, key):
    path = tmp_path / "raw.fits"
    with fitsio.FITS(str(path), "rw") as file:
        file.write(None, header=[{"name": k, "value": v} for k, v in PRIMARY.items() if k != key])
        file.write(np.zeros((4, 4), np.uint16), header={"CCDNUM": 1})
    with pytest.raises(InputError, match=key):
        index_raw(path)


def test_real_raw_exposure(real_data):
    index = index_raw(real_data / "raw_decam_cutout" / "cutout_c4d_200306_000415_ori.fits.fz")
    assert (index.exposure.expnum, index.exposure.band, index.exposure.night) == (941420, "g", 20200305)
    assert index.exposure.exptime_s == 120
    assert len(index.extensions) == 70


def test_nights_and_angles():
    assert night_of(58914.0) == night_of(58914.45) == 20200305
    assert night_of(58914.6) == 20200306
    assert angle_deg("-00:30:00") == -0.5
    assert angle_deg("12:00:00", hours=True) == 180
    assert angle_deg(12.5) == 12.5
    with pytest.raises(InputError):
        angle_deg("north")
