"""build-pixel-displacement, from the matches and solutions of exposures to coordinates that take its map out."""

from dataclasses import replace

import numpy as np
import pytest

from blocks.site import Site
from imaging.astrometry.displacement import PixelDisplacement
from imaging.detector.ccds import NX, NY
from imaging.detector.distortion import seed_wcs
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.calibration_write import write_calibration_image
from imaging.io.calibrations import CalibrationLibrary, write_manifest
from imaging.io.displacement import read_displacement
from imaging.io.images import write_planes
from imaging.io.manifest import CalibrationEntry
from imaging.io.tables import write_table
from imaging.measure.settings import MeasureSettings
from imaging.schemas.masks import STREAKS
from imaging.schemas.matches import ASTROMETRY_MATCHES
from imaging.tables import make_table
from imaging.wcs.tpv import plane_to_sky, sky_to_plane
from tasks.engine.jobs import ExitCode, StepResult
from tasks.jobs import StepJob
from tasks.products import product_inputs
from tasks.tie_astrometry import read_ccd_tie, tie_astrometry, tie_astrometry_job

pytestmark = pytest.mark.slow

CCD, NIGHT = 27, 20240510
CENTRE, DEPTH, WAVE = (-300.0, -200.0), 0.002, 25.0
RADII = np.arange(0.0, 5200.0, 4.0)
TRUE = PixelDisplacement(
    name="true",
    ccd=CCD,
    band="i",
    centre=CENTRE,
    radius_step=4.0,
    ring=(DEPTH * WAVE * np.cos(RADII / WAVE)).tolist(),
)
"""Minus the integral of the flat's excess."""


def pointing(number):
    return 150.0 + 0.03 * number, 2.0


EXPNUMS = tuple(range(1299500, 1299506))
OBSERVED = Exposure(2000000, "i", 20240601, 60461.0, *pointing(0), 0.0, 1.0)


def write_exposure(site, number, random, n=150):
    """Write the products of an exposure of one CCD: matches of stars of 6 mas, and its solution without a map."""
    who = ExposureId(1299500 + number, "i", NIGHT)
    seed = seed_wcs(CCD, *pointing(number))
    x, y = random.uniform(10, NX - 10, n), random.uniform(10, NY - 10, n)
    ra, dec = plane_to_sky(*seed.pixel_to_plane(x, y), *seed.crval)
    measured = np.stack([x, y]) + TRUE.at(x, y) + random.normal(0.0, 0.025, (2, n))
    columns = {"x": measured[0], "y": measured[1], "ra": ra, "dec": dec, "snr": np.full(n, 100.0)}
    columns |= {name: np.full(n, 0.025) for name in ("x_error", "y_error")}
    columns |= {name: np.full(n, 0.5) for name in ("ra_error_mas", "dec_error_mas")}
    columns |= {"expnum": np.full(n, who.expnum), "band": ["i"] * n, "night": np.full(n, NIGHT), "ccd": np.full(n, CCD)}
    columns |= {"source_id": np.arange(n), "number": np.arange(1, n + 1), "colour_mag": np.full(n, 1.0)}
    table = make_table(columns | {"used": np.ones(n, bool)}, ASTROMETRY_MATCHES)
    own = StepJob(exposure=who, ccd=CCD, site=site)
    write_table(own.product_path("matches.parquet"), table)
    write_table(own.product_path("streaks.parquet"), STREAKS.empty_table())
    solve(site, number)
    ra0, dec0 = pointing(number)
    cards = {"EXPNUM": who.expnum, "FILTER": "i", "MJD-OBS": 60440.2, "EXPTIME": 90.0, "RA": ra0, "DEC": dec0}
    cards |= {"OBSTYPE": "object", "AIRMASS": 1.1, "TELRA": ra0, "TELDEC": dec0, "CCDNUM": CCD}
    write_planes(own.product_path("immask.fits"), {"SCI": np.zeros((8, 8), np.float32)}, cards)


