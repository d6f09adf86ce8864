"""Light is neither lost nor invented between a catalogue and the pixels."""

import numpy as np
import pytest

from imaging.simulation.exposures import PsfTruth, SimulatedExposure
from imaging.simulation.galaxies import DE_VAUCOULEURS, EXPONENTIAL
from imaging.simulation.psf import PsfMixture, true_psf
from imaging.simulation.render import draw_extended, draw_points
from tests.simulated_exposures import an_exposure


def exposure(**psf: object) -> SimulatedExposure:
    return an_exposure(psf=PsfTruth(fwhm_arcsec=1.052, **psf))


@pytest.fixture
def psf() -> PsfMixture:
    return true_psf(exposure(e1=(0.05, 0, 0, 0, 0, 0), coma=(0.02, 0.01)), 27, [1000.0], [2000.0])


def draw(psf: PsfMixture, flux: float, x: float = 300.3, y: float = 299.6, size: int = 601) -> np.ndarray:
    image = np.zeros((size, size), dtype=np.float32)
    draw_points(image, np.array([x]), np.array([y]), np.array([flux]), psf)
    return image


def test_star_keeps_its_flux_and_place(psf):
    image = draw(psf, 1e6).astype(float)
    yy, xx = np.mgrid[:601, :601]
    assert image.sum() == pytest.approx(1e6, rel=1e-4)
    assert (image * xx).sum() / image.sum() == pytest.approx(300.3, abs=1e-4)
    assert (image * yy).sum() / image.sum() == pytest.approx(299.6, abs=1e-4)


def test_recurrence_equals_the_formula(psf):
    image = draw(psf, 1e6)
    yy, xx = np.mgrid[:601, :601]
    expected = 1e6 * psf.evaluate(0, xx - 300.3, yy - 299.6)
    assert np.abs(image - expected).max() < 0.03  # the components' cut-offs and float32 at a peak of 45,000


def test_faint_star_keeps_its_flux_in_the_reference_aperture(psf):
    image = draw(psf, 500.0).astype(float)
    yy, xx = np.mgrid[:601, :601]
    inside = (xx - 300.3) ** 2 + (yy - 299.6) ** 2 < 11.11**2
    assert image[inside].sum() == pytest.approx(500.0 * psf.aperture_fraction()[0], rel=2e-3)


def test_aperture_fraction_equals_the_sum_of_pixels(psf):
    step = 0.25
    offsets = np.arange(-12.0, 12.0, step) + step / 2
    dx, dy = np.meshgrid(offsets, offsets)
    inside = dx**2 + dy**2 < 11.11**2
    total = psf.evaluate(0, dx, dy)[inside].sum() * step**2
    assert psf.aperture_fraction()[0] == pytest.approx(total, abs=3e-4)


def test_width_is_what_the_exposure_says():
    round_psf = true_psf(exposure(), 27, [1000.0], [2000.0])
    half = 0.5 * round_psf.evaluate(0, 0.0, 0.0)
    assert round_psf.evaluate(0, 2.0, 0.0) == pytest.approx(half, rel=2e-3)  # 1.052 arcsec are 4.0 pixels


def test_profile_is_a_moffat_of_exponent_3():
    psf = true_psf(exposure(), 27, [1000.0], [2000.0])
    r = np.linspace(0.0, 12.0, 49)
    alpha = 4.0 / (2.0 * np.sqrt(2.0 ** (1.0 / 3.0) - 1.0))
    moffat = 0.99 * 2.0 / (np.pi * alpha**2) * (1.0 + (r / alpha) ** 2) ** -3.0
    assert np.abs(psf.evaluate(0, r, 0.0) - moffat).max() < 0.003 * moffat[0]


def test_wings_of_a_bright_star_reach_far(psf):
    image = draw(psf, 1e8)
    assert 1.0 < image[300, 300 + 70] < 1e3


@pytest.mark.parametrize("profile", [EXPONENTIAL, DE_VAUCOULEURS], ids=["exponential", "de Vaucouleurs"])
def test_galaxy_keeps_its_flux(psf, profile):
    image = np.zeros((601, 601), dtype=np.float32)
    shape = np.array([[16.0, 3.0, 9.0]])
    draw_extended(image, np.array([300.0]), np.array([300.0]), np.array([1e6]), shape, profile, psf)
    assert image.sum(dtype=float) == pytest.approx(1e6, rel=1e-3)


@pytest.mark.parametrize(("profile", "tolerance"), [(EXPONENTIAL, 0.01), (DE_VAUCOULEURS, 0.04)])
def test_half_of_the_light_lies_within_the_half_light_radius(profile, tolerance):
    weight, variance = profile
    half = np.sum(weight * -np.expm1(-0.5 / variance))
    assert weight.sum() == pytest.approx(1.0, abs=1e-5)
    assert half == pytest.approx(0.5, abs=tolerance)
