"""The images of CCDs are found in files of other pipelines, with mask and weight beside them."""

import numpy as np
import pytest
from astropy.io import fits

from imaging.bits import MaskBit
from imaging.errors import InputError
from imaging.io.calibrated import NOTHING_STATED
from imaging.io.foreign_images import ccd_planes

COORDINATES = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": -30.0, "CRPIX1": 20.0}
COORDINATES |= {"CRPIX2": 20.0, "CD1_1": 0.0, "CD1_2": 7.3e-5, "CD2_1": -7.3e-5, "CD2_2": 0.0}


def write(path, *names, ccds=(), **cards):
    hdus = [fits.PrimaryHDU()]
    for number, name in enumerate(names):
        header = fits.Header(cards | {"CCDNUM": ccds[number] if ccds else 25 + number})
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


@pytest.mark.parametrize("packed", [True, False])
def test_the_planes_of_a_calexp_of_before_2018_have_types_for_names(tmp_path, packed):
    hdus = [fits.PrimaryHDU(header=fits.Header({"EXTNAME": "S29"}))]
    noise = np.random.default_rng(1).normal(0.0, 2.0, (40, 40)).astype(np.float32)
    for kind, value in (("IMAGE", 40.0), ("MASK", 2), ("VARIANCE", 4.0)):
        pixels = np.full((40, 40), value, np.int32 if kind == "MASK" else np.float32)
        pixels = pixels + noise if kind == "IMAGE" else pixels
        header = fits.Header(COORDINATES | {"EXTTYPE": kind, "MP_BAD": 0, "MP_SAT": 1, "BUNIT": "adu", "GAIN": 4.0})
        new = fits.CompImageHDU(pixels, header, compression_type="GZIP_2", quantize_level=0.0)
        hdus.append(new if packed else fits.ImageHDU(pixels, header))
    path = tmp_path / "calexp-0630780_33.fits"
    fits.HDUList(hdus).writeto(path)
    (planes,) = ccd_planes([path])
    loaded = planes.read(NOTHING_STATED)
    np.testing.assert_array_equal(loaded.science, 40.0 + noise)
    assert np.unique(loaded.mask).tolist() == [MaskBit.SATURATE]
    assert np.unique(loaded.weight).tolist() == [0.25]


@pytest.mark.parametrize(
    ("names", "planes", "ends"),
    [
        (("S1", "S2"), ("S2", "S1"), (".fz", ".fz")),
        (("S1", "S2"), (None, None), (".fz", "")),
        ((None, None), (None, None), ("", ".fz")),
        ((None, None), ("S2", "S1"), (".fz", ".gz")),
    ],
    ids=["other order", "planes without names", "no names", "image without names"],
)
def test_mask_and_weight_are_those_of_the_ccd_under_any_name(tmp_path, names, planes, ends):
    image = write(tmp_path / f"c4d_170316_062107_ooi_z_v1.fits{ends[0]}", *names, ccds=(25, 26))
    mask, weight = (
        write(tmp_path / f"c4d_170316_062107_oo{kind}_z_v1.fits{ends[1]}", *planes, ccds=(26, 25)) for kind in "dw"
    )
    for ccd, found in zip((25, 26), ccd_planes([image]), strict=True):
        for plane, path in ((found.image, image), (found.mask, mask), (found.weight, weight)):
            extension = plane.extension
            header = fits.getheader(path, int(extension) if extension.isdigit() else extension)
            assert (plane.path, header["CCDNUM"]) == (path, ccd)


def test_the_folder_of_a_brick_gives_its_images_alone(tmp_path):
    stem = "legacysurvey-1898m100"
    cards = {"BRICK": "1898m100", "IMTYPE": "image"}
    for kind in (
        "image-g",
        "image-i",
        "invvar-g",
        "invvar-i",
        "maskbits",
        "model-g",
        "nexp-g",
        "image-W1",
        "invvar-W1",
    ):
        hdu = fits.CompImageHDU(np.ones((8, 8), np.float32), fits.Header(cards))
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / f"{stem}-{kind}.fits.fz")
    table = fits.BinTableHDU.from_columns([fits.Column("expnum", "J", array=[1])])
    table.writeto(tmp_path / f"{stem}-ccds.fits")
    table.writeto(tmp_path / "src_DECam_412037_S22.fits")
    found = ccd_planes([tmp_path])
    assert [planes.image.path.name for planes in found] == [f"{stem}-image-{band}.fits.fz" for band in "gi"]
    assert [planes.weight.path.name for planes in found] == [f"{stem}-invvar-{band}.fits.fz" for band in "gi"]
    assert {planes.mask.path.name for planes in found} == {f"{stem}-maskbits.fits.fz"}
    with pytest.raises(InputError, match="no image of a CCD in the file"):
        ccd_planes([tmp_path / f"{stem}-ccds.fits"])


def test_planes_of_other_ccds_and_files_beside_images_are_not_taken(tmp_path, triple):
    (tmp_path / f"{triple[0].name}.md5").write_text("d41d8cd98f00b204e9800998ecf8427e\n")
    (tmp_path / f".{triple[0].name}.part").write_bytes(b"x")
    assert len(ccd_planes([tmp_path])) == 3
    triple[1].unlink()
    write(triple[1], "S1", "S2", "S4", ccds=(25, 26, 28))
    with pytest.raises(InputError, match=r"not those of the image .0 planes of CCD 27 in .*ood"):
        ccd_planes(triple[:1])


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
