"""Fluxes, positions, errors and shapes of sources that GalSim drew, against their truth and other fits."""

from dataclasses import fields

import galsim
import numpy as np
import pytest
from astropy.nddata import NDData, StdDevUncertainty
from astropy.table import Table
from photutils.psf import GaussianPRF, PSFPhotometry
from scipy.stats import norm

from imaging.difference.measure import COLUMNS, Measurements, measure_sources
from imaging.difference.settings import DetectionSettings
from tests.difference.drawn import FWHM, ROUND, SIGMA, draw, grid_places, model_of, varying_model, varying_profile

EXACT = DetectionSettings(psf_error=0.0)
NO_PHOTONS = 1e12
SHIFTS = ((0.05, 0.0), (0.0, 0.05))


def weight_of(image):
    return np.full(image.shape, 1 / SIGMA**2, np.float32)


def measured(image, x, y, *, weight=None, psf=None, gain=NO_PHOTONS, settings=EXACT):
    image = np.asarray(image, np.float32)
    weight = weight_of(image) if weight is None else weight
    return measure_sources(image, weight, psf or model_of(ROUND), np.atleast_1d(x), np.atleast_1d(y), gain, settings)


def test_columns_are_named_as_the_record_has_them():
    assert tuple(f.name for f in fields(Measurements)) == COLUMNS


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_source_without_noise_is_measured_as_it_was_drawn_wherever_the_psf_varies(sign):
    x, y, shape = grid_places(4, 40, np.random.default_rng(1))
    place = ((60.0, 100.0), (200.0, 150.0))
    profiles = [varying_profile(a, b, *place) for a, b in zip(x, y, strict=True)]
    flux = sign * np.geomspace(500.0, 5e5, x.size)
    image = draw(shape, x, y, flux, profiles)
    m = measured(image, np.rint(x), np.rint(y), psf=varying_model(*place))
    assert m.flux == pytest.approx(flux, rel=1e-3)
    # the interpolation of the PSF's samples moves it by up to 0.0051 pixel, a fifteenth of the coordinates' error
    assert m.x == pytest.approx(x, abs=0.006) and m.y == pytest.approx(y, abs=0.006)
    assert np.abs(m.spread).max() < 2e-4
    assert (m.chi2 < 1e-6 * flux**2 / SIGMA**2).all()
    wrong = measured(image, np.rint(x), np.rint(y))  # a PSF that does not vary
    assert np.median(wrong.chi2 / m.chi2) > 10


@pytest.mark.parametrize(("flux", "gain"), [(1500.0, 1.0), (3e4, 0.5), (-3e4, 4.0)])
def test_fluxes_positions_and_chi_square_scatter_as_their_errors_say(flux, gain):
    rng = np.random.default_rng(2)
    x, y, shape = grid_places(20, 27, rng)
    light = draw(shape, x, y, np.full(x.size, abs(flux)))
    image = np.sign(flux) * rng.poisson(np.maximum(light, 0.0) * gain) / gain + rng.normal(0.0, SIGMA, shape)
    m = measured(image, np.rint(x), np.rint(y), gain=gain)
    n, signal = x.size, abs(flux) / np.median(m.flux_error)
    for pull in ((m.flux - flux) / m.flux_error, (m.x - x) / m.x_error, (m.y - y) / m.y_error):
        assert pull.std() == pytest.approx(1.0, abs=3 / np.sqrt(2 * n))
        assert abs(pull.mean()) < 3 / np.sqrt(n) + 1.0 / signal  # the best position is where noise adds to the flux
    freedom = np.pi * (1.5 * FWHM) ** 2 - 3
    assert m.chi2.mean() == pytest.approx(1.0, abs=4 * np.sqrt(2 / (freedom * n)) + 0.01)
    # of a Gaussian on white noise alone (King 1983): 4 pi sigma^2 pixels of noise; the photons add to it
    width2 = (FWHM / 2.3548) ** 2 + 1 / 12
    sky = np.sqrt(4 * np.pi * width2) * SIGMA
    # weights of blank sky give the photons the factor int p^3 / (int p^2)^2 = 4/3
    assert np.median(m.flux_error) == pytest.approx(np.hypot(sky, np.sqrt(4 / 3 * abs(flux) / gain)), rel=0.03)


