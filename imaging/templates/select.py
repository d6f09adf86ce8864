"""Select templates for the CCDs of a search exposure, with the reason for each choice or rejection."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.exposure import Exposure
from imaging.schemas.difference import TEMPLATE_CHOICES
from imaging.tables import make_table
from imaging.templates.settings import TemplateSettings
from imaging.wcs.sphere import plane_overlap, polygon_centre, separation_deg
from imaging.wcs.tpv import sky_to_plane

FloatArray = NDArray[np.float64]

DAYS_PER_YEAR = 365.25

CALIBRATION_NAMES = ("zero", "flat", "test", "junk", "bias", "slew", "pointing", "commish")
"""Words in an object's name that mark a test or calibration exposure (the original pipeline's list)."""


@dataclass(frozen=True, eq=False)
class TemplateTarget:
    """A search exposure whose CCDs need templates.

    Attributes
    ----------
    exposure
        The search exposure.
    footprints
        CCD number to (4, 2) corners, RA and Dec in degrees.
    """

    exposure: Exposure
    footprints: Mapping[int, FloatArray]


@dataclass(frozen=True, eq=False)
class TemplateCandidate:
    """An earlier (or later) exposure, or a stack of such, that may be used as a template.

    Attributes
    ----------
    exposure
        The exposure.
    footprints
        CCD number to (n, 2) corners of its usable CCDs, convex polygons, degrees; four of a CCD.
    t_eff
        Effective exposure-time factor; NaN if unknown.
    limit_mag
        Five-sigma depth; NaN if unknown.
    fwhm_arcsec
        Seeing; NaN if unknown.
    sources
        CCD number to pipeline and file of imported images.
    first_mjd
        Time of the first exposure of a stack on the sky, whose ``exposure`` is the last; None for one exposure.
    """

    exposure: Exposure
    footprints: Mapping[int, FloatArray]
    t_eff: float = math.nan
    limit_mag: float = math.nan
    fwhm_arcsec: float = math.nan
    sources: Mapping[int, str] = field(default_factory=dict)
    first_mjd: float | None = None


@dataclass(frozen=True, slots=True)
class _Overlap:
    """One CCD of one candidate that overlaps a search CCD, with its corners in the plane of that CCD."""

    candidate: TemplateCandidate
    ccd: int
    share: float
    merit: float
    corners: FloatArray


@dataclass(frozen=True, eq=False)
class _Located:
    """A candidate that passes the cuts, with its rating and the circles around its CCDs, degrees."""

    candidate: TemplateCandidate
    merit: float
    ccds: tuple[int, ...]
    corners: FloatArray
    ra: FloatArray
    dec: FloatArray
    radius: FloatArray


def select_templates(
    target: TemplateTarget, candidates: Sequence[TemplateCandidate], settings: TemplateSettings
) -> pa.Table:
    """Select templates for every CCD of a search exposure.

    An exposure must pass the cuts of the original pipeline (band, exposure time, effective time, time windows, nights,
    blacklist). Those that pass are ranked, per search CCD, by depth, seeing and time, and chosen until the CCD is
    covered often enough, less often by ones that are much broader than the sharpest. What none of them covers takes
    those whose effective time alone is too short: a part of the CCD only what covers it once.

    Parameters
    ----------
    target
        Search exposure.
    candidates
        Exposures to choose from; the search exposure itself is rejected.
    settings
        Cuts, weights of the ranking, largest number.

    Returns
    -------
    choices
        Table TEMPLATE_CHOICES: one row per search CCD and template CCD considered, and one per exposure that failed a
        cut or has no overlap; ``rank`` is set for those chosen.
    """
    rows: list[dict[str, object]] = []
    eligible: list[_Located] = []
    spare: list[_Located] = []
    cuts = {band: settings.spare_t_eff_share * cut for band, cut in settings.min_t_eff.items()}
    lower = settings.model_copy(update={"min_t_eff": cuts})
    for candidate in candidates:
        broken = rule_broken(target.exposure, candidate, settings)
        if broken:
            rows.append(_row(target, 0, candidate, 0, 0.0, None, broken))
        if not rule_broken(target.exposure, candidate, lower):
            (spare if broken else eligible).append(_locate(target, candidate, settings))
    for ccd, footprint in sorted(target.footprints.items()):
        choice = _Choice(target, ccd, footprint)
        choice.take(eligible, settings, settings.target_covers)
        choice.take(spare, settings, 1 if choice.taken else settings.target_covers)
        rows += choice.rows
    columns = {name: [row[name] for row in rows] for name in TEMPLATE_CHOICES.names}
    return make_table(columns, TEMPLATE_CHOICES)


def rule_broken(search: Exposure, candidate: TemplateCandidate, settings: TemplateSettings) -> str:
    """Return the reason why a candidate is rejected; empty if it passes.

    Parameters
    ----------
    search
        Search exposure.
    candidate
        Candidate.
    settings
        The cuts.
    """
    exposure = candidate.exposure
    delta, first = exposure.mjd - search.mjd, candidate.first_mjd
    begun = delta if first is None else first - search.mjd
    before = settings.min_days if settings.min_days_before is None else settings.min_days_before
    after = settings.min_days if settings.min_days_after is None else settings.min_days_after
    t_eff_cut = settings.min_t_eff.get(exposure.band, 0.0)
    name = exposure.object_name.lower()
    checks = (
        (exposure.expnum == search.expnum, "the search exposure itself"),
        (exposure.band != search.band, f"band {exposure.band} is not {search.band}"),
        (exposure.obstype != "object", f"a {exposure.obstype}, not a sky exposure"),
        (any(word in name for word in CALIBRATION_NAMES), "its object's name marks it as a test or calibration"),
        (exposure.expnum in settings.blacklist, "on the blacklist"),
        (
            first is None and exposure.exptime_s < settings.min_exptime_s,
            f"exposure of {exposure.exptime_s:g} s is shorter than {settings.min_exptime_s:g} s",
        ),
        (candidate.t_eff < t_eff_cut, f"effective time {candidate.t_eff:.2f} is below {t_eff_cut:g}"),
        (delta < 0 and -delta < before, f"{-delta:.1f} d before the search, less than {before:g} d"),
        (
            delta >= 0 and begun < 0,
            f"a stack with exposures from {-begun:.1f} d before to {delta:.1f} d after the search",
        ),
        (delta >= 0 and begun < after, f"{begun:.1f} d after the search, less than {after:g} d"),
        (exposure.night < settings.first_night, f"night {exposure.night} is before {settings.first_night}"),
        (exposure.night > settings.last_night, f"night {exposure.night} is after {settings.last_night}"),
    )
    return next((reason for broken, reason in checks if broken), "")


def merit(search: Exposure, candidate: TemplateCandidate, settings: TemplateSettings) -> float:
    """Return the rating of a template: inverse noise variance of a point source, decreased with time difference.

    Parameters
    ----------
    search
        Search exposure.
    candidate
        Candidate; an unknown depth is replaced by exposure time and effective factor, an unknown seeing by the
        reference.
    settings
        Weights.
    """
    if math.isfinite(candidate.limit_mag):
        depth = 10 ** (0.8 * (candidate.limit_mag - 24.0))
    else:
        t_eff = candidate.t_eff if math.isfinite(candidate.t_eff) else 0.5
        depth = t_eff * candidate.exposure.exptime_s / 100.0
    fwhm = candidate.fwhm_arcsec if math.isfinite(candidate.fwhm_arcsec) else settings.reference_fwhm_arcsec
    years = abs(candidate.exposure.mjd - search.mjd) / DAYS_PER_YEAR
    return depth * (settings.reference_fwhm_arcsec / fwhm) / (1.0 + settings.year_penalty * years)


class _Choice:
    """The templates chosen for one search CCD so far.

    ``rows`` tell every one considered, ``taken`` how many were chosen, ``covers`` how often they cover points that are
    distributed evenly over the CCD, ``sharpest`` their best seeing in arcseconds.
    """

    def __init__(self, target: TemplateTarget, ccd: int, footprint: FloatArray) -> None:
        self.target, self.ccd, self.footprint = target, ccd, footprint
        self.points = _sample(footprint)
        self.rows: list[dict[str, object]] = []
        self.covers, self.taken, self.sharpest = np.zeros(len(self.points), dtype=int), 0, math.inf

    def take(self, located: Sequence[_Located], settings: TemplateSettings, most_covers: int) -> None:
        """Choose among candidates, best first, until each point is covered ``most_covers`` times."""
        overlaps = _overlaps(self.footprint, located)
        for overlap in sorted(overlaps, key=lambda o: (-o.merit * o.share, o.candidate.exposure.expnum, o.ccd)):
            rank: int | None = None
            fwhm = overlap.candidate.fwhm_arcsec
            is_broad = fwhm > settings.broad_ratio * self.sharpest
            target_covers = min(most_covers, settings.broad_covers) if is_broad else most_covers
            open_points = self.covers < target_covers
            inside = _inside(self.points, overlap.corners) if open_points.any() else open_points
            wanted = float(np.mean(inside & open_points))
            if overlap.share < settings.min_overlap:
                reason = f"overlap {100 * overlap.share:.1f} % is below {100 * settings.min_overlap:g} %"
            elif self.taken >= settings.max_templates:
                reason = f"{settings.max_templates} better ones were taken"
            elif wanted < settings.min_overlap:
                broad = f'; {fwhm:.2f}" beside {self.sharpest:.2f}"' if is_broad else ""
                reason = f"better ones cover the same part {target_covers} times{broad}"
            else:
                self.taken += 1
                self.covers += inside
                self.sharpest = min(self.sharpest, fwhm) if math.isfinite(fwhm) else self.sharpest
                rank, reason = self.taken, "taken"
            self.rows.append(_row(self.target, self.ccd, overlap.candidate, overlap.ccd, overlap.share, rank, reason))


def _sample(footprint: FloatArray, n: int = 12) -> FloatArray:
    """Return (n n, 2) points distributed evenly over a footprint, in its tangent plane, degrees."""
    corners = np.stack(sky_to_plane(footprint[:, 0], footprint[:, 1], *polygon_centre(footprint)), axis=-1)
    u, v = (g.ravel()[:, None] for g in np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n))
    low = corners[0] + u * (corners[1] - corners[0])
    high = corners[3] + u * (corners[2] - corners[3])
    return low + v * (high - low)


def _inside(points: FloatArray, polygon: FloatArray) -> NDArray[np.bool_]:
    """Return which points of a plane are in a convex polygon."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    side = edges[None, :, 0] * (points[:, None, 1] - polygon[None, :, 1]) - edges[None, :, 1] * (
        points[:, None, 0] - polygon[None, :, 0]
    )
    return np.logical_or((side >= 0).all(axis=1), (side <= 0).all(axis=1))