def solve(site, number):
    """Run the step on an exposure with the library as it is; return the solution of its CCD."""
    own = StepJob(exposure=ExposureId(1299500 + number, "i", NIGHT), ccd=CCD, site=site)
    names = {"matches": "matches.parquet", "streaks": "streaks.parquet"}
    measured = {CCD: StepResult.model_construct(products=product_inputs(own, names, "measure"))}
    observed = replace(OBSERVED, expnum=own.expnum, ra_deg=pointing(number)[0])
    tie_astrometry(tie_astrometry_job(measured, {}, observed, own.exposure, site, MeasureSettings()))
    return read_ccd_tie(own.product_path("tie.json"))[0]


def error_mas(tied, number):
    """Return the rms error per axis of the coordinates of places on the CCD."""
    x, y = np.random.default_rng(1).uniform(0.05, 0.95, (2, 2000)) * np.array([[NX], [NY]])
    seed = seed_wcs(CCD, *pointing(number))
    found = sky_to_plane(*tied.sky(*(np.stack([x, y]) + TRUE.at(x, y)), (NY, NX)), *seed.crval)
    return float(np.std(np.stack(found) - np.stack(seed.pixel_to_plane(x, y)))) * 3.6e6


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a site with a flat that shows tree rings and six exposures whose stars they displace."""
    site = Site.at(tmp_path_factory.mktemp("rings"))
    random = np.random.default_rng(3)
    x, y = np.meshgrid(np.arange(NX), np.arange(NY))
    flat = 1.0 + DEPTH * np.sin(np.hypot(x - CENTRE[0], y - CENTRE[1]) / WAVE) + random.normal(0.0, 0.004, x.shape)
    about = {"CCDNUM": CCD, "BAND": "i"}
    write_calibration_image(site.calibrations / "flat_i_c27.fits", flat.astype(np.float32), about)
    entry = CalibrationEntry(epoch="old", kind="flat", files="flat_i_c{ccd:02d}.fits", band="i", made_night=NIGHT)
    write_manifest(site.calibrations, [entry.model_copy(update={"ccds": (CCD,)})])
    for number in range(6):
        write_exposure(site, number, random)
    return site


def test_the_map_is_built_entered_and_taken_out_of_the_next_solution(command, site):
    code, said = command(site, "build-pixel-displacement", *EXPNUMS, "--epoch", "new")
    assert code is ExitCode.COMPLETE, said
    path = CalibrationLibrary(site.calibrations).find("pixel_displacement", OBSERVED, CCD)
    found = read_displacement(path, CCD, "i")
    assert found.name == path.name == "pixel_displacement_i_c27.json"
    x, y = np.random.default_rng(1).uniform(0.05, 0.95, (2, 2000)) * np.array([[NX], [NY]])
    true, left = TRUE.at(x, y), TRUE.at(x, y) - found.at(x, y)
    assert 263.0 * float(true.std()) > 6.0
    assert 263.0 * float(left.std()) < 1.5

    own = StepJob(exposure=ExposureId(EXPNUMS[0], "i", NIGHT), ccd=CCD, site=site)
    before, after = read_ccd_tie(own.product_path("tie.json"))[0], solve(site, 0)
    assert before.displacement is None
    assert after.displacement == found, "a solution from before the map was built is not kept"
    assert error_mas(before, 0) > 5.5
    assert error_mas(after, 0) < 2.5

    again, repeated = command(site, "build-pixel-displacement", *EXPNUMS[1:], "--epoch", "new")
    assert again is ExitCode.COMPLETE
    assert repeated["summary"]["n_computed"] == 1
    again, repeated = command(site, "build-pixel-displacement", *EXPNUMS[1:], "--epoch", "new")
    assert repeated["summary"]["n_computed"] == 0


def test_too_few_exposures_and_exposures_without_solution_are_refused(command, site):
    code, said = command(site, "build-pixel-displacement", *EXPNUMS[:3], "--epoch", "few")
    assert code is ExitCode.BAD_INPUT
    assert "3 of the bands i" in said["error"] and "at least 4" in said["error"]
    who = ExposureId(1299600, "i", NIGHT)
    path = StepJob(exposure=who, ccd=CCD, site=site).product_path("immask.fits")
    path.parent.mkdir(parents=True)
    path.touch()
    code, said = command(site, "build-pixel-displacement", *EXPNUMS, who.expnum, "--epoch", "few")
    assert code is ExitCode.BAD_INPUT
    assert "exposure 1299600: the exposure has no astrometric solution" in said["error"]