def test_photutils_fits_the_same_flux_place_and_errors():
    rng = np.random.default_rng(3)
    x, y, shape = grid_places(6, 40, rng)
    image = draw(shape, x, y, np.geomspace(1e3, 2e4, x.size)) + rng.normal(0.0, SIGMA, shape)
    mine = measured(image, np.rint(x), np.rint(y))
    fit = PSFPhotometry(GaussianPRF(x_fwhm=FWHM, y_fwhm=FWHM), fit_shape=(13, 13))
    start = Table({"x_init": x, "y_init": y, "flux_init": np.full(x.size, 5e3)})
    theirs = fit(NDData(image, uncertainty=StdDevUncertainty(np.full(shape, SIGMA))), init_params=start)
    assert np.abs(mine.flux - theirs["flux_fit"]).max() < 0.35 * np.median(mine.flux_error)
    assert (np.abs(mine.x - theirs["x_fit"]) < 0.4 * mine.x_error + 0.006).all()
    assert (np.abs(mine.y - theirs["y_fit"]) < 0.4 * mine.y_error + 0.006).all()
    for error, name in ((mine.flux_error, "flux_err"), (mine.x_error, "x_err"), (mine.y_error, "y_err")):
        assert error == pytest.approx(np.array(theirs[name]), rel=0.03 if "flux" in name else 0.1)


def test_a_wrong_psf_is_forgiven_as_far_as_its_error_goes():
    """Of a bright source that is 3 per cent wider the chi-square falls to the ratio of both variances."""
    wide = galsim.Gaussian(fwhm=1.03 * FWHM)
    image = draw((61, 61), [30.0], [29.5], [2e5], wide)
    strict, kind = (measured(image, 30.0, 30.0, settings=EXACT.with_values(psf_error=e)) for e in (0.0, 0.05))
    place = np.hypot(*np.ogrid[-29.5:31, -30:31]) <= 1.5 * FWHM
    stamp = draw((61, 61), [30.0], [29.5], [1.0])
    residual = image - strict.flux[0] * stamp
    count = place.sum() - 3
    for m, error in ((strict, 0.0), (kind, 0.05)):
        variance = SIGMA**2 + (error * m.flux[0] * stamp) ** 2
        assert m.chi2[0] == pytest.approx((residual**2 / variance)[place].sum() / count, rel=0.02)
    assert strict.chi2[0] > 30 > 5 > kind.chi2[0]


def test_a_small_window_cuts_the_disc_on_all_sides_alike():
    """Chi-square, errors and shares are those of a square of nine pixels within the radius of the fit."""
    x, y, half, gain = 30.0, 30.5, 4, 2.0
    stamp = draw((61, 61), [x], [y], [1.0])
    image = (1e4 * stamp + np.random.default_rng(9).normal(0.0, 100.0, (61, 61))).astype(np.float32)
    settings = EXACT.with_values(stamp_half_width=half, max_shift_pixels=0.0)
    m = measured(image, x, y, gain=gain, settings=settings)
    window = np.zeros((61, 61), bool)
    window[31 - half : 32 + half, 30 - half : 31 + half] = True  # 30.5 belongs to the pixel above
    used = window & (np.hypot(*np.ogrid[-y : 60 - y + 0.1, -x : 60 - x + 0.1]) <= 1.5 * FWHM)
    p, data = stamp[used], image[used].astype(float)
    flux = (p * data).sum() / (p**2).sum()
    photons = abs(flux) * p / gain
    assert m.flux[0] == pytest.approx(flux, rel=1e-4)
    error2 = SIGMA**2 / (p**2).sum() + (p**2 * photons).sum() / (p**2).sum() ** 2
    assert m.flux_error[0] == pytest.approx(np.sqrt(error2), rel=1e-4)
    chi2 = ((data - flux * p) ** 2 / (SIGMA**2 + photons)).sum() / (used.sum() - 3)
    assert m.chi2[0] == pytest.approx(chi2, rel=1e-4)
    slopes = [(draw((61, 61), [x + a], [y + b], [10.0]) - draw((61, 61), [x - a], [y - b], [10.0])) for a, b in SHIFTS]
    # where a sample of the PSF lies on a pixel its interpolated slope is seven per cent too steep
    for slope, error in zip(slopes, (m.x_error[0], m.y_error[0]), strict=True):
        s = slope[used]
        assert error == pytest.approx(np.sqrt((s**2 * (SIGMA**2 + photons)).sum()) / (s**2).sum() / abs(flux), rel=0.1)
    negative = (image[window] < -2 * SIGMA).sum()
    assert m.negative_fraction[0] == pytest.approx(negative / window.sum(), abs=1e-12)


