"""Known transients, variables, active nuclei and minor planets: matched, flagged, ranked and put in words."""

import numpy as np
import pyarrow as pa
import pytest

from imaging.candidates.associate import candidate_table
from imaging.candidates.hosts import add_distances, match_hosts
from imaging.candidates.known import match_known_sources, match_minor_planets
from imaging.candidates.rank import rank_candidates
from imaging.candidates.settings import CrossmatchSettings, LightcurveSettings, RankSettings
from imaging.candidates.words import context_in_words, parts_in_words
from imaging.minor_planets.positions import PredictedPositions
from imaging.schemas.candidates import CandidateFlag
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.schemas.hosts import GALAXIES, HOSTS
from imaging.schemas.reference import KNOWN_SOURCES, DistanceMethod, KnownKind
from imaging.skymap.build import gaussian_skymap
from imaging.tables import make_table
from imaging.wcs.sphere import offset_position

SETTINGS, RANK = CrossmatchSettings(), RankSettings()
RA, DEC, T0 = 60.0, -60.0, 60000.0
LISTS = ("tns", "ztf", "atlas")


def candidates(offsets, flags=0, detections=None):
    n = len(offsets)
    ra, dec = offset_position(RA, DEC, *np.array(offsets, dtype=float).T)
    return candidate_table(
        {
            "candidate_id": [f"C{i}" for i in range(n)],
            "ra": ra, "dec": dec, "position_error_arcsec": np.full(n, 0.05), "n_detections": np.full(n, 2),
            "n_exposures": np.full(n, 2), "mjd_first": np.full(n, T0 + 0.5), "mjd_last": np.full(n, T0 + 0.6),
            "snr_best": np.full(n, 20.0), "mag_first": np.full(n, 21.0), "mag_last": np.full(n, 21.0),
            "real_score": np.full(n, 0.9), "flags": np.full(n, int(flags)), "bands": ["g,i"] * n,
            "motion_arcsec_per_hour": np.full(n, 0.1), "motion_error_arcsec_per_hour": np.full(n, 0.1),
            "detection_ids": detections or [[10_000_000, 20_000_000]] * n,
        }
    )  # fmt: skip


def sources(*rows):
    ra, dec = offset_position(RA, DEC, *np.array([row[:2] for row in rows], dtype=float).T)
    columns = {"source_id": np.arange(len(rows)), "ra": ra, "dec": dec}
    defaults = {"name": "X", "kind": KnownKind.TRANSIENT, "type": None, "mjd": None, "mag": None, "redshift": None}
    columns |= {name: [row[2].get(name, value) for row in rows] for name, value in defaults.items()}
    return make_table(columns, KNOWN_SOURCES)


def ranked(table):
    skymap = gaussian_skymap(RA, DEC, 2.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=7)
    forced = FORCED_PHOTOMETRY.empty_table()
    rows = rank_candidates(table, forced, skymap, T0, RANK, LightcurveSettings()).to_pylist()
    return sorted(rows, key=lambda row: row["candidate_id"])


def test_what_was_reported_before_the_merger_or_is_a_supernova_ranks_lower():
    tns = sources(
        (0, 0.8, {"name": "AT 2026old", "mjd": T0 - 40.0}),
        (60, 0, {"name": "AT 2026new", "mjd": T0 + 0.3}),
        (120, 0, {"name": "SN 2026ia", "type": "SN Ia", "mjd": T0 + 0.4}),
        (180, 0, {"name": "AT 2017gfo", "type": "Kilonova", "mjd": T0 + 0.4}),
        (240, 2.5, {"name": "elsewhere", "mjd": T0 - 40.0}),
    )
    table = match_known_sources(
        candidates([(0, 0), (60, 0), (120, 0), (180, 0), (240, 0)]), {"tns": tns}, LISTS, SETTINGS
    )
    old, new, supernova, kilonova, other = ranked(table)
    assert old["reported_as"] == "AT 2026old"
    assert old["reported_separation_arcsec"] == pytest.approx(0.8, abs=0.01)
    assert CandidateFlag(old["flags"]) == CandidateFlag.REPORTED_EARLIER
    assert old["loglr_reported"] == RANK.reported_early_penalty
    assert supernova["loglr_reported"] == RANK.reported_type_penalty
    assert new["loglr_reported"] == kilonova["loglr_reported"] == other["loglr_reported"] == 0.0
    assert other["reported_as"] is None
    assert new["rank_score"] - old["rank_score"] == pytest.approx(-RANK.reported_early_penalty, abs=1e-4)
    assert parts_in_words(old, T0)["reported"] == (
        "already reported as AT 2026old (tns), 0.8 arcsec, discovered 2023-01-16"
    )
    assert parts_in_words(supernova, T0)["reported"].startswith(
        "already reported as SN 2026ia, SN Ia (tns), 0.0 arcsec"
    )
    assert parts_in_words(other, T0)["reported"] == "not reported"
    assert context_in_words(old) == [("already reported", "as AT 2026old (tns), 0.8 arcsec, discovered 2023-01-16")]
    assert context_in_words(other) == []


