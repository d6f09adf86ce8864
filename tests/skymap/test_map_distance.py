import numpy as np
import pytest
from scipy.integrate import quad

from imaging.skymap.build import gaussian_skymap, skymap_from_flat
from imaging.skymap.distance import conditional_distance, distance_density, moments_of, norm_of


@pytest.mark.parametrize(("mu", "sigma"), [(100.0, 20.0), (30.0, 40.0), (-10.0, 50.0)])
def test_moments_are_those_of_the_integral(mu, sigma):
    def weight(r, k):
        return r**k * np.exp(-0.5 * ((r - mu) / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)

    m2, m3, m4 = (quad(weight, 0, mu + 15 * sigma, args=(k,))[0] for k in (2, 3, 4))
    mean, scatter = moments_of(np.array([mu]), np.array([sigma]))
    assert mean[0] == pytest.approx(m3 / m2, rel=1e-6)
    assert scatter[0] == pytest.approx(np.sqrt(m4 / m2 - (m3 / m2) ** 2), rel=1e-5)
    assert norm_of(np.array([mu]), np.array([sigma]))[0] == pytest.approx(1 / m2, rel=1e-6)


def test_the_density_integrates_to_one_and_vanishes_behind_us():
    skymap = gaussian_skymap(0.0, 0.0, 2.0, distance_mpc=80.0, distance_sigma_mpc=25.0, order=6)
    r = np.linspace(0.0, 400.0, 4001)
    density = distance_density(skymap, np.zeros(r.size), np.zeros(r.size), r)
    assert np.trapezoid(density, r) == pytest.approx(1.0, abs=1e-4)
    assert distance_density(skymap, [0.0], [0.0], [-5.0])[0] == 0.0
    mean, _ = conditional_distance(skymap, [0.0], [0.0])
    assert mean[0] == pytest.approx(np.trapezoid(density * r, r), rel=1e-3)


def test_without_distance_the_answer_is_unknown():
    skymap = skymap_from_flat(np.full(12, 1 / 12), nested=True)
    assert np.isnan(conditional_distance(skymap, [10.0], [10.0])).all()
    assert np.isnan(distance_density(skymap, [10.0], [10.0], [100.0]))


def test_pixels_that_say_nothing_of_distance_are_unknown():
    distance = {"mu_mpc": np.full(12, np.inf), "sigma_mpc": np.ones(12), "norm": np.zeros(12)}
    distance["mu_mpc"][0], distance["norm"][0] = 100.0, 1e-4
    skymap = skymap_from_flat(np.full(12, 1 / 12), nested=True, distance=distance)
    mean, _ = conditional_distance(skymap, [45.0, 225.0], [41.8, -41.8])
    assert np.isfinite(mean[0])
    assert np.isnan(mean[1])
