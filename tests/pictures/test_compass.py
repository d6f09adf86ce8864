"""North, east and scale on stamps, against astropy's coordinates."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from imaging.detector.distortion import seed_wcs
from imaging.pictures.compass import ARROW, INSET, LETTER, Compass, draw_bar, draw_compass
from imaging.wcs.header import stamp_keywords


def keywords(angle_deg, *, flipped):
    """Coordinates of 0.25 arcsec per pixel, north at an angle from y, east to the left or, flipped, to the right."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    east = np.array([c, s]) if flipped else np.array([-c, -s])
    cd = 0.25 / 3600 * np.array([east, [-s, c]])
    names = {f"CD{i + 1}_{j + 1}": float(cd[i, j]) for i in range(2) for j in range(2)}
    plain = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg", "CRVAL1": 190.0}
    return plain | {"CRVAL2": -30.0, "CRPIX1": 26.0, "CRPIX2": 26.0} | names


CASES = [keywords(a, flipped=f) for a in (0.0, 37.0, 135.0, 250.0) for f in (False, True)]
CASES.append(stamp_keywords(seed_wcs(27, 190.0, -30.0), 1000.0, 2000.0, 51))


@pytest.mark.parametrize("header", CASES)
def test_directions_and_scale_are_those_of_astropy(header):
    compass = Compass.of(header)
    centre = SkyCoord(*WCS(header).all_pix2world(25.0, 25.0, 0), unit="deg")
    for angle, vector in ((0.0, compass.north), (90.0, compass.east)):
        away = centre.directional_offset_by(angle * u.deg, 2.0 * u.arcsec)
        x, y = WCS(header).all_world2pix(away.ra.deg, away.dec.deg, 0)
        length = 2.0 / compass.pixel_scale_arcsec
        assert (x - 25.0, y - 25.0) == pytest.approx((vector[0] * length, vector[1] * length), abs=0.03)


@pytest.mark.parametrize("header", CASES)
@pytest.mark.parametrize("zoom", [1, 4])
def test_arrows_point_north_and_east_within_the_stamp(header, zoom):
    compass, picture = Compass.of(header), np.zeros((51 * zoom, 51 * zoom), np.uint8)
    draw_compass(picture, compass, zoom)
    y, x = np.nonzero(picture[::-1])
    assert x.size and max(x.max(), y.max()) < 24 * zoom, "clear of the centre"
    start = np.array([(v + INSET) * zoom for v in compass.start(LETTER)])
    for vector in (compass.north, compass.east):
        end = start + np.array(vector) * ARROW * zoom
        assert np.hypot(x - end[0], y - end[1]).min() <= 1.0
        half = start + np.array(vector) * ARROW * zoom / 2
        assert np.hypot(x - half[0], y - half[1]).min() <= 1.0


def test_the_bar_is_five_arcseconds_long():
    compass, picture = Compass.of(keywords(0.0, flipped=False)), np.zeros((204, 204, 3), np.uint8)
    draw_bar(picture, compass, 4, (230, 159, 0))
    row = picture[-9, :, 0]
    assert np.count_nonzero(row) == round(5.0 / 0.25 * 4)
    assert tuple(picture[-9, 150]) == (230, 159, 0)


def test_without_coordinates_there_is_no_compass():
    assert Compass.of({}) is None
