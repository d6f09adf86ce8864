"""Simulated detector: Poisson noise, full wells, linearity, read noise, bias, digitisation."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.detector.ccds import AMPLIFIER_WIDTH, NX, AmplifierName, Ccd
from imaging.detector.sections import OVERSCAN, POSTSCAN, PRESCAN, RAW_NX
from imaging.simulation.bleed import bleed_columns, spread_at_register
from imaging.simulation.camera import SHARED_BACKPLANE, Defects, read_noise_electrons, register_below

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

FULL_WELL_OVER_SATURATION = 1.03
"""Ratio of the full well to the header's saturation level."""

FOCUS_ROWS = 2048 + POSTSCAN
"""Rows of the focus CCDs; after their readout the level of CCDs on the shared backplane jumps."""

UNSTABLE_AMPLIFIER: tuple[int, AmplifierName] = (31, "A")


@njit(cache=True)
def _collect(
    light: FloatImage,
    star_flat: FloatImage,
    flat: FloatImage,
    sky: FloatImage,
    noise: FloatImage,
) -> None:
    """Convert the light of sources to collected electrons in place: response, sky, Poisson noise.

    The noise is a Gaussian with the Poisson distribution's variance and skewness (Cornish and Fisher 1938).
    """
    ny, nx = light.shape
    for row in range(ny):
        for column in range(nx):
            mean = (light[row, column] * star_flat[row, column] + sky[row, column]) * flat[row, column]
            n = noise[row, column]
            mean = max(mean, np.float32(0.0))
            light[row, column] = (
                mean + np.sqrt(mean) * n + (n * n - np.float32(1.0)) / np.float32(6.0) * min(mean, np.float32(1.0))
            )


def collect_light(
    light: FloatImage, star_flat: FloatImage, flat: FloatImage, sky: FloatImage, random: np.random.Generator
) -> FloatImage:
    """Return the electrons collected by a CCD.

    Parameters
    ----------
    light
        (ny, nx) float32, electrons of the sources for unit response; overwritten.
    star_flat, flat
        (ny, nx) float32, response to stars over that to the flat lamp, and response to the flat lamp.
    sky
        (ny, nx) float32, electrons of the sky for unit flat.
    random
        Generator.
    """
    _collect(light, star_flat, flat, sky, random.standard_normal(light.shape, dtype=np.float32))
    return light


def overflow(electrons: FloatImage, ccd: Ccd) -> NDArray[np.bool_]:
    """Redistribute charge above the full wells, in place.

    Parameters
    ----------
    electrons
        (ny, nx) float32.
    ccd
        The CCD.

    Returns
    -------
    altered
        (ny, nx) bool: saturated pixels and pixels with bled charge.
    """
    before = electrons.copy()
    full_well = np.empty(NX)
    for amplifier in ccd.amplifiers:
        full_well[amplifier.columns] = amplifier.saturation_adu * amplifier.gain * FULL_WELL_OVER_SATURATION
    below = register_below(ccd)
    spilt = bleed_columns(electrons, full_well, below)
    if spilt.any():
        halves = (slice(0, AMPLIFIER_WIDTH), slice(AMPLIFIER_WIDTH, NX))
        spread_at_register(electrons, spilt, full_well, below, halves)
    return (electrons != before) | (electrons >= full_well.astype(np.float32))


@njit(cache=True)
def _convert(
    out: FloatImage,
    electrons: FloatImage,
    bias: FloatImage,
    gain: FloatArray,
    measured: FloatArray,
) -> None:
    """Add signal in measured ADU and bias to existing noise."""
    ny, nx = electrons.shape
    last = len(measured) - 2
    for row in range(ny):
        for column in range(nx):
            adu = electrons[row, column] / gain[row]
            if adu > 0.0:
                k = min(int(adu), last)
                adu = measured[k] + (measured[k + 1] - measured[k]) * (adu - k)
            out[row, column] += adu + bias[row, column]


