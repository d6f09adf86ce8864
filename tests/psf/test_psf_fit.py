"""The PSF fit against a known PSF: shape, normalisation, variation, contamination, failure."""

import numpy as np
import pytest

from imaging.catalogue.detect import detect
from imaging.catalogue.settings import CatalogueSettings
from imaging.errors import CcdError
from imaging.psf.fit import fit_psf
from imaging.psf.settings import PsfSettings
from imaging.psf.shape import aperture_flux, psf_ellipticity
from imaging.simulation.star_fields import MoffatPsf, draw_field

SETTINGS = PsfSettings()
SHAPE = (1400, 1200)


def bright_stars(field, n=120, faintest=3e4):
    stars = ~field.is_galaxy & (field.flux > faintest) & (field.flux < 1.1e6)
    margin = 20
    stars &= (field.x > margin) & (field.x < field.psf.shape[1] - margin)
    stars &= (field.y > margin) & (field.y < field.psf.shape[0] - margin)
    chosen = np.flatnonzero(stars)
    return chosen[np.argsort(-field.flux[chosen])][:n]


def fit(field, chosen, jitter=0.02):
    random = np.random.default_rng(0)
    x = field.x[chosen] + random.normal(0, jitter, chosen.size)
    y = field.y[chosen] + random.normal(0, jitter, chosen.size)
    flux = field.flux[chosen] * random.normal(1, 0.01, chosen.size)
    image, fwhm = field.image, field.psf.fwhm_pixels
    isophotes = detect(image, fwhm, CatalogueSettings()).segmentation
    return fit_psf(image.science, image.weight, isophotes, x, y, flux, fwhm, SETTINGS)


def errors(field, model):
    """Return relative L2 error, core flux bias, and flux in the reference aperture at places over the CCD."""
    result = []
    for x in np.linspace(60, SHAPE[1] - 60, 5):
        for y in np.linspace(60, SHAPE[0] - 60, 5):
            found, true = model.stamp(x, y, 12), field.psf.stamp(x, y, 12)
            shape_error = np.sqrt(((found - true) ** 2).sum() / (true**2).sum())
            result.append((shape_error, (found * true).sum() / (found**2).sum() - 1.0))
    return np.array(result)


@pytest.fixture(scope="module")
def sharp():
    psf = MoffatPsf(fwhm_pixels=3.0, beta=2.7, ellipticity=(0.05, -0.03), shape=SHAPE)
    field = draw_field(3, psf=psf, n_stars=500, n_galaxies=0, mag_range=(16.5, 21.0))
    return field, fit(field, bright_stars(field))


def test_shape_is_right_to_the_noise_of_its_stars(sharp):
    field, result = sharp
    found = errors(field, result.model)
    assert np.sqrt(np.mean(found[:, 0] ** 2)) < 0.007
    assert abs(found[:, 1].mean()) < 0.001
    assert result.model.n_stars > 80
    assert result.model.chi2 == pytest.approx(1.0, abs=0.1)


def test_variation_over_the_ccd_is_found(sharp):
    field, result = sharp
    assert result.model.degree >= 1
    constant = np.repeat(result.model.coefficients[:1], 1, axis=0)
    corner = field.psf.stamp(40.0, 40.0, 10)
    with_variation = np.abs(result.model.stamp(40.0, 40.0, 10) - corner).sum()
    centre_only = np.abs(
        type(result.model)(constant, 0, result.model.step, result.model.origin, result.model.scale, 3.0).stamp(
            40.0, 40.0, 10
        )
        - corner
    ).sum()
    assert with_variation < 0.5 * centre_only


def test_normalisation_and_size(sharp):
    field, result = sharp
    assert aperture_flux(result.model) == pytest.approx(1.0, abs=5e-4)
    assert result.model.fwhm_pixels == pytest.approx(field.psf.fwhm_pixels, rel=0.02)
    true = 1.0 - np.sqrt((1 - np.hypot(0.05, 0.03)) / (1 + np.hypot(0.05, 0.03)))
    assert psf_ellipticity(result.model) == pytest.approx(true, abs=0.02)


