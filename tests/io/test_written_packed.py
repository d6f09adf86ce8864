"""Packed images: the pixels of plain ones for astropy and us, and damage that is noticed."""

import fitsio
import numpy as np
import pytest
from astropy.io import fits

from imaging.errors import StorageError
from imaging.io.images import TILE_ROWS, read_cutout, read_header, read_planes, write_planes
from imaging.io.packed import is_packed, write_packed
from imaging.quantise import IMAGE_STEPS, image_steps, rounded, sky_step

SHAPE = (4 * TILE_ROWS + 7, 203)  # the last tile and the last block are not full


@pytest.fixture(params=[0, -1], ids=["mask", "mask with the sign bit"])
def written(request, tmp_path):
    rng = np.random.default_rng(5)
    weight = (50.0 * rng.normal(1.0, 0.01, SHAPE)) ** -2.0
    mask = np.where(rng.random(SHAPE) < 0.05, rng.choice([1, 256, 16384], SHAPE), 0)
    mask[3] = request.param  # PLIO has no negative values; such a mask is compressed with RICE
    planes = {
        "SCI": rng.normal(0, 50, SHAPE).astype(np.float32),
        "MSK": mask.astype(np.int16),
        "WGT": weight.astype(np.float32),
        "AT": np.sort(rng.integers(0, 9999, 3000)).astype(np.int32),
        "STARS": rng.normal(0, 1000, (30, 2)),
    }
    header = {"EXPNUM": 1300001, "BAND": "i", "CRVAL1": 30.0, "CTYPE1": "RA---TPV", "OBJECT": "a 'name' / more"}
    steps = image_steps(planes["WGT"])
    for name, pack in (("plain", False), ("packed", True)):
        write_planes(tmp_path / name, planes, header, pack=pack, steps=steps, comments=["one"], history=["two"])
    return tmp_path / "plain", tmp_path / "packed", steps


def test_a_packed_image_has_the_pixels_and_cards_of_a_plain_one(written):
    plain, packed, steps = written
    names = ("SCI", "MSK", "WGT", "AT", "STARS")
    (before, header), (after, header_after) = read_planes(plain, names), read_planes(packed, names)
    assert (is_packed(plain), is_packed(packed)) == (False, True)
    with fits.open(packed, checksum=True) as hdus:
        hdus.verify("exception")
        assert str(hdus["SCI"].header["HISTORY"]).strip() == "two"
        for name in names:
            kind = before[name].dtype
            assert after[name].dtype == kind
            assert np.array_equal(after[name], before[name])
            assert np.array_equal(hdus[name].data.astype(kind), before[name])
            assert np.array_equal(fitsio.read(str(packed), ext=name).astype(kind), before[name])
    own = ("CHECKSUM", "DATASUM", "SIMPLE", "EXTEND", "XTENSION", "BITPIX")
    assert {k: header_after.get(k) for k in header if k not in own} == {k: header[k] for k in header if k not in own}
    assert header_after["QUANTUM"] == steps["SCI"]
    assert read_header(packed)["NAXIS2"] == SHAPE[0]


@pytest.mark.parametrize("y", [slice(0, 1), slice(10, 40), slice(60, 71), slice(15, 17)])
def test_a_rectangle_is_read_as_from_a_plain_image(written, y):
    plain, packed, _ = written
    for name in ("SCI", "MSK", "WGT"):
        assert np.array_equal(read_cutout(packed, name, y, slice(7, 90)), read_cutout(plain, name, y, slice(7, 90)))


def test_the_same_image_gives_the_same_bytes_however_it_was_packed(written):
    plain, packed, _ = written
    write_packed(plain, packed.with_name("later"))
    assert packed.with_name("later").read_bytes() == packed.read_bytes()


def test_images_that_earlier_versions_packed_are_read(written, tmp_path):
    """They have tiles of one row, and masks in the same tiles of 64 rows."""
    plain, _, steps = written
    before, _ = read_planes(plain)
    with fitsio.FITS(str(tmp_path / "old"), "rw") as file:
        file.write(None)
        for name, unit in (("SCI", steps["SCI"]), ("WGT", steps["WGT"])):
            file.write(np.rint(before[name] / unit).astype(np.int32), extname=name, compress="RICE")
            file[-1].write_key("BSCALE", unit)
        file.write(before["MSK"], extname="MSK", compress="GZIP", tile_dims=(64, SHAPE[1]))
    after, _ = read_planes(tmp_path / "old")
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_a_changed_byte_is_noticed(written):
    content = bytearray(written[1].read_bytes())
    content[len(content) // 2] ^= 4
    written[1].write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        read_planes(written[1], ("SCI", "MSK", "WGT", "AT", "STARS"))


def test_a_detrended_image_changes_by_a_thousandth_of_the_noise_of_its_darkest_part():
    sky = np.array([[900.0, np.nan], [400.0, 2500.0]], np.float32)
    step = sky_step(sky, 7.0)
    noise = np.hypot(20.0, 7.0)  # Poisson noise of 400 electrons, and read noise
    assert step == pytest.approx(noise / IMAGE_STEPS, rel=1 / 8)
    assert step <= noise / IMAGE_STEPS
    plane = np.random.default_rng(1).normal(400, noise, (300, 300)).astype(np.float32)
    assert (rounded(plane, step) - plane).std() < 1e-3 * noise
    assert sky_step(np.full((2, 2), np.nan, np.float32), 7.0) == pytest.approx(7.0 / IMAGE_STEPS, rel=1 / 8)
