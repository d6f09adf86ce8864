"""Which patch of the sky a stack is: what headers of surveys say, and what is refused."""

import math

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time
from astropy.wcs import WCS

from bench.foreign_stacks import tangent
from imaging.errors import InputError
from imaging.exposure import night_of
from imaging.foreign.identity import ImageHead
from imaging.foreign.stacks import identify_any
from imaging.identity import is_stack
from imaging.wcs.foreign import wcs_of_header

CENTRE, SHAPE = (48.9168, -44.25), (3600, 3600)

LEGACY = {
    "BRICK": "0489m442",
    "INSTRUME": "DECam",
    "FILTER": "i DECam SDSS c0003 7835.0 1470.0",
    "FILTERX": "i",
    "MJD_MIN": 57600.25,
    "MJD_MAX": 58800.125,
    "IMTYPE": "image",
    "PRODTYPE": "image",
}
PAN_STARRS = {
    "SKYCELL": "skycell.1405.053",
    "TESS_ID": "RINGS.V3",
    "STK_ID": "5413501",
    "FPA.FILTERID": "i.00000",
    "BSOFTEN": 221.9,
    "BOFFSET": 7.17,
    "EXPTIME": 540.0,
    "MJD-OBS": 55900.4,
}
SKYMAPPER = {"TELESCOP": "SkyMapper 1.35m", "FILTER": "i", "EXPTIME": 300.0, "MJD-OBS": 58000.5}
COMMUNITY = {
    "PROCTYPE": "Stacked",
    "PRODTYPE": "image",
    "INSTRUME": "DECam",
    "FILTER": "i DECam SDSS c0003 7835.0 1470.0",
    "DATE-OBS": "2017-03-16T06:21:07",
    "EXPTIME": 270.0,
    "PLVER": "V4.8.2",
}
BRICK, SKYCELL = "legacysurvey-0489m442-image-i.fits.fz", "rings.v3.skycell.1405.053.stk.i.unconv.fits"


def head(cards, label="stack.fits", shape=SHAPE, scale=0.262, **changes) -> ImageHead:
    header = {k: v for k, v in (tangent(CENTRE, shape, scale) | cards | changes).items() if v is not None}
    return ImageHead(header, shape, wcs_of_header(header, shape), False, label)


@pytest.mark.parametrize(
    ("cards", "label", "form", "patch", "times"),
    [
        (LEGACY, BRICK, "Legacy Surveys", "0489m442", None),
        (PAN_STARRS, SKYCELL, "Pan-STARRS", "RINGS.V3 skycell.1405.053", (54984.0, 56748.0)),
        (SKYMAPPER, "field_i.fits", "SkyMapper", "field_i", (57635.5, 58365.5)),
        (COMMUNITY, "c4d_170316_062107_osi_i_v1.fits.fz[TILE1]", "Community Pipeline stack V4.8.2", None, None),
    ],
)
def test_a_stack_is_a_patch_with_the_times_of_its_exposures(cards, label, form, patch, times):
    shown = identify_any(head(cards, label), number=3)
    e = shown.exposure
    assert (shown.form, shown.ccd, shown.corner, e.band) == (form, 3, None, "i")
    assert e.object_name == patch or patch is None
    assert is_stack(e.expnum) and e.expnum < 2**31
    assert SkyCoord(e.ra_deg, e.dec_deg, unit="deg").separation(SkyCoord(*CENTRE, unit="deg")) < 1 * u.arcsec
    assert math.isnan(e.airmass)  # so that no effective time is computed
    if times is not None:
        assert (shown.first_mjd, e.mjd) == times
    assert e.night == night_of(e.mjd)


