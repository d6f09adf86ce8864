"""Trails of one mover in several exposures are linked by place, direction and rate; those of other things are not."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from imaging.candidates.associate import associate_detections
from imaging.candidates.settings import AssociateSettings
from imaging.candidates.words import flags_in_words, parts_in_words
from imaging.schemas.candidates import CandidateFlag
from imaging.schemas.difference import DETECTIONS, DetectionFlag
from imaging.tables import make_table

MJD, HOURS = 60900.2, 90.0 / 3600.0
PIXEL = 0.263
OF_A_TRAIL = int(DetectionFlag.STREAK | DetectionFlag.NOT_PSF)
TRAIL_ERROR, ANGLE_ERROR, PLACE_ERROR = 0.15, 2.0, 0.07


def seen(rows):
    """Detections: (exposure, minutes, place, trail in arcsec or None, its position angle, optional values)."""
    table = {name: [0] * len(rows) for name in DETECTIONS.names}
    for i, (expnum, minutes, place, length, angle, *rest) in enumerate(rows):
        row = {"detection_id": expnum * 10_000_000 + i, "expnum": expnum, "mjd": MJD + minutes / 1440.0, "band": "i"}
        row |= {"ra": place.ra.deg, "dec": place.dec.deg, "position_error_arcsec": PLACE_ERROR, "snr": 20.0}
        row |= {"mag": 20.5, "mag_error": 0.05, "real_score": 0.9}
        row |= dict.fromkeys(name for name in DETECTIONS.names if name.startswith("trail_"))
        if length is not None:
            row |= {"trail_arcsec": length, "trail_error_arcsec": TRAIL_ERROR, "trail_angle_deg": angle % 180.0}
            row |= {"trail_angle_error_deg": ANGLE_ERROR, "trail_arcsec_per_hour": length / HOURS}
            row |= {"flags": OF_A_TRAIL, "real_score": 0.01}
        for name, value in (row | (rest[0] if rest else {})).items():
            table[name][i] = value
    return make_table(table, DETECTIONS)


def associated(rows):
    return associate_detections(seen(rows), 20250801, AssociateSettings()).to_pylist()


def mover(pixels, minutes, angle=63.0, start=(150.0, -20.0), seed=1, **changes):
    """Rows of a mover with noise: trails of ``pixels`` length in exposures at some minutes."""
    rng, first = np.random.default_rng(seed), SkyCoord(*start, unit="deg")
    rate, rows = pixels * PIXEL / HOURS, []
    for expnum, minute in enumerate(minutes, start=1):
        place = first.directional_offset_by(angle * u.deg, rate * minute / 60.0 * u.arcsec)
        turn = place.position_angle(first).deg - 180.0 if minute else angle
        place = place.spherical_offsets_by(*rng.normal(0.0, PLACE_ERROR, 2) * u.arcsec)
        length = pixels * PIXEL + rng.normal(0.0, TRAIL_ERROR)
        rows.append((expnum, minute, place, length, turn + rng.normal(0.0, ANGLE_ERROR), changes))
    return rows


@pytest.mark.parametrize("pixels", [8.0, 12.0, 20.0, 60.0])
@pytest.mark.parametrize(
    ("minutes", "start"), [((0, 10), (150, -20)), ((0, 9, 45), (359.999, 60)), ((0, 50), (40, 85))]
)
def test_a_fast_mover_is_one_candidate_with_rate_and_trail(pixels, minutes, start):
    rate = pixels * PIXEL / HOURS
    for seed in range(5):
        found = associated(mover(pixels, minutes, 40.0 + 77.0 * seed, start, seed))
        assert len(found) == 1 and found[0]["n_detections"] == len(minutes)
        assert found[0]["flags"] & CandidateFlag.MOVER
        error = found[0]["motion_error_arcsec_per_hour"]
        assert abs(found[0]["motion_arcsec_per_hour"] - rate) < 4.0 * error and error < 1.0
        assert found[0]["trail_arcsec"] == pytest.approx(pixels * PIXEL, abs=5.0 * TRAIL_ERROR)


def test_a_linked_trail_is_told_as_a_mover():
    row = associated(mover(20.0, (0, 10)))[0]
    texts = dict.fromkeys(("reported_as", "known_as", "minor_planet", "lightcurve_class", "host_mag"))
    words = parts_in_words(row | texts | {"skymap_density": 0.0}, MJD)["motion"]
    rate, error = row["motion_arcsec_per_hour"], row["motion_error_arcsec_per_hour"]
    assert words == f"{rate:.0f} ± {error:.2g} arcsec per hour, a trail of {row['trail_arcsec']:.1f} arcsec"
    assert flags_in_words(row["flags"])[0] == "moves within the night: an asteroid"


@pytest.mark.parametrize(
    "change",
    [{"trail_angle_deg": 150.0}, {"trail_arcsec": 3.5, "trail_arcsec_per_hour": 3.5 / HOURS}, {"mag": 22.5},
     {"trail_arcsec_per_hour": 1.6 * 20.0 * PIXEL / HOURS}, {"flags": OF_A_TRAIL | int(DetectionFlag.DIPOLE)},
     {"flags": OF_A_TRAIL | int(DetectionFlag.NEGATIVE)}, {"trail_arcsec_per_hour": None}],
)  # fmt: skip
def test_a_trail_that_differs_in_direction_length_rate_or_brightness_is_not_linked(change):
    first, second = mover(20.0, (0, 10))
    assert len(associated([first, second])) == 1
    assert associated([first, (*second[:5], change)]) == []


def test_a_trail_elsewhere_than_the_first_predicts_is_not_linked():
    first, second = mover(20.0, (0, 10))
    for east, north in ((8.0, 0.0), (0.0, 8.0), (-70.0, 0.0)):
        place = second[2].spherical_offsets_by(east * u.arcsec, north * u.arcsec)
        assert associated([first, (*second[:2], place, *second[3:])]) == []


def test_a_trail_and_a_point_source_of_a_slower_mover_are_linked():
    """Of a motion by one FWHM, one exposure may show a trail and another, of worse seeing, a point source."""
    first, second = mover(5.0, (0, 10))
    found = associated([first, (*second[:3], None, 0.0)])
    assert [row["n_detections"] for row in found] == [2]
    assert found[0]["flags"] & CandidateFlag.MOVER


def test_trails_that_stay_where_they_are_and_pieces_on_one_line_are_no_movers():
    """What is left of spikes has pieces on lines; those of other exposures lie at the same or at other places."""
    star, rng = SkyCoord(150.0, -20.0, unit="deg"), np.random.default_rng(2)
    for _ in range(8):
        rows = []
        for expnum, minutes in ((1, 0.0), (2, 10.0), (3, 40.0)):
            for angle, distance in [
                (45.0, 20.0),
                (135.0, 30.0),
                *((a, rng.uniform(10, 80)) for a in 3 * (45.0, 135.0)),
            ]:
                place = star.directional_offset_by(angle * u.deg, distance * u.arcsec)
                rows.append((expnum, minutes, place, rng.uniform(1.5, 6.0), angle + rng.normal(0.0, ANGLE_ERROR)))
        assert associated(rows) == []


def test_glints_are_no_movers_and_leave_a_transient_as_it_is():
    """Thirty fields of twenty trails in each of three exposures, more than ten times those of a busy sky."""
    centre, n_movers = SkyCoord(150.0, -20.0, unit="deg"), 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rows = [(e, 12.0 * e, centre.spherical_offsets_by(*rng.normal(0.0, 0.05, 2) * u.arcsec), None, 0.0)
                for e in (1, 2, 3)]  # fmt: skip
        for expnum in (1, 2, 3):
            for east, north in rng.uniform(-270.0, 270.0, (20, 2)):
                place = centre.spherical_offsets_by(east * u.arcsec, north * u.arcsec)
                rows.append((expnum, 12.0 * expnum, place, rng.uniform(1.0, 5.0), rng.uniform(0.0, 180.0)))
        found = associated(rows)
        standing = [row for row in found if not row["flags"]]
        assert [row["n_detections"] for row in standing] == [3]
        n_movers += len(found) - 1
    assert n_movers <= 3
