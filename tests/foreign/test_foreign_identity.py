"""Which exposure and CCD an image of another pipeline is: what headers say, and what they contradict."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time

from imaging.detector.distortion import seed_wcs
from imaging.errors import InputError
from imaging.foreign.identity import ImageHead, identify
from imaging.wcs.tpv import N_TERMS, TpvWcs

RA, DEC, MJD = 187.3235, 25.47929, 57828.26285591
PLACE = SkyCoord(RA, DEC, unit="deg")
CARDS = {
    "INSTRUME": "DECam",
    "PLVER": "V4.8.2",
    "PROCTYPE": "InstCal",
    "EXPNUM": 630780,
    "EXPTIME": 107.0,
    "MJD-OBS": MJD,
    "TIMESYS": "UTC",
    "OBSTYPE": "object",
    "FILTER": "z DECam SDSS c0004 9260.0 1520.0",
    "TELRA": PLACE.ra.to_string(u.hour, sep=":"),
    "TELDEC": PLACE.dec.to_string(u.deg, sep=":"),
    "AIRMASS": 1.8,
    "CCDNUM": 33,
    "DETPOS": "N2",
    "EXTNAME": "N2",
    "LTV1": -1.0,
    "LTV2": -1.0,
}
"""Of a real image of the Community Pipeline."""

LINEAR = np.zeros((2, N_TERMS))
LINEAR[:, 1] = 1.0

POINTED_DEG = 0.005
"""Error of the pointing in the header."""


def head(shape=(4094, 2046), turn=None, **changes) -> ImageHead:
    nominal = seed_wcs(33, RA, DEC + POINTED_DEG)
    wcs = replace(nominal, crpix=(nominal.crpix[0] - 1, nominal.crpix[1] - 1))
    if turn is not None:  # about the middle of the CCD
        ra, dec = wcs.pixel_to_sky(1023.0, 2047.0)
        wcs = TpvWcs((float(ra), float(dec)), (1024.0, 2048.0), nominal.cd @ np.array(turn), LINEAR)
    cards = {key: value for key, value in (CARDS | changes).items() if value is not None}
    return ImageHead(cards, shape, wcs, False, "image")


def calexp(**changes) -> ImageHead:
    """Cards of a calexp: those of the image it was made of, the time in TAI beside the former UTC."""
    middle = Time(MJD + 53.5 / 86400.0, format="mjd", scale="utc").tai.isot
    own = {"EXPID": 63078033, "DETNAME": "N2", "DATE-AVG": middle, "TIMESYS": "TAI", "CCDNUM": 1, "DETPOS": "S29"}
    return head((4096, 2048), **own | {"EXTNAME": "IMAGE", "LTV1": 0.0, "LTV2": 0.0} | changes)


def test_a_whole_ccd_is_recognised_with_its_place():
    shown = identify(head())
    assert shown.form == "Community Pipeline V4.8.2"
    assert (shown.exposure.expnum, shown.exposure.band, shown.exposure.night) == (630780, "z", 20170315)
    assert (shown.ccd, shown.corner, shown.exposure.mjd) == (33, (1, 1), MJD)


def test_the_place_of_a_part_is_not_known():
    assert identify(head((251, 245))).corner is None


def test_a_calexp_states_ccd_and_time_in_its_own_cards():
    shown = identify(calexp())
    assert (shown.form, shown.ccd, shown.corner) == ("LSST", 33, (0, 0))
    assert shown.exposure.mjd == pytest.approx(MJD, abs=1e-8)


@pytest.mark.parametrize(
    "changes",
    [
        {"EXPID": 63078033},
        {"EXPID": 630780},
        {"EXPID": 630780, "FILTER": None, "LSST BUTLER DATAID PHYSICAL_FILTER": CARDS["FILTER"]},
        {"EXPID": None, "AR_HDU": 5, "LSST BUTLER DATAID VISIT": 630780},
        {"EXPID": None, "VISIT": 630780, "FILTER": " ", "LSST BUTLER DATAID BAND": "z"},
    ],
    ids=["with the CCD", "alone", "filter of the butler", "visit of the butler", "visit"],
)
def test_a_calexp_that_has_lost_cards_of_the_camera_states_them_in_those_of_lsst(changes):
    shown = identify(calexp(**{"EXPNUM": None} | changes))
    assert (shown.exposure.expnum, shown.exposure.band, shown.ccd) == (630780, "z", 33)


def test_a_time_in_tai_without_a_middle_is_converted():
    tai = Time(MJD, format="mjd", scale="utc").tai.mjd
    shown = identify(calexp(**{"DATE-AVG": None, "MJD-OBS": tai}))
    assert shown.exposure.mjd == pytest.approx(MJD, abs=1e-8)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"INSTRUME": "MOSAIC-2"}, "another camera"),
        (
            {"INSTRUME": None, "AR_HDU": 5, "LSST BUTLER DATAID TRACT": 5063},
            "a stack of this survey is not imported (LSST",
        ),
        ({"TILENAME": "DES0959-2958", "EXPNUM": None}, "a stack of this survey is not imported (Dark Energy Survey"),
        ({"PLVER": None}, "pipeline that calibrated the image is not known"),
        ({"DETPOS": "N3"}, "two CCDs"),
        ({"EXTNAME": "S29"}, "two CCDs"),
        ({"CCDNUM": None, "DETPOS": None, "EXTNAME": "IMAGE"}, "no science CCD"),
        ({"CCDNUM": 63, "DETPOS": None, "EXTNAME": "FS1"}, "no science CCD"),
        ({"CCDNUM": 34, "DETPOS": "N3", "EXTNAME": "N3"}, "contradict each other"),
        ({"TELDEC": "24:28:40.296"}, "contradict each other"),
        ({"BAND": "i"}, "two bands"),
        ({"FILTER": "Block"}, "unknown band"),
        ({"OBSTYPE": "dome flat"}, "not of the sky"),
        ({"TIMESYS": "TT"}, "time scale"),
        ({"MJD-OBS": None}, "lacks the time"),
        ({"EXPNUM": None}, "EXPNUM"),
        ({"turn": [[-1, 0], [0, -1]]}, "not in the pixels of its CCD"),
        ({"turn": [[1, 0], [0, -1]]}, "not in the pixels of its CCD"),
        ({"turn": [[1.1, 0], [0, 1.1]]}, "not in the pixels of its CCD"),
    ],
)
def test_what_contradicts_itself_is_refused(changes, problem):
    with pytest.raises(InputError) as refused:
        identify(head(**changes))
    assert problem in refused.value.sentence()


def test_a_calexp_with_another_time_is_refused():
    with pytest.raises(InputError, match="two times"):
        identify(calexp(**{"MJD-OBS": MJD + 0.01}))


def test_pixels_of_des_planes_that_may_be_counts_are_refused():
    des = replace(head(), has_des_planes=True)
    with pytest.raises(InputError, match="unit of the pixels"):
        identify(replace(des, header=dict(des.header) | {"GAINA": 4.0}))
    assert identify(replace(des, header=dict(des.header) | {"GAINA": 1.0})).form == "DES"
