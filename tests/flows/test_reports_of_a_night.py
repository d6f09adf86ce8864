"""Each form of report and each file of candidates, of a night that the pipeline has processed."""

import gzip
import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS
from mocpy import MOC
from night_site import NIGHT, Demonstration
from PIL import Image
from receivers import KEY, TOKEN, receiving

from blocks.receivers import SkyPortalCredentials, TnsCredentials
from blocks.site import Site
from deployments.cli import main
from deployments.reports.candidates import STARS, ranked_table
from deployments.reports.ledger import open_ledger
from deployments.reports.reports import make_report
from deployments.reports.sending import counts, send_to_skyportal
from deployments.reports.sending_tns import send_to_tns
from imaging.candidates.reports import ReportSettings
from imaging.io.packets import read_packets
from imaging.io.skymaps import read_skymap
from imaging.io.stamps import read_stamps
from imaging.io.tables import read_table
from imaging.schemas.candidates import CandidateFlag
from imaging.tables import column

pytestmark = [pytest.mark.slow, pytest.mark.dask, pytest.mark.server]

WHO = {"reporter": "A. Person", "tns_group_id": 135, "skyportal_filter_ids": [1], "skyportal_group_ids": [2]}
WHO |= {"skyportal_instrument_id": 4}


@pytest.fixture(scope="module")
def site(demonstration: Demonstration) -> Site:
    """Return the processed night; nothing is written to it."""
    return demonstration.site


@pytest.fixture(scope="module")
def table(site) -> pa.Table:
    return ranked_table(site, NIGHT)


@pytest.fixture(scope="module")
def lightcurves(site) -> pd.DataFrame:
    """Return the forced photometry, and whether each point is of a search exposure of the night."""
    points = read_table(site.store / "nights" / str(NIGHT) / "lightcurves.parquet").to_pandas()
    return points.assign(search=points["night"] == NIGHT)


