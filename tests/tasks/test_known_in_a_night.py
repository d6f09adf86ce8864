"""A site's catalogues of context in the list of a night: built, matched by the ranking, shown, replaced."""

import csv
import json

import numpy as np
import pyarrow as pa
import pytest

from bench.candidates import prepare
from bench.ranked_site import write_site
from blocks.nights import read_night
from blocks.site import Site
from deployments.cli.main import run
from imaging.candidates.packets import alert_packet
from imaging.candidates.reports import Evidence
from imaging.candidates.settings import AssociateSettings, CandidateSettings
from imaging.io.candidates import read_candidates
from imaging.io.orbits import write_orbits
from imaging.io.reference import write_reference_catalogue
from imaging.minor_planets.orbits import GAUSS, OBLIQUITY_RAD
from imaging.minor_planets.positions import LIGHT_DAYS_PER_AU, observer_au, terrestrial_mjd
from imaging.reference.settings import ReferenceCatalogueSettings
from imaging.reference.surveys import SURVEYS
from imaging.schemas.candidates import CandidateFlag
from imaging.schemas.reference import KNOWN_SOURCES, ORBITS, REFERENCE_GALAXIES, DistanceMethod, KnownKind
from imaging.simulation.candidate_sources import MJD_EVENT, NIGHT
from imaging.skymap.settings import CoverageSettings
from imaging.tables import make_table
from imaging.wcs.sphere import unit_vectors
from tasks.context import catalogues_of, galaxies_near, known_catalogues
from tasks.import_catalogue import CataloguePlan, assemble, import_source
from tasks.rank import rank
from tasks.ranked_tables import rerank_job

