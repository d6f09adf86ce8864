"""Rank candidates by the log likelihood ratio of a kilonova from the merger against contaminants.

The score is a weighted sum of named parts, each the natural logarithm of a likelihood ratio of two simple models, so
that the reasons for a rank are visible. Weights, floors and rates are settings.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imaging.candidates.classify import CLASSES, Classes, classify, probability_column
from imaging.candidates.crossmatch import with_columns
from imaging.candidates.flash import are_flashes
from imaging.candidates.lightcurve import (
    LightcurveLikelihood,
    lightcurve_likelihood,
    marginal_kilonova,
    total_rivals,
)
from imaging.candidates.settings import LightcurveSettings, RankSettings
from imaging.schemas.candidates import CandidateFlag
from imaging.skymap.distance import conditional_distance
from imaging.skymap.model import WHOLE_SKY_DEG2, SkyMap
from imaging.tables import column

FloatArray = NDArray[np.float64]

PARTS = ("skymap", "distance", "real", "lightcurve", "host", "time", "history", "motion", "reported")
"""The parts of the score, in the order of the columns."""

LIKE_KILONOVAE = ("KILONOVA", "KN", "AFTERGLOW", "OTHER", "UNKNOWN", "UNCLASSIFIED", "UNCLEAR", "SN", "ORPHAN", "NT")
"""Reported types, in capitals, that say nothing against a kilonova; SN, ORPHAN and NT are guesses by the host."""

OBLIQUITY_DEG = 23.4393


@dataclass(frozen=True, eq=False)
class _Place:
    """Sky-map quantities at the candidates' positions; arrays of n."""

    density: FloatArray
    level: FloatArray
    distance_mpc: FloatArray
    distance_sigma_mpc: FloatArray


def rank_candidates(
    candidates: pa.Table,
    forced: pa.Table,
    skymap: SkyMap,
    mjd_event: float,
    settings: RankSettings,
    lightcurve_settings: LightcurveSettings,
    likelihood: LightcurveLikelihood | None = None,
) -> pa.Table:
    """Rank candidates against a sky map.

    Parameters
    ----------
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`, matched to hosts and stars. Existing ranks and parts are
        replaced.
    forced
        Rows of :data:`imaging.schemas.difference.FORCED_PHOTOMETRY` of the candidates.
    skymap
        Sky map.
    mjd_event
        Time of the merger, MJD UTC.
    settings, lightcurve_settings
        Weights and models.
    likelihood
        Light-curve likelihoods already computed for these candidates in this order.

    Returns
    -------
    ranked
        The candidates, best first, with rank, parts, and the flags that depend on the event or on the light curve.
    """
    if candidates.num_rows == 0:
        return candidates
    if likelihood is None:
        likelihood = lightcurve_likelihood(forced, candidates.column("candidate_id"), mjd_event, lightcurve_settings)
    place = _place(candidates, skymap)
    parts, classes = _parts(candidates, place, likelihood, mjd_event, settings, lightcurve_settings)
    unseen = likelihood.n_after == 0
    score = sum((getattr(settings, f"weight_{name}") * parts[name] for name in PARTS), np.zeros(candidates.num_rows))
    ranked = with_columns(
        candidates,
        rank_score=score,
        lightcurve_class=pa.array(classes.name, type=pa.string(), mask=unseen),
        undecided_because=pa.array(classes.reason, type=pa.string(), mask=unseen),
        credible_level=place.level,
        skymap_density=place.density,
        distance_mean_mpc=place.distance_mpc,
        distance_sigma_mpc=place.distance_sigma_mpc,
        flags=_event_flags(candidates, forced, place, likelihood, mjd_event, settings),
        **{f"loglr_{name}": values for name, values in parts.items()},
        **{
            probability_column(name): pa.array(values, type=pa.float32(), mask=unseen)
            for name, values in zip(CLASSES, classes.probability.T, strict=True)
        },
    )
    order = np.lexsort((column(candidates, "dec"), column(candidates, "ra"), -score))
    ranked = ranked.take(pa.array(order))
    return with_columns(ranked, rank=np.arange(1, len(order) + 1))


