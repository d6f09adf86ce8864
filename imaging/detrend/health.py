"""Detect amplifiers that did not work, entirely or in some rows."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from imaging.bands import BANDS
from imaging.bits import MaskBit
from imaging.detrend.amplifiers import AmplifierFigures
from imaging.detrend.overscan import Overscan
from imaging.detrend.settings import DetrendSettings
from imaging.errors import CcdError
from imaging.exposure import Exposure

SAMPLED_COLUMNS = 32
"""Number of columns per amplifier of which the median is taken in each row."""
SMOOTHED_ROWS = 65
"""Rows over which an amplifier is tested; bad stretches shorter than half of it are not detected."""
WITHOUT_LIGHT = ("zero", "bias", "dark")
"""Observation types without light."""


def noisy_rows(overscan: Overscan, gain: float, limits: tuple[float, float]) -> NDArray[np.bool_]:
    """Find the rows in which an amplifier's noise is far too high or zero.

    Parameters
    ----------
    overscan
        The amplifier's overscan.
    gain
        Electrons per ADU.
    limits
        Plausible range of the noise, electrons.

    Returns
    -------
    noisy
        (ny,) bool.
    """
    noise = median_filter(overscan.row_noise_adu, SMOOTHED_ROWS, mode="nearest") * gain
    return (noise < limits[0]) | (noise > limits[1])


def dark_rows(
    science: NDArray[np.float32],
    amplifiers: tuple[AmplifierFigures, ...],
    exposure: Exposure,
    settings: DetrendSettings,
) -> tuple[float, dict[str, NDArray[np.bool_]]]:
    """Find the rows in which an amplifier received no light while the CCD did.

    Parameters
    ----------
    science
        (ny, nx) float32, electrons.
    amplifiers
        The amplifiers to test, without those known to be unusable.
    exposure
        Gives the expected sky.
    settings
        Fractions of the sky that count as light.

    Returns
    -------
    level
        The CCD's level, electrons; NaN without amplifiers.
    dark
        Amplifier name to (ny,) bool.
    """
    if not amplifiers:
        return float("nan"), {}
    rows = {a.name: _row_levels(science, a) for a in amplifiers}
    if exposure.obstype.lower() in WITHOUT_LIGHT or exposure.exptime_s <= 0:
        level = float(np.median(np.concatenate(list(rows.values()))))
        return level, {name: np.zeros(values.size, dtype=bool) for name, values in rows.items()}
    floor = light_floor(exposure, settings.light_fraction)
    lit = np.concatenate([values[values > floor] for values in rows.values()])
    level = float(np.median(lit)) if lit.size else 0.0
    limit = max(floor, settings.dead_row_fraction * level)
    return level, {name: values < limit for name, values in rows.items()}


def light_floor(exposure: Exposure, fraction: float) -> float:
    """Return the level in electrons that any sky exceeds; one electron for bands without a dark-sky level."""
    band = BANDS.get(exposure.band)
    return fraction * band.sky_rate_electrons * exposure.exptime_s if band else 1.0


def mask_dead_rows(
    mask: NDArray[np.int16], amplifiers: tuple[AmplifierFigures, ...], dead: dict[str, NDArray[np.bool_]]
) -> None:
    """Set BADAMP on dead rows, and on the whole half of an amplifier that is unusable.

    A dead stretch is widened by half the smoothing length, the accuracy of its end.
    """
    for amplifier in amplifiers:
        if not amplifier.usable:
            mask[:, amplifier.columns] |= np.int16(MaskBit.BADAMP)
        elif dead[amplifier.name].any():
            wide = np.convolve(dead[amplifier.name], np.ones(SMOOTHED_ROWS), mode="same") > 0
            mask[wide, amplifier.columns] |= np.int16(MaskBit.BADAMP)


def require_working(
    amplifiers: tuple[AmplifierFigures, ...],
    dead: dict[str, NDArray[np.bool_]],
    level: float,
    floor: float,
    where: dict[str, object],
) -> None:
    """Raise if no row of any amplifier can be used.

    Raises
    ------
    CcdError
        With reason ``dead_ccd`` if no amplifier works, ``no_light`` if the working ones received no light.
    """
    usable = [a for a in amplifiers if a.usable]
    if not usable:
        noise = ", ".join(f"{a.name} {a.read_noise_electrons:.1f}" for a in amplifiers)
        raise CcdError(
            "no amplifier of this CCD works",
            reason="dead_ccd",
            value=f"0 of {len(amplifiers)} usable; read noise {noise} electrons",
            limit="at least 1",
            remedy="check the overscan of the raw file",
            **where,
        )
    if all(dead[a.name].all() for a in usable):
        raise CcdError(
            "the CCD received no light",
            reason="no_light",
            value=f"{level:.1f} electrons",
            limit=f"at least {floor:.1f} for this band and exposure time",
            remedy="check the shutter and the filter of this exposure",
            **where,
        )


def _row_levels(science: NDArray[np.float32], amplifier: AmplifierFigures) -> NDArray[np.float32]:
    step = (amplifier.columns.stop - amplifier.columns.start) // SAMPLED_COLUMNS
    sample = science[:, amplifier.columns.start + step // 2 : amplifier.columns.stop : step]
    return median_filter(np.median(sample, axis=1), SMOOTHED_ROWS, mode="nearest")
