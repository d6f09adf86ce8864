"""What the files of other pipelines say: gain, zero point, masks, weights, extensions."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from imaging.bits import MaskBit
from imaging.detector.distortion import seed_wcs
from imaging.errors import InputError
from imaging.foreign.mask_planes import mask_of_codes
from imaging.io.calibrated import Plane, Stated, read_image
from imaging.io.images import write_planes

SHAPE = (40, 30)
WCS = seed_wcs(10, 150.0, -20.0)


def image(seed=1):
    return np.random.default_rng(seed).normal(100.0, 5.0, SHAPE).astype(np.float32)


def write(path, *planes, **keys):
    """Write (name, array) extensions behind an empty primary HDU, with coordinates."""
    header = fits.Header(WCS.to_header() | keys)
    hdus = [fits.ImageHDU(array, header, name=name) for name, array in planes]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)
    return path


@pytest.mark.parametrize(
    ("keys", "zeropoint"),
    [
        ({"MAGZERO": 30.0, "ZP": 25.0}, 30.0),
        ({"MAGZPT0": 28.5}, 28.5),
        ({"ZP": "none"}, None),
        ({}, None),
    ],
)
def test_zero_point_and_saturation_are_taken_where_they_make_sense(tmp_path, keys, zeropoint):
    loaded = read_image(write(tmp_path / "a.fits", ("IM", image()), **keys))
    assert loaded.zeropoint_mag == zeropoint and loaded.saturation == np.inf and loaded.weight is None


def test_codes_of_the_community_pipeline_become_bits_beside_their_image(tmp_path):
    codes = np.zeros(SHAPE, np.int32)
    codes[0, :10] = range(10)
    meaning = [0, "BPM", "BPM", "SATURATE", "TRAIL", "CRAY", "BPM", "SUSPECT", "STREAK", "BPM"]
    bits = [int(MaskBit[word]) if word else 0 for word in meaning]
    assert mask_of_codes(codes)[0, :10].tolist() == bits and not mask_of_codes(codes)[1:].any()
    first, second, weight = image(1), image(2), np.full(SHAPE, 0.04, np.float32)
    path = write(tmp_path / "c4d_1_ooi_i_v1.fits", ("N1", first), ("N2", second))
    write(tmp_path / "c4d_1_ood_i_v1.fits", ("N1", codes * 0), ("N2", codes))
    alone = read_image(path, extension="N2")
    assert alone.weight is None and not alone.mask.any()  # one of the two files is not enough
    write(tmp_path / "c4d_1_oow_i_v1.fits", ("N1", weight * 2), ("N2", weight))
    for extension, mask in (("N2", bits), ("2", bits), (None, [0] * 10), ("N1", [0] * 10)):
        loaded = read_image(path, extension=extension)
        assert loaded.mask[0, :10].tolist() == mask, extension
        assert np.array_equal(loaded.science, second if mask is bits else first)
        assert loaded.weight[3, 3] == pytest.approx(0.04 if mask is bits else 0.08)


@pytest.mark.parametrize(
    ("name", "power"), [("ERR", 2), ("RMS", 2), ("VAR", 1), ("variance", 1), ("WHT", -1), ("ivar", -1)]
)
def test_errors_and_variances_become_inverse_variances_and_zero_stays_without_weight(tmp_path, name, power):
    plane = np.full(SHAPE, 4.0, np.float32)
    plane[0, 0] = 0.0
    loaded = read_image(write(tmp_path / "a.fits", ("IM", image()), (name, plane)))
    assert loaded.weight[0, 0] == 0.0 and loaded.weight[1, 1] == pytest.approx(4.0**-power)
    assert loaded.weight.dtype == np.float32


def test_pixels_that_are_not_numbers_are_bad_and_integers_are_scaled(tmp_path):
    science = image()
    science[2, 3], science[4, 5] = np.nan, np.inf
    loaded = read_image(write(tmp_path / "a.fits", ("IM", science)))
    assert np.argwhere(loaded.mask == int(MaskBit.BPM)).tolist() == [[2, 3], [4, 5]]
    counts = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE) + 40000
    fits.HDUList([fits.PrimaryHDU(counts, fits.Header(WCS.to_header()))]).writeto(tmp_path / "b.fits.gz")
    packed = fits.CompImageHDU(counts.astype(np.int32), fits.Header(WCS.to_header()))
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "b.fits.fz")
    for name in ("b.fits.gz", "b.fits.fz"):
        assert np.array_equal(read_image(tmp_path / name).science, counts.astype(np.float32)), name


def test_an_image_of_this_project_keeps_its_bits_and_a_foreign_mask_only_says_bad(tmp_path):
    bits = np.zeros(SHAPE, np.int16)
    bits[1, 1], bits[2, 2] = MaskBit.STAR, MaskBit.CRAY | MaskBit.SUSPECT
    planes = {"SCI": image(), "MSK": bits, "WGT": np.ones(SHAPE, np.float32)}
    write_planes(tmp_path / "own.fits", planes, WCS.to_header() | {"GAINA": 4.0, "MAGZERO": 31.0})
    own = read_image(tmp_path / "own.fits")
    assert own.is_own_product and np.array_equal(own.mask, bits) and (own.gain, own.label) == (1.0, "own.fits")
    path = write(tmp_path / "a.fits", ("SCI", image()), ("MSK", bits))
    with pytest.raises(InputError, match="no known meaning"):
        read_image(path)
    other = read_image(path, stated=Stated(mask_bits=0))
    assert not other.is_own_product and other.mask[2, 2] == other.mask[1, 1] == int(MaskBit.BPM)
    given = read_image(tmp_path / "own.fits", mask=Plane(tmp_path / "a.fits", "MSK"), stated=Stated(mask_bits=0))
    assert given.mask[1, 1] == int(MaskBit.BPM)
    coordinates = [own.wcs.pixel_to_sky(10.0, 20.0), WCS.pixel_to_sky(10.0, 20.0)]
    assert np.ravel(coordinates[0]) == pytest.approx(np.ravel(coordinates[1]), abs=1e-10)


@pytest.mark.parametrize(
    ("text", "plane"),
    [
        ("a.fits", Plane(Path("a.fits"))),
        ("dir/a.fits[N4]", Plane(Path("dir/a.fits"), "N4")),
        ("[3]", Plane(Path("beside.fits"), "3")),
        ("a[1].fits", Plane(Path("a[1].fits"))),
    ],
)
def test_planes_are_named_as_in_other_tools(text, plane):
    assert Plane.named(text, Plane(Path("beside.fits"), "N9")) == plane
    if text.startswith("["):
        with pytest.raises(InputError, match=r"FILE\[EXTENSION\]"):
            Plane.named(text)
