"""Marks from the page of a night become what the score is trained on."""

import json

import numpy as np
import pytest

from blocks.site import Site
from imaging.difference.labelled import detections_of_table, labels_by_detection
from imaging.difference.score import features_of
from imaging.difference.train import train_score
from imaging.errors import InputError
from imaging.io.candidates import read_labels
from imaging.io.psf import write_psf
from imaging.io.tables import write_table
from imaging.tables import column
from tools.own_labels import own_labels
from tools.train_score import in_parts


def write_labels(path, labels, moment="2025-10-05T03:00:00Z"):
    rows = [
        {"candidate_id": f"GWJ{n}", "label": word, "marked_at": moment, "detection_ids": [str(detection)]}
        for n, (detection, word) in enumerate(labels.items())
    ]
    document = {"kind": "gw-workflow labels", "version": 1, "event": "S1", "night": 20251004, "labels": rows}
    path.write_text(json.dumps(document))
    return path


def test_the_features_of_the_table_are_those_of_the_search(searched):
    fwhm = searched.difference.psf.fwhm_pixels
    again = detections_of_table(searched.detections_table)
    right = features_of(searched.detections, fwhm)
    assert np.allclose(features_of(again, fwhm), right, rtol=1e-4, atol=1e-4)
    assert right.shape[0] > 10


def test_the_score_is_trained_on_labels(searched, tmp_path):
    site = Site.at(tmp_path)
    table = searched.detections_table
    ids = column(table, "detection_id").tolist()
    expnum, ccd = ids[0] // 10_000_000, ids[0] // 100_000 % 100
    folder = site.store / "gw" / "exp" / "20251004" / str(expnum) / "dp1" / f"i_{ccd:02d}"
    write_table(folder / "D_detections.parquet", table)
    write_psf(folder / "D_diffpsf.fits", searched.difference.psf)
    score = column(table, "snr")
    words = {
        detection: "interesting" if n == 0 else "real" if score[n] > np.median(score) else "bogus"
        for n, detection in enumerate(ids)
    }
    features, is_real, found = own_labels(site, [write_labels(tmp_path / "labels.json", words)])
    assert len(features) == len(ids) - 1
    assert is_real.sum() == sum(word == "real" for word in words.values())
    assert found[is_real].min() > found[~is_real].max()
    parts = in_parts((features, is_real, found))
    assert sum(len(part[0]) for part in parts) == len(features)
    model = train_score(features, is_real, "own")
    assert model.probability(features)[is_real].mean() > model.probability(features)[~is_real].mean()
    with pytest.raises(InputError, match="no labelled detection"):
        own_labels(site, [write_labels(tmp_path / "other.json", {99: "real"})])


def test_the_latest_opinion_counts(tmp_path):
    early = write_labels(tmp_path / "a.json", {1: "real", 2: "real", 3: "bogus"}, "2025-10-05T03:00:00Z")
    late = write_labels(tmp_path / "b.json", {2: "bogus", 3: "interesting"}, "2025-10-06T03:00:00Z")
    assert labels_by_detection([read_labels(late), read_labels(early)]) == {1: True, 2: False}
