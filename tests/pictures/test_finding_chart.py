"""Finding charts: directions and scale are those of the sky, and the candidate is between the marks."""

import io

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from PIL import Image

from imaging.pictures import finding_chart as charts
from imaging.pictures.compass import Compass
from imaging.pictures.stamps import panel_pictures

RA, DEC = 197.44875, -23.38389


def keywords(angle_deg, mirrored):
    """Return a tangent plane with north turned from +y by an angle."""
    scale = 0.2637 / 3600
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    matrix = scale * np.array([[cos, sin], [-sin, cos]]) @ np.diag([1.0 if mirrored else -1.0, 1.0])
    known = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": RA, "CRVAL2": DEC, "CRPIX1": 91.0, "CRPIX2": 91.0}
    return known | {f"CD{i + 1}_{j + 1}": matrix[i, j] for i in range(2) for j in range(2)}


@pytest.mark.parametrize(("angle", "mirrored"), [(0.0, False), (90.0, False), (200.0, True), (300.0, True)])
def test_north_is_up_and_all_places_agree_with_astropy(angle, mirrored, monkeypatch):
    """Sources drawn where astropy sees them in the image lie in the chart where the arrows say."""
    header = keywords(angle, mirrored)
    wcs, here = WCS(header), SkyCoord(RA, DEC, unit="deg")
    image = np.random.default_rng(1).normal(size=(181, 181))
    image[:20] = np.nan
    for towards, flux in ((0.0, 1e4), (90.0, 2e4)):
        x, y = wcs.world_to_pixel(here.directional_offset_by(towards * u.deg, 15 * u.arcsec))
        image[int(np.rint(y)), int(np.rint(x))] = flux
    figures = []
    monkeypatch.setattr(charts, "to_png", lambda figure: figures.append(figure) or b"")
    charts.finding_chart(image, Compass.of(header), RA, DEC, title="GWJ1", about="DECam i")
    (axes,) = figures[0].axes
    shown = np.nan_to_num(np.asarray(axes.images[0].get_array().filled(np.nan)))
    places = {text.get_text(): np.array(text.get_position()) for text in axes.texts if text.get_text() in "NE"}
    origin = np.array([0.86 * 181, 0.82 * 181])
    for letter, flux in (("N", 1e4), ("E", 2e4)):
        y, x = (int(v[0]) for v in np.nonzero(shown == flux))
        source, arrow = np.array([x - 90.0, y - 90.0]), places[letter] - origin
        assert np.hypot(*source) * 0.2637 == pytest.approx(15.0, abs=0.2)
        assert source / np.hypot(*source) == pytest.approx(arrow / np.hypot(*arrow), abs=0.02), letter
    north, east = places["N"] - origin, places["E"] - origin
    assert north[1] > abs(north[0]), "up"
    assert -east[0] > abs(east[1]), "left"


@pytest.mark.parametrize(("angle", "mirrored"), [(0.0, True), (100.0, False), (190.0, False), (280.0, True)])
def test_thumbnails_have_north_up_and_east_left(angle, mirrored):
    header = keywords(angle, mirrored) | {"CRPIX1": 26.0, "CRPIX2": 26.0}
    wcs, here = WCS(header), SkyCoord(RA, DEC, unit="deg")
    rng = np.random.default_rng(2)
    for towards, side in ((0.0, (1, -1)), (90.0, (0, -1))):
        stamps = rng.normal(size=(3, 51, 51))
        x, y = wcs.world_to_pixel(here.directional_offset_by(towards * u.deg, 4 * u.arcsec))
        stamps[0, int(np.rint(y)), int(np.rint(x))] = 1e4
        picture = panel_pictures(*stamps, Compass.of(header))["SEARCH"]
        shown = np.asarray(Image.open(io.BytesIO(picture)))
        assert shown.shape == (51, 51)
        row, column = np.unravel_index(np.argmax(shown), shown.shape)
        away = (column - 25, row - 25)
        along, sign = side
        assert away[along] * sign == pytest.approx(4 / 0.2637, abs=1.5), "rows of a picture run downwards"
        assert abs(away[1 - along]) < 5


def test_marks_and_scale(monkeypatch):
    figures = []
    monkeypatch.setattr(charts, "to_png", lambda figure: figures.append(figure) or b"")
    charts.finding_chart(
        np.full((181, 181), np.nan), Compass.of(keywords(0, False)), RA, DEC, title="GWJ1", about="DECam i"
    )
    (axes,) = figures[0].axes
    lines = [line.get_xydata() for line in axes.lines]
    bar = max(np.hypot(*(line[1] - line[0])) for line in lines)
    assert bar * 0.2637 == pytest.approx(charts.SCALE_ARCSEC, rel=1e-3)
    nearest = min(np.hypot(*(line - (90.0, 90.0)).T).min() for line in lines)
    assert nearest * 0.2637 == pytest.approx(charts.MARK_ARCSEC[0], rel=1e-3)
    assert "13:09:47.70" in figures[0].get_suptitle()
    assert "-23:23:02.0" in figures[0].get_suptitle()
