"""Inputs of the network for the score, and the comparison of models at equal false detections."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bench.real_stamps import StampPair
from imaging.difference.detect import DifferenceDetections
from imaging.difference.engine import UserImage
from imaging.difference.prepare import moffat_psf
from imaging.difference.score import FEATURES, features_of, shipped_model
from imaging.io.images import write_planes
from imaging.schemas.difference import DetectionFlag as Flag
from tests.difference.drawn import measurements
from tools.judge_score import Judged
from tools.score_stamps import SIDE, WIDTH, cut_stamps, rows_of_detections, split_rows, stored_planes
from tools.train_network import OfFeatures, kept_rows, stamp_rows, unflagged
from tools.train_score import together

HALF, NOISE, ERROR = SIDE // 2, 5.0, 40.0


def planes():
    """A positive source of 50 at (40, 60), a negative one at (80, 20), on a template of 400, and a masked pixel."""
    made = {name: np.zeros((100, 120), np.float32) for name in ("difference", "search")}
    made["difference"][60, 40], made["difference"][20, 80] = 50.0, -50.0
    made["weight"] = np.full((100, 120), 1 / NOISE**2, np.float32)
    made["search_weight"] = made["weight"] / 4
    made["template_flux"], made["search"][60, 40] = np.full((100, 120), 400.0, np.float32), 300.0
    made["weight"][62, 41] = made["difference"][62, 41] = 0.0
    return made


def detections(x, y, snr):
    m = measurements(len(x), x=np.array(x), y=np.array(y), flux_error=np.full(len(x), ERROR))
    return DifferenceDetections(m, np.array(snr), *[np.zeros(len(x))] * 4, np.zeros(len(x), np.int32))


def test_stamps_are_in_units_of_noise_and_of_either_sign_alike():
    up, down = cut_stamps(planes(), detections([40.3, 80.0], [59.6, 20.0], [9.0, -9.0]))
    assert up.shape == (4, SIDE, SIDE) and up.dtype == np.float32
    assert np.sinh([up[0, HALF, HALF], down[0, HALF, HALF]]) == pytest.approx(50.0 / NOISE, rel=1e-5)
    assert np.sinh(up[1]) == pytest.approx(400.0 / ERROR, rel=1e-5)
    assert np.sinh(up[2, HALF, HALF]) == pytest.approx(300.0 / (2 * NOISE), rel=1e-5)
    assert np.argwhere(up[3]).tolist() == [[HALF + 2, HALF + 1]] and not down[3].any()


def test_what_lies_beyond_the_image_is_masked_and_zero():
    (corner,) = cut_stamps(planes(), detections([2.0], [99.0], [9.0]))
    inside = np.zeros((SIDE, SIDE), bool)
    inside[: HALF + 1, HALF - 2 :] = True
    assert np.array_equal(corner[3] == 0, inside)
    assert np.isfinite(corner).all() and not corner[:3, ~inside].any() and (corner[1, inside] > 0).all()


def test_rows_hold_the_features_of_the_shipped_model_and_the_stamps():
    found = detections([40.0, 80.0], [60.0, 20.0], [9.0, -9.0])
    rows = rows_of_detections(planes(), found, 4.0)
    features, stamps = split_rows(rows)
    assert rows.shape == (2, WIDTH) and np.array_equal(stamps, cut_stamps(planes(), found))
    expected = shipped_model().probability(features_of(found, 4.0))
    assert OfFeatures(shipped_model()).probability(rows) == pytest.approx(expected, abs=1e-5)
    none = rows_of_detections(planes(), detections([], [], []), 4.0)
    assert none.shape == (0, WIDTH) and split_rows(none)[0].shape == (0, len(FEATURES)) == features[:0].shape


def test_the_planes_of_a_searched_ccd_are_read_from_its_products(tmp_path):
    made, stem = planes(), "D01300001_i_33_r1p1_"
    folder = tmp_path / "1300001" / "dp1" / "i_33"
    folder.mkdir(parents=True)
    write_planes(folder / f"{stem}diff.fits", {"SCI": made["difference"], "WGT": made["weight"]}, {})
    write_planes(folder / f"{stem}template.fits", {"FLX": made["template_flux"]}, {})
    search = {"SCI": made["search"], "WGT": made["search_weight"]}
    write_planes(tmp_path / "1300001" / f"{stem}immask.fits", search, {})
    read = stored_planes(folder / f"{stem}detections.parquet")
    assert read.keys() == made.keys() and all(np.array_equal(read[name], made[name]) for name in made)


class FirstColumn:
    """A model whose probability is one input."""

    def __init__(self, column):
        self.column = column

    def probability(self, features):
        return features[:, self.column]


def test_models_are_compared_at_as_many_false_detections_as_the_first_has_above_one_half():
    """Two false ones above 0.5 by the first model; by the second the limit is its third highest, 0.3."""
    first = np.array([0.9, 0.6, 0.4, 0.2, 0.7, 0.3])
    second = np.array([0.8, 0.9, 0.3, 0.1, 0.35, 0.29])
    is_real = np.array([False, False, False, False, True, True])
    snr = np.array([6.0, 6.0, 6.0, 6.0, 5.5, 5.5])
    ccd = Judged(np.stack([first, second], axis=1), snr, np.zeros(6, np.int32), ~is_real, is_real)
    models = {"first": FirstColumn(0), "second": FirstColumn(1)}
    rows = [row for row in kept_rows([ccd], models, "x") if row.value is not None]
    assert [row.name for row in rows] == [f"{m}, x: real of S/N 5 to 6 kept with 2 false ones" for m in models]
    assert [(row.value, row.n) for row in rows] == [(50.0, 2), (50.0, 2)]
    lenient = kept_rows([ccd], {"second": FirstColumn(1), "first": FirstColumn(0)}, "x")
    assert lenient[4].value == 50.0  # 0.7 of the first is above its third highest false one, 0.4; 0.3 is not


def test_a_quarter_of_the_sets_is_held_out_of_every_source():
    def labelled(number):
        return np.full((2, 1), float(number)), np.array([True, False]), np.full(2, 6.0)

    sources = [[labelled(n) for n in range(5)], [labelled(10 + n) for n in range(4)]]
    (rows, is_real, _), source = together(sources, held=False)
    assert rows[::2, 0].tolist() == [0, 1, 2, 4, 10, 11, 12] and source[::2].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert is_real.tolist() == [True, False] * 7
    (rows, *_), source = together(sources, held=True)
    assert rows[:, 0].tolist() == [3, 3, 13, 13] and source.tolist() == [0, 0, 1, 1]
    assert together(sources, held=True, quarter=0)[0][0][::2, 0].tolist() == [0, 4, 10]
    (judged,) = unflagged(sources[0][3::4])
    assert judged.features[0, 0] == 3 and judged.is_false.tolist() == [False, True] and not judged.flags.any()


def test_real_stamps_are_judged_with_the_scores_of_a_model_and_the_flags_that_remain():
    """A transient whose flag of shape the score lifts, one whose score is low, one refused, and others on one image."""
    image = UserImage(None, moffat_psf(4.0))
    pair = StampPair("C1", 0, image, image, 60.0, 60.0, True)
    found = detections([60.5, 100.0, 20.0], [60.0, 60.0, 20.0], [9.0, 9.0, 9.0])
    found = replace(found, flags=np.array([Flag.DIPOLE, 0, Flag.DIPOLE], np.int32))
    searched = SimpleNamespace(detections=found, difference=SimpleNamespace(kernel=SimpleNamespace(fallback="")))
    stamps = [
        (pair, SimpleNamespace(searched=searched), found, np.array([[p], [q], [r]]))
        for p, q, r in ((0.99, 0.6, 0.6), (0.2, 0.4, 0.99))
    ]
    rows = stamp_rows([*stamps, (pair, None, None, np.zeros((0, 1)))], FirstColumn(0), "x")
    assert [row.value for row in rows] == [2.0, 1.0, 1.0, 2.0]
    assert rows[0].n == 3 and rows[0].name == "x: real stamps: transients above S/N 7 found"
