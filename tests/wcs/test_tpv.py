import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.detector.ccds import SCIENCE_CCDS
from imaging.detector.distortion import seed_wcs
from imaging.errors import InputError
from imaging.wcs.tpv import TpvWcs

RNG = np.random.default_rng(1)
X, Y = RNG.uniform(0, 2048, 400), RNG.uniform(0, 4096, 400)


def astropy_wcs(wcs):
    header = fits.Header()
    header["NAXIS"] = 2
    for key, value in wcs.to_header().items():
        header[key] = value
    return WCS(header)


@pytest.mark.parametrize(
    ("ccd", "ra", "dec"), [(1, 150.0, -30.0), (28, 0.01, 5.0), (62, 42.0, -89.5), (31, 359.99, 89.9)]
)
def test_positions_are_those_of_astropy(ccd, ra, dec):
    wcs = seed_wcs(ccd, ra, dec)
    ours, theirs = wcs.pixel_to_sky(X, Y), astropy_wcs(wcs).all_pix2world(X, Y, 0)
    separation = np.hypot((ours[0] - theirs[0] + 180) % 360 - 180, 0) * np.cos(np.radians(ours[1]))
    assert np.max(np.abs(separation)) * 3.6e6 < 1e-3  # mas
    assert np.max(np.abs(ours[1] - theirs[1])) * 3.6e6 < 1e-3


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SCIENCE_CCDS), st.floats(0, 360), st.floats(-89.9, 89.9))
def test_the_inverse_returns_the_pixel(ccd, ra, dec):
    wcs = seed_wcs(ccd, ra, dec)
    x, y = wcs.sky_to_pixel(*wcs.pixel_to_sky(X, Y))
    assert np.max(np.abs(x - X)) < 1e-7
    assert np.max(np.abs(y - Y)) < 1e-7


def test_header_survives_writing_and_reading():
    wcs = seed_wcs(17, 197.45, -23.38)
    again = TpvWcs.from_header(wcs.to_header())
    assert np.array_equal(again.pv, wcs.pv)
    assert again.pixel_to_sky(100, 200) == wcs.pixel_to_sky(100, 200)


def test_pixel_area_is_that_of_finite_differences():
    wcs = seed_wcs(1, 10.0, 0.0)
    xi, eta = wcs.pixel_to_plane([1000, 1001, 1000], [2000, 2000, 2001])
    area = abs((xi[1] - xi[0]) * (eta[2] - eta[0]) - (xi[2] - xi[0]) * (eta[1] - eta[0])) * 3600**2
    assert wcs.pixel_area_arcsec2(1000.5, 2000.5) == pytest.approx(area, rel=1e-5)


@pytest.mark.parametrize("change", [{"CTYPE1": "RA---SIN"}, {"CRVAL1": "x"}, {"CD1_1": 0, "CD1_2": 0}])
def test_unusable_headers_are_refused(change):
    with pytest.raises(InputError):
        TpvWcs.from_header(seed_wcs(1, 10.0, 0.0).to_header() | change)
