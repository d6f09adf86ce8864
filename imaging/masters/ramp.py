"""Response curves of the amplifiers of one CCD from a ramp: dome flats of different exposure times.

Every frame gives the mean signal of each amplifier. Logarithms make the model linear: measured signal times the factor
of linearity is the rate of the amplifier in the band, times the lamp, times the time for which the shutter was open.
The lamp drifts slowly; the shutter is open longer than the header says by a time that is the same in all frames. Two
bands have two rates, which tell an offset of the shutter from a curve at low signals.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from imaging.detector.ccds import AMPLIFIERS, NX, AmplifierName
from imaging.detector.linearity import LinearityTable
from imaging.errors import CcdError
from imaging.masters.adu_frames import AduFrame
from imaging.masters.settings import RampSettings
from imaging.numerics.robust import mad_sigma

FloatArray = NDArray[np.float64]

TABLE_ADU = np.concatenate([np.arange(0.0, 2000.0, 50.0), np.arange(2000.0, 65001.0, 500.0)])
"""Signals of the table, ADU above the bias."""

OVERSCAN_ERROR_ADU = 0.1
"""Error of the level of a frame by its overscan and bias."""

EDGE = 64
"""Pixels at the borders of the CCD that are left out: they glow."""

CUBIC = 3


@dataclass(frozen=True, eq=False)
class RampFrame:
    """The signals of one frame of a ramp.

    Attributes
    ----------
    band
        Band.
    mjd
        Start of the exposure.
    exptime_s
        Exposure time of the header.
    adu
        Amplifier to mean signal, ADU above the bias; amplifiers that cannot be used are absent.
    """

    band: str
    mjd: float
    exptime_s: float
    adu: Mapping[AmplifierName, float]


@dataclass(frozen=True, eq=False)
class RampFit:
    """Response curves with what was fitted beside them.

    Attributes
    ----------
    table
        The curves; unchanged at :attr:`imaging.masters.settings.RampSettings.reference_adu`.
    error
        Largest error of a curve between the lowest signal asked for and the highest of the ramp, as a fraction.
    highest_adu
        Amplifier to highest signal of the ramp.
    shutter_s, shutter_error_s
        Time for which the shutter is open longer than the header says, and its error.
    scatter
        Scatter of a frame about the model, as a fraction.
    left_out
        Exposure numbers of the frames that deviate.
    """

    table: LinearityTable
    error: float
    highest_adu: Mapping[AmplifierName, float]
    shutter_s: float
    shutter_error_s: float
    scatter: float
    left_out: tuple[int, ...]


def fit_ramp(
    frames: Mapping[int, RampFrame], ccdnum: int, saturation_adu: Mapping[AmplifierName, float], settings: RampSettings
) -> RampFit:
    """Fit the response curves of a CCD's amplifiers.

    Only the shape of a curve can be measured; its scale is that of the gain.

    Parameters
    ----------
    frames
        Exposure number to frame.
    ccdnum
        CCD number, for messages.
    saturation_adu
        Amplifier to saturation level, ADU above the bias.
    settings
        Reference signal, smoothness, limits.

    Raises
    ------
    CcdError
        With reason ``too_few_exposures``, ``ramp_short`` if it does not reach from the lowest signal asked for to near
        saturation, ``ramp_unsteady`` if many frames deviate, or ``ramp_ambiguous`` if they do not tell lamp, shutter
        and curve apart to the accuracy that is asked for.
    """
    names = [name for name in AMPLIFIERS if any(name in frame.adu for frame in frames.values())]
    if not names:
        _require_enough(0, 0, 0, ccdnum, settings)
    for name in names:
        signals = [frame.adu[name] for frame in frames.values() if name in frame.adu]
        _require_reach(name, signals, saturation_adu[name], ccdnum, settings)
    model = _Model(frames, names, ccdnum, settings)
    for softly in (True, False):
        for _ in range(settings.maximum_iterations):
            if not model.improve(softly=softly):
                break
    _require_agreement(model, len(frames), ccdnum)
    error = max(model.error_of(name) for name in names)
    if not error <= settings.maximum_error:
        raise CcdError(
            "the ramp does not tell lamp, shutter and curve apart",
            reason="ramp_ambiguous",
            ccd=ccdnum,
            step="measure_linearity",
            value=f"error of the curve {error:.2%}, scatter of a frame {model.scatter:.2%}",
            limit=f"{settings.maximum_error:.2%}",
            remedy="take short and long exposures in turn, in two bands of different brightness",
        )
    curves = {name: TABLE_ADU * np.exp(model.curve(name, TABLE_ADU)) for name in names}
    whole = {name: curves.get(name, TABLE_ADU) for name in AMPLIFIERS}
    return RampFit(
        LinearityTable(TABLE_ADU, whole),
        error,
        {name: float(np.exp(model.splines[name].t[-1])) for name in names},
        model.shutter_s,
        float(np.sqrt(model.covariance[0, 0])),
        model.scatter,
        tuple(sorted(model.left_out)),
    )


def frame_signals(frame: AduFrame, settings: RampSettings) -> dict[AmplifierName, float]:
    """Return the clipped mean signal of each amplifier that is neither dark nor saturated: amplifier to ADU.

    Parameters
    ----------
    frame
        A dome flat above overscan, crosstalk and bias.
    settings
        Range of signals, clipping limit, which rejects bad pixels.
    """
    signals: dict[AmplifierName, float] = {}
    for a in frame.amplifiers:
        columns = slice(max(a.columns.start, EDGE), min(a.columns.stop, NX - EDGE))
        inside = (slice(EDGE, -EDGE), columns)
        values = frame.science[inside]
        sample = values[::4, ::4]
        is_full = np.percentile(sample, 99.9) >= settings.saturation_share * a.saturation_adu
        if not a.usable or is_full:
            continue
        middle, sigma = float(np.median(sample)), mad_sigma(sample)
        kept = values[np.abs(values - middle) <= settings.clip_sigma * sigma]
        mean = float(kept.mean(dtype=float)) if kept.size else 0.0
        if mean >= settings.floor_adu:
            signals[a.name] = mean
    return signals


class _Model:
    """The linear model of all signals, its data and its present solution."""

    def __init__(
        self, frames: Mapping[int, RampFrame], names: list[AmplifierName], ccdnum: int, settings: RampSettings
    ) -> None:
        self.settings = settings
        numbers = sorted(frames)
        self.bands = sorted({frame.band for frame in frames.values()})
        rows = [(n, frames[n], name) for n in numbers for name in names if name in frames[n].adu]
        self.expnum = np.array([n for n, _, _ in rows])
        self.adu = np.array([frame.adu[name] for _, frame, name in rows])
        self.time = np.array([frame.exptime_s for _, frame, _ in rows])
        self.mjd = np.array([frame.mjd for _, frame, _ in rows])
        self.band = np.array([frame.band for _, frame, _ in rows])
        self.name = np.array([name for _, _, name in rows])
        self.weight = 1.0 / np.hypot(settings.lamp_noise, OVERSCAN_ERROR_ADU / self.adu)
        self.splines = {name: _spline(self.adu[self.name == name], settings) for name in names}
        self.columns, self.parts = self._design(names)
        _require_enough(self.adu.size, self.columns.shape[1] + 1, len(set(self.time)), ccdnum, settings)
        self.trust = np.ones(self.adu.size)
        self.shutter_s, self.scatter = 0.0, settings.lamp_noise
        self.solution = np.zeros(self.columns.shape[1] + 1)
        self.covariance = np.zeros((self.solution.size, self.solution.size))

    @property
    def left_out(self) -> set[int]:
        """Exposure numbers of the frames with a signal that was left out."""
        return {int(n) for n in self.expnum[self.trust == 0.0]}

    def _design(self, names: list[AmplifierName]) -> tuple[FloatArray, dict[AmplifierName, slice]]:
        """Return the columns of rates, lamp and curves, and which of them are the curve of each amplifier."""
        columns: list[FloatArray] = []
        for band in self.bands:
            inside = self.band == band
            columns += [(inside & (self.name == name)).astype(float) for name in names]
            first, last = self.mjd[inside].min(), self.mjd[inside].max()
            scaled = 2.0 * (self.mjd - first) / max(last - first, 1e-6) - 1.0
            powers = legendre.legvander(np.clip(scaled, -1.0, 1.0), self.settings.lamp_degree)[:, 1:]
            columns += list((powers * inside[:, None]).T)
        parts: dict[AmplifierName, slice] = {}
        for name in names:
            basis = -self._basis(name, self.adu) * (self.name == name)[:, None]
            parts[name] = slice(len(columns) + 1, len(columns) + 1 + basis.shape[1])
            columns += list(basis.T)
        return np.array(columns).T, parts

    def _basis(self, name: AmplifierName, adu: FloatArray) -> FloatArray:
        """Return the splines of an amplifier that vanish at the reference signal: (n, n_splines - 1)."""
        spline = self.splines[name]
        low, high = spline.t[0], spline.t[-1]
        places = np.clip(np.log(np.maximum(np.append(adu, self.settings.reference_adu), 1.0)), low, high)
        values = BSpline.design_matrix(places, spline.t, CUBIC).toarray()
        return np.asarray(values[:-1, 1:] - values[-1:, 1:])

    def improve(self, *, softly: bool) -> bool:
        """Solve once more about the present shutter; return whether the choice of frames or the shutter changed.

        Parameters
        ----------
        softly
            Give frames that deviate less weight (Cauchy), so that those at the ends do not draw the curve to
            themselves; otherwise leave them out.
        """
        opened = self.time + self.shutter_s
        design = np.column_stack([1.0 / opened, self.columns])
        values = np.log(self.adu) - np.log(opened) + self.shutter_s / opened
        prior = np.zeros((1, design.shape[1]))
        prior[0, 0] = 1.0 / self.settings.shutter_error_s
        weight = self.weight * self.trust
        rows = np.vstack([design * weight[:, None], prior])
        self.solution = np.linalg.lstsq(rows, np.append(values * weight, 0.0), rcond=None)[0]
        residual = (values - design @ self.solution) * self.weight
        kept = self.trust > 0.0
        freedom = max(int(kept.sum()) + 1 - design.shape[1], 1)
        reduced = float(np.sqrt(np.sum((residual * self.trust) ** 2) / freedom))
        # Both amplifiers see one lamp: their signals in a frame count as one.
        self.covariance = np.linalg.pinv(rows.T @ rows) * max(reduced, 1.0) ** 2 * len(self.splines)
        self.scatter = reduced * self.settings.lamp_noise
        deviation = np.abs(residual) / max(mad_sigma(residual[kept]), 0.5)
        frame = np.array([deviation[self.expnum == n].max() for n in self.expnum])
        trust = 1.0 / np.hypot(1.0, frame / 2.0) if softly else (frame <= self.settings.clip_sigma).astype(float)
        moved = abs(self.solution[0] - self.shutter_s)
        self.shutter_s = float(np.clip(self.solution[0], -0.5 * self.time.min(), None))
        changed = not np.allclose(trust, self.trust, atol=1e-3)
        self.trust = trust
        return bool(changed or moved > 1e-7)

    def curve(self, name: AmplifierName, adu: FloatArray) -> FloatArray:
        """Return the logarithm of the factor of linearity; constant beyond the signals of the ramp."""
        return self._basis(name, adu) @ self.solution[self.parts[name]]

    def error_of(self, name: AmplifierName) -> float:
        """Return the largest error of a curve between the lowest signal asked for and the highest of the ramp."""
        low, high = np.log(self.settings.lowest_adu), self.splines[name].t[-1]
        basis = self._basis(name, np.exp(np.linspace(low, high, 100)))
        part = self.parts[name]
        return float(np.sqrt(np.einsum("ij,jk,ik->i", basis, self.covariance[part, part], basis).max()))


def _require_agreement(model: "_Model", n_frames: int, ccdnum: int) -> None:
    share = model.settings.maximum_left_out
    if len(model.left_out) > share * n_frames:
        raise CcdError(
            "the frames of the ramp do not agree",
            reason="ramp_unsteady",
            ccd=ccdnum,
            step="measure_linearity",
            value=f"exposures {', '.join(map(str, sorted(model.left_out)))} deviate, of {n_frames}",
            limit=f"{share:.0%} of the frames",
            remedy="remove exposures with another lamp, or take every exposure time twice",
        )


def _require_reach(name: str, signals: list[float], saturation: float, ccdnum: int, settings: RampSettings) -> None:
    low, high = settings.lowest_adu, settings.reach * saturation
    if not min(signals) <= low <= settings.reference_adu <= high <= max(signals):
        raise CcdError(
            "the ramp does not cover the range of the amplifier",
            reason="ramp_short",
            ccd=ccdnum,
            step="measure_linearity",
            value=f"amplifier {name}: {min(signals):.0f} to {max(signals):.0f} ADU in frames without saturation",
            limit=f"from {low:.0f} or below to {high:.0f} ADU or above",
            remedy="add exposure times, at intervals of 3 % near saturation",
        )


def _spline(adu: FloatArray, settings: RampSettings) -> BSpline:
    """Return cubic splines in the logarithm of the signal, with intervals that hold the same number of frames."""
    ordered = np.log(np.sort(adu))
    intervals = int(np.clip(adu.size // settings.frames_per_interval, 2, settings.maximum_intervals))
    inner = np.linspace(ordered[0], ordered[-1], intervals + 1)
    return BSpline(np.concatenate([[inner[0]] * CUBIC, inner, [inner[-1]] * CUBIC]), np.zeros(intervals + CUBIC), CUBIC)


def _require_enough(found: int, unknowns: int, times: int, ccdnum: int, settings: RampSettings) -> None:
    if times < settings.minimum_times or found <= unknowns:
        raise CcdError(
            "too few exposures of the ramp can be used",
            reason="too_few_exposures",
            ccd=ccdnum,
            step="measure_linearity",
            value=f"{times} exposure times, {found} signals",
            limit=f"at least {settings.minimum_times} exposure times and {unknowns + 1} signals",
            remedy="take more exposures of different exposure times",
        )
