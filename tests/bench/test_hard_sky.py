"""The sky that GalSim draws: its stars stand where the truth says and hold the stated light in the aperture."""

import argparse

import numpy as np
import pytest

pytest.importorskip("galsim")

from bench.galsim_painter import STRUT_DEG, STRUT_M, STRUT_SHARE, Fractions, GalsimPainter
from bench.hard_sky import GalsimNight, rows_of
from bench.sky_night import processed_nights
from imaging.bands import BANDS
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.simulation.chromatic import passband_slope_mag
from imaging.simulation.exposures import OpticsTruth, PsfTruth
from imaging.simulation.scene import SceneSources
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.skies import NO_EFFECTS
from imaging.simulation.truth import true_geometry
from tests.simulated_exposures import an_exposure

EXPOSURE = an_exposure(
    band="g", zenith_distance_deg=50.0, parallactic_deg=40.0, sky_modes=(), psf=PsfTruth(fwhm_arcsec=1.0)
)
NONE = (0.0,) * 6
JUMPED = EXPOSURE.model_copy(
    update={
        "optics": OpticsTruth(aberrations=((0.1, 0.3, *NONE[2:]), *[NONE] * 7), jump_share=0.4, jump_pixels=(4.0, 3.0))
    }
)


@pytest.fixture(scope="module")
def painters() -> tuple[GalsimPainter, GalsimPainter]:
    geometry = true_geometry(SimulationSettings(), EXPOSURE, 34)
    return GalsimPainter(EXPOSURE, 34, geometry), GalsimPainter(JUMPED, 34, geometry)


@pytest.fixture(scope="module")
def painter(painters) -> GalsimPainter:
    return painters[0]


