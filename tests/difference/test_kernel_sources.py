"""The sources that fix the kernel, and the two sides that they are cut from, on images that GalSim drew."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
import sep

from imaging.bits import MaskBit
from imaging.difference.pair import Pair, Side, prepare_pair, typical_variances
from imaging.difference.settings import KernelSettings
from imaging.difference.sources import choose_places, common_ratio, flux_ratio
from imaging.difference.tiles import Tiling
from tests.difference.drawn import FWHM, ROUND, SIGMA, ZEROPOINT, difference_of, draw, model_of

SHAPE = (400, 380)
SETTINGS = KernelSettings()
RATIO = 1.25


def side_of(science, *, saturation=1e6, weight=None):
    weight = np.full(science.shape, 1 / SIGMA**2, np.float32) if weight is None else weight
    mask = np.zeros(science.shape, np.int16)
    return Side(science.astype(np.float32), mask, weight, 1.0, saturation, model_of(ROUND))


def stars(n=7, spacing=54, seed=1):
    rng = np.random.default_rng(seed)
    j, i = np.mgrid[:n, :n]
    x, y = (26.0 + spacing * k.ravel() + rng.integers(-4, 5, n * n) for k in (i, j))
    return x, y, rng.uniform(4e4, 2e5, n * n)


def two_sides(flux_of_target=None, *, seed=2, sharper=1.0, sigma=SIGMA):
    """Return stars' places, and the sides: the target has more flux by RATIO and seeing by ``sharper``."""
    rng = np.random.default_rng(seed)
    x, y, flux = stars()
    theirs = RATIO * flux if flux_of_target is None else flux_of_target(RATIO * flux)
    target = draw(SHAPE, x, y, theirs, galsim.Gaussian(fwhm=FWHM / sharper)) + rng.normal(0.0, sigma, SHAPE)
    reference = draw(SHAPE, x, y, flux) + rng.normal(0.0, sigma, SHAPE)
    return x, y, side_of(target), side_of(reference)


def is_among(x, y, px, py, reach=1.5):
    """Return which places are near one of others."""
    return (np.hypot(x[:, None] - px, y[:, None] - py) < reach).any(axis=1)


