"""Sources, galaxies and stars of :mod:`imaging.simulation.candidate_night`."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.schemas.hosts import HOSTS
from imaging.schemas.reference import REFERENCE_STARS
from imaging.simulation.stars import FIRST_ID
from imaging.tables import make_table
from imaging.wcs.sphere import offset_position

FloatArray = NDArray[np.float64]

AB_ZERO_NJY = 3.631e12
NIGHT = 20251004
MJD_EVENT = 60951.35
CENTRE = (40.0, -24.0)
LIMIT_MAG = {"g": 23.3, "r": 23.0, "i": 22.6, "z": 22.1}
KINDS = ("kilonova", "supernova", "nucleus", "variable", "flare", "fast transient", "asteroid", "artefact")


@dataclass(frozen=True, eq=False)
class Exposures:
    """Exposures of the night and before; arrays of equal length."""

    expnum: NDArray[np.int64]
    band: NDArray[np.str_]
    mjd: FloatArray
    night: NDArray[np.int64]
    pointing: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NightSources:
    """Sources of one kind: positions, fluxes in nanojansky per exposure, motion and score."""

    kind: str
    ra: FloatArray
    dec: FloatArray
    flux: FloatArray
    rate: FloatArray
    angle: FloatArray
    score: FloatArray


def pointing_of(number: int) -> tuple[float, float]:
    """Return RA and Dec in degrees of a pointing."""
    return CENTRE[0] - 1.0 + 2.0 * number, CENTRE[1]


def _places(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    ra0 = np.array([pointing_of(p)[0] for p in rng.integers(0, 2, n)])
    return ra0 + rng.uniform(-0.9, 0.9, n), CENTRE[1] + rng.uniform(-0.85, 0.85, n)


def draw_galaxies(rng: np.random.Generator, scale: float) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Return nearby galaxies with distances, and the galaxies of the template; the nearby ones are in both."""
    n = int(150 * scale) + 5
    ra, dec = _places(rng, n)
    distance = 300.0 * rng.uniform(0.005, 1.0, n) ** (1 / 3)
    axis = np.clip(rng.lognormal(np.log(2.5), 0.4, n) / distance * 206.265, 0.5, 60.0)
    near = {
        "ra": ra, "dec": dec, "distance_mpc": distance * rng.normal(1.0, 0.08, n), "distance_error_mpc": 0.1 * distance,
        "mag": -20.0 + rng.normal(0, 1.0, n) + 5 * np.log10(distance) + 25, "a_arcsec": axis,
    }  # fmt: skip
    m = int(12000 * scale) + 50
    far_ra, far_dec = _places(rng, m)
    far = {
        "ra": far_ra, "dec": far_dec, "a_arcsec": np.clip(rng.lognormal(np.log(0.7), 0.35, m), 0.35, 5.0),
        "mag": 24.0 - rng.exponential(1.1, m),
    }  # fmt: skip
    hosts = {name: np.concatenate([near[name], far[name]]) for name in ("ra", "dec", "a_arcsec", "mag")}
    total = n + m
    hosts |= {"b_arcsec": hosts["a_arcsec"] * rng.uniform(0.4, 1.0, total), "pa": rng.uniform(0, 180, total)}
    hosts["point_like"] = np.zeros(total)
    return near, hosts


def draw_kilonova(
    rng: np.random.Generator,
    exposures: Exposures,
    centre: tuple[FloatArray, FloatArray],
    distance: float,
    near: dict[str, FloatArray],
    hosts: dict[str, FloatArray],
) -> tuple[NightSources, dict[str, FloatArray], dict[str, FloatArray]]:
    """Draw a kilonova inside the map that is above S/N 7 in two exposures, with its host."""
    ra, dec = (float(np.clip(v, low, high)) for v, low, high in zip(
        offset_position(float(centre[0]), float(centre[1]), *rng.normal(0, 2500.0, 2)),
        (CENTRE[0] - 1.7, CENTRE[1] - 0.7), (CENTRE[0] + 1.7, CENTRE[1] + 0.7), strict=True,
    ))  # fmt: skip
    axis = float(np.clip(rng.lognormal(np.log(2.5), 0.4) / distance * 206.265, 0.6, 60.0))
    host_ra, host_dec = offset_position(ra, dec, *(rng.normal(0, 1.1, 2) * axis))
    kind = rng.uniform()
    if kind < 0.95:
        mag = -20.0 + rng.normal(0, 1.0) + 5 * np.log10(distance) + 25 + (0.0 if kind < 0.75 else 3.0)
        extra = {"ra": host_ra, "dec": host_dec, "a_arcsec": axis, "mag": mag, "b_arcsec": 0.7 * axis, "pa": 30.0}
        hosts = {k: np.append(v, extra.get(k, 0.0)) for k, v in hosts.items()}
        if kind < 0.75:
            extra |= {"distance_mpc": distance * rng.normal(1.0, 0.08), "distance_error_mpc": 0.1 * distance}
            near = {k: np.append(v, extra[k]) for k, v in near.items()}
    while True:
        flux = _kilonova_flux(rng, exposures, distance)
        if np.sum(flux / flux_errors(exposures) > 7.5) >= 4:  # both pointings have the same sequence
            break
    one = np.ones(1)
    return (
        NightSources("kilonova", ra * one, dec * one, flux[None, :], 0 * one, 0 * one, real_scores(rng, 1)),
        near,
        hosts,
    )


