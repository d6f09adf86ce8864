import numpy as np
import pyarrow as pa
import pytest

from imaging.candidates.associate import associate_detections, candidate_table
from imaging.candidates.crossmatch import match_point_sources, match_reference_stars
from imaging.candidates.hosts import add_distances, match_hosts
from imaging.candidates.lightcurve import lightcurve_likelihood
from imaging.candidates.rank import PARTS, ecliptic_latitude_deg, rank_candidates
from imaging.candidates.settings import AssociateSettings, CrossmatchSettings, LightcurveSettings, RankSettings
from imaging.candidates.words import FLAG_WORDS, PART_TITLES, flags_in_words, parts_in_words
from imaging.schemas.candidates import CANDIDATES, CandidateFlag
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.simulation.candidate_night import make_night
from imaging.simulation.candidate_sources import MJD_EVENT, NIGHT
from imaging.skymap.build import gaussian_skymap, skymap_from_flat
from imaging.tables import column

T0 = 60000.0
SKYMAP = gaussian_skymap(60.0, -60.0, 2.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=7)
RANK, LIGHT = RankSettings(), LightcurveSettings()


def candidates(*rows):
    n = len(rows)
    defaults = {
        "ra": 60.0, "dec": -60.0, "position_error_arcsec": 0.05, "n_detections": 2, "n_exposures": 2,
        "mjd_first": T0 + 0.5, "mjd_last": T0 + 0.6, "snr_best": 20.0, "mag_first": 21.0, "mag_last": 21.0,
        "real_score": 0.9, "flags": 0, "motion_arcsec_per_hour": 0.1, "motion_error_arcsec_per_hour": 0.1,
        "host_dlr": np.nan, "host_separation_arcsec": np.nan, "host_mag": np.nan, "host_distance_mpc": np.nan,
        "host_distance_error_mpc": np.nan,
    }  # fmt: skip
    columns = {name: np.array([row.get(name, value) for row in rows]) for name, value in defaults.items()}
    columns["candidate_id"] = [f"C{i}" for i in range(n)]
    columns["bands"] = ["g,i"] * n
    columns["detection_ids"] = [[i, i + 1] for i in range(n)]
    return candidate_table(columns)


def rank(*rows, skymap=SKYMAP, settings=RANK):
    ranked = rank_candidates(candidates(*rows), FORCED_PHOTOMETRY.empty_table(), skymap, T0, settings, LIGHT)
    order = np.argsort(ranked.column("candidate_id").to_pylist())
    return ranked, ranked.take(pa.array(order)).to_pylist()


@pytest.mark.parametrize(
    ("part", "better", "worse"),
    [
        ("skymap", {}, {"dec": -55.0}),
        ("distance", {"host_distance_mpc": 108.0}, {}),
        ("distance", {}, {"host_distance_mpc": 700.0}),
        ("distance", {"host_mag": 15.0, "host_dlr": 1.0}, {"host_mag": 22.0, "host_dlr": 1.0}),
        ("real", {"real_score": 0.9}, {"real_score": 0.2}),
        ("real", {}, {"flags": int(CandidateFlag.NEAR_STAR)}),
        ("host", {"host_dlr": 1.5, "host_separation_arcsec": 3.0}, {}),
        ("host", {}, {"host_dlr": 0.1, "host_separation_arcsec": 0.2, "flags": int(CandidateFlag.NUCLEAR)}),
        ("time", {}, {"mjd_first": T0 + 8.0}),
        ("time", {}, {"mjd_first": T0 - 1.0}),
        ("history", {}, {"flags": int(CandidateFlag.ON_STAR)}),
        ("history", {"flags": int(CandidateFlag.ON_POINT_SOURCE)}, {"flags": int(CandidateFlag.KNOWN_VARIABLE)}),
        ("history", {}, {"flags": int(CandidateFlag.NEGATIVE)}),
        ("motion", {}, {"motion_arcsec_per_hour": 20.0}),
        ("motion", {}, {"flags": int(CandidateFlag.MOVER)}),
    ],
)
def test_each_part_says_what_it_should_and_decides_the_rank(part, better, worse):
    ranked, (first, second) = rank(better, worse)
    assert first[f"loglr_{part}"] > second[f"loglr_{part}"] + 0.2
    others = [name for name in PARTS if name != part]
    if part not in ("skymap",) and not (set(better) | set(worse)) & {"host_dlr"}:
        assert [first[f"loglr_{n}"] for n in others] == [second[f"loglr_{n}"] for n in others]
    assert first["rank"] == 1
    assert ranked.column("candidate_id")[0].as_py() == "C0"


