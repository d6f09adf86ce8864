"""Glints that look like stars are told by their absence from the next exposure; kilonovae are not."""

import numpy as np
import pytest

from imaging.candidates.associate import candidate_table
from imaging.candidates.flash import are_flashes
from imaging.candidates.rank import rank_candidates
from imaging.candidates.settings import LightcurveSettings, RankSettings
from imaging.schemas.candidates import CandidateFlag
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.skymap.build import gaussian_skymap
from imaging.tables import make_table

T0 = 60000.0
MERGER = T0 - 0.6
SKYMAP = gaussian_skymap(60.0, -60.0, 2.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=7)
NOW, NEXT = 0.0, 3.0 / 1440.0  # the detection, and three minutes later


def candidates(n):
    columns = {name: np.full(n, value) for name, value in (("ra", 60.0), ("dec", -60.0), ("real_score", 0.9))}
    columns |= {"mjd_first": np.full(n, T0), "mjd_last": np.full(n, T0), "flags": np.zeros(n, dtype=int)}
    columns |= {
        "candidate_id": [f"C{k}" for k in range(n)],
        "bands": ["i"] * n,
        "detection_ids": [[k] for k in range(n)],
    }
    return candidate_table(columns)


def photometry(*points):
    """Return forced photometry from (candidate, band, days since the detection, nJy, error in nJy, masked)."""
    name, band, days, flux, error, masked = zip(*points, strict=True)
    columns = {key: np.zeros(len(points)) for key in FORCED_PHOTOMETRY.names} | {
        "candidate_id": np.array(name, dtype=object),
        "expnum": np.arange(len(points)),
        "band": np.array(band, dtype=object),
        "mjd": T0 + np.array(days),
        "flux": np.array(flux, dtype=float),
        "flux_error": np.array(error, dtype=float),
        "masked": np.array(masked),
    }
    return make_table(columns, FORCED_PHOTOMETRY)


def flash(*others, flux=8000.0, error=800.0):
    """Return whether a detection of S/N 10 is a flash, given (band, days, nJy, error, masked) of other exposures."""
    points = [("C0", "i", NOW, flux, error, False), *(("C0", *other) for other in others)]
    return bool(are_flashes(candidates(1), photometry(*points))[0])


@pytest.mark.parametrize(
    "other",
    [
        ("i", NEXT, 0.0, 800.0, False),
        ("i", NEXT, -1500.0, 900.0, False),
        ("i", -0.1, 500.0, 600.0, False),  # before the detection
        ("i", NEXT, 1500.0, 400.0, False),
    ],
)
def test_a_source_that_is_gone_in_another_exposure_of_the_same_hours_is_a_flash(other):
    assert flash(other)
    assert flash(("i", NEXT, 7900.0, 800.0, False), other)


@pytest.mark.parametrize(
    "other",
    [
        ("i", NEXT, 7000.0, 800.0, False),  # still there
        ("i", NEXT, 0.0, 800.0, True),  # masked
        ("i", NEXT, 0.0, 1600.0, False),  # a cloud: 4.5 sigma
        ("g", NEXT, 0.0, 800.0, False),  # red
        ("i", 0.2, 0.0, 800.0, False),  # five hours later
        ("i", NEXT, np.nan, np.nan, False),
    ],
)
def test_what_does_not_show_that_it_is_gone_is_none(other):
    assert not flash(other)


def test_the_fastest_kilonova_is_none():
    """AT2017gfo in g lost 2 mag per day; at S/N 100 its fading over three hours is significant."""
    later = 80000.0 * 10 ** (-0.4 * 2.0 * 0.12)
    assert not flash(("g", 0.12, later, 800.0, False), ("i", 0.12, later, 800.0, False), flux=80000.0)


def test_a_source_that_appears_before_the_detections_is_judged_at_its_detections_only():
    """Of two earlier epochs one had a bad pixel: this is no flash of the night."""
    assert not flash(("i", -30.0, 9000.0, 500.0, False), ("i", -30.001, 0.0, 500.0, False))


def test_a_glint_gets_the_flag_and_falls_behind_a_steady_source_by_its_light_curve():
    points = [(name, "i", days, flux, 800.0, False) for name, days, flux in (
        ("C0", NOW, 8000.0), ("C0", NEXT, 7600.0), ("C1", NOW, 8000.0), ("C1", NEXT, 300.0),
    )]  # fmt: skip
    ranked = rank_candidates(
        candidates(2), photometry(*points), SKYMAP, MERGER, RankSettings(), LightcurveSettings()
    ).to_pylist()
    steady, glint = ranked
    assert [steady["candidate_id"], glint["candidate_id"]] == ["C0", "C1"]
    assert not steady["flags"] & CandidateFlag.FLASH and glint["flags"] & CandidateFlag.FLASH
    assert steady["loglr_lightcurve"] > glint["loglr_lightcurve"] + 4.0


def test_flashes_of_many_candidates_are_those_of_each_alone():
    rng = np.random.default_rng(4)
    points = [
        (f"C{k}", band, days, rng.normal(4000.0, 4000.0), 800.0, rng.uniform() < 0.2)
        for k in range(40)
        for band in "gi"
        for days in (NOW, NEXT, 0.1, 1.0)
    ]
    together = are_flashes(candidates(40), photometry(*(points[i] for i in rng.permutation(len(points)))))
    alone = [are_flashes(candidates(40), photometry(*points[8 * k : 8 * k + 8]))[k] for k in range(40)]
    assert together.tolist() == alone and 5 < sum(alone) < 35
