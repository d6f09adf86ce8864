"""Forced photometry of sources that GalSim drew: pulls, masked shares, magnitudes, places on the sky."""

import astropy.units as u
import numpy as np
import pytest
from astropy.wcs import WCS
from scipy.stats import kstest

from imaging.detector.distortion import seed_wcs
from imaging.difference.detect import detect
from imaging.difference.direct import MARGIN, DirectImage, direct_table
from imaging.difference.forced import ForcedFluxes, forced_fluxes, forced_table, measure_forced, photometry_columns
from imaging.difference.settings import DetectionSettings
from imaging.schemas.difference import DIRECT_PHOTOMETRY, FORCED_PHOTOMETRY
from imaging.tables import column
from tests.difference.drawn import (
    FWHM,
    IDENTITY,
    ROUND,
    SIGMA,
    ZEROPOINT,
    difference_of,
    draw,
    grid_places,
    model_of,
    varying_model,
    varying_profile,
)

SETTINGS = DetectionSettings()
WIDTH2 = (FWHM / 2.3548) ** 2 + 1 / 12
ERROR = SIGMA * np.sqrt(4 * np.pi * WIDTH2)


def forced(image, x, y, *, weight=None, psf=None, gain=1e12, settings=SETTINGS):
    image = np.asarray(image, np.float32)
    weight = np.full(image.shape, 1 / SIGMA**2, np.float32) if weight is None else weight
    return forced_fluxes(image, weight, psf or model_of(ROUND), np.atleast_1d(x), np.atleast_1d(y), gain, settings)


def test_a_varying_psf_is_taken_at_the_place_of_each_source():
    x, y, shape = grid_places(4, 40, np.random.default_rng(1))
    place = ((60.0, 100.0), (200.0, 150.0))
    profiles = [varying_profile(a, b, *place) for a, b in zip(x, y, strict=True)]
    true = np.geomspace(-1e3, -1e5, x.size) * (-1.0) ** np.arange(x.size)
    flux, _, masked = forced(draw(shape, x, y, true, profiles), x, y, psf=varying_model(*place))
    assert flux == pytest.approx(true, rel=1e-3)
    assert (masked == 0.0).all()


@pytest.mark.parametrize(("flux", "gain"), [(0.0, 1.0), (150.0, 1.0), (2e4, 0.5), (-2e4, 3.0)])
def test_pulls_of_forced_fluxes_are_gaussian_of_unit_width(flux, gain):
    rng = np.random.default_rng(2)
    x, y, shape = grid_places(24, 26, rng)
    light = draw(shape, x, y, np.full(x.size, abs(flux)))
    image = np.sign(flux) * rng.poisson(np.maximum(light, 0.0) * gain) / gain + rng.normal(0.0, SIGMA, shape)
    measured, error, _ = forced(image, x, y, gain=gain)
    pull = (measured - flux) / error
    n = x.size
    assert pull.std() == pytest.approx(1.0, abs=3 / np.sqrt(2 * n))
    assert pull.mean() == pytest.approx(0.0, abs=3 / np.sqrt(n))
    assert kstest(pull, "norm").pvalue > 0.003
    photons = 4 / 3 * abs(flux) / gain
    assert np.median(error) == pytest.approx(np.sqrt(ERROR**2 + photons), rel=0.02)


def test_a_larger_radius_takes_in_more_of_the_psf():
    """Within a radius r of a Gaussian the sum of its square is 1 - exp(-r^2 / sigma^2) of the whole (King 1983)."""
    image = draw((61, 61), [30.0], [30.0], [1e4])
    for radius in (0.5, 1.0, 2.0):
        _, error, _ = forced(image, 30.0, 30.0, settings=SETTINGS.with_values(forced_radius_fwhm=radius))
        share = 1 - np.exp(-((radius * FWHM) ** 2) / WIDTH2)
        # the rim of the disc is cut into pixels
        assert error[0] == pytest.approx(ERROR / np.sqrt(share), rel=0.03 if radius > 0.5 else 0.1)


def test_a_neighbour_beyond_the_radius_does_not_matter_and_one_within_does():
    radius = SETTINGS.forced_radius_fwhm * FWHM
    for apart, matters in ((radius - 0.5, True), (radius + 0.5, False)):
        image = draw((61, 61), [30.0], [30.0], [1e4])
        image[30, 30 + round(apart + 0.01)] += 1e6
        assert (abs(forced(image, 30.0, 30.0)[0][0] - 1e4) > 5.0) == (round(apart + 0.01) <= radius) == matters


