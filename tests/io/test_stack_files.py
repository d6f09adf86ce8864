"""Stacks on the sky are found in files of surveys, with mask and weight under the survey's names."""

import numpy as np
import pytest
from astropy.io import fits

from imaging.errors import InputError
from imaging.io.foreign_images import ccd_planes

LEGACY = {"BRICK": "1498p017", "IMTYPE": "image"}
PAN_STARRS = {"SKYCELL": "skycell.1405.053", "STK_ID": "54"}
SKYMAPPER = {"TELESCOP": "SkyMapper 1.35m"}
COMMUNITY = {"PROCTYPE": "Stacked", "INSTRUME": "DECam", "PLVER": "V4.8.2"}

CASES = {
    "Legacy Surveys": (
        LEGACY,
        ("legacysurvey-1498p017-image-i.fits.fz", "legacysurvey-1498p017-maskbits.fits.fz"),
        ("legacysurvey-1498p017-invvar-i.fits.fz", 1),
    ),
    "Pan-STARRS": (
        PAN_STARRS,
        ("rings.v3.skycell.1405.053.stk.i.unconv.fits", "rings.v3.skycell.1405.053.stk.i.unconv.mask.fits"),
        ("rings.v3.skycell.1405.053.stk.i.unconv.wt.fits", -1),
    ),
    "SkyMapper": (SKYMAPPER, ("field_i.fits", "field_i.mask.fits"), ("field_i.weight.fits", 1)),
    "Community Pipeline": (
        COMMUNITY,
        ("c4d_170316_062107_osi_i_v1.fits.fz", "c4d_170316_062107_osd_i_v1.fits.fz"),
        ("c4d_170316_062107_osw_i_v1.fits.fz", 1),
    ),
}


def write(path, cards, *names):
    hdus = [fits.PrimaryHDU()]
    hdus += [fits.CompImageHDU(np.ones((8, 8), np.float32), fits.Header(cards), name=n or None) for n in names or ("",)]
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.mark.parametrize("survey", CASES)
def test_a_stack_has_its_mask_and_weight(tmp_path, survey):
    cards, (image, mask), (weight, power) = CASES[survey]
    paths = [write(tmp_path / name, cards) for name in (image, mask, weight)]
    for given in ([tmp_path], paths):  # masks and weights may be named too
        (found,) = ccd_planes(given)
        assert (found.image.path, found.mask.path, found.weight.path) == tuple(paths)
        assert found.weight.power == power
        assert found.number == 1


@pytest.mark.parametrize("survey", CASES)
@pytest.mark.parametrize("missing", ["mask", "weight"])
def test_without_mask_or_weight_a_stack_is_refused(tmp_path, survey, missing):
    cards, (image, mask), (weight, _) = CASES[survey]
    for name in (image, weight if missing == "mask" else mask):
        write(tmp_path / name, cards)
    with pytest.raises(InputError, match=f"the {missing} of a stack is missing|mask or weight|is missing"):
        ccd_planes([tmp_path / image])


def test_a_stack_of_several_images_is_one_patch_with_numbers(tmp_path):
    for kind in ("osi", "osd", "osw"):
        write(tmp_path / f"c4d_170316_062107_{kind}_i_v1.fits.fz", COMMUNITY, "TILE1", "TILE2")
    found = ccd_planes([tmp_path])
    assert [(planes.image.extension, planes.number) for planes in found] == [("TILE1", 1), ("TILE2", 2)]
    assert [planes.weight.extension for planes in found] == ["TILE1", "TILE2"]


def test_the_planes_of_a_stack_may_be_extensions(tmp_path):
    (found,) = ccd_planes([write(tmp_path / "field.fits", SKYMAPPER, "IMAGE", "MASK", "WEIGHT")])
    assert (found.image.extension, found.mask, found.weight) == ("IMAGE", None, None)


def test_healpix_maps_are_refused_by_name(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("FLUX", "E", array=np.ones(12, np.float32))])
    table.header.update({"PIXTYPE": "HEALPIX", "NSIDE": 1, "ORDERING": "NESTED"})
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "map.fits")
    with pytest.raises(InputError, match="HEALPix"):
        ccd_planes([tmp_path / "map.fits"])