def test_the_name_is_that_of_the_first_list_and_the_discovery_the_earliest():
    tns = sources((0, 0, {"name": "AT 2026abc", "mjd": T0 + 0.4}))
    ztf = sources((0, 0.3, {"name": "ZTF26aaaaaaa", "mjd": T0 - 3.0}))
    (row,) = ranked(match_known_sources(candidates([(0, 0)]), {"tns": tns, "ztf": ztf}, LISTS, SETTINGS))
    assert (row["reported_as"], row["reported_in"], row["reported_mjd"]) == ("AT 2026abc", "tns", T0 - 3.0)
    assert row["loglr_reported"] == RANK.reported_early_penalty


def test_variables_and_active_nuclei_count_in_the_history():
    vsx = sources((0, 0, {"name": "V1 Ret", "kind": KnownKind.VARIABLE, "type": "RRAB"}))
    milliquas = sources((60, 0.5, {"name": "3C 1", "kind": KnownKind.NUCLEUS, "type": "Q"}))
    table = match_known_sources(
        candidates([(0, 0), (60, 0), (120, 0)]), {"vsx": vsx, "milliquas": milliquas}, LISTS, SETTINGS
    )
    star, nucleus, neither = ranked(table)
    assert CandidateFlag(star["flags"]) == CandidateFlag.KNOWN_VARIABLE
    assert CandidateFlag(nucleus["flags"]) == CandidateFlag.ACTIVE_NUCLEUS
    assert neither["loglr_history"] - star["loglr_history"] == pytest.approx(-RANK.variable_penalty, abs=1e-4)
    assert neither["loglr_history"] - nucleus["loglr_history"] == pytest.approx(-RANK.nucleus_penalty, abs=1e-4)
    assert (nucleus["known_as"], nucleus["known_type"], nucleus["known_in"]) == ("3C 1", "Q", "milliquas")
    assert (star["reported_as"], star["loglr_reported"]) == (None, 0.0)
    assert parts_in_words(star, T0)["history"].endswith("V1 Ret, RRAB (vsx), 0.0 arcsec")


def predicted(*tracks):
    """Minor planets by their offsets east and north, arcsec, at two times."""
    east, north = np.array([[[t[0], t[1]], [t[2], t[3]]] for t in tracks], dtype=float).transpose(2, 0, 1)
    ra, dec = offset_position(RA, DEC, east.ravel(), north.ravel())
    names = np.array([f"({i}) Planet" for i in range(len(tracks))])
    times = np.array([T0 + 0.5, T0 + 0.6])
    return PredictedPositions(names, times, ra.reshape(east.shape), dec.reshape(east.shape), np.full(len(tracks), 20.5))


def test_a_minor_planet_is_at_the_place_in_every_exposure_that_detected_it():
    exposures = {1: T0 + 0.5, 2: T0 + 0.6}
    table = candidates(
        [(0, 0), (100, 0), (200, 0), (300, 0)],
        detections=[[10_000_001], [10_000_002, 20_000_002], [20_000_003], [10_000_004]],
    )
    # the first passes the first candidate in exposure 1 and the second, which stands still, in exposure 2 only
    planets = predicted((1.0, 0.5, 100.0, 0.0), (150.0, 0.0, 200.5, 0.2), (300.0, 4.0, 300.0, 0.0))
    rows = ranked(match_minor_planets(table, planets, exposures, SETTINGS))
    assert [row["minor_planet"] for row in rows] == ["(0) Planet", None, "(1) Planet", None]
    assert rows[0]["minor_planet_separation_arcsec"] == pytest.approx(np.hypot(1.0, 0.5), abs=0.01)
    assert rows[0]["minor_planet_mag"] == pytest.approx(20.5)
    assert CandidateFlag(rows[0]["flags"]) == CandidateFlag.MINOR_PLANET
    assert rows[0]["loglr_motion"] == RANK.mover_penalty
    assert rows[1]["loglr_motion"] > -1.0
    assert parts_in_words(rows[0], T0)["motion"] == "minor planet (0) Planet, V 20.5, 1.1 arcsec"