def test_clean_stars_are_chosen_as_many_per_cell_as_allowed():
    x, y, target, reference = two_sides()
    found = choose_places(target, reference, SETTINGS)
    assert is_among(*found, x, y).all()
    # four cells, together at least forty: ten each at most, the brightest first
    cell = (found[1] // 256).astype(int) * 2 + (found[0] // 256).astype(int)
    assert np.bincount(cell, minlength=4).max() == 10 and found[0].size <= 40
    _, _, flux = stars()
    first = (x < 256) & (y < 256)
    chosen = is_among(x[first], y[first], *found)
    assert flux[first][chosen].min() >= np.sort(flux[first])[-12]  # peaks differ from fluxes by noise
    few = choose_places(target, reference, SETTINGS.with_values(stamp_cell_pixels=40, stamps_per_cell=1))
    assert np.unique(few[0] // 40 + 100 * (few[1] // 40)).size == few[0].size > 40


@pytest.mark.parametrize(
    ("spoiled", "kept"),
    [("masked near", False), ("masked afar", True), ("saturated", False), ("transient", False), ("variable", False)],
)
def test_a_spoiled_source_is_not_chosen(spoiled, kept):
    k = 24
    factor = {"transient": 2.1, "variable": 1.25}.get(spoiled, 1.0)

    def brightened(flux):
        flux = flux.copy()
        flux[k] *= factor
        return flux

    x, y, target, reference = two_sides(brightened)
    i, j = int(x[k]), int(y[k])
    weight = target.weight.copy()
    if spoiled.startswith("masked"):
        weight[j + 7 + (spoiled == "masked afar"), i - 7] = 0.0
    everything = SETTINGS.with_values(stamps_per_cell=30)
    saturation = 1e6
    if spoiled == "saturated":
        saturation = float(target.science[j - 3 : j + 4, i - 3 : i + 4].max()) / 0.7
        above = [
            float(target.science[b - 3 : b + 4, a - 3 : a + 4].max()) for a, b in zip(*np.int_([x, y]), strict=True)
        ]
    found = choose_places(replace(target, weight=weight, saturation=saturation), reference, everything)
    chosen = is_among(x, y, *found)
    assert chosen[k] == kept
    if spoiled == "saturated":
        assert not chosen[np.array(above) >= above[k]].any() and chosen[np.array(above) < above[k]].all()
    else:
        assert chosen[np.arange(x.size) != k].all()


def test_sources_on_top_of_each_other_give_one_stamp():
    x, y, flux = np.array([58.0, 58.0 + 14, 202.0, 202.0 + 15]), np.full(4, 60.0), np.array([2e5, 1e5, 2e5, 1e5])
    x, y = np.append(x, [60.0, 150.0, 250.0, 330.0]), np.append(y, [200.0, 200.0, 200.0, 200.0])
    flux = np.append(flux, [1e5] * 4)
    image = draw(SHAPE, x, y, flux) + np.random.default_rng(3).normal(0.0, SIGMA, SHAPE)
    found = choose_places(side_of(image), side_of(image), SETTINGS)
    assert is_among(x, y, *found).tolist() == [True, False, True, True] + [True] * 4


def test_flux_ratios_agree_with_apertures_of_sep():
    x, y, target, reference = two_sides(sharper=1.1)
    (ratio, error), common = flux_ratio(target, reference, x, y), common_ratio(target, reference, SETTINGS)
    fluxes = [sep.sum_circle(s.science.astype(float), x, y, 11.11)[0] for s in (target, reference)]
    # 388 pixels of noise on either side of 49 stars: 2 per mille each, 0.4 together
    assert ratio == pytest.approx(np.median(fluxes[0] / fluxes[1]), abs=0.003)
    assert ratio == pytest.approx(RATIO, abs=0.004) and common == pytest.approx(RATIO, abs=0.004)
    assert 0.5 < error / (1.25 * 0.02 / np.sqrt(x.size)) < 1.2  # two per cent for blends and colours


def test_without_known_sources_the_ratio_is_one_and_not_well_known():
    x, y, target, reference = two_sides(sigma=SIGMA)
    blank = side_of(np.random.default_rng(4).normal(0.0, SIGMA, SHAPE))
    assert flux_ratio(blank, reference, x, y) == (1.0, 0.02)
    assert np.isnan(common_ratio(blank, reference, SETTINGS))
    assert np.isnan(common_ratio(target, blank, SETTINGS))
    rng = np.random.default_rng(5)
    _, _, scattered, reference = two_sides(lambda flux: flux * rng.uniform(0.3, 3.0, flux.size))
    middle = common_ratio(scattered, reference, SETTINGS)
    assert np.isnan(middle) or 0.3 * RATIO < middle < 3 * RATIO


def calibrated(zeropoint, seed, *, level=100.0, saturation=5e4, gain=2.0):
    rng = np.random.default_rng(seed)
    science = rng.normal(0.0, SIGMA, (100, 90)) + level
    image = difference_of(science).as_image()
    mask = image.pixels.mask.copy()
    mask[20, 30], mask[40, 50] = MaskBit.CRAY, MaskBit.SUSPECT
    pixels = replace(image.pixels, mask=mask, header={"GAIN": gain})
    return replace(image, pixels=pixels, zeropoint_mag=zeropoint, saturation_electrons=saturation)


def test_the_template_is_brought_to_the_flux_scale_of_the_search_image():
    search, template = calibrated(ZEROPOINT, 1), calibrated(ZEROPOINT - 1.0, 2)
    pair = prepare_pair(search, template)
    factor = 10**0.4  # a magnitude less deep: one electron of the template is 2.5 of the search image
    good = np.ones((100, 90), bool)
    good[20, 30] = False
    assert pair.template.science[good] == pytest.approx(factor * template.pixels.science[good], rel=1e-5)
    assert pair.template.weight[good] == pytest.approx(template.pixels.weight[good] / factor**2, rel=1e-5)
    assert pair.template.variance()[good] == pytest.approx(SIGMA**2 * factor**2, rel=1e-4)
    assert pair.template.gain == pytest.approx(2.0 / factor) and pair.search.gain == 2.0
    assert pair.template.saturation == pytest.approx(5e4 * factor) and pair.search.saturation == 5e4
    for side in (pair.search, pair.template):
        assert side.weight[20, 30] == 0.0 and side.variance()[20, 30] == 0.0 and side.weight[40, 50] > 0
    bridged = pair.search.science[20, 30]
    around = search.pixels.science[20, [29, 31]]
    assert around.min() <= bridged <= around.max()
    assert pair.correlation.shape == (1, 1, 6, 6) and pair.correlation.sum() == pair.correlation[0, 0, 0, 0] == 1.0
    assert pair.correlation_tile == 100 and pair.makeup is None
    assert search.pixels.weight[20, 30] > 0  # the image itself is left as it was


def test_typical_variances_are_medians_of_tiles_of_pixels_that_are_good_in_both():
    rng = np.random.default_rng(6)
    shape, tiling = (128, 192), Tiling((128, 192), 64, 4)
    weights = rng.uniform(0.5, 1.5, (2, *shape)).astype(np.float32)
    weights[0, :64, :64] *= 4.0
    weights[1, 64:, 128:] /= 9.0
    weights[0, 10:20] = 0.0
    first, second = (side_of(np.zeros(shape), weight=w) for w in weights)
    search, template = typical_variances(Pair(first, second, np.zeros((1, 1, 6, 6), np.float32), 192, None), tiling)
    assert search.shape == template.shape == (2, 3)
    # the median of 256 pixels, evenly spread by half about their mean, is known to five per cent
    expected, other = np.ones((2, 2, 3))
    expected[0, 0], other[1, 2] = 1 / 4.0, 9.0
    assert search == pytest.approx(expected, rel=0.2) and template == pytest.approx(other, rel=0.2)
