"""The tables of detections and fakes, against astropy's coordinates and magnitudes."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from imaging.difference.detect import DifferenceDetections
from imaging.difference.fakes import Fakes
from imaging.difference.labelled import NOT_KEPT, detections_of_table, labels_by_detection
from imaging.difference.settings import DetectionSettings
from imaging.difference.tables import detections_table, fakes_table
from imaging.schemas.difference import DETECTIONS, FAKES
from tests.difference.drawn import IDENTITY, difference_of, measurements

DIFFERENCE = difference_of(np.zeros((200, 180)), shift_error=0.04)
WORLD = WCS(DIFFERENCE.search.wcs.to_header())
X, Y = np.array([10.25, 90.5, 170.75]), np.array([180.5, 20.125, 99.0])
COLUMNS = {
    "flux": [4e3, -2e3, 2e4],
    "flux_error": [200.0, 150.0, 400.0],
    "x_error": [0.03, 0.1, 0.0],
    "y_error": [0.05, 0.2, 0.0],
    "chi2": [1.0, 1.5, 2.0],
    "a_image": [1.5, 2.0, 2.5],
    "b_image": [1.0, 1.25, 1.5],
    "spread": [0.0, 0.25, -0.5],
    "spread_error": [0.125, 0.25, 0.5],
    "negative_fraction": [0.0, 0.125, 0.25],
    "masked_fraction": [0.5, 0.25, 0.0],
    "trail_length": [0.0, 0.0, 24.0],
    "trail_angle": [0.0, 0.0, 30.0],
    "trail_length_error": [0.0, 0.0, 0.5],
    "trail_angle_error": [0.0, 0.0, 1.5],
}


def found():
    m = measurements(3, x=X, y=Y, **COLUMNS)
    rest = ([20.0, -13.0, 50.0], [0.0, 0.5, 0.25], [0.0, 1e3, -5.0], [np.nan, 12.5, 60.0], [1.5, 2.0, 0.5])
    return DifferenceDetections(m, *(np.array(v) for v in rest), np.array([0, 1, 4], np.int32))


@pytest.fixture(scope="module")
def table():
    score = np.array([0.875, 0.25, 0.5])
    DIFFERENCE.search.pixels.header["EXPTIME"] = 90.0
    return detections_table(DIFFERENCE, found(), score, IDENTITY, DetectionSettings(astrometry_floor_arcsec=0.02))


def test_positions_and_their_errors_are_those_of_the_sky(table):
    assert table.schema.equals(DETECTIONS)
    rows = table.to_pydict()
    ra, dec = WORLD.all_pix2world(X, Y, 0)
    assert rows["ra"] == pytest.approx(ra, abs=1e-9) and rows["dec"] == pytest.approx(dec, abs=1e-9)
    east, north = (np.array(WORLD.all_pix2world(X + dx, Y + dy, 0)) - (ra, dec) for dx, dy in ((1, 0), (0, 1)))
    flat = np.array([np.cos(np.radians(dec)), np.ones(3)])
    pixel = 3600 * np.sqrt(np.abs(np.linalg.det(np.moveaxis([east * flat, north * flat], 2, 0))))
    centroid = np.sqrt((np.array(COLUMNS["x_error"]) ** 2 + np.array(COLUMNS["y_error"]) ** 2) / 2 + 0.04**2)
    assert rows["position_error_arcsec"] == pytest.approx(np.hypot(centroid * pixel, 0.02), rel=2e-3)


def test_length_and_angle_of_a_trail_are_those_of_its_ends_on_the_sky(table):
    half = 12.0 * np.array([np.cos(np.radians(30.0)), np.sin(np.radians(30.0))])
    first, last = (
        SkyCoord(*WORLD.all_pix2world(X[2] + k * half[0], Y[2] + k * half[1], 0), unit="deg") for k in (-1, 1)
    )
    rows = table.to_pydict()
    assert rows["trail_arcsec"] == [None, None, pytest.approx(first.separation(last).arcsec, rel=1e-5)]
    assert rows["trail_angle_deg"] == [None, None, pytest.approx(first.position_angle(last).deg % 180.0, abs=0.01)]
    assert rows["trail_error_arcsec"] == [None, None, pytest.approx(rows["trail_arcsec"][2] * 0.5 / 24.0, rel=2e-3)]
    assert rows["trail_angle_error_deg"] == [None, None, 1.5]
    assert rows["trail_arcsec_per_hour"] == [None, None, pytest.approx(rows["trail_arcsec"][2] * 3600.0 / 90.0)]


def test_magnitudes_are_those_of_astropy_and_negative_fluxes_have_none(table):
    rows = table.to_pydict()
    zero = (31.4 * u.ABmag).to(u.nJy)
    for k in (0, 2):
        flux, error = COLUMNS["flux"][k], COLUMNS["flux_error"][k]
        assert rows["mag"][k] == pytest.approx((flux * zero).to(u.ABmag).value, abs=1e-5)
        assert rows["mag_error"][k] == pytest.approx(2.5 / np.log(10) * error / flux, rel=1e-6)
    assert rows["mag"][1] is None and rows["mag_error"][1] is None
    assert rows["star_distance_arcsec"] == [None, 12.5, 60.0]
    assert rows["detection_id"] == [411000001, 411000002, 411000003]
    assert rows["snr"] == [20.0, -13.0, 50.0] and rows["real_score"] == [0.875, 0.25, 0.5]
    assert rows["mjd"] == [61041.1] * 3 and rows["flags"] == [0, 1, 4]
    assert (rows["chi2_psf"], rows["spread_model"]) == (COLUMNS["chi2"], COLUMNS["spread"])


def test_the_table_read_back_is_the_record(table):
    again, right = detections_of_table(table), found()
    for name in ("score", "dipole_fraction", "template_flux", "star_distance_arcsec", "pixel_excess", "flags"):
        assert np.array_equal(getattr(again, name), getattr(right, name), equal_nan=True), name
    for name in ("x", "y", *COLUMNS):
        read = getattr(again.measured, name)
        assert np.isnan(read).all() if name in NOT_KEPT else np.array_equal(read, getattr(right.measured, name))


def test_fakes_have_what_became_of_them_and_the_brightness_of_their_host():
    n, match = 4, np.array([2, -1, 0, 1])
    host, light = np.array([True, True, True, False]), np.array([40.0, 25.0, -3.0, 99.0])
    x, y = np.append(X, 50.0), np.append(Y, 60.0)
    snr, good = np.full(n, 9.0), np.array([True, False, True, True])
    fakes = Fakes(x, y, np.full(n, 22.0), np.full(n, 5754.4), snr, host, light, good, match, found())
    table = fakes_table(DIFFERENCE, fakes, np.array([0.25, 0.5, 0.75]), IDENTITY)
    assert table.schema.equals(FAKES)
    rows = table.to_pydict()
    assert rows["ra"] == pytest.approx(WORLD.all_pix2world(x, y, 0)[0], abs=1e-9)
    assert rows["snr"] == [50.0, None, 20.0, -13.0] and rows["real_score"] == [0.75, None, 0.25, 0.5]
    assert rows["flux_measured"] == [2e4, None, 4e3, -2e3] and rows["flux_error"] == [400.0, None, 200.0, 150.0]
    assert rows["flags"] == [4, None, 0, 1]
    assert rows["detected"] == [True, False, True, True] and rows["passed"] == [False, False, True, False]
    area = DIFFERENCE.pixel_scale_arcsec**2
    expected = (np.array([40.0, 25.0]) / area * (31.4 * u.ABmag).to(u.nJy)).to(u.ABmag).value
    assert rows["host_surface_brightness"][:2] == pytest.approx(expected, abs=1e-4)
    assert rows["host_surface_brightness"][2:] == [None, None]
    assert rows["fake_id"] == [1, 2, 3, 4] and rows["on_good_pixels"] == good.tolist()


def test_the_identity_has_the_types_of_every_table():
    columns = replace(IDENTITY, ccd=61).columns(2)
    assert {k: v.dtype.name for k, v in columns.items() if k != "band"} == {
        "expnum": "int64",
        "night": "int32",
        "ccd": "int16",
    }
    assert columns["band"] == ["r", "r"] and columns["ccd"].tolist() == [61, 61]


def test_opinions_of_several_detections_hold_for_each():
    def opinion(label, moment, *ids):
        return pa.table({"label": [label], "marked_at": [moment], "detection_ids": [list(ids)]})

    tables = [opinion("bogus", 3, 1, 2), opinion("real", 1, 2, 3), opinion("interesting", 2, 3), opinion("real", 2, 4)]
    assert labels_by_detection(tables) == {1: False, 2: False, 4: True}
    assert labels_by_detection([]) == {}
