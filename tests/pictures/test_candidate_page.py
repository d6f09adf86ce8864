import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from imaging.candidates.associate import associate_detections
from imaging.candidates.rank import PARTS, rank_candidates
from imaging.candidates.settings import AssociateSettings, LightcurveSettings, RankSettings
from imaging.errors import InputError
from imaging.io.candidates import (
    read_candidates,
    read_labels,
    write_candidates,
    write_candidates_csv,
)
from imaging.io.regions import region_text, write_ccd_regions
from imaging.pictures.candidate_page import COLUMNS, NightPage, build_page
from imaging.pictures.stamps import stamp_strip
from imaging.schemas.candidates import CANDIDATES
from imaging.simulation.candidate_night import make_night
from imaging.simulation.candidate_sources import MJD_EVENT, NIGHT
from imaging.tables import column
from tests.timing import least_s


@pytest.fixture(scope="module")
def night():
    return make_night(3, scale=0.3)


@pytest.fixture(scope="module")
def ranked(night):
    table = associate_detections(night.detections, NIGHT, AssociateSettings(), night.footprints)
    forced = night.forced(table)
    return rank_candidates(table, forced, night.skymap, MJD_EVENT, RankSettings(), LightcurveSettings())


@pytest.fixture(scope="module")
def page(night, ranked):
    rng = np.random.default_rng(1)
    stamp = stamp_strip(*rng.normal(size=(3, 51, 51)))
    ids = ranked.column("candidate_id").to_pylist()
    return NightPage(
        event="S1 <b>&</b> </script>",
        night=NIGHT,
        mjd_event=MJD_EVENT,
        candidates=ranked,
        forced=night.forced(ranked),
        skymap=night.skymap,
        footprints=night.footprints,
        stamps={name: [("i, exposure 7", stamp)] for name in ids[:150]},
        links={ids[0]: [("difference", "x_diff.fits")]},
        facts={"searched": "47 %"},
        provenance={"code": "0.1.0"},
    )


class Outline(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.outside, self.json = [], [], {}
        self._inside = None

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids.append(values.get("id"))
        self.outside += [values[k] for k in ("src", "href") if k in values]
        self._inside = values.get("id") if tag == "script" and values.get("type") == "application/json" else None

    def handle_data(self, data):
        if self._inside:
            self.json[self._inside] = self.json.get(self._inside, "") + data


def test_the_page_is_complete_and_asks_nothing_of_the_network(page, ranked):
    html = build_page(page)
    outline = Outline()
    outline.feed(html)
    assert outline.outside == []
    assert not re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]{2,}", html.replace("http://www.w3.org/2000/svg", ""))
    data = json.loads(outline.json["data"])
    assert data["event"] == page.event
    assert set(data["columns"]) == set(COLUMNS)
    assert {len(values) for values in data["columns"].values()} == {ranked.num_rows}
    assert [name for name, _ in data["parts"]] == list(PARTS)
    assert data["columns"]["candidate_id"] == ranked.column("candidate_id").to_pylist()
    assert len(json.loads(outline.json["stamps-0"])) == 100
    assert data["detections"][0] == [str(i) for i in ranked.column("detection_ids")[0].as_py()]
    script = (html.split("<script>")[1]).split("</script>")[0]
    wanted = set(re.findall(r'byId\("([a-z-]+)"\)', script)) - {"empty"}
    assert wanted <= set(outline.ids)


def test_the_points_of_the_light_curves_are_those_of_the_table(page, night):
    outline = Outline()
    outline.feed(build_page(page))
    data = json.loads(outline.json["data"])
    first = data["lightcurves"][0]
    forced = night.forced(page.candidates)
    errors = column(forced, "flux_error")[: len(night.exposures.mjd)]
    assert len(first) == np.sum(errors < 1e7)
    assert [point[0] for point in first] == sorted(point[0] for point in first)


def test_the_same_input_gives_the_same_bytes(page):
    assert build_page(page) == build_page(page)


def test_five_thousand_candidates_are_built_in_seconds():
    big = make_night(5, scale=7.0)
    table = associate_detections(big.detections, NIGHT, AssociateSettings(), big.footprints)
    forced = big.forced(table)
    table = rank_candidates(table, forced, big.skymap, MJD_EVENT, RankSettings(), LightcurveSettings())
    assert table.num_rows > 5000
    night = NightPage("S1", NIGHT, MJD_EVENT, table, forced, big.skymap, big.footprints)
    assert len(build_page(night)) < 10e6
    assert least_s(lambda: build_page(night), times=2) < 10.0


def test_candidates_survive_writing_and_reading(ranked, tmp_path):
    write_candidates(tmp_path / "candidates.parquet", ranked)
    assert read_candidates(tmp_path / "candidates.parquet").equals(ranked)
    write_candidates_csv(tmp_path / "candidates.csv", ranked)
    lines = (tmp_path / "candidates.csv").read_text().splitlines()
    assert len(lines) == ranked.num_rows + 1
    assert lines[0].replace('"', "").split(",") == [*CANDIDATES.names, "flag_names"]


def test_region_files_per_ccd(ranked, night, tmp_path):
    paths = write_ccd_regions(tmp_path, ranked, night.footprints)
    names = {path.name for path in paths}
    assert len(names) == len(paths) > 50
    text = paths[0].read_text()
    assert text.splitlines()[2] == "icrs"
    assert "color=" in text
    best = region_text(ranked.slice(0, 1))
    row = ranked.to_pylist()[0]
    assert f'circle({row["ra"]:.7f},{row["dec"]:.7f},3.0")' in best
    assert row["candidate_id"] in best
    positions = sum(path.read_text().count("circle") for path in paths)
    covered = int(np.sum(column(ranked, "n_exposures")))
    assert positions == pytest.approx(covered, rel=0.1)


def test_labels_come_back(tmp_path):
    document = {
        "kind": "gw-workflow labels", "version": 1, "event": "S1", "night": 20251004,
        "labels": [{"candidate_id": "GWJ1", "label": "real", "marked_at": "2025-10-05T03:00:00Z", "rank": 1,
                    "detection_ids": ["1300010000007"]}],
    }  # fmt: skip
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(document))
    row = read_labels(path).to_pylist()[0]
    assert (row["label"], row["detection_ids"], row["night"]) == ("real", [1300010000007], 20251004)
    document["labels"][0]["label"] = "maybe"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="unknown labels"):
        read_labels(path)
    for text in ("{", '{"kind": "other"}', "[]"):
        path.write_text(text)
        with pytest.raises(InputError):
            read_labels(path)
