"""Thin clouds between search and template: the field of brightness against a known one."""

import numpy as np
import pytest

from imaging.difference.registration import apply_shift, fit_shift_field, measure_shifts
from imaging.difference.settings import RegistrationSettings
from imaging.image import CcdImage
from imaging.photometry.settings import PhotometrySettings
from imaging.photometry.transparency import (
    FLUXES,
    Transparency,
    apply_transparency,
    final_catalogue,
    fit_transparency,
    without_clouds,
)
from imaging.photometry.zeropoint import ccd_zeropoint, solve_ccd
from imaging.schemas.catalogue import CATALOGUE, FINAL_CATALOGUE
from imaging.schemas.matches import ZEROPOINT_MATCHES
from imaging.tables import column, make_table, with_column

SHAPE = (2048, 1024)
SETTINGS = RegistrationSettings()
HOW = SHAPE, SETTINGS.scales_pixels, SETTINGS.min_stars


def clouds(x, y):
    """Return the relative excess of brightness: waves of some arcminutes, 5 per cent rms."""
    return 0.05 * np.sqrt(2.0) * np.sin(2.0 * np.pi * (x / 1500.0 + y / 1100.0) + 0.4)


def stars(n, seed, error=0.01, amplitude=1.0):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, SHAPE[1], n), rng.uniform(0, SHAPE[0], n)
    return x, y, amplitude * clouds(x, y) + rng.normal(0.0, error, n), np.full(n, error)


def left(field, x, y):
    """Return what is left at positions."""
    flat = apply_transparency(np.ones(SHAPE, np.float32), field)
    return (1.0 + clouds(x, y)) / flat[y.astype(int), x.astype(int)] - 1.0


@pytest.mark.parametrize("n", [60, 150])
def test_the_field_of_clouds_is_that_of_the_stars_between_them_too(n):
    field = fit_transparency(*stars(n, 1), *HOW)
    rng = np.random.default_rng(2)
    x, y = rng.uniform(100, SHAPE[1] - 100, 500), rng.uniform(100, SHAPE[0] - 100, 500)
    rms = np.sqrt(np.mean(left(field, x, y) ** 2))
    assert 0.04 < field.rms_before < 0.08  # a robust width, 1.05 times the amplitude of a wave
    # neighbours 170 or 110 pixels away, where these waves have changed by 0.05 * 2 pi * 170 / 880 / 2
    assert rms < {60: 0.02, 150: 0.012}[n]
    assert field.rms_after < 0.6 * field.rms_before


def test_variables_and_a_transient_do_not_make_clouds():
    x, y, scale, error = stars(150, 3)
    scale[:8] += np.linspace(0.3, 1.5, 8) * (-1.0) ** np.arange(8)
    field = fit_transparency(x, y, scale, error, *HOW)
    clean = fit_transparency(*stars(150, 3), *HOW)
    inside = (x > 100) & (x < SHAPE[1] - 100) & (y > 100) & (y < SHAPE[0] - 100)
    apart = left(field, x[inside], y[inside]) - left(clean, x[inside], y[inside])
    assert np.abs(apart[: int(inside[:8].sum())]).max() < 0.03
    assert np.std(apart) < 0.005


@pytest.mark.parametrize("seed", range(12))
def test_scatter_of_single_stars_is_no_cloud(seed):
    """Stars that each vary by two per cent, without any common cause."""
    rng = np.random.default_rng(seed)
    x, y, scale, error = stars(150, seed, amplitude=0.0)
    assert fit_transparency(x, y, scale + rng.normal(0.0, 0.02, 150), error, *HOW) is None


def test_a_clear_sky_and_few_stars_leave_the_brightness():
    assert fit_transparency(*stars(150, 5, amplitude=0.0), *HOW) is None
    assert fit_transparency(*stars(SETTINGS.min_stars - 1, 5), *HOW) is None
    nothing = np.zeros(0)
    assert fit_transparency(nothing, nothing, nothing, nothing, *HOW) is None


def test_the_other_image_has_the_inverse():
    field = Transparency(np.full((33, 17), 0.25), np.full((33, 17), 0.01), 600.0, 0.1, 0.0)
    image = np.full(SHAPE, 8.0, np.float32)
    assert apply_transparency(image, field) == pytest.approx(10.0)
    assert apply_transparency(apply_transparency(image, field), field.power(-1.0)) == pytest.approx(8.0)