def spread_of(image, stamp, wide, inside):
    """SPREAD_MODEL as SExtractor defines it (Desai et al. 2012), for white noise."""
    return (wide * image)[inside].sum() / (stamp * image)[inside].sum() - (wide * stamp)[inside].sum() / (stamp**2)[
        inside
    ].sum()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_spread_is_that_of_the_definition_and_has_the_sign_of_the_shape(sign):
    shape, x, y = (61, 61), 30.3, 29.8
    ring = [k * np.pi / 4 for k in range(8)]
    stamp = draw(shape, [x], [y], [1.0])
    circle = (x + FWHM / 8 * np.cos(ring), y + FWHM / 8 * np.sin(ring))
    wide = draw(shape, *circle, np.full(8, 1 / 8))
    inside = np.hypot(*np.ogrid[-y : 61 - y - 0.5, -x : 61 - x - 0.5]) <= 2 * FWHM
    galaxy = galsim.Convolve(ROUND, galsim.Exponential(half_light_radius=2.0))
    sharp = galsim.Gaussian(fwhm=0.6 * FWHM)
    found = []
    for profile in (sharp, ROUND, galaxy):
        image = sign * draw(shape, [x], [y], [5e4], profile)
        m = measured(image, 30.0, 30.0)
        assert m.x[0] == pytest.approx(x, abs=0.01)
        found.append(m.spread[0])
        assert m.spread[0] == pytest.approx(spread_of(image, stamp, wide, inside), abs=2e-4)
    assert found[0] < -0.005 < -3e-4 < found[1] < 3e-4 < 0.005 < found[2]


def test_the_spread_of_point_sources_scatters_as_its_error_says():
    rng = np.random.default_rng(5)
    x, y, shape = grid_places(20, 27, rng)
    for flux in (2e3, 4e4):
        light = draw(shape, x, y, np.full(x.size, flux))
        image = rng.poisson(np.maximum(light, 0.0)) + rng.normal(0.0, SIGMA, shape)
        m = measured(image, np.rint(x), np.rint(y), gain=1.0)
        pull = m.spread / m.spread_error
        # the position is fitted, which takes up a part of the shape: at most a tenth of the width
        assert 0.9 - 3 / np.sqrt(2 * x.size) < pull.std() < 1.0 + 3 / np.sqrt(2 * x.size)
        assert abs(np.median(pull)) < 3 * 1.25 / np.sqrt(x.size) + flux**-0.5


def test_windowed_axes_are_those_of_the_product_of_two_gaussians():
    tilted = galsim.Gaussian(fwhm=FWHM).shear(g=0.2, beta=30 * galsim.degrees)
    m = measured(draw((61, 61), [30.1], [30.4], [1e5], tilted), 30.0, 30.0)
    sigma = FWHM / 2.3548
    axes = [sigma**2 * ratio + 1 / 12 for ratio in (1.2 / 0.8, 0.8 / 1.2)]
    expected = [np.sqrt(2 / (1 / axis + 1 / sigma**2)) for axis in axes]
    assert m.a_image[0] == pytest.approx(expected[0], rel=0.01)
    assert m.b_image[0] == pytest.approx(expected[1], rel=0.01)


def test_shares_of_negative_and_masked_pixels_are_counted():
    shape, x, y = (61, 61), 30.3, 29.8
    image, weight = draw(shape, [x], [y], [1e4]), np.full((61, 61), 1 / SIGMA**2, np.float32)
    image[19, 18:25], image[19, 40:42] = -2.1 * SIGMA, -1.9 * SIGMA  # in the window of 25 pixels, far from the core
    image[17, 20:40] = -9 * SIGMA  # beyond it: the window begins at row 18
    weight[18, 30:34] = 0.0
    weight[28, 31] = weight[33, 33] = weight[26, 32] = 0.0  # 2.0, 4.2 and 4.2 pixels from the source
    weight[30, 34] = 0.0  # 3.7 pixels from it
    for sign in (1.0, -1.0):
        m = measured(sign * image, 30.0, 30.0, weight=weight)
        assert m.negative_fraction[0] == pytest.approx(7 / (25**2 - 8 - 0), abs=1e-12)
        distance = np.hypot(*np.ogrid[-m.y[0] : 60.5 - m.y[0], -m.x[0] : 60.5 - m.x[0]])
        near = distance <= FWHM
        assert (near & (weight <= 0)).sum() == 2
        assert m.masked_fraction[0] == pytest.approx(2 / near.sum(), abs=1e-12)


