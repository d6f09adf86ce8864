"""The Gaussian process of the turbulence: its covariance, what is fitted, and what it predicts between stars."""

from dataclasses import replace

import numpy as np
import pytest

from imaging.astrometry.turbulence import FieldStars, Interpolation, Turbulence, interpolate, measure_turbulence

CCD = np.array([18.0, 9.0])
"""Size of a CCD, arcminutes."""

WINDY = Turbulence(10.0, 4.0, stretch=(0.2, 0.35), gradient=1.0, noise_mas=1.0)
"""Lengths along and across the wind in the ratio 2.2, the longer at 30 degrees."""


def polynomial(place):
    """Return the terms of a cubic of a CCD with the priors of the settings, mas."""
    u, v = (2.0 * (place % (CCD + 1.0)) / CCD - 1.0).T
    powers = [(i, j) for i in range(4) for j in range(4 - i)]
    return np.stack([(30.0 if i + j > 1 else 100.0 if i + j else 500.0) * u**i * v**j for i, j in powers], axis=-1)


def draw(turbulence, random, n=150, n_wanted=60, error_mas=2.0):
    """Return stars of one CCD, and places with their true turbulence: the CCD has a cubic of its own."""
    place = random.uniform(0.0, 1.0, (n + n_wanted, 2)) * CCD
    covariance = turbulence.covariance(place, place) + 1e-6 * np.eye(2 * len(place))
    field = (np.linalg.cholesky(covariance) @ random.normal(size=2 * len(place))).reshape(2, -1).T
    terms = polynomial(place)
    field += terms @ random.normal(size=(terms.shape[1], 2))
    noise = np.hypot(error_mas, turbulence.noise_mas) * random.normal(size=(n, 2))
    stars = FieldStars(place[:n], field[:n] + noise, np.full((n, 2), error_mas), terms[:n])
    return stars, place[n:], terms[n:], field[n:]


def rms_error(turbulence, drawn):
    squares = [
        np.mean((interpolate(turbulence, stars, place, terms).values - truth) ** 2)
        for stars, place, terms, truth in drawn
    ]
    return float(np.sqrt(np.mean(squares)))


@pytest.fixture(scope="module")
def windy():
    random = np.random.default_rng(4)
    drawn = [draw(WINDY, random) for _ in range(6)]
    return drawn, measure_turbulence([stars for stars, *_ in drawn])


def test_a_field_of_the_covariance_has_no_curl_whatever_its_elongation():
    """The curl over a small loop: differences of the displacements across steps of 0.02 arcmin."""
    for place in ([0.0, 0.0], [3.0, -1.0], [0.4, 0.2]):
        step = 0.02
        loop = np.array(place) + step * np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])
        slopes = np.zeros(8)
        slopes[[4, 5]], slopes[[2, 3]] = (1.0, -1.0), (-1.0, 1.0)  # d(eta)/dx - d(xi)/dy
        for share, curl_is_zero in ((1.0, True), (0.0, False)):
            turbulence = Turbulence(10.0, 4.0, (0.2, 0.35), share)
            variance = slopes @ turbulence.covariance(loop, loop) @ slopes
            alone = np.abs(slopes) @ np.abs(turbulence.covariance(loop, loop)) @ np.abs(slopes)
            assert (variance < 2e-4 * 10.0**2) == curl_is_zero, alone


def test_the_covariance_is_possible():
    place = np.random.default_rng(1).uniform(0.0, 20.0, (150, 2))
    for turbulence in (WINDY, Turbulence(10.0, 1.0, (-0.6, 0.5)), Turbulence(10.0, 8.0, (0.3, 0.0), 0.5)):
        covariance = turbulence.covariance(place, place)
        assert np.allclose(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance).min() > -1e-6 * turbulence.amplitude_mas**2


def test_direction_elongation_and_share_without_curl_are_found(windy):
    """Tolerances are three times the scatter of six CCDs over twenty seeds."""
    _, found = windy
    assert found.stretch == pytest.approx(WINDY.stretch, abs=0.07)
    assert found.gradient > 0.95
    assert np.log(found.amplitude_mas / WINDY.amplitude_mas) == pytest.approx(0.0, abs=0.55)
    assert found.noise_mas == pytest.approx(WINDY.noise_mas, abs=0.42)


