"""What is told to brokers, SkyPortal and the TNS; nothing is sent."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

import imaging.candidates
from bench.candidates import prepare
from imaging.candidates.packets import alert_packet, packet_schema, ztf_packet, ztf_schema
from imaging.candidates.rank import rank_candidates
from imaging.candidates.reports import Evidence, ReportSettings, moment
from imaging.candidates.settings import LightcurveSettings, RankSettings
from imaging.candidates.skyportal import skyportal_requests
from imaging.candidates.tns import tns_entry, tns_reports, with_chart
from imaging.detector.distortion import seed_wcs
from imaging.errors import InputError
from imaging.io.packets import cutout_bytes, cutout_stamp, read_packets, write_packets
from imaging.schemas.candidates import CandidateFlag
from imaging.simulation.candidate_sources import MJD_EVENT
from imaging.wcs.header import stamp_keywords

WHO = ReportSettings(
    reporter="A. Person, on behalf of a team",
    tns_group_id=135,
    skyportal_filter_ids=(1,),
    skyportal_group_ids=(2, 3),
    skyportal_instrument_id=4,
)

GAIA_ID = 4_657_193_606_465_368_705


@pytest.fixture(scope="module")
def candidates():
    """Return ranked rows of a night in four bands with their evidence; exposures before the merger are templates."""
    night, table, forced = prepare(2, scale=0.05)
    ranked = rank_candidates(table, forced, night.skymap, MJD_EVENT, RankSettings(), LightcurveSettings())
    points = {}
    for point in forced.filter(pc.less(forced.column("flux_error"), 1e6)).to_pylist():
        side = "search" if point["mjd"] > MJD_EVENT else "template"
        points.setdefault(point["candidate_id"], []).append(point | {"side": side, "exptime_s": 90.0})
    return [(row, Evidence(points[row["candidate_id"]], "S1")) for row in ranked.slice(0, 30).to_pylist()]


def point(mjd, flux, error=100.0, side="search", band="i", **changes):
    """Return a photometric point; flux and error in nanojansky, 3.631e12 at magnitude zero."""
    known = {"candidate_id": "GWJ1", "expnum": 1300000 + round(100 * mjd) % 100000, "band": band, "night": 20240510}
    snr = flux / error
    shown = snr > 2
    known |= {"ccd": 27, "mjd": mjd, "flux": flux, "flux_error": error, "snr": snr, "masked": False, "exptime_s": 90.0}
    known |= {"mag": -2.5 * np.log10(flux / 3.631e12) if shown else None, "mag_error": 1.0857 / snr if shown else None}
    return known | {"limit_mag": -2.5 * np.log10(5 * error / 3.631e12), "side": side} | changes


def with_points(evidence, *points):
    return replace(evidence, photometry=points)


@pytest.mark.parametrize(("form", "make"), [("avro", alert_packet), ("ztf", ztf_packet)])
def test_packets_come_back_as_they_were_written(candidates, tmp_path, form, make):
    pytest.importorskip("fastavro")
    stamp = np.random.default_rng(1).normal(size=(51, 51)).astype(np.float32)
    row, evidence = candidates[0]
    wcs = seed_wcs(27, row["ra"], row["dec"])
    x, y = (float(value) for value in wcs.sky_to_pixel(row["ra"], row["dec"]))
    coordinates = stamp_keywords(wcs, x, y, 51)
    cutouts = {plane: cutout_bytes(stamp, coordinates) for plane in ("SEARCH", "TEMPLATE", "DIFFERENCE")}
    cut = replace(evidence, cutouts=cutouts, detection_id=row["detection_ids"][-1])
    packets = [make(row, cut), make(*candidates[1])]
    write_packets(tmp_path / "a.avro", packets, form)
    write_packets(tmp_path / "b.avro", packets, form)
    assert (tmp_path / "a.avro").read_bytes() == (tmp_path / "b.avro").read_bytes()
    found = read_packets(tmp_path / "a.avro")
    assert [packet["objectId"] for packet in found] == [row["candidate_id"], candidates[1][0]["candidate_id"]]
    assert found[0]["candid"] == row["detection_ids"][-1]
    assert np.array_equal(cutout_stamp(found[0]["cutoutDifference"]["stampData"]), stamp)
    assert found[1]["cutoutDifference"] is None
    if form == "avro":
        assert found == packets
        days = [point["mjd"] for point in found[0]["prv_candidates"]]
        assert days == sorted(days)
        assert {point["side"] for point in found[0]["prv_candidates"]} == {"search", "template"}


def test_a_cutout_says_where_it_is(candidates):
    row, _ = candidates[0]
    wcs = seed_wcs(27, row["ra"], row["dec"])
    x, y = (float(value) for value in wcs.sky_to_pixel(row["ra"], row["dec"]))
    content = cutout_bytes(np.zeros((51, 51)), stamp_keywords(wcs, x, y, 51))
    there = WCS(fits.HDUList.fromstring(gzip.decompress(content))[0].header).all_world2pix(row["ra"], row["dec"], 0)
    assert there == pytest.approx((25 + x - round(x), 25 + y - round(y)), abs=1e-3)


def test_clients_of_ztf_find_their_fields(candidates):
    row, evidence = candidates[0]
    packet = ztf_packet(row, evidence)
    now = packet["candidate"]
    seen = [p for p in evidence.points("search") if p["flux"] > 5 * p["flux_error"]]
    last = max(
        (p for p in seen if p["expnum"] in {d // 10_000_000 for d in row["detection_ids"]}), key=lambda p: p["mjd"]
    )
    assert now["jd"] == pytest.approx(Time(last["mjd"] - 45.0 / 86400, format="mjd").jd, abs=1e-8), "ZTF's is the start"
    assert (now["magpsf"], now["sigmapsf"], now["diffmaglim"]) == (last["mag"], last["mag_error"], last["limit_mag"])
    assert now["fid"] == {"g": 1, "r": 2, "i": 3, "z": 4}[last["band"]]
    assert (now["isdiffpos"], now["rb"], now["ndethist"]) == ("t", row["real_score"], len(seen))
    assert (
        packet["candid"] == now["candid"] == max(row["detection_ids"], key=lambda d: d // 10_000_000 == last["expnum"])
    )
    others = packet["prv_candidates"]
    assert len(others) == len(evidence.points("search")) - 1
    assert all((p["magpsf"] is None) == (p["candid"] is None) for p in others)
    assert not {p["jd"] for p in others} & {p["mjd"] + 2400000.5 for p in evidence.points("template")}


ZTF_FIELDS = {
    "jd": "double", "fid": "int", "pid": "long", "diffmaglim": ["float", "null"], "programid": "int", "candid": "long",
    "isdiffpos": "string", "ra": "double", "dec": "double", "magpsf": "float", "sigmapsf": "float",
    "rb": ["float", "null"], "ndethist": "int", "ncovhist": "int", "jdstarthist": ["double", "null"],
    "jdendhist": ["double", "null"], "neargaia": ["float", "null"], "maggaia": ["float", "null"],
    "exptime": ["float", "null"],
}  # fmt: skip
"""Fields and types of ``candidate`` in ZTF's public schema, version 3.3, of those that the packet has."""


