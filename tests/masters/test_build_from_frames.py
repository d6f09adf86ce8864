"""build-crosstalk and build-brighter-fatter, from simulated raw frames to what the chain reads."""

import numpy as np
import pytest

from bench.built_calibrations import half_known_night
from blocks.site import Site
from imaging.detector.crosstalk import observatory_crosstalk
from imaging.exposure import Exposure
from imaging.io.calibrations import CalibrationLibrary, read_brighter_fatter, read_crosstalk
from imaging.simulation.brighter_fatter import border_kernels
from tasks.engine.jobs import ExitCode

pytestmark = pytest.mark.slow

NIGHT, CCD = 20240510, 33
OBSERVED = Exposure(2000000, "i", NIGHT + 1, 60441.0, 90.0, 10.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a site with two exposures and four flats, whose library is wrong, and the numbers of the exposures."""
    night = half_known_night(tmp_path_factory.mktemp("frames"))
    return Site.at(night.root), [e.expnum for e in night.exposures if e.is_on_sky]


def test_crosstalk_of_the_simulated_camera_is_found(command, site):
    place, expnums = site
    code, said = command(place, "build-crosstalk", *expnums, "--epoch", "leaks")
    assert code is ExitCode.COMPLETE, said
    assert said["summary"]["coefficients"] == {"measured": 2, "kept": 0}
    path = CalibrationLibrary(place.calibrations).find("crosstalk", OBSERVED, CCD)
    assert path.parent.name == "leaks"
    true = {(t.victim, t.source): t.coefficient for t in observatory_crosstalk().into(CCD)}
    found = {(t.victim, t.source): t.coefficient for t in read_crosstalk(path).into(CCD)}
    assert found.keys() == true.keys()
    assert max(abs(found[pair] - true[pair]) for pair in true) < 2e-5
    assert max(abs(true[pair] / 2) for pair in true) > 1e-4


def test_kernels_of_the_simulated_camera_are_found(command, site):
    place, _ = site
    code, said = command(place, "build-brighter-fatter", NIGHT, "--epoch", "pairs")
    assert code is ExitCode.COMPLETE, said
    kernel = read_brighter_fatter(CalibrationLibrary(place.calibrations).find("brighter_fatter", OBSERVED, CCD), CCD)
    right, top = border_kernels()
    assert np.abs(kernel.right - right).max() < 0.1 * right[0, 0]
    assert np.abs(kernel.top - top).max() < 0.1 * top[0, 0]


def test_frames_that_are_not_of_the_sky_or_not_there_are_refused(command, site):
    place, _ = site
    code, said = command(place, "build-crosstalk", 17, "--epoch", "leaks")
    assert (code, "raw file missing" in said["error"]) == (ExitCode.BAD_INPUT, True)
    code, said = command(place, "build-brighter-fatter", NIGHT - 5)
    assert (code, "no pairs of dome flats" in said["error"]) == (ExitCode.BAD_INPUT, True)
