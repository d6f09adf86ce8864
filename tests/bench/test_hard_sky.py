"""The sky that GalSim draws: its stars stand where the truth says and hold the stated light in the aperture."""

import argparse

import numpy as np
import pytest

pytest.importorskip("galsim")

from bench.galsim_painter import Fractions, GalsimPainter
from bench.hard_sky import GalsimNight, rows_of
from bench.sky_night import processed_nights
from imaging.simulation.exposures import PsfTruth, SimulatedExposure
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.truth import true_geometry


@pytest.fixture(scope="module")
def painter() -> GalsimPainter:
    exposure = SimulatedExposure(
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
        zenith_distance_deg=50.0,
        parallactic_deg=40.0,
        zeropoint_mag=31.7,
        sky_electrons=3000.0,
        psf=PsfTruth(fwhm_arcsec=1.0),
    )
    return GalsimPainter(exposure, 34, true_geometry(SimulationSettings(), exposure, 34))


def test_a_star_stands_at_its_place_with_the_stated_fraction_in_the_aperture(painter):
    painter.light[:] = 0.0
    x, y, colour = np.array([500.3]), np.array([1500.7]), np.array([0.8])
    painter.paint_points(x, y, np.array([5e5]), Fractions(np.ones(1)), colour)
    rows, columns = np.mgrid[1470:1532, 470:532]
    light = painter.light[1470:1532, 470:532].astype(float)
    assert (light * columns).sum() / light.sum() == pytest.approx(500.3, abs=0.01)
    assert (light * rows).sum() / light.sum() == pytest.approx(1500.7, abs=0.01)
    inside = light[np.hypot(columns - 500.3, rows - 1500.7) < 11.11].sum() / 5e5
    assert painter.functions.weights(x, y, colour) @ painter.functions.fractions == pytest.approx([inside], abs=2e-3)


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
