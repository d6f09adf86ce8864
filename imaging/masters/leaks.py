"""Crosstalk coefficients from bright pixels of science frames: saturated stars, their trails, cosmic rays.

Where one amplifier reads a bright pixel, another one receives a small share of it. The share is the slope of the
victim's excess over its surroundings against the source's signal, by least squares over all pixels under bright ones
and for all sources of a victim together. Pixels that hold light of their own are left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from imaging.bits import MaskBit
from imaging.detector.ccds import AmplifierName
from imaging.detector.crosstalk import CrosstalkMatrix, CrosstalkTerm, Place
from imaging.detrend.amplifiers import AmplifierFigures
from imaging.masters.adu_frames import AduFrame
from imaging.masters.settings import LeakSettings
from imaging.numerics.robust import mad_sigma

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

BLOCK = 32
"""Side of the blocks whose medians are the surroundings, pixels."""

NO_ONSET = 65535.0
"""Onset of non-linearity of pairs whose response beyond it is not known: none."""


@dataclass(frozen=True, eq=False)
class Contrast:
    """A frame above its surroundings.

    Attributes
    ----------
    signal
        (ny, nx) float32, ADU.
    is_full
        (ny, nx) bool, pixels at the ceiling of the converter.
    amplifiers
        Amplifiers A and B.
    """

    signal: FloatImage
    is_full: NDArray[np.bool_]
    amplifiers: tuple[AmplifierFigures, AmplifierFigures]

    def half(self, name: str, *, like: AmplifierFigures) -> tuple[FloatImage, NDArray[np.bool_]]:
        """Return an amplifier's pixels in the order in which ``like`` is read, and which of them are at the ceiling."""
        a = self.amplifier(name)
        step = 1 if a.is_left == like.is_left else -1
        return self.signal[:, a.columns][:, ::step], self.is_full[:, a.columns][:, ::step]

    def amplifier(self, name: str) -> AmplifierFigures:
        """Return the amplifier of this name."""
        return next(a for a in self.amplifiers if a.name == name)


@dataclass(frozen=True, eq=False)
class Leak:
    """The pixels of a victim under bright pixels of its sources, of one frame.

    Attributes
    ----------
    received
        (n,) excess of the victim over its surroundings, ADU.
    sent
        (n, n_sources) signals of the sources, ADU.
    noise_adu
        Noise of a pixel of the victim.
    """

    received: FloatArray
    sent: FloatArray
    noise_adu: float


def contrast(frame: AduFrame) -> Contrast:
    """Subtract the surroundings from a frame above its overscan."""
    signal = frame.science - _surroundings(frame.science, np.zeros(frame.science.shape, dtype=bool))
    return Contrast(signal, (frame.mask & int(MaskBit.SATURATE)) != 0, frame.amplifiers)


