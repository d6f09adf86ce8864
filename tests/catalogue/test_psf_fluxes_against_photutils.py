"""PSF fluxes of galsim's stars against photutils' fits, least squares by scipy, and the Cramer-Rao bound."""

import warnings

import galsim
import numpy as np
import pytest
from astropy.table import Table
from drawn import as_image, draw, in_reference_aperture, psf_model, with_noise
from photutils.psf import MoffatPSF, PSFPhotometry
from scipy.optimize import least_squares

from imaging.catalogue.psf_photometry import psf_photometry
from imaging.catalogue.psf_source import add_source, error_and_chi2, fit_one, normal_equations, samples_at
from imaging.catalogue.settings import CatalogueSettings

SETTINGS = CatalogueSettings()
FWHM, BETA, SIGMA = 4.0, 3.0, 40.0
PSF = galsim.Moffat(beta=BETA, fwhm=FWHM)
MODEL = psf_model(PSF, FWHM)
SHARE = in_reference_aperture(PSF)
PIXEL_MODEL = (MODEL.coefficients, 0, MODEL.step, MODEL.origin, MODEL.scale)
INTERPOLATED = 0.007
"""How far a star moves, pixels, where a model of steps
of half a pixel is interpolated; its values are off by a quarter of this per pixel, over its peak."""
RADIUS = SETTINGS.psf_fit_radius_fwhm * FWHM


def grid(n, spacing, seed):
    random = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2) * spacing + 25.0
    return (places + random.uniform(-0.5, 0.5, places.shape)).T


def unit_star(x, y, half=12):
    """Return a star of unit flux in the reference aperture as galsim draws it, centred near the middle."""
    return draw((2 * half + 1, 2 * half + 1), [(PSF, half + x, half + y)]) / SHARE


def stars(x, y, flux):
    shape = (int(y.max()) + 26, int(x.max()) + 26)
    return draw(shape, [(PSF * (f / SHARE), a, b) for a, b, f in zip(x, y, flux, strict=True)])


def test_the_reference_aperture_holds_the_known_share_of_a_moffat_profile():
    alpha = FWHM / (2 * np.sqrt(2 ** (1 / BETA) - 1))
    assert pytest.approx(1 - (1 + (11.11 / alpha) ** 2) ** (1 - BETA), abs=2e-4) == SHARE


def test_noiseless_stars_have_the_drawn_flux_and_place():
    x, y = grid(4, 60, 1)
    flux = np.geomspace(1e3, 1e6, x.size)
    result = psf_photometry(as_image(stars(x, y, flux), SIGMA), MODEL, x + 0.2, y - 0.3, flux, SETTINGS)
    # Interpolation of the model costs 1e-4, wings of the brighter neighbours a tenth of an electron per pixel.
    assert result.flux == pytest.approx(flux, rel=1e-3)
    assert result.x == pytest.approx(x, abs=2e-3)
    assert result.y == pytest.approx(y, abs=2e-3)
    assert np.abs(result.background).max() < 1.0


def test_fluxes_and_errors_are_those_of_photutils():
    x, y = grid(5, 45, 2)
    flux = np.geomspace(4e3, 2e5, x.size)
    science = with_noise(stars(x, y, flux), SIGMA, 3)
    image = as_image(science, SIGMA)
    ours = psf_photometry(image, MODEL, x, y, flux, SETTINGS)
    model = MoffatPSF(alpha=FWHM / (2 * np.sqrt(2 ** (1 / BETA) - 1)), beta=BETA)
    fit = PSFPhotometry(model, (13, 13), aperture_radius=5.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy's fitters announce their changes
        theirs = fit(science, error=np.full(science.shape, SIGMA), init_params=Table({"x": x, "y": y, "flux": flux}))
    their_flux, their_error = (np.asarray(theirs[name]) * SHARE for name in ("flux_fit", "flux_err"))
    # Both fit the same pixels but for the corners of the box, which hold 3 % of the weight, and the local background.
    assert np.abs((ours.flux - their_flux) / ours.flux_error).max() < 0.6
    assert np.abs((ours.x - np.asarray(theirs["x_fit"])) / ours.x_error).max() < 0.8
    # Photutils states the sky's noise alone; ours adds the photons of the star.
    faint = flux < 1.2e4
    assert faint.sum() >= 5
    photons = flux[faint] * np.sum(unit_star(0, 0) ** 3) / np.sum(unit_star(0, 0) ** 2) ** 2
    expected = np.sqrt(their_error[faint] ** 2 + photons)
    assert ours.flux_error[faint] == pytest.approx(expected, rel=0.03)


def cramer_rao(flux):
    """Return the bound on a flux's error whose position is free (a round PSF: they do not mix), pixels beyond all."""
    p = unit_star(0.0, 0.0, 20)
    return 1.0 / np.sqrt(np.sum(p**2 / (SIGMA**2 + flux * p)))


@pytest.mark.parametrize("flux", [8e3, 4e5])
def test_errors_reach_the_cramer_rao_bound_within_a_few_percent(flux):
    """The sky's weights lose little: the sandwich formula and 225 fits on noise say how much."""
    x, y = grid(15, 36, 4)
    science = with_noise(stars(x, y, np.full(x.size, flux)), SIGMA, 5)
    result = psf_photometry(as_image(science, SIGMA), MODEL, x, y, np.full(x.size, flux), SETTINGS)
    bound = cramer_rao(flux)
    p = unit_star(0.0, 0.0)
    sandwich = np.sqrt(SIGMA**2 / np.sum(p**2) + flux * np.sum(p**3) / np.sum(p**2) ** 2)
    stated = np.median(result.flux_error)
    assert stated == pytest.approx(sandwich, rel=0.015)
    assert bound <= stated * 1.001
    assert stated < 1.2 * bound
    scatter = np.std(result.flux - flux)
    # The scatter of a width from n values; the ring of the background adds 2 % of the noise.
    assert scatter == pytest.approx(stated, rel=0.02 + 3.0 / np.sqrt(2 * x.size))
    assert abs(np.mean(result.flux) - flux) < 3.5 * stated / np.sqrt(x.size) + 1e-3 * flux
    assert np.mean(result.chi2) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 126 / x.size))


