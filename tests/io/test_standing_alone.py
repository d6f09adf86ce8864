"""Each plane and stamp stands alone: coordinates, unit, legend and checksums, as astropy finds them."""

import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance
from astropy.wcs import WCS

from imaging.bits import MaskBit
from imaging.detector.distortion import seed_wcs
from imaging.difference.stamps import cut_stamp
from imaging.difference.triplet import StampTriplet
from imaging.io.images import read_planes, write_planes
from imaging.io.keywords import is_coordinate
from imaging.io.stamps import StoredStamps, read_stamps, write_stamps
from imaging.wcs.header import stamp_keywords

WCS_27 = seed_wcs(27, 190.0, -30.0)
SHAPE = (300, 200)
RNG = np.random.default_rng(3)
PLANES = {
    "SCI": RNG.normal(0, 20, SHAPE).astype(np.float32),
    "MSK": RNG.integers(0, 4, SHAPE).astype(np.int16),
    "WGT": np.full(SHAPE, 1 / 400, np.float32),
}
EXPOSURE = {"EXPNUM": 1300001, "CCDNUM": 27, "BAND": "i", "BUNIT": "electron"}


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def image(tmp_path, request):
    path = tmp_path / "image.fits"
    header = WCS_27.to_header() | EXPOSURE
    write_planes(path, PLANES | {"AT": np.ones(7, np.int32)}, header, compress=request.param, history=["one", "two"])
    return path


def test_every_plane_of_the_images_shape_has_its_coordinates_and_unit(image):
    x, y = np.array([3.0, 150.0]), np.array([280.0, 2.0])
    expected = np.array(WCS_27.pixel_to_sky(x, y))
    with fits.open(image) as hdus:
        for name, unit in (("SCI", u.electron), ("MSK", u.dimensionless_unscaled), ("WGT", u.electron**-2)):
            header = hdus[name].header
            assert np.abs(np.array(WCS(header).all_pix2world(x, y, 0)) - expected).max() * 3.6e6 < 0.01
            assert u.Unit(header["BUNIT"]) == unit
            assert (header["EXPNUM"], header["CCDNUM"], header["BAND"]) == (1300001, 27, "i")
        assert "CRVAL1" not in hdus["AT"].header
        assert list(hdus["SCI"].header["HISTORY"]) == ["one", "two"]


def test_a_mask_names_its_bits(image):
    with fits.open(image) as hdus:
        header = hdus["MSK"].header
        assert [header[f"MSKBIT{n:02d}"] for n in range(15)] == [bit.name for bit in MaskBit]
        assert header.comments["MSKBIT01"] == "2: above the amplifier's saturation level"
        assert not any(len(str(header.comments[f"MSKBIT{n:02d}"])) > 47 for n in range(15)), "cut off on the card"
        assert "CONTINUE" not in header


def test_ccddata_takes_the_weight_for_an_inverse_variance(tmp_path):
    write_planes(tmp_path / "a.fits", PLANES, WCS_27.to_header() | EXPOSURE)
    image = CCDData.read(tmp_path / "a.fits", hdu="SCI", hdu_mask="MSK", hdu_uncertainty="WGT")
    assert image.unit == u.electron and isinstance(image.uncertainty, InverseVariance)
    added = image.add(image)
    assert np.allclose(added.uncertainty.array, 1 / 800)


def test_checksums_are_right_and_tell_a_changed_pixel(image):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(image, checksum=True, disable_image_compression=True) as hdus:
            assert all({"CHECKSUM", "DATASUM"} <= set(hdu.header) for hdu in hdus)
            assert "20" not in hdus[-1].header.comments["CHECKSUM"], "no date"
    content = bytearray(image.read_bytes())
    content[-2880] ^= 1
    image.write_bytes(content)
    damaged = pytest.warns(UserWarning, match="(Checksum|Datasum) verification failed")
    with damaged, fits.open(image, checksum=True, disable_image_compression=True) as hdus:
        assert hdus[-1].header