def _parts(
    candidates: pa.Table,
    place: _Place,
    likelihood: LightcurveLikelihood,
    mjd_event: float,
    settings: RankSettings,
    lightcurve_settings: LightcurveSettings,
) -> tuple[dict[str, FloatArray], Classes]:
    """Return the parts within their limits, and the light-curve classes."""
    lightcurve, classes = _lightcurve_part(place, likelihood, settings, lightcurve_settings)
    parts = {
        "skymap": _skymap_part(place),
        "distance": _distance_part(candidates, place, settings),
        "real": _real_part(candidates, settings),
        "lightcurve": lightcurve,
        "host": _host_part(candidates, settings),
        "time": _time_part(candidates, mjd_event, settings),
        "history": _history_part(candidates, likelihood, settings),
        "motion": _motion_part(candidates, settings),
        "reported": _reported_part(candidates, mjd_event, settings),
    }
    return {name: np.clip(values, settings.floor, settings.ceiling) for name, values in parts.items()}, classes


def _place(candidates: pa.Table, skymap: SkyMap) -> _Place:
    ra, dec = column(candidates, "ra"), column(candidates, "dec")
    mean, sigma = conditional_distance(skymap, ra, dec)
    return _Place(skymap.probability_density(ra, dec), skymap.credible_level_at(ra, dec), mean, sigma)


def _skymap_part(place: _Place) -> FloatArray:
    """Probability density of the map over a uniform density on the sky."""
    with np.errstate(divide="ignore"):
        return np.log(place.density * WHOLE_SKY_DEG2)


def _distance_part(candidates: pa.Table, place: _Place, settings: RankSettings) -> FloatArray:
    """Overlap of the host's distance with the map's, against hosts uniform in volume.

    For a host without a distance, the luminosity that it would have at the map's distance is used, because kilonovae
    follow stellar mass. Nuclear candidates are mostly subtraction residuals or active nuclei, whose frequency follows
    the apparent brightness of the galaxy; near and bright hosts are no evidence for them. Because the association may
    be wrong, the penalty for a mismatch is limited by that probability.
    """
    host, error = (column(candidates, f"host_{name}").astype(float) for name in ("distance_mpc", "distance_error_mpc"))
    error = np.where(np.isfinite(error), error, 0.2 * host)
    variance = error**2 + place.distance_sigma_mpc**2
    mag = column(candidates, "host_mag").astype(float)
    nuclear = _flagged(candidates, CandidateFlag.NUCLEAR)
    limit, slope, reach = (
        settings.contaminant_host_limit_mag,
        settings.contaminant_host_slope,
        settings.distance_range_mpc,
    )
    with np.errstate(invalid="ignore", divide="ignore", under="ignore"):
        elsewhere = np.where(nuclear, 1.0 / reach, 3.0 * host**2 / reach**3)
        by_distance = _gaussian(host - place.distance_mpc, np.sqrt(variance)) / elsewhere
        modulus = 5.0 * np.log10(place.distance_mpc) + 25.0
        by_mag = _gaussian(mag - modulus - settings.host_absolute_mag, settings.host_absolute_scatter_mag)
        counts = slope * np.exp(slope * np.minimum(mag - limit, 0.0))
        by_mag /= np.where(nuclear, 1.0 / (limit - settings.nuclear_host_bright_mag), counts)
    ratio = np.where(np.isfinite(host), by_distance, by_mag)
    share = settings.host_completeness
    return np.where(np.isfinite(ratio), np.log(share * np.nan_to_num(ratio) + 1.0 - share), 0.0)


def _gaussian(x: FloatArray, sigma: FloatArray | float) -> FloatArray:
    return np.exp(-0.5 * (x / sigma) ** 2) / (np.sqrt(2.0 * np.pi) * sigma)


def _real_part(candidates: pa.Table, settings: RankSettings) -> FloatArray:
    """Probability to be real, else the real/bogus score; zero if neither is known."""
    score, probability = (column(candidates, name).astype(float) for name in ("real_score", "probability_real"))
    score = np.where(np.isfinite(probability), probability, score)
    part = np.where(np.isnan(score), 0.0, np.log(np.maximum(np.nan_to_num(score), settings.real_score_floor)))
    return part + np.where(_flagged(candidates, CandidateFlag.NEAR_STAR), settings.near_star_penalty, 0.0)