def _surroundings(values: FloatImage, hidden: NDArray[np.bool_]) -> FloatImage:
    """Return the medians of blocks, without the hidden pixels; NaN where most of a block is hidden."""
    shape = (values.shape[0] // BLOCK, BLOCK, values.shape[1] // BLOCK, BLOCK)
    blocks = np.where(hidden, np.float32(np.nan), values).reshape(shape)[:, ::2, :, ::2]
    blocks = blocks.swapaxes(1, 2).reshape(shape[0], shape[2], -1)
    is_hidden = np.isnan(blocks).mean(axis=2) > 0.5
    blocks[is_hidden] = 0.0
    medians = np.nanmedian(blocks, axis=2)
    medians[is_hidden] = np.nan
    return np.repeat(np.repeat(medians, BLOCK, axis=0), BLOCK, axis=1)


def find_leak(
    victim: Contrast,
    bad: NDArray[np.bool_] | None,
    name: AmplifierName,
    sources: Sequence[tuple[Contrast, AmplifierName, CrosstalkTerm | None]],
    settings: LeakSettings,
) -> Leak:
    """Select the pixels of a victim under bright pixels of its sources.

    Parameters
    ----------
    victim
        The frame of the victim.
    bad
        (ny, nx) bool, bad pixels of the victim; None for none.
    name
        Its amplifier.
    sources
        Frame, amplifier, and what is known of it: beyond the onset the response has its shape; None if it is new.
    settings
        Limits.
    """
    a = victim.amplifier(name)
    received = victim.signal[:, a.columns]
    own = _own_light(victim.signal, settings)[:, a.columns]
    usable = ~own if bad is None else ~own & ~bad[:, a.columns]
    sent = []
    bright = np.zeros(received.shape, dtype=bool)
    for source, source_name, term in sources:
        signal, is_full = source.half(source_name, like=a)
        bright |= signal > settings.bright_adu
        usable = usable & ~is_full
        if term is not None:
            beyond = signal > term.onset_adu
            if abs(term.coefficient) < settings.shape_coefficient:
                usable &= ~beyond
            elif beyond.any():
                signal = np.where(beyond, _beyond(signal - term.onset_adu, term), signal)
        sent.append(signal)
    # The level of the surroundings must not hold what leaks into them, or the slope would be too small.
    leaking = np.any([signal > settings.bright_adu / 4.0 for signal in sent], axis=0)
    received = received - _surroundings(received, leaking | ~usable)
    usable &= np.isfinite(received)
    chosen = usable & bright
    chosen[::8, ::8] |= usable[::8, ::8]  # pixels under nothing give the level
    noise = mad_sigma(received[::4, ::4][usable[::4, ::4]])
    table = np.stack([signal[chosen] for signal in sent], axis=1).astype(np.float64)
    return Leak(received[chosen].astype(np.float64), table, noise)


def fit_leaks(leaks: Iterable[Leak], guess: FloatArray, settings: LeakSettings) -> tuple[FloatArray, FloatArray]:
    """Fit the coefficients of the sources of a victim to all its frames.

    Parameters
    ----------
    leaks
        Pixels of the frames.
    guess
        (n_sources,) coefficients about which outliers are rejected at first.
    settings
        Clipping.

    Returns
    -------
    coefficients, errors
        (n_sources,) each; errors are infinite where nothing bright has been seen.
    """
    frames = [leak for leak in leaks if leak.received.size and leak.noise_adu > 0.0]
    n = guess.size
    if not frames:
        return guess, np.full(n, np.inf)
    solution = np.append(guess, 0.0)
    covariance = np.full((n + 1, n + 1), np.inf)
    for _ in range(settings.iterations):
        normal, right, squares, count = np.zeros((n + 1, n + 1)), np.zeros(n + 1), 0.0, 0
        for leak in frames:
            design = np.column_stack([leak.sent, np.ones(leak.received.size)])
            residual = (leak.received - design @ solution) / leak.noise_adu
            kept = np.abs(residual) < settings.clip_sigma
            normal += design[kept].T @ design[kept] / leak.noise_adu**2
            right += design[kept].T @ leak.received[kept] / leak.noise_adu**2
            squares, count = squares + float(np.sum(residual[kept] ** 2)), count + int(kept.sum())
        # A source without a bright pixel in any frame has no slope; a prior of one keeps the system regular.
        normal[np.arange(n), np.arange(n)] += 1.0
        covariance = np.linalg.inv(normal) * max(squares / max(count, 1), 1.0)
        solution = np.linalg.solve(normal, right + np.append(guess, 0.0))
    return solution[:n], np.sqrt(np.diag(covariance)[:n])


def updated_matrix(
    base: CrosstalkMatrix, measured: Mapping[tuple[Place, Place], tuple[float, float]], maximum_error: float
) -> tuple[CrosstalkMatrix, dict[tuple[Place, Place], float]]:
    """Return a matrix with the measured coefficients, and the errors of those that were taken.

    A pair that was not measured well enough keeps its coefficient. The response beyond the onset of non-linearity is
    scaled with the coefficient.

    Parameters
    ----------
    base
        The matrix until now.
    measured
        (victim, source) to coefficient and error.
    maximum_error
        Largest error of a coefficient that is taken.
    """
    taken = {pair: found for pair, found in measured.items() if found[1] <= maximum_error}
    terms: list[CrosstalkTerm] = []
    for term in base.terms:
        found = taken.get((term.victim, term.source))
        terms.append(term if found is None else _scaled(term, found[0]))
    known = {(term.victim, term.source) for term in base.terms}
    for (victim, source), (value, _) in sorted(taken.items()):
        if (victim, source) not in known:
            terms.append(CrosstalkTerm(victim, source, value, NO_ONSET, (value, 0.0, 0.0)))
    return CrosstalkMatrix(tuple(terms)), {pair: error for pair, (_, error) in taken.items()}


def _beyond(excess: FloatImage, term: CrosstalkTerm) -> FloatImage:
    """Return the linear signal of which as much would be received as of one with this excess over the onset."""
    received = np.zeros(excess.shape)
    for power in reversed(term.polynomial):
        received = (received + power) * excess
    return np.asarray(term.onset_adu + received / term.coefficient, dtype=np.float32)


def _scaled(term: CrosstalkTerm, coefficient: float) -> CrosstalkTerm:
    ratio = coefficient / term.coefficient if term.coefficient else 0.0
    scaled = tuple(ratio * value for value in term.polynomial) if 0.2 < ratio < 5.0 else (coefficient, 0.0, 0.0)
    return CrosstalkTerm(term.victim, term.source, coefficient, term.onset_adu, scaled)


def _own_light(signal: FloatImage, settings: LeakSettings) -> NDArray[Any]:
    """Return the pixels with light of their own and around it, far around what is very bright."""
    near = maximum_filter(signal > settings.own_adu, size=2 * settings.own_reach_pixels + 1)
    coarse = (signal > settings.bright_own_adu).reshape(signal.shape[0] // 16, 16, signal.shape[1] // 16, 16)
    far = maximum_filter(coarse.any(axis=(1, 3)), size=2 * settings.bright_own_reach_blocks + 1)
    return near | np.repeat(np.repeat(far, 16, axis=0), 16, axis=1)
