"""Constants that stand for no data, BLANK, and the asinh scale."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from imaging.errors import InputError
from imaging.foreign.no_data import blank_pixels, code_pixels, constant_pixels, dithered_pixels, linear_pixels

SHAPE = (200, 220)


def sky(level=500.0, sigma=20.0, seed=1):
    return np.random.default_rng(seed).normal(level, sigma, SHAPE).astype(np.float32)


PLACES = {
    "corner": np.s_[:60, :60],
    "third": np.s_[:66],
    "columns": np.s_[:, 100:102],
    "edge row": np.s_[:1],
    "small block": np.s_[50:57, 80:87],
}


@pytest.mark.parametrize("level", [500.0, 0.0])
@pytest.mark.parametrize("value", [0.0, -999.0, 1e-30, -1e30, 123.456, -32768.0])
@pytest.mark.parametrize("place", list(PLACES))
def test_exactly_constant_parts_hold_no_data(level, value, place):
    image, expected = sky(level), np.zeros(SHAPE, bool)
    image[PLACES[place]] = value
    expected[PLACES[place]] = True
    no_data, clipped = constant_pixels(image)
    assert np.array_equal(no_data | clipped, expected) and (value > level or not clipped.any())


@pytest.mark.parametrize("value", [0.0, -999.0])
def test_single_pixels_with_the_same_impossible_value_hold_no_data(value):
    image, expected = sky(), np.zeros(SHAPE, bool)
    random = np.random.default_rng(2)
    expected[random.integers(0, SHAPE[0], 40), random.integers(0, SHAPE[1], 40)] = True
    image[expected] = value
    assert np.array_equal(constant_pixels(image)[0], expected)
    subtracted = image - 500.0
    subtracted[expected] = 0.0
    assert np.array_equal(constant_pixels(subtracted)[0], expected)


@pytest.mark.parametrize("sigma", [0.4, 0.7, 1.5, 5.0])
def test_a_sky_of_integers_is_data(sigma):
    """Neighbours are often equal there, and the sky has few values."""
    image = np.rint(sky(100.0, sigma))
    assert constant_pixels(image.astype(np.float32))[0].mean() == 0.0
    image[:, :80] = 0.0
    assert np.array_equal(constant_pixels(image.astype(np.float32))[0], np.broadcast_to(np.arange(220) < 80, SHAPE))


def test_flat_tops_of_stars_are_saturated_and_keep_their_value():
    image = sky()
    image[100:109, 100:109] = 65535.0
    no_data, clipped = constant_pixels(image)
    assert not no_data.any() and clipped.sum() == 81 and clipped[104, 104]


@pytest.mark.parametrize(("place", "level"), [("corner", 0.0), ("corner", 300.0), ("third", 0.0)])
def test_large_parts_far_below_the_sky_hold_no_data(place, level):
    """Overscan, or an amplifier without signal: its noise is that of the readout."""
    image, expected = sky(), np.zeros(SHAPE, bool)
    image[PLACES[place]] = sky(level, 5.0, 2)[PLACES[place]]
    expected[PLACES[place]] = True
    no_data, clipped = constant_pixels(image)
    assert not clipped.any() and no_data[expected].all()
    assert not (no_data & ~binary_dilation(expected, iterations=2)).any()
    image[PLACES[place]] = sky(460.0, 20.0, 2)[PLACES[place]]  # a step of two sigma is sky
    assert not constant_pixels(image)[0].any()


def test_a_small_dark_spot_is_data():
    """As a negative source is, or a star that a template subtracted too much."""
    image = sky()
    image[100:115, 100:115] -= 400.0
    assert not constant_pixels(image)[0].any()


def test_an_image_of_one_value_has_no_data():
    no_data, clipped = constant_pixels(np.zeros(SHAPE, np.float32))
    assert (no_data | clipped).all()
    assert not constant_pixels(np.full(SHAPE, np.nan, np.float32))[0].any()


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ({"BITPIX": 16, "BLANK": -32768}, -32768),
        ({"BITPIX": 16, "BLANK": "-32768"}, -32768),
        ({"BITPIX": 16, "BLANK": -32768, "BZERO": 32768}, 0),
        ({"BITPIX": 16, "BLANK": -32768, "BZERO": 500.0, "BSCALE": 0.25}, 500.0 - 8192.0),
        ({"BITPIX": 8, "ZBITPIX": 16, "BLANK": 0}, 0),
    ],
)
def test_blank_refers_to_the_stored_integers(header, value):
    pixels = np.array([[1.0, value, 3.0]], np.float32)
    assert blank_pixels(pixels, header).tolist() == [[False, True, False]]


def test_blank_means_nothing_in_an_image_of_floats():
    assert blank_pixels(sky(), {"BITPIX": -32, "BLANK": 0}) is None
    assert blank_pixels(sky(), {"BITPIX": 16}) is None
    with pytest.raises(InputError, match="BLANK"):
        blank_pixels(sky(), {"BITPIX": 16, "BLANK": "none"})


@pytest.mark.parametrize(("soften", "offset"), [(150.0, 480.0), (20.0, 0.0), (1e4, -30.0)])
def test_the_asinh_scale_is_undone(soften, offset):
    flux = np.linspace(-1e3, 1e5, 50)
    scaled = 2.5 * np.log10(np.e) * np.arcsinh((flux - offset) / (2 * soften))  # Pan-STARRS
    for keys in (("BSOFTEN", "BOFFSET"), ("bsoften", "Boffset"), ("CELL.BSOFTEN", "CELL.BOFFSET")):
        header = dict(zip(keys, (soften, offset), strict=True))
        assert linear_pixels(scaled, header) == pytest.approx(flux, abs=0.02, rel=1e-6)


@pytest.mark.parametrize(
    "header", [{"BSOFTEN": 1.0}, {"BOFFSET": 0.0}, {"BSOFTEN": "1,5", "BOFFSET": 0.0}, {"BSOFTEN": 0.0, "BOFFSET": 0.0}]
)
def test_half_an_asinh_scale_is_refused(header):
    with pytest.raises(InputError, match="asinh"):
        linear_pixels(sky(), header)


def test_other_pixels_are_left_alone():
    image = sky()
    assert linear_pixels(image, {}) is image


@pytest.mark.parametrize("code", [1e30, -1e30, -1.6375e30, 3.4028235e38, 1e21])
def test_a_code_beyond_any_flux_holds_no_data_wherever_it_stands(code):
    image, expected = sky(), np.zeros(SHAPE, bool)
    expected[(7, 7, 50), (3, 4, 60)] = True
    expected[90:96, 90:96] = True
    image[expected] = code
    assert np.array_equal(code_pixels(image), expected)
    assert not code_pixels(image * np.float32(1e-20)).any()
    assert not code_pixels(sky() * np.float32(1e25)).any()  # a wrong scale is no code


@pytest.mark.parametrize("coarse", [2.0, 4.0, 16.0])
@pytest.mark.parametrize("value", [0.0, -999.0])
def test_a_constant_that_a_dithered_compression_made_noisy_holds_no_data(coarse, value):
    """FITS standard 4.0, section 10.2.1: a value comes back within half a step of itself, the sky as it was."""
    image, expected = sky(level=0.0), np.add.outer(np.arange(SHAPE[0]), np.arange(SHAPE[1])) < 90
    step = np.full(SHAPE[0], 20.0 / coarse, np.float32)
    image[expected] = value + np.random.default_rng(3).uniform(-0.5, 0.5, SHAPE)[expected] * step[0]
    found = dithered_pixels(image, step)
    assert (found & expected).sum() >= expected.sum() - 5 and (found & ~expected).mean() < 0.002  # beside it
    assert not dithered_pixels(sky(level=0.0), step).any()