def test_stars_behind_clouds_vanish_from_the_difference():
    """Stars of 100 000 electrons, noise of 10 per pixel: a cloud of five per cent leaves some hundred sigma of each."""
    rng = np.random.default_rng(7)
    n, side, sigma, width = 120, 31, 10.0, 1.8
    x, y = rng.uniform(20, SHAPE[1] - 20, n), rng.uniform(20, SHAPE[0] - 20, n)
    v, u = np.mgrid[:side, :side] - side // 2
    star = np.exp(-0.5 * (u**2 + v**2) / width**2) / (2.0 * np.pi * width**2)
    model = np.repeat(1e5 * star.reshape(1, -1), n, axis=0).astype(np.float32)
    residual = model * clouds(x, y)[:, None].astype(np.float32) + rng.normal(0.0, sigma, model.shape).astype(np.float32)
    weight = np.full(model.shape, 1.0 / sigma**2, np.float32)
    field = fit_shift_field(measure_shifts(model, residual, weight, x, y, side), SHAPE, SETTINGS)
    assert field.transparency is not None
    shifted = apply_shift(np.ones(SHAPE, np.float32), field)
    change = shifted[y.astype(int), x.astype(int)] - 1.0
    assert np.sqrt(np.mean((change - clouds(x, y)) ** 2)) < 0.008


def test_the_stated_error_is_the_deviation_between_the_stars():
    """Fields drawn with the covariance of the process; the ends of the lengths tried are left out."""
    pulls = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, y = rng.uniform(0, SHAPE[1], 240), rng.uniform(0, SHAPE[0], 240)
        distance = np.hypot(x[:, None] - x, y[:, None] - y)
        true = rng.multivariate_normal(np.zeros(240), 0.05**2 * np.exp(-distance / 600.0), method="cholesky")
        error = np.full(140, 0.015)
        field = fit_transparency(x[:140], y[:140], true[:140] + rng.normal(0.0, error), error, *HOW)
        found, stated = field.at(x[140:], y[140:])
        pulls.append((found - 1.0 - true[140:]) / stated)
        assert np.sqrt(np.mean(stated**2)) == pytest.approx(field.error_rms, rel=0.3)
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1.0, abs=0.15)


SOLVING = PhotometrySettings()


def matches(n, seed, amplitude=1.0, error=0.015):
    """Return matches of stars behind clouds, of a zero point of 31 mag where the transparency is one."""
    x, y, excess, _ = stars(n, seed, error, amplitude)
    columns = {f.name: np.zeros(n) for f in ZEROPOINT_MATCHES} | {"band": ["i"] * n, "reference": ["gaia"] * n}
    columns |= {"x": x, "y": y, "zeropoint_mag": 31.0 + 2.5 * np.log10(1.0 + excess), "used": np.ones(n, bool)}
    columns |= {"zeropoint_error_mag": np.full(n, 1.0857 * error), "transparency": np.ones(n)}
    return make_table(columns, ZEROPOINT_MATCHES)


def test_the_zero_point_of_a_ccd_is_that_of_its_mean_transparency():
    given = matches(140, 4)
    own, solved, field = solve_ccd(given, SHAPE, SOLVING)
    gx, gy = np.meshgrid(np.arange(8.0, SHAPE[1], 16.0), np.arange(8.0, SHAPE[0], 16.0))
    true = 1.0 + clouds(gx.ravel(), gy.ravel())
    zero = 10 ** (0.4 * (31.0 - own.zeropoint_mag)) * true / field.at(gx.ravel(), gy.ravel())[0]
    assert np.mean(zero) == pytest.approx(1.0, abs=0.004)
    assert np.std(zero) < 0.015
    assert own.scatter_mag < 0.5 * ccd_zeropoint(given, SOLVING)[0].scatter_mag
    assert np.mean(1.0 + field.excess) == pytest.approx(1.0)
    places = column(given, "x"), column(given, "y")
    assert column(solved, "transparency") == pytest.approx(field.at(*places)[0], rel=1e-6)
    assert (column(solved, "zeropoint_mag") == column(given, "zeropoint_mag")).all()


