"""The steps calibrate and solve_zeropoints on catalogues of simulated CCDs: surveys, pictures, cache, export."""

import json

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits

from blocks.site import Site
from deployments.products.original_calibration import read_calibrated
from imaging.bits import MaskBit
from imaging.detector.ccds import NX, NY
from imaging.detector.distortion import seed_wcs
from imaging.difference.prepare import moffat_psf
from imaging.errors import CcdError, InputError
from imaging.identity import ExposureId
from imaging.io.colour_terms import COLOUR_TERMS, write_colour_terms
from imaging.io.images import read_header, read_planes, write_planes
from imaging.io.psf import write_psf
from imaging.io.reference import write_reference_catalogue
from imaging.io.tables import read_table, write_table
from imaging.photometry.settings import CalibrationSettings
from imaging.schemas.reference import CALIBRATED_STARS
from imaging.simulation.calibrated_fields import FIELD, make_field, observe
from imaging.tables import column, facts_of, make_table
from tasks.calibrate import calibrate, calibrate_job
from tasks.difference import read_calibrated as read_final
from tasks.engine.cache import fingerprint
from tasks.jobs import StepJob
from tasks.solve_zeropoints import solve_zeropoints, solve_zeropoints_job

CCDS = (27, 33)
SETTINGS = CalibrationSettings()


@pytest.fixture(scope="module")
def field():
    return make_field(7)


@pytest.fixture
def measured(field, tmp_path):
    """A site with the products of measure and tie_astrometry, a Gaia reference, and the truth."""
    site = Site.at(tmp_path)
    observed = observe(field, "i", 0, ccds=CCDS)
    who = ExposureId(observed.exposure.expnum, "i", 20240510)
    for ccd, catalogue in observed.catalogues.items():
        job = StepJob(exposure=who, ccd=ccd, site=site)
        wcs = seed_wcs(ccd, *FIELD)
        header = wcs.to_header() | {"EXPNUM": who.expnum, "FILTER": "i DECam", "MJD-OBS": observed.exposure.mjd}
        header |= {"EXPTIME": 90.0, "TELRA": "10:00:00", "TELDEC": "-30:00:00", "OBSTYPE": "object", "FWHM": 4.0}
        small = {"SCI": np.float32, "MSK": np.int16, "WGT": np.float32}
        planes = {name: np.zeros((NY, NX), kind) for name, kind in small.items()}
        write_planes(job.product_path("measured.fits"), planes, header)
        write_table(job.product_path("cat.parquet"), catalogue)
        plain = {key: value[0] if isinstance(value, tuple) else value for key, value in wcs.to_header().items()}
        solution = {"header": plain, "n_stars": 99, "source": "own", "rms_mas": (5, 5), "left_out_rms_mas": None}
        solution["correction_mas"] = np.zeros((3, 3, 2)).tolist()
        tie = {"solution": solution, "predicted_streaks": []}
        job.product_path("tie.json").write_text(json.dumps(tie))
    write_reference_catalogue(site.reference / "gaia", field.gaia, name="gaia")
    write_colour_terms(site.calibrations / COLOUR_TERMS, field.colour_terms)
    return site, who, observed


def survey_of(field, shift_mag=0.0, share=1.0):
    """The field's stars as a survey in the camera's photometric system."""
    stars = field.stars
    keep = np.flatnonzero((stars.g < 21) & (stars.ra < np.quantile(stars.ra, share)))
    columns = {f.name: pa.nulls(keep.size, f.type) for f in CALIBRATED_STARS}
    columns |= {"source_id": stars.source_id[keep], "ra": stars.ra[keep], "dec": stars.dec[keep]}
    columns |= {"ref_epoch": np.full(keep.size, 2016.0), "mag_i": stars.mags["i"][keep] + shift_mag}
    columns |= {"mag_i_error": np.full(keep.size, 0.005)}
    return make_table(columns, CALIBRATED_STARS)


