import numpy as np
import pyarrow as pa
import pytest

from imaging.candidates.associate import associate_detections
from imaging.candidates.naming import candidate_ids
from imaging.candidates.settings import AssociateSettings
from imaging.schemas.candidates import CandidateFlag
from imaging.schemas.difference import DETECTIONS, DetectionFlag
from imaging.simulation.candidate_night import NIGHT, footprints_of, make_night
from imaging.tables import column, make_table

MJD = 60900.2
SETTINGS = AssociateSettings()
RA, DEC = 150.0, -20.0


def detections(rows):
    """Rows of (exposure, minutes, east arcsec, north arcsec) and optional values, around one place."""
    n = len(rows)
    columns = {name: np.zeros(n) for name in DETECTIONS.names}
    columns |= {"band": np.array(["i"] * n, dtype=object), "position_error_arcsec": np.full(n, 0.08)}
    columns |= {"snr": np.full(n, 20.0), "real_score": np.full(n, 0.9), "mag": np.full(n, 21.0)}
    columns |= {"mag_error": np.full(n, 0.05), "detection_id": np.arange(n) + 100}
    for i, (expnum, minutes, east, north, *rest) in enumerate(rows):
        columns["expnum"][i], columns["mjd"][i] = expnum, MJD + minutes / 1440.0
        columns["ra"][i] = RA + east / 3600.0 / np.cos(np.radians(DEC))
        columns["dec"][i] = DEC + north / 3600.0
        for name, value in (rest[0] if rest else {}).items():
            columns[name][i] = value
    return make_table(
        {
            k: v.astype(int) if k in ("expnum", "night", "ccd", "detection_id", "flags") else v
            for k, v in columns.items()
        },
        DETECTIONS,
    )


def associate(rows, **changes):
    return associate_detections(detections(rows), 20250801, SETTINGS.with_values(**changes)).to_pylist()


def test_one_source_in_three_exposures_is_one_candidate():
    rng = np.random.default_rng(1)
    found = associate([(e, 5 * e, *rng.normal(0, 0.08, 2)) for e in (1, 2, 3)])
    assert len(found) == 1
    assert found[0]["n_detections"] == found[0]["n_exposures"] == 3
    assert found[0]["detection_ids"] == [100, 101, 102]
    assert found[0]["position_error_arcsec"] == pytest.approx(np.hypot(np.hypot(0.08, 0.05) / np.sqrt(3), 0.05))
    assert not found[0]["flags"] & CandidateFlag.SINGLE_DETECTION


def test_a_single_detection_is_a_candidate():
    found = associate([(1, 0, 0, 0)])
    assert found[0]["flags"] == CandidateFlag.SINGLE_DETECTION
    assert found[0]["motion_arcsec_per_hour"] is None


@pytest.mark.parametrize("snr", [3.5, 4.2, 6.0])
def test_the_threshold_of_the_search_is_the_only_one(snr):
    """What the search has detected, at whatever threshold, makes a candidate."""
    assert len(associate([(1, 0, 0, 0, {"snr": snr})])) == 1


def test_the_second_threshold_of_version_0_1_is_read_where_it_changed_nothing():
    assert AssociateSettings.model_validate({"min_snr": 5.0}) == SETTINGS
    with pytest.raises(ValueError, match=r"set detection\.threshold_sigma, the threshold of the search"):
        AssociateSettings.model_validate({"min_snr": 7.0})


def test_two_detections_of_one_exposure_are_two_sources():
    assert len(associate([(1, 0, 0, 0), (1, 0, 0.2, 0)])) == 2


def test_the_global_match_does_not_give_a_detection_to_its_nearest_at_the_cost_of_another():
    # Two sources 0.5 arcsec apart, the second exposure shifted towards one of them: nearest neighbours would give
    # both middle detections to the same source.
    found = associate([(1, 0, 0.0, 0), (1, 0, 0.5, 0), (2, 90, 0.27, 0), (2, 90, 0.75, 0)])
    assert sorted(row["detection_ids"] for row in found) == [[100, 102], [101, 103]]