COARSE = CandidateSettings(coverage=CoverageSettings(order=9), associate=AssociateSettings(lone_probability=0.0))
"""Candidates of one detection stay, whatever their probability to be real (``tests/candidates/test_chance.py``)."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    synthetic, table, forced = prepare(2, scale=0.02)
    root = tmp_path_factory.mktemp("known")
    return write_site(root, table, forced, synthetic.skymap, synthetic.footprints, COARSE)


def build(site, name, path):
    """Build a catalogue of context as the flow does."""
    plan = CataloguePlan(name, [path], site, ReferenceCatalogueSettings(), survey=name)
    imported = [import_source(job) for job in plan.import_jobs()]
    plan.finish([assemble(job) for job in plan.assemble_jobs(imported)])
    assert plan.is_built()


def ranked(site):
    rank(rerank_job(NIGHT, read_night(site, NIGHT).skymap, site))
    folder = site.store / "nights" / str(NIGHT)
    return folder, read_candidates(folder / "candidates.parquet").to_pylist()


def tns(site, path, rows):
    lines = [
        f'"{k}","AT","{n}","{ra:.7f}","{dec:.7f}","{kind}","{day}"' for k, (n, ra, dec, kind, day) in enumerate(rows)
    ]
    head = '"2017-08-18 00:00:00 - 23:59:59"\n"objid","name_prefix","name","ra","declination","type","discoverydate"\n'
    path.write_text(head + "\n".join(lines) + "\n")
    build(site, "tns", path)


def test_the_best_candidate_falls_when_a_list_of_the_tns_has_it_from_before(site, tmp_path):
    _, before = ranked(site)
    best, second = before[0], before[1]
    assert best["reported_as"] is None
    days = np.datetime64("1858-11-17") + np.timedelta64(int(MJD_EVENT) - 30, "D")
    tns(site, tmp_path / "tns.csv", [("2017old", best["ra"], best["dec"], "SN Ia", f"{days} 12:00:00")])
    milliquas = make_table(
        {
            "source_id": [7], "ra": [second["ra"]], "dec": [second["dec"]], "name": ["a quasar"], "type": ["Q"],
            "kind": [KnownKind.NUCLEUS], "mjd": [None], "mag": [None], "redshift": [None],
        },
        KNOWN_SOURCES,
    )  # fmt: skip
    write_reference_catalogue(site.reference / "milliquas", milliquas, name="milliquas")
    assert set(known_catalogues(site)) == {"tns", "milliquas"}
    folder, after = ranked(site)
    row = next(row for row in after if row["candidate_id"] == best["candidate_id"])
    assert (row["reported_as"], row["reported_type"], row["reported_in"]) == ("AT 2017old", "SN Ia", "tns")
    assert row["flags"] & CandidateFlag.REPORTED_EARLIER
    assert row["rank_score"] == pytest.approx(best["rank_score"] - 10.0, abs=1e-3)
    quasar = next(row for row in after if row["candidate_id"] == second["candidate_id"])
    assert quasar["flags"] & CandidateFlag.ACTIVE_NUCLEUS
    assert quasar["loglr_history"] == pytest.approx(second["loglr_history"] - 5.0, abs=1e-3)
    page = (folder / "candidates.html").read_text()
    assert "as AT 2017old, SN Ia (tns), 0.0 arcsec" in page
    assert "a quasar, Q (milliquas), 0.0 arcsec" in page
    listed = {row["candidate_id"]: row for row in csv.DictReader((folder / "candidates.csv").read_text().splitlines())}
    assert listed[best["candidate_id"]]["reported_as"] == "AT 2017old"
    assert "REPORTED_EARLIER" in listed[best["candidate_id"]]["flag_names"]
    assert alert_packet(row, Evidence([], "S1"))["candidate"]["reported_as"] == "AT 2017old"
    known = json.loads((folder / "summary.json").read_text())["known_sources"]
    assert known == {"tns": 1, "milliquas": 1}

    tns(site, tmp_path / "newer.csv", [("2017elsewhere", 10.0, 10.0, "", f"{days} 12:00:00")])
    _, again = ranked(site)
    assert all(row["reported_as"] is None for row in again)
    assert next(r for r in again if r["candidate_id"] == best["candidate_id"])["rank"] == best["rank"]


def test_orbits_are_imported_by_the_command_and_asteroids_counted(site, tmp_path, capsys):
    path = tmp_path / "MPCORB.DAT"
    path.write_text(
        "00001    3.34  0.15 K25A4 274.41935   73.29420   80.24863   10.58803  0.0796923  0.21430445   2.7655526  0 "
        "MPO980521  7297 126 1801-2026 0.83 M-v 30k Veres      4000      (1) Ceres              20260103\n"
    )
    words = ["reference-catalog", "build", str(path), "--survey", "mpcorb", "--site", str(site.root), "--json"]
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out)["n_orbits"] == 1
    folder, rows = ranked(site)
    assert json.loads((folder / "summary.json").read_text())["known_sources"]["mpcorb"] == 0  # Ceres is elsewhere
    assert all(row["minor_planet"] is None for row in rows)
    write_orbits(site.reference / "mpcorb", ORBITS.empty_table())
    assert ranked(site)[1] == rows


def orbit_through(ra, dec, mjd, distance_au=1.6):
    """Return an orbit whose body is seen at a position at a time: elements of a state vector."""
    direction = unit_vectors(ra, dec)[0]
    place = observer_au(np.array([mjd]))[0] + distance_au * direction
    tilt = np.array(
        [
            [1, 0, 0],
            [0, np.cos(OBLIQUITY_RAD), np.sin(OBLIQUITY_RAD)],
            [0, -np.sin(OBLIQUITY_RAD), np.cos(OBLIQUITY_RAD)],
        ]
    )
    r = tilt @ place
    v = np.cross([0.1, 0.2, 1.0], r)
    v *= 0.95 * GAUSS / np.sqrt(np.linalg.norm(r)) / np.linalg.norm(v)
    h = np.cross(r, v)
    e = np.cross(v, h) / GAUSS**2 - r / np.linalg.norm(r)
    size, line = np.linalg.norm(e), np.array([-h[1], h[0], 0.0]) / np.hypot(h[0], h[1])
    across = np.cross(h, line) / np.linalg.norm(h)
    anomaly = np.arctan2(np.dot(np.cross(e, r), h) / np.linalg.norm(h), np.dot(e, r))
    eccentric = 2 * np.arctan(np.sqrt((1 - size) / (1 + size)) * np.tan(anomaly / 2))
    elements = {
        "designation": ["K25A01B"],
        "name": ["2025 AB1"],
        "epoch_mjd": [float(terrestrial_mjd(mjd)) - distance_au * LIGHT_DAYS_PER_AU],
        "mean_anomaly_deg": np.degrees([eccentric - size * np.sin(eccentric)]),
        "perihelion_deg": np.degrees([np.arctan2(np.dot(e, across), np.dot(e, line))]),
        "node_deg": np.degrees([np.arctan2(line[1], line[0])]),
        "inclination_deg": np.degrees([np.arccos(h[2] / np.linalg.norm(h))]),
        "eccentricity": [size],
        "semimajor_axis_au": [1.0 / (2.0 / np.linalg.norm(r) - np.dot(v, v) / GAUSS**2)],
        "absolute_mag": [18.0],
        "slope": [0.15],
    }
    return make_table(elements, ORBITS)


def test_a_single_detection_where_an_asteroid_is_predicted_is_one(site):
    write_orbits(site.reference / "mpcorb", ORBITS.empty_table())
    before = next(row for row in ranked(site)[1] if row["n_detections"] == 1 and len(row["detection_ids"]) == 1)
    write_orbits(site.reference / "mpcorb", orbit_through(before["ra"], before["dec"], before["mjd_first"]))
    folder, rows = ranked(site)
    after = next(row for row in rows if row["candidate_id"] == before["candidate_id"])
    assert after["minor_planet"] == "2025 AB1"
    assert after["minor_planet_separation_arcsec"] < 0.05
    assert 19.0 < after["minor_planet_mag"] < 22.0
    assert after["flags"] & CandidateFlag.MINOR_PLANET
    assert after["loglr_motion"] == -12.0 < before["loglr_motion"]
    assert [row["minor_planet"] for row in rows].count("2025 AB1") == 1
    assert '"2025 AB1, V ' in (folder / "candidates.html").read_text()
    assert json.loads((folder / "summary.json").read_text())["known_sources"]["mpcorb"] == 1
    write_orbits(site.reference / "mpcorb", ORBITS.empty_table())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--survey", "glade3"), "no such survey"),
        (("--survey", "tns", "--mapping", "des_dr2"), "not both"),
        (("--survey", "tns", "--name", "mine"), "fixed name"),
        (("--survey", "mpcorb"), "MPCORB"),
    ],
)
def test_other_surveys_are_refused_by_name(tmp_path, capsys, words, message):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,2\n")
    assert run(["reference-catalog", "build", str(path), *words, "--site", str(tmp_path / "s"), "--json"]) == 1
    assert message in json.loads(capsys.readouterr().out)["error"]


def test_galaxies_of_all_catalogues_are_read_near_the_fields(tmp_path):
    site = Site.at(tmp_path)
    for name, distance, method in (("galaxies", 40.0, None), ("nedlvs", 43.0, DistanceMethod.SPECTROSCOPIC)):
        columns = {field.name: [1.0, 1.0] for field in REFERENCE_GALAXIES}
        columns |= {"source_id": [1, 2], "ra": [10.0, 50.0], "dec": [-20.0, 10.0], "distance_mpc": [distance, 1.0]}
        table = make_table(columns | {"distance_method": [method, method]}, REFERENCE_GALAXIES)
        if method is None:  # as the simulator of 0.2 wrote it
            table = table.drop_columns(["distance_method"])
        write_reference_catalogue(site.reference / name, table, name=name)
    present = catalogues_of(site, ("galaxies", "nedlvs", "gladeplus"))
    assert list(present) == ["galaxies", "nedlvs"]
    found = galaxies_near(site, [(10.0, -20.0, 0.2), (10.1, -20.0, 0.3)], present).to_pylist()
    assert [(row["catalogue"], row["distance_mpc"], row["distance_method"]) for row in found] == [
        ("galaxies", 40.0, None),
        ("nedlvs", 43.0, DistanceMethod.SPECTROSCOPIC),
    ]
    assert isinstance(SURVEYS["nedlvs"].schema, pa.Schema)
