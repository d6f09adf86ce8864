"""The command that trains the real/bogus score."""

import json

import numpy as np

from imaging.difference.score import FEATURES
from imaging.package_data import read_text
from tools.train_score import labelled_pair, parser, recipe_of, scenarios


def test_the_shipped_score_is_what_the_command_writes_without_options():
    shipped, options = json.loads(read_text("imaging.difference", "score.json")), parser().parse_args([])
    assert shipped["version"] == options.version
    assert shipped["recipe"] == recipe_of(options)


def test_a_kept_pair_is_used_again_unless_its_features_are_others(tmp_path, monkeypatch):
    scenario, calls = scenarios(1, 7)[0], []
    labelled = np.ones((3, len(FEATURES))), np.array([True, False, True]), np.array([5.5, 6.0, 9.0])
    monkeypatch.setattr("tools.train_score.take", calls.append)
    monkeypatch.setattr("tools.train_score.run", lambda truth, scenario: None)
    monkeypatch.setattr("tools.train_score.labelled_features", lambda searched, truth: labelled)
    first, second = (labelled_pair(scenario, tmp_path / "kept") for _ in range(2))
    assert len(calls) == 1
    for made, kept in zip(first, second, strict=True):
        assert made.dtype == kept.dtype and np.array_equal(made, kept)
    np.savez(tmp_path / "kept" / f"pair_{scenario.seed}.npz", names=np.array(FEATURES[1:]))
    labelled_pair(scenario, tmp_path / "kept")
    assert len(calls) == 2