def fit(science, weight, start, place, radius=RADIUS, background=0.0, max_shift=1.0):
    samples = samples_at(PIXEL_MODEL, *place, 20)
    return fit_one(science, weight, samples, MODEL.step, start, place, background, radius, max_shift)


@pytest.fixture
def uneven():
    """Return a noisy star at (30.3, 29.8) on two amplifiers of different noise, one column of them masked."""
    shape = (61, 61)
    sigma = np.full(shape, 20.0)
    sigma[:, 32:] = 90.0
    light = draw(shape, [(PSF * (5e4 / SHARE), 30.3, 29.8)]) + 15.0
    science = light + sigma * np.random.default_rng(6).standard_normal(shape)
    weight = sigma**-2
    science[:, 34] = 1e5
    weight[:, 34] = 0.0
    return science.astype(np.float32), weight.astype(np.float32)


def test_a_fit_is_the_weighted_least_squares_of_scipy(uneven):
    science, weight = uneven
    x, y, flux = fit(science, weight, (30.0, 30.0), (30.0, 30.0), radius=12.3, background=15.0)
    j, i = np.indices(science.shape)
    use = (np.hypot(i - x, j - y) <= 12.3) & (weight > 0)

    def residuals(p):
        model = draw(science.shape, [(PSF * (p[0] / SHARE), p[1], p[2])]) + 15.0
        return ((science - model) * np.sqrt(weight))[use]

    best = least_squares(residuals, (4e4, 30.0, 30.0), x_scale=(1e3, 0.1, 0.1), diff_step=1e-4)
    errors = np.sqrt(np.diag(np.linalg.inv(best.jac.T @ best.jac)))
    assert abs(flux - best.x[0]) < 0.15 * errors[0]
    assert (x, y) == pytest.approx(tuple(best.x[1:]), abs=INTERPOLATED)
    samples = samples_at(PIXEL_MODEL, x, y, 20)
    error, chi2 = error_and_chi2(science, weight, samples, MODEL.step, (x, y), flux, 15.0, 12.3)
    shot = np.clip(draw(science.shape, [(PSF * (flux / SHARE), x, y)]), 0, None)[use]
    sky = best.jac.T @ best.jac
    sandwich = np.linalg.inv(sky) + np.linalg.inv(sky) @ (best.jac.T * (shot * weight[use])) @ best.jac @ np.linalg.inv(
        sky
    )
    assert error == pytest.approx(np.sqrt(sandwich[0, 0]), rel=0.005)
    expected = np.sum(residuals(best.x) ** 2 / (1 + shot * weight[use])) / (use.sum() - 3)
    assert chi2 == pytest.approx(expected, rel=0.002)


def forced(science, weight, x, y, radius=RADIUS):
    """Return the flux of a star that is held at a place."""
    j, i = np.indices(science.shape)
    use = (np.hypot(i - x, j - y) <= radius) & (weight > 0)
    p = draw(science.shape, [(PSF / SHARE, x, y)])[use]
    return np.sum(weight[use] * p * science[use]) / np.sum(weight[use] * p * p)