def test_what_is_fitted_predicts_as_well_as_the_truth_and_better_than_an_isotropic_field(windy):
    drawn, found = windy
    best, fitted = rms_error(WINDY, drawn), rms_error(found, drawn)
    calm = rms_error(replace(found, stretch=(0.0, 0.0), gradient=0.0), drawn)
    assert fitted < 1.03 * best
    assert calm > 1.15 * best


def test_each_star_is_predicted_from_the_others(windy, monkeypatch):
    monkeypatch.setattr("imaging.astrometry.turbulence.OUTLYING", 1e9)
    (stars, *_), *_ = windy[0]
    whole = interpolate(WINDY, stars, stars.place[:1], stars.polynomial[:1])
    others = interpolate(WINDY, stars.select(np.arange(1, 150)), stars.place[:1], stars.polynomial[:1])
    assert whole.left_out[0] == pytest.approx(stars.residual[0] - others.values[0], abs=1e-6)
    assert np.sqrt(np.mean(whole.left_out**2)) == pytest.approx(np.hypot(rms_error(WINDY, windy[0]), 2.2), rel=0.25)


def test_many_stars_are_joined_in_cells_and_all_of_them_count():
    """1800 stars of 8 mas, against 600 of them; a star is predicted from the others of its cell, too."""
    stars, place, terms, truth = draw(WINDY, np.random.default_rng(7), n=1800, error_mas=8.0)
    whole: Interpolation = interpolate(WINDY, stars, place, terms)
    some = interpolate(WINDY, stars.select(np.arange(600)), place, terms)
    error, worse = (np.sqrt(np.mean((field.values - truth) ** 2)) for field in (whole, some))
    assert error < 0.8 * worse
    one = stars.select(np.arange(1, 1800))
    others = interpolate(WINDY, one, stars.place[:1], stars.polynomial[:1])
    assert whole.left_out[0] == pytest.approx(stars.residual[0] - others.values[0], abs=0.4)
    assert np.sqrt(np.mean(whole.left_out**2)) == pytest.approx(np.hypot(np.hypot(8.0, 1.0), error), rel=0.03)


def disturbed(drawn, random):
    """Return the same with a tenth of the stars off by ten times their error."""
    off = [np.where(np.arange(150) < 15, 22.0, 0.0)[:, None] * random.normal(size=(150, 2)) for _ in drawn]
    return [(replace(d[0], residual=d[0].residual + o), *d[1:]) for d, o in zip(drawn, off, strict=True)]


def test_stars_whose_images_have_neighbours_hardly_count():
    """The error is 1.1 to 1.3 times that without them; with one solution it would be 1.9 to 2.2 times."""
    random = np.random.default_rng(11)
    fine = [draw(WINDY, random) for _ in range(4)]
    assert rms_error(WINDY, disturbed(fine, random)) < 1.4 * rms_error(WINDY, fine)


def test_stars_whose_images_have_neighbours_are_not_taken_for_noise(windy):
    """Noise of 2.4 to 2.9 mas over three seeds, of 1.0 without the disturbed stars; with all of them 8.0."""
    drawn, found = windy
    again = measure_turbulence([stars for stars, *_ in disturbed(drawn, np.random.default_rng(12))])
    assert again.noise_mas < 4.0
    assert np.log(again.amplitude_mas / found.amplitude_mas) == pytest.approx(0.0, abs=0.25)


def test_many_stars_at_one_place_are_one_cell():
    stars = FieldStars(np.ones((700, 2)), np.ones((700, 2)), np.ones((700, 2)), np.zeros((700, 10)))
    cells, cell, share = stars.in_cells(600)
    assert (cells.error_mas, cell.max(), share.sum()) == (pytest.approx(700**-0.5), 0, pytest.approx(1.0))


def test_without_stars_the_expected_statistics_hold_and_nothing_is_predicted():
    assert measure_turbulence([]).amplitude_mas == pytest.approx(8.0)
    none = FieldStars(*(np.zeros((0, 2)) for _ in range(3)), np.zeros((0, 10)))
    assert not interpolate(WINDY, none, np.ones((3, 2)), np.ones((3, 10))).values.any()