def test_a_reader_with_the_types_of_ztf_reads_the_packet(candidates, tmp_path):
    """Avro's own rules of schema resolution decide: none of the types may have to be guessed."""
    fastavro = pytest.importorskip("fastavro")
    write_packets(tmp_path / "a.avro", [ztf_packet(*item) for item in candidates[:3]], "ztf")
    fields = [{"name": name, "type": kind} for name, kind in ZTF_FIELDS.items()]
    alert = [{"name": "objectId", "type": "string"}, {"name": "candid", "type": "long"}]
    alert.append({"name": "candidate", "type": {"type": "record", "name": "candidate", "fields": fields}})
    wanted = {"type": "record", "name": "alert", "namespace": "gw_workflow.ztf_alert", "fields": alert}
    with (tmp_path / "a.avro").open("rb") as stream:
        found = list(fastavro.reader(stream, reader_schema=wanted))
    for packet, item in zip(found, candidates, strict=False):
        right = ztf_packet(*item)
        for name, value in packet["candidate"].items():
            known = right["candidate"][name]
            exact = known is None or isinstance(known, str | int)
            assert value == (known if exact else pytest.approx(known, rel=1e-6)), name


def test_a_packet_that_does_not_fit_the_schema_is_refused(candidates, tmp_path):
    pytest.importorskip("fastavro")
    packet = alert_packet(*candidates[0])
    packet["candid"] = "seven"
    with pytest.raises(InputError, match="schema"):
        write_packets(tmp_path / "a.avro", [packet])
    (tmp_path / "b.avro").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read_packets(tmp_path / "b.avro")


@pytest.mark.parametrize(("name", "schema"), [("alert_packet", packet_schema), ("ztf_packet", ztf_schema)])
def test_the_schema_that_ships_is_the_one_that_is_used(name, schema):
    path = Path(imaging.candidates.__path__[0]) / "data" / f"{name}.json"
    assert json.loads(path.read_text()) == schema()