@pytest.fixture
def command(site, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    who = tmp_path / "who.json"
    who.write_text(json.dumps(WHO))

    def do(*words):
        code = main.run([str(word) for word in (*words, "--site", site.root, "--json")])
        return code, json.loads(capsys.readouterr().out)

    def report(form, path, *words):
        return do("report", NIGHT, "--form", form, "--settings", who, "--output", path, *words)

    do.report = report
    return do


def coordinates_of(row):
    return SkyCoord(row["ra"], row["dec"], unit="deg")


def test_alert_packets_hold_the_stamps_with_their_place(command, table, site, tmp_path):
    path = tmp_path / "packets.avro"
    code, document = command.report("avro", path)
    assert code == 0
    packets = read_packets(path)
    assert len(packets) == document["n_candidates"] > 1
    rows = {row["candidate_id"]: row for row in table.to_pylist()}
    stored = {}
    for stamps in site.store.rglob("*_stamps.fits"):
        stored |= {stamp.detection_id: stamp for stamp in read_stamps(stamps)[0]}
    nights = set()
    for packet in packets:
        row = rows[packet["objectId"]]
        assert packet["candidate"] == row
        assert packet["candid"] in row["detection_ids"]
        for name, plane in (("Science", "SEARCH"), ("Template", "TEMPLATE"), ("Difference", "DIFFERENCE")):
            image = fits.HDUList.fromstring(gzip.decompress(packet[f"cutout{name}"]["stampData"]))[0]
            assert np.array_equal(image.data, stored[packet["candid"]].planes[plane], equal_nan=True)
            wcs = WCS(image.header)
            assert image.header["BUNIT"] == "electron"
            away_arcsec = wcs.pixel_to_world(25, 25).separation(coordinates_of(row)).arcsec
            assert away_arcsec < 1.0 or row["flags"] & CandidateFlag.MOVER, "a mover's place is the mean over hours"
            assert wcs.proj_plane_pixel_scales()[0].to_value("arcsec") == pytest.approx(0.2637, rel=0.01)
        for point in packet["prv_candidates"]:
            assert point["side"] == ("search" if point["night"] == NIGHT else "template")
            nights.add(point["night"])
    assert len(nights) > 2, "the night, and those of the templates"


def test_packets_with_the_fields_of_ztf(command, table, lightcurves, tmp_path):
    path = tmp_path / "ztf.avro"
    assert command.report("ztf", path)[0] == 0
    packets = read_packets(path)
    assert packets[0]["objectId"] == table.column("candidate_id")[0].as_py()
    for packet in packets:
        now = packet["candidate"]
        mine = lightcurves[(lightcurves["candidate_id"] == packet["objectId"]) & lightcurves["search"]]
        point = mine[mine["expnum"] == now["pid"]].iloc[0]
        assert now["jd"] == pytest.approx(Time(point["mjd"] - 45.0 / 86400, format="mjd").jd, abs=1e-8), "its start"
        assert (now["magpsf"], now["sigmapsf"]) == pytest.approx((point["mag"], point["mag_error"]))
        assert (now["isdiffpos"], now["exptime"], packet["candid"] // 10_000_000) == ("t", 90.0, now["pid"])
        assert len(packet["prv_candidates"] or []) == (~mine["masked"]).sum() - 1
        assert packet["cutoutTemplate"]["stampData"]


def test_a_tns_report_tells_of_the_night_only(command, lightcurves, tmp_path):
    path = tmp_path / "at.json"
    code, document = command.report("tns", path)
    assert code == 0
    entries = json.loads(path.read_text())["at_report"].values()
    first = lightcurves[lightcurves["search"]]["mjd"].min()
    for entry in entries:
        mine = lightcurves[lightcurves["candidate_id"] == entry["internal_name"]]
        seen = mine[mine["search"] & ~mine["masked"] & (mine["flux"] > 5 * mine["flux_error"])].sort_values("mjd")
        told = list(entry["photometry"]["photometry_group"].values())
        assert [float(p["flux"]) for p in told] == pytest.approx(seen["mag"].tolist(), abs=6e-4)
        assert Time(entry["discovery_datetime"]).mjd == pytest.approx(seen["mjd"].iloc[0], abs=1 / 86400)
        assert Time(entry["discovery_datetime"]).mjd > first - 1 / 86400
        assert {p["exptime"] for p in told} == {"90"}
        limit = entry["non_detection"]
        if "obsdate" in limit:
            place = (mine["mjd"] - Time(limit["obsdate"]).mjd).abs().argmin()
            five_sigma = -2.5 * np.log10(5 * mine["flux_error"].iloc[place] / 3.631e12)
            assert float(limit["limiting_flux"]) == pytest.approx(five_sigma, abs=0.006)
            assert float(limit["limiting_flux"]) > float(told[0]["flux"])
    kilonova = next(iter(entries))
    assert "obsdate" in kilonova["non_detection"]
    assert float(kilonova["host_redshift"]) == pytest.approx(165.0 / 4400.0, rel=0.25), "Hubble's law"
    charts = [file for file in document["files"] if file.endswith(".png")]
    assert len(charts) == document["n_candidates"]
    with Image.open(charts[0]) as chart:
        assert min(chart.size) > 500


def send_skyportal(site, server, chosen, state):
    block = SkyPortalCredentials(address=server.address, token=TOKEN)
    made = make_report(site, NIGHT, chosen, "skyportal", ReportSettings.model_validate(WHO))
    with open_ledger(site.model_copy(update={"state": state}), "skyportal", block.address) as ledger:
        return send_to_skyportal(made, block, ledger)


def test_skyportal_takes_all_and_a_new_rank_replaces_the_annotation(site, table, tmp_path):
    best = table.slice(0, 3)
    with receiving() as server:
        assert counts(send_skyportal(site, server, best, tmp_path)) == {"taken": 3}
        sent = len(server.got)
        assert sent == 3 * 6, "candidate, photometry, annotation, three thumbnails"
        assert {o.sent for o in send_skyportal(site, server, best, tmp_path)} == {False}
        again = best.set_column(1, best.schema.field("rank"), pc.add(best.column("rank"), 1).cast(pa.int32()))
        assert counts(send_skyportal(site, server, again, tmp_path)) == {"taken": 3}
        assert [method for method, _, _ in server.got[sent:]] == ["PUT"] * 3
        assert sorted(data["rank"] for _, data in server.annotations.values()) == [2, 3, 4]
        # Another site, or one that has lost its ledger, meets what SkyPortal has.
        assert counts(send_skyportal(site, server, best, tmp_path / "other")) == {"taken": 3}
        assert sorted(data["rank"] for _, data in server.annotations.values()) == [1, 2, 3]


@pytest.mark.parametrize("fields", ["1.0", "2.0"])
def test_the_tns_takes_reports_with_charts_in_both_versions(site, table, tmp_path, fields):
    who = ReportSettings.model_validate(WHO | {"tns_fields": fields})
    made = make_report(site, NIGHT, table.slice(0, 3), "tns", who)
    with receiving() as server:
        server.fields = fields
        block = TnsCredentials(address=server.address, bot_id=7, bot_name="a_bot", api_key=KEY)
        with open_ledger(site.model_copy(update={"state": tmp_path}), "tns", block.address) as ledger:
            deliveries = send_to_tns(made, block, ledger, wait=lambda _: None)
        assert counts(deliveries) == {"taken": len(made.entries)}
        entry = server.reports[0]["0"]
        chart = server.uploaded[entry["related_files"]["0"]["related_file_name"]]
        assert Image.open(io.BytesIO(chart)).format == "PNG"


def test_stars_and_halos_are_reported_only_when_asked(command, table, tmp_path):
    flagged = {row["candidate_id"] for row in table.to_pylist() if row["flags"] & STARS}
    usual = {p["objectId"] for p in packets_of(command, tmp_path / "a.avro")}
    everything = {p["objectId"] for p in packets_of(command, tmp_path / "b.avro", "--with-stars")}
    assert everything == set(table.column("candidate_id").to_pylist())
    assert usual == everything - flagged


def packets_of(command, path, *words):
    assert command.report("avro", path, "--best", 1000, *words)[0] == 0
    return read_packets(path)


@pytest.mark.parametrize("suffix", ["fits", "vot", "ecsv", "csv", "parquet"])
def test_files_of_candidates_agree(command, table, tmp_path, suffix):
    path = tmp_path / f"chosen.{suffix}"
    assert command("candidates", NIGHT, "--output", path)[0] == 0
    if suffix in ("csv", "parquet"):
        read = (pd.read_csv if suffix == "csv" else pd.read_parquet)(path)
        assert read["gaia_source_id"].dtype == np.int64
        columns = {name: read[name].to_numpy() for name in read.columns}
    else:
        read = Table.read(path)
        columns = {name: np.asarray(read[name].tolist()) for name in read.colnames}
        assert str(read["ra"].unit) == "deg"
        assert read["ra"].description == "right ascension, ICRS"
        assert read["skymap_density"].unit.to_string("vounit")
    for field in table.schema:
        found, right = columns[field.name], table.column(field.name)
        if pa.types.is_list(field.type):
            if suffix != "parquet":
                found = [[int(number) for number in str(text).split(";")] for text in found]
            assert [list(row) for row in found] == right.to_pylist()
        elif pa.types.is_string(field.type):
            texts = ["" if text is None or text != text else str(text) for text in found.tolist()]
            assert texts == [text or "" for text in right.to_pylist()], field.name
        else:
            right = column(table, field.name)
            assert np.array_equal(found.astype(right.dtype), right, equal_nan=right.dtype.kind == "f"), field.name


@pytest.mark.filterwarnings("ignore:.datfix")
def test_regions_in_the_pixels_of_an_image(command, table, site, tmp_path):
    path, image = tmp_path / "on.reg", next(iter(sorted(site.store.rglob("*_27_*_diff.fits"))))
    assert command("candidates", NIGHT, "--output", path, "--image", image)[0] == 0
    lines = path.read_text().splitlines()
    assert "image" in lines
    assert any("(1, 1)" in line for line in lines if line.startswith("#"))
    wcs = WCS(fits.getheader(image, "SCI"))
    circles = [line for line in lines if line.startswith("circle")]
    assert circles
    for line in circles:
        name = line.partition("tag={")[2].rstrip("}")
        row = table.filter(pc.equal(table.column("candidate_id"), name)).to_pylist()[0]
        there = [float(value) for value in line.removeprefix("circle(").split(",")[:2]]
        assert np.allclose(there, wcs.all_world2pix(row["ra"], row["dec"], 1), atol=0.02, rtol=0)


def test_the_searched_area_is_a_coverage_and_a_map(site, table):
    folder = site.store / "nights" / str(NIGHT)
    summary = json.loads((folder / "summary.json").read_text())
    moc = MOC.load(folder / "searched.moc.fits", "fits")
    assert moc.sky_fraction * 41252.96125 == pytest.approx(summary["area_searched_deg2"], rel=1e-6)
    places = SkyCoord(column(table, "ra"), column(table, "dec"), unit="deg")
    assert moc.contains_skycoords(places).mean() > 0.9, "all but those in pixels at the border"
    found = read_skymap(folder / "searched.multiorder.fits")
    assert found.probability.sum() == pytest.approx(1.0)
    cells = Table.read(folder / "searched.multiorder.fits")
    order = (np.log2(np.asarray(cells["UNIQ"]) // 4) // 2).astype(int)
    probability = np.sum(np.asarray(cells["PROBDENSITY"]) * 4 * np.pi / (12 * 4.0**order))
    assert probability == pytest.approx(summary["probability_searched"], rel=1e-6)
    assert (
        MOC.from_healpix_cells(
            np.asarray(cells["UNIQ"]) - 4 * 4**order, order.astype(np.uint8), max_depth=int(order.max())
        )
        == moc
    )
    depths = {
        name: np.nanmedian(np.asarray(cells[name], dtype=float)) for name in cells.colnames if name == "M50_i".upper()
    }
    assert depths["M50_I"] == pytest.approx(
        np.nanmedian(column(read_table(folder / "searched.parquet"), "m50_i")), abs=0.1
    )
