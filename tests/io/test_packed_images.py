"""Images that are compressed when a night is tidied: the same pixels in fewer bytes."""

import fitsio
import numpy as np
import pytest
from astropy.io import fits

from imaging.errors import StorageError
from imaging.io.images import read_cutout, read_header, read_planes, write_planes
from imaging.io.packed import write_packed
from imaging.quantise import DIFFERENCE_STEPS, IMAGE_STEPS, WEIGHT_STEP, flux_step, image_step, rounded, weight_step

SIGMA = 57.0
SHAPE = (800, 600)


@pytest.fixture(scope="module")
def planes() -> dict[str, np.ndarray]:
    """Return a sky with stars of all brightnesses, a mask, and weights with the structure of a flat field."""
    rng = np.random.default_rng(18)
    y, x = np.indices(SHAPE)
    sky = rng.normal(0.0, SIGMA, SHAPE)
    for flux in np.geomspace(3e3, 3e6, 40):
        cy, cx = rng.uniform(20, SHAPE[0] - 20), rng.uniform(20, SHAPE[1] - 20)
        sky += flux / (2 * np.pi * 4) * np.exp(-0.5 * ((x - cx) ** 2 + (y - cy) ** 2) / 4)
    weight = (SIGMA * rng.normal(1.0, 0.005, SHAPE)) ** -2.0
    mask = np.where(rng.random(SHAPE) < 0.02, 256, 0).astype(np.int16)
    sky[:, 100:103] = 0.0
    weight[:, 100:103] = 0.0
    weight[5, 5] = 1e-9
    return {"SCI": sky.astype(np.float32), "MSK": mask, "WGT": weight.astype(np.float32)}


HEADER = {"EXPNUM": 1300001, "BAND": "i", "GAIN": 1.0, "CRVAL1": 30.0, "CTYPE1": "RA---TPV"}


@pytest.fixture
def files(tmp_path, planes):
    steps = {"SCI": image_step(planes["WGT"], IMAGE_STEPS), "WGT": weight_step(planes["WGT"], WEIGHT_STEP)}
    write_planes(tmp_path / "plain.fits", planes, HEADER, steps=steps, comments=["one"], history=["two"])
    write_packed(tmp_path / "plain.fits", tmp_path / "packed.fits")
    return tmp_path / "plain.fits", tmp_path / "packed.fits"


def test_compressed_pixels_are_the_same_to_every_reader(files):
    plain, packed = files
    before, header = read_planes(plain)
    after, header_after = read_planes(packed)
    for name, plane in before.items():
        assert after[name].dtype == plane.dtype
        assert np.array_equal(after[name], plane)
        assert np.array_equal(fitsio.read(str(packed), ext=name).astype(plane.dtype), plane)
        assert np.array_equal(fits.getdata(packed, name).astype(plane.dtype), plane)
        part = (slice(700, 760), slice(90, 140))
        assert np.array_equal(read_cutout(packed, name, *part), plane[part])
    same = {key: header[key] for key in header if key not in ("CHECKSUM", "DATASUM", "BITPIX", "SIMPLE", "EXTEND")}
    assert {key: header_after.get(key) for key in same} == same
    assert {key: read_header(packed)[key] for key in ("NAXIS", "NAXIS1", "NAXIS2")} == {
        "NAXIS": 2,
        "NAXIS1": SHAPE[1],
        "NAXIS2": SHAPE[0],
    }
    with fits.open(packed, checksum=True) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus[1:]] == ["SCI", "MSK", "WGT"]
        assert "two" in str(hdus["SCI"].header["HISTORY"])


def test_an_image_takes_a_quarter_of_its_bytes(files):
    plain, packed = files
    assert packed.stat().st_size < 0.25 * plain.stat().st_size


