"""Zero points: a CCD's own, and the exposure's solution with its safety nets."""

import numpy as np
import pytest

from imaging.detector.ccds import SCIENCE_CCDS, science_ccd
from imaging.exposure import Exposure
from imaging.photometry.settings import PhotometrySettings
from imaging.photometry.solve import solve_exposure_zeropoints
from imaging.photometry.zeropoint import CcdZeropoint, ccd_zeropoint
from imaging.schemas.matches import ZEROPOINT_MATCHES
from imaging.schemas.zeropoints import ZEROPOINTS, ZeropointFlag
from imaging.tables import make_table

SETTINGS = PhotometrySettings()
EXPOSURE = Exposure(1300001, "i", 20240510, 60441.0, 90.0, 190.5, -10.0, 1.12)
TRUE = 31.75


def star_matches(values, errors, used=None):
    n = len(values)
    columns = {
        "expnum": np.full(n, 1300001),
        "band": ["i"] * n,
        "night": np.full(n, 20240510),
        "ccd": np.full(n, 40),
        "source_id": np.arange(n),
        "number": np.arange(n),
        "reference": ["gaia"] * n,
        "zeropoint_mag": values,
        "zeropoint_error_mag": errors,
        "used": np.ones(n, bool) if used is None else used,
    }
    zero = np.zeros(n)
    for name in ZEROPOINT_MATCHES.names:
        columns.setdefault(name, zero)
    return make_table(columns, ZEROPOINT_MATCHES)


def test_mean_error_and_scatter_are_right():
    random = np.random.default_rng(1)
    pulls, scatters = [], []
    for _ in range(300):
        errors = random.uniform(0.005, 0.03, 120)
        values = TRUE + random.normal(0, np.hypot(errors, 0.012))
        result, _ = ccd_zeropoint(star_matches(values, errors), SETTINGS)
        pulls.append((result.zeropoint_mag - TRUE) / result.zeropoint_error_mag)
        scatters.append(result.scatter_mag)
    # The stated error holds a floor of 0.5 mmag beside 1.6 mmag of noise: the pull is a little narrower than one.
    assert np.std(pulls) == pytest.approx(0.96, abs=0.1)
    assert abs(np.mean(pulls)) < 0.15
    assert 0.012 < np.mean(scatters) < 0.025


def test_outliers_do_not_move_it():
    random = np.random.default_rng(2)
    errors = np.full(100, 0.015)
    values = TRUE + random.normal(0, 0.015, 100)
    values[:15] += random.choice([-1, 1], 15) * random.uniform(0.15, 2.0, 15)
    result, used = ccd_zeropoint(star_matches(values, errors), SETTINGS)
    assert result.zeropoint_mag == pytest.approx(TRUE, abs=0.006)
    assert not used[:15].any()
    assert result.n_used >= 82
    assert result.n_matched == 100


def test_too_few_stars_make_none_not_a_number():
    result, _ = ccd_zeropoint(star_matches(np.full(3, TRUE), np.full(3, 0.01)), SETTINGS)
    assert result == CcdZeropoint(None, None, None, 3, 3)
    empty, _ = ccd_zeropoint(ZEROPOINT_MATCHES.empty_table(), SETTINGS)
    assert empty.zeropoint_mag is None


def exposure_zeropoints(seed, ccds, *, error=0.003, scatter=0.004, clouds=0.0):
    """Return the true and the measured zero points of CCDs."""
    random = np.random.default_rng(seed)
    true, own = {}, {}
    for ccd in ccds:
        x, y = np.array(science_ccd(ccd).focal_plane_centre) / 14336.0
        true[ccd] = TRUE - clouds * (0.6 * x - 0.4 * y + 0.5 * x * y) + random.normal(0, scatter)
        own[ccd] = CcdZeropoint(true[ccd] + random.normal(0, error), error, 0.015, 150, 140)
    return true, own


def rows(own, settings=SETTINGS):
    table = solve_exposure_zeropoints(own, EXPOSURE, settings)
    assert table.schema.equals(ZEROPOINTS)
    return {row["ccd"]: row for row in table.to_pylist()}


def test_sixty_ccds_have_honest_errors():
    pulls = []
    nothing_common = SETTINGS.with_values(common_error_mag=0.0)
    for seed in range(16):
        true, own = exposure_zeropoints(seed, SCIENCE_CCDS[:60], error=0.004, scatter=0.003)
        solved = rows(own, nothing_common)
        pulls += [(solved[c]["zeropoint_mag"] - true[c]) / solved[c]["zeropoint_error_mag"] for c in own]
        own_error = np.std([own[c].zeropoint_mag - true[c] for c in own])
        assert np.std([solved[c]["zeropoint_mag"] - true[c] for c in own]) < 0.85 * own_error
    assert np.std(pulls) == pytest.approx(1.0, abs=0.1)