def drawn(painter: GalsimPainter, electrons: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the light per electron of a star at (500.3, 1500.7), and the offsets from there in x and y."""
    painter.light[:] = 0.0
    painter.paint_points(*(np.array([v]) for v in (500.3, 1500.7, electrons)), Fractions(np.ones(1)), np.array([0.61]))
    rows, columns = np.mgrid[1100:1902, 100:902]
    return painter.light[1100:1902, 100:902].astype(float) / electrons, columns - 500.3, rows - 1500.7


@pytest.mark.parametrize("electrons", [5e5, 5e6])
def test_a_star_stands_at_its_place_with_the_stated_fraction_in_the_aperture(painters, electrons):
    """Between the corners too: a bright star has the same function as one below the flux of spikes."""
    for painter in painters:
        light, dx, dy = drawn(painter, electrons)
        near = np.hypot(dx, dy) < 20.0
        assert (light * dx)[near].sum() / light[near].sum() == pytest.approx(0.0, abs=0.01)
        assert (light * dy)[near].sum() / light[near].sum() == pytest.approx(0.0, abs=0.01)
        weights = painter.functions.weights(np.array([500.3]), np.array([1500.7]), np.array([0.61]))
        inside = light[np.hypot(dx, dy) < 11.11].sum()
        assert weights @ painter.functions.fractions == pytest.approx([inside], abs=2e-3)
        truth = painter.functions.stamp(500.3, 1500.7, 8) * inside
        assert light[393:410, 392:409] == pytest.approx(truth, abs=2e-3 * truth.max())


def test_a_ccd_without_a_transient_is_drawn(painter):
    none = np.zeros(0)
    x, y, flux, psf = painter.place(SceneSources(np.zeros(0, np.int64), np.zeros(0, np.uint8), none, none, none, none))
    painter.light[:] = 0.0
    painter.paint_points(x, y, flux, psf, none)
    assert len(x) == 0
    assert not painter.light.any()


def test_a_bright_star_has_spikes_and_smooth_wings(painter):
    """No step at the edge of the core, nothing negative, and spikes of the struts' share at the stated angle."""
    light, dx, dy = drawn(painter, 2e6)
    r, angle = np.hypot(dx, dy), np.degrees(np.arctan2(dy, dx)) - STRUT_DEG
    from_spike = np.abs((angle + 45.0) % 90.0 - 45.0)
    assert light.min() >= 0.0
    between = [np.median(light[(np.abs(r - radius) < 1.5) & (from_spike > 20.0)]) for radius in (21.0, 24.0, 27.0)]
    slopes = np.diff(np.log(between)) / np.diff(np.log([21.0, 24.0, 27.0]))
    assert slopes[0] == pytest.approx(slopes[1], abs=1.5)  # about -3.5; 1.5 is a step of 17 %
    ring = np.abs(r - 100.0) < 2.0
    spikes = (
        light[ring & (from_spike * np.pi / 180 * 100.0 < 8.0)].sum() - light[ring & (from_spike > 20.0)].mean() * 256
    )
    unit = np.degrees(BANDS["g"].wavelength_nm * 1e-9 / STRUT_M) * 3600.0 / PIXEL_SCALE_ARCSEC
    expected = (
        4 * 4.0 * STRUT_SHARE * unit / (2 * np.pi**2 * 100.0**2)
    )  # four arms, a ring of four pixels, 1 / (2 pi^2 t^2)
    assert spikes == pytest.approx(expected, rel=0.25)


def test_its_stars_are_seen_in_the_passband_of_the_ccd(painter, monkeypatch):
    sky = painter.geometry.pixel_to_sky(np.array([500.0, 700.0]), np.array([900.0, 900.0]))
    sources = SceneSources(np.arange(2), np.zeros(2, int), *sky, np.full(2, 17.0), np.array([0.61, 2.61]))
    before = painter.place(sources)[2]
    monkeypatch.setattr(painter, "effects", NO_EFFECTS.with_values(passband_steps_mmag=3.0))
    changes = 2.5 * np.log10(painter.place(sources)[2] / before)
    slope = passband_slope_mag(0, 34, "g", 3.0)
    assert abs(slope) > 1e-4 and changes == pytest.approx([0.0, 2.0 * slope], abs=1e-9)


def test_a_jump_of_the_guiding_makes_two_images(painters):
    """Second moments grow by share (1 - share) times the square of the step: 0.24 of 16, 12 and 9 square pixels."""
    moments = []
    for painter in painters:
        stamp = painter.functions.stamp(1024.0, 2048.0, 25)
        y, x = np.mgrid[-25:26, -25:26]
        window = np.exp(-(x * x + y * y) / 2 / 8.0**2)
        moments.append([(stamp * window * part).sum() / (stamp * window).sum() for part in (x * y, x * x - y * y)])
    assert moments[1][0] - moments[0][0] == pytest.approx(0.24 * 12.0, rel=0.25)
    assert moments[1][1] - moments[0][1] == pytest.approx(0.24 * 7.0, rel=0.25)


def test_the_rows_say_what_could_not_be_measured():
    figures = [{"astrometry_rms_mas": 3.0, "n_detections": 10}, {"astrometry_rms_mas": 5.0, "n_detections": 20}]
    rows = {row.name: row for row in rows_of("GalSim", figures, [{"snr_min": 5.0, "n": 0, "passed": None}], 1)}
    assert rows["GalSim: astrometry_rms_mas, median"].value == 4.0
    assert rows["GalSim: astrometry_rms_mas, median"].n == 2
    assert rows["GalSim: zeropoint_error_mmag, median"].value is None
    assert not any("fakes" in name for name in rows)


def test_a_night_of_galsim_is_another_one_than_that_of_the_simulator(tmp_path):
    options = argparse.Namespace(sky="hard", band="g", sharp=True, seed=3, nights=1, keep=tmp_path, quick=True)
    for name in ("hard_g_sharp_2ccds_3", "GalsimNight_hard_g_sharp_2ccds_3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "failures.txt").write_text("")  # processed
    (own,), (drawn,) = processed_nights(options), processed_nights(options, GalsimNight)
    assert (own.painter, drawn.painter) == (None, GalsimPainter)
    assert drawn.label == f"GalSim, {own.label}"
    assert own.root != drawn.root