def test_skyportal_gets_candidate_photometry_and_annotation(candidates):
    row, evidence = candidates[0]
    row = row | {"gaia_source_id": GAIA_ID}
    candidate, photometry, annotation = skyportal_requests(row, evidence, WHO)
    assert candidate["path"] == "/api/candidates"
    assert (candidate["json"]["ra"], candidate["json"]["filter_ids"]) == (row["ra"], [1])
    sent = photometry["json"]
    assert len({len(sent[name]) for name in ("mjd", "filter", "flux", "fluxerr", "altdata")}) == 1
    assert min(sent["mjd"]) > MJD_EVENT, "templates are no detections"
    brightest = int(np.argmax(sent["flux"]))
    magnitude = -2.5 * np.log10(sent["flux"][brightest]) + sent["zp"]
    measured = next(p for p in evidence.photometry if p["mjd"] == sent["mjd"][brightest])
    assert magnitude == pytest.approx(measured["mag"], abs=1e-3)
    assert sent["filter"][brightest] == f"des{measured['band']}"
    assert annotation["json"]["data"]["loglr_lightcurve"] == row["loglr_lightcurve"]
    assert annotation["json"]["data"]["gaia_source_id"] == str(GAIA_ID)
    assert json.loads(json.dumps([candidate, photometry, annotation])) == [candidate, photometry, annotation]


def test_bands_have_names_that_skyportal_knows(candidates):
    row, evidence = candidates[0]
    points = with_points(evidence, *(point(60441.0 + n, 2000.0, band=b) for n, b in enumerate(("u", "VR", "Y"))))
    sent = skyportal_requests(row, points, WHO)[1]["json"]
    assert sent["filter"] == ["desu", "desr", "desy"]
    assert [about["band"] for about in sent["altdata"]] == ["u", "VR", "Y"]
    named = WHO.with_values(skyportal_bandpasses={"u": "sdssu", "VR": "decamvr"})
    assert skyportal_requests(row, points, named)[1]["json"]["filter"] == ["sdssu", "decamvr", "desy"]
    with pytest.raises(ValueError, match="unknown band x"):
        ReportSettings(skyportal_bandpasses={"x": "desx"})
    with pytest.raises(InputError, match="no photometry"):
        skyportal_requests(row, with_points(evidence, point(60440.0, 900.0, side="template")), WHO)


def test_the_tns_gets_the_detections_in_search_differences(candidates):
    row, evidence = candidates[0]
    (report,) = tns_reports([tns_entry(row, evidence, WHO)])
    entry = json.loads(json.dumps(report))["at_report"]["0"]
    assert float(entry["ra"]["value"]) == pytest.approx(row["ra"], abs=1e-6)
    assert entry["reporting_group_id"] == entry["discovery_data_source_id"] == "135"
    group = list(entry["photometry"]["photometry_group"].values())
    seen = [p for p in evidence.points("search") if p["flux"] > 5 * p["flux_error"] and p["mag"] is not None]
    assert [float(point["flux"]) for point in group] == pytest.approx([p["mag"] for p in seen], abs=1e-3)
    assert entry["discovery_datetime"] == group[0]["obsdate"] == moment(seen[0]["mjd"]).replace("T", " ")
    assert Time(entry["discovery_datetime"]).mjd > MJD_EVENT
    assert {(point["instrument_value"], point["exptime"]) for point in group} == {("172", "90")}


def test_a_variable_template_is_no_discovery(candidates):
    """A template 5.8 sigma above the mean of the templates, two months before, is neither discovery nor detection."""
    row, evidence = candidates[0]
    old = point(60380.0, 580.0, side="template")
    new = point(60441.0, 2000.0)
    entry = tns_entry(row, with_points(evidence, old, new), WHO)
    assert entry["discovery_datetime"] == Time(60441.0, format="mjd").strftime("%Y-%m-%d %H:%M:%S")
    assert len(entry["photometry"]["photometry_group"]) == 1
    assert "obsdate" not in entry["non_detection"], "it is no limit either"
    with pytest.raises(InputError, match="no photometry is significant"):
        tns_entry(row, with_points(evidence, old), WHO)


