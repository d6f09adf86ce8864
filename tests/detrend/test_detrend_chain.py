"""The whole chain on full-size CCDs whose truth is known."""

import numpy as np
import pytest
from astropy.time import Time
from synthetic_raw import EXPOSURE, make_camera, make_light, make_raw

from imaging.bits import MaskBit
from imaging.detector.ccds import science_ccd
from imaging.detector.crosstalk import CrosstalkMatrix, CrosstalkTerm
from imaging.detector.sections import raw_sections
from imaging.detrend.chain import detrend_ccd
from imaging.detrend.header import read_noise_electrons
from imaging.detrend.history import record_correction
from imaging.detrend.settings import DetrendSettings
from imaging.errors import CcdError, InputError
from imaging.image import RawCcd

SKY = 2800.0
NORTH, SOUTH = science_ccd(33), science_ccd(26)


@pytest.fixture(scope="module")
def camera():
    return make_camera(NORTH)


@pytest.fixture(scope="module")
def raw(camera):
    return make_raw(NORTH, make_light(NORTH, camera, SKY), camera)


@pytest.fixture(scope="module")
def detrended(camera, raw):
    return detrend_ccd(NORTH, raw, {}, EXPOSURE, camera.calibrations(), DetrendSettings())


def changed(raw: RawCcd, pixels=None, **keywords) -> RawCcd:
    return RawCcd(dict(raw.header) | keywords, raw.pixels if pixels is None else pixels)


@pytest.mark.parametrize("ccd", [NORTH, SOUTH], ids=["N", "S"])
def test_pixels_agree_with_the_truth_before_noise(ccd):
    """Without noise what remains is the converter's rounding, and the bias structure between the 1-ADU knots."""
    camera = make_camera(ccd)
    light = make_light(ccd, camera, SKY, noise=False)
    x, y = np.meshgrid(np.arange(2048), np.arange(4096))
    light += 1e5 * np.exp(-0.5 * ((x - 700) ** 2 + (y - 1500) ** 2) / 400.0)
    result = detrend_ccd(ccd, make_raw(ccd, light, camera, noise=False), {}, EXPOSURE, camera.calibrations(),
                         DetrendSettings(read_noise_range_electrons=(0.0, 30.0)))  # fmt: skip
    good = result.mask == 0
    error = result.science - light / camera.flat
    assert abs(error[good].mean()) < 0.5
    assert np.abs(error[good]).max() < 10.0
    ratio = result.science[1450:1550, 650:750].sum() / (light / camera.flat)[1450:1550, 650:750].sum()
    assert 1.0857 * abs(np.log(ratio)) < 0.001


def test_sky_level_and_noise_are_those_of_the_light(detrended, camera):
    good = detrended.mask == 0
    n = good.sum()
    sigma = np.sqrt(np.mean((SKY * camera.flat + 6.0**2 + 1.33) / camera.flat**2))
    assert detrended.science[good].mean() == pytest.approx(SKY, abs=0.5)
    assert detrended.science[good].std() == pytest.approx(sigma, rel=0.01)
    assert n > 0.98 * detrended.science.size
    assert np.nanmedian(detrended.mini_sky.values) == pytest.approx(SKY, abs=0.5)


def test_read_noise_is_measured_not_believed(camera, raw):
    wrong = changed(raw, RDNOISEA=12.0, RDNOISEB=11.0)
    result = detrend_ccd(NORTH, wrong, {}, EXPOSURE, camera.calibrations(), DetrendSettings())
    for amplifier in NORTH.amplifiers:
        expected = np.hypot(amplifier.read_noise_electrons, amplifier.gain / np.sqrt(12))
        assert read_noise_electrons(result.header)[amplifier.name] == pytest.approx(expected, rel=0.01)


def test_every_correction_leaves_its_key_and_no_date(detrended):
    header = detrended.header
    assert header["DESBIAS"] == "bias.fits"
    assert header["DESFLAT"] == "flat.fits"
    assert header["DESLINC"] == "lin.fits"
    assert header["DESBPM"] == header["DESFIXC"] == "bpm.fits"
    assert header["DESOSCN"] == "mean"
    assert header["DESSAT"] is True
    assert header["DESGAINC"] is True
    assert header["BUNIT"] == "electron"
    assert "DESDCXTK" not in header  # no matrix was given
    assert [key for key in header if "DATE" in key] == ["DATE-OBS"]
    started = Time(header["DATE-OBS"], scale=header["TIMESYS"].lower())
    assert abs(started.mjd - header["MJD-OBS"]) * 86400 < 0.0006


def test_applying_a_correction_twice_is_an_error(detrended):
    with pytest.raises(InputError, match="applied already: flat"):
        record_correction(detrended.header, "DESFLAT", "again")