@pytest.mark.parametrize(("x", "y"), [(30.0, 30.0), (29.6, 30.3), (0.3, 59.6), (30.5, -0.4)])
def test_masked_share_is_that_of_the_disc_of_one_fwhm(x, y):
    rng = np.random.default_rng(3)
    weight = np.where(rng.random((61, 61)) < 0.2, 0.0, 1 / SIGMA**2).astype(np.float32)
    rows, columns = np.mgrid[-12:74, -12:74]
    inside = np.hypot(rows - y, columns - x) <= FWHM
    good = np.zeros(inside.shape, bool)
    good[12:73, 12:73] = weight > 0
    image = draw((61, 61), [x], [y], [1e4])
    flux, error, share = forced(np.where(weight > 0, image, 1e6), x, y, weight=weight)
    assert share[0] == pytest.approx((inside & ~good).sum() / inside.sum(), abs=1e-12)
    assert flux[0] == pytest.approx(1e4, rel=5e-3)
    stamp = draw((61, 61), [x], [y], [1.0])
    near = np.hypot(*np.ogrid[-y : 60.5 - y, -x : 60.5 - x]) <= 2 * FWHM
    assert error[0] == pytest.approx(1 / np.sqrt((weight * stamp**2)[near].sum()), rel=2e-3)


@pytest.mark.parametrize("half", [3, 5])
def test_a_small_window_cuts_the_disc_on_all_sides_alike(half):
    x, y = 30.25, 29.75
    settings = SETTINGS.with_values(stamp_half_width=half)
    window = np.zeros((61, 61), bool)
    window[30 - half : 31 + half, 30 - half : 31 + half] = True
    disc = np.hypot(*np.ogrid[-y : 60.9 - y, -x : 60.9 - x])
    stamp = draw((61, 61), [x], [y], [1.0])
    weight = np.full((61, 61), 1 / SIGMA**2, np.float32)
    image = 1e4 * stamp + np.random.default_rng(9).normal(0.0, 100.0, (61, 61))
    for place in ((30 - half, 30), (30 + half, 30), (30, 30 - half), (30, 30 + half), (30, 31)):
        weight[place] = 0.0
        used = window & (disc <= 2 * FWHM) & (weight > 0)
        flux, error, share = forced(image, x, y, weight=weight, settings=settings)
        norm = (weight * stamp**2)[used].sum()
        assert error[0] == pytest.approx(norm**-0.5, rel=1e-3)
        assert flux[0] == pytest.approx((weight * stamp * image)[used].sum() / norm, abs=0.1 * error[0])
        near = window & (disc <= FWHM)
        assert share[0] == pytest.approx((near & (weight == 0)).sum() / near.sum(), abs=1e-12)


def test_without_a_good_pixel_in_the_core_there_is_no_flux():
    image, weight = draw((61, 61), [30.0], [30.0], [1e4]), np.full((61, 61), 1 / SIGMA**2, np.float32)
    core = np.hypot(*np.ogrid[-30:31, -30:31]) <= FWHM
    weight[core] = 0.0
    flux, error, share = forced(image, 30.0, 30.0, weight=weight)
    assert np.isnan(flux[0]) and np.isnan(error[0]) and share[0] == 1.0
    weight[30, 34] = 1 / SIGMA**2  # at the distance of one FWHM
    flux, error, share = forced(image, 30.0, 30.0, weight=weight)
    assert flux[0] == pytest.approx(1e4, rel=0.01) and share[0] == pytest.approx(1 - 1 / core.sum())
    beyond = forced(image, np.array([-40.0, 200.0]), np.array([30.0, 30.0]))
    assert np.isnan(beyond[0]).all() and (beyond[2] == 1.0).all()


def test_errors_take_the_width_of_the_noise_and_the_subtracted_light_from_the_header():
    rng = np.random.default_rng(4)
    model = draw((121, 141), [70.3, 1.2], [60.2, 0.8], [3e5, 3e5])
    d = difference_of(
        rng.normal(0.0, SIGMA, (121, 141)),
        model=model,
        scale_error=0.02,
        shift_error=0.05,
        widths=np.array([[1.0, 1.3]]),
        photon_gain=0.5,
    )
    x, y = np.array([72.3, 20.0, 0.2, 140.4]), np.array([58.6, 100.0, 0.1, 120.4])
    plain = measure_forced(d.as_image(), x, y, SETTINGS)
    bare = forced(d.image, x, y, gain=0.5)
    assert plain.flux == pytest.approx(bare[0], rel=1e-6)
    assert plain.error == pytest.approx(1.15 * bare[1], rel=1e-6)  # the median of the tiles' widths
    full = measure_forced(d.as_image(), x, y, SETTINGS, d.filtered.template_flux)
    light = d.filtered.template_flux.astype(float)
    slope_y, slope_x = np.gradient(light)
    for k, (j, i) in enumerate([(59, 72), (100, 20), (1, 1), (119, 139)]):  # the outermost pixels have no slope
        extra2 = (0.02 * light[j, i]) ** 2 + 0.05**2 * (slope_x[j, i] ** 2 + slope_y[j, i] ** 2)
        assert full.error[k] == pytest.approx(np.sqrt(plain.error[k] ** 2 + extra2), rel=1e-4)
    assert full.error[0] > 5 * plain.error[0]


