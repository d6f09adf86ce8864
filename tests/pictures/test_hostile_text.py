"""Names, notes and header strings are text wherever they are shown: by what a browser executes, not by strings."""

import dataclasses
import re
import subprocess

import numpy as np
import pyarrow as pa
import pytest

from bench.page_in_a_browser import CHROMIUM, FLAGS, without_policy
from imaging.candidates.associate import associate_detections
from imaging.candidates.rank import rank_candidates
from imaging.candidates.settings import AssociateSettings, LightcurveSettings, RankSettings
from imaging.errors import InputError
from imaging.identity import check_event
from imaging.io.candidates import write_candidates_csv
from imaging.pictures.candidate_list import candidates_page
from imaging.pictures.candidate_page import NightPage, build_page
from imaging.pictures.night_summary import failure_lines
from imaging.pictures.stamps import stamp_strip
from imaging.plain_text import cell_text, html_text, markdown_text, visible
from imaging.simulation.candidate_night import make_night
from imaging.simulation.candidate_sources import MJD_EVENT, NIGHT

MARK = "document.documentElement.dataset.executed=1"
HOSTILE = (
    f"<img src=x onerror={MARK}>",
    f'"><img src=x onerror="{MARK}">',
    f'" onload="{MARK}" x="',
    f"</script><script>{MARK}</script>",
    f"<!--DATA--></title><script>{MARK}</script>",
    f"/*SCRIPT*/ <svg onload={MARK}>",
    f"javascript:{MARK}",
    f"JaVaScRiPt\t:{MARK}",
    f"data:text/html,<script>{MARK}</script>",
    f"[click](javascript:{MARK})",
    f"![x](x){{onerror={MARK}}}",
    "\u202egpj.exe \u2066hidden\u2069",
    "=cmd|' /C calc'!A0",
)

CLICK_ALL = "for (const a of document.querySelectorAll('a')) { if (!/^(http|file)/.test(a.href)) a.click(); }"
REPORT = "document.documentElement.dataset.links = document.querySelectorAll('#links a').length"


@pytest.fixture(scope="module")
def page():
    """A page with hostile text in every place that takes text."""
    night = make_night(3, scale=0.1)
    table = associate_detections(night.detections, NIGHT, AssociateSettings(), night.footprints)
    ranked = rank_candidates(
        table, night.forced(table), night.skymap, MJD_EVENT, RankSettings(), LightcurveSettings()
    ).slice(0, len(HOSTILE))
    names = [f"{text} {number}" for number, text in enumerate(HOSTILE)]
    for column in ("candidate_id", "bands", "lightcurve_class"):
        number = ranked.schema.get_field_index(column)
        ranked = ranked.set_column(number, column, pa.array(names, type=ranked.schema.field(number).type))
    png = stamp_strip(*np.random.default_rng(1).normal(size=(3, 51, 51)))
    return NightPage(
        event="".join(HOSTILE),
        night=NIGHT,
        mjd_event=MJD_EVENT,
        candidates=ranked,
        forced=night.forced(table).slice(0, 0),
        skymap=night.skymap,
        footprints=night.footprints,
        stamps={name: [(text, png) for text in HOSTILE] for name in names},
        links={
            names[0]: [(text, text) for text in HOSTILE] + [("page", "https://example.org"), ("file", "x_diff.fits")]
        },
        facts={text: text for text in HOSTILE},
        pictures=[(text, png) for text in HOSTILE],
        provenance={text: text for text in HOSTILE},
    )


def executed(html, tmp_path, *, policy=True):
    """Return the attributes of the page's root after a browser has drawn it and followed every link to script."""
    if not policy:
        html = without_policy(html).replace("</body>", f"<script>{CLICK_ALL};{REPORT}</script></body>")
    path = tmp_path / "night.html"
    path.write_text(html, encoding="utf-8")
    words = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}/profile", path.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    root = re.search(r"<html[^>]*>", done.stdout)[0]
    assert 'id="row-0"' in done.stdout, "the page has drawn itself"
    return root


@pytest.mark.optional
@pytest.mark.security
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is absent")
def test_hostile_text_on_the_candidate_page_executes_nothing(page, tmp_path):
    html = build_page(page)
    assert "executed" not in executed(html, tmp_path)
    root = executed(html, tmp_path, policy=False)
    assert "executed" not in root, "without the policy, too"
    assert 'data-links="' in root
    assert int(re.search(r'data-links="(\d+)"', root)[1]) < len(HOSTILE) + 2, "script in an address is no link"


@pytest.mark.optional
@pytest.mark.security
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is absent")
def test_the_policy_stops_what_would_get_through(page, tmp_path):
    harmless = dataclasses.replace(page, event="GW170817", pictures=(), facts={}, provenance={})
    through = f"<script>{MARK}</script><img src=x onerror={MARK}></body>"
    html = build_page(harmless).replace("</body>", through)
    assert "executed" not in executed(html, tmp_path)
    assert "executed" in executed(html, tmp_path, policy=False), "the test can fail"


def test_markdown_shows_hostile_text_as_text(page):
    row = page.candidates.to_pylist()[0] | {"flags": 0}
    rows = [row | {"candidate_id": text} for text in HOSTILE]
    text = candidates_page(rows, {}, b"", HOSTILE[0], MJD_EVENT)
    failures = {str(n): {"message": hostile, "reason": "x"} for n, hostile in enumerate(HOSTILE)}
    text += "\n".join(failure_lines({"exposures": {}, "differences": {}, "failures": failures}))
    assert not re.search(r"<\w", text), "no element"
    assert not re.search(r"(?<!\\)\]\((?!data:image/png)", text), "no link"
    assert not re.search("[\u202e\u2066]", text)


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_are_kept_but_do_nothing(text):
    assert visible("plain ± é 北\n\ttext") == "plain ± é 北\n\ttext"
    assert not set("<>\"'") & set(html_text(text)) - {"&"}
    assert "<" not in markdown_text(text)
    assert cell_text(text)[0] not in "=+-@\t"
    assert cell_text("D08 -3.2") == "D08 -3.2"


def test_a_spreadsheet_computes_nothing(page, tmp_path):
    write_candidates_csv(tmp_path / "list.csv", page.candidates)
    assert not re.search(r'(^|,)"?[=@]', (tmp_path / "list.csv").read_text(), re.MULTILINE)
    assert "'=cmd|" in (tmp_path / "list.csv").read_text()


@pytest.mark.parametrize(
    "event",
    ["S190814bv", "MS181101ab", "GW170817", "GRB170817A", "IceCube-170922A", "ZTF18abvkwla", "AT2017gfo", "SLOW"],
)
def test_what_events_are_called(event):
    assert check_event(event) == event


@pytest.mark.parametrize(
    "event", [*HOSTILE, "", "..", "a/../b", "../x", "/etc", ".hidden", "a b", "a\x00b", "é", "x" * 65, "a..b", "S1\n"]
)
def test_what_no_event_is_called(event):
    with pytest.raises(InputError, match="no event is called so"):
        check_event(event)