def _kilonova_flux(rng: np.random.Generator, exposures: Exposures, distance: float) -> FloatArray:
    days = exposures.mjd - MJD_EVENT
    stretch = rng.lognormal(0.0, 0.25)
    colour, red = rng.normal(0.0, 0.3), rng.normal(0.0, 0.15)
    peak = rng.normal(-15.2, 0.8) + 5 * np.log10(distance) + 25
    start = {"g": 0.1 + colour, "r": 0.05 + 0.4 * colour, "i": 0.0, "z": 0.05 - 0.5 * colour + red}
    slope = {b: v / stretch * rng.lognormal(0, 0.15) for b, v in (("g", 1.25), ("r", 0.9), ("i", 0.65), ("z", 0.5))}
    mag = np.array([peak + start[b] + slope[b] * (t - 0.7) for b, t in zip(exposures.band, days, strict=True)])
    return np.where(days > 0, AB_ZERO_NJY * 10 ** (-0.4 * mag), 0.0)


def flux_errors(exposures: Exposures) -> FloatArray:
    """Return the (n,) flux error of each exposure in blank sky, nanojansky."""
    return np.array([AB_ZERO_NJY * 10 ** (-0.4 * LIMIT_MAG[str(b)]) / 5.0 for b in exposures.band])


def real_scores(rng: np.random.Generator, n: int) -> FloatArray:
    """Return (n,) mean real/bogus scores of real sources."""
    return rng.beta(9.0, 1.0, n)