def read_out(
    electrons: FloatImage | None,
    bias: FloatImage,
    linearity: tuple[FloatArray, dict[AmplifierName, FloatArray]],
    ccd: Ccd,
    random: np.random.Generator,
) -> FloatImage:
    """Return the signal of the amplifiers above their bias level, before crosstalk: raw layout, float32 ADU.

    Parameters
    ----------
    electrons
        (ny, nx) float32; None for a CCD without an image.
    bias
        (ny, nx) float32, ADU.
    linearity
        Measured ADU, and the corresponding linear ADU of each amplifier.
    ccd
        The CCD.
    random
        Generator.
    """
    out = random.standard_normal((ccd.ny + POSTSCAN, RAW_NX), dtype=np.float32)
    y0 = 0 if ccd.a_is_left else POSTSCAN
    left = PRESCAN + OVERSCAN
    for amplifier in ccd.amplifiers:
        half = slice(0, RAW_NX // 2) if amplifier.is_left else slice(RAW_NX // 2, RAW_NX)
        out[:, half] *= read_noise_electrons(ccd, amplifier.name) / amplifier.gain
        if electrons is None:
            continue
        gain = np.full(ccd.ny, amplifier.gain)
        if (ccd.ccdnum, amplifier.name) == UNSTABLE_AMPLIFIER:
            gain *= _unstable_gain(ccd.ny, random)
        measured = np.interp(np.arange(70000.0), linearity[1][amplifier.name], linearity[0])
        columns = amplifier.columns
        target = out[y0 : y0 + ccd.ny, left + columns.start : left + columns.stop]
        _convert(target, electrons[:, columns], bias[:, columns], gain, measured)
    return out


def _unstable_gain(ny: int, random: np.random.Generator) -> FloatArray:
    wander = np.cumsum(random.normal(0.0, 1.0, ny)) / math.sqrt(ny)
    return 1.0 + random.normal(0.0, 0.1) + 0.03 * wander


def add_column_offsets(bias: FloatImage, defects: Defects, random: np.random.Generator) -> FloatImage:
    """Return the bias of one exposure: bad columns deviate from their mean level by a third over their length."""
    changed = bias.copy()
    for x, y0, y1, level in zip(defects.column, defects.first_row, defects.last_row, defects.mean_adu, strict=True):
        changed[y0 : y1 + 1, x] += np.float32(level * random.normal(0.0, 0.33))
    return changed


def bias_level(ccd: Ccd, amplifier: AmplifierName, random: np.random.Generator) -> FloatImage:
    """Return the overscan level of each raw row: (ny + 50,) float32, ADU.

    It settles within the first rows read, varies by a fraction of an ADU, and jumps on the shared backplane after the
    readout of the focus CCDs.
    """
    rows = ccd.ny + POSTSCAN
    step = np.arange(rows)
    wander = np.empty(rows)
    kicks = random.normal(0.0, 1.0, rows)
    memory = math.exp(-1.0 / 150.0)
    value = kicks[0]
    for k in range(rows):
        value = memory * value + math.sqrt(1.0 - memory**2) * kicks[k]
        wander[k] = value
    base = ccd.overscan_adu + (0.0 if amplifier == "A" else 103.0) + random.normal(0.0, 3.0)
    level = base + 0.6 * wander + 0.25 * random.normal(0.0, 1.0, rows) - 7.0 * np.exp(-step / 60.0)
    if ccd.backplane == SHARED_BACKPLANE:
        level += np.where(step >= FOCUS_ROWS, 6.5, 0.0)
    return (level if register_below(ccd) else level[::-1]).astype(np.float32)


@njit(cache=True)
def _digitise(out: NDArray[np.uint16], analog: FloatImage, left: FloatImage, right: FloatImage) -> None:
    ny, nx = analog.shape
    for row in range(ny):
        for column in range(nx):
            level = left[row] if column < nx // 2 else right[row]
            value = np.floor(analog[row, column] + level + np.float32(0.5))
            out[row, column] = np.uint16(min(max(value, np.float32(0.0)), np.float32(65535.0)))


def digitise(analog: FloatImage, left_level: FloatImage, right_level: FloatImage) -> NDArray[np.uint16]:
    """Return the raw image: bias levels added, rounded, clipped to 16 bits.

    Parameters
    ----------
    analog
        (ny, 2160) float32, ADU above the level.
    left_level, right_level
        (ny,) levels of the left and right amplifier, ADU.
    """
    out = np.empty(analog.shape, dtype=np.uint16)
    _digitise(out, analog, left_level, right_level)
    return out