def test_the_last_non_detection_limits(candidates):
    """Of limits before the discovery at 21.6 the deepest within the window counts; a brighter one says nothing."""
    row, evidence = candidates[0]
    bright_host = point(60440.9, 0.0, error=1.2e5, side="template")  # 17.0 mag, on a bright galaxy
    deep, deeper = point(60420.0, 50.0, error=150.0, side="template"), point(60400.0, -20.0, error=80.0)
    too_old, found = point(60300.0, 0.0, error=20.0), point(60441.0, 8000.0)
    entry = tns_entry(row, with_points(evidence, too_old, deeper, deep, bright_host, found), WHO)
    limit = entry["non_detection"]
    assert float(limit["limiting_flux"]) == pytest.approx(-2.5 * np.log10(5 * 80 / 3.631e12), abs=0.006)
    assert limit["obsdate"] == Time(60400.0, format="mjd").strftime("%Y-%m-%d %H:%M:%S")
    near = tns_entry(
        row, with_points(evidence, too_old, deeper, deep, bright_host, found), WHO.with_values(tns_limit_days=30.0)
    )
    assert float(near["non_detection"]["limiting_flux"]) == pytest.approx(-2.5 * np.log10(750 / 3.631e12), abs=0.006)
    none = tns_entry(row, with_points(evidence, bright_host, found), WHO)["non_detection"]
    assert (none["archiveid"], "earlier DECam" in none["archival_remarks"]) == ("0", True)


def test_the_limits_of_the_tns_are_kept(candidates):
    row, evidence = candidates[0]
    many = [point(60441.0 + 0.01 * n, 600.0 + 100.0 * (n * 7 % 16)) for n in range(16)]
    entry = tns_entry(row, with_points(evidence, *many), WHO)
    told = [float(p["flux"]) for p in entry["photometry"]["photometry_group"].values()]
    best = sorted(many[1:], key=lambda p: -p["snr"])[:9]
    assert told == pytest.approx([p["mag"] for p in many if p is many[0] or p in best], abs=1e-3)
    reports = tns_reports([entry] * 250)
    assert [list(report["at_report"]) == [str(n) for n in range(len(report["at_report"]))] for report in reports] == [
        True
    ] * 3
    assert [len(report["at_report"]) for report in reports] == [100, 100, 50]


def test_host_and_kind_are_filled(candidates):
    row, evidence = candidates[0]
    row = row | {"host_ra": 197.44875, "host_dec": -23.38389, "flags": int(CandidateFlag.NUCLEAR)}
    entry = tns_entry(row, replace(evidence, host_redshift=0.00984), WHO)
    assert (entry["host_name"], entry["host_redshift"]) == ("J130947.70-232302.0", "0.00984")
    assert entry["at_type"] == "4"
    assert "core of its host" in entry["remarks"]
    alone = tns_entry(row | {"host_ra": None, "host_dec": None, "flags": 0}, evidence, WHO)
    assert (alone["host_name"], alone["host_redshift"], alone["at_type"]) == ("", "", "1")


def test_the_second_version_of_the_fields(candidates):
    row, evidence = candidates[0]
    first = tns_entry(row, evidence, WHO)
    second = tns_entry(row, evidence, WHO.with_values(tns_fields="2.0"))
    assert (second["reporting_groupid"], second["data_source_groupid"]) == ("135", "135")
    names = ("flux_units", "filter_value", "instrument_value")
    point_of_first = first["photometry"]["photometry_group"]["0"]
    point_of_second = second["photometry"]["0"]
    assert [point_of_second[n] for n in ("flux_unitid", "filterid", "instrumentid")] == [
        point_of_first[n] for n in names
    ]
    assert not any(f'"{name}"' in json.dumps(second) for name in (*names, "photometry_group", "reporting_group_id"))
    assert with_chart(second, "a.png")["related_files"]["0"]["related_file_name"] == "a.png"


def test_a_band_that_the_tns_has_not_is_named(candidates):
    row, evidence = candidates[0]
    entry = tns_entry(row, with_points(evidence, point(60441.0, 2000.0, band="VR")), WHO)
    (told,) = entry["photometry"]["photometry_group"].values()
    assert told["filter_value"] == "0"
    assert told["comments"].endswith("filter VR")


def test_nobody_reports_anonymously_or_what_was_not_seen(candidates):
    row, evidence = candidates[0]
    with pytest.raises(InputError, match="reporter"):
        tns_entry(row, evidence, ReportSettings())
    with pytest.raises(InputError, match="skyportal_filter_ids"):
        skyportal_requests(row, evidence, ReportSettings())
    dark = with_points(evidence, *(p | {"flux": 0.0, "mag": None} for p in evidence.photometry))
    for make in (lambda: tns_entry(row, dark, WHO), lambda: ztf_packet(row, dark)):
        with pytest.raises(InputError, match="no photometry is significant enough"):
            make()
