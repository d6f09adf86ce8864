"""Descriptions in words of a candidate's flags and rank parts."""

import math
from collections.abc import Mapping
from typing import Any

from imaging.candidates.classify import CLASSES, probability_column
from imaging.candidates.rank import PARTS
from imaging.candidates.reports import moment
from imaging.schemas.candidates import CandidateFlag

Row = Mapping[str, Any]

FLAG_WORDS: dict[CandidateFlag, str] = {
    CandidateFlag.MOVER: "moves within the night: an asteroid",
    CandidateFlag.KNOWN_VARIABLE: "on a star that is known to vary",
    CandidateFlag.NEAR_STAR: "in the halo of a bright star",
    CandidateFlag.NUCLEAR: "in the core of its host",
    CandidateFlag.IN_HISTORY: "something was there before the merger",
    CandidateFlag.SINGLE_DETECTION: "detected once",
    CandidateFlag.NEGATIVE: "fainter than in the template in some exposure",
    CandidateFlag.ON_STAR: "on a star with a parallax or proper motion",
    CandidateFlag.ON_POINT_SOURCE: "on a point source: a star or a quasar",
    CandidateFlag.OUTSIDE_MAP: "outside the credible region of the sky map",
    CandidateFlag.BEFORE_EVENT: "first detected before the merger",
    CandidateFlag.MINOR_PLANET: "a known minor planet",
    CandidateFlag.ACTIVE_NUCLEUS: "on a known active nucleus or quasar",
    CandidateFlag.REPORTED_EARLIER: "reported as a transient that was discovered before the merger",
    CandidateFlag.FLASH: "gone in another exposure of the same hours: a glint, a flare or a moving object",
}

PART_TITLES: dict[str, str] = {
    "skymap": "sky map",
    "distance": "host distance",
    "real": "real or bogus",
    "lightcurve": "light curve",
    "host": "place in host",
    "time": "time",
    "history": "history",
    "motion": "motion",
    "reported": "reported",
}

TOLD = 0.02
"""Smallest probability of a class that is told of an undecided light curve."""


def flag_names(flags: int) -> list[str]:
    """Return the names of the bits that are set: ``['MOVER', 'NEGATIVE']``."""
    return [flag.name for flag in CandidateFlag if flags & flag and flag.name]


def flags_in_words(flags: int) -> list[str]:
    """Return a short description of each bit that is set."""
    return [FLAG_WORDS[flag] for flag in CandidateFlag if flags & flag]


def parts_in_words(row: Row, mjd_event: float) -> dict[str, str]:
    """Return a sentence about the data behind each part of a candidate's rank score.

    Parameters
    ----------
    row
        A ranked row of :data:`imaging.schemas.candidates.CANDIDATES` as a dictionary; null is None.
    mjd_event
        Time of the merger, MJD UTC.

    Returns
    -------
    sentences
        Part to sentence, in the order of :data:`imaging.candidates.rank.PARTS`.
    """
    sentences = {
        "skymap": _skymap(row),
        "distance": _distance(row),
        "real": _real(row),
        "lightcurve": _lightcurve(row),
        "host": _host(row),
        "time": _time(float(row["mjd_first"]) - mjd_event),
        "history": _history(row),
        "motion": _motion(row),
        "reported": _reported(row),
    }
    return {name: sentences[name] for name in PARTS}


def _with(template: str, value: float | None, otherwise: str) -> str:
    return otherwise if value is None or math.isnan(value) else template.format(value)


def _real(row: Row) -> str:
    return _with("score {:.2f}", row["real_score"], "no score") + _with(
        ", probability to be real {:.2f} by the night's fakes", row.get("probability_real"), ""
    )


def _skymap(row: Row) -> str:
    if not row["skymap_density"]:
        return "the map has no probability here"
    level = row["credible_level"]
    place = f"inside the {100 * level:.0f} % region" if level < 0.995 else "outside the 99 % region"
    return f"{place}, {row['skymap_density']:.3g} per square degree"


def _distance(row: Row) -> str:
    here = _with("the map says {:.0f}", row["distance_mean_mpc"], "the map has no distance")
    here += _with(" ± {:.0f} Mpc", row["distance_sigma_mpc"], "")
    if row["host_distance_mpc"] is not None:
        error = _with(" ± {:.0f}", row["host_distance_error_mpc"], "")
        source = f" ({row['host_distance_source']})" if row.get("host_distance_source") else ""
        return f"host at {row['host_distance_mpc']:.0f}{error} Mpc{source}; {here}"
    if row["host_mag"] is not None and row["distance_mean_mpc"]:
        absolute = row["host_mag"] - 5 * math.log10(row["distance_mean_mpc"]) - 25
        return f"host of unknown distance, of absolute magnitude {absolute:.1f} at the map's; {here}"
    return f"no host distance; {here}"


