"""The coordinate fit of a CCD: accuracy, clipping, degrees, and astropy's reading of the result."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from imaging.astrometry.fit import Pairs, degree_for, fit_ccd, pair_errors_mas
from imaging.astrometry.settings import AstrometrySettings
from imaging.detector.distortion import seed_wcs
from imaging.errors import CcdError

SETTINGS = AstrometrySettings()
SHAPE = (4096, 2048)
MAS = 3.6e6


def distorted(seed, x, y, amplitude_arcsec):
    """Return true standard coordinates: the seed's, an offset of a quarter minute, a rotation and a cubic."""
    u, v = x / 1024 - 1, y / 2048 - 1
    xi, eta = seed.pixel_to_plane(x, y)
    dxi = 15.0 + 0.8 * v + amplitude_arcsec * (u**3 - 0.5 * u * v**2 + 0.3 * v**2)
    deta = -7.0 - 0.8 * u + amplitude_arcsec * (0.4 * v**3 + 0.6 * u**2 * v)
    return xi + dxi / 3600.0, eta + deta / 3600.0


def make_pairs(n, *, noise_mas=10.0, outliers=0, seed_number=1, ccd=57):
    random = np.random.default_rng(seed_number)
    seed = seed_wcs(ccd, 197.45, -23.38)
    x, y = random.uniform(0, 2047, n), random.uniform(0, 4095, n)
    xi, eta = distorted(seed, x, y, 0.05)
    noise = random.normal(0, noise_mas, (2, n))
    noise[:, :outliers] += random.choice([-1, 1], outliers) * random.uniform(300, 900, outliers)
    error = np.full(n, noise_mas)
    return seed, Pairs(x, y, xi + noise[0] / MAS, eta + noise[1] / MAS, error, error, np.full(n, 100.0))


def error_over_the_ccd(seed, wcs):
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, 2047, 12), np.linspace(0, 4095, 24)))
    found, true = wcs.pixel_to_plane(x, y), distorted(seed, x, y, 0.05)
    return np.stack([found[0] - true[0], found[1] - true[1]]) * MAS


def test_cubic_is_recovered_to_the_noise():
    seed, pairs = make_pairs(250)
    result = fit_ccd(seed, pairs, SHAPE, SETTINGS)
    assert result.degree == 3
    assert result.rms_mas == pytest.approx((10.0, 10.0), rel=0.15)
    # 10 mas of noise, 250 stars and 10 coefficients leave 10 sqrt(10/250) = 2 mas on average.
    rms = np.sqrt(np.mean(error_over_the_ccd(seed, result.wcs) ** 2))
    assert rms < 3.5


def test_outliers_are_clipped_and_do_not_matter():
    seed, pairs = make_pairs(250, outliers=40)
    result = fit_ccd(seed, pairs, SHAPE, SETTINGS)
    assert not result.used[:40].any()
    assert result.used[40:].mean() > 0.98
    assert np.sqrt(np.mean(error_over_the_ccd(seed, result.wcs) ** 2)) < 4.0


def test_scatter_beyond_the_formal_errors_is_measured():
    seed, pairs = make_pairs(400, noise_mas=25.0)
    formal = np.full(400, 5.0)
    pairs = Pairs(pairs.x, pairs.y, pairs.xi, pairs.eta, formal, formal, pairs.snr)
    result = fit_ccd(seed, pairs, SHAPE, SETTINGS)
    assert result.scatter_mas == pytest.approx(np.sqrt(25.0**2 - 5.0**2), rel=0.1)
    assert result.chi2 == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("n", "degree"), [(6, 1), (25, 2), (60, 3)])
def test_degree_follows_the_number_of_stars(n, degree):
    assert degree_for(n, SETTINGS) == degree
    seed, pairs = make_pairs(n, noise_mas=3.0, seed_number=n)
    result = fit_ccd(seed, pairs, SHAPE, SETTINGS)
    assert result.degree <= degree
    bound = {1: 200.0, 2: 150.0, 3: 10.0}[degree]
    assert np.abs(error_over_the_ccd(seed, result.wcs)).max() < bound


def test_four_stars_give_a_shift():
    seed = seed_wcs(20, 197.45, -23.38)
    x, y = np.array([200.0, 1800.0, 300.0, 1700.0]), np.array([500.0, 900.0, 3500.0, 3000.0])
    xi, eta = seed.pixel_to_plane(x, y)
    error = np.full(4, 5.0)
    pairs = Pairs(x, y, xi + 12.0 / 3600, eta - 3.0 / 3600, error, error, np.full(4, 100.0))
    result = fit_ccd(seed, pairs, SHAPE, SETTINGS)
    assert result.degree == 0
    moved = result.wcs.pixel_to_plane(np.array([1000.0]), np.array([2000.0]))
    start = seed.pixel_to_plane(np.array([1000.0]), np.array([2000.0]))
    assert (moved[0] - start[0])[0] * 3600 == pytest.approx(12.0, abs=1e-5)
    assert (moved[1] - start[1])[0] * 3600 == pytest.approx(-3.0, abs=1e-5)


def test_astropy_reads_the_same_positions():
    seed, pairs = make_pairs(200)
    wcs = fit_ccd(seed, pairs, SHAPE, SETTINGS).wcs
    header = fits.Header(list(wcs.to_header().items()))
    header["NAXIS1"], header["NAXIS2"] = 2048, 4096
    x, y = np.array([0.0, 2047.0, 600.5]), np.array([0.0, 4095.0, 2222.25])
    ra, dec = WCS(header).all_pix2world(x, y, 0)
    ours = wcs.pixel_to_sky(x, y)
    assert np.abs(ra - ours[0]).max() * MAS < 0.01
    assert np.abs(dec - ours[1]).max() * MAS < 0.01


def test_a_false_match_is_refused_not_fitted():
    random = np.random.default_rng(3)
    seed, pairs = make_pairs(40)
    shuffled = Pairs(
        pairs.x,
        pairs.y,
        pairs.xi + random.normal(0, 0.4 / 3600, 40),
        pairs.eta + random.normal(0, 0.4 / 3600, 40),
        pairs.xi_error_mas,
        pairs.eta_error_mas,
        pairs.snr,
    )
    with pytest.raises(CcdError) as caught:
        fit_ccd(seed, shuffled, SHAPE, SETTINGS)
    assert caught.value.reason == "astrometry_no_match"


def test_pixel_errors_become_sky_errors():
    seed = seed_wcs(28, 10.0, -30.0)
    x, y = np.array([1000.0]), np.array([2000.0])
    xi_error, eta_error = pair_errors_mas(
        seed, x, y, (np.array([0.1]), np.array([0.2])), (np.array([0.0]), np.array([0.0]))
    )
    # x runs to the south and y to the east.
    assert xi_error[0] == pytest.approx(0.2 * 263.0, rel=0.01)
    assert eta_error[0] == pytest.approx(0.1 * 263.0, rel=0.01)
