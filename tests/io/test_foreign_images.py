"""The images of CCDs are found in files of other pipelines, with mask and weight beside them."""

import numpy as np
import pytest
from astropy.io import fits

from imaging.errors import InputError
from imaging.io.foreign_images import ccd_planes


def write(path, *names, **cards):
    hdus = [fits.PrimaryHDU()]
    for number, name in enumerate(names):
        header = fits.Header(cards | {"CCDNUM": 25 + number})
        hdus.append(fits.CompImageHDU(np.ones((8, 8), np.float32), header, name=name))
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.fixture
def triple(tmp_path):
    names = [f"c4d_170316_062107_oo{kind}_z_gw1.fits.fz" for kind in "idw"]
    return [write(tmp_path / name, "S1", "S2", "S3") for name in names]


def test_every_extension_is_an_image_with_its_mask_and_weight(triple):
    found = ccd_planes(triple)  # masks and weights may be named too, as by a pattern of the shell
    assert [planes.image.extension for planes in found] == ["S1", "S2", "S3"]
    for planes in found:
        assert planes.mask.path == triple[1]
        assert planes.weight.path == triple[2]
        assert planes.mask.extension == planes.weight.extension == planes.image.extension


def test_the_planes_of_des_and_lsst_are_one_image(tmp_path):
    des = write(tmp_path / "D00630780_z_c33_r4000p01_immasked.fits.fz", "SCI", "MSK", "WGT")
    lsst = write(tmp_path / "calexp-0630780_33.fits", "IMAGE", "MASK", "VARIANCE", "ARCHIVE_INDEX")
    found = ccd_planes([des, lsst])
    assert [(planes.image.path, planes.image.extension) for planes in found] == [(des, "SCI"), (lsst, "IMAGE")]


def test_without_mask_or_weight_an_image_is_refused(triple):
    triple[2].unlink()
    with pytest.raises(InputError, match="mask or weight"):
        ccd_planes(triple[:1])


def test_files_without_an_image_of_a_ccd_are_refused(tmp_path, triple):
    fits.PrimaryHDU(np.ones((8, 8))).writeto(tmp_path / "stack.fits")
    with pytest.raises(InputError, match="no image of a CCD"):
        ccd_planes([tmp_path / "stack.fits"])
    with pytest.raises(InputError, match="no images given"):
        ccd_planes(triple[1:])
    with pytest.raises(InputError, match="missing or not FITS"):
        ccd_planes([tmp_path / "absent.fits"])
