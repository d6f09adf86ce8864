"""Positions: the true coordinate system, turbulence and refraction."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from imaging.detector.distortion import seed_wcs
from imaging.simulation.atmosphere import refraction_arcsec, turbulence_arcsec
from imaging.simulation.exposures import TurbulenceTruth
from imaging.simulation.optics import TrueGeometry, camera_misalignment, true_wcs
from imaging.simulation.plan import plan_exposures
from imaging.simulation.settings import SimulationSettings
from imaging.wcs.sphere import separation_deg

SETTINGS = SimulationSettings(seed=3, ccds=(3, 27), n_search_exposures=1, n_template_epochs=1)


@pytest.fixture(scope="module")
def exposure():
    return plan_exposures(SETTINGS)[-1]


def test_true_wcs_agrees_with_astropy(exposure):
    wcs = true_wcs(exposure, 3, camera_misalignment(61, 3, 0.1, 10.0))
    header = fits.Header(list(wcs.to_header().items()))
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 2047, 50), rng.uniform(0, 4095, 50)
    ra, dec = WCS(header).all_pix2world(x, y, 0)
    ours = wcs.pixel_to_sky(x, y)
    assert np.max(separation_deg(ra, dec, *ours)) * 3600e3 < 1e-3  # mas


def test_rotation_turns_the_field_about_the_true_pointing(exposure):
    turned = exposure.model_copy(update={"rotation_deg": 1.0, "scale": 1.0, "shear": (0.0, 0.0)})
    straight = exposure.model_copy(update={"rotation_deg": 0.0, "scale": 1.0, "shear": (0.0, 0.0)})
    nowhere = camera_misalignment(61, 27, 0.0, 0.0)
    xi0, eta0 = true_wcs(straight, 27, nowhere).pixel_to_plane([500.0, 1500.0], [100.0, 4000.0])
    xi1, eta1 = true_wcs(turned, 27, nowhere).pixel_to_plane([500.0, 1500.0], [100.0, 4000.0])
    c, s = np.cos(np.radians(1.0)), np.sin(np.radians(1.0))
    np.testing.assert_allclose(xi1, c * xi0 + s * eta0, atol=1e-12)
    np.testing.assert_allclose(eta1, -s * xi0 + c * eta0, atol=1e-12)


def test_pixel_to_sky_inverts_sky_to_pixel(exposure):
    geometry = TrueGeometry(exposure, 27, camera_misalignment(61, 27, 0.1, 10.0))
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 2047, 200), rng.uniform(0, 4095, 200)
    back = geometry.sky_to_pixel(*geometry.pixel_to_sky(x, y))
    np.testing.assert_allclose(back, (x, y), atol=1e-6)


def test_header_pointing_is_wrong_by_less_than_the_limit(exposure):
    error = separation_deg(exposure.ra_deg, exposure.dec_deg, exposure.true_ra_deg, exposure.true_dec_deg) * 3600
    assert 0.0 < error <= SETTINGS.pointing_error_arcsec
    header = seed_wcs(27, exposure.ra_deg, exposure.dec_deg)
    geometry = TrueGeometry(exposure, 27, camera_misalignment(61, 27, 0.1, 10.0))
    ra, dec = geometry.pixel_to_sky([1024.0], [2048.0])
    x, y = header.sky_to_pixel(ra, dec)
    assert np.hypot(x - 1024.0, y - 2048.0)[0] * 0.263 < error + 3.0


def test_turbulence_has_the_wanted_size_and_is_smooth():
    rng = np.random.default_rng(2)
    xi, eta = rng.uniform(-1.1, 1.1, (2, 20000))
    sizes, nearby = [], []
    for seed in range(6):
        truth = TurbulenceTruth(seed=(seed, 1), rms_mas=10.0, correlation_arcmin=6.0, wind_deg=30.0)
        east, north = turbulence_arcsec(truth, xi, eta)
        sizes += [east.std() * 1000, north.std() * 1000]
        nearby.append(np.corrcoef(east, turbulence_arcsec(truth, xi + 1.0 / 60.0, eta)[0])[0, 1])
    assert np.sqrt(np.mean(np.square(sizes))) == pytest.approx(10.0, rel=0.12)
    assert np.mean(nearby) > 0.85  # one arcminute away
    again = turbulence_arcsec(TurbulenceTruth(seed=(5, 1), rms_mas=10.0, wind_deg=30.0), xi, eta)[0]
    np.testing.assert_array_equal(again, east)


def test_blue_stars_stand_nearer_to_the_zenith():
    colours = np.array([0.11, 0.61, 2.61])
    east, north = refraction_arcsec("g", 45.0, 90.0, colours)  # the zenith lies to the east
    np.testing.assert_allclose(east, [0.0225, 0.0, -0.090], atol=1e-12)
    np.testing.assert_allclose(north, 0.0, atol=1e-12)