def test_the_score_is_the_weighted_sum_of_the_parts():
    settings = RankSettings(weight_real=2.0, weight_time=0.0)
    _, rows = rank({"real_score": 0.3}, {"mjd_first": T0 + 9.0}, settings=settings)
    weights = {name: getattr(settings, f"weight_{name}") for name in PARTS}
    for row in rows:
        assert row["rank_score"] == pytest.approx(sum(weights[n] * row[f"loglr_{n}"] for n in PARTS), abs=1e-4)
    assert rows[1]["rank"] == 1


def test_no_part_leaves_its_bounds():
    _, rows = rank({"dec": 60.0, "mjd_first": T0 - 50.0, "flags": int(CandidateFlag.MOVER)}, {"host_distance_mpc": 3.0})
    for row in rows:
        parts = [row[f"loglr_{name}"] for name in PARTS]
        assert RANK.floor <= min(parts)
        assert max(parts) <= RANK.ceiling


def test_flags_of_the_event_are_renewed():
    stale = int(CandidateFlag.OUTSIDE_MAP | CandidateFlag.BEFORE_EVENT | CandidateFlag.NUCLEAR)
    _, rows = rank({"flags": stale}, {"dec": -30.0}, {"mjd_first": T0 - 2.0})
    flags = [CandidateFlag(row["flags"]) for row in rows]
    assert flags == [CandidateFlag.NUCLEAR, CandidateFlag.OUTSIDE_MAP, CandidateFlag.BEFORE_EVENT]
    assert rows[1]["credible_level"] == 1.0


def test_a_single_detection_is_an_asteroid_in_the_ecliptic_only():
    single = {"motion_arcsec_per_hour": np.nan, "motion_error_arcsec_per_hour": np.nan}
    assert abs(ecliptic_latitude_deg(np.array([0.0]), np.array([0.0]))[0]) < 1e-9
    assert ecliptic_latitude_deg(np.array([90.0]), np.array([0.0]))[0] == pytest.approx(-23.44, abs=0.01)
    _, rows = rank(single | {"ra": 0.0, "dec": 0.0}, single)
    assert rows[0]["loglr_motion"] < -1.5
    assert rows[1]["loglr_motion"] > -0.1


def test_a_map_without_distance_still_ranks():
    flat = skymap_from_flat(np.full(48, 1 / 48), nested=True)
    _, rows = rank({"host_distance_mpc": 100.0}, {}, skymap=flat)
    assert rows[0]["loglr_distance"] == rows[1]["loglr_distance"] == 0.0
    assert rows[0]["distance_mean_mpc"] is None
    assert np.isfinite(rows[0]["rank_score"])


def test_re_ranking_forgets_the_old_map():
    table = candidates({}, {"dec": -58.0})
    first = rank_candidates(table, FORCED_PHOTOMETRY.empty_table(), SKYMAP, T0, RANK, LIGHT)
    moved = gaussian_skymap(60.0, -58.0, 1.0, distance_mpc=50.0, distance_sigma_mpc=10.0, order=8)
    again = rank_candidates(first, FORCED_PHOTOMETRY.empty_table(), moved, T0, RANK, LIGHT)
    fresh = rank_candidates(table, FORCED_PHOTOMETRY.empty_table(), moved, T0, RANK, LIGHT)
    assert again.equals(fresh)
    assert again.column("candidate_id").to_pylist() == ["C1", "C0"]


