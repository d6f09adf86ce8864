"""Frames and calibrations that are not what they should be: the right answer, or a refusal with its numbers."""

import numpy as np
import pytest
from synthetic_raw import EXPOSURE, make_camera, make_light, make_raw

from imaging.bits import MaskBit
from imaging.detector.ccds import science_ccd
from imaging.detrend.chain import detrend_ccd
from imaging.detrend.crosstalk import CrosstalkSources
from imaging.detrend.settings import DetrendSettings
from imaging.errors import CcdError, InputError
from imaging.exposure import exposure_from_header
from imaging.image import RawCcd
from imaging.measure.clean import CleanCalibrations, clean_ccd
from imaging.measure.settings import MeasureSettings
from imaging.sky.fit import fit_sky
from imaging.sky.mini_sky import MiniSky
from imaging.sky.settings import SkySettings

CCD, SKY = science_ccd(33), 2800.0


@pytest.fixture(scope="module")
def camera():
    return make_camera(CCD)


@pytest.fixture(scope="module")
def light(camera):
    return make_light(CCD, camera, SKY)


@pytest.fixture(scope="module")
def raw(camera, light):
    return make_raw(CCD, light, camera)


def detrend(raw, calibrations):
    return detrend_ccd(CCD, raw, {}, EXPOSURE, calibrations, DetrendSettings())


def refused(raw, calibrations):
    with pytest.raises(CcdError) as caught:
        detrend(raw, calibrations)
    assert caught.value.ccd == 33
    assert caught.value.remedy
    return caught.value


def test_a_frame_that_is_mostly_saturated_is_refused_and_one_that_is_partly_is_kept(camera, light):
    for rows, is_refused in ((1500, False), (2500, True)):
        bright = light.copy()
        bright[:rows] = 2.0e5
        raw = make_raw(CCD, bright, camera)
        if is_refused:
            error = refused(raw, camera.calibrations())
            assert (error.reason, error.limit) == ("saturated", "50%")
            assert 55 < int(str(error.value).split("%")[0]) < 75
        else:
            result = detrend(raw, camera.calibrations())
            assert 0.35 < result.quality["saturated_fraction"] < 0.5
            assert np.nanmedian(result.mini_sky.values[20:]) == pytest.approx(SKY, rel=0.01)
            assert np.isnan(result.mini_sky.values[:10]).all()


def test_a_frame_without_light_is_refused_with_the_level_that_was_expected(camera):
    error = refused(make_raw(CCD, np.zeros((4096, 2048)), camera), camera.calibrations())
    assert error.reason == "no_light"
    assert abs(float(str(error.value).split()[0])) < 5.0
    assert 10.0 < float(str(error.limit).split()[2]) < SKY / 2


def test_an_overscan_of_zeros_leaves_no_amplifier(camera, raw):
    pixels = raw.pixels.copy()
    pixels[:, 6:56] = pixels[:, 2104:2154] = 0
    error = refused(RawCcd(raw.header, pixels), camera.calibrations())
    assert error.reason == "dead_ccd"
    assert "0 of 2 usable" in str(error.value) and error.limit == "at least 1"


def test_a_file_that_is_trimmed_already_is_refused(camera, raw):
    header = {k: v for k, v in raw.header.items() if not k.startswith(("BIASSEC", "DATASEC"))}
    error = refused(RawCcd(header, raw.pixels[:4096, :2048].copy()), camera.calibrations())
    assert error.reason == "unexpected_shape"
    assert "2048 x 4096" in str(error.value) and "DATASEC" in str(error.limit)


def test_sections_that_the_header_lacks_are_the_cameras(camera, raw):
    header = {k: v for k, v in raw.header.items() if not k.startswith(("BIASSEC", "DATASEC"))}
    result = detrend(RawCcd(header, raw.pixels), camera.calibrations())
    assert result.quality["header_fallbacks"] == 4.0
    assert np.array_equal(result.science, detrend(raw, camera.calibrations()).science)


ODD_CARDS = {
    "GAINA": [np.nan, np.inf, -3.8, 0.0, 1e300, "3,8", "text", None],
    "RDNOISEB": [np.nan, -1.0, 1e9, "", None],
    "SATURATA": [-1, np.nan, 0, 1 << 62, None],
    "DATASECA": ["", "[1:2]", "NaN", 7.0, "[1:4000,1:9]", None],
    "BIASSECB": ["", "[0:0,0:0]", "\u00e9", None],
}


