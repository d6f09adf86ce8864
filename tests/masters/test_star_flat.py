"""The star flat is recovered from the zero points of simulated stars, by the fit and by the steps."""

import numpy as np
import pytest

from blocks.site import Site
from imaging.errors import CcdError, InputError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.calibration_write import write_calibration_image
from imaging.io.calibrations import CalibrationLibrary, read_calibration_image, read_colour_slope
from imaging.io.tables import write_table
from imaging.masters.settings import StarFlatSettings
from imaging.masters.star_flat import StarFlatFit, StarZeropoints, exposure_zeropoint, fit_star_flat, passband_slopes
from imaging.schemas.matches import ZEROPOINT_MATCHES
from imaging.tables import make_table
from tasks.build_star_flat import fit_job, fit_star_flats, fitted_ccds, write_job, write_star_flat
from tasks.calibration_files import master_path, record_files

SETTINGS = StarFlatSettings()
CCDS = (26, 33)
OFFSET = {26: 0.012, 33: -0.012}


def excess_mag(ccd, x, y):
    return OFFSET[ccd] + 0.02 * (x / 1024 - 1) - 0.015 * (y / 2048 - 1) ** 2 + 0.01 * (x / 1024 - 1) * (y / 2048 - 1)


def draw(ccd, zeropoint, random, n=120):
    x, y = random.uniform(0, 2048, n), random.uniform(0, 4096, n)
    mag = zeropoint + excess_mag(ccd, x, y) + random.normal(0.0, 0.02, n)
    mag[: n // 20] += 0.5
    return star_zeropoints(x, y, mag)


def star_zeropoints(x, y, mag, colour=None):
    colour = np.full(x.size, np.nan) if colour is None else colour
    return StarZeropoints(x, y, mag, np.full(x.size, 0.02), colour, np.arange(x.size))


@pytest.fixture
def stars():
    random = np.random.default_rng(3)
    clouds = {1000 + k: 31.7 - 0.3 * random.random() for k in range(12)}
    return {expnum: {ccd: draw(ccd, zp, random) for ccd in CCDS} for expnum, zp in clouds.items()}


def pixels():
    return np.meshgrid(np.arange(0, 2048, 64), np.arange(0, 4096, 64))


def difference_mmag(response, ccd):
    x, y = pixels()
    measured = 2.5 * np.log10(response[::64, ::64])
    return 1000.0 * (measured - excess_mag(ccd, x, y))


def test_the_response_is_recovered_through_clouds_and_variables(stars):
    zeropoints = {expnum: exposure_zeropoint(found) for expnum, found in stars.items()}
    left = []
    for ccd in CCDS:
        fit = fit_star_flat({n: found[ccd] for n, found in stars.items()}, zeropoints, ccd, SETTINGS)
        assert fit.scatter_mag == pytest.approx(0.02, rel=0.1)
        assert fit.n_stars < 12 * 120
        left.append(difference_mmag(fit.response(), ccd))
    common = np.mean(left)  # the camera's mean belongs to the zero point
    assert np.sqrt(np.mean((np.array(left) - common) ** 2)) < 2.0


def test_a_flat_that_is_right_is_left_alone_and_a_curved_one_is_followed():
    """Five exposures of 60 stars: a quadratic whatever the stars say would be off by 3 mmag rms."""
    left = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        x, y = random.uniform(0, 2048, 300), random.uniform(0, 4096, 300)
        flat = star_zeropoints(x, y, 31.7 + random.normal(0.0, 0.02, 300))
        fit = fit_star_flat({1: flat}, {1: 31.7}, 26, SETTINGS)
        left.append(2500.0 * np.log10(fit.response()[::64, ::64]))
    assert np.sqrt(np.mean(np.square(left))) < 1.9
    x, y = random.uniform(0, 2048, 3000), random.uniform(0, 4096, 3000)
    bent = 0.02 * (y / 2048 - 1) ** 3
    stars = star_zeropoints(x, y, 31.7 + bent + random.normal(0.0, 0.02, 3000))
    fit = fit_star_flat({1: stars}, {1: 31.7}, 26, SETTINGS)
    assert fit.degree == 3
    _, rows = pixels()
    error = 2500.0 * np.log10(fit.response()[::64, ::64]) - 20.0 * (rows / 2048 - 1) ** 3
    assert np.sqrt(np.mean(error**2)) < 2.0


def slopes_left(slope_rms, seed):
    """Return the slopes of 20 CCDs, those found from six exposures of 120 other stars each, and stated errors, mmag."""
    random = np.random.default_rng(seed)
    true, fits = random.normal(0.0, slope_rms, 20), {}
    for ccd, slope in enumerate(true, start=1):
        colour = random.normal(1.2, 0.5, 720)
        colour[::9] = np.nan
        mag = 31.7 + (0.005 + slope) * (np.nan_to_num(colour, nan=1.2) - 1.0) + random.normal(0.0, 0.02, 720)
        stars = star_zeropoints(random.uniform(0, 2048, 720), random.uniform(0, 4096, 720), mag, colour)
        fits[ccd] = fit_star_flat({1: stars}, {1: 31.7}, ccd, SETTINGS)
    found = np.array(list(passband_slopes(fits).values()))
    return 1000 * (true - true.mean()), 1000 * found, 1000 * np.array([f.colour_slope_error for f in fits.values()])


def test_slopes_with_colour_are_those_of_the_passbands_and_not_noise():
    true, found, stated = slopes_left(0.005, 1)
    assert stated == pytest.approx(20.0 / np.sqrt(640) / 0.5, rel=0.2)  # of 640 stars of 20 mmag, 0.5 mag in colour
    assert np.sqrt(np.mean((found - true) ** 2)) < 2.0  # the errors, 1.6, and a third
    fit = StarFlatFit((0.01,), 100, 0.02, 0.006, 0.001, colour_mag=1.5).at_reference_colour(0.004)
    assert (fit.coefficients_mag[0], fit.colour_slope) == pytest.approx((0.01 - 0.004 * 0.5, 0.004))
    assert np.sqrt(np.mean(slopes_left(0.0, 2)[1] ** 2)) < 0.8  # half of the errors


def test_the_same_stars_in_six_exposures_tell_no_more_of_a_passband_than_in_one():
    random = np.random.default_rng(5)
    x, y, colour = random.uniform(0, 2048, 120), random.uniform(0, 4096, 120), random.normal(1.2, 0.5, 120)
    own = random.normal(0.0, 0.02, 120)
    seen = {n: star_zeropoints(x, y, 31.7 + own + random.normal(0.0, 0.002, 120), colour) for n in range(6)}
    fit = fit_star_flat(seen, dict.fromkeys(seen, 31.7), 26, SETTINGS)
    assert 1000 * fit.colour_slope_error == pytest.approx(20.0 / np.sqrt(120) / 0.5, rel=0.35)


def test_too_few_stars_are_refused_with_their_number():
    few = draw(26, 31.7, np.random.default_rng(1), 40)
    with pytest.raises(CcdError) as caught:
        fit_star_flat({1: few}, {1: 31.7}, 26, SETTINGS)
    assert caught.value.reason == "too_few_stars"
    assert caught.value.limit == "at least 100"


def write_matches(site, who, ccd, stars):
    n = stars.x.size
    columns = {
        field.name: np.zeros(n, field.type.to_pandas_dtype()) for field in ZEROPOINT_MATCHES if field.name != "band"
    }
    columns |= {"x": stars.x, "y": stars.y, "zeropoint_mag": stars.zeropoint_mag, "used": np.ones(n, bool)}
    columns |= {"zeropoint_error_mag": stars.error_mag.astype(np.float32), "band": [who.band] * n}
    columns |= {"colour_mag": stars.colour_mag.astype(np.float32), "source_id": stars.source_id}
    for name in ZEROPOINT_MATCHES.names:
        if columns[name].__class__ is np.ndarray and columns[name].dtype == object:
            columns[name] = [""] * n
    path = site.store / who.folder / f"{who.ccd_stem(ccd)}_zpmatches.parquet"
    write_table(path, make_table(columns, ZEROPOINT_MATCHES))


def test_the_steps_write_star_flats_that_the_library_finds(tmp_path, stars):
    site = Site.at(tmp_path)
    exposures = [ExposureId(expnum, "i", 20240501) for expnum in stars]
    for who in exposures:
        for ccd in CCDS:
            write_matches(site, who, ccd, stars[who.expnum][ccd])
    few = stars[1000][26]
    write_matches(site, exposures[0], 34, StarZeropoints(*(v[:5] for v in vars(few).values())))
    fit = fit_star_flats(fit_job(exposures, site, SETTINGS))
    assert fitted_ccds(fit) == CCDS
    assert "CCD 34: too few stars for a star flat" in fit.notes[0]
    observed = Exposure(2000, "i", 20240501, 60430.0, 90.0, 10.0, 0.0, 1.0)
    for ccd in CCDS:
        write_star_flat(write_job(ccd, observed, site, "new", fit))
    paths = [master_path(site, "new", "star_flat", ccd, "i") for ccd in CCDS]
    record_files(site, 20240501, "new", {("star_flat", "i"): paths})
    flat = read_calibration_image(CalibrationLibrary(site.calibrations).find("star_flat", observed, 33))
    assert difference_mmag(flat, 33).std() < 2.0
    assert read_colour_slope(paths[1], 33) == 0.0  # two CCDs cannot tell
    told = fit.model_copy(update={"quality": {**fit.quality, "colour_slope_c33": 0.004}})
    path = site.path(write_star_flat(write_job(33, observed, site, "told", told)).products["star_flat"].path)
    assert read_colour_slope(path, 33) == 0.004
    write_calibration_image(path, flat, {"CCDNUM": 33, "BAND": "i", "COLSLOPE": 0.4})
    with pytest.raises(InputError, match="colour slope"):
        read_colour_slope(path, 33)
    again = write_job(33, observed, site, "again", fit)
    twice = read_calibration_image(site.path(write_star_flat(again).products["star_flat"].path))
    assert twice[2000, 1000] == pytest.approx(flat[2000, 1000] ** 2, abs=2e-4)


def test_one_exposure_or_two_bands_are_refused(tmp_path):
    one = [ExposureId(1, "i", 20240501)]
    with pytest.raises(InputError, match="several exposures of one band"):
        fit_job(one, Site.at(tmp_path), SETTINGS)
    with pytest.raises(InputError, match="several exposures of one band"):
        fit_job([*one, *(ExposureId(k, "z", 20240501) for k in range(2, 8))], Site.at(tmp_path), SETTINGS)
    with pytest.raises(InputError, match="has not been calibrated"):
        fit_job([ExposureId(k, "z", 20240501) for k in range(2, 8)], Site.at(tmp_path), SETTINGS)
