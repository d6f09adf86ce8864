"""What the PSF fit leaves of a telescope's PSF without noise, and where neighbours are too faint for the catalogue."""

import numpy as np
import pytest

from imaging.catalogue.detect import detect
from imaging.catalogue.settings import CatalogueSettings
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.psf.fit import fit_psf
from imaging.psf.settings import PsfSettings
from imaging.simulation.exposures import OpticsTruth, PsfTruth, SimulatedExposure
from imaging.simulation.psf import true_psf
from imaging.simulation.render import draw_points
from imaging.simulation.star_fields import MoffatPsf, draw_field

CCD, SKY, SIDE, FWHM_ARCSEC = 27, 3600.0, 900, 0.9
ABERRATIONS = (0.2, -0.15, 0.35, 0.1, 0.1, -0.3, -0.1, 0.1)
"""Arcseconds at the edge of the pupil: defocus, astigmatism, coma, trefoil, their second directions, spherical."""


def telescope():
    aberrations = tuple((size, 0.0, 0.0, 0.0, 0.0, 0.0) for size in ABERRATIONS)
    return SimulatedExposure(
        expnum=7,
        role="search",
        band="g",
        night=20240510,
        mjd=60441.1,
        exptime_s=90.0,
        ra_deg=190.0,
        dec_deg=-10.0,
        true_ra_deg=190.0,
        true_dec_deg=-10.0,
        zeropoint_mag=31.7,
        sky_electrons=SKY,
        psf=PsfTruth(fwhm_arcsec=FWHM_ARCSEC),
        optics=OpticsTruth(aberrations=aberrations, vane_angle_deg=45.0),
    )


def residual(found, true, slopes):
    """Return the rms of model minus truth over that of the truth, up to a shift."""
    rest = (found - true).ravel()
    rest = rest - slopes @ np.linalg.lstsq(slopes, rest, rcond=None)[0]
    return np.sqrt(np.sum(rest**2) / np.sum(true**2))


def test_coma_is_not_taken_for_a_shift():
    random = np.random.default_rng(3)
    n = 100
    x, y = (45.0 + 90.0 * k + random.uniform(-0.5, 0.5, n) for k in (np.arange(n) % 10, np.arange(n) // 10))
    flux = 10.0 ** random.uniform(5.0, 6.3, n)
    exposure = telescope()
    image = np.zeros((SIDE, SIDE), np.float32)
    mixture = true_psf(exposure, CCD, x, y)
    draw_points(image, x, y, flux / mixture.aperture_fraction(), mixture)
    weight, nothing = np.full_like(image, 1 / SKY), np.zeros(image.shape, np.int32)
    model = fit_psf(image, weight, nothing, x, y, flux, FWHM_ARCSEC / PIXEL_SCALE_ARCSEC, PsfSettings()).model
    offsets = np.arange(-15.0, 16.0)

    def true(dx, dy):
        return mixture.evaluate(0, offsets - dx, (offsets - dy)[:, None]) / mixture.aperture_fraction()[0]

    slopes = np.stack([(true(*h) - true(0.0, 0.0)).ravel() / 0.02 for h in ((0.02, 0.0), (0.0, 0.02))], axis=-1)
    assert residual(model.stamp(450.0, 450.0, 15), true(0.0, 0.0), slopes) < 0.003


def test_light_of_a_crowd_is_not_taken_for_the_wings():
    shape = (1000, 1000)
    psf = MoffatPsf(fwhm_pixels=3.8, shape=shape, size_variation=0.0, shape_variation=0.0)
    field = draw_field(4, psf=psf, n_stars=6000, n_galaxies=0, mag_range=(16.5, 23.5), bad_columns=0)
    inside = (np.minimum(field.x, field.y) > 20.0) & (np.maximum(field.x, field.y) < 980.0)
    chosen = np.flatnonzero(inside & (field.flux > 1.5e5))
    near = np.hypot(field.x[chosen, None] - field.x, field.y[chosen, None] - field.y) < 12.0
    bright = field.flux > 0.03 * field.flux[chosen, None]
    chosen = chosen[(near & bright).sum(axis=1) == 1]
    isophotes = detect(field.image, 3.8, CatalogueSettings()).segmentation
    stars = (field.x[chosen], field.y[chosen], field.flux[chosen])
    fitted = fit_psf(field.image.science, field.image.weight, isophotes, *stars, 3.8, PsfSettings())
    found, true = fitted.model.stamp(500.0, 500.0, 15), psf.stamp(500.0, 500.0, 15)
    assert np.sqrt(np.sum((found - true) ** 2) / np.sum(true**2)) < 0.003
    assert (found * true).sum() / (found**2).sum() == pytest.approx(1.0, abs=0.0015)