def test_a_track_is_compared_at_its_mean_place():
    moving = candidates([(50, 0), (80, 0)], flags=CandidateFlag.MOVER)
    planets = predicted((0.0, 0.0, 100.0, 1.0))
    rows = match_minor_planets(moving, planets, {1: T0 + 0.5, 2: T0 + 0.6}, SETTINGS).to_pylist()
    assert [row["minor_planet"] for row in rows] == ["(0) Planet", None]
    assert rows[0]["minor_planet_separation_arcsec"] == pytest.approx(0.5, abs=0.01)


def galaxies(*rows):
    ra, dec = offset_position(RA, DEC, *np.array([row[:2] for row in rows], dtype=float).T)
    columns = {"ra": ra, "dec": dec}
    names = ("distance_mpc", "distance_error_mpc", "distance_method", "catalogue")
    columns |= {name: [row[2 + k] for row in rows] for k, name in enumerate(names)}
    columns |= {"mag": [None] * len(rows), "radius_arcsec": [None] * len(rows)}
    return make_table(columns, GALAXIES)


def test_the_host_has_the_best_of_the_distances_of_all_catalogues():
    ra, dec = offset_position(RA, DEC, np.array([0.0]), np.array([0.0]))
    host = make_table(
        {
            "ra": ra, "dec": dec, "a_arcsec": [5.0], "b_arcsec": [4.0], "position_angle_deg": [0.0], "mag": [16.0],
            "point_like": [False], "distance_mpc": [None], "distance_error_mpc": [None], "distance_source": [None],
        },
        HOSTS,
    )  # fmt: skip
    known = galaxies(
        (0.5, 0.0, 300.0, 3.0, DistanceMethod.PHOTOMETRIC, "ls_dr10_photoz"),
        (1.0, 0.0, 98.0, 9.0, DistanceMethod.SPECTROSCOPIC, "gladeplus"),
        (0.2, 0.0, 101.0, 4.0, DistanceMethod.SPECTROSCOPIC, "nedlvs"),
        (90.0, 0.0, 500.0, 50.0, DistanceMethod.PHOTOMETRIC, "ls_dr10_photoz"),  # a galaxy that the template lacks
        (90.5, 0.0, 120.0, None, DistanceMethod.SPECTROSCOPIC, "gladeplus"),
    )
    hosts = add_distances(host, known, SETTINGS).to_pylist()
    assert [row["distance_mpc"] for row in hosts] == [101.0, 120.0]
    assert [row["distance_source"] for row in hosts] == ["nedlvs, spectroscopic", "gladeplus, spectroscopic"]
    table = match_hosts(candidates([(3, 0), (90, 1)]), add_distances(host, known, SETTINGS), SETTINGS)
    near, far = ranked(table)
    assert (near["host_distance_mpc"], near["host_distance_error_mpc"]) == (101.0, 4.0)
    assert near["host_distance_source"] == "nedlvs, spectroscopic"
    assert near["loglr_distance"] > 1.0
    assert "host at 101 ± 4 Mpc (nedlvs, spectroscopic)" in parts_in_words(near, T0)["distance"]
    assert far["host_distance_source"] == "gladeplus, spectroscopic"


def test_without_catalogues_nothing_changes():
    table = candidates([(0, 0)])
    assert match_known_sources(table, {}, LISTS, SETTINGS).equals(table)
    assert match_known_sources(table, {"tns": KNOWN_SOURCES.empty_table()}, LISTS, SETTINGS).equals(table)
    assert match_minor_planets(table, predicted((500.0, 0.0, 510.0, 0.0)), {1: T0 + 0.5, 2: T0 + 0.6}, SETTINGS).equals(
        table
    )
    empty = table.slice(0, 0)
    assert match_known_sources(empty, {"tns": sources((0, 0, {}))}, LISTS, SETTINGS).num_rows == 0
    assert isinstance(match_minor_planets(empty, predicted((0, 0, 0, 0)), {}, SETTINGS), pa.Table)