def _lightcurve(row: Row) -> str:
    part, kind = row["loglr_lightcurve"], row["lightcurve_class"]
    if kind is None or part is None:
        return "no photometry after the merger"
    factor = math.exp(min(abs(part), 30.0))
    amount = f"{factor:.2g}" if factor < 1000 else "over 1000"
    side = "for" if part >= 0 else "against"
    return f"{amount} times {side} a kilonova; {class_in_words(row)}"


def class_in_words(row: Row) -> str:
    """Return the class with its probability, or why it is undecided with the relative likelihoods of the likely ones.

    Parameters
    ----------
    row
        A ranked row as a dictionary; the name alone is returned for rows of version 0.2 without probabilities.

    Returns
    -------
    words
        ``kilonova 97 %``; ``class undecided (one night, one band), relative likelihoods kilonova 97 %, flash 3 %``.
    """
    kind = str(row["lightcurve_class"])
    chances = {name: row.get(probability_column(name)) or 0.0 for name in CLASSES}
    if kind in chances:
        return f"{kind} {100 * chances[kind]:.0f} %" if chances[kind] else kind
    because = f" ({row['undecided_because']})" if row.get("undecided_because") else ""
    likely = sorted((name for name in CLASSES if chances[name] >= TOLD), key=lambda name: -chances[name])
    told = ", ".join(f"{name} {100 * chances[name]:.0f} %" for name in likely)
    return f"class {kind}{because}{', relative likelihoods ' if told else ''}{told}"


def _host(row: Row) -> str:
    if row["host_separation_arcsec"] is None:
        return "no host within reach"
    mag = _with(" of magnitude {:.1f}", row["host_mag"], "")
    return f"{row['host_separation_arcsec']:.1f} arcsec, {row['host_dlr']:.1f} light radii, from a galaxy{mag}"


def _time(days: float) -> str:
    return f"first detected {abs(days):.2f} d {'after' if days >= 0 else 'before'} the merger"


def _history(row: Row) -> str:
    told = CandidateFlag.IN_HISTORY | CandidateFlag.KNOWN_VARIABLE | CandidateFlag.ON_STAR
    told |= CandidateFlag.ON_POINT_SOURCE | CandidateFlag.NEGATIVE | CandidateFlag.ACTIVE_NUCLEUS
    words = flags_in_words(int(row["flags"] or 0) & int(told))
    return "; ".join([*words, *known_in_words(row)]) or "silent"


def known_in_words(row: Row) -> list[str]:
    """Return the known variable star or active nucleus of a row: ``V0123 Sgr, RRAB (vsx), 0.4 arcsec``."""
    return _source(row, "known") if row.get("known_as") else []


def context_in_words(row: Row) -> list[tuple[str, str]]:
    """Return (title, text) of the known transient, other known source and minor planet of a row."""
    lines = []
    if row.get("reported_as"):
        lines.append(("already reported", _reported(row).removeprefix("already reported ")))
    lines += [("known source", text) for text in known_in_words(row)]
    if row.get("minor_planet"):
        lines.append(("minor planet", _motion(row).removeprefix("minor planet ")))
    return lines


def _source(row: Row, which: str) -> list[str]:
    kind = f", {row[f'{which}_type']}" if row[f"{which}_type"] else ""
    return [f"{row[f'{which}_as']}{kind} ({row[f'{which}_in']}), {row[f'{which}_separation_arcsec']:.1f} arcsec"]


def _reported(row: Row) -> str:
    if not row.get("reported_as"):
        return "not reported"
    found = "" if row["reported_mjd"] is None else f", discovered {moment(row['reported_mjd'])[:10]}"
    return f"already reported as {_source(row, 'reported')[0]}{found}"


def _motion(row: Row) -> str:
    if row.get("minor_planet"):
        mag = _with(", V {:.1f}", row["minor_planet_mag"], "")
        return f"minor planet {row['minor_planet']}{mag}, {row['minor_planet_separation_arcsec']:.1f} arcsec"
    if row["motion_arcsec_per_hour"] is None:
        return "one instant only"
    rate, error = row["motion_arcsec_per_hour"], _with(" ± {:.2g}", row["motion_error_arcsec_per_hour"], "")
    trail = _with(", a trail of {:.1f} arcsec", row.get("trail_arcsec"), "")
    return f"{rate:{'.2g' if rate < 99.5 else '.0f'}}{error} arcsec per hour{trail}"