def test_same_input_gives_the_same_bytes(detrended, camera, raw):
    again = detrend_ccd(NORTH, raw, {}, EXPOSURE, camera.calibrations(), DetrendSettings())
    assert again.science.tobytes() == detrended.science.tobytes()
    assert again.mask.tobytes() == detrended.mask.tobytes()
    assert again.header == detrended.header


def test_nonsense_in_the_header_falls_back_to_nominal_figures(camera, raw, detrended):
    broken = changed(raw, GAINA="NaN", SATURATB=0.0, DATASECA="nonsense")
    result = detrend_ccd(NORTH, broken, {}, EXPOSURE, camera.calibrations(), DetrendSettings())
    assert result.quality["header_fallbacks"] == 3.0
    np.testing.assert_array_equal(result.science, detrended.science)


def test_crosstalk_of_a_saturated_source_is_removed_below_1e_5(camera):
    """A source CCD with a saturated star leaks, mirrored and beyond the onset, into the victim."""
    source, victim = science_ccd(26), science_ccd(27)
    light = make_light(source, camera, SKY, noise=False)
    light[2000:2020, 300:320] = 52000.0 * source.amplifier("B").gain
    raw_source = make_raw(source, light, camera, noise=False)
    raw_victim = make_raw(victim, make_light(victim, camera, SKY, noise=False), camera, noise=False)
    # Amplifier B of both is on the left, A on the right: B leaks straight into B and mirrored into A.
    terms = tuple(
        CrosstalkTerm((27, name), (26, "B"), 9e-4, 41000.0, (-1.4e-3, 1.35e-7, -3.8e-12)) for name in ("A", "B")
    )
    signal = float(raw_source.pixels[50 + 2010, 56 + 310]) - np.median(raw_source.pixels[50 + 2010, 15:45])
    excess = signal - 41000.0
    received = 9e-4 * 41000.0 - 1.4e-3 * excess + 1.35e-7 * excess**2 - 3.8e-12 * excess**3
    pixels = raw_victim.pixels.astype(np.int64)
    pixels[50 + 2000 : 50 + 2020, 56 + 300 : 56 + 320] += round(received)
    pixels[50 + 2000 : 50 + 2020, 56 + 2048 - 320 : 56 + 2048 - 300] += round(received)
    calibrations = camera.calibrations(crosstalk=CrosstalkMatrix(terms))
    settings = DetrendSettings(read_noise_range_electrons=(0.0, 30.0))
    victim_raw = changed(raw_victim, pixels.astype(np.uint16))
    result = detrend_ccd(victim, victim_raw, {26: raw_source}, EXPOSURE, calibrations, settings)
    for columns in (slice(300, 320), slice(2048 - 320, 2048 - 300)):
        box = (slice(2000, 2020), columns)
        around = np.median(result.science[1990:2030, columns])
        assert abs(result.science[box].mean() - around) < 1e-5 * signal * 4.1
        assert (result.mask[box] & MaskBit.SSXTALK).all()
    assert result.quality["crosstalk_flagged"] == 800.0
    assert result.header["DESDCXTK"] is True


def test_a_missing_crosstalk_source_is_counted(camera, raw):
    matrix = CrosstalkMatrix((CrosstalkTerm((33, "A"), (26, "A"), 1e-4, 1e10, (0.0,)),))
    result = detrend_ccd(NORTH, raw, {}, EXPOSURE, camera.calibrations(crosstalk=matrix), DetrendSettings())
    assert result.quality["crosstalk_sources_missing"] == 1.0


@pytest.mark.parametrize(
    ("level", "reason"), [(0.0, "no_light"), (2.0e5, "saturated")], ids=["without light", "all saturated"]
)
def test_a_ccd_that_shows_nothing_is_refused_with_its_reason(camera, level, reason):
    raw = make_raw(NORTH, np.full((4096, 2048), level), camera)
    with pytest.raises(CcdError) as caught:
        detrend_ccd(NORTH, raw, {}, EXPOSURE, camera.calibrations(), DetrendSettings())
    assert caught.value.reason == reason
    assert caught.value.expnum == EXPOSURE.expnum
    assert caught.value.ccd == 33


def test_the_dead_ccd_is_refused_by_date(camera, raw):
    with pytest.raises(CcdError) as caught:
        detrend_ccd(science_ccd(61), raw, {}, EXPOSURE, camera.calibrations(), DetrendSettings())
    assert caught.value.reason == "dead_ccd"


def test_a_truncated_array_is_refused(camera, raw):
    with pytest.raises(CcdError) as caught:
        detrend_ccd(NORTH, changed(raw, raw.pixels[:3000]), {}, EXPOSURE, camera.calibrations(), DetrendSettings())
    assert caught.value.reason == "unexpected_shape"


