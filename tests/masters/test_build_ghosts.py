"""build-ghosts, from verified exposures of a site to the model in its library."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from blocks.site import Site
from imaging.detector.ccds import NX, NY
from imaging.detector.distortion import seed_wcs
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.calibrations import CalibrationLibrary
from imaging.io.ghosts import read_ghosts
from imaging.io.images import write_planes
from imaging.io.reference import write_reference_catalogue
from imaging.io.sealed import write_sealed
from imaging.schemas.reference import REFERENCE_STARS
from imaging.simulation.ghosts import REFLECTIONS, add_ghosts, ghost_radius_pixels
from imaging.tables import make_table
from tasks.engine.jobs import ExitCode
from tasks.jobs import StepJob

pytestmark = pytest.mark.slow

NIGHT, ZEROPOINT = 20240510, 31.5
EXPOSURES = {1299500 + k: ccd for k, ccd in enumerate((14, 20, 27, 34, 47, 59))}
"""Exposure number to the CCD on which its star is; the fields are far apart."""


def observed(expnum):
    return Exposure(expnum, "i", NIGHT, 60440.2, 90.0, 100.0 + 5.0 * (expnum - 1299500), 2.0, 1.1)


def write_exposure(site, expnum, random):
    """Write final image and summary of an exposure; return the star of 6 to 7 mag on it."""
    ccd, about = EXPOSURES[expnum], observed(expnum)
    own = StepJob(exposure=ExposureId(expnum, "i", NIGHT), ccd=ccd, site=site)
    wcs = seed_wcs(ccd, about.ra_deg, about.dec_deg)
    x, y, mag = random.uniform(300, 1700), random.uniform(900, 3200), random.uniform(5.5, 6.5)
    image = random.normal(0.0, 40.0, (NY, NX)).astype(np.float32)
    add_ghosts(image, ccd, *(np.array([value]) for value in (x, y, 10 ** (0.4 * (ZEROPOINT - mag)))))
    mask = np.zeros((NY, NX), np.int16)
    planes = {"SCI": image, "MSK": mask, "WGT": np.full((NY, NX), 40.0**-2, np.float32)}
    write_planes(own.product_path("immask.fits"), planes, {"CCDNUM": ccd} | wcs.to_header())
    row = {"status": "good", "zeropoint_mag": ZEROPOINT, "corners": []}
    summary = {"exposure": asdict(about), "numbers": {}, "ccds": {str(ccd): row}}
    whole = StepJob(exposure=own.exposure, site=site)
    write_sealed(whole.product_path("summary.json"), json.dumps(summary))
    return *(float(value) for value in wcs.pixel_to_sky(x, y)), mag


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site, random = Site.at(tmp_path_factory.mktemp("ghosts")), np.random.default_rng(8)
    ra, dec, mag = np.array([write_exposure(site, expnum, random) for expnum in EXPOSURES]).T
    columns = {name: np.full(ra.size, np.nan) for name in REFERENCE_STARS.names}
    columns |= {"source_id": np.arange(ra.size), "ra": ra, "dec": dec, "ref_epoch": np.full(ra.size, 2016.0)}
    columns |= {"phot_g_mean_mag": mag, "variable": np.zeros(ra.size, bool)}
    columns |= {name: np.full(ra.size, 0.1) for name in ("ra_error", "dec_error", "phot_g_mean_mag_error", "ruwe")}
    write_reference_catalogue(site.reference / "gaia", make_table(columns, REFERENCE_STARS), name="gaia")
    return site


def test_the_model_is_built_and_entered(command, site):
    code, said = command(site, "build-ghosts", *EXPOSURES, "--epoch", "new")
    assert code is ExitCode.COMPLETE, said
    path = CalibrationLibrary(site.calibrations).find("ghosts", observed(1299500), 3)
    model = read_ghosts(path, "i")
    assert model.name == path.name == "ghosts_i.json"
    found = sorted(family.outer_pixels for family in model.families)
    true = [ghost_radius_pixels(reflection) for reflection in REFLECTIONS]
    assert all(min(abs(radius - np.array(true))) < 4.0 for radius in found), (found, true)
    assert min(abs(np.array(found) - true[1])) < 4.0, "the donut of 600 pixels is among them"
    again, repeated = command(site, "build-ghosts", *EXPOSURES, "--epoch", "new")
    assert again is ExitCode.COMPLETE and repeated["summary"]["n_computed"] == 0


def test_few_exposures_and_those_that_are_not_verified_are_refused(command, site):
    code, said = command(site, "build-ghosts", *list(EXPOSURES)[:3], "--epoch", "few")
    assert code is ExitCode.BAD_INPUT
    assert "3 of the bands i" in said["error"] and "at least 4" in said["error"]
    who = ExposureId(1299600, "i", NIGHT)
    path = StepJob(exposure=who, ccd=27, site=site).product_path("immask.fits")
    path.parent.mkdir(parents=True)
    path.touch()
    code, said = command(site, "build-ghosts", *EXPOSURES, who.expnum, "--epoch", "few")
    assert code is ExitCode.BAD_INPUT
    assert "exposure 1299600: the exposure has not been verified" in said["error"]
