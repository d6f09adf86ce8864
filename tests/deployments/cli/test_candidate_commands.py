"""The commands candidates, rank and report, and the questions of the documentation."""

import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fake_runs import FakeRuns

from bench.candidates import prepare
from bench.ranked_site import write_site
from blocks.gw_events import AlertRecord, event_folder
from blocks.night_runs import PROCESS, run_of, write_run
from blocks.nights import read_night
from deployments.cli import main
from deployments.cli.nights import weighted
from deployments.events.decisions import look
from deployments.reports.selection import select_rows
from imaging.candidates.settings import CandidateSettings
from imaging.errors import InputError
from imaging.io.candidates import read_candidates
from imaging.io.packets import read_packets
from imaging.simulation.candidate_sources import NIGHT
from imaging.skymap.settings import CoverageSettings
from tasks.rank import rank
from tasks.ranked_tables import rerank_job

DOCS = (Path(__file__).parents[3] / "docs" / "candidates.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"^\*\*(\d+)\. .*?```python\n(.*?)```", DOCS, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    synthetic, table, forced = prepare(2, scale=0.05)
    settings = CandidateSettings(coverage=CoverageSettings(order=10))
    root = tmp_path_factory.mktemp("listed")
    site = write_site(root, table, forced, synthetic.skymap, synthetic.footprints, settings, with_stamps=True)
    rank(rerank_job(NIGHT, read_night(site, NIGHT).skymap, site))
    return site


@pytest.fixture
def table(site):
    return read_candidates(site.store / "nights" / str(NIGHT) / "candidates.parquet")


@pytest.fixture
def command(site, capsys, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    def do(*words):
        code = main.run([str(word) for word in (*words, "--site", site.root, "--json")])
        return code, json.loads(capsys.readouterr().out)

    return do


def test_the_list_can_be_chosen_from_by_sql(command, table):
    code, document = command("candidates", NIGHT, "--where", "mag_last < 21 AND n_detections > 1", "--limit", 1000)
    right = [r["candidate_id"] for r in table.to_pylist() if r["mag_last"] < 21 and r["n_detections"] > 1]
    assert code == 0
    assert [row["candidate_id"] for row in document["candidates"]] == right
    assert 0 < document["n_candidates"] < table.num_rows


def test_flags_have_names_in_a_condition(table):
    movers = select_rows(table, "flag_names LIKE '%MOVER%'")
    assert 0 < movers.num_rows == sum(bool(flags & 1) for flags in table.column("flags").to_pylist())
    assert select_rows(table, "host_mag IS NULL OR host_mag < 19").num_rows < table.num_rows
    assert select_rows(table, "1").num_rows == table.num_rows


@pytest.mark.parametrize(
    "where",
    [
        "1); DELETE FROM candidates; --",
        "rank IN (SELECT load_extension('x'))",
        "no_such_column > 1",
        "mag_last <",
        "(WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n) > 1",
        "rank IN (SELECT rootpage FROM pragma_database_list)",
        "length(zeroblob(1000000000)) > 1",
    ],
)
def test_a_condition_can_do_nothing_else(table, where, monkeypatch):
    monkeypatch.setattr("deployments.reports.selection.STEPS", 100_000)
    with pytest.raises(InputError, match="invalid SQL condition"):
        select_rows(table, where)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "reg"])
def test_a_selection_can_be_written(command, tmp_path, suffix):
    path = tmp_path / f"chosen.{suffix}"
    code, document = command("candidates", NIGHT, "--where", "rank <= 7", "--output", path)
    assert (code, document["n_candidates"]) == (0, 7)
    if suffix == "parquet":
        assert pq.read_table(path).num_rows == 7
    else:
        lines = path.read_text().splitlines()
        assert len(lines) == {"csv": 8, "reg": 10}[suffix]


def test_bad_words_are_refused(command, tmp_path):
    for words in (("--columns", "rank,colour"), ("--output", tmp_path / "x.xls"), ("--where", "rank <")):
        code, document = command("candidates", NIGHT, *words)
        assert code == 1
        assert document["error"]
    assert command("rank", NIGHT, "--weight", "beauty=3")[0] == 1
    assert command("rank", NIGHT, "--announce")[0] == 1


