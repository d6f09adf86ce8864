"""What a raw file holds, from its primary header and sizes: any name, compressed or not, whole or cut."""

import gzip
import shutil
from pathlib import Path

import pytest
from astropy.io import fits

from imaging.errors import InputError
from imaging.io.raw_headers import raw_candidates, read_raw_header, unpack_raw
from tests.raw_frames import write_frame

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "raw_headers"


@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_is_whole_at_its_last_byte_and_at_no_byte_before(tmp_path, compressed):
    path = write_frame(tmp_path / "a.fits", 7, compressed=compressed)
    found = read_raw_header(path)
    assert (found.n_extensions, found.n_stated, found.is_complete) == (2, 2, True)
    content = path.read_bytes()
    with fits.open(path, disable_image_compression=True) as hdus:
        ends = [*[hdu._header_offset for hdu in hdus][1:], len(content)]
    for n, end in enumerate(ends):  # at the end of each extension, and one byte before
        for size in (end, end - 1, end - 2880) if n else (end,):
            path.write_bytes(content[:size])
            cut = read_raw_header(path)
            assert cut.is_complete == (size == end and n > 0), size
            assert cut.n_extensions == (n if size == end else max(n - 1, 0)), size


def test_an_exposure_is_what_its_header_says(tmp_path):
    path = write_frame(tmp_path / "c4d_230924_011200_ori.fits.fz", 1241613, AIRMASS="NaN", PROPID=None)
    e = read_raw_header(path).exposure
    assert (e.expnum, e.night, e.band, e.exptime_s, e.obstype) == (1241613, 20230923, "i", 80.0, "object")
    assert (e.propid, e.object_name) == ("2022B-715089", "desgw field 7"), "the archive's DTPROPID where PROPID lacks"
    assert (e.ra_deg, e.dec_deg) == pytest.approx((197.450417, -23.381389), abs=1e-6)


def test_a_bias_needs_no_pointing_and_a_sky_exposure_does(tmp_path):
    nowhere = dict.fromkeys(("RA", "TELRA", "DEC", "TELDEC"))
    bias = write_frame(
        tmp_path / "bias.fits.fz", 5, OBSTYPE="zero", EXPTIME=0.0, FILTER="solid plate 0.0 0.0", **nowhere
    )
    assert read_raw_header(bias).exposure.obstype == "zero"
    with pytest.raises(InputError, match="lacks the pointing"):
        read_raw_header(write_frame(tmp_path / "sky.fits.fz", 6, **nowhere))


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"PROCTYPE": "InstCal"}, "a processed image .PROCTYPE InstCal"),
        ({"PROCTYPE": "MasterCal", "OBSTYPE": "zero"}, "a processed image"),
        ({"INSTRUME": "mosaic3"}, "no raw file of the camera .INSTRUME mosaic3"),
        ({"EXPNUM": None}, "lacks a keyword .EXPNUM"),
        ({"EXPNUM": -1}, "impossible exposure number .EXPNUM = -1"),
        ({"EXPNUM": 1300001.5}, "impossible exposure number"),
        ({"EXPNUM": 10**12}, "impossible exposure number"),
        ({"EXPNUM": True}, "EXPNUM"),
        ({"EXPTIME": -9999.0}, "impossible exposure time"),
        ({"EXPTIME": 1e9}, "impossible exposure time"),
        ({"EXPTIME": True}, "EXPTIME"),
    ],
)
def test_what_is_no_raw_exposure_is_told(tmp_path, cards, words):
    path = write_frame(tmp_path / "a.fits.fz", 7, **cards)
    with pytest.raises(InputError, match=words):
        read_raw_header(path)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"SIMPLE  =                    T", b"\x1f\x8bjunk"])
def test_what_is_no_fits_file_is_told(tmp_path, content):
    (tmp_path / "a.fits").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.fits"):
        read_raw_header(tmp_path / "a.fits")


def test_a_gzipped_file_is_known_and_unpacked_byte_for_byte(tmp_path):
    plain = write_frame(tmp_path / "a.fits", 9, compressed=False)
    packed = tmp_path / "a.fits.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_raw_header(packed).exposure == read_raw_header(plain).exposure
    assert read_raw_header(packed).is_complete
    unpack_raw(packed, tmp_path / "b.fits")
    assert (tmp_path / "b.fits").read_bytes() == plain.read_bytes()
    packed.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(InputError, match="unreadable"):
        unpack_raw(packed, tmp_path / "c.fits")
    assert not (tmp_path / "c.fits").exists()


def test_folders_are_searched_and_files_in_the_making_are_left_out(tmp_path):
    plain = write_frame(tmp_path / "a.fits", 9)
    for name in (
        "n1/b.FITS.FZ",
        "n1/deep.er/c.fits.gz",
        "n1/.d.fits.fz.Ab3",
        ".hidden/e.fits",
        "notes.txt",
        "f.fits.part",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(plain, tmp_path / name)
    found = [path.relative_to(tmp_path).as_posix() for path in raw_candidates(tmp_path)]
    assert found == ["a.fits", "n1/b.FITS.FZ", "n1/deep.er/c.fits.gz"]


def real_header(name: str) -> fits.Header:
    """Return the primary part of a real header, from its list of (key, type, value, comment)."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor(
        "lsst.daf.base.PropertyList", lambda loader, node: loader.construct_sequence(node, deep=True)
    )
    header = fits.Header()
    for row in yaml.load((REAL / name).read_text(), Loader):
        if row[0] == "XTENSION":
            break
        if row[0] not in ("SIMPLE", "BITPIX", "NAXIS", "COMMENT", "HISTORY") and not isinstance(row[2], list):
            header[row[0] if len(row[0]) < 9 else f"HIERARCH {row[0]}"] = row[2]
    return header


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("fitsheader-decam-0160496.yaml", (160496, 20121211, "zero", "Y", 0.0, "2012B-0416")),
        ("fitsheader-decam.yaml", (229388, 20130831, "object", "z", 200.0, "2012B-0001")),
    ],
)
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real headers")
@pytest.mark.optional
def test_real_headers_are_read(tmp_path, name, wanted):
    pytest.importorskip("yaml")
    path = tmp_path / "raw.fits"
    header = real_header(name)
    fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU()]).writeto(path)
    found = read_raw_header(path)
    e = found.exposure
    assert (e.expnum, e.night, e.obstype, e.band, e.exptime_s, e.propid) == wanted
    assert found.n_stated == header["NEXTEND"]
