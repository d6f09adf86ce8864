"""Recognise how the flats of others are normalised and in which unit their frames were, from the flats themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imaging.detector.ccds import AMPLIFIER_WIDTH, CCDS, Ccd
from imaging.errors import InputError

PER_CCD = 0.002
"""Medians that all agree with one within this are those of flats divided by their own median; the CCDs' responses to
the lamp differ by several per cent."""

BORDER_COLUMNS = 64
"""Columns on either side of the border between the amplifiers whose medians are compared."""

MEANINGFUL = 0.01
"""Least rms difference of the gains of two amplifiers, as a fraction, by which the unit can be told."""

TOLERANCE = 0.25
"""Deviation of the slope from zero or one up to which the unit is certain."""


@dataclass(frozen=True, slots=True)
class FlatFigures:
    """What is measured on the flat of a CCD.

    Attributes
    ----------
    median
        Median response.
    step
        Logarithm of the response right of the border between the amplifiers over that left of it.
    """

    median: float
    step: float


def flat_figures(flat: NDArray[np.float32]) -> FlatFigures:
    """Measure median and step at the border of the amplifiers of a flat, (ny, nx)."""
    left = flat[::4, AMPLIFIER_WIDTH - BORDER_COLUMNS - 4 : AMPLIFIER_WIDTH - 4]
    right = flat[::4, AMPLIFIER_WIDTH + 4 : AMPLIFIER_WIDTH + 4 + BORDER_COLUMNS]
    return FlatFigures(float(np.nanmedian(flat[::8, ::8])), float(np.log(np.nanmedian(right) / np.nanmedian(left))))


def gain_step(ccd: Ccd) -> float:
    """Return the step that a flat of frames in ADU has: the logarithm of the left gain over the right one."""
    left, right = sorted(ccd.amplifiers, key=lambda amplifier: not amplifier.is_left)
    return float(np.log(left.gain / right.gain))


def flat_unit(figures: Mapping[int, FlatFigures]) -> Literal["electron", "adu", "unknown"]:
    """Return the unit of the frames of a set of flats, by the steps between the amplifiers.

    Frames in electrons have the same level on both sides of the border, frames in ADU levels in the inverse ratio of
    the gains. The pipeline divides electrons by the flat.

    Parameters
    ----------
    figures
        CCD number to figures of its flat.

    Returns
    -------
    unit
        ``unknown`` if the gains of these CCDs do not differ enough to tell.

    Raises
    ------
    InputError
        If the steps agree with neither.
    """
    expected = np.array([gain_step(CCDS[ccd]) for ccd in figures])
    found = np.array([each.step for each in figures.values()])
    if np.sqrt(np.mean(expected**2)) < MEANINGFUL:
        return "unknown"
    slope = float(expected @ found / (expected @ expected))
    if abs(slope) < TOLERANCE:
        return "electron"
    if abs(slope - 1.0) < TOLERANCE:
        return "adu"
    raise InputError(
        "flats neither of frames in electrons nor of frames in ADU",
        value=f"steps between amplifiers are {slope:.2f} of those of the gains",
        limit="0 or 1",
        remedy="build flats from raw frames with build-calibrations",
    )


def require_common_scale(figures: Mapping[int, FlatFigures]) -> str:
    """Return how a set of flats is normalised; raise if each is by itself.

    Parameters
    ----------
    figures
        CCD number to figures of its flat.

    Raises
    ------
    InputError
        If every CCD's flat has the median one: then the CCDs' responses relative to each other are lost, and the sky
        and zero points of an exposure would have steps between CCDs.
    """
    medians = np.array([each.median for each in figures.values()])
    if medians.size == 1:
        return "scale of one CCD"
    if np.abs(medians - 1.0).max() < PER_CCD:
        raise InputError(
            "flats are normalised per CCD, so the response of the CCDs relative to each other is lost",
            value=f"medians {medians.min():.4f} to {medians.max():.4f}",
            limit="one scale for the focal plane",
            remedy="take the flats before this normalisation, or build them with build-calibrations",
        )
    return "normalised over the focal plane"