@pytest.mark.parametrize("place", [(60.3, 71.8), (2.0, 299.4), (199.0, 0.4)])
def test_a_stamp_has_the_coordinates_of_its_pixels(tmp_path, place):
    x, y = place
    stamp = cut_stamp(PLANES["SCI"], round(x), round(y), 25)
    stored = StoredStamps(13000012700001, StampTriplet(stamp, stamp + 1, stamp + 2), stamp_keywords(WCS_27, x, y, 51))
    write_stamps(tmp_path / "s.fits", [stored], {"EXPNUM": 1300001})
    columns, rows = np.meshgrid([0.0, 25.0, 50.0], [0.0, 25.0, 50.0])
    expected = WCS_27.pixel_to_sky(columns + round(x) - 25, rows + round(y) - 25)
    with fits.open(tmp_path / "s.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["STAMPS", "SEARCH", "TEMPLATE", "DIFFERENCE"]
        for hdu in hdus[1:]:
            ra, dec = WCS(hdu.header).all_pix2world(columns, rows, 0)
            cosine = np.cos(np.radians(dec))
            assert np.hypot((ra - expected[0]) * cosine, dec - expected[1]).max() * 3.6e6 < 1.0
            assert u.Unit(hdu.header["BUNIT"]) == u.electron
            assert (hdu.header["DETID"], hdu.header["EXPNUM"]) == (13000012700001, 1300001)


def test_stamps_survive_writing_and_reading_and_cubes_of_the_last_version_are_read(tmp_path):
    cubes = RNG.normal(size=(3, 4, 51, 51)).astype(np.float32)
    ids = [13000012700000 + k for k in range(4)]
    stamps = [
        StoredStamps(i, StampTriplet(*cubes[:, k]), stamp_keywords(WCS_27, 60.0, 70.0, 51)) for k, i in enumerate(ids)
    ]
    write_stamps(tmp_path / "new.fits", stamps, {"CCDNUM": 27})
    old = dict(zip(("SEARCH", "TEMPLATE", "DIFFERENCE"), cubes, strict=True)) | {"ID": np.array(ids)}
    write_planes(tmp_path / "old.fits", old, {"CCDNUM": 27})
    for name in ("new", "old"):
        found, header = read_stamps(tmp_path / f"{name}.fits")
        assert header["CCDNUM"] == 27 and [stamp.detection_id for stamp in found] == ids
        for k, stamp in enumerate(found):
            assert np.array_equal(np.stack(list(stamp.planes.values())), cubes[:, k])
        assert bool(found[0].coordinates) == (name == "new")
    write_stamps(tmp_path / "none.fits", [], {})
    assert read_stamps(tmp_path / "none.fits")[0] == []


@pytest.mark.parametrize("kind", ["TAN-SIP", "TPV", "TAN"])
def test_the_coordinate_keywords_are_those_that_astropy_writes_and_reads(kind):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"RA---{kind}", f"DEC--{kind}"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (190.0, -30.0), (100.0, 200.0), (-7e-5, 7e-5)
    header = wcs.to_header(relax=True)
    if kind == "TAN-SIP":
        header.update({"A_ORDER": 2, "A_0_2": 1e-7, "B_ORDER": 2, "B_2_0": 1e-7, "AP_ORDER": 0})
    others = {"MJDREF", "DATE-OBS", "MJD-OBS"}
    assert all(is_coordinate(key) for key in header if key not in others)
    assert not any(is_coordinate(key) for key in ("EXPNUM", "CCDNUM", "PVERSION", "CDATE", "BAND", "A_ORDERS"))


def test_planes_of_the_last_version_are_read(tmp_path):
    with fits.HDUList([fits.PrimaryHDU(PLANES["SCI"])]) as hdus:
        hdus[0].header["EXTNAME"] = "SCI"
        hdus += [fits.ImageHDU(PLANES[name], name=name) for name in ("MSK", "WGT")]
        hdus.writeto(tmp_path / "old.fits")
    planes, _ = read_planes(tmp_path / "old.fits")
    assert all(np.array_equal(planes[name], PLANES[name]) for name in PLANES)
