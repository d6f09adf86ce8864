"""SPREAD_MODEL of galaxies that galsim convolved with the PSF, and how well it tells them from stars."""

import galsim
import numpy as np
import pytest
from drawn import as_image, draw, psf_model, with_noise

from imaging.catalogue.psf_photometry import psf_photometry
from imaging.catalogue.settings import CatalogueSettings

SETTINGS = CatalogueSettings()
FWHM, SIGMA = 4.0, 40.0
PSF = galsim.Moffat(beta=3.0, fwhm=FWHM)
MODEL = psf_model(PSF, FWHM)


def field(profile, flux, n=6, spacing=44, seed=None):
    """Return the SPREAD_MODEL photometry of a grid of equal sources, on noise where there is a seed."""
    places = np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2) * spacing + 26.0
    x, y = (places + np.random.default_rng(7).uniform(-0.5, 0.5, places.shape)).T
    size = (n - 1) * spacing + 52
    light = draw((size, size), [(profile.withFlux(flux), *place) for place in zip(x, y, strict=True)])
    science = light if seed is None else with_noise(light, SIGMA, seed)
    return psf_photometry(as_image(science, SIGMA), MODEL, x, y, np.full(x.size, flux), SETTINGS)


def disk(half_light_radius):
    return galsim.Convolve(PSF, galsim.Exponential(half_light_radius=half_light_radius))


def expected_spread(profile):
    """Return SPREAD_MODEL by its definition (Desai et al. 2012) from images that galsim drew."""
    half = int(np.ceil(SETTINGS.psf_fit_radius_fwhm * FWHM))
    shape, middle = (2 * half + 1, 2 * half + 1), (half, half)
    p, s = (draw(shape, [(q, *middle)]).ravel() for q in (profile, PSF))
    g = draw(shape, [(galsim.Convolve(PSF, galsim.Exponential(scale_radius=FWHM / 16)), *middle)]).ravel()
    return (g @ p) / (s @ p) - (g @ s) / (s @ s)


@pytest.mark.parametrize("half_light_radius", [0.5, 1.0, 2.0, 4.0])
def test_the_spread_of_a_disk_is_that_of_its_definition(half_light_radius):
    found = field(disk(half_light_radius), 1e5, n=2).spread_model
    expected = expected_spread(disk(half_light_radius))
    # The middle of a source lies anywhere in its pixel, the expectation's on the middle of one.
    assert found == pytest.approx(expected, rel=0.05, abs=1e-4)


def test_the_spread_of_a_star_is_zero_at_all_fluxes():
    for flux in (1e3, 1e5, 1e7):
        assert np.abs(field(PSF, flux, n=2).spread_model).max() < 2e-4


def test_a_cosmic_ray_is_sharper_than_a_star():
    assert field(galsim.Gaussian(fwhm=2.0), 1e5, n=2).spread_model.max() < -0.002


@pytest.mark.parametrize(("profile", "flux"), [(PSF, 2e4), (PSF, 2e5), (disk(1.5), 3e4)])
def test_errors_of_the_spread_are_its_scatter(profile, flux):
    result = field(profile, flux, seed=11)
    stated = np.median(result.spread_model_error)
    n = result.spread_model.size
    assert result.spread_model.std() == pytest.approx(stated, rel=4 / np.sqrt(2 * n))
    centre = 0.0 if profile is PSF else expected_spread(profile)
    assert abs(result.spread_model.mean() - centre) < 4 * stated / np.sqrt(n) + 0.05 * centre


def test_small_galaxies_are_told_from_stars_at_a_signal_to_noise_of_forty():
    """Half-light radii of 0.5 arcsec, as of galaxies of 22nd magnitude: hardly one in thirty is taken for a star."""
    stars, galaxies = field(PSF, 2.5e4, seed=12), field(disk(2.0), 4e4, seed=13)
    assert np.median(stars.flux / stars.flux_error) == pytest.approx(60, abs=15)
    cut = 3.0 * stars.spread_model_error
    assert (stars.spread_model < cut).mean() >= 0.96
    assert (galaxies.spread_model > 3.0 * galaxies.spread_model_error).mean() >= 0.96


def test_the_psf_flux_of_a_galaxy_falls_below_its_light():
    """The matched share of a resolved profile, by the definition of a least-squares flux."""
    profile = disk(3.0)
    found = field(profile, 1e5, n=2).flux
    half, radius = 7, SETTINGS.psf_fit_radius_fwhm * FWHM
    j, i = np.indices((2 * half + 1, 2 * half + 1)) - half
    use = np.hypot(i, j) <= radius
    p, s = (draw(use.shape, [(q, half, half)])[use] for q in (profile, PSF))
    star = field(PSF, 1e5, n=2).flux
    assert found / star == pytest.approx((s @ p) / (s @ s), rel=0.02)
    assert np.all(found < 0.7 * star)
