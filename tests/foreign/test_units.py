"""Gain and zero point of every unit that pixels come in."""

import math

import astropy.units as u
import numpy as np
import pytest

from imaging.errors import InputError
from imaging.foreign.units import pixel_unit

AREA = 0.2637**2


@pytest.mark.parametrize(
    ("header", "own", "gain"),
    [
        ({}, False, None),
        ({"GAIN": 4.0}, False, 4.0),
        ({"GAIN": 4.0, "ARAWGAIN": 3.0}, False, 4.0),
        ({"ARAWGAIN": 3.0}, False, 3.0),
        ({"GAINA": 4.0, "GAINB": 5.0, "GAIN": 9.0}, False, 4.5),
        ({"GAINB": 5.0, "GAIN": 9.0}, False, 5.0),
        ({"GAINA": 4.0, "GAINB": -1.0}, False, 4.0),
        ({"GAINA": "unknown", "ARAWGAIN": 3.0}, False, 3.0),
        ({"BUNIT": "electrons", "GAINA": 4.0, "GAINB": 5.0}, False, 1.0),
        ({"BUNIT": "Electron", "GAIN": 2.5, "GAINA": 4.0}, False, 1.0),
        ({"BUNIT": "adu", "GAIN": 2.5}, False, 2.5),
        ({"BUNIT": "DN", "GAIN": 2.5}, False, 2.5),
        ({"BUNIT": "ADU/pixel", "GAIN": 2.5}, False, 2.5),
        ({"BUNIT": "counts/s", "GAIN": 2.5, "EXPTIME": 90.0}, False, 225.0),
        ({"BUNIT": "adu s-1", "GAIN": 2.5, "EXPTIME": 90.0}, False, 225.0),
        ({"BUNIT": "DN/sec", "GAIN": 2.5, "EXPTIME": 90.0}, False, 225.0),
        ({"BUNIT": "electron/s", "GAIN": 4.0, "EXPTIME": 90.0}, False, 90.0),
        ({"BUNIT": "ELECTRONS/S", "EXPTIME": 90.0}, False, 90.0),
        ({"BUNIT": "e-/s", "EXPTIME": 90.0}, False, 90.0),
        ({"BUNIT": "cps", "GAIN": 4.0, "EXPTIME": 90.0}, False, 360.0),
        ({"BUNIT": "Data Number", "GAIN": 4.0}, False, 4.0),
        ({"BUNIT": "electron/s", "GAIN": 4.0}, False, None),
        ({"BUNIT": "nanomaggy", "GAIN": 4.0}, False, None),
        ({"AR_HDU": 5, "GAINA": 4.0, "GAINB": 5.0}, False, None),
        ({"AR_HDU": 5, "BUNIT": "adu", "GAINA": 4.0, "GAINB": 5.0}, False, 4.5),
        ({"AR_HDU": 5, "BUNIT": "electron", "GAINA": 4.0}, False, 1.0),
        ({"BORE-RA": 10.0, "FLUXMAG0": 6e11, "GAIN": 4.0}, False, None),
        ({"GAINA": 4.0, "GAINB": 5.0}, True, 1.0),
        ({"GAINA": 4.0, "GAIN": 3.5}, True, 3.5),
        ({"GAIN": np.nan}, False, None),
        ({"GAIN": 0.0, "ARAWGAIN": 3.0}, False, 3.0),
        ({"GAIN": 100, "EGAIN": 0.25}, False, 0.25),  # of a camera whose GAIN is a setting
        ({"BUNIT": "[adu]", "GAIN": 4.0}, False, 4.0),
        ({"BUNIT": "CNTS/SEC", "GAIN": 4.0, "EXPTIME": 90.0}, False, 360.0),
        ({"BUNIT": "electron/pixel/s", "GAIN": 4.0, "EXPTIME": 90.0}, False, 90.0),
        ({"BUNIT": "Digital Numbers", "GAIN": 4.0}, False, 4.0),
    ],
)
def test_the_gain_is_what_a_unit_of_the_pixels_holds(header, own, gain):
    assert pixel_unit(header, AREA, own=own).gain == gain


@pytest.mark.parametrize(
    ("unit", "flux"),
    [
        ("nanomaggy", 1e-9 * 3631 * u.Jy),
        ("nmgy", 1e-9 * 3631 * u.Jy),
        ("nmgy / pix", 1e-9 * 3631 * u.Jy),
        ("uJy", 1 * u.uJy),
        ("nJy", 1 * u.nJy),
        ("microjansky", 1 * u.uJy),
        ("UJY", 1 * u.uJy),
        ("Jy/pixel", 1 * u.Jy),
        ("10 nJy / pix", 10 * u.nJy),
        ("MJY/SR", (1 * u.MJy / u.sr * AREA * u.arcsec**2).to(u.Jy)),
        ("mJy", 1 * u.mJy),
        ("Jy", 1 * u.Jy),
        ("MJy/sr", (1 * u.MJy / u.sr * AREA * u.arcsec**2).to(u.Jy)),
    ],
)
def test_a_unit_of_flux_is_its_own_zero_point(unit, flux):
    found = pixel_unit({"BUNIT": unit}, AREA)
    assert found.gain is None and found.zeropoint_mag == pytest.approx(flux.to_value(u.ABmag), abs=0.001)
    told = pixel_unit({"BUNIT": unit}, AREA, gain=3.0, zeropoint_mag=25.0)
    assert (told.gain, told.zeropoint_mag) == (3.0, 25.0)
    with pytest.raises(InputError, match="contradicts BUNIT"):
        pixel_unit({"BUNIT": unit, "MAGZERO": found.zeropoint_mag + 1.0}, AREA)