def test_galaxies_among_the_stars_are_thrown_out():
    psf = MoffatPsf(fwhm_pixels=4.0, shape=SHAPE)
    field = draw_field(5, psf=psf, n_stars=350, n_galaxies=60, mag_range=(17.0, 21.0))
    galaxies = np.flatnonzero(field.is_galaxy & (field.flux > 4e4) & (field.x > 30) & (field.x < 1170))[:8]
    galaxies = galaxies[(field.y[galaxies] > 30) & (field.y[galaxies] < 1370)]
    chosen = np.concatenate([bright_stars(field, 100), galaxies])
    result = fit(field, chosen)
    assert not result.used[100:].any()
    assert result.used[:100].mean() > 0.85
    assert np.sqrt(np.mean(errors(field, result.model)[:, 0] ** 2)) < 0.008


def test_trailed_stars_are_modelled():
    psf = MoffatPsf(fwhm_pixels=5.0, ellipticity=(0.5, 0.2), shape_variation=0.0, size_variation=0.0, shape=SHAPE)
    field = draw_field(6, psf=psf, n_stars=400, n_galaxies=0, mag_range=(16.5, 20.0))
    result = fit(field, bright_stars(field))
    found, true = result.model.stamp(600.0, 700.0, 12), psf.stamp(600.0, 700.0, 12)
    true = true * (found * true).sum() / (true**2).sum()
    assert np.sqrt(((found - true) ** 2).sum() / (true**2).sum()) < 0.01
    assert psf_ellipticity(result.model) > 0.4


def test_masked_pixels_take_no_part(sharp):
    field, result = sharp
    chosen = bright_stars(field)
    science, weight = field.image.science.copy(), field.image.weight.copy()
    for k in chosen[::3]:
        j, i = int(field.y[k]) + 2, int(field.x[k])
        science[j, i - 3 : i + 3] = 3e5
        weight[j, i - 3 : i + 3] = 0.0
    isophotes = detect(field.image, 3.0, CatalogueSettings()).segmentation
    again = fit_psf(science, weight, isophotes, field.x[chosen], field.y[chosen], field.flux[chosen], 3.0, SETTINGS)
    difference = again.model.stamp(600.0, 700.0, 12) - result.model.stamp(600.0, 700.0, 12)
    assert np.abs(difference).max() < 0.005 * again.model.stamp(600.0, 700.0, 12).max()


def test_same_stars_give_the_same_bytes(sharp):
    field, result = sharp
    again = fit(field, bright_stars(field))
    assert again.model.coefficients.tobytes() == result.model.coefficients.tobytes()


def test_too_few_stars():
    psf = MoffatPsf(shape=SHAPE)
    field = draw_field(7, psf=psf, n_stars=200, n_galaxies=0, mag_range=(16.5, 20.0))
    with pytest.raises(CcdError) as caught:
        fit(field, bright_stars(field, 3))
    assert caught.value.reason == "too_few_psf_stars"


def test_seeing_of_kolmogorov_turbulence_as_galsim_draws_it():
    galsim = pytest.importorskip("galsim")
    star = galsim.Kolmogorov(fwhm=3.7)
    random = np.random.default_rng(2)
    n, half, flux, sky = 64, 40, 3e5, 3600.0
    x, y = (85.0 + 90.0 * k + random.uniform(-0.5, 0.5, n) for k in (np.arange(n) % 8, np.arange(n) // 8))
    image = np.zeros((800, 800), np.float32)
    for a, b in zip(x, y, strict=True):
        i, j = round(a), round(b)
        drawn = galsim.ImageD(2 * half + 1, 2 * half + 1)
        star.drawImage(drawn, scale=1.0, offset=(a - i, b - j), method="no_pixel")
        image[j - half : j + half + 1, i - half : i + half + 1] += flux * drawn.array
    noisy = random.poisson(image + sky).astype(np.float32) - np.float32(sky)
    weight, nothing = np.full_like(image, 1 / sky), np.zeros(image.shape, np.int32)
    model = fit_psf(noisy, weight, nothing, x, y, np.full(n, flux), 3.7, SETTINGS).model
    rows, columns = np.indices((201, 201)) * 0.2 - 20.0
    inside = np.hypot(rows, columns) < 11.11
    fine = galsim.ImageD(201, 201)
    star.drawImage(fine, scale=0.2, method="no_pixel")
    within = float(fine.array[inside].sum())
    for place in ((400.0, 400.0), (400.4, 399.7)):
        expected = galsim.ImageD(31, 31)
        star.drawImage(expected, scale=1.0, offset=np.array(place) - np.round(place), method="no_pixel")
        expected, found = expected.array / within, model.stamp(*place, 15)
        assert np.sqrt(((found - expected) ** 2).sum() / (expected**2).sum()) < 0.003
        assert (found * expected).sum() / (found**2).sum() == pytest.approx(1.0, abs=0.002)
