"""Lone detections that noise explains make no candidate; what is supported or improbable does."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from imaging.candidates.associate import candidate_table
from imaging.candidates.chance import without_chance
from imaging.candidates.settings import AssociateSettings
from imaging.numerics.noise_peaks import SIGMA
from imaging.schemas.candidates import CandidateFlag
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.simulation.candidate_night import footprints_of, join_footprints
from imaging.tables import column, make_table

CCD, FIRST, SECOND, OTHER_BAND, EARLIER = 27, 1, 2, 3, 9
NIGHT = replace(
    join_footprints(
        [footprints_of(n, b, 60900.0 + 0.01 * n, 150.0, -20.0, 23.0) for n, b in ((1, "i"), (2, "i"), (3, "g"))]
    ),
    noise_peaks=np.ones(3 * 62),
)
SETTINGS = AssociateSettings()
SINGLE = int(CandidateFlag.SINGLE_DETECTION)


def candidates(snr, flags=SINGLE):
    """Candidates of one detection each on CCD 27 of the first exposure."""
    n = len(snr)
    return candidate_table(
        {
            "candidate_id": np.array([f"c{k}" for k in range(n)], dtype=object),
            "night": np.full(n, 20250801),
            "ra": np.full(n, 150.0),
            "dec": np.full(n, -20.0),
            "n_detections": np.ones(n, dtype=np.int64),
            "n_exposures": np.ones(n, dtype=np.int64),
            "bands": np.full(n, "i", dtype=object),
            "mjd_first": np.full(n, 60900.01),
            "mjd_last": np.full(n, 60900.01),
            "snr_best": np.asarray(snr),
            "flags": np.full(n, flags),
            "rank": np.arange(1, n + 1),
            "detection_ids": pa.array([[(FIRST * 100 + CCD) * 100_000 + k] for k in range(n)], pa.list_(pa.int64())),
        }
    )


def photometry(snr_of, masked=(), bands=None):
    """Forced photometry of errors of 100 nJy; ``snr_of`` is exposure to the signal to noise of each candidate."""
    names = [(f"c{k}", expnum, value) for expnum, values in snr_of.items() for k, value in enumerate(values)]
    ids, expnum, snr = (np.array(part) for part in zip(*names, strict=True))
    n = len(ids)
    columns = {name: np.zeros(n) for name in FORCED_PHOTOMETRY.names} | {
        "candidate_id": ids.astype(object),
        "expnum": expnum,
        "band": np.where(expnum == OTHER_BAND, "g", "i").astype(object),
        "night": np.full(n, 20250801),
        "ccd": np.full(n, CCD),
        "flux": 100.0 * snr,
        "flux_error": np.full(n, 100.0),
        "snr": snr,
        "masked": np.isin(expnum, masked),
    }
    return make_table(columns, FORCED_PHOTOMETRY)


def kept(table, forced, settings=SETTINGS, footprints=NIGHT):
    return without_chance(table, forced, footprints, settings).column("candidate_id").to_pylist()


NOTHING = FORCED_PHOTOMETRY.empty_table()


def test_a_lone_detection_must_be_improbable_and_the_rest_is_ranked_anew():
    left = without_chance(candidates([5.2, 5.8, 5.05, 30.0]), NOTHING, NIGHT, SETTINGS)
    assert left.column("candidate_id").to_pylist() == ["c1", "c3"]
    assert left.column("rank").to_pylist() == [1, 2]
    # 5.457 sigma is exceeded a tenth as often as five
    assert kept(candidates([5.41, 5.48]), NOTHING) == ["c1"]


def test_a_lone_detection_that_is_hardly_real_is_left_out_and_two_detections_are_not():
    """What only one exposure saw could not be detected twice."""
    probability, everything = pa.array([0.29, 0.31, None, 0.1], pa.float32()), ["c0", "c1", "c2", "c3"]
    once, twice = ({n: [1.0] * 4 for n in seen} for seen in ((FIRST,), (FIRST, SECOND)))
    for flags, seen, left in ((SINGLE, twice, ["c1", "c2"]), (SINGLE, once, everything), (0, twice, everything)):
        table = candidates([9.0] * 4, flags=flags)
        at = table.schema.get_field_index("probability_real")
        assert kept(table.set_column(at, table.schema.field(at), probability), photometry(seen)) == left


def test_two_detections_need_five_sigma_each_only():
    assert kept(candidates([5.01, 5.2], flags=0), photometry({1: [5.0, 5.2], 2: [5.0, -1.0]})) == ["c0", "c1"]


@pytest.mark.parametrize(
    ("others", "stays"),
    [
        ({SECOND: [3.5]}, True),
        ({OTHER_BAND: [3.5]}, True),
        ({SECOND: [1.2], OTHER_BAND: [3.5]}, True),
        ({SECOND: [1.0]}, False),
        ({SECOND: [-2.0]}, False),
        ({EARLIER: [9.0]}, False),
    ],
)
def test_photometry_of_the_night_supports_or_contradicts_a_lone_detection(others, stays):
    assert kept(candidates([5.1]), photometry({FIRST: [5.1]} | others)) == (["c0"] if stays else [])


def test_masked_photometry_supports_nothing():
    assert kept(candidates([5.1]), photometry({FIRST: [5.1], SECOND: [50.0]}, masked=[SECOND])) == []


def test_the_threshold_is_that_of_the_image_and_of_the_setting():
    table = candidates([5.1, 5.6, 6.3])
    peaks = NIGHT.noise_peaks.copy()
    peaks[(NIGHT.expnum == FIRST) & (NIGHT.ccd == CCD)] = 60.0  # as a threshold of 4 sigma gives
    assert kept(table, NOTHING, footprints=replace(NIGHT, noise_peaks=peaks)) == ["c2"]
    assert kept(table, NOTHING, footprints=replace(NIGHT, noise_peaks=None)) == ["c1", "c2"]
    assert kept(table, NOTHING, SETTINGS.with_values(chance_per_ccd=1.0)) == ["c0", "c1", "c2"]
    assert kept(table, NOTHING, SETTINGS.with_values(chance_per_ccd=0.001)) == ["c2"]


def test_noise_makes_a_tenth_of_a_candidate_per_ccd_and_steady_sources_stay():
    """One peak above five sigma per CCD in the first of two exposures of equal depth, against sources of S/N 5.5."""
    rng = np.random.default_rng(7)
    n = 20_000
    chance = rng.uniform(size=n)
    grid = np.linspace(SIGMA, 8.0, 4000)
    exceeds = grid / SIGMA * np.exp(0.5 * (SIGMA**2 - grid**2))
    noise = np.interp(chance, exceeds[::-1], grid[::-1])
    left = len(kept(candidates(noise), photometry({FIRST: noise, SECOND: rng.normal(size=n)})))
    assert left / n == pytest.approx(0.1, abs=0.01)
    first, second = rng.normal(5.5, 1.0, (2, n))
    lone = (first > SIGMA) & (second <= SIGMA)
    real = first[lone]
    left = len(kept(candidates(real), photometry({FIRST: real, SECOND: second[lone]})))
    assert left / lone.sum() > 0.98


def test_no_candidates_are_left_as_they_are():
    empty = candidates([])
    assert without_chance(empty, NOTHING, NIGHT, SETTINGS).num_rows == 0
    assert column(empty, "rank").size == 0