def test_the_error_of_the_zero_point_is_that_of_the_mean_over_the_ccd():
    """Fields of 6 per cent rms drawn with a covariance; without the error of the mean the pull is 2."""
    pulls, gx, gy = [], *np.meshgrid(np.arange(64.0, SHAPE[1], 128.0), np.arange(64.0, SHAPE[0], 128.0))
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x, y = (np.append(g.ravel(), rng.uniform(0, g.max() + 64.0, 60)) for g in (gx, gy))
        distance = np.hypot(x[:, None] - x, y[:, None] - y)
        drawn = rng.multivariate_normal(np.zeros(x.size), 0.06**2 * np.exp(-distance / 500.0), method="cholesky")
        given = matches(60, seed)
        zeropoint = 31.0 + 2.5 * np.log10(1.0 + drawn[gx.size :] + rng.normal(0.0, 0.015, 60))
        for name, values in (("x", x[gx.size :]), ("y", y[gx.size :]), ("zeropoint_mag", zeropoint)):
            given = with_column(given, name, values)
        own, _, _ = solve_ccd(given, SHAPE, SOLVING)
        true = 31.0 + 2.5 * np.log10(np.mean(1.0 + drawn[: gx.size]))
        pulls.append((own.zeropoint_mag - true) / own.zeropoint_error_mag)
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1.0, abs=0.27)  # three sampling errors
    assert abs(np.mean(pulls)) < 0.39


@pytest.mark.parametrize("seed", range(8))
def test_a_clear_ccd_is_solved_as_without_clouds(seed):
    given = matches(140, seed, amplitude=0.0)
    own, solved, field = solve_ccd(given, SHAPE, SOLVING)
    assert field is None
    assert (own, True) == (ccd_zeropoint(given, SOLVING)[0], (column(solved, "transparency") == 1.0).all())
    off = SOLVING.with_values(follow_clouds=False)
    assert solve_ccd(matches(140, seed), SHAPE, off)[2] is None


def known_field():
    y, x = np.mgrid[: SHAPE[0] // 64 + 2, : SHAPE[1] // 64 + 2] * 64.0
    return Transparency(clouds(x, y), np.full(x.shape, 0.01), 600.0, 0.05, 0.0)


def test_a_star_has_the_same_flux_everywhere_in_image_and_catalogue():
    field = known_field()
    header = {"SATURATE": 1e5, "GAIN": 1.0}
    there = apply_transparency(np.ones(SHAPE, np.float32), field)
    image = CcdImage(1000.0 * there, np.zeros(SHAPE, np.int16), np.full(SHAPE, 0.01, np.float32), header)
    flat = without_clouds(image, field)
    assert flat.science == pytest.approx(1000.0, rel=4e-4)
    assert flat.weight == pytest.approx(0.01 * there**2, rel=1e-3)
    assert flat.header["SATURATE"] == pytest.approx(1e5 / there.max(), rel=1e-3)
    assert flat.header["TRANSERR"] == pytest.approx(0.01)
    assert flat.header["TRANSRMS"] == pytest.approx(0.05, rel=0.1)
    x, y = np.random.default_rng(3).uniform(10, 1000, (2, 50))
    seen = 1.0 + clouds(x, y)
    columns = {f.name: np.zeros(50) for f in CATALOGUE} | {"x": x, "y": y, "band": ["i"] * 50}
    columns |= {name: 500.0 * (np.tile(seen[:, None], 12) if "aper" in name else seen) for name in FLUXES}
    catalogue = make_table(columns, CATALOGUE)
    final = final_catalogue(catalogue, field)
    assert final.schema.names == FINAL_CATALOGUE.names
    for name in FLUXES:
        assert column(final, name) == pytest.approx(500.0, rel=2e-3)
    assert column(final, "transparency") == pytest.approx(seen, rel=2e-3)
    assert column(final, "transparency_error") == pytest.approx(0.01)
    clear = final_catalogue(catalogue, None)
    assert clear.select(CATALOGUE.names).equals(catalogue)
    assert set(column(clear, "transparency")) == {1.0}
    assert set(column(clear, "transparency_error")) == {0.0}
