"""What a candidate was made from, and what the search of a map is worth."""

import numpy as np
import pyarrow as pa
import pytest

from imaging.candidates.associate import candidate_table
from imaging.candidates.provenance import MadeWith, add_provenance
from imaging.candidates.searched import kilonova_by_footprint, search_report, searched_pixels
from imaging.candidates.settings import LightcurveSettings
from imaging.io.candidates import read_candidates, write_candidates_csv
from imaging.io.tables import write_table
from imaging.pictures.search import search_picture
from imaging.schemas.candidates import CANDIDATES
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.skymap.build import gaussian_skymap
from imaging.skymap.coverage import at_least, search_coverage
from imaging.skymap.footprints import Footprints
from imaging.skymap.settings import CoverageSettings
from imaging.tables import column, make_table

MADE_WITH = MadeWith("code", "settings", "calibrations")


def some(n):
    return candidate_table(
        {
            "candidate_id": [f"C{i}" for i in range(n)],
            "ra": np.full(n, 10.0),
            "dec": np.full(n, -20.0),
            "flags": np.zeros(n, dtype=np.int64),
            "night": np.full(n, 20251004),
            "detection_ids": pa.array([[13000012700000 + i] for i in range(n)], type=pa.list_(pa.int64())),
        }
    )


def forced(rows):
    given = {"candidate_id": [r[0] for r in rows], "expnum": [r[1] for r in rows], "ccd": [r[2] for r in rows]}
    return make_table(
        given | {f.name: pa.nulls(len(rows), f.type) for f in FORCED_PHOTOMETRY if f.name not in given},
        FORCED_PHOTOMETRY,
    )


def test_exposures_and_templates_are_those_of_the_images_that_cover_a_candidate():
    rows = [("C0", 1, 5), ("C1", 2, 6), ("C0", 2, 5), ("C2", 1, 5), ("C2", 2, 5), ("unknown", 9, 9)]
    templates = {(1, 5): [100, 101], (2, 5): [101, 102], (2, 6): [103]}
    table = add_provenance(some(4), forced(rows), templates, MADE_WITH)
    assert table.column("expnums").to_pylist() == [[1, 2], [2], [1, 2], []]
    assert table.column("templates").to_pylist() == [[100, 101, 102], [103], [100, 101, 102], []]
    assert set(table.column("settings_hash").to_pylist()) == {"settings"}


def test_a_list_of_an_earlier_version_is_read_without_provenance(tmp_path):
    old = some(2).drop_columns(["expnums", "templates", "code_version", "settings_hash", "calibration_set"])
    write_table(tmp_path / "old.parquet", old)
    table = read_candidates(tmp_path / "old.parquet")
    assert table.schema.names == CANDIDATES.names
    assert table.column("expnums").to_pylist() == [None, None]


def test_lists_are_joined_in_the_csv(tmp_path):
    table = add_provenance(some(1), forced([("C0", 1, 5), ("C0", 2, 5)]), {(1, 5): [7]}, MADE_WITH)
    write_candidates_csv(tmp_path / "c.csv", table)
    assert '"1;2","7","code","settings","calibrations",""' in (tmp_path / "c.csv").read_text()


def box(n, depth, band="i", mjd=60000.5):
    corners = np.array([[[39.9, -24.1], [40.1, -24.1], [40.1, -23.9], [39.9, -23.9]]] * n)
    return Footprints(
        np.arange(n), np.ones(n, dtype=np.int64), np.full(n, band), np.full(n, mjd), corners, np.full(n, float(depth))
    )


SKYMAP = gaussian_skymap(40.0, -24.0, 0.5, distance_mpc=100.0, distance_sigma_mpc=10.0, order=9)


def test_the_chance_to_find_rises_with_depth_and_exposures():
    def found(n, depth):
        coverage = search_coverage(SKYMAP, box(n, depth), CoverageSettings(order=11))
        return dict(map(tuple, search_report(coverage, 60000.0, LightcurveSettings())["found_apparent"]["i"]))

    shallow, deep, twice = found(1, 21.0), found(1, 22.0), found(2, 21.0)
    assert deep[22.0] == pytest.approx(shallow[21.0], abs=1e-6), "one magnitude deeper is one magnitude fainter"
    searched = shallow[18.0] / 0.98
    p = shallow[21.0] / searched
    assert p == pytest.approx(0.98 / 2, rel=1e-3), "half of the plateau at m50"
    assert twice[21.0] == pytest.approx(searched * (1 - (1 - p) ** 2), rel=1e-4)


def test_a_kilonova_is_as_bright_as_its_age_makes_it():
    early, late = (kilonova_by_footprint(box(1, 22, mjd=mjd), 60000.0)[0] for mjd in (60000.6, 60005.0))
    assert late > early + 2.0
    assert kilonova_by_footprint(box(1, 22, mjd=59999.0), 60000.0)[0] == np.inf
    assert kilonova_by_footprint(box(1, 22, band="VR"), 60000.0)[0] == np.inf
    reports = [
        search_report(search_coverage(SKYMAP, box(1, 20.5, mjd=mjd), CoverageSettings(order=11)), 60000.0, settings)
        for mjd, settings in ((60000.6, LightcurveSettings()), (60005.0, LightcurveSettings()))
    ]
    assert reports[0]["found_at2017gfo"] > reports[0]["found_kilonova"] > 2 * reports[1]["found_kilonova"]


def test_without_depth_or_distance_nothing_is_claimed():
    coverage = search_coverage(SKYMAP, box(1, np.nan), CoverageSettings(order=11))
    report = search_report(coverage, 60000.0, LightcurveSettings())
    assert report["probability_searched"] > 0.01
    assert report["found_kilonova"] == 0.0
    assert searched_pixels(coverage).column("m50_i").null_count == len(coverage.pixel)
    assert search_picture(report, title="t").startswith(b"\x89PNG")


def test_one_detection_of_several_trials_is_the_complement_of_none():
    rng = np.random.default_rng(1)
    group, chance = rng.integers(0, 5, 30), rng.uniform(0, 1, 30)
    found = at_least(1, group, chance, 6)
    right = [1 - np.prod(1 - chance[group == g]) for g in range(6)]
    assert found == pytest.approx(right)
    assert np.all(at_least(2, group, chance, 6) <= found)
    assert at_least(1, np.array([0]), np.array([1.0]), 1)[0] == 1.0
    assert column(searched_pixels(search_coverage(SKYMAP, box(3, 22), CoverageSettings())), "n_images").min() == 3
