"""Figures of a model of the score on searched nights."""

import numpy as np
import pytest

from imaging.difference.score import FEATURES, ScoreModel
from imaging.schemas.difference import DetectionFlag as Flag
from tools.judge_score import Judged, rows_of

K = len(FEATURES)


def test_false_and_real_detections_are_counted_with_their_flags():
    """One CCD of eight detections, whose only feature that counts is the logit of the score, and one without any."""
    p = np.array([0.96, 0.6, 0.99, 0.995, 0.9, 0.9, 0.3, 0.97])
    features = np.zeros((8, K))
    features[:, 0] = np.log(p / (1 - p))
    is_real = np.array([False, False, False, False, True, True, True, True])
    flags = np.array([0, 0, Flag.DIPOLE, Flag.STREAK, 0, Flag.DIPOLE, 0, 0], dtype=np.int32)
    snr = np.array([6.0, 5.5, 9.0, 9.0, 5.4, 5.6, 7.5, -7.5])
    ccd = Judged(features, snr, flags, ~is_real, is_real)
    none = Judged(np.zeros((0, K)), np.zeros(0), np.zeros(0, np.int32), np.zeros(0, bool), np.zeros(0, bool))
    model = ScoreModel("v", np.zeros(K), np.ones(K), np.eye(1, 2 * K)[0], 0.0)
    rows = {row.name.removeprefix("x: "): row for row in rows_of([ccd, none], model, "x")}
    assert rows["false per CCD, score above 0.5"].value == 1.5  # 0.96, 0.6 and the dipole for which 0.99 vouches
    assert rows["false per CCD, score above 0.9"].value == 1.0
    assert rows["real of S/N 5 to 6, score above 0.5"].value == pytest.approx(50.0)  # one of two is a dipole
    assert rows["real of S/N 6 to 8, score above 0.5"].value == 0.0
    assert rows["real of score 0.9"].n == 1 and rows["real of score 0.9"].value == 100.0