def test_nothing_to_rank():
    empty = CANDIDATES.empty_table()
    assert rank_candidates(empty, FORCED_PHOTOMETRY.empty_table(), SKYMAP, T0, RANK, LIGHT).num_rows == 0


def whole_night(seed):
    night = make_night(seed)
    settings = CrossmatchSettings()
    table = associate_detections(night.detections, NIGHT, AssociateSettings(), night.footprints, night.fakes)
    hosts = add_distances(night.hosts, night.galaxies, settings)
    table = match_point_sources(match_reference_stars(table, night.stars, MJD_EVENT, settings), hosts, settings)
    table = match_hosts(table, hosts, settings)
    return night, table, night.forced(table)


def test_the_kilonova_leads_the_list_and_evidence_can_be_kept():
    ranks = []
    for seed in range(8):
        night, table, forced = whole_night(seed)
        likelihood = lightcurve_likelihood(forced, table.column("candidate_id"), MJD_EVENT, LIGHT)
        ranked = rank_candidates(table, forced, night.skymap, MJD_EVENT, RANK, LIGHT, likelihood)
        ranks.append(night.kind_of(ranked).index("kilonova") + 1)
        if seed == 0:
            assert ranked.equals(rank_candidates(table, forced, night.skymap, MJD_EVENT, RANK, LIGHT))
            assert column(ranked, "rank").tolist() == list(range(1, ranked.num_rows + 1))
            assert np.all(np.diff(column(ranked, "rank_score")) <= 0)
    # the rate over 200 seeds is 95 % first and all within the first three; the bench prints it
    assert max(ranks) <= 3
    assert ranks.count(1) >= 6


def test_words_for_every_flag_and_part():
    assert set(FLAG_WORDS) == set(CandidateFlag)
    assert tuple(PART_TITLES) == PARTS
    assert flags_in_words(int(CandidateFlag.MOVER | CandidateFlag.NEGATIVE)) == [
        "moves within the night: an asteroid",
        "fainter than in the template in some exposure",
    ]
    row = {"host_dlr": 1.5, "host_separation_arcsec": 3.0, "host_mag": 15.0, "host_distance_mpc": 95.0}
    _, rows = rank(row, {"mjd_first": T0 - 1.0, "dec": 50.0, "real_score": np.nan})
    words = parts_in_words(rows[0], T0)
    assert tuple(words) == PARTS
    assert words["host"] == "3.0 arcsec, 1.5 light radii, from a galaxy of magnitude 15.0"
    assert words["time"] == "first detected 0.50 d after the merger"
    assert words["distance"].startswith("host at 95 Mpc; the map says 1")
    assert words["lightcurve"] == "no photometry after the merger"
    other = parts_in_words(rows[1], T0)
    assert other["skymap"] == "the map has no probability here"
    assert other["real"] == "no score"
    assert other["time"].endswith("before the merger")
    assert other["host"] == "no host within reach"


def test_a_residual_on_a_near_galaxy_is_no_news():
    nuclear = {"host_dlr": 0.1, "host_separation_arcsec": 0.1, "flags": int(CandidateFlag.NUCLEAR)}
    off = {"host_dlr": 1.5, "host_separation_arcsec": 6.0}
    near, bright = {"host_distance_mpc": 100.0}, {"host_mag": 15.0}
    _, (core, disc, bright_core, bright_disc) = rank(nuclear | near, off | near, nuclear | bright, off | bright)
    assert disc["loglr_distance"] > core["loglr_distance"] + 2.0, "every shell sends the same light"
    assert core["loglr_distance"] > 0.5, "a distance that fits still speaks for it"
    assert bright_disc["loglr_distance"] > bright_core["loglr_distance"] + 2.0
