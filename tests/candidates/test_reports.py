"""What is told to brokers, SkyPortal and the TNS; nothing is sent."""

import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

import imaging.candidates
from bench.candidates import prepare
from imaging.candidates.rank import rank_candidates
from imaging.candidates.reports import (
    ReportSettings,
    alert_packet,
    moment,
    packet_schema,
    skyportal_requests,
    tns_entry,
    tns_report,
)
from imaging.candidates.settings import LightcurveSettings, RankSettings
from imaging.errors import InputError
from imaging.io.packets import cutout_bytes, cutout_stamp, read_packets, write_packets
from imaging.simulation.candidate_sources import MJD_EVENT

WHO = ReportSettings(
    reporter="A. Person, on behalf of a team",
    tns_group_id=135,
    skyportal_filter_ids=(1,),
    skyportal_group_ids=(2, 3),
    skyportal_instrument_id=4,
)


@pytest.fixture(scope="module")
def candidates():
    night, table, forced = prepare(2, scale=0.05)
    ranked = rank_candidates(table, forced, night.skymap, MJD_EVENT, RankSettings(), LightcurveSettings())
    points = {}
    for point in forced.filter(pc.less(forced.column("flux_error"), 1e6)).to_pylist():
        points.setdefault(point["candidate_id"], []).append(point)
    return [(row, points[row["candidate_id"]]) for row in ranked.slice(0, 30).to_pylist()]


def test_packets_come_back_as_they_were_written(candidates, tmp_path):
    pytest.importorskip("fastavro")
    stamp = np.random.default_rng(1).normal(size=(51, 51)).astype(np.float32)
    cutouts = {plane: cutout_bytes(stamp) for plane in ("SEARCH", "TEMPLATE", "DIFFERENCE")}
    packets = [
        alert_packet(row, points, "S1", cutouts if n == 0 else None) for n, (row, points) in enumerate(candidates)
    ]
    write_packets(tmp_path / "a.avro", packets)
    write_packets(tmp_path / "b.avro", packets)
    assert (tmp_path / "a.avro").read_bytes() == (tmp_path / "b.avro").read_bytes()
    found = read_packets(tmp_path / "a.avro")
    assert found == packets
    assert np.array_equal(cutout_stamp(found[0]["cutoutDifference"]["stampData"]), stamp)
    assert found[1]["cutoutDifference"] is None
    days = [point["mjd"] for point in found[0]["prv_candidates"]]
    assert days == sorted(days)


def test_a_packet_that_does_not_fit_the_schema_is_refused(candidates, tmp_path):
    pytest.importorskip("fastavro")
    packet = alert_packet(*candidates[0], "S1")
    packet["candid"] = "seven"
    with pytest.raises(InputError, match="schema"):
        write_packets(tmp_path / "a.avro", [packet])
    (tmp_path / "b.avro").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read_packets(tmp_path / "b.avro")


def test_the_schema_that_ships_is_the_one_that_is_used():
    path = Path(imaging.candidates.__path__[0]) / "data" / "alert_packet.json"
    assert json.loads(path.read_text()) == packet_schema()


def test_skyportal_gets_candidate_photometry_and_annotation(candidates):
    row, points = candidates[0]
    candidate, photometry, annotation = skyportal_requests(row, points, "S1", WHO)
    assert candidate["path"] == "/api/candidates"
    assert (candidate["json"]["ra"], candidate["json"]["filter_ids"]) == (row["ra"], [1])
    sent = photometry["json"]
    assert len({len(sent[name]) for name in ("mjd", "filter", "flux", "fluxerr")}) == 1
    brightest = int(np.argmax(sent["flux"]))
    magnitude = -2.5 * np.log10(sent["flux"][brightest]) + sent["zp"]
    measured = next(p for p in points if p["mjd"] == sent["mjd"][brightest])
    assert magnitude == pytest.approx(measured["mag"], abs=1e-3)
    assert sent["filter"][brightest] == f"des{measured['band']}"
    assert annotation["json"]["data"]["loglr_lightcurve"] == row["loglr_lightcurve"]
    assert json.loads(json.dumps([candidate, photometry, annotation])) == [candidate, photometry, annotation]


def test_the_tns_gets_detections_and_the_last_limit_before_them(candidates):
    row, points = candidates[0]
    report = tns_report([tns_entry(row, points, "S1", WHO)])
    entry = json.loads(json.dumps(report))["at_report"]["0"]
    assert float(entry["ra"]["value"]) == pytest.approx(row["ra"], abs=1e-6)
    assert entry["reporting_group_id"] == entry["discovery_data_source_id"] == "135"
    group = list(entry["photometry"]["photometry_group"].values())
    seen = sorted(
        (p for p in points if p["flux"] > 5 * p["flux_error"] and p["mag"] is not None), key=lambda p: p["mjd"]
    )
    assert [float(point["flux"]) for point in group] == pytest.approx([p["mag"] for p in seen], abs=1e-3)
    assert entry["discovery_datetime"] == group[0]["obsdate"] == moment(seen[0]["mjd"]).replace("T", " ")
    assert {point["instrument_value"] for point in group} == {"172"}
    limit = entry["non_detection"]
    assert limit["obsdate"] < entry["discovery_datetime"]
    assert 19 < float(limit["limiting_flux"]) < 26


def test_nobody_reports_anonymously_or_what_was_not_seen(candidates):
    row, points = candidates[0]
    with pytest.raises(InputError, match="reporter"):
        tns_entry(row, points, "S1", ReportSettings())
    with pytest.raises(InputError, match="skyportal_filter_ids"):
        skyportal_requests(row, points, "S1", ReportSettings())
    dark = [p | {"flux": 0.0, "mag": None} for p in points]
    with pytest.raises(InputError, match="no photometry is significant enough"):
        tns_entry(row, dark, "S1", WHO)


def test_a_night_without_earlier_photometry_points_to_the_archive(candidates):
    row, points = candidates[0]
    late = [p for p in points if p["mjd"] > MJD_EVENT and p["flux"] > 5 * p["flux_error"]]
    entry = tns_entry(row, late, "S1", WHO)
    assert entry["non_detection"]["archiveid"] == "0"
    assert "earlier DECam" in entry["non_detection"]["archival_remarks"]
