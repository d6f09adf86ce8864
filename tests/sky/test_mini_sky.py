"""Medians of superpixels: exact, robust, honest about what they do not know."""

import numpy as np
import pytest

from imaging.bits import MaskBit
from imaging.sky.mini_sky import SUPERPIXEL, make_mini_sky

SKY, SIGMA = 3000.0, 55.0


@pytest.fixture
def frame():
    random = np.random.default_rng(1)
    science = random.normal(SKY, SIGMA, (512, 384)).astype(np.float32)
    return science, np.zeros(science.shape, np.int16)


def test_medians_have_their_statistical_error(frame):
    values = make_mini_sky(*frame, 5).values
    assert values.shape == (4, 3)
    # The median over three sigma either side, taken again, has 1.1 times the error of the whole median.
    assert np.abs(values - SKY).max() < 4.5 * 1.25 * SIGMA / SUPERPIXEL
    assert values.std() == pytest.approx(1.25 * SIGMA / SUPERPIXEL, rel=0.7)


def test_faint_light_of_sources_hardly_pulls(frame):
    science, mask = frame
    random = np.random.default_rng(2)
    lit = random.random(science.shape) < 0.03
    science[lit] += random.exponential(400.0, lit.sum()).astype(np.float32)
    plain = np.median(science[:128, :128]) - SKY
    values = make_mini_sky(science, mask, 5).values
    assert plain > 1.0
    assert values.mean() - SKY < 0.75 * np.median(science - SKY)


def test_masked_pixels_do_not_count_and_empty_superpixels_are_nan(frame):
    science, mask = frame
    science[:128, :128], mask[:128, :128] = 1e5, MaskBit.SATURATE
    science[128:256, :100], mask[128:256, :100] = -5e3, MaskBit.BADAMP
    science[256:384, :126], mask[256:384, :126] = 1e4, MaskBit.STAR
    values = make_mini_sky(science, mask, 5).values
    assert np.isnan(values[0, 0])
    assert values[1, 0] == pytest.approx(SKY, abs=6.0)
    assert np.isnan(values[2, 0])  # two columns of 128 are too few
    assert np.isfinite(values[:, 1:]).all()


def test_suspect_and_repaired_pixels_show_the_sky(frame):
    science, mask = frame
    mask[:] = MaskBit.SUSPECT | MaskBit.FIXED | MaskBit.NEAREDGE
    assert np.isfinite(make_mini_sky(science, mask, 5).values).all()


@pytest.mark.parametrize("value", [0.0, 2500.0])
def test_a_constant_image_gives_its_value(value):
    science = np.full((128, 128), value, np.float32)
    assert make_mini_sky(science, np.zeros(science.shape, np.int16), 5).values[0, 0] == pytest.approx(value, abs=0.01)
