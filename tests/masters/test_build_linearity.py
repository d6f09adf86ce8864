"""build-calibrations and build-linearity, from a simulated ramp of full-size frames to the curves of the chain."""

import shutil

import numpy as np
import pytest

from bench.built_calibrations import CCD, ramp_night
from imaging.exposure import Exposure
from imaging.io.calibrations import CalibrationLibrary, read_linearity
from imaging.simulation.calibrations import true_linearity
from tasks.engine.jobs import ExitCode
from tasks.raw_files import FLAT_KINDS, raw_of_kind

pytestmark = pytest.mark.slow

NIGHT = 20240510
TIMES = (0.3, 21.0, 1.0, 28.0, 6.0, 24.0, 2.0, 14.0, 0.5, 10.0)


TONIGHT = Exposure(2000000, "i", NIGHT + 1, 60441.0, 90.0, 10.0, 0.0, 1.0)


def test_curves_of_a_ramp_reach_flats_and_chain(command, tmp_path):
    """Twenty frames under a drifting lamp; with every time twice it is 0.04 % (``test_ramp.py``).

    The site has no calibrations. Biases and usual flats in i; in g there is the ramp alone.
    """
    site, settings = ramp_night(tmp_path, TIMES, ("i", "g"), n_bias_exposures=3, n_flat_exposures=3)
    for raw in raw_of_kind(site, NIGHT, FLAT_KINDS)[3:6]:
        assert (raw.exposure.band, raw.exposure.exptime_s) == ("g", 10.0)
        raw.path.unlink()
    shutil.rmtree(site.calibrations)
    code, said = command(site, "build-calibrations", NIGHT, "--epoch", "ramp")
    assert code is ExitCode.COMPLETE, said
    assert said["summary"]["linearity"] == [CCD.ccdnum] and said["summary"]["bands"] == ["i"]
    assert said["summary"]["notes"] == ["g: no master flat, the dome flats are a ramp"]
    library = CalibrationLibrary(site.calibrations)
    assert {entry.kind for entry in library.manifest.entries} == {"bias", "bad_pixels", "flat", "linearity"}
    path = library.find("linearity", TONIGHT, CCD.ccdnum)
    table = read_linearity(path, CCD.ccdnum)
    adu, linear = true_linearity(settings, CCD.ccdnum)
    for a in CCD.amplifiers:
        at = np.linspace(500.0, 0.9 * a.saturation_adu, 400)
        true = np.interp(at, adu, linear[a.name]) / np.interp(10000.0, adu, linear[a.name]) * 10000.0
        assert np.abs(np.interp(at, table.adu, table.linear[a.name]) / true - 1.0).max() < 2e-3
        assert np.abs(at / true - 1.0).max() > 2e-3, "without the curve"
    for words in (("build-calibrations",), ("build-linearity",)):
        code, said = command(site, *words, NIGHT, "--epoch", "ramp")
        assert (code, said["summary"]["n_computed"]) == (ExitCode.COMPLETE, 0), (words, said)


def test_a_ramp_that_gives_no_curves_is_a_note_and_costs_no_master(command, tmp_path):
    """In one band an offset of the shutter looks like a curve at low signals."""
    site, _ = ramp_night(tmp_path, TIMES[:8], ("i",), n_bias_exposures=3, n_flat_exposures=3)
    shutil.rmtree(site.calibrations)
    code, said = command(site, "build-calibrations", NIGHT)
    assert code is ExitCode.COMPLETE, said
    assert said["summary"]["done"] == [CCD.ccdnum] and said["summary"]["linearity"] == []
    (note,) = said["summary"]["notes"]
    assert f"CCD {CCD.ccdnum}" in note and "ramp" in note
    library = CalibrationLibrary(site.calibrations)
    assert library.holds("flat", TONIGHT, CCD.ccdnum) and not library.holds("linearity", TONIGHT, CCD.ccdnum)


def test_a_night_without_a_ramp_is_refused(command, tmp_path):
    site, _ = ramp_night(tmp_path, (), ("i",))
    code, said = command(site, "build-linearity", NIGHT)
    assert code is ExitCode.BAD_INPUT
    assert "the night has no ramp of dome flats" in said["error"]
