"""The simulated sky map is a probability, with a distance that fits the host's."""

import numpy as np
import pytest

from imaging.io.skymaps import read_skymap
from imaging.simulation.skymap import make_skymap, write_skymap_file


@pytest.mark.parametrize("seed", range(5))
def test_map_is_normalised_and_contains_the_source(seed, tmp_path):
    path = tmp_path / "skymap.multiorder.fits"
    write_skymap_file(path, make_skymap(seed, 190.5, -10.0, 165.0), "MS240510a", 60440.4)
    skymap = read_skymap(path)
    assert skymap.total == pytest.approx(1.0, abs=1e-6)
    assert skymap.name == "MS240510a"
    assert skymap.mjd == pytest.approx(60440.4)
    assert abs(skymap.distance_mean_mpc - 165.0) < skymap.distance_sigma_mpc
    assert skymap.credible_level[skymap.find([190.5], [-10.0])][0] < 0.95
    area = np.sum(skymap.area_deg2[skymap.credible_level <= 0.9])
    assert 80.0 < area < 300.0


def test_distance_columns_are_normalised():
    skymap = make_skymap(2, 190.5, -10.0, 165.0)
    r = np.linspace(0.0, 600.0, 20001)
    mu, sigma, norm = skymap.distmu[1000], skymap.distsigma[1000], skymap.distnorm[1000]
    density = norm * r**2 * np.exp(-0.5 * ((r - mu) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    assert np.trapezoid(density, r) == pytest.approx(1.0, abs=1e-4)


def test_pixels_cover_the_sky_once():
    skymap = make_skymap(3, 10.0, 60.0, 165.0)
    assert np.sum(skymap.pixel_steradian) == pytest.approx(4 * np.pi, rel=1e-12)
    assert len(np.unique(skymap.uniq)) == len(skymap.uniq)