def test_the_noise_and_the_fluxes_of_a_final_image_change_by_less_than_a_thousandth_of_the_noise(files, planes):
    kept, _ = read_planes(files[1])
    change = (kept["SCI"] - planes["SCI"]).astype(float)
    assert change.std() < 0.001 * SIGMA
    assert abs(change.mean()) < 1e-5 * SIGMA
    blank = planes["WGT"] > 0
    blank &= np.abs(planes["SCI"]) < 4 * SIGMA
    assert kept["SCI"][blank].std(dtype=float) == pytest.approx(planes["SCI"][blank].std(dtype=float), rel=1e-5)
    side = 8  # fluxes in squares of 8 pixels, whose noise is 8 sigma
    sums = change.reshape(SHAPE[0] // side, side, SHAPE[1] // side, side).sum(axis=(1, 3))
    assert sums.std() < 0.001 * side * SIGMA
    used = planes["WGT"] > 1e-6
    errors = kept["WGT"][used] ** -0.5 / planes["WGT"][used] ** -0.5
    assert np.abs(errors - 1.0).max() < 0.001


def test_the_noise_of_a_difference_grows_by_less_than_a_thousandth(planes):
    step = image_step(planes["WGT"], DIFFERENCE_STEPS)
    change = (rounded(planes["SCI"], step) - planes["SCI"]).astype(float)
    assert np.hypot(1.0, change.std() / SIGMA) < 1.001
    assert abs(change.mean()) < 3 * step / np.sqrt(12 * change.size)


def test_pixels_without_noise_stay_what_they_are(files, planes):
    kept, _ = read_planes(files[1])
    assert (kept["SCI"][:, 100:103] == 0.0).all()
    assert np.array_equal(kept["WGT"] == 0.0, planes["WGT"] == 0.0)
    assert kept["WGT"][5, 5] > 0.0, "a pixel with little weight is no bad pixel"
    assert np.array_equal(kept["MSK"], planes["MSK"])


@pytest.mark.parametrize("value", [np.nan, 12.3, -5e7])
def test_planes_that_are_no_multiples_are_compressed_without_loss(tmp_path, value):
    plane = np.random.default_rng(2).normal(0, 20, (128, 128)).astype(np.float32)
    plane[3:60, 7] = value
    for number, steps in enumerate(({}, {"SCI": 0.5})):
        write_planes(
            tmp_path / f"{number}", {"SCI": plane, "EVEN": np.full((128, 128), 0.1, np.float32)}, {}, steps=steps
        )
        write_packed(tmp_path / f"{number}", tmp_path / f"p{number}")
        before, after = (read_planes(tmp_path / name, ["SCI", "EVEN"])[0] for name in (f"{number}", f"p{number}"))
        assert all(np.array_equal(after[name], before[name], equal_nan=True) for name in before)
        assert (before["EVEN"] == np.float32(0.1)).all()
        if not np.isfinite(value):
            assert np.array_equal(after["SCI"][3:60, 7], plane[3:60, 7], equal_nan=True)


def test_lists_and_tables_of_an_image_are_not_rounded(tmp_path):
    rng = np.random.default_rng(4)
    planes = {
        "SCI": rng.normal(0, 20, (64, 64)).astype(np.float32),
        "AT": np.sort(rng.integers(0, 4096, 3000)).astype(np.int32),
        "LIST": rng.normal(0, 1, 3000).astype(np.float32),
        "STARS": rng.normal(0, 1000, (30, 2)),
    }
    write_planes(tmp_path / "a", planes, {}, steps={"SCI": 0.25})
    write_packed(tmp_path / "a", tmp_path / "b")
    found, _ = read_planes(tmp_path / "b", planes)
    for name in ("AT", "LIST", "STARS"):
        assert found[name].dtype == planes[name].dtype
        assert np.array_equal(found[name], planes[name])


def test_the_first_plane_left_takes_the_cards_of_a_dropped_one(tmp_path):
    plane = np.ones((16, 16), np.float32)
    write_planes(tmp_path / "a.fits", {"SCI": plane, "FLX": 2 * plane}, {"NTMPL": 3, "BAND": "i"}, history=["stacked"])
    write_packed(tmp_path / "a.fits", tmp_path / "b.fits", drop=("SCI",))
    header = fits.getheader(tmp_path / "b.fits", "FLX")
    assert (header["NTMPL"], header["BAND"]) == (3, "i")
    assert "stacked" in str(header["HISTORY"])
    assert header.get("BUNIT") == fits.getheader(tmp_path / "a.fits", "FLX").get("BUNIT")


def test_rounding_leaves_no_negative_zero():
    """A scaled integer has none, so the compressed copy would differ in its bytes."""
    plane = rounded(np.array([[-0.3, 0.2, -1.4, np.nan]], np.float32), 1.0)
    assert not np.signbit(plane[0, :2]).any()
    np.testing.assert_array_equal(plane, np.array([[0.0, 0.0, -1.0, np.nan]], np.float32))


def test_an_image_without_weights_has_no_step():
    nothing = np.zeros((64, 64), np.float32)
    assert image_step(nothing, 16.0) is None
    assert weight_step(nothing, 0.01) is None
    assert flux_step(nothing, 16.0) is None
    assert rounded(nothing, None) is nothing


def test_a_step_follows_the_noise_where_it_is_lowest():
    weight = np.full((400, 400), 10.0**-2, np.float32)
    weight[:, :200] = 20.0**-2
    assert 10.0 / 300 * 0.88 < image_step(weight, 300.0) <= 10.0 / 300
    flux = np.random.default_rng(1).normal(0, 250, (700, 700)).astype(np.float32)
    flux[:, :50] = 0.0
    assert flux_step(flux, 16.0) == pytest.approx(250.0 / 16, rel=0.13)


def test_a_damaged_image_is_refused_and_stays(files, tmp_path):
    plain, _ = files
    content = bytearray(plain.read_bytes())
    content[len(content) // 2] ^= 0x40
    plain.write_bytes(content)
    with pytest.raises(StorageError, match=r"plain\.fits"):
        write_packed(plain, tmp_path / "new.fits")
    assert plain.read_bytes() == bytes(content)
