"""build-linearity, from a simulated ramp of full-size frames to the curves that the chain reads."""

import numpy as np
import pytest

from bench.built_calibrations import CCD, ramp_night
from imaging.exposure import Exposure
from imaging.io.calibrations import CalibrationLibrary, read_linearity
from imaging.simulation.calibrations import true_linearity
from tasks.engine.jobs import ExitCode

pytestmark = pytest.mark.slow

NIGHT = 20240510
TIMES = (0.3, 21.0, 1.0, 28.0, 6.0, 24.0, 2.0, 14.0, 0.5, 10.0)


def test_curves_of_a_ramp_reach_the_chain(command, tmp_path):
    """Twenty frames under a drifting lamp; with every time twice it is 0.04 % (``test_ramp.py``)."""
    site, settings = ramp_night(tmp_path, TIMES, ("i", "g"))
    code, said = command(site, "build-linearity", NIGHT, "--epoch", "ramp")
    assert code is ExitCode.COMPLETE, said
    tonight = Exposure(2000000, "i", NIGHT + 1, 60441.0, 90.0, 10.0, 0.0, 1.0)
    path = CalibrationLibrary(site.calibrations).find("linearity", tonight, CCD.ccdnum)
    assert path.parent.name == "ramp", "the nearest in time is chosen"
    table = read_linearity(path, CCD.ccdnum)
    adu, linear = true_linearity(settings, CCD.ccdnum)
    for a in CCD.amplifiers:
        at = np.linspace(500.0, 0.9 * a.saturation_adu, 400)
        true = np.interp(at, adu, linear[a.name]) / np.interp(10000.0, adu, linear[a.name]) * 10000.0
        assert np.abs(np.interp(at, table.adu, table.linear[a.name]) / true - 1.0).max() < 2e-3
        assert np.abs(at / true - 1.0).max() > 2e-3, "without the curve"


def test_a_night_without_a_ramp_is_refused(command, tmp_path):
    site, _ = ramp_night(tmp_path, (), ("i",))
    code, said = command(site, "build-linearity", NIGHT)
    assert code is ExitCode.BAD_INPUT
    assert "the night has no ramp of dome flats" in said["error"]
