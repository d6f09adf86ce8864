"""The sky over the focal plane, fringes, exposure records, settings and random streams."""

import numpy as np
import pytest
from detector_frames import exposure_of
from pydantic import ValidationError

from imaging.errors import InputError
from imaging.simulation.background import (
    fringe_phase,
    fringes,
    sky_image,
    sky_templates,
    smooth_modes,
)
from imaging.simulation.exposures import effective_time_factor
from imaging.simulation.settings import DEMO_CCDS, SimulationSettings, demo_settings
from imaging.simulation.streams import random_stream

CRPIX = {27: (2151.2, 6307.333), 12: (8914.4, -6470.667)}
"""Where the camera's centre lies, in pixels of the CCD, from raw headers."""


@pytest.mark.parametrize("ccdnum", [27, 12])
def test_modes_are_a_level_gradients_a_bowl_and_a_ring(ccdnum):
    x, y = np.array([0.0, 1000.0, 2047.0]), np.array([4095.0, 700.0, 30.0])
    modes = smooth_modes(ccdnum, x, y)
    across = (x + 1.0 - CRPIX[ccdnum][0]) / 14336.0
    along = (y + 1.0 - CRPIX[ccdnum][1]) / 14336.0
    r = np.sqrt(across**2 + along**2)
    np.testing.assert_allclose(modes[:3], [np.ones(3), across, along], rtol=1e-12)
    np.testing.assert_allclose(modes[3], r**2 - 0.45, rtol=1e-12)
    np.testing.assert_allclose(modes[4], np.exp(-(((r - 0.3) / 0.12) ** 2)) - 0.15, rtol=1e-9)


def test_the_sky_is_its_level_times_its_modes():
    amplitudes = (1.0, 0.02, -0.03, 0.01, 0.04)
    sky = sky_image(exposure_of(sky_modes=amplitudes), 61, 27)
    assert sky.shape == (4096, 2048)
    y, x = np.mgrid[5:4096:331, 3:2048:173]
    expected = 3000.0 * np.tensordot(amplitudes, smooth_modes(27, x, y), axes=1)
    # between grid points 64 pixels apart: h^2 / 8 times the ring's curvature of 2 / 0.12^2
    assert np.abs(sky[y, x] / expected - 1.0).max() < 0.04 * (64 / 14336) ** 2 / 8 * 2 / 0.12**2 * 1.2 + 1e-6


def test_fringes_add_to_the_sky_in_red_bands_only():
    base = (1.0, 0.0, 0.0, 0.0, 0.0)
    exposure = exposure_of(band="z", sky_modes=(*base, 0.005))
    ripple = sky_image(exposure, 61, 27) / 3000.0 - 1.0
    np.testing.assert_allclose(ripple, 0.005 * fringes(61, 27, "z"), atol=1e-6)
    assert ripple.std() == pytest.approx(0.005 / np.sqrt(2), rel=0.15)
    assert np.abs(ripple).max() == pytest.approx(0.005, rel=1e-3)
    assert len(sky_templates(61, 27, "i")) == 5
    assert len(sky_templates(61, 27, "z")) == 6


def test_fringes_are_finer_at_shorter_wavelengths_in_the_same_silicon():
    z, y = fringe_phase(61, 27, "z"), fringe_phase(61, 27, "Y")
    assert z.shape == (65, 33)
    np.testing.assert_allclose(z / y, 1009.5 / 926.0, rtol=1e-9)
    other = fringe_phase(61, 28, "z")
    assert abs(np.corrcoef(z.ravel(), other.ravel())[0, 1]) < 0.9
    # four waves of 2.2 wavelengths: rms of 2 pi 2.2 sqrt(4 / 2), loosely, as they are only four
    rms = [fringe_phase(61, n, "z").std() for n in range(1, 31)]
    assert np.sqrt(np.mean(np.square(rms))) == pytest.approx(2 * np.pi * 2.2 * np.sqrt(2.0), rel=0.25)