def run_calibration(site, who, ccds=CCDS):
    results = {ccd: calibrate(calibrate_job(who, ccd, site, SETTINGS)) for ccd in ccds}
    solved = solve_zeropoints(solve_zeropoints_job(results, {}, who, site, SETTINGS))
    rows = read_table(site.path(solved.products["zero_points"].path)).to_pylist()
    return results, {row["ccd"]: row for row in rows}, solved


def references(site, results, ccd):
    return set(read_table(site.path(results[ccd].products["zero_point_matches"].path)).column("reference").to_pylist())


def test_gaia_alone_and_the_residuals_of_the_solution(measured):
    site, who, observed = measured
    results, rows, solved = run_calibration(site, who)
    for ccd in CCDS:
        assert references(site, results, ccd) == {"gaia"}
        assert rows[ccd]["zeropoint_mag"] == pytest.approx(observed.true_zeropoint_mag[ccd], abs=0.008)
        assert rows[ccd]["n_used"] > 80
        header = fits.getheader(site.path(results[ccd].products["image"].path), "SCI")
        assert header["MAGZERO"] == pytest.approx(observed.true_zeropoint_mag[ccd], abs=0.008)
        said = " ".join(str(line).strip() for line in header["COMMENT"])
        assert "stars of this CCD alone" in said and "better than those from this header" in said
        assert "POSITIONS" in facts_of(read_table(site.path(results[ccd].products["catalogue"].path)))
    assert {path.name.removeprefix(who.stem) for path in site.store.rglob("*.png")} == {
        "_ZP.png",
        "_deltaZP.png",
        "_NumClipstar.png",
    }
    assert set(solved.products) == {"zero_points", "ZP", "deltaZP", "NumClipstar"}
    calibrated = read_calibrated(who, site)
    assert sorted(calibrated.merged) == list(CCDS)
    assert calibrated.merged[27]["NewZP"] == -rows[27]["zeropoint_mag"]
    placed = column(calibrated.catalogues[27], "ALPHAWIN_J2000")
    assert np.abs(placed - column(observed.catalogues[27], "ra")).max() < 1e-4


def test_zero_points_hold_for_the_reference_colour_where_the_star_flat_knows_the_passband(measured):
    site, who, _ = measured
    results, _, _ = run_calibration(site, who, (27,))
    matches = read_table(site.path(results[27].products["zero_point_matches"].path))
    job = StepJob(exposure=who, ccd=27, site=site)
    planes, header = read_planes(job.product_path("measured.fits"))
    write_planes(job.product_path("measured.fits"), planes, header | {"COLSLOPE": 0.01})
    of_colour, _, _ = run_calibration(site, who, (27,))
    used = column(matches, "used").astype(bool)
    weights = 1.0 / (column(matches, "zeropoint_error_mag")[used].astype(float) ** 2 + 0.015**2)
    redder = np.average(column(matches, "colour_mag")[used] - 1.0, weights=weights)
    change = of_colour[27].quality["own_zeropoint_mag"] - results[27].quality["own_zeropoint_mag"]
    assert change == pytest.approx(-0.01 * redder, abs=3e-4)
    final = read_header(site.path(of_colour[27].products["image"].path))
    assert (final["COLSLOPE"], final["COLREF"]) == (0.01, 1.0)
    again = read_table(site.path(of_colour[27].products["zero_point_matches"].path))
    assert (column(again, "zeropoint_mag") == column(matches, "zeropoint_mag")).all()  # what a star flat is built from


def test_a_survey_is_preferred_where_it_has_observed(measured, field):
    site, who, observed = measured
    alone = run_calibration(site, who)[1]
    write_reference_catalogue(site.reference / "des_dr2", survey_of(field), name="des_dr2")
    results, rows, _ = run_calibration(site, who)
    for ccd in CCDS:
        assert "des_dr2" in references(site, results, ccd)
        assert rows[ccd]["zeropoint_mag"] == pytest.approx(observed.true_zeropoint_mag[ccd], abs=0.004)
        # The survey's magnitudes have no colour term's scatter, so that the stars agree better.
        assert rows[ccd]["scatter_mag"] < 0.7 * alone[ccd]["scatter_mag"]