@pytest.mark.parametrize("key", ODD_CARDS)
def test_a_constant_of_the_camera_that_cannot_be_is_replaced_by_its_known_value_and_told(camera, raw, key):
    nominal = {k: v for k, v in raw.header.items() if k != key}
    known = detrend(RawCcd(nominal, raw.pixels), camera.calibrations())
    assert known.header["CAMVALS"] == key
    amplifier = CCD.amplifier(key[-1])
    found = next(a for a in known.amplifiers if a.name == key[-1])
    assert found.saturation_adu == (amplifier.saturation_adu if key == "SATURATA" else raw.header[f"SATURAT{key[-1]}"])
    assert found.gain == (amplifier.gain if key == "GAINA" else raw.header[f"GAIN{key[-1]}"])
    for value in ODD_CARDS[key]:
        header = nominal | ({} if value is None else {key: value})
        result = detrend(RawCcd(header, raw.pixels), camera.calibrations())
        assert result.header["CAMVALS"] == key, value
        assert result.quality["header_fallbacks"] == 1.0
        assert np.array_equal(result.science, known.science)
    assert "CAMVALS" not in detrend(raw, camera.calibrations()).header


def test_no_number_in_a_calibration_makes_bad_pixels_and_nothing_else(camera, raw):
    calibrations = camera.calibrations()
    bias, flat = calibrations.bias.copy(), calibrations.flat.copy()
    bias[100, 200], bias[101, 1200], flat[300, 400], flat[301, 1400], flat[302, 5] = np.nan, np.inf, np.nan, np.inf, -1
    result = detrend(raw, camera.calibrations(bias=bias, flat=flat))
    for place in ((100, 200), (101, 1200), (300, 400), (301, 1400), (302, 5)):
        assert result.mask[place] & MaskBit.BPM
    assert np.isfinite(result.science).all()
    untouched = detrend(raw, calibrations)
    assert ((result.mask & ~untouched.mask) != 0).sum() <= 5


@pytest.mark.parametrize("kind", ["bias", "flat", "bad_pixels"])
def test_a_calibration_of_another_size_is_refused_with_its_name(camera, raw, kind):
    small = getattr(camera.calibrations(), kind)[:2048]
    with pytest.raises(InputError) as caught:
        detrend(raw, camera.calibrations(**{kind: small}))
    assert kind in str(caught.value)
    assert caught.value.limit == str((4096, 2048))


HEADER = {"EXPNUM": 1, "FILTER": "i DECam SDSS c0003 7835.0 1470.0", "MJD-OBS": 60440.2, "EXPTIME": 90.0,
          "RA": "10:00:00", "DEC": "-20:00:00", "OBSTYPE": "object"}  # fmt: skip


@pytest.mark.parametrize("exptime", [0.0, -90.0, "NaN", float("inf")])
def test_an_impossible_exposure_time_is_refused(exptime):
    with pytest.raises(InputError, match="exposure time") as caught:
        exposure_from_header(HEADER | {"EXPTIME": exptime}, "raw.fits.fz")
    assert "EXPTIME" in str(caught.value.value) and str(caught.value.limit).startswith("more than 0 ")


def test_a_bias_may_have_none_and_a_time_must_be_one():
    assert exposure_from_header(HEADER | {"EXPTIME": 0.0, "OBSTYPE": "zero"}, "raw.fits.fz").exptime_s == 0.0
    for mjd in ("NaN", 0.0, 1e9):
        with pytest.raises(InputError, match="impossible time"):
            exposure_from_header(HEADER | {"MJD-OBS": mjd}, "raw.fits.fz")


def test_noise_without_a_source_is_refused_with_the_numbers_of_peaks(camera, raw):
    result = detrend(raw, camera.calibrations())
    sky = fit_sky({33: result.mini_sky}, None, SkySettings())
    with pytest.raises(CcdError) as caught:
        clean_ccd(result.science, result.mask, result.header, CCD, sky, CleanCalibrations(), MeasureSettings())
    assert caught.value.reason == "too_few_stars"
    assert int(str(caught.value.value)) < 5
    assert caught.value.limit == "at least 5 peaks above 20 sigma"


def test_a_field_without_sky_is_refused_with_its_numbers():
    nothing = {ccd: MiniSky(ccd, np.full((32, 16), np.nan, np.float32)) for ccd in (3, 4)}
    with pytest.raises(CcdError) as caught:
        fit_sky(nothing, None, SkySettings())
    assert (caught.value.reason, caught.value.value) == ("no_sky", "0 superpixels on 2 CCDs")


def test_a_ccd_that_was_not_read_out_costs_itself_alone(camera, raw):
    """Real files hold stubs of 100 x 100 pixels: such a CCD is refused; as source of crosstalk it counts as absent."""
    stub = RawCcd(dict(raw.header), np.zeros((100, 100), np.uint16))
    error = refused(stub, camera.calibrations())
    assert (error.reason, error.value) == ("unexpected_shape", "100 x 100 pixels")
    sources = CrosstalkSources({34: stub, 35: raw}, EXPOSURE.night, DetrendSettings())
    assert sources.amplifier(34, "A") is None
    assert sources.amplifier(35, "A").name == "A"
