"""Weights, their check against the noise, and the star flat."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from imaging.bits import MaskBit
from imaging.detector.ccds import science_ccd
from imaging.errors import InputError
from imaging.sky.noise import check_noise
from imaging.sky.star_flat import apply_star_flat
from imaging.sky.weight import sky_weight, with_source_noise

CCD = science_ccd(33)
HEADER = {"DESGAINC": True, "RDNOISEA": 6.0, "RDNOISEB": 8.0}
SHAPE = (512, 2048)
SKY = 2500.0


@pytest.fixture
def frame():
    random = np.random.default_rng(1)
    flat = random.normal(0.95, 0.03, SHAPE).astype(np.float32)
    star_flat = np.full(SHAPE, 1.02, np.float32)
    sky = np.full(SHAPE, SKY, np.float32)
    read = np.where(np.arange(2048) < 1024, 6.0, 8.0)
    electrons = SKY * flat + random.normal(0, 1, SHAPE) * np.sqrt(SKY * flat + read**2)
    science = ((electrons / flat - sky) / star_flat).astype(np.float32)
    return science, np.zeros(SHAPE, np.int16), sky, flat, star_flat


def test_the_noise_agrees_with_the_weight(frame):
    science, mask, sky, flat, star_flat = frame
    weight = sky_weight(mask, sky, flat, star_flat, CCD, HEADER)
    check = check_noise(science, weight, mask)
    assert check.ratio == pytest.approx(1.0, abs=5 / np.sqrt(2 * science.size))
    assert check.sigma_electrons == pytest.approx(science.std(), rel=0.01)
    assert check.offset_electrons == pytest.approx(0.0, abs=5 * 1.25 * 55 / 1000)
    assert check.n_pixels > 0.9 * science.size


def test_amplifiers_have_their_own_read_noise(frame):
    mask = frame[1]
    weight = sky_weight(mask, np.zeros(SHAPE, np.float32), None, None, CCD, HEADER)
    assert weight[0, 0] == pytest.approx(1 / 36.0)
    assert weight[0, 2000] == pytest.approx(1 / 64.0)


def test_source_noise_is_an_option(frame):
    _, mask, sky, _, _ = frame
    science = np.full(SHAPE, 1000.0, np.float32)
    science[:, 5], mask[:, 6] = -300.0, np.int16(MaskBit.BPM)
    without = sky_weight(mask, sky, None, None, CCD, HEADER)
    with_source = with_source_noise(without, science)
    assert 1 / without[0, 0] == pytest.approx(SKY + 36.0)
    assert 1 / with_source[0, 0] == pytest.approx(SKY + 1000.0 + 36.0)
    assert (with_source[:, 5] == without[:, 5]).all()
    assert (with_source[:, 6] == 0.0).all()


def test_pixels_without_information_weigh_nothing(frame):
    _, mask, sky, flat, star_flat = frame
    mask[0, :5] = [MaskBit.BPM, MaskBit.SATURATE, MaskBit.CRAY, MaskBit.STAR, MaskBit.SUSPECT]
    flat[0, 10] = 0.0
    weight = sky_weight(mask, sky, flat, star_flat, CCD, HEADER)
    assert (weight[0, :3] == 0).all()
    assert (weight[0, 3:5] > 0).all()  # halos and suspect pixels are measured, and flagged
    assert weight[0, 10] == 0.0
    assert np.isfinite(weight).all()


def test_sources_do_not_widen_the_noise(frame):
    science, mask, sky, flat, star_flat = frame
    random = np.random.default_rng(3)
    for _ in range(150):
        y, x = random.integers(8, 500), random.integers(8, 2040)
        science[y - 6 : y + 7, x - 6 : x + 7] += np.float32(random.uniform(50, 3000))
    weight = sky_weight(mask, sky, flat, star_flat, CCD, HEADER)
    assert check_noise(science, weight, mask).ratio == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("scale", [1.0, 1.2])
def test_crowded_stars_and_a_sky_with_their_light_do_not_widen_the_noise(scale):
    """50,000 stars and galaxies per CCD of a steep distribution of fluxes, and the median taken for the sky."""
    random, shape, sigma = np.random.default_rng(5), (512, 512), 60.0
    flux = 10 ** random.uniform(1.5, 5.0, shape[0] * shape[1] // 150)
    points = np.zeros(shape)
    np.add.at(points, tuple(random.integers(0, 512, (2, flux.size))), flux)
    light = gaussian_filter(points, 1.8)
    science = light + random.normal(0, 1, shape) * np.sqrt(sigma**2 + light)
    science = (science - np.median(science)).astype(np.float32)
    weight = np.full(shape, (scale / sigma) ** 2, np.float32)
    check = check_noise(science, weight, np.zeros(shape, np.int16))
    assert check.ratio == pytest.approx(scale, rel=0.025)  # stars below the noise remain
    assert check.sigma_electrons == pytest.approx(sigma, rel=0.025)


def test_a_wrong_read_noise_shows_in_the_ratio(frame):
    science, mask, sky, flat, star_flat = frame
    weight = sky_weight(mask, sky, flat, star_flat, CCD, HEADER | {"RDNOISEA": 30.0, "RDNOISEB": 30.0})
    assert check_noise(science, weight, mask).ratio < 0.9


def test_no_blank_sky_gives_no_number(frame):
    science, mask, sky, flat, star_flat = frame
    mask[:] = MaskBit.BADAMP
    weight = sky_weight(mask, sky, flat, star_flat, CCD, HEADER)
    check = check_noise(science, weight, mask)
    assert np.isnan(check.ratio)
    assert check.n_pixels == 0


def test_a_raw_image_is_refused(frame):
    _, mask, sky, flat, star_flat = frame
    with pytest.raises(InputError, match="not detrended"):
        sky_weight(mask, sky, flat, star_flat, CCD, {})


def test_the_star_flat_divides_once():
    science, mask, header = np.full((4, 4), 10.0, np.float32), np.zeros((4, 4), np.int16), {}
    star_flat = np.full((4, 4), 1.25, np.float32)
    star_flat[1, 1] = 0.0
    assert apply_star_flat(science, mask, header, star_flat, "starflat.fits") == 1
    assert science[0, 0] == 8.0
    assert mask[1, 1] == MaskBit.BPM
    assert header == {"DESSTAR": "starflat.fits"}
    with pytest.raises(InputError, match="applied already: star flat"):
        apply_star_flat(science, mask, header, star_flat)
