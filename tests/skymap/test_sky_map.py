import numpy as np
import pytest
from astropy_healpix import HEALPix

from imaging.errors import InputError
from imaging.skymap.build import gaussian_skymap, skymap_from_flat, skymap_from_multiorder
from imaging.skymap.model import WHOLE_SKY_DEG2


def bumpy(nside, rng):
    values = rng.uniform(0.1, 1.0, 12 * nside**2)
    values[: values.size // 2] = 0.25  # flat parts that join
    values[-5:] = 0.0
    return values / values.sum()


def test_areas_of_a_gaussian_are_those_of_the_formula():
    skymap = gaussian_skymap(40.0, -30.0, 2.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=8)
    for level in (0.5, 0.9):
        expected = -2 * np.pi * 2.0**2 * np.log(1 - level)
        assert skymap.area_at_level_deg2(level) == pytest.approx(expected, rel=0.005)
    assert np.hypot(skymap.peak()[0] - 40.0, skymap.peak()[1] + 30.0) < 0.3
    at_half = skymap.credible_level_at([40.0], [-30.0 + 2.0 * np.sqrt(2 * np.log(2))])
    assert at_half == pytest.approx(0.5, abs=0.04)
    assert skymap.probability_density([40.0], [-30.0]) == pytest.approx(1 / (2 * np.pi * 4.0), rel=0.01)


def test_ring_and_nested_order_give_the_same_map(rng_seed=3):
    rng = np.random.default_rng(rng_seed)
    nested = bumpy(16, rng)
    healpix = HEALPix(16, order="nested")
    ring = nested[healpix.ring_to_nested(np.arange(nested.size))]
    first, second = skymap_from_flat(nested, nested=True), skymap_from_flat(ring, nested=False)
    ra, dec = rng.uniform(0, 360, 2000), np.degrees(np.arcsin(rng.uniform(-1, 1, 2000)))
    np.testing.assert_allclose(first.probability_density(ra, dec), second.probability_density(ra, dec), rtol=1e-12)
    np.testing.assert_array_equal(first.pixel, second.pixel)


def test_joining_equal_pixels_loses_nothing():
    values = bumpy(32, np.random.default_rng(4))
    skymap = skymap_from_flat(values, nested=True)
    assert len(skymap.pixel) < 0.6 * values.size
    assert skymap.probability.sum() == pytest.approx(1.0, abs=1e-12)
    assert skymap.area_deg2.sum() == pytest.approx(WHOLE_SKY_DEG2 * (values.size - 5) / values.size, rel=1e-12)
    healpix = HEALPix(32, order="nested")
    lon, lat = healpix.healpix_to_lonlat(np.arange(values.size))
    density = skymap.probability_density(lon.to_value("deg"), lat.to_value("deg"))
    np.testing.assert_allclose(density, values * values.size / WHOLE_SKY_DEG2, rtol=1e-10)


def test_distance_columns_keep_pixels_apart():
    values = np.full(12, 1 / 12)
    distance = {"mu_mpc": np.arange(12.0) + 50, "sigma_mpc": np.full(12, 5.0), "norm": np.full(12, 1e-4)}
    assert len(skymap_from_flat(values, nested=True, distance=distance).pixel) == 12


def test_a_multi_order_map_equals_its_flat_form():
    rng = np.random.default_rng(5)
    fine = rng.uniform(0.1, 1.0, 4)
    order1 = np.arange(1, 48)
    uniq = np.concatenate([4 * 4 + order1, 4 * 16 + np.arange(4)])
    density = np.concatenate([np.full(47, 0.2), fine])
    skymap = skymap_from_multiorder(uniq, density)
    flat = np.full(192, 0.2)
    flat[:4] = fine
    other = skymap_from_flat(flat / flat.sum(), nested=True)
    ra, dec = rng.uniform(0, 360, 500), np.degrees(np.arcsin(rng.uniform(-1, 1, 500)))
    np.testing.assert_allclose(skymap.probability_density(ra, dec), other.probability_density(ra, dec), rtol=1e-12)


def test_positions_outside_the_map_and_not_finite():
    skymap = skymap_from_flat(np.eye(12)[0], nested=True)
    ra, dec = np.array([45.0, 225.0, np.nan]), np.array([30.0, -30.0, 0.0])
    np.testing.assert_array_equal(skymap.find(ra, dec) >= 0, [True, False, False])
    np.testing.assert_array_equal(skymap.credible_level_at(ra, dec), [1.0, 1.0, 1.0])
    assert skymap.probability_density(ra, dec)[1] == 0.0


def test_regions_hold_the_probability_they_claim():
    skymap = gaussian_skymap(10.0, 20.0, 3.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=7)
    inside = skymap.region(0.9)
    assert 0.9 <= skymap.probability[inside].sum() < 0.905


def test_unnormalised_maps_are_normalised_and_say_so():
    skymap = skymap_from_flat(np.arange(12.0), nested=True)
    assert skymap.total == pytest.approx(66.0)
    assert skymap.probability.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.full(13, 0.1), "number of pixels"),
        (np.zeros(12), "no probability"),
        (np.array([-1.0] + [0.1] * 11), "negative"),
        (np.array([np.inf] + [0.1] * 11), "infinite"),
        (np.full(12, np.nan), "no probability"),
        (np.empty(0), "number of pixels"),
    ],
)
def test_what_is_not_a_sky_map_is_refused(values, problem):
    with pytest.raises(InputError, match=problem):
        skymap_from_flat(values, nested=True)


def test_overlapping_pixels_are_refused():
    with pytest.raises(InputError, match="overlap"):
        skymap_from_multiorder([4 + 0, 16 + 1], [1.0, 1.0])