def test_clouds_become_a_smooth_field():
    true, own = exposure_zeropoints(3, SCIENCE_CCDS[:60], error=0.004, scatter=0.002, clouds=0.3)
    own[30] = CcdZeropoint(None, None, None, 1, 1)
    solved = rows(own)
    assert all(row["flags"] == 0 for c, row in solved.items() if c != 30)
    assert solved[30]["flags"] == ZeropointFlag.TOO_FEW_STARS
    assert solved[30]["zeropoint_mag"] == pytest.approx(true[30], abs=0.01)
    assert solved[30]["own_zeropoint_mag"] is None


def test_a_ccd_moved_by_a_fifth_of_a_magnitude_is_an_outlier():
    true, own = exposure_zeropoints(4, SCIENCE_CCDS[:20])
    own[7] = CcdZeropoint(own[7].zeropoint_mag + 0.2, 0.003, 0.015, 150, 140)
    solved = rows(own)
    assert solved[7]["flags"] == ZeropointFlag.OUTLIER
    assert solved[7]["zeropoint_mag"] == pytest.approx(true[7], abs=0.02)
    assert solved[7]["zeropoint_error_mag"] > 0.15
    assert solved[7]["own_zeropoint_mag"] == pytest.approx(true[7] + 0.2, abs=0.02)
    assert all(row["flags"] == 0 for c, row in solved.items() if c != 7)


def test_many_outliers_cast_doubt_on_all():
    _, own = exposure_zeropoints(5, SCIENCE_CCDS[:20])
    for ccd in (1, 5, 9, 13, 17):
        own[ccd] = CcdZeropoint(own[ccd].zeropoint_mag - 0.4, 0.003, 0.015, 150, 140)
    solved = rows(own)
    assert all(row["flags"] & ZeropointFlag.MANY_OUTLIERS for row in solved.values())
    assert {c for c, row in solved.items() if row["flags"] & ZeropointFlag.OUTLIER} == {1, 5, 9, 13, 17}


def test_a_ccd_with_two_stars_takes_the_exposures_value_with_a_larger_error():
    true, own = exposure_zeropoints(6, SCIENCE_CCDS[:12])
    own[3] = CcdZeropoint(None, None, None, 2, 2)
    solved = rows(own)
    assert solved[3]["flags"] == ZeropointFlag.TOO_FEW_STARS
    assert solved[3]["zeropoint_mag"] == pytest.approx(true[3], abs=0.02)
    assert solved[3]["zeropoint_error_mag"] > solved[4]["zeropoint_error_mag"]


def test_a_band_without_reference_is_uncalibrated_and_null():
    solved = rows({c: CcdZeropoint(None, None, None, 0, 0) for c in (1, 2, 3)})
    for row in solved.values():
        assert row["flags"] & ZeropointFlag.UNCALIBRATED
        assert row["zeropoint_mag"] is None
        assert row["zeropoint_error_mag"] is None


def test_the_scale_of_the_reference_is_stated_beside_the_error():
    _, own = exposure_zeropoints(9, SCIENCE_CCDS[:10])
    for row in rows(own).values():
        assert row["zeropoint_scale_error_mag"] == SETTINGS.scale_error_mag[EXPOSURE.band]
        assert row["zeropoint_error_mag"] < 0.005  # what exposures of a band share is not in it
    nothing = rows({c: CcdZeropoint(None, None, None, 0, 0) for c in (1, 2)})
    assert all(row["zeropoint_scale_error_mag"] is None for row in nothing.values())
    unknown = rows(own, SETTINGS.with_values(scale_error_mag={}))
    assert all(row["zeropoint_scale_error_mag"] is None for row in unknown.values())


@pytest.mark.parametrize("ccds", [(40,), (26, 27), (26, 27, 33, 34), SCIENCE_CCDS[:10]])
def test_any_subset_of_ccds(ccds):
    true, own = exposure_zeropoints(7, ccds)
    solved = rows(own)
    assert list(solved) == sorted(ccds)
    for ccd in ccds:
        assert solved[ccd]["flags"] == 0
        assert solved[ccd]["zeropoint_mag"] == pytest.approx(true[ccd], abs=0.015)


def test_order_does_not_matter():
    _, own = exposure_zeropoints(8, SCIENCE_CCDS[:30], clouds=0.1)
    backwards = dict(reversed(own.items()))
    forward = solve_exposure_zeropoints(own, EXPOSURE, SETTINGS)
    assert forward.equals(solve_exposure_zeropoints(backwards, EXPOSURE, SETTINGS))