def test_weights_are_read_from_words():
    changed = weighted(CandidateSettings(), ("skymap=2", "host=0.5"))
    assert (changed.rank.weight_skymap, changed.rank.weight_host, changed.rank.weight_real) == (2.0, 0.5, 1.0)
    with pytest.raises(InputError, match="invalid weight"):
        weighted(CandidateSettings(), ("skymap",))


def test_reports_are_printed_or_written_and_not_sent(command, tmp_path):
    who = tmp_path / "who.json"
    who.write_text('{"reporter": "A. Person", "tns_group_id": 1}')
    code, document = command("report", NIGHT, "--form", "tns", "--best", 2, "--settings", who)
    assert (code, document["sent"], list(document["report"]["at_report"])) == (0, False, ["0", "1"])
    path = tmp_path / "at.json"
    assert command("report", NIGHT, "--form", "tns", "--best", 2, "--settings", who, "--output", path)[0] == 0
    assert json.loads(path.read_text()) == document["report"]
    assert command("report", NIGHT, "--form", "tns")[0] == 1
    assert command("report", NIGHT, "--form", "skyportal", "--settings", who)[0] == 1
    who.write_text('{"reporters": "A. Person"}')
    assert "reporter" in command("report", NIGHT, "--form", "tns", "--settings", who)[1]["error"]
    assert command("report", NIGHT, "--form", "avro", "--where", "rank < 0")[0] == 1
    pytest.importorskip("fastavro")
    for form in ("avro", "ztf"):
        written = command("report", NIGHT, "--form", form, "--best", 5, "--output", tmp_path / f"{form}.avro")[1]
        packets = read_packets(tmp_path / f"{form}.avro")
        assert len(packets) == written["n_candidates"] == 5
        assert all(packet["cutoutDifference"] for packet in packets)


def test_there_are_ten_questions():
    assert [number for number, _ in QUESTIONS] == [str(n) for n in range(1, 11)]


@pytest.mark.parametrize("code", [code for _, code in QUESTIONS], ids=[number for number, _ in QUESTIONS])
def test_the_questions_of_the_documentation_are_answered(code, site, monkeypatch, capsys):
    pytest.importorskip("duckdb")
    pytest.importorskip("pandas")
    monkeypatch.chdir(site.store / "nights" / str(NIGHT))
    exec(compile(code, "docs/candidates.md", "exec"), {})  # the documentation's own code
    assert len(capsys.readouterr().out) > 30


@pytest.fixture
def retracted(site):
    """The event of the night is retracted during a test."""
    event = read_night(site, NIGHT).record.event
    folder = event_folder(site, event)
    folder.mkdir(parents=True)
    alert = AlertRecord(superevent=event, alert_type="RETRACTION", time_created="2030-01-01T00:00:00Z")
    (folder / f"{alert.name}.json").write_text(alert.model_dump_json())
    yield event
    shutil.rmtree(folder)


def test_a_retraction_is_said_everywhere_and_holds_reports(site, command, retracted):
    night = read_night(site, NIGHT)
    write_run(night, run_of(night.record, PROCESS, "a-run"), end="completed")
    assert look(site, FakeRuns()).created == [f"rank-night-{NIGHT}-r1"], "the list does not state it yet"
    rank(rerank_job(NIGHT, read_night(site, NIGHT).skymap, site))
    assert look(site, FakeRuns()).created == []
    assert command("candidates", NIGHT)[1]["retracted"] is True
    assert f"{retracted} RETRACTED" in command("status", NIGHT)[1]["remarks"][str(NIGHT)]
    folder = site.store / "nights" / str(NIGHT)
    for name in ("candidates.html", "candidates.md"):
        assert f"{retracted} (RETRACTED)" in (folder / name).read_text(encoding="utf-8")
    code, document = command("report", NIGHT, "--form", "avro", "--send", "--receiver", "nobody")
    assert (code, "the event is retracted" in document["error"]) == (1, True)
    code, document = command("report", NIGHT, "--form", "avro", "--send", "--retracted", "--receiver", "nobody")
    assert "the event is retracted" not in document["error"], "the receiver is not known"
