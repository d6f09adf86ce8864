import math

import pytest

from imaging.bands import band_named
from imaging.errors import InputError
from imaging.quality.settings import EffectiveExposureSettings
from imaging.quality.teff import effective_exposure, expected_zeropoint_mag, judge_exposure

SETTINGS = EffectiveExposureSettings()


def good(band="i", exptime_s=90.0, airmass=1.0, **changes):
    b = band_named(band)
    values = {
        "exptime_s": exptime_s,
        "airmass": airmass,
        "fwhm_arcsec": b.reference_fwhm_arcsec,
        "sky_electrons": b.sky_rate_electrons * exptime_s,
        "zeropoint_mag": expected_zeropoint_mag(b, exptime_s, airmass),
    }
    return effective_exposure(band, **(values | changes))


@pytest.mark.parametrize("band", ["u", "g", "r", "i", "z", "Y", "VR"])
@pytest.mark.parametrize("airmass", [1.0, 1.8])
@pytest.mark.parametrize("exptime_s", [30.0, 300.0])
def test_reference_conditions_are_worth_one_at_any_airmass_and_exposure_time(band, airmass, exptime_s):
    assert good(band, exptime_s, airmass).total == pytest.approx(1.0)


def test_each_factor_has_its_own_law():
    b = band_named("i")
    assert good(fwhm_arcsec=2 * b.reference_fwhm_arcsec).seeing == pytest.approx(0.25)
    assert good(sky_electrons=2 * 90 * b.sky_rate_electrons).sky == pytest.approx(0.5)
    cloudy = good(zeropoint_mag=expected_zeropoint_mag(b, 90.0, 1.0) - 0.5)
    assert cloudy.zeropoint_loss_mag == pytest.approx(0.5)
    # half a magnitude of cloud: transmission 0.631, squared
    assert cloudy.transparency == pytest.approx(0.631**2, rel=1e-3)
    assert cloudy.total == pytest.approx(cloudy.transparency)


def test_extinction_is_counted_once():
    clear = expected_zeropoint_mag(band_named("u"), 60.0, 2.0)
    assert good("u", 60.0, 2.0, zeropoint_mag=clear).zeropoint_loss_mag == pytest.approx(0.0)
    assert clear == pytest.approx(25.30 + 2.5 * math.log10(60) - 0.436)


@pytest.mark.parametrize("change", [{"fwhm_arcsec": math.nan}, {"sky_electrons": 0.0}, {"zeropoint_mag": math.nan}])
def test_what_is_not_known_stays_unknown(change):
    effective = good(**change)
    assert math.isnan(effective.total)
    assert judge_exposure("i", 1.0, effective, SETTINGS) == "unknown"


def test_exposures_are_judged():
    assert judge_exposure("i", 1.0, good(), SETTINGS) == "good"
    assert judge_exposure("i", 1.7, good(fwhm_arcsec=1.7), SETTINGS) == "seeing"
    dark = 90 * band_named("i").sky_rate_electrons
    assert judge_exposure("i", 1.0, good(sky_electrons=4 * dark), SETTINGS) == "depth"
    assert (
        judge_exposure("g", 1.1, good("g", sky_electrons=4 * 90 * band_named("g").sky_rate_electrons), SETTINGS)
        == "good"
    )
    with pytest.raises(InputError, match="unknown band"):
        good("w")
