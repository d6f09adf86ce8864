"""Tangent planes, separations, footprints and foreign projections against astropy.wcs and astropy.coordinates."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.detector.ccds import SCIENCE_CCDS
from imaging.detector.distortion import seed_wcs
from imaging.errors import InputError
from imaging.wcs.foreign import wcs_of_header
from imaging.wcs.header import corner_keywords
from imaging.wcs.sphere import (
    footprint,
    inside_convex,
    offset_position,
    plane_overlap,
    polygon_centre,
    separation_deg,
    unit_vectors,
)
from imaging.wcs.tpv import TpvWcs, plane_to_sky, sky_to_plane, tpv_basis

RNG = np.random.default_rng(5)
RA, DEC = RNG.uniform(0, 360, 200), np.degrees(np.arcsin(RNG.uniform(-1, 1, 200)))
SKY = SkyCoord(RA * u.deg, DEC * u.deg)
SHAPE = (600, 400)


def tangent(ra, dec, projection="TAN", **cards):
    """Return the header of an image of 0.263 arcsec per pixel, turned by 30 degrees."""
    scale, turn = 0.263 / 3600, np.radians(30.0)
    header = fits.Header()
    header["NAXIS"] = 2
    header["CTYPE1"], header["CTYPE2"] = f"RA---{projection}", f"DEC--{projection}"
    header["CRVAL1"], header["CRVAL2"] = ra, dec
    header["CRPIX1"], header["CRPIX2"] = 150.5, 320.25
    header["CD1_1"], header["CD1_2"] = -scale * np.cos(turn), scale * np.sin(turn)
    header["CD2_1"], header["CD2_2"] = scale * np.sin(turn), scale * np.cos(turn)
    header.update(cards)
    return header


def test_unit_vectors_and_separations_are_those_of_astropy():
    assert unit_vectors(RA, DEC) == pytest.approx(SKY.cartesian.xyz.value.T, abs=1e-14)
    found = separation_deg(RA[:100], DEC[:100], RA[100:], DEC[100:])
    assert found == pytest.approx(SKY[:100].separation(SKY[100:]).deg, abs=1e-9)


@pytest.mark.parametrize(("ra", "dec"), [(0.02, -30.0), (359.9, 67.0), (210.0, -89.9)])
def test_the_tangent_plane_is_that_of_astropy(ra, dec):
    wcs = WCS(tangent(ra, dec))
    pixel = RNG.uniform(-2000, 2000, (2, 50))
    sky = wcs.all_pix2world(*pixel, 0)
    xi, eta = wcs.wcs.cd @ (pixel + 1.0 - wcs.wcs.crpix[:, None])
    assert np.stack(sky_to_plane(*sky, ra, dec)) == pytest.approx(np.stack([xi, eta]), abs=1e-11)
    back = SkyCoord(*plane_to_sky(xi, eta, ra, dec), unit="deg")
    assert back.separation(SkyCoord(*sky, unit="deg")).uas.max() < 1.0
    assert back.ra.deg.min() >= 0.0
    # East and north are those of the sky.
    assert sky_to_plane(ra + 0.01, dec, ra, dec)[0] > 0 < sky_to_plane(ra, dec + 0.01, ra, dec)[1]
    assert np.isnan(sky_to_plane(ra + 180.0, -dec, ra, dec)[0])


def test_small_offsets_have_their_length_and_position_angle():
    base = SkyCoord(150.0 * u.deg, 62.0 * u.deg)
    for east, north in ((3.0, 0.0), (0.0, -2.5), (-4.0, 1.0)):
        moved = SkyCoord(*offset_position(150.0, 62.0, east, north), unit="deg")
        assert base.separation(moved).arcsec == pytest.approx(np.hypot(east, north), rel=1e-8)
        assert np.tan(base.position_angle(moved).rad - np.arctan2(east, north)) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("projection", ["TAN", "SIN", "ZEA", "STG", "ARC"])
def test_foreign_projections_are_read_to_a_fiftieth_of_a_pixel(projection):
    header = tangent(80.0, -45.0, projection)
    found, wcs = wcs_of_header(header, SHAPE), WCS(header)
    x, y = RNG.uniform(0, SHAPE[1], 300), RNG.uniform(0, SHAPE[0], 300)
    theirs = SkyCoord(*wcs.all_pix2world(x, y, 0), unit="deg")
    assert SkyCoord(*found.pixel_to_sky(x, y), unit="deg").separation(theirs).arcsec.max() < 0.02 * 0.263
    area = proj_plane_pixel_area(wcs) * 3600**2
    assert found.pixel_area_arcsec2(150.0, 320.0) == pytest.approx(area, rel=1e-4)


def test_sip_distortions_are_followed():
    sip = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 2e-5, "A_1_1": -1e-5, "B_0_2": 3e-5, "B_1_1": 1e-5}
    header = tangent(80.0, -45.0, "TAN-SIP", **sip)
    del header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"]
    header.update({"CDELT1": -7.3e-5, "CDELT2": 7.3e-5, "PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8})
    found, wcs = wcs_of_header(header, SHAPE), WCS(header)
    x, y = RNG.uniform(0, SHAPE[1], 300), RNG.uniform(0, SHAPE[0], 300)
    ours = SkyCoord(*found.pixel_to_sky(x, y), unit="deg")
    assert ours.separation(SkyCoord(*wcs.all_pix2world(x, y, 0), unit="deg")).arcsec.max() < 0.02 * 0.263
    linear = SkyCoord(*wcs.wcs_pix2world(x, y, 0), unit="deg")
    assert ours.separation(linear).arcsec.max() > 0.263  # the distortion is worth more than a pixel


def test_ecliptic_coordinates_are_refused():
    header = tangent(80.0, -45.0, CTYPE1="ELON-TAN", CTYPE2="ELAT-TAN")
    with pytest.raises(InputError, match="celestial coordinates"):
        wcs_of_header(header, SHAPE)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SCIENCE_CCDS), st.floats(0, 360), st.floats(-88, 88), st.integers(0, 1000))
def test_what_lies_inside_a_footprint_lies_on_the_pixels(ccd, ra, dec, seed):
    wcs = seed_wcs(ccd, ra, dec)
    corners = footprint(wcs, 2048, 4096)
    random = np.random.default_rng(seed)
    x, y = random.uniform(-900, 2950, 200), random.uniform(-900, 5000, 200)
    on = (x > -0.5) & (x < 2047.5) & (y > -0.5) & (y < 4095.5)
    # The distortion bends the edges by up to a pixel.
    rim = np.minimum(np.abs(x - 1023.5) - 1024, 2048) ** 2 < 9
    rim |= (np.abs(y - 2047.5) - 2048) ** 2 < 9
    for order in (corners, corners[::-1]):
        assert np.array_equal(inside_convex(order, *wcs.pixel_to_sky(x, y))[~rim], on[~rim])
    centre = SkyCoord(*polygon_centre(corners), unit="deg")
    assert centre.separation(SkyCoord(*wcs.pixel_to_sky(1023.5, 2047.5), unit="deg")).arcsec < 5 * 0.263


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_overlaps_in_the_plane_are_those_of_many_points(seed):
    random = np.random.default_rng(seed)

    def box():
        turn, centre = random.uniform(0, np.pi), random.uniform(-0.5, 0.5, 2)
        half = random.uniform(0.4, 1.2, 2)
        axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half @ axes + centre, axes, half, centre

    (one, axes, half, centre), (two, other_axes, other_half, other_centre) = box(), box()
    points = random.uniform(-1, 1, (4000, 2)) * half @ axes + centre
    share = (np.abs((points - other_centre) @ other_axes.T) <= other_half).all(axis=1).mean()
    error = 5 * np.sqrt(max(share * (1 - share), 1e-3) / 4000)
    for second in (two, two[::-1].copy()):
        assert plane_overlap(one, second) == pytest.approx(share, abs=error)
        assert plane_overlap(one[::-1].copy(), second) == pytest.approx(share, abs=error)


@pytest.mark.parametrize(("ra", "dec"), [(150.0, -30.0), (0.01, 10.0)])
def test_corner_keywords_are_the_places_that_astropy_gives_the_corner_pixels(ra, dec):
    header = tangent(ra, dec)
    keywords = corner_keywords(TpvWcs.from_header(header), SHAPE)
    wcs = WCS(header)
    for number, (x, y) in enumerate(((1, 1), (400, 1), (400, 600), (1, 600)), start=1):
        sky = wcs.pixel_to_world(x - 1, y - 1)
        assert keywords[f"RAC{number}"] == pytest.approx(sky.ra.deg, abs=1e-7)
        assert keywords[f"DECC{number}"] == pytest.approx(sky.dec.deg, abs=1e-7)
    middle = wcs.pixel_to_world(199.0, 299.0)
    assert (keywords["RA_CENT"], keywords["DEC_CENT"]) == pytest.approx((middle.ra.deg, middle.dec.deg), abs=1e-7)
    assert keywords["CROSSRA0"] == ("Y" if ra < 1 else "N")


def test_the_basis_has_the_monomials_of_the_convention_and_a_shift_moves_the_sky():
    basis = tpv_basis(np.array([2.0]), np.array([3.0]))[:, 0]
    assert basis.tolist() == [1, 2, 3, 0, 4, 6, 9, 8, 12, 18, 27]
    wcs = seed_wcs(40, 10.0, -20.0)
    for ours, theirs in zip(
        wcs.shifted(12.5, -7.0).pixel_to_sky(112.5, 193.0), wcs.pixel_to_sky(100, 200), strict=True
    ):
        assert ours == pytest.approx(theirs, abs=1e-12)
