"""Stable periods of the camera: nights whose biases and dome flats are alike, between jumps.

Every night has a signature: medians of blocks of every CCD. The nights are compared in order with the median of the
period so far, so that a slow drift ends a period, too, when it has become as large as a jump. A single night that the
next one does not confirm is no jump: its frames are left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from imaging.masters.settings import EraSettings

FloatArray = NDArray[np.float64]

Signature = Mapping[int, FloatArray]
"""CCD number to medians of its blocks."""


@dataclass(frozen=True, slots=True)
class Jump:
    """A change of the camera between two nights with frames of one kind.

    Attributes
    ----------
    kind
        ``bias``, or ``flat`` and the band.
    before, after
        Last night before it and first night after it, YYYYMMDD.
    ccd
        The CCD that changed most.
    amount
        By how much: ADU, or as a fraction of the response.
    """

    kind: str
    before: int
    after: int
    ccd: int
    amount: float

    def sentence(self) -> str:
        """Describe the jump."""
        by = f"{self.amount:.1f} ADU" if self.kind == "bias" else f"{self.amount:.1%}"
        return f"{self.kind} of CCD {self.ccd} changed by {by} between {self.before} and {self.after}"


@dataclass(frozen=True, slots=True)
class Period:
    """A stable period.

    Attributes
    ----------
    first_night, last_night
        Nights for which its masters hold, YYYYMMDD.
    why
        The jumps at its beginning.
    """

    first_night: int
    last_night: int
    why: tuple[str, ...] = ()


def find_jumps(
    kind: str, nights: Mapping[int, Signature], limit: float, settings: EraSettings
) -> tuple[list[Jump], dict[int, str]]:
    """Find the jumps in a series of nights.

    Parameters
    ----------
    kind
        ``bias``, or ``flat`` and the band.
    nights
        Night to signature, in units of ``limit``.
    limit
        Change that a share of a CCD's blocks must exceed.
    settings
        That share.

    Returns
    -------
    jumps
        In order of time.
    left_out
        Night to the reason why it belongs to no period.
    """
    jumps: list[Jump] = []
    left_out: dict[int, str] = {}
    order = sorted(nights)
    period: list[int] = []
    for number, night in enumerate(order):
        if period:
            ccd, by = _change(nights[night], [nights[n] for n in period], settings.block_share)
            following = order[number + 1 : number + 2]
            if by > limit and following:
                _, later = _change(nights[following[0]], [nights[n] for n in period], settings.block_share)
                if later <= limit:
                    left_out[night] = f"{kind} of CCD {ccd} unlike the nights before and after it"
                    continue
            if by > limit:
                jumps.append(Jump(kind, period[-1], night, ccd, by))
                period = []
        period.append(night)
    return jumps, left_out


def stable_periods(first: int, last: int, jumps: Iterable[Jump]) -> list[Period]:
    """Divide an era at its jumps.

    Jumps of several kinds that may have happened at the same time are one. Nights between the last one before a jump
    and the first one after it belong to the nearer of the two.

    Parameters
    ----------
    first, last
        First and last night of the era, YYYYMMDD.
    jumps
        Jumps of all kinds.
    """
    events: list[tuple[int, int, list[str]]] = []
    for jump in sorted(jumps, key=lambda jump: (jump.after, jump.before)):
        if events and jump.before < events[-1][1]:
            before, after, why = events[-1]
            events[-1] = (max(before, jump.before), after, [*why, jump.sentence()])
        else:
            events.append((jump.before, jump.after, [jump.sentence()]))
    periods: list[Period] = []
    start = first
    reasons: tuple[str, ...] = ()
    for before, after, why in events:
        gap = (_date(after) - _date(before)).days
        end = _later(before, (gap - 1) // 2)
        periods.append(Period(start, end, reasons))
        start, reasons = _later(end, 1), tuple(why)
    return [*periods, Period(start, last, reasons)]


def spread(items: Sequence[int], most: int) -> list[int]:
    """Return at most so many of some items, spread evenly over them."""
    if len(items) <= most:
        return list(items)
    return [items[round(k)] for k in np.linspace(0, len(items) - 1, most)]


def _change(new: Signature, period: Sequence[Signature], share: float) -> tuple[int, float]:
    """Return the CCD that differs most from the median of a period, and by how much its blocks differ."""
    worst, by = 0, 0.0
    for ccd, blocks in new.items():
        known = [night[ccd] for night in period if ccd in night]
        if known:
            change = float(np.quantile(np.abs(blocks - np.median(known, axis=0)), 1.0 - share))
            if change > by:
                worst, by = ccd, change
    return worst, by


def _date(night: int) -> datetime:
    return datetime.strptime(str(night), "%Y%m%d")


def _later(night: int, days: int) -> int:
    """Return the night so many days later, YYYYMMDD."""
    return int((_date(night) + timedelta(days=days)).strftime("%Y%m%d"))
