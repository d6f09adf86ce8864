"""Choose the search exposures of a night and their possible templates among the known exposures."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.bands import BANDS
from imaging.detector.ccds import FIELD_RADIUS_DEG
from imaging.exposure import Exposure
from imaging.skymap.model import SkyMap
from imaging.templates.night_selection import NightSelection
from imaging.templates.select import CALIBRATION_NAMES, TemplateCandidate, rule_broken
from imaging.wcs.sphere import separation_deg

STEP_DEG = 0.05
"""Distance of the points at which a field is compared with a sky map, degrees."""


@dataclass(frozen=True, slots=True)
class NightChoice:
    """The exposures chosen for a night.

    Attributes
    ----------
    search, templates
        Exposures taken, in order of number.
    left
        Sky exposures of the night that were left, with the reason.
    left_templates
        Sky exposures of other nights near the search exposures that were left, with the reason.
    """

    search: tuple[Exposure, ...]
    templates: tuple[Exposure, ...]
    left: Mapping[int, str]
    left_templates: Mapping[int, str]


def choose_exposures(
    known: Iterable[Exposure],
    night: int,
    skymap: SkyMap | None,
    rules: NightSelection,
    *,
    also_programs: Collection[str] = (),
    takes_region: bool = True,
) -> NightChoice:
    """Choose the search exposures of a night and their possible templates.

    A search exposure is a sky exposure of the night whose field touches the sky map's region, within the limits of the
    settings. A template is one of another night and the same band that overlaps a search exposure and passes the cuts
    of the templates for it.

    Parameters
    ----------
    known
        Exposures to choose from.
    night
        The night, YYYYMMDD.
    skymap
        The sky map; None if its region does not matter.
    rules
        Bands, proposals, region, times, cuts of the templates.
    also_programs
        Proposals whose exposures are taken wherever they point.
    takes_region
        Whether exposures of other proposals are taken if they lie in the region.
    """
    sky = sorted((e for e in known if e.obstype.lower() == "object"), key=lambda e: e.expnum)
    own = [e for e in sky if e.night == night]
    inside = np.ones(len(own), bool) if skymap is None else fields_in_region(own, skymap, rules.region)
    left = {}
    for exposure, is_inside in zip(own, inside.tolist(), strict=True):
        why = _why_left(exposure, rules)
        if not why and exposure.propid not in also_programs:
            why = "" if is_inside and takes_region else f"outside of the {rules.region:.0%} region"
            why = why if takes_region else "of another proposal"
        if why:
            left[exposure.expnum] = why
    search = tuple(e for e in own if e.expnum not in left)
    templates, left_templates = _templates([e for e in sky if e.night != night], search, rules)
    return NightChoice(search, templates, left, left_templates)


def _why_left(exposure: Exposure, rules: NightSelection) -> str:
    """Return why a sky exposure is no search exposure, whatever its pointing; empty if it is one."""
    name = exposure.object_name.lower()
    checks = (
        (exposure.band not in BANDS, f"band {exposure.band} is not processed"),
        (bool(rules.bands) and exposure.band not in rules.bands, f"band {exposure.band}"),
        (any(word in name for word in CALIBRATION_NAMES), "its object's name marks it as a test or calibration"),
        (exposure.exptime_s < rules.min_exptime_s, f"shorter than {rules.min_exptime_s:g} s"),
        (bool(rules.programs) and exposure.propid not in rules.programs, f"proposal {exposure.propid or 'unknown'}"),
        (rules.first_mjd is not None and exposure.mjd < rules.first_mjd, f"before MJD {rules.first_mjd}"),
        (rules.last_mjd is not None and exposure.mjd > rules.last_mjd, f"after MJD {rules.last_mjd}"),
    )
    return next((reason for applies, reason in checks if applies), "")


def fields_in_region(exposures: Sequence[Exposure], skymap: SkyMap, level: float) -> NDArray[np.bool_]:
    """Return (n,) whether the field of each exposure touches the region of a sky map.

    Parameters
    ----------
    exposures
        Exposures.
    skymap
        The sky map.
    level
        Probability of the region.
    """
    is_inside = np.zeros(len(skymap.pixel) + 1, bool)  # the last one stands for positions outside of the map
    is_inside[skymap.region(level)] = True
    axis = np.arange(-FIELD_RADIUS_DEG, FIELD_RADIUS_DEG + STEP_DEG / 2, STEP_DEG)
    x, y = (g.ravel() for g in np.meshgrid(axis, axis))
    near = np.hypot(x, y) <= FIELD_RADIUS_DEG
    radius, angle = np.radians(np.hypot(x, y)[near]), np.arctan2(x[near], y[near])
    found = []
    for e in exposures:
        dec0 = np.radians(e.dec_deg)
        sine = np.sin(dec0) * np.cos(radius) + np.cos(dec0) * np.sin(radius) * np.cos(angle)
        dra = np.arctan2(np.sin(angle) * np.sin(radius) * np.cos(dec0), np.cos(radius) - np.sin(dec0) * sine)
        dec = np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0)))
        found.append(bool(is_inside[skymap.find((e.ra_deg + np.degrees(dra)) % 360.0, dec)].any()))
    return np.array(found, bool)


def _templates(
    others: Sequence[Exposure], search: Sequence[Exposure], rules: NightSelection
) -> tuple[tuple[Exposure, ...], dict[int, str]]:
    """Return the exposures that may serve as templates, and the others near the search exposures with the reason."""
    ra, dec = (np.array([getattr(e, name) for e in others], float) for name in ("ra_deg", "dec_deg"))
    taken: set[int] = set()
    left: dict[int, str] = {}
    for target in search:
        for number in np.flatnonzero(
            separation_deg(target.ra_deg, target.dec_deg, ra, dec) < 2 * FIELD_RADIUS_DEG
        ).tolist():
            exposure = others[number]
            if exposure.expnum in taken or exposure.band != target.band:
                continue
            why = rule_broken(target, TemplateCandidate(exposure, {}), rules.templates)
            if why:
                left[exposure.expnum] = why
            else:
                taken.add(exposure.expnum)
    reasons = {expnum: why for expnum, why in left.items() if expnum not in taken}
    return tuple(e for e in others if e.expnum in taken), reasons