def test_errors_decide_what_is_the_same_place():
    apart = [(1, 0, 0, 0), (2, 90, 0.9, 0)]
    assert len(associate(apart)) == 2
    wide = [(*row, {"position_error_arcsec": 0.4}) for row in apart]
    assert len(associate(wide)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_rows_does_not_matter(seed):
    night = make_night(11, scale=0.3)
    table = night.detections
    shuffled = table.take(pa.array(np.random.default_rng(seed).permutation(table.num_rows)))
    first, second = (associate_detections(t, NIGHT, SETTINGS, night.footprints) for t in (table, shuffled))
    assert first.equals(second)


@pytest.mark.parametrize("rate", [2.5, 8.0, 30.0, 120.0])
def test_movers_become_one_candidate_with_their_rate(rate):
    rng = np.random.default_rng(2)
    minutes = (0.0, 6.0, 50.0, 75.0)
    rows = [(e, t, rate * t / 60 * 0.6 + rng.normal(0, 0.05), rate * t / 60 * 0.8 + rng.normal(0, 0.05))
            for e, t in enumerate(minutes, start=1)]  # fmt: skip
    found = associate(rows)
    assert len(found) == 1
    assert found[0]["flags"] & CandidateFlag.MOVER
    assert found[0]["motion_arcsec_per_hour"] == pytest.approx(rate, abs=0.3)


def test_a_mover_seen_twice_is_believed_in_an_empty_field_only():
    rows = [(1, 0, 0, 0), (2, 10, 3, 4)]
    assert associate(rows)[0]["flags"] & CandidateFlag.MOVER
    rng = np.random.default_rng(3)
    crowd = [(e, 10 * (e - 1), *rng.uniform(-150, 150, 2)) for e in (1, 2) for _ in range(150)]
    flagged = [row for row in associate(rows + crowd) if row["flags"] & CandidateFlag.MOVER]
    assert len(flagged) < 10


def test_unrelated_detections_do_not_become_movers():
    rng = np.random.default_rng(4)
    rows = [(e, 12 * e, *rng.uniform(-900, 900, 2)) for e in range(1, 6) for _ in range(40)]
    found = associate(rows)
    assert sum(row["n_detections"] >= 3 for row in found) == 0
    assert sum(bool(row["flags"] & CandidateFlag.MOVER) for row in found) <= 6


def test_a_standing_source_is_no_mover():
    rng = np.random.default_rng(5)
    for _ in range(20):
        found = associate([(e, t, *rng.normal(0, 0.09, 2)) for e, t in ((1, 0), (2, 4), (3, 60), (4, 64))])
        assert [row["flags"] for row in found] == [0]
        assert found[0]["motion_arcsec_per_hour"] < 6 * found[0]["motion_error_arcsec_per_hour"]


def test_cuts_and_negative_flags():
    dipole = {"flags": int(DetectionFlag.DIPOLE)}
    negative = {"flags": int(DetectionFlag.NEGATIVE), "snr": -9.0}
    rows = [(1, 0, 0, 0), (2, 60, 0, 0, negative), (1, 0, 60, 0, dipole), (1, 0, -60, 0, {"real_score": 0.05})]
    rows += [(2, 60, 90, 0, {"real_score": 0.01}), (2, 60, 120, 0, {"flags": int(DetectionFlag.NEAR_STAR)})]
    found = associate(rows)
    assert len(found) == 2
    by_id = {row["detection_ids"][0]: row["flags"] for row in found}
    assert by_id[100] == CandidateFlag.SINGLE_DETECTION | CandidateFlag.NEGATIVE
    assert by_id[105] == CandidateFlag.SINGLE_DETECTION


def test_bands_magnitudes_and_covering_exposures():
    rows = [(1, 0, 0, 0, {"band": "z", "mag": 21.5}), (2, 30, 0, 0, {"band": "g", "mag": 21.0, "real_score": 0.5})]
    footprints = footprints_of(7, "r", MJD, RA - 0.12, DEC, 23.0)
    table = associate_detections(detections(rows), 20250801, SETTINGS, footprints)
    row = table.to_pylist()[0]
    assert (row["bands"], row["mag_first"], row["mag_last"]) == ("g,z", 21.5, 21.0)
    assert row["real_score"] == pytest.approx(0.9)
    assert row["n_exposures"] == 2
    assert row["rank"] is None
    assert row["loglr_skymap"] is None


def test_no_detections_give_no_candidates():
    assert associate([]) == []
    assert associate([(1, 0, 0, 0, {"flags": int(DetectionFlag.DIPOLE)})]) == []


def test_names_come_from_positions():
    names = candidate_ids(np.array([197.4487917, 0.0, 0.0]), np.array([-23.3813889, 0.0, 0.0]))
    assert names == ["GWJ130947.71-232253.0", "GWJ000000.00+000000.0", "GWJ000000.00+000000.0a"]


def test_a_simulated_night_is_put_together():
    night = make_night(12)
    candidates = associate_detections(night.detections, NIGHT, SETTINGS, night.footprints)
    lists = candidates.column("detection_ids").to_pylist()
    sources = [{night.source[i] for i in ids} for ids in lists]
    assert np.mean([len(s) == 1 for s in sources]) > 0.99
    kinds = night.kind_of(candidates)
    movers = (column(candidates, "flags") & int(CandidateFlag.MOVER)) != 0
    asteroids = np.array(kinds) == "asteroid"
    several = column(candidates, "n_detections") >= 3
    assert np.mean(movers[asteroids & several]) > 0.95
    assert np.sum(movers & ~asteroids) <= 5
    split = [s for s in {night.source[i] for ids in lists for i in ids} if sum(s in group for group in sources) > 1]
    standing = [s for s in split if night.kind[next(i for i, t in night.source.items() if t == s)] != "asteroid"]
    assert len(standing) <= 3