def _lightcurve_part(
    place: _Place, likelihood: LightcurveLikelihood, settings: RankSettings, lightcurve_settings: LightcurveSettings
) -> tuple[FloatArray, Classes]:
    """Kilonova at the map's distance against contaminants, and the light-curve classes."""
    known = np.isfinite(place.distance_mpc) & (place.distance_mpc > 0)
    mean = np.where(known, place.distance_mpc, settings.default_distance_mpc)
    sigma = np.where(known, place.distance_sigma_mpc, settings.default_distance_sigma_mpc)
    scatter = np.hypot(5.0 / np.log(10.0) * sigma / mean, lightcurve_settings.luminosity_scatter_mag)
    kilonova = marginal_kilonova(likelihood, 5.0 * np.log10(mean) + 25.0, scatter)
    return kilonova - total_rivals(likelihood), classify(kilonova, likelihood, settings)


def _host_part(candidates: pa.Table, settings: RankSettings) -> FloatArray:
    """Position in the host: kilonovae follow the light, contaminants are in cores or far from any galaxy.

    Densities per directional light radius d: a gamma distribution of order two for transients, its integral within
    half an arcsecond for nuclear sources, and a density proportional to d for chance alignments.
    """
    dlr, separation = (column(candidates, f"host_{name}").astype(float) for name in ("dlr", "separation_arcsec"))
    hosted = np.isfinite(dlr)
    d = np.where(hosted, dlr, 1.0)
    nuclear = _flagged(candidates, CandidateFlag.NUCLEAR)
    with np.errstate(invalid="ignore", divide="ignore"):
        core_dlr = np.nan_to_num(0.5 * dlr / separation, nan=0.2, posinf=0.2)
    own = np.where(nuclear, _gamma_inside(core_dlr / settings.host_scale_dlr), _gamma(d, settings.host_scale_dlr))
    chance = settings.host_chance_share * np.where(nuclear, core_dlr**2, 2.0 * d) / settings.host_reach_dlr**2
    ours, theirs, core = settings.hosted_share, settings.hosted_share_contaminants, settings.nuclear_share_contaminants
    kilonova = ours * own + (1 - ours) * chance
    contaminant = theirs * (1 - core) * own + theirs * core * nuclear + (1 - theirs) * chance
    return np.where(hosted, np.log(kilonova / contaminant), np.log((1 - ours) / (1 - theirs)))


def _gamma(d: FloatArray, scale: float) -> FloatArray:
    """Return the gamma density of order two, with a floor at the centre."""
    d = np.maximum(d, 0.05)
    return d / scale**2 * np.exp(-d / scale)


def _gamma_inside(x: FloatArray) -> FloatArray:
    """Return the cumulative gamma distribution of order two at x scales."""
    return np.maximum(1.0 - (1.0 + x) * np.exp(-x), 1e-4)


def _time_part(candidates: pa.Table, mjd_event: float, settings: RankSettings) -> FloatArray:
    days = column(candidates, "mjd_first") - mjd_event
    late = -np.maximum(days, 0.0) / settings.time_scale_days
    return np.where(days < -settings.early_tolerance_days, settings.early_penalty, late)


def _history_part(candidates: pa.Table, likelihood: LightcurveLikelihood, settings: RankSettings) -> FloatArray:
    """No activity before the merger, and the largest penalty by catalogued stars, variables, nuclei, point sources."""
    penalty = np.zeros(candidates.num_rows)
    for flag, value in (
        (CandidateFlag.ON_POINT_SOURCE, settings.point_source_penalty),
        (CandidateFlag.ON_STAR, settings.star_penalty),
        (CandidateFlag.KNOWN_VARIABLE, settings.variable_penalty),
        (CandidateFlag.NEGATIVE, settings.negative_penalty),
        (CandidateFlag.ACTIVE_NUCLEUS, settings.nucleus_penalty),
    ):
        penalty = np.minimum(penalty, np.where(_flagged(candidates, flag), value, 0.0))
    return likelihood.history + penalty


