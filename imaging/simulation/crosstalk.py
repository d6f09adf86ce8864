"""Simulated crosstalk between amplifiers that are read out simultaneously."""

from collections.abc import Mapping

import numpy as np
from numba import njit
from numpy.typing import NDArray

from imaging.detector.ccds import CCDS, AmplifierName
from imaging.detector.crosstalk import CrosstalkTerm
from imaging.detector.sections import RAW_NX

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

LARGEST_ADU = 63000.0
"""Largest signal of an amplifier above its level."""


@njit(cache=True)
def _leak(
    victim: FloatImage, source: FloatImage, mirrored: bool, coefficient: float, onset: float, polynomial: FloatArray
) -> None:
    ny, nx = victim.shape
    for row in range(ny):
        for column in range(nx):
            signal = source[row, nx - 1 - column if mirrored else column]
            signal = min(signal, LARGEST_ADU)
            if signal <= onset:
                victim[row, column] += coefficient * signal
            else:
                excess = signal - onset
                received = 0.0
                for k in range(len(polynomial) - 1, -1, -1):
                    received = (received + polynomial[k]) * excess
                victim[row, column] += coefficient * onset + received


def add_crosstalk(
    victim: FloatImage, ccdnum: int, terms: tuple[CrosstalkTerm, ...], sources: Mapping[int, FloatImage]
) -> FloatImage:
    """Return a CCD's analog image with crosstalk.

    Parameters
    ----------
    victim
        (ny, 2160) float32, ADU above the level.
    ccdnum
        The victim.
    terms
        Terms into the victim.
    sources
        Analog images of the source CCDs, including the victim; missing ones contribute nothing.
    """
    out = victim.copy()
    for term in terms:
        if term.source[0] not in sources:
            continue
        target, origin = _half(ccdnum, term.victim[1]), _half(*term.source)
        _leak(
            out[:, target],
            sources[term.source[0]][:, origin],
            target != origin,
            term.coefficient,
            term.onset_adu,
            np.array(term.polynomial),
        )
    return out


def _half(ccdnum: int, amplifier: AmplifierName) -> slice:
    """Columns of an amplifier in the raw layout, prescan and overscan included."""
    middle = RAW_NX // 2
    return slice(0, middle) if CCDS[ccdnum].amplifier(amplifier).is_left else slice(middle, RAW_NX)