def test_an_amplifier_that_dies_in_mid_exposure_is_masked_from_that_row_on(camera, raw):
    pixels = raw.pixels.copy()
    pixels[2500:, :1080] = 2000  # amplifier A of an N CCD returns a constant
    result = detrend_ccd(NORTH, changed(raw, pixels), {}, EXPOSURE, camera.calibrations(), DetrendSettings())
    bad = (result.mask & MaskBit.BADAMP) != 0
    assert bad[2500:, :1024].all()
    assert not bad[:2430].any()
    assert not bad[:, 1024:].any()
    assert np.nanmedian(result.mini_sky.values[:, :8][:18]) == pytest.approx(SKY, abs=1.0)
    assert np.isnan(result.mini_sky.values[20:, :8]).all()


def test_a_noisy_amplifier_is_given_up_and_the_other_kept(camera, raw):
    pixels = raw.pixels.copy()
    noise = np.random.default_rng(5).normal(0, 40.0, (pixels.shape[0], 1080))
    pixels[:, 1080:] = np.clip(pixels[:, 1080:] + noise, 0, 65535).astype(np.uint16)
    result = detrend_ccd(NORTH, changed(raw, pixels), {}, EXPOSURE, camera.calibrations(), DetrendSettings())
    assert (result.mask[:, 1024:] & MaskBit.BADAMP).all()
    assert not (result.mask[:, :1024] & MaskBit.BADAMP).any()
    assert not result.amplifiers[1].usable


def test_the_unstable_amplifier_of_ccd_31_is_masked(camera):
    ccd = science_ccd(31)
    raw = make_raw(ccd, make_light(ccd, camera, SKY), camera)
    result = detrend_ccd(ccd, raw, {}, EXPOSURE, camera.calibrations(), DetrendSettings())
    half = ccd.amplifier("A").columns
    assert (result.mask[:, half] & MaskBit.BADAMP).all()
    assert result.quality["bad_amplifier_fraction"] == pytest.approx(0.5)


def test_a_second_magnitude_star_costs_its_halo_and_its_columns(camera):
    """Full wells over 400 pixels, bleeding to both edges, and an aureole that reaches far beyond the largest halo."""
    light = make_light(NORTH, camera, SKY)
    x, y = np.meshgrid(np.arange(2048), np.arange(4096))
    light += 5e4 * 400.0**2 / np.maximum((x - 1400.0) ** 2 + (y - 2500.0) ** 2, 1.0)
    light[:, 1300:1500] = 1e6
    raw = make_raw(NORTH, np.minimum(light, 2.05e5), camera)
    result = detrend_ccd(NORTH, raw, {}, EXPOSURE, camera.calibrations(), DetrendSettings())
    core = np.hypot(x - 1400, y - 2500) < 580
    assert (result.mask[core] & (MaskBit.STAR | MaskBit.SATURATE)).all()
    assert (result.mask[:, 1300:1500] & MaskBit.TRAIL).all()
    assert result.quality["n_edge_bleeds"] == 1.0
    assert 0.1 < result.quality["not_sky_fraction"] < 0.5
    assert np.isfinite(result.mini_sky.values[2:, :4]).all()
    assert np.isnan(result.mini_sky.values[19, 10:12]).all()


def test_noise_without_a_single_source_is_processed(detrended):
    assert detrended.quality["n_saturated_stars"] == 0.0
    assert detrended.quality["masked_fraction"] == pytest.approx(15 / 2048, abs=1e-4)


def test_without_response_curves_pixels_above_nine_tenths_of_saturation_count_as_saturated(camera, raw):
    amplifier, data = NORTH.amplifier("A"), raw_sections(NORTH)["DATASECA"]
    pixels = raw.pixels.copy()
    blocks = {share: (slice(y, y + 10), slice(300, 310)) for y, share in ((1000, 0.85), (2000, 0.93), (3000, 1.05))}
    for share, (rows, columns) in blocks.items():
        level = 2000.0 + share * amplifier.saturation_adu
        pixels[rows.start + data.y0 : rows.stop + data.y0, columns.start + data.x0 : columns.stop + data.x0] = level
    bright = changed(raw, pixels)

    def saturated(**changes):
        result = detrend_ccd(NORTH, bright, {}, EXPOSURE, camera.calibrations(**changes), DetrendSettings())
        shares = {share: float(((result.mask[at] & MaskBit.SATURATE) != 0).mean()) for share, at in blocks.items()}
        return result.header, shares

    known, with_curves = saturated()
    unknown, without = saturated(linearity=None, defaults=("linearity",))
    assert with_curves == {0.85: 0.0, 0.93: 0.0, 1.05: 1.0}
    assert without == {0.85: 0.0, 0.93: 1.0, 1.05: 1.0}
    assert unknown["SATURATA"] == pytest.approx(0.9 * known["SATURATA"])
    assert (known["LINKNOWN"], unknown["LINKNOWN"]) == (True, False)
    assert unknown["CALDEFLT"] == "linearity=unknown"
    assert "CALDEFLT" not in known
    assert "DESLINC" in known and "DESLINC" not in unknown
