"""build-calibrations over an era: two cameras, one after the other, give two periods with masters of their own."""

import shutil

import numpy as np
import pytest
from test_build_flows import raw_files, rewrite

from blocks.site import Site
from imaging.exposure import Exposure
from imaging.identity import raw_name
from imaging.io.calibrations import CalibrationLibrary, read_calibration_image
from imaging.simulation.calibrations import calibration_path
from imaging.simulation.night import simulate_night
from imaging.simulation.settings import SimulationSettings
from tasks.engine.jobs import ExitCode

pytestmark = pytest.mark.slow

CCD = 33
DAY_ONE = 60440.9
"""MJD of the afternoon of 20240510."""


@pytest.fixture(scope="module")
def cameras(tmp_path_factory):
    """Return two simulated afternoons of one CCD whose bias and flat differ."""
    nothing = {"n_search_exposures": 0, "n_template_epochs": 0, "galaxy_density": 0.0, "star_density": 0.01}
    roots = []
    for seed in (61, 62):
        root = tmp_path_factory.mktemp(f"camera{seed}")
        settings = SimulationSettings(
            ccds=(CCD,),
            focus_ccds=False,
            camera_seed=seed,
            n_bias_exposures=3,
            n_flat_exposures=3,
            supernovae_per_ccd=0.0,
            **nothing,
        )
        simulate_night(root, settings, processes=1)
        roots.append(root)
    return roots


@pytest.fixture
def site(cameras, tmp_path):
    """Return a site with five nights of frames: three of the first camera, two of the second."""
    site, number = Site.at(tmp_path / "site"), 1200000
    for day, camera in ((0, 0), (3, 0), (5, 0), (10, 1), (12, 1)):
        from_site = Site.at(cameras[camera])
        for path in (*raw_files(from_site, "zero"), *raw_files(from_site, "dome flat")):
            number += 1
            target = site.raw / str(20240510 + day) / raw_name(number)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            date = f"2024-05-{10 + day}T21:{number % 60:02d}:00.0"
            rewrite(target, EXPNUM=number, MJD_OBS=DAY_ONE + day + number % 60 / 1440.0, DATE_OBS=date)
    return site


def tonight(night):
    return Exposure(2000000, "i", night, 60441.0, 90.0, 10.0, 0.0, 1.0)


def test_each_night_is_served_by_the_masters_of_its_period(command, site, cameras):
    words = ("build-calibrations", "--from", 20240501, "--to", 20240630, "--ccds", CCD)
    code, said = command(site, *words)
    assert code is ExitCode.COMPLETE, said
    periods = said["summary"]["periods"]
    assert [(p["epoch"], p["first_night"], p["last_night"]) for p in periods] == [
        ("n20240510", 20240501, 20240517),
        ("n20240520", 20240518, 20240630),
    ]
    assert [p["nights_with_frames"] for p in periods] == [3, 2]
    assert [p["flats"] for p in periods] == [["i"], ["i"]]
    assert any("bias of CCD 33 changed by" in why for why in periods[1]["begins_with"])
    library = CalibrationLibrary(site.calibrations)
    for night, camera in ((20240501, 0), (20240517, 0), (20240518, 1), (20240630, 1)):
        bias = read_calibration_image(library.find("bias", tonight(night), CCD))
        true = read_calibration_image(calibration_path(cameras[camera], "bias", CCD))
        other = read_calibration_image(calibration_path(cameras[1 - camera], "bias", CCD))
        assert abs(np.median(bias - true)) < 0.1
        # Of nine or six frames of 1.6 ADU; they are copies of three, so their noise is that of three.
        assert np.std((bias - true)[::8, ::8].clip(-5, 5)) < 1.1 < np.std((bias - other)[::8, ::8].clip(-5, 5))
    assert not library.holds("flat", tonight(20240701), CCD)

    # Masters of a single night that hold for all nights do not reach across the jump, even if they are nearer in time.
    code, said = command(site, "build-calibrations", 20240520, "--ccds", CCD, "--epoch", "single")
    assert code is ExitCode.COMPLETE, said
    library = CalibrationLibrary(site.calibrations)
    assert library.find("bias", tonight(20240517), CCD).parent.name == "n20240510"
    assert library.find("bias", tonight(20240701), CCD).parent.name == "single"


def test_a_night_and_an_era_are_not_given_together(command, site):
    for words in (("20240510", "--from", "20240501"), ("--from", "20240501"), ()):
        code, said = command(site, "build-calibrations", *words)
        assert code is ExitCode.BAD_INPUT
        assert "give a night, or both --from and --to" in said["error"]
    code, said = command(site, "build-calibrations", "--from", 20230101, "--to", 20230201)
    assert code is ExitCode.BAD_INPUT
    assert "the era has no biases, or no dome flats" in said["error"]