def _locate(target: TemplateTarget, candidate: TemplateCandidate, settings: TemplateSettings) -> _Located:
    ccds = tuple(sorted(candidate.footprints))
    n = max((len(footprint) for footprint in candidate.footprints.values()), default=4)
    corners = np.array(
        [[*f, *[f[-1]] * (n - len(f))] for f in (candidate.footprints[ccd] for ccd in ccds)], dtype=float
    )
    corners = corners.reshape(len(ccds), -1, 2)
    centres = np.array([polygon_centre(c) for c in corners]).reshape(-1, 2)
    ra, dec = centres[:, 0], centres[:, 1]
    radius = separation_deg(ra[:, None], dec[:, None], corners[..., 0], corners[..., 1]).max(axis=1, initial=0.0)
    return _Located(candidate, merit(target.exposure, candidate, settings), ccds, corners, ra, dec, radius)


def _overlaps(footprint: FloatArray, eligible: Sequence[_Located]) -> list[_Overlap]:
    centre = polygon_centre(footprint)
    reach = float(separation_deg(*centre, footprint[:, 0], footprint[:, 1]).max())
    own = np.stack(sky_to_plane(footprint[:, 0], footprint[:, 1], *centre), axis=-1)
    overlaps = []
    for located in eligible:
        near = np.flatnonzero(separation_deg(*centre, located.ra, located.dec) <= reach + located.radius)
        if near.size == 0:
            continue
        sky = located.corners[near]
        planes = np.stack(sky_to_plane(sky[..., 0], sky[..., 1], *centre), axis=-1)
        for number, corners in zip(near.tolist(), planes, strict=True):
            share = float(plane_overlap(own, corners))
            if share > 0.0:
                overlaps.append(_Overlap(located.candidate, located.ccds[number], share, located.merit, corners))
    return overlaps


def _row(
    target: TemplateTarget,
    ccd: int,
    candidate: TemplateCandidate,
    template_ccd: int,
    share: float,
    rank: int | None,
    reason: str,
) -> dict[str, object]:
    search, exposure = target.exposure, candidate.exposure
    return {
        "expnum": search.expnum,
        "band": search.band,
        "night": search.night,
        "ccd": ccd,
        "template_expnum": exposure.expnum,
        "template_ccd": template_ccd,
        "overlap_fraction": share,
        "delta_days": exposure.mjd - search.mjd,
        "limit_mag": candidate.limit_mag if math.isfinite(candidate.limit_mag) else None,
        "fwhm_arcsec": candidate.fwhm_arcsec if math.isfinite(candidate.fwhm_arcsec) else None,
        "rank": rank,
        "reason": reason,
        "source": candidate.sources.get(template_ccd) or ("" if template_ccd else _first(candidate.sources)),
    }


def _first(sources: Mapping[int, str]) -> str:
    return sources[min(sources)] if sources else ""
