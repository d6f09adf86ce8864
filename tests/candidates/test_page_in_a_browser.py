"""The page of a night in headless Chromium: keys, filter, marks, export, and a phone's width."""

import json
import re
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from bench.page_in_a_browser import CHROMIUM, FLAGS, without_policy
from imaging.candidates.associate import associate_detections
from imaging.candidates.rank import rank_candidates
from imaging.candidates.settings import AssociateSettings, LightcurveSettings, RankSettings
from imaging.io.candidates import read_labels
from imaging.pictures.candidate_page import NightPage, build_page
from imaging.pictures.stamps import stamp_strip
from imaging.simulation.candidate_night import make_night
from imaging.simulation.candidate_sources import MJD_EVENT, NIGHT

ACTIONS = (Path(__file__).parent / "page_actions.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def ranked():
    night = make_night(4, scale=1.0)
    table = associate_detections(night.detections, NIGHT, AssociateSettings(), night.footprints)
    forced = night.forced(table)
    return night, forced, rank_candidates(
        table, forced, night.skymap, MJD_EVENT, RankSettings(), LightcurveSettings()
    )  # fmt: skip


def in_browser(ranked, folder, width, height):
    night, forced, table = ranked
    stamp = stamp_strip(*np.random.default_rng(1).normal(size=(3, 51, 51)))
    stamps = {name: [("i, exposure 7", stamp)] for name in table.column("candidate_id").to_pylist()}
    html = build_page(
        NightPage(
            "S1", NIGHT, MJD_EVENT, table, forced, night.skymap, night.footprints, stamps, pictures=[("<map>", stamp)]
        )
    )
    path = folder / "night.html"
    path.write_text(without_policy(html).replace("</body>", f"<script>{ACTIONS}</script></body>"), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}",
         "--virtual-time-budget=6000",
         path.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(unescape(found[1]))


@pytest.mark.optional
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize(("width", "height"), [(1366, 800), (390, 844)])
def test_the_page_works_by_keys_alone(ranked, tmp_path, width, height):
    table = ranked[2]
    ids = table.column("candidate_id").to_pylist()
    seen = in_browser(ranked, tmp_path, width, height)
    assert "error" not in seen
    assert seen["rows"] < 40 < table.num_rows
    assert seen["names"] == [ids[0], ids[1], ids[0]]
    assert {name: mark["label"] for name, mark in seen["stored"].items()} == dict(
        zip(ids[:3], ("real", "bogus", "interesting"), strict=True)
    )
    assert seen["afterMarks"] == ids[2]
    assert "3 marked" in seen["marked"]
    assert (seen["stamps"], seen["parts"]) == (1, 9)
    assert seen["points"] > 5
    several = sum(n >= 2 for n in table.column("n_detections").to_pylist())
    assert seen["several"].startswith(f"{several} of {table.num_rows}")
    assert "not a number" in seen["message"]
    assert seen["empty"] == "nothing fits the filter"
    assert seen["bogus"].startswith("1 of")
    assert seen["sort"] == "by sky map"
    (tmp_path / "labels.json").write_text(seen["file"])
    labels = read_labels(tmp_path / "labels.json").to_pylist()
    assert [row["label"] for row in labels] == ["real", "bogus", "interesting"]
    assert labels[0]["detection_ids"] == table.column("detection_ids")[0].as_py()
    assert (seen["night"], seen["nightPictures"]) == (True, 1)
    assert seen["held"] == seen["before"], "keys do nothing behind the pictures of the night"
    assert seen["earlier"] == 5, "exposures before the merger are squares"
    assert seen["width"][0] <= seen["width"][1]
    list_box, detail_box = seen["boxes"]
    below = detail_box[1] > list_box[1]
    assert below == (width < 760)
    assert min(list_box[2:] + detail_box[2:]) > 150
