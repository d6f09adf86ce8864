"""Link the streaks of an exposure's CCDs into trails, and predict them on CCDs where they were not detected.

All positions are in the tangent plane of the camera, where the path of a satellite is straight: in pixels, the optical
distortion bends it by a dozen pixels over the focal plane.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.detector.ccds import NX, NY, PIXEL_SCALE_ARCSEC
from imaging.masks.settings import StreakSettings
from imaging.masks.streak_model import Streak
from imaging.wcs.tpv import TpvWcs

FloatArray = NDArray[np.float64]

STEP_PIXELS = 8.0
"""Spacing of the points at which a trail is tested for crossing a CCD."""
END_MARGIN_PIXELS = 160.0
"""A streak whose end is farther than this from every border of its CCD ends there."""


@dataclass(frozen=True, slots=True)
class Trail:
    """One object's path over the focal plane.

    Attributes
    ----------
    seen
        CCDs on which it was found.
    predicted
        CCDs that it crosses without having been found.
    angle_deg
        Direction in the tangent plane, from xi (east) towards eta (north).
    distance_deg
        Distance of its line from the tangent point.
    rms_pixels
        Scatter of the streaks about the line.
    """

    seen: tuple[int, ...]
    predicted: tuple[int, ...]
    angle_deg: float
    distance_deg: float
    rms_pixels: float


@dataclass(frozen=True)
class LinkedStreaks:
    """The trails of an exposure.

    Attributes
    ----------
    trails
        Trails found on at least the required number of CCDs.
    predicted
        CCD number to the additional streaks to mask.
    """

    trails: tuple[Trail, ...]
    predicted: dict[int, tuple[Streak, ...]]


@dataclass(frozen=True, eq=False)
class _Piece:
    """A streak in the tangent plane, pixels of the nominal scale: points along it, and which ends are on the CCD."""

    ccd: int
    streak: Streak
    x: FloatArray
    y: FloatArray
    ends: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class _Line:
    """Points p with n . p = distance, n = (-sin, cos) of the angle."""

    angle: float
    distance: float
    rms: float

    def across(self, x: FloatArray, y: FloatArray) -> FloatArray:
        return y * np.cos(self.angle) - x * np.sin(self.angle) - self.distance

    def along(self, x: FloatArray, y: FloatArray) -> FloatArray:
        return x * np.cos(self.angle) + y * np.sin(self.angle)


def link_streaks(
    streaks: Mapping[int, Sequence[Streak]], geometry: Mapping[int, TpvWcs], settings: StreakSettings
) -> LinkedStreaks:
    """Link streaks over the CCDs of an exposure.

    Parameters
    ----------
    streaks
        CCD number to the streaks found on it; CCDs without streaks may be missing.
    geometry
        CCD number to coordinates, for every CCD of the exposure; all must share one tangent point. The nominal ones
        (:func:`imaging.detector.distortion.seed_wcs`) are good enough.
    settings
        Tolerances.

    Returns
    -------
    linked
        Trails, and streaks to mask on CCDs where they were not detected.
    """
    pieces = [
        _in_plane(ccd, streak, geometry[ccd]) for ccd in sorted(streaks) for streak in streaks[ccd] if ccd in geometry
    ]
    pieces.sort(key=lambda piece: -piece.streak.significance)
    trails: list[Trail] = []
    predicted: dict[int, list[Streak]] = {}
    while pieces:
        line, members = _gather(pieces, settings)
        pieces = [piece for piece in pieces if not any(piece is member for member in members)]
        seen = tuple(sorted({member.ccd for member in members}))
        if len(seen) < settings.link_minimum_ccds:
            continue
        missing = {}
        for ccd, wcs in geometry.items():
            if ccd not in seen:
                streak = _predict(line, members, wcs, settings)
                if streak is not None:
                    missing[ccd] = streak
                    predicted.setdefault(ccd, []).append(streak)
        scale = PIXEL_SCALE_ARCSEC / 3600.0
        angle = float(np.degrees(line.angle))
        trails.append(Trail(seen, tuple(sorted(missing)), angle, line.distance * scale, line.rms))
    return LinkedStreaks(tuple(trails), {ccd: tuple(items) for ccd, items in sorted(predicted.items())})


def _in_plane(ccd: int, streak: Streak, wcs: TpvWcs) -> _Piece:
    x, y = streak.points(9)
    xi, eta = wcs.pixel_to_plane(x, y)
    scale = 3600.0 / PIXEL_SCALE_ARCSEC
    ends = tuple(
        min(px, NX - 1 - px, py, NY - 1 - py) > END_MARGIN_PIXELS
        for px, py in ((streak.x0, streak.y0), (streak.x1, streak.y1))
    )
    return _Piece(ccd, streak, xi * scale, eta * scale, (ends[0], ends[1]))


def _gather(pieces: list[_Piece], settings: StreakSettings) -> tuple[_Line, list[_Piece]]:
    """Collect the pieces on the line of the first one, nearest first, refitting after each."""
    members = [pieces[0]]
    line = _fit(members)
    centre = np.array([pieces[0].x.mean(), pieces[0].y.mean()])
    others = sorted(pieces[1:], key=lambda p: float(np.hypot(p.x.mean() - centre[0], p.y.mean() - centre[1])))
    for piece in others:
        turn = np.arctan2(piece.y[-1] - piece.y[0], piece.x[-1] - piece.x[0]) - line.angle
        aligned = abs(np.sin(turn)) < np.sin(np.radians(settings.link_angle_deg))
        if aligned and np.abs(line.across(piece.x, piece.y)).max() < settings.link_distance_pixels + _lever(
            line, members, piece
        ):
            members.append(piece)
            line = _fit(members)
    return line, members


def _lever(line: _Line, members: list[_Piece], piece: _Piece) -> float:
    """Return the error of the line at a piece: its direction is known to about a pixel over its length."""
    along = np.concatenate([line.along(member.x, member.y) for member in members])
    length = max(float(np.ptp(along)), 1.0)
    return float(np.abs(line.along(piece.x, piece.y) - along.mean()).max()) / length


def _fit(members: list[_Piece]) -> _Line:
    """Fit a line to all points of the pieces by their principal axis."""
    x, y = np.concatenate([m.x for m in members]), np.concatenate([m.y for m in members])
    u, v = x - x.mean(), y - y.mean()
    angle = 0.5 * np.arctan2(2.0 * np.mean(u * v), np.mean(u * u) - np.mean(v * v))
    distance = y.mean() * np.cos(angle) - x.mean() * np.sin(angle)
    rms = float(np.sqrt(np.mean((v * np.cos(angle) - u * np.sin(angle)) ** 2)))
    return _Line(float(angle), float(distance), rms)


def _extent(line: _Line, members: list[_Piece]) -> tuple[float, float]:
    """Return the limits along the line: infinite unless the outermost piece ends inside its CCD."""
    low, high = -np.inf, np.inf
    positions = [(line.along(m.x[[0, -1]], m.y[[0, -1]]), m.ends) for m in members]
    first = min(positions, key=lambda p: float(p[0].min()))
    last = max(positions, key=lambda p: float(p[0].max()))
    if first[1][int(np.argmin(first[0]))]:
        low = float(first[0].min())
    if last[1][int(np.argmax(last[0]))]:
        high = float(last[0].max())
    return low, high


def _predict(line: _Line, members: list[_Piece], wcs: TpvWcs, settings: StreakSettings) -> Streak | None:
    """Return the predicted streak of a trail on a CCD; None if it misses the CCD."""
    corners = wcs.pixel_to_plane(np.array([0.0, NX - 1, NX - 1, 0.0]), np.array([0.0, 0.0, NY - 1, NY - 1]))
    scale = 3600.0 / PIXEL_SCALE_ARCSEC
    reach = line.along(corners[0] * scale, corners[1] * scale)
    low, high = _extent(line, members)
    along = np.arange(max(low, reach.min() - NX), min(high, reach.max() + NX), STEP_PIXELS)
    if along.size < 3:
        return None
    xi = (along * np.cos(line.angle) - line.distance * np.sin(line.angle)) / scale
    eta = (along * np.sin(line.angle) + line.distance * np.cos(line.angle)) / scale
    x, y = wcs.plane_to_pixel(xi, eta)
    half_width = max(m.streak.half_width_pixels for m in members) + settings.link_margin_pixels
    near = (x > -half_width) & (x < NX - 1 + half_width) & (y > -half_width) & (y < NY - 1 + half_width)
    inside = np.flatnonzero(near)
    if inside.size < 3:
        return None
    first, last = max(int(inside[0]) - 1, 0), min(int(inside[-1]) + 1, x.size - 1)
    middle = (first + last) // 2
    length = np.hypot(x[last] - x[first], y[last] - y[first])
    ux, uy = (x[last] - x[first]) / length, (y[last] - y[first]) / length
    typical = [float(np.median([getattr(m.streak, name) for m in members])) for name in _SHARED]
    return Streak(
        x0=float(x[first]),
        y0=float(y[first]),
        x1=float(x[last]),
        y1=float(y[last]),
        sagitta_pixels=float((y[middle] - y[first]) * ux - (x[middle] - x[first]) * uy),
        fwhm_pixels=typical[0],
        half_width_pixels=float(half_width),
        surface_electrons=typical[1],
        surface_sigma=typical[2],
        significance=0.0,
    )


_SHARED = ("fwhm_pixels", "surface_electrons", "surface_sigma")