@pytest.mark.parametrize("step", [8, 128])
def test_templates_are_the_modes_averaged_over_their_bins(step):
    templates = sky_templates(61, 12, "z", step)
    assert templates.shape == (6, 4096 // step, 2048 // step)
    assert templates.dtype == np.float32
    y, x = np.mgrid[:4096, :2048]
    rows = np.s_[1024:2048]
    for k, scale in ((1, 1e-5), (3, 1e-4), (4, 3e-3)):
        full = smooth_modes(12, x[rows], y[rows])[k]
        binned = full.reshape(1024 // step, step, 2048 // step, step).mean(axis=(1, 3))
        np.testing.assert_allclose(templates[k, 1024 // step : 2048 // step], binned, atol=scale)
    pattern = fringes(61, 12, "z")[rows].reshape(1024 // step, step, 2048 // step, step).mean(axis=(1, 3))
    np.testing.assert_allclose(templates[5, 1024 // step : 2048 // step], pattern, atol=0.02)


GOOD = {  # band: reference seeing, sky in ADU per second at four electrons per ADU
    "u": (1.200, 0.2),
    "g": (1.103, 1.05),
    "r": (1.041, 2.66),
    "i": (1.000, 7.87),
    "z": (0.965, 16.51),
    "Y": (0.950, 14.56),
}


@pytest.mark.parametrize("band", GOOD)
def test_a_good_night_counts_in_full_and_worse_ones_after_neilsen(band):
    fwhm, sky = GOOD[band][0], 4 * GOOD[band][1]
    assert effective_time_factor(band, fwhm, sky, 1.0) == pytest.approx(1.0, rel=1e-9)
    assert effective_time_factor(band, 2 * fwhm, sky, 1.0) == pytest.approx(0.25, rel=1e-9)
    assert effective_time_factor(band, fwhm, 3 * sky, 1.0) == pytest.approx(1 / 3, rel=1e-9)
    assert effective_time_factor(band, fwhm, sky, 0.5) == pytest.approx(0.25, rel=1e-9)


def test_an_exposure_knows_its_middle_its_seeing_and_its_kind():
    search = exposure_of()
    assert (search.mjd_mid - search.mjd) * 86400 == pytest.approx(45.0, abs=1e-4)
    assert search.fwhm_pixels == pytest.approx(4.0)
    assert search.is_on_sky
    assert search.obstype == "object"
    for role, obstype in (("template", "object"), ("zero", "zero"), ("dome flat", "dome flat")):
        other = exposure_of(role=role)
        assert other.obstype == obstype
        assert other.is_on_sky == (role == "template")
    listed = exposure_of(airmass=1.3, object_name="field", ra_deg=191.0, true_ra_deg=191.01).listed()
    assert (listed.ra_deg, listed.airmass, listed.object_name, listed.band) == (191.0, 1.3, "field", "i")
    assert (listed.night, listed.mjd, listed.exptime_s, listed.obstype) == (20240510, 60441.123456, 90.0, "object")


def test_records_of_the_truth_are_frozen_and_refuse_unknown_names():
    with pytest.raises(ValidationError):
        exposure_of(seeing=1.0)
    with pytest.raises(ValidationError):
        exposure_of().expnum = 2


def test_ccds_are_sorted_and_stand_once():
    settings = SimulationSettings(ccds=(34, 27, 34, 3))
    assert settings.ccds == (3, 27, 34)
    assert not settings.writes_focus_ccds
    assert SimulationSettings().writes_focus_ccds
    assert len(SimulationSettings().ccds) == 62
    assert not SimulationSettings(focus_ccds=False).writes_focus_ccds
    assert SimulationSettings(ccds=(3,), focus_ccds=True).writes_focus_ccds


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ccds": ()}, "no CCD"),
        ({"ccds": (63,)}, "out of range"),
        ({"bands": ("i", "K")}, "unknown band"),
        ({"ccds": (3, 27), "host_ccd": 34}, "not simulated"),
        ({"night": 2024051}, "2024051"),
    ],
)
def test_settings_that_make_no_night_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        SimulationSettings(**wrong)


@pytest.mark.parametrize("wrong", [{"exptime_s": 0.0}, {"first_expnum": 0}, {"sky_brightness": 0.0}, {"seeds": 1}])
def test_settings_out_of_their_bounds_are_refused(wrong):
    with pytest.raises(ValidationError):
        SimulationSettings(**wrong)


def test_the_demonstration_is_two_by_two_neighbours():
    settings = demo_settings(seed=9)
    assert settings.ccds == DEMO_CCDS == (26, 27, 33, 34)
    assert (settings.seed, settings.bands, settings.n_search_exposures, settings.n_template_epochs) == (9, ("i",), 2, 3)
    assert SimulationSettings(host_ccd=27, ccds=(27,)).host_ccd == 27


def test_streams_depend_on_seed_purpose_and_identity_alone():
    def draw(*arguments):
        return random_stream(*arguments).random(4).tolist()

    assert draw(1, "stars", 7, 27) == draw(1, "stars", 7, 27)
    others = [
        (2, "stars", 7, 27),
        (1, "galaxies", 7, 27),
        (1, "stars", 8, 27),
        (1, "stars", 7, 28),
        (1, "stars", 27, 7),
    ]
    drawn = [draw(1, "stars", 7, 27), *(draw(*o) for o in others), draw(1, "stars", 7)]
    assert len({tuple(d) for d in drawn}) == 7
    correlated = np.corrcoef([random_stream(1, "stars", 7, n).standard_normal(2000) for n in range(20)])
    assert np.abs(correlated[np.triu_indices(20, 1)]).max() < 5 / np.sqrt(2000)