def _motion_part(candidates: pa.Table, settings: RankSettings) -> FloatArray:
    """No motion against that of an asteroid, if measured at two epochs; else the local fraction of asteroids."""
    rate, error = (
        column(candidates, f"motion_{n}").astype(float) for n in ("arcsec_per_hour", "error_arcsec_per_hour")
    )
    asteroids = settings.asteroid_share * np.exp(
        -np.abs(ecliptic_latitude_deg(column(candidates, "ra"), column(candidates, "dec")))
        / settings.ecliptic_width_deg
    )
    known = np.isfinite(rate) & np.isfinite(error)
    variance = np.where(known, error, 1e6) ** 2
    moving = variance + settings.typical_rate_arcsec_per_hour**2
    square = np.where(known, rate, 0.0) ** 2
    rest = -0.5 * square / variance - np.log(variance)
    motion = -0.5 * square / moving - np.log(moving)
    ratio = rest - np.logaddexp(np.log1p(-asteroids) + rest, np.log(asteroids) + motion)
    part = np.where(known, ratio, np.log1p(-asteroids))
    moves = _flagged(candidates, CandidateFlag.MOVER) | _flagged(candidates, CandidateFlag.MINOR_PLANET)
    return np.where(moves, settings.mover_penalty, part)


def _reported_part(candidates: pa.Table, mjd_event: float, settings: RankSettings) -> FloatArray:
    """No transient that others discovered before the merger or classified as something else; zero if not reported."""
    types = pc.utf8_upper(candidates.column("reported_type").fill_null(""))
    other = np.asarray(pc.invert(pc.is_in(types, value_set=pa.array(["", *LIKE_KILONOVAE])))).astype(bool)
    penalty = np.where(other, settings.reported_type_penalty, 0.0)
    early = _reported_earlier(candidates, mjd_event, settings)
    return np.minimum(penalty, np.where(early, settings.reported_early_penalty, 0.0))


def _reported_earlier(candidates: pa.Table, mjd_event: float, settings: RankSettings) -> NDArray[np.bool_]:
    return np.asarray(column(candidates, "reported_mjd").astype(float) < mjd_event - settings.early_tolerance_days)


def ecliptic_latitude_deg(ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    """Return ecliptic latitudes of equatorial positions, degrees (mean obliquity of J2000)."""
    ra, dec, tilt = np.radians(ra_deg), np.radians(dec_deg), np.radians(OBLIQUITY_DEG)
    return np.degrees(np.arcsin(np.sin(dec) * np.cos(tilt) - np.cos(dec) * np.sin(tilt) * np.sin(ra)))


def _flagged(candidates: pa.Table, flag: CandidateFlag) -> NDArray[np.bool_]:
    return (column(candidates, "flags") & int(flag)) != 0


def _event_flags(
    candidates: pa.Table,
    forced: pa.Table,
    place: _Place,
    likelihood: LightcurveLikelihood,
    mjd_event: float,
    settings: RankSettings,
) -> NDArray[np.int64]:
    """Update the flags that depend on the event or on the light curve."""
    renewed = CandidateFlag.IN_HISTORY | CandidateFlag.OUTSIDE_MAP | CandidateFlag.FLASH
    renewed |= CandidateFlag.BEFORE_EVENT | CandidateFlag.REPORTED_EARLIER
    flags = column(candidates, "flags").astype(np.int64) & ~int(renewed)
    early = column(candidates, "mjd_first") < mjd_event - settings.early_tolerance_days
    for flag, holds in (
        (CandidateFlag.IN_HISTORY, likelihood.history_snr > settings.history_significance),
        (CandidateFlag.OUTSIDE_MAP, place.level > settings.outside_level),
        (CandidateFlag.BEFORE_EVENT, early),
        (CandidateFlag.REPORTED_EARLIER, _reported_earlier(candidates, mjd_event, settings)),
        (CandidateFlag.FLASH, are_flashes(candidates, forced)),
    ):
        flags |= np.where(holds, int(flag), 0)
    return flags
