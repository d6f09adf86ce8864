"""PSF fluxes: scatter at the noise, no bias, neighbours, backgrounds, stars against galaxies."""

import numpy as np
import pytest

from imaging.catalogue.build import find_sources
from imaging.catalogue.psf_photometry import psf_photometry
from imaging.catalogue.settings import CatalogueSettings
from imaging.image import CcdImage
from imaging.psf.model import PsfModel
from imaging.psf.shape import model_fwhm, normalised
from imaging.simulation.star_fields import MoffatPsf, draw_field

SETTINGS = CatalogueSettings()
SHAPE = (1500, 1200)


def true_model(psf):
    """Return the constant PSF of a field as a model."""
    step, reach = 0.5, 45
    offsets = np.arange(-reach, reach + 1) * step
    shape = psf.inverse_shape(np.array([600.0]), np.array([750.0]))[0]
    dx, dy = np.meshgrid(offsets, offsets)
    q = shape[0] * dx**2 + shape[1] * dx * dy + shape[2] * dy**2
    samples = ((1 + q) ** -psf.beta).astype(np.float32)
    model = PsfModel(samples[None], 0, step, (599.5, 749.5), (600.0, 750.0), psf.fwhm_pixels)
    return normalised(model)


@pytest.fixture(scope="module")
def constant_psf():
    return MoffatPsf(fwhm_pixels=4.0, size_variation=0.0, shape_variation=0.0, shape=SHAPE)


@pytest.fixture(scope="module")
def measured(constant_psf):
    field = draw_field(21, psf=constant_psf, n_stars=260, n_galaxies=160, mag_range=(16.5, 22.5))
    sources = find_sources(field.image, 4.0, SETTINGS)
    photometry = psf_photometry(
        field.image, true_model(constant_psf), sources.centroids.x, sources.centroids.y, sources.shapes.flux, SETTINGS
    )
    distance = np.hypot(field.x[:, None] - photometry.x, field.y[:, None] - photometry.y)
    nearest, inside = distance.argmin(axis=0), distance.min(axis=0) < 1.0
    alone = np.sort(distance, axis=0)[1] > 18
    return field, sources, photometry, nearest, inside & alone & (sources.flags == 0) & (sources.shapes.mask == 0)


def test_model_of_the_test_is_right(constant_psf):
    assert model_fwhm(true_model(constant_psf)) == pytest.approx(4.0, rel=0.02)


def test_fluxes_scatter_with_their_errors_and_without_bias(measured):
    field, _, photometry, nearest, good = measured
    stars = good & ~field.is_galaxy[nearest]
    pull = (photometry.flux - field.flux[nearest])[stars] / photometry.flux_error[stars]
    assert stars.sum() > 80
    assert pull.std() == pytest.approx(1.0, abs=0.3)
    assert abs(pull.mean()) < 0.35
    bright = stars & (field.flux[nearest] > 1e5)
    ratio = photometry.flux[bright] / field.flux[nearest][bright]
    assert abs(np.median(ratio) - 1) < 0.002
    assert ratio.std() < 0.006
    assert np.median(photometry.chi2[stars]) == pytest.approx(1.0, abs=0.1)


def test_centroids_keep_their_errors(measured):
    field, _, photometry, nearest, good = measured
    stars = good & ~field.is_galaxy[nearest]
    for found, true, error in (
        (photometry.x, field.x, photometry.x_error),
        (photometry.y, field.y, photometry.y_error),
    ):
        assert ((found - true[nearest])[stars] / error[stars]).std() == pytest.approx(1.0, abs=0.25)


def test_spread_model_separates_stars_from_galaxies(measured):
    field, _, photometry, nearest, good = measured
    bright = good & (photometry.flux > 25 * photometry.flux_error)
    stars, galaxies = bright & ~field.is_galaxy[nearest], bright & field.is_galaxy[nearest]
    pull = photometry.spread_model[stars] / photometry.spread_model_error[stars]
    assert pull.std() == pytest.approx(1.0, abs=0.25)
    assert (np.abs(photometry.spread_model[stars]) < 0.003).mean() > 0.97
    assert galaxies.sum() > 10
    assert (photometry.spread_model[galaxies] > 0.003).mean() > 0.9


def pair_image(psf, separation, ratio, flux=2e5):
    """Return two stars on noise, their places and fluxes."""
    random = np.random.default_rng(2)
    ny, nx = 121, 161
    science = 50.0 * random.standard_normal((ny, nx))
    places = [(60.2, 60.4, flux), (60.2 + separation, 60.4, flux * ratio)]
    for x, y, f in places:
        j, i = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
        stamp = f * psf.stamp(x, y, 30)
        science[j - 30 : j + 31, i - 30 : i + 31] += stamp
    image = CcdImage(
        science.astype(np.float32), np.zeros((ny, nx), np.int16), np.full((ny, nx), 1 / 2500.0, np.float32), {}
    )
    return image, places


@pytest.mark.parametrize(("separation", "ratio"), [(7.0, 0.3), (9.0, 1.0), (12.0, 0.02)])
def test_neighbours_do_not_bias_each_other(constant_psf, separation, ratio):
    image, places = pair_image(constant_psf, separation, ratio)
    x, y, flux = (np.array(v) for v in zip(*places, strict=True))
    result = psf_photometry(image, true_model(constant_psf), x + 0.1, y - 0.1, flux, SETTINGS)
    assert np.abs((result.flux - flux) / result.flux_error).max() < 4.0
    assert np.abs((result.x - x) / result.x_error).max() < 4.0


def test_local_background_is_measured_and_removed(constant_psf):
    image, places = pair_image(constant_psf, 60.0, 0.0)
    image.science[:] += 30.0
    x, y, flux = (np.array(v)[:1] for v in zip(*places, strict=True))
    result = psf_photometry(image, true_model(constant_psf), x, y, flux, SETTINGS)
    assert result.background[0] == pytest.approx(30.0, abs=4.0)
    assert result.flux[0] == pytest.approx(flux[0], rel=0.01)


def test_a_source_under_the_mask_has_no_flux_rather_than_a_wrong_one(constant_psf):
    image, places = pair_image(constant_psf, 60.0, 0.0)
    image.weight[40:81, 40:81] = 0.0
    x, y, flux = (np.array(v)[:1] for v in zip(*places, strict=True))
    result = psf_photometry(image, true_model(constant_psf), x, y, flux, SETTINGS)
    assert np.isnan(result.flux[0])
    assert np.isnan(result.flux_error[0])


def test_half_masked_star_keeps_its_flux(constant_psf):
    image, places = pair_image(constant_psf, 60.0, 0.0)
    image.science[:, 62:64] = 1e5
    image.weight[:, 62:64] = 0.0
    x, y, flux = (np.array(v)[:1] for v in zip(*places, strict=True))
    result = psf_photometry(image, true_model(constant_psf), x, y, flux, SETTINGS)
    assert abs(result.flux[0] - flux[0]) < 5 * result.flux_error[0]


def test_no_sources_is_no_problem(constant_psf):
    image, _ = pair_image(constant_psf, 10.0, 0.0)
    none = np.zeros(0)
    assert psf_photometry(image, true_model(constant_psf), none, none, none, SETTINGS).flux.size == 0
