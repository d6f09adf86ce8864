"""Response curves from ramps whose lamp, shutter and curves are known: recovered, or refused by name."""

import numpy as np
import pytest

from imaging.detector.ccds import NX, science_ccd
from imaging.detector.sections import Section
from imaging.detrend.amplifiers import AmplifierFigures
from imaging.errors import CcdError
from imaging.masters.adu_frames import AduFrame
from imaging.masters.ramp import RampFrame, fit_ramp, frame_signals
from imaging.masters.settings import RampSettings
from imaging.simulation.camera import LINEARITY_ADU, linearity_table

CCD = science_ccd(33)
SATURATION = {a.name: a.saturation_adu for a in CCD.amplifiers}
TRUTH = linearity_table(61, CCD)
SETTINGS = RampSettings()
IN_TURN = (0.3, 6.0, 21.0, 0.6, 10.0, 24.0, 1.2, 14.0, 26.0, 2.0, 18.0, 28.0, 3.5, 29.0)
"""Exposure times, short and long in turn."""
SHUTTER_S = 0.009


def ramp(times=IN_TURN, rates=(1500.0, 150.0), seed=3, passes=2):
    """Return frames of two bands, every time twice, under a lamp that drifts by one per cent."""
    random, frames, mjd = np.random.default_rng(seed), {}, 60440.9
    for band, rate in zip("ig", rates, strict=False):
        for exptime in times * passes:
            lamp = 1.0 + 0.01 * np.sin(100.0 * (mjd - 60440.9)) + random.normal(0.0, 1.5e-4)
            adu = {}
            for a in CCD.amplifiers:
                light = rate * (1.02 if a.name == "A" else 1.0) * lamp * (exptime + SHUTTER_S)
                signal = float(np.interp(light, TRUTH[a.name], LINEARITY_ADU)) + random.normal(0.0, 0.05)
                if 100.0 < signal < 0.96 * a.saturation_adu:
                    adu[a.name] = signal
            frames[len(frames)] = RampFrame(band, mjd, exptime, adu)
            mjd += (exptime + 29.0) / 86400.0
    return frames


def worst(fit, name):
    """Return the largest deviation of a curve from the truth from 500 ADU to 90 % of saturation, but for its scale."""
    adu = np.linspace(500.0, 0.9 * SATURATION[name], 500)
    scale = np.interp(SETTINGS.reference_adu, LINEARITY_ADU, TRUTH[name]) / SETTINGS.reference_adu
    true = np.interp(adu, LINEARITY_ADU, TRUTH[name]) / scale
    return float(np.abs(np.interp(adu, fit.table.adu, fit.table.linear[name]) / true - 1.0).max())


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_curves_are_within_a_per_mille_of_the_truth(seed):
    fit = fit_ramp(ramp(seed=seed), CCD.ccdnum, SATURATION, SETTINGS)
    for name in "AB":
        assert worst(fit, name) < 1e-3
        factor = TRUTH[name] / np.maximum(LINEARITY_ADU, 1.0)
        assert np.ptp(factor[10:]) > 3e-3, "a straight line would not do"
        assert np.interp(SETTINGS.reference_adu, fit.table.adu, fit.table.linear[name]) == pytest.approx(1e4, rel=1e-6)
    assert fit.shutter_s == pytest.approx(SHUTTER_S, abs=5 * fit.shutter_error_s)
    assert fit.shutter_error_s < 1e-3
    assert fit.left_out == ()


@pytest.mark.parametrize("number", [0, 9, 27])
def test_a_frame_with_another_lamp_is_left_out(number):
    frames = ramp()
    dim(frames, number)
    fit = fit_ramp(frames, CCD.ccdnum, SATURATION, SETTINGS)
    assert fit.left_out == (number,)
    assert max(worst(fit, name) for name in "AB") < 1e-3


def dim(frames, *numbers):
    for number in numbers:
        whole = frames[number]
        signals = {name: 0.98 * value for name, value in whole.adu.items()}
        frames[number] = RampFrame(whole.band, whole.mjd, whole.exptime_s, signals)


def test_a_lamp_that_flickers_is_refused():
    frames = ramp()
    dim(frames, *range(1, 56, 8))
    with pytest.raises(CcdError) as refused:
        fit_ramp(frames, CCD.ccdnum, SATURATION, SETTINGS)
    assert refused.value.reason in ("ramp_unsteady", "ramp_ambiguous")


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (
            ramp(times=tuple(sorted(IN_TURN + IN_TURN)), passes=1),
            "ramp_ambiguous",
        ),  # the lamp drifts as the signal rises
        (ramp(rates=(1500.0,)), "ramp_ambiguous"),  # the shutter looks like a curve
        (ramp(times=IN_TURN[:5]), "ramp_short"),
        (ramp(times=IN_TURN[-5:] * 2), "too_few_exposures"),
        ({}, "too_few_exposures"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(frames, reason):
    settings = SETTINGS.with_values(lowest_adu=3000.0) if reason == "too_few_exposures" else SETTINGS
    with pytest.raises(CcdError) as refused:
        fit_ramp(frames, CCD.ccdnum, SATURATION, settings)
    assert refused.value.reason == reason


def flat_frame(electrons, seed):
    """Return a dome flat of 400 rows with a hot pixel, a cosmic ray, glowing edges and an amplifier that is dead."""
    random = np.random.default_rng(seed)
    science = (electrons / 4.0 + np.sqrt(electrons) / 4.0 * random.standard_normal((400, NX))).astype(np.float32)
    science[:, :12] *= 1.1
    science[200, 300:340] = 50000.0
    science[:, 700] = 0.0
    places = {a.name: (a.columns, Section(0, 10, 0, 10)) for a in CCD.amplifiers}
    a, b = (
        AmplifierFigures(x.name, *places[x.name], places[x.name][1], x.is_left, x.gain, 6.0, 40000.0, x.name == "A")
        for x in CCD.amplifiers
    )
    return AduFrame(science, np.zeros(science.shape, np.int16), (a, b), {})


def test_signals_of_a_frame():
    assert science_ccd(33).amplifier("A").is_left is flat_frame(4.0, 1).amplifiers[0].is_left
    signals = frame_signals(flat_frame(80000.0, 1), SETTINGS)
    assert signals.keys() == {"A"}
    assert signals["A"] == pytest.approx(20000.0, abs=4 * np.sqrt(80000.0) / 4.0 / np.sqrt(272 * 958))
    assert frame_signals(flat_frame(157000.0, 1), SETTINGS) == {}, "some pixels are saturated"
    assert frame_signals(flat_frame(200.0, 1), SETTINGS) == {}
