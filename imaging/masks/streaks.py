"""Detect streaks of satellites, aircraft and meteors on one CCD."""

import numpy as np
from numpy.typing import NDArray

from imaging.bits import NO_WEIGHT, MaskBit
from imaging.masks.settings import StreakSettings
from imaging.masks.spikes import is_spike
from imaging.masks.streak_model import Streak
from imaging.masks.streak_search import Candidate, search_lines
from imaging.masks.streak_trace import StreakTracer

LEFT_OUT = int((NO_WEIGHT | MaskBit.STAR | MaskBit.SSXTALK) & ~MaskBit.STREAK)
"""Bits of pixels ignored in the search; halos and ghosts have edges that mimic streaks."""
COARSE = 4
"""Ratio of the bins of the second search to those of the first."""
COARSE_SHARE = 0.625
"""Its threshold over that of the first: a wide streak fills so many bins that it makes most of their scatter."""
NEARLY_VERTICAL_DEG = 0.2
NARROW_PIXELS = 4.0
"""Lines at least as steep and as narrow as this are detector columns."""
ALONG_TRAIL_DEG = 1.0
"""Lines at least as steep as this are what bleed trails leave, where there are some at least as long: crosstalk, and in
a stack the columns that one of its images lacks."""
LEAST_RADIUS_PIXELS = 1600.0
"""Radius of the largest ghost of a star, 400 arcseconds, and somewhat more: a line as curved as that is its rim."""


def find_streaks(
    science: NDArray[np.float32], weight: NDArray[np.float32], mask: NDArray[np.int16], settings: StreakSettings
) -> list[Streak]:
    """Find streaks.

    Lines are searched on the binned image, in windows, with a Radon transform of clipped signal to noise, and once more
    with bins four times as large, for the trails of low satellites and aircraft, which are out of focus and up to half
    an arcminute wide. Each candidate is then straightened and verified piece by piece over the CCD. Candidates visible
    in too few pieces, such as chains of sources, are rejected. So are the spikes of saturated stars, rims of ghosts,
    and what lies along bleed trails.

    Parameters
    ----------
    science
        (ny, nx) float32, electrons, sky subtracted.
    weight
        (ny, nx) float32, inverse variance without the sources' shot noise.
    mask
        (ny, nx) int16, with stars, trails and cosmic rays.
    settings
        Limits.

    Returns
    -------
    streaks
        The most significant first.
    """
    tracer = StreakTracer(science, weight, mask, LEFT_OUT, settings)
    streaks: list[Streak] = []
    others: list[Streak] = []
    longest_trail = int(np.count_nonzero(mask & np.int16(MaskBit.TRAIL), axis=0).max())
    coarse = settings.with_values(
        bin_pixels=COARSE * settings.bin_pixels, detect_sigma=COARSE_SHARE * settings.detect_sigma
    )
    candidates = [(c, False) for c in search_lines(science, weight, mask, LEFT_OUT, settings)]
    candidates += [(c, True) for c in search_lines(science, weight, mask, LEFT_OUT, coarse)]
    for candidate, is_wide in candidates:
        if any(_same_line(candidate, streak, settings) for streak in streaks + others):
            continue
        streak = tracer.trace_wide(candidate) if is_wide else tracer.trace(candidate)
        if streak is None or any(_overlaps(streak, other) for other in streaks):
            continue
        if _is_column(streak, longest_trail) or _is_rim(streak) or is_spike((science, weight, mask), streak):
            others.append(streak)
            continue
        streaks.append(streak)
        if len(streaks) == settings.maximum_streaks:
            break
    return sorted(streaks, key=lambda streak: -streak.significance)


def _same_line(candidate: Candidate, streak: Streak, settings: StreakSettings) -> bool:
    """Whether a candidate is part of a streak already found."""
    length = streak.length_pixels
    ux, uy = (streak.x1 - streak.x0) / length, (streak.y1 - streak.y0) / length
    turn = abs(np.sin(candidate.angle) * ux - np.cos(candidate.angle) * uy)
    across = abs((candidate.y - streak.y0) * ux - (candidate.x - streak.x0) * uy)
    near = 3.0 * streak.half_width_pixels + 2.0 * settings.bin_pixels + abs(streak.sagitta_pixels)
    return bool(turn < 0.1 and across < near)


def _overlaps(streak: Streak, other: Streak) -> bool:
    """Whether a streak mostly overlaps another one."""
    x, y = streak.points(9)
    length = other.length_pixels
    ux, uy = (other.x1 - other.x0) / length, (other.y1 - other.y0) / length
    along = (x - other.x0) * ux + (y - other.y0) * uy
    across = np.abs((y - other.y0) * ux - (x - other.x0) * uy)
    on = (across < other.half_width_pixels + abs(other.sagitta_pixels)) & (along > 0) & (along < length)
    return bool(on.mean() > 0.5)


def _is_column(streak: Streak, longest_trail: int) -> bool:
    """Whether a streak lies along the columns, in which the longest bleed trail has so many rows."""
    width, height = abs(streak.x1 - streak.x0), abs(streak.y1 - streak.y0)
    narrow = streak.fwhm_pixels < NARROW_PIXELS and width < np.tan(np.radians(NEARLY_VERTICAL_DEG)) * height
    return bool(narrow or (longest_trail >= height and width < np.tan(np.radians(ALONG_TRAIL_DEG)) * height))


def _is_rim(streak: Streak) -> bool:
    """Whether a streak is as curved as the rim of a ghost."""
    return bool(abs(streak.sagitta_pixels) > streak.length_pixels**2 / (8.0 * LEAST_RADIUS_PIXELS))