def test_a_position_is_masked_beyond_the_share_of_the_settings():
    weight = np.full((61, 61), 1 / SIGMA**2, np.float32)
    weight[:, 31:35] = 0.0
    share = forced(np.zeros((61, 61)), 30.0, 30.0, weight=weight)[2][0]
    image = difference_of(np.zeros((61, 61)), weight=weight).as_image()
    for limit, masked in ((share, False), (share - 1e-6, True)):
        settings = SETTINGS.with_values(max_masked_fraction=float(limit))
        assert measure_forced(image, np.array([30.0]), np.array([30.0]), settings).masked[0] == masked


def test_columns_are_in_nanojansky_and_ab_magnitudes_as_astropy_has_them():
    flux, error = np.array([5e3, 450.0, 430.0, -2e3, np.nan, 1.0]), np.array([50.0, 220.0, 220.0, 90.0, 1.0, np.inf])
    rows = photometry_columns(ForcedFluxes(flux, error, np.zeros(6, bool)), 30.2)
    unit = (30.2 * u.ABmag).to(u.nJy)
    known = [v is not None for v in rows["flux"].to_pylist()]
    assert known == [True] * 4 + [False] * 2
    assert rows["flux"].to_pylist()[:4] == pytest.approx((flux[:4] * unit).value, rel=1e-3)  # 31.4 for 31.4000
    assert rows["flux_error"].to_pylist()[:4] == pytest.approx((error[:4] * unit).value, rel=1e-3)
    assert rows["snr"].to_pylist()[:4] == pytest.approx(flux[:4] / error[:4])
    assert [v is not None for v in rows["mag"].to_pylist()] == [True, True] + [False] * 4  # above two sigma
    mag = (flux[:2] * unit).to(u.ABmag).value
    assert rows["mag"].to_pylist()[:2] == pytest.approx(mag, abs=1e-6)
    # to first order the error of a magnitude is 1.0857 times the relative error
    assert rows["mag_error"].to_pylist()[:2] == pytest.approx(1.0857362 * error[:2] / flux[:2], rel=1e-6)
    limit = (5.0 * error[:4] * unit).to(u.ABmag).value
    assert rows["limit_mag"].to_pylist()[:4] == pytest.approx(limit, abs=1e-6)


def sky_of(x, y):
    """Astropy's coordinates of pixels of the CCD that the drawn differences are on."""
    return WCS(seed_wcs(10, 150.0, -20.0).to_header()).all_pix2world(x, y, 0)


def test_candidates_are_measured_at_their_place_on_the_sky_and_left_out_beyond_the_image():
    shape, x = (101, 121), np.array([40.3, -0.45, -0.55, 120.45, 120.55, 60.0, 60.0, 90.7])
    y = np.array([70.2, 30.0, 30.0, 50.0, 50.0, 100.45, -0.55, 20.6])
    image = difference_of(draw(shape, x[[0, 7]], y[[0, 7]], [1e5, -4e4]))
    names = [f"GWJ{k}" for k in range(8)]
    table = forced_table(image.as_image(), IDENTITY, names, *sky_of(x, y), SETTINGS)
    assert table.schema.equals(FORCED_PHOTOMETRY)
    assert table.column("candidate_id").to_pylist() == ["GWJ0", "GWJ1", "GWJ3", "GWJ5", "GWJ7"]
    unit = (ZEROPOINT * u.ABmag).to(u.nJy).value
    flux = table.column("flux").to_pylist()
    assert (flux[0] / unit, flux[4] / unit) == (pytest.approx(1e5, rel=2e-3), pytest.approx(-4e4, rel=2e-3))
    first = table.to_pylist()[0]
    assert (first["expnum"], first["band"], first["night"], first["ccd"]) == (41, "r", 20260101, 10)
    assert first["mjd"] == 61041.1 and first["mag"] == pytest.approx(ZEROPOINT - 12.5, abs=0.003)
    assert table.to_pylist()[4]["mag"] is None and not first["masked"]


def direct(science, weight, x, y, psf=None, gain=1.0, **more):
    windows = []

    def pixels(rows, columns):
        windows.append((rows, columns))
        return science[rows, columns].astype(np.float32), weight[rows, columns].astype(np.float32)

    wcs, psf = seed_wcs(10, 150.0, -20.0), psf or model_of(ROUND)
    image = DirectImage(pixels, science.shape, wcs, psf, ZEROPOINT, gain, **more)
    names = [f"GWJ{k}" for k in range(len(x))]
    return direct_table(image, IDENTITY, "search", names, *sky_of(np.array(x), np.array(y)), SETTINGS), windows


