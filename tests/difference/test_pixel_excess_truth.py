"""The excess of single pixels, against its definition in NumPy and against GalSim's point sources."""

from dataclasses import replace

import numpy as np
import pytest

from imaging.difference.sharpness import pixel_excess
from tests.difference.drawn import SIGMA, difference_of, draw, grid_places

SHAPE = (61, 61)


def excess(search, x, y, flux, *, model=None, weight=None, gain=1.0):
    """Measure on a search image; the model is the template that was subtracted."""
    model = np.zeros(search.shape) if model is None else model
    image = difference_of(search - model, model=model, weight=weight).search
    image = replace(image, pixels=replace(image.pixels, header={"GAIN": gain}))
    places = (np.atleast_1d(np.asarray(v, float)) for v in (x, y, flux))
    return pixel_excess(image, model.astype(np.float32), *places)


def by_hand(rest, light, peak, weight, model, gain, x, y):
    """Return the largest excess of the nine pixels about a place over the mean of their good neighbours."""
    best = 0.0
    for j in range(y - 1, y + 2):
        for i in range(x - 1, x + 2):
            around = [(j, i + 1), (j + 1, i), (j, i - 1), (j - 1, i)]
            good = [p for p in around if weight[p] > 0]
            if weight[j, i] == 0 or len(good) < 3:
                continue
            photons = light[j, i] / gain
            variance = 1 / weight[j, i] + photons + sum(1 / weight[p] + photons for p in good) / len(good) ** 2
            variance += (0.15 * model[j, i]) ** 2 + (0.10 * peak) ** 2
            value = rest[j, i] - np.mean([rest[p] for p in good])
            best = max(best, value / np.sqrt(variance))
    return best


@pytest.mark.parametrize(("sign", "gain"), [(1.0, 1.0), (-1.0, 2.5)])
def test_the_excess_is_that_of_its_definition(sign, gain):
    rng = np.random.default_rng(1)
    x, y, flux = 30.0, 29.5, 4e3
    model = draw(SHAPE, [31.3], [30.4], [6e3])
    weight = rng.uniform(0.5, 1.5, SHAPE) / SIGMA**2
    weight[31, 30] = weight[29, 28] = 0.0
    stamp = draw(SHAPE, [x], [y], [flux])
    search = model + sign * stamp + rng.normal(0.0, SIGMA, SHAPE)
    search[30, 29] += sign * 150.0
    found = excess(search, x, y, sign * flux, model=model, weight=weight.astype(np.float32), gain=gain)
    rest = sign * (search - model) - stamp
    expected = by_hand(rest, model + stamp, stamp.max(), weight, model, gain, 30, 30)
    assert found[0] == pytest.approx(expected, rel=2e-3) and expected > 2.0


def test_fewer_than_three_good_neighbours_tell_nothing():
    search, weight = np.zeros(SHAPE), np.full(SHAPE, 1 / SIGMA**2, np.float32)
    search[30, 30] = 500.0
    values = []
    for bad in ([], [(30, 31)], [(30, 31), (31, 30)]):
        for place in bad:
            weight[place] = 0.0
        values.append(excess(search, 30.0, 30.0, 1.0, weight=weight)[0])
    # three neighbours and their mean: 500 / (10 sqrt(1 + 1/3)); four: 500 / (10 sqrt(1 + 1/4))
    assert values[0] == pytest.approx(50 / np.sqrt(1.25), rel=1e-3)
    assert values[1] == pytest.approx(50 / np.sqrt(4 / 3), rel=1e-3)
    assert values[2] == 0.0


@pytest.mark.parametrize("flux", [700.0, 5e3, 1e5])
def test_point_sources_have_the_excess_that_the_largest_of_nine_normal_numbers_has(flux):
    """1.5 +- 0.6 where noise rules: the largest of nine correlated normal numbers; less where the PSF's error does."""
    rng = np.random.default_rng(2)
    x, y, shape = grid_places(16, 26, rng)
    light = draw(shape, x, y, np.full(x.size, flux))
    values = excess(rng.poisson(np.maximum(light, 0)) + rng.normal(0.0, SIGMA, shape), x, y, np.full(x.size, flux))
    assert values.max() < 4.5
    if flux < 1e3:
        assert values.mean() == pytest.approx(1.5, abs=0.15) and values.std() == pytest.approx(0.6, abs=0.1)
    else:
        assert values.mean() < 1.6


@pytest.mark.parametrize(("x", "y", "judged"), [(2.0, 58.0, True), (1.4, 30.0, False), (30.0, 58.6, False)])
def test_places_within_two_pixels_of_the_border_are_not_judged(x, y, judged):
    search = np.zeros(SHAPE)
    search[min(round(y), 59), max(round(x), 1)] = 1e3
    assert (excess(search, x, y, 1.0)[0] > 10.0) == judged


def test_a_pixel_two_away_from_the_place_is_not_asked():
    search = np.zeros(SHAPE)
    search[30, 32] = 1e3
    assert excess(search, 30.0, 30.0, 1.0)[0] < 0.1 < 10.0 < excess(search, 30.6, 30.0, 1.0)[0]