def test_times_of_the_legacy_surveys_are_tai_and_may_be_dates():
    shown = identify_any(head(LEGACY, BRICK))
    first, last = Time([57600.25, 58800.125], format="mjd", scale="tai").utc.mjd
    assert (shown.first_mjd, shown.exposure.mjd) == pytest.approx((first, last), abs=1e-9)
    dates = {"MJD_MIN": None, "DATEOBS1": "2016-07-31T06:00:00", "DATEOBS2": "2019-11-13T03:00:00"}
    shown = identify_any(head(LEGACY, BRICK, **dates))
    assert (shown.first_mjd, shown.exposure.mjd) == pytest.approx((57600.25, 58800.125), abs=1e-9)


def test_one_patch_has_one_number_and_another_band_or_release_another():
    numbers = {identify_any(head(LEGACY, BRICK)).exposure.expnum for _ in range(2)}
    numbers.add(identify_any(head(LEGACY, BRICK, MJD_MAX=58900.0)).exposure.expnum)
    numbers.add(identify_any(head(LEGACY, BRICK.replace("-i.", "-r."), FILTERX="r")).exposure.expnum)
    numbers.add(identify_any(head(LEGACY, BRICK, BRICK="0491m442")).exposure.expnum)
    assert len(numbers) == 4


def test_the_user_may_state_the_times():
    shown = identify_any(head(SKYMAPPER, **{"MJD-OBS": None}), mjd=(57900.0, 57950.0))
    assert (shown.first_mjd, shown.exposure.mjd) == (57900.0, 57950.0)


@pytest.mark.parametrize(
    ("cards", "changes", "words"),
    [
        (PAN_STARRS, {"BSOFTEN": None}, "lacks its asinh scale"),
        (PAN_STARRS, {"BSOFTEN": None, "BOFFSET": None}, "lacks its asinh scale"),
        (PAN_STARRS, {"FPA.FILTERID": "w.00000"}, "no band of this camera"),
        (PAN_STARRS, {"FPA.FILTERID": "y.00000"}, "no band of this camera"),
        (SKYMAPPER, {"FILTER": "v"}, "no band of this camera"),
        (LEGACY, {"FILTERX": None, "FILTER": None}, "no band of this camera"),
        (LEGACY, {"label": BRICK.replace("-i.", "-r.")}, "two bands"),
        (PAN_STARRS, {"label": SKYCELL.replace(".i.", ".r.")}, "two bands"),
        (LEGACY, {"IMTYPE": "model"}, "not the image"),
        (COMMUNITY, {"PRODTYPE": "dqmask"}, "not the image"),
        (COMMUNITY, {"DATE-OBS": None}, "--mjd"),
        (COMMUNITY, {"DATE-OBS": "yesterday"}, "date not understood"),
        (LEGACY, {"scale": 1.0}, "cannot be resampled"),
        (LEGACY, {"shape": (20000, 20000)}, "too large"),
        (LEGACY, {"CTYPE1": "RA---AIT", "CTYPE2": "DEC--AIT"}, "whole sky"),
        (LEGACY, {"CTYPE1": "RA---HPX", "CTYPE2": "DEC--HPX", "CRVAL1": 0.0, "CRVAL2": 0.0}, "whole sky"),
        (LEGACY, {"CD1_1": -0.262 / 3600, "CD2_2": 0.3 / 3600}, "cannot be resampled"),
        (LEGACY, {"CD1_2": 0.1 / 3600}, "cannot be resampled"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(cards, changes, words):
    with pytest.raises(InputError) as caught:
        identify_any(head(cards, **changes))
    assert words in caught.value.sentence()


def test_turned_grids_are_taken():
    c, s = np.cos(0.5), np.sin(0.5)
    step = 0.262 / 3600.0
    turned = {"CD1_1": -step * c, "CD1_2": step * s, "CD2_1": step * s, "CD2_2": step * c}
    header = tangent(CENTRE, SHAPE, 0.262) | turned
    assert WCS(header).proj_plane_pixel_scales()[0].to_value(u.arcsec) == pytest.approx(0.262)
    assert identify_any(head(LEGACY, **turned)).exposure.band == "i"