@pytest.mark.parametrize(("dx", "free"), [(0.9, True), (-0.9, True), (1.1, False), (-1.1, False)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_fit_may_move_by_a_pixel_and_is_held_at_its_start_beyond(dx, free, axis):
    science = draw((61, 61), [(PSF * (5e4 / SHARE), 30.3, 29.8)]).astype(np.float32)
    weight = np.full(science.shape, 1 / 400, np.float32)
    start = (30.3 + dx, 29.8) if axis == 0 else (30.3, 29.8 + dx)
    x, y, flux = fit(science, weight, start, start)
    if free:
        assert (x, y) == pytest.approx((30.3, 29.8), abs=INTERPOLATED)
        assert flux == pytest.approx(5e4, rel=1e-3)
    else:
        assert (x, y) == start
        assert flux == pytest.approx(forced(science, weight, *start), rel=2e-3)
        assert flux < 0.95 * 5e4


def test_a_hole_has_a_negative_flux_at_its_start(uneven):
    science, weight = -uneven[0], uneven[1]
    x, y, flux = fit(science, weight, (30.1, 30.2), (30.4, 29.9))
    assert (x, y) == (30.1, 30.2)
    assert flux == pytest.approx(forced(science, weight, 30.1, 30.2), rel=2e-3)
    assert flux < -3e4


def test_a_star_under_a_mask_that_leaves_one_pixel_keeps_its_place():
    science = draw((61, 61), [(PSF * (5e4 / SHARE), 30.3, 29.8)]).astype(np.float32)
    weight = np.zeros_like(science)
    weight[30, 31] = 0.01
    x, y, flux = fit(science, weight, (30.3, 29.8), (30.3, 29.8))
    assert (x, y) == (30.3, 29.8)
    assert flux == pytest.approx(5e4, rel=0.3 * INTERPOLATED)
    samples = samples_at(PIXEL_MODEL, x, y, 20)
    error, chi2 = error_and_chi2(science, weight, samples, MODEL.step, (x, y), 0.0, 0.0, RADIUS)
    assert error == pytest.approx(10.0 / unit_star(0.3, -0.2)[12, 13], rel=0.3 * INTERPOLATED)
    assert np.isnan(chi2)
    weight[30, 31] = 0.0
    nothing = fit(science, weight, (30.1, 29.9), (30.3, 29.8))
    assert nothing[:2] == (30.1, 29.9)
    assert np.isnan(nothing[2])


@pytest.mark.parametrize(("i", "j"), [(30, 30), (31, 29), (30, 29), (29, 31)])
def test_one_pixel_on_any_side_of_a_star_gives_its_flux_and_no_place(i, j):
    """One value cannot tell a shift from a flux: the normal equations are singular whatever the signs of the slopes."""
    science = draw((61, 61), [(PSF * (5e4 / SHARE), 30.3, 29.8)]).astype(np.float32)
    weight = np.zeros_like(science)
    weight[j, i] = 0.01
    x, y, flux = fit(science, weight, (30.3, 29.8), (30.3, 29.8))
    assert (x, y) == (30.3, 29.8)
    assert flux == pytest.approx(5e4, rel=INTERPOLATED)


def test_normal_equations_hold_the_slopes_of_the_drawn_star():
    science = draw((61, 61), [(PSF * (5e4 / SHARE), 30.0, 30.0)]).astype(np.float32)
    weight = np.full(science.shape, 0.04, np.float32)
    samples = samples_at(PIXEL_MODEL, 30.2, 29.9, 20)
    normal, vector = normal_equations(science, weight, samples, MODEL.step, (30.2, 29.9), 3.0, RADIUS)
    j, i = np.indices(science.shape)
    use = np.hypot(i - 30.2, j - 29.9) <= RADIUS

    def p(dx, dy):
        return draw(science.shape, [(PSF / SHARE, 30.2 + dx, 29.9 + dy)])[use]

    h = 0.01
    rows = np.stack([p(0, 0), (p(h, 0) - p(-h, 0)) / (2 * h), (p(0, h) - p(0, -h)) / (2 * h)])
    expected, wanted = 0.04 * rows @ rows.T, 0.04 * rows @ (science[use] - 3.0)
    assert normal[0, 0] == pytest.approx(expected[0, 0], rel=0.005)
    assert vector[0] == pytest.approx(wanted[0], rel=0.005)
    # The interpolation ripples with the samples: slopes are good to a twelfth.
    assert np.diag(normal)[1:] == pytest.approx(np.diag(expected)[1:], rel=1 / 8)
    assert np.abs(normal - np.diag(np.diag(normal))).max() < 0.02 * normal.min(initial=1, where=np.eye(3, dtype=bool))
    assert vector[1:] == pytest.approx(wanted[1:], rel=1 / 8)
    # The star lies to the left of and above the model: it wants to move there.
    assert vector[1] < 0 < vector[2]


def test_a_source_at_the_border_is_drawn_as_far_as_the_image_goes():
    image = np.zeros((31, 41), np.float32)
    add_source(image, samples_at(PIXEL_MODEL, 39.4, 1.3, 20), MODEL.step, 39.4, 1.3, 1e4, 15)
    expected = draw(image.shape, [(PSF * (1e4 / SHARE), 39.4, 1.3)])
    inside = (np.abs(np.arange(41) - 39) <= 15)[None, :] & (np.abs(np.arange(31) - 1) <= 15)[:, None]
    assert np.abs(image - expected)[inside].max() < 0.3 * INTERPOLATED * expected.max()
    assert not image[~inside].any()