def test_the_cache_depends_on_the_partitions_of_a_survey(measured, field):
    site, who, _ = measured
    before = calibrate.key(calibrate_job(who, 27, site, SETTINGS))
    write_reference_catalogue(site.reference / "ps1_dr2", survey_of(field), name="ps1_dr2")
    with_survey = calibrate.key(calibrate_job(who, 27, site, SETTINGS))
    other = CalibrationSettings(photometry=SETTINGS.photometry.with_values(preference=("gaia",)))
    assert len({before, with_survey, calibrate.key(calibrate_job(who, 27, site, other))}) == 3
    assert "ps1_dr2" not in " ".join(calibrate_job(who, 27, site, other).inputs)


def test_missing_input_is_named(measured):
    site, who, _ = measured
    with pytest.raises(CcdError, match="step measure is missing"):
        calibrate_job(who, 5, site, SETTINGS)
    with pytest.raises(InputError, match="has not been calibrated"):
        read_calibrated(who, site)
    (site.reference / "gaia" / "partition_info.csv").unlink()
    with pytest.raises(InputError, match="no reference catalogue"):
        calibrate_job(who, 27, site, SETTINGS)


def test_final_image_contains_its_resampling_inputs(measured):
    """The resampling inputs are in the file of the final image, reproducible to the byte, and part of its cache key."""
    site, who, _ = measured
    job = StepJob(exposure=who, ccd=27, site=site)
    planes, header = read_planes(job.product_path("measured.fits"))
    stars = np.random.default_rng(1).uniform(200, 1800, (30, 2)).round()
    psf = moffat_psf(4.0)
    for x, y in stars.astype(int):
        planes["SCI"][y - 20 : y + 21, x - 20 : x + 21] += 3e4 * psf.stamp(x, y, 20).astype(np.float32)
    planes["WGT"][:] = 0.01
    planes["MSK"][:, 900] = planes["MSK"][3000, 950] = MaskBit.BPM
    planes["WGT"][planes["MSK"] != 0] = 0.0
    planes["SCI"][:, 900] = 500.0
    write_planes(job.product_path("measured.fits"), planes, header | {"SATURATE": 1e5, "SKYBRITE": 100.0})
    without = calibrate.key(calibrate_job(who, 27, site, SETTINGS))
    write_psf(job.product_path("psf.fits"), psf)
    planned = calibrate_job(who, 27, site, SETTINGS)
    wider = SETTINGS.with_values(resampling_inputs={"mask_growth_pixels": 3})
    assert len({without, calibrate.key(planned), calibrate.key(calibrate_job(who, 27, site, wider))}) == 3
    path = site.path(calibrate(planned).products["image"].path)
    first = path.read_bytes()
    path.unlink()
    calibrate(planned)
    assert path.read_bytes() == first
    inputs = {"search_image": fingerprint(site, path), "search_psf": fingerprint(site, job.product_path("psf.fits"))}
    reading = job.model_copy(update={"inputs": inputs, "parameters": {"zeropoints_mag": {"search": 30.0}}})
    image = read_final(reading, "search")
    assert image.resampling_inputs is not None
    assert len(image.resampling_inputs.stars) == 30
    nearest = np.hypot(*(image.resampling_inputs.stars[:, None] - stars).transpose(2, 0, 1)).min(axis=1)
    assert nearest.max() < 0.05
    repaired, mask = (
        image.resampling_inputs.repair(image.pixels.science),
        image.resampling_inputs.grow(image.pixels.mask),
    )
    assert abs(np.median(repaired[:, 900])) < 5.0
    assert np.median(image.pixels.science[:, 900]) == 500.0  # the product's own pixels are as they were measured
    assert (mask[2998:3003, 948:953] == MaskBit.BPM).all()
    assert np.count_nonzero(mask) == 4096 * 5 + 25