def _near_galaxies(
    rng: np.random.Generator, hosts: dict[str, FloatArray], n: int, spread: float, mag: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return positions at random galaxies, of given magnitudes if any, scattered by ``spread`` times their axes."""
    chosen = rng.integers(0, len(hosts["ra"]), n)
    if mag is not None:
        order = np.argsort(hosts["mag"])
        place = np.searchsorted(hosts["mag"][order], mag) + rng.integers(-3, 4, n)
        chosen = order[np.clip(place, 0, len(order) - 1)]
    offset = rng.normal(0, 1.0, (2, n)) * spread * (hosts["a_arcsec"][chosen] if spread > 0.1 else 1.0)
    dec = hosts["dec"][chosen]
    return hosts["ra"][chosen] + offset[0] / 3600.0 / np.cos(np.radians(dec)), dec + offset[1] / 3600.0


def draw_contaminants(
    rng: np.random.Generator, exposures: Exposures, hosts: dict[str, FloatArray], scale: float
) -> list[NightSources]:
    """Draw the contaminants, at the densities of a shallow search times ``scale``."""
    days = exposures.mjd - MJD_EVENT
    band = exposures.band
    number = {k: rng.poisson(v * scale) for k, v in (
        ("supernova", 300), ("nucleus", 250), ("variable", 350), ("flare", 40), ("fast transient", 2),
        ("asteroid", 80), ("artefact", 1500),
    )}  # fmt: skip

    def standing(kind: str, place: tuple[FloatArray, FloatArray], flux: FloatArray, score: FloatArray) -> NightSources:
        still = np.zeros(len(place[0]))
        return NightSources(kind, *place, flux, still, still, score)

    n = number["supernova"]
    peak = 24.5 - rng.exponential(0.75, n)
    supernovae = standing("supernova", _near_galaxies(rng, hosts, n, 1.2, peak - 1.5 + rng.normal(0, 1.3, n)),
                          _supernova_flux(rng, peak, days, band), real_scores(rng, n))  # fmt: skip
    n = number["nucleus"]
    nuclei = standing("nucleus", _near_galaxies(rng, hosts, n, 0.05), _wandering_flux(rng, n, days, band, 30.0),
                      rng.beta(5.0, 1.5, n))  # fmt: skip
    n = number["variable"]
    variables = standing("variable", _places(rng, n), _wandering_flux(rng, n, days, band, 0.3), real_scores(rng, n))
    n = number["flare"]
    onset = rng.uniform(days[days > 0].min() - 0.02, days.max(), (n, 1))
    decay = rng.lognormal(np.log(0.02), 0.8, (n, 1))
    colour = np.array([{"g": 0.0, "r": 0.5, "i": 0.9, "z": 1.1}[str(b)] for b in band])
    flare = 10 ** (-0.4 * (rng.uniform(18.5, 22.5, (n, 1)) + colour)) * AB_ZERO_NJY
    flux = np.where(days > onset, flare * np.exp(-np.maximum(days - onset, 0) / decay), 0.0)
    flares = standing("flare", _places(rng, n), flux, real_scores(rng, n))
    n = number["fast transient"]
    onset = rng.uniform(-6.0, 0.3, (n, 1))
    mag = rng.uniform(19.5, 22.0, (n, 1)) + rng.uniform(0.1, 0.35, (n, 1)) * (days - onset) + rng.normal(0, 0.2, (n, 1))
    fast = standing("fast transient", _places(rng, n), np.where(days > onset, AB_ZERO_NJY * 10 ** (-0.4 * mag), 0.0),
                    real_scores(rng, n))  # fmt: skip
    n = number["asteroid"]
    mag = rng.uniform(19.0, 23.0, (n, 1)) - np.array([{"g": -0.3, "r": 0.2, "i": 0.4, "z": 0.4}[str(b)] for b in band])
    rate, angle = rng.lognormal(np.log(25.0), 0.5, n), rng.uniform(0, 2 * np.pi, n)
    seen = np.where(days > 0, AB_ZERO_NJY * 10 ** (-0.4 * mag), 0.0)
    asteroids = NightSources("asteroid", *_places(rng, n), seen, rate, angle, real_scores(rng, n))
    return [supernovae, nuclei, variables, flares, fast, asteroids, _artefacts(rng, number["artefact"], days, hosts)]


def _artefacts(rng: np.random.Generator, n: int, days: FloatArray, hosts: dict[str, FloatArray]) -> NightSources:
    """Return single false detections at random positions, and repeated residuals on the cores of galaxies."""
    repeat = n // 8
    core_ra, core_dec = _near_galaxies(rng, hosts, repeat, 0.08)
    ra, dec = _places(rng, n - repeat)
    flux = np.zeros((n, len(days)))
    after = np.flatnonzero(days > 0)
    flux[np.arange(n), rng.choice(after, n)] = 1.0
    flux[:repeat, after] = rng.uniform(0.3, 1.0, (repeat, len(after)))
    flux *= AB_ZERO_NJY * 10 ** (-0.4 * rng.uniform(20.0, 22.8, (n, 1)))
    still = np.zeros(n)
    score = rng.beta(1.0, 4.0, n)
    return NightSources("artefact", np.append(core_ra, ra), np.append(core_dec, dec), flux, still, still, score)


def _supernova_flux(rng: np.random.Generator, peak: FloatArray, days: FloatArray, band: NDArray[np.str_]) -> FloatArray:
    """Return fluxes of supernovae of all ages: power-law rise, linear decline in magnitude, reddening with age."""
    n = len(peak)
    age = rng.uniform(-3.0, 60.0, (n, 1)) + days
    rise, decline = rng.uniform(6.0, 20.0, (n, 1)), rng.uniform(0.01, 0.09, (n, 1))
    tint = np.array([{"g": 1.0, "r": 0.4, "i": 0.0, "z": -0.2}[str(b)] for b in band])
    colour = tint * np.clip(-0.2 + 0.04 * age + rng.normal(0, 0.2, (n, 1)), -0.4, 1.6)
    shape = np.where(age < rise, np.clip(age / rise, 0, None) ** 1.8, 10 ** (-0.4 * decline * (age - rise)))
    return AB_ZERO_NJY * 10 ** (-0.4 * (peak[:, None] + colour)) * np.clip(shape, 0, None)


def _wandering_flux(
    rng: np.random.Generator, n: int, days: FloatArray, band: NDArray[np.str_], memory_days: float
) -> FloatArray:
    """Return differences of sources that vary as a damped random walk, of either sign."""
    covariance = np.exp(-np.abs(days[:, None] - days[None, :]) / memory_days)
    walk = rng.normal(size=(n, len(days))) @ np.linalg.cholesky(covariance + 1e-9 * np.eye(len(days))).T
    amplitude = AB_ZERO_NJY * 10 ** (-0.4 * (24.0 - rng.exponential(1.3, (n, 1))))
    tint = np.array([{"g": 0.2, "r": 0.1, "i": 0.0, "z": -0.1}[str(b)] for b in band])
    return amplitude * (walk - 0.5 * rng.normal(size=(n, 1))) * 10 ** (-0.4 * tint * rng.normal(0, 2.0, (n, 1)))


def draw_stars(
    rng: np.random.Generator, kinds: list[NightSources], hosts: dict[str, FloatArray], scale: float
) -> tuple[pa.Table, pa.Table]:
    """Return reference stars, with most variables and half of the flare stars, and the hosts with fainter ones."""
    by_kind = {sources.kind: sources for sources in kinds}
    n = int(6000 * scale)
    ra, dec = _places(rng, n)
    listed = [(ra, dec, np.zeros(n, dtype=bool))]
    faint = []
    for kind, in_gaia, in_template in (("variable", 0.7, 0.97), ("flare", 0.4, 0.8)):
        s, chance = by_kind[kind], rng.uniform(size=len(by_kind[kind].ra))
        star = chance < in_gaia
        listed.append((s.ra[star], s.dec[star], rng.uniform(size=star.sum()) < 0.2))
        dim = ~star & (chance < in_template)
        faint.append((s.ra[dim], s.dec[dim]))
    ra, dec, variable = (np.concatenate(part) for part in zip(*listed, strict=True))
    m = len(ra)
    motion = rng.normal(0, 5.0, (2, m))
    columns = {
        "source_id": FIRST_ID + np.arange(m), "ra": ra, "dec": dec,
        "ra_error": np.full(m, 0.2), "dec_error": np.full(m, 0.2),
        "ref_epoch": np.full(m, 2016.0), "pmra": motion[0], "pmdec": motion[1], "pmra_error": np.full(m, 0.3),
        "pmdec_error": np.full(m, 0.3), "parallax": rng.exponential(0.6, m), "parallax_error": np.full(m, 0.3),
        "phot_g_mean_mag": np.clip(20.8 - rng.exponential(1.8, m), 12, None), "phot_g_mean_mag_error": np.full(m, 0.01),
        "phot_bp_mean_mag": np.full(m, 20.0), "phot_bp_mean_mag_error": np.full(m, 0.01),
        "phot_rp_mean_mag": np.full(m, 19.0), "phot_rp_mean_mag_error": np.full(m, 0.01), "ruwe": np.ones(m),
        "variable": variable,
    }  # fmt: skip
    faint_ra, faint_dec = (np.concatenate(part) for part in zip(*faint, strict=True))
    k = len(faint_ra)
    extra = {"ra": faint_ra, "dec": faint_dec, "a_arcsec": np.full(k, 0.4), "b_arcsec": np.full(k, 0.4)}
    extra |= {"pa": np.zeros(k), "mag": np.full(k, 22.0), "point_like": np.ones(k)}
    joined = {name: np.concatenate([hosts[name], extra[name]]) for name in hosts}
    return make_table(columns, REFERENCE_STARS), _host_table(joined)


def _host_table(hosts: dict[str, FloatArray]) -> pa.Table:
    n = len(hosts["ra"])
    return make_table(
        {
            "ra": hosts["ra"],
            "dec": hosts["dec"],
            "a_arcsec": hosts["a_arcsec"],
            "b_arcsec": hosts["b_arcsec"],
            "position_angle_deg": hosts["pa"],
            "mag": hosts["mag"],
            "point_like": hosts["point_like"] > 0,
            "distance_mpc": pa.nulls(n, pa.float32()),
            "distance_error_mpc": pa.nulls(n, pa.float32()),
            "distance_source": pa.nulls(n, pa.string()),
        },
        HOSTS,
    )