def test_noise_alone_has_the_gaussian_share_of_negative_pixels():
    rng = np.random.default_rng(6)
    x, y, shape = grid_places(16, 26, rng)
    m = measured(rng.normal(0.0, SIGMA, shape), np.rint(x), np.rint(y), settings=EXACT.with_values(max_shift_pixels=0))
    share, n = norm.cdf(-2.0), 256 * 625
    assert m.negative_fraction.mean() == pytest.approx(share, abs=4 * np.sqrt(share / n))
    assert np.array_equal(m.x, np.rint(x)) and np.array_equal(m.y, np.rint(y))


def test_a_fit_ends_two_pixels_from_the_peak_and_no_pixel_gives_no_flux():
    image = draw((61, 61), [30.0], [30.0], [1e5])
    near = measured(image, 31.5, 29.0)
    assert (near.x[0], near.y[0]) == (pytest.approx(30.0, abs=0.002), pytest.approx(30.0, abs=0.002))
    far = measured(image, 32.0, 32.0)
    assert (far.x[0], far.y[0]) == pytest.approx((32.0 - 2.0**0.5, 32.0 - 2.0**0.5), abs=0.01)
    nothing = measured(image, 30.0, 30.0, weight=np.zeros((61, 61), np.float32))
    assert nothing.flux[0] == 0.0 and np.isinf(nothing.flux_error[0]) and np.isinf(nothing.spread_error[0])
    assert nothing.masked_fraction[0] == 1.0 and nothing.negative_fraction[0] == 0.0


def test_a_residual_of_the_host_does_not_draw_the_position_away():
    """A transient of S/N 15 beside the core of a host that was subtracted 0.05 pixels off and 2 percent too weakly."""
    rng = np.random.default_rng(31)
    host = draw((61, 61), [27.0], [30.0], [3e5], galsim.Gaussian(fwhm=7.0))
    moved = draw((61, 61), [27.05], [30.0], [3e5], galsim.Gaussian(fwhm=7.0))
    source = 15.0 * SIGMA * np.sqrt(4 * np.pi) * FWHM / 2.3548
    left = draw((61, 61), [30.0], [30.0], [source]) + 1.02 * moved - host
    weight = np.full((61, 61), SIGMA**-2.0, np.float32)
    away = {False: [], True: []}
    for _ in range(30):
        image = (left + rng.normal(0.0, SIGMA, (61, 61))).astype(np.float32)
        for known in away:
            template = (host.astype(np.float32), 0.02, 0.05) if known else None
            m = measure_sources(
                *(image, weight, model_of(ROUND), np.array([30.0]), np.array([30.0]), np.inf, EXACT), template
            )
            away[known].append(m.x[0] - 30.0)
    error = FWHM / 2.3548 * np.sqrt(2.0) / 15.0  # of the position of a Gaussian source in white noise
    assert abs(np.median(away[True])) < 2.0 * error
    assert abs(np.median(away[True])) < 0.5 * abs(np.median(away[False]))


def test_a_source_at_the_corner_is_measured_from_the_pixels_that_are_there():
    image = draw((50, 40), [0.3, 38.6], [0.4, 48.8], [1e5, -1e5])
    m = measured(image, np.array([0.0, 39.0]), np.array([0.0, 49.0]))
    assert m.flux == pytest.approx([1e5, -1e5], rel=2e-3)
    assert m.x == pytest.approx([0.3, 38.6], abs=0.005) and m.y == pytest.approx([0.4, 48.8], abs=0.005)
    for k in range(2):
        beyond = np.array([(j, i) for j in range(-9, 60) for i in range(-9, 50)])
        near = np.hypot(beyond[:, 0] - m.y[k], beyond[:, 1] - m.x[k]) <= FWHM
        outside = (beyond < 0).any(axis=1) | (beyond[:, 0] >= 50) | (beyond[:, 1] >= 40)
        assert m.masked_fraction[k] == pytest.approx((near & outside).sum() / near.sum(), abs=1e-12)