def test_direct_photometry_is_that_of_the_whole_image_above_its_own_sky():
    shape, place = (160, 150), ((60.0, 100.0), (200.0, 150.0))
    x, y = np.array([75.3, 3.2, 146.4, 30.0]), np.array([80.6, 4.9, 155.1, 60.0])
    profiles = [varying_profile(a, b, *place) for a, b in zip(x, y, strict=True)]
    light = draw(shape, x, y, [1e5, 5e4, 2e4, 1e4], profiles)
    weight = np.full(shape, 1 / SIGMA**2, np.float32)
    psf = varying_model(*place)
    table, windows = direct(light + 37.0, weight, x, y, psf, gain=2.0)
    assert table.schema.equals(DIRECT_PHOTOMETRY)
    unit = (ZEROPOINT * u.ABmag).to(u.nJy).value
    whole = forced(light, x, y, psf=psf, gain=2.0)
    assert np.array(table.column("flux").to_pylist()) / unit == pytest.approx([1e5, 5e4, 2e4, 1e4], rel=3e-3)
    background = forced(np.full(shape, 37.0, np.float32), x, y, psf=psf, gain=2.0)[0]
    error = np.hypot(whole[1], 0.2 * background)
    assert np.array(table.column("flux_error").to_pylist()) / unit == pytest.approx(error, rel=2e-3)
    half = SETTINGS.stamp_half_width + MARGIN
    assert windows[0] == (slice(81 - half, 81 + half + 1), slice(75 - half, 75 + half + 1))
    for (rows, columns), a, b in zip(windows, np.rint(x), np.rint(y), strict=True):
        assert rows.start == max(b - half, 0) and columns.start == max(a - half, 0)
        assert rows.stop <= shape[0] and columns.stop <= shape[1]
        assert rows.stop >= min(b + half + 1, shape[0]) and columns.stop >= min(a + half + 1, shape[1])


def test_behind_clouds_the_error_of_a_flux_is_that_of_its_place():
    """Reference stars on the left only: 1 % there, 6 % on the right. One error of a CCD does not do that."""
    shape, x, y = (130, 260), np.array([40.0, 128.0, 224.0]), np.array([60.0, 64.0, 70.0])
    light = draw(shape, x, y, [1e5] * 3)
    error = 0.01 + 0.05 * np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])[None] * np.ones((4, 1))
    stated = np.array([0.01, 0.01, 0.06])
    weight = np.full(shape, 1 / SIGMA**2, np.float32)
    clear, cloudy = difference_of(light), difference_of(light, transparency_error=error)
    tables = [
        [forced_table(one.as_image(), IDENTITY, ["a", "b", "c"], *sky_of(x, y), SETTINGS) for one in (clear, cloudy)],
        [direct(light, weight, x, y)[0], direct(light, weight, x, y, transparency_error=error)[0]],
    ]
    for pair in tables:
        (flux, own), (_, found) = ([column(one, name) for name in ("flux", "flux_error")] for one in pair)
        assert found == pytest.approx(np.hypot(own, stated * flux), rel=1e-4)
    assert cloudy.as_image().pixels.header["TRANSERR"] == pytest.approx(np.sqrt(np.mean(error**2)))
    found, cloudy_found = (detect(one, SETTINGS).measured for one in (clear, cloudy))
    expected = np.hypot(found.flux_error, np.sort(stated)[np.argsort(np.argsort(found.x))] * found.flux)
    assert len(found.x) == 3 and cloudy_found.flux_error == pytest.approx(expected, rel=1e-4)


def test_the_sky_of_a_direct_measurement_needs_enough_good_pixels():
    shape, half = (100, 100), SETTINGS.stamp_half_width + MARGIN
    inner = np.hypot(*np.ogrid[-49.7:50, -50.2:49.5]) <= 3.0 * FWHM
    window = np.zeros(shape, bool)
    window[50 - half : 50 + half + 1, 50 - half : 50 + half + 1] = True
    ring = np.flatnonzero(window & ~inner)
    science = np.where(inner, 0.0, 20.0)
    light = draw(shape, [50.2], [49.7], [1e5])
    unit = (ZEROPOINT * u.ABmag).to(u.nJy).value
    found = {}
    for good in (199, 200):
        weight = np.where(inner, 1 / SIGMA**2, 0.0)
        weight.flat[ring[:good]] = 1 / SIGMA**2
        table, _ = direct(light + science, weight, [50.2], [49.7])
        found[good] = table.column("flux").to_pylist()[0] / unit
    assert found[199] == pytest.approx(1e5, rel=1e-3)
    # twenty electrons too few in every pixel: 4 pi sigma^2 times as much in the flux
    assert found[200] - found[199] == pytest.approx(-20.0 * 4 * np.pi * WIDTH2, rel=0.03)