@pytest.mark.parametrize(("text", "unit"), [("erg/s/cm2/Hz", u.erg / u.s / u.cm**2 / u.Hz), ("maggy", 3631 * u.Jy)])
def test_a_large_unit_becomes_nanojansky(text, unit):
    """Squares of such pixels are below the smallest number of single precision."""
    found = pixel_unit({"BUNIT": text}, AREA, gain=7e30)
    assert found.factor == pytest.approx((1.0 * unit).to_value(u.nJy), rel=1e-4)
    assert found.zeropoint_mag == pytest.approx(31.4, abs=1e-3)
    assert found.gain is not None and found.gain * found.factor == pytest.approx(7e30)


@pytest.mark.parametrize("unit", ["furlong", "mag/arcsec2", "Jy/beam", "mjy/sr", "s-1", "erg/s/cm2/Angstrom", "sigma"])
def test_an_unknown_unit_is_refused_by_name_unless_the_user_says_what_it_is(unit):
    with pytest.raises(InputError, match="BUNIT") as caught:
        pixel_unit({"BUNIT": unit, "GAIN": 1.0, "MAGZERO": 25.0}, AREA)
    assert unit in str(caught.value) and "--gain" in str(caught.value)
    assert pixel_unit({"BUNIT": unit}, AREA, gain=2.0, zeropoint_mag=25.0).gain == 2.0


@pytest.mark.parametrize("value", [99.0, -999.0, "30,0", "-1", 0.0, "1e5", "25.3 mag"])
def test_a_zero_point_that_cannot_be_meant_is_refused_by_name(value):
    with pytest.raises(InputError, match="MAGZERO"):
        pixel_unit({"MAGZERO": value, "ZP": 25.0}, AREA)
    assert pixel_unit({"MAGZERO": 25.5}, AREA, zeropoint_mag=27.0).zeropoint_mag == 27.0


@pytest.mark.parametrize(
    ("header", "zeropoint"),
    [
        ({"MAGZERO": 30.0, "ZP": 30.01, "MAGZPT": 99.0}, 30.0),
        ({"MAGZPT0": "28.5"}, 28.5),
        ({"ZEROPT": 27.5}, 27.5),
        ({"FLUXMAG0": 1e12, "MAGZERO": "NaN"}, 30.0),
        ({"FLUXMAG0": -1.0}, None),
        ({"ZP": "none"}, None),
        ({"MAGZERO": "unknown", "ZP": 25.0}, 25.0),
        ({"MAGZERO": np.nan}, None),
        ({}, None),
    ],
)
def test_a_zero_point_that_is_not_stated_is_unknown(header, zeropoint):
    assert pixel_unit(header, AREA).zeropoint_mag == zeropoint


@pytest.mark.parametrize("second", ["MAG_ZERO", "MAGZPT", "MAGZP", "PHOTZP", "ZP", "FLUXMAG0"])
@pytest.mark.parametrize("by_mag", [-2.5, 0.05])
def test_two_zero_points_that_differ_are_refused_by_name(second, by_mag):
    other = 10 ** (0.4 * (30.0 + by_mag)) if second == "FLUXMAG0" else 30.0 + by_mag
    header = {"MAGZERO": 30.0, second: other, "EXPTIME": 90.0}
    with pytest.raises(InputError, match=f"MAGZERO 30, {second}") as caught:
        pixel_unit(header, AREA)
    assert "--zeropoint" in str(caught.value)
    assert pixel_unit(header, AREA, zeropoint_mag=30.0).zeropoint_mag == 30.0


@pytest.mark.parametrize("per_second_first", [True, False])
@pytest.mark.parametrize("seconds", [90.0, 0.2])
@pytest.mark.parametrize(("unit", "is_rate"), [("adu", False), ("electron/s", True)])
def test_of_two_zero_points_an_exposure_time_apart_that_of_the_pixels_counts(unit, is_rate, seconds, per_second_first):
    total, rate = 30.0, 30.0 - 2.5 * math.log10(seconds)
    zeros = (rate, total) if per_second_first else (total, rate)
    found = pixel_unit({"BUNIT": unit, "EXPTIME": seconds, "MAGZERO": zeros[0], "MAGZPT": zeros[1]}, AREA)
    assert found.zeropoint_mag == pytest.approx(rate if is_rate else total)


def test_the_zero_point_of_hubble_is_that_of_its_cards():
    """ACS/WFC F814W of 2016: 25.943 AB, by the calculator of the STScI."""
    cards = {"PHOTFLAM": 7.0331885e-20, "PHOTPLAM": 8045.54, "EXPTIME": 500.0}
    assert pixel_unit(cards | {"BUNIT": "ELECTRONS/S"}, AREA).zeropoint_mag == pytest.approx(25.943, abs=0.01)
    assert pixel_unit(cards | {"BUNIT": "ELECTRONS"}, AREA).zeropoint_mag == pytest.approx(25.943 + 6.747, abs=0.01)
