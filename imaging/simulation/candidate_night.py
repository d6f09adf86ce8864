"""Simulated candidate tables of a night without pixels: a kilonova among contaminants.

The kilonova follows linear declines per band with wide scatter, not the templates of the ranking. Contaminants are
supernovae, active nuclei, variable and flaring stars, hostless fast transients, asteroids and artefacts, at the
densities of a shallow DECam search, with galaxies, reference stars and a sky map.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.detector.ccds import CCDS, NX, NY, PIXEL_SCALE_ARCSEC, SCIENCE_CCDS
from imaging.exposure import night_of
from imaging.schemas.difference import DETECTIONS, FAKES, FORCED_PHOTOMETRY
from imaging.simulation.candidate_sources import (
    AB_ZERO_NJY,
    CENTRE,
    LIMIT_MAG,
    MJD_EVENT,
    NIGHT,
    Exposures,
    FloatArray,
    NightSources,
    draw_contaminants,
    draw_galaxies,
    draw_kilonova,
    draw_stars,
    flux_errors,
    pointing_of,
    real_scores,
)
from imaging.skymap.build import gaussian_skymap
from imaging.skymap.footprints import Footprints
from imaging.skymap.model import SkyMap
from imaging.tables import make_table
from imaging.wcs.sphere import offset_position
from imaging.wcs.tpv import plane_to_sky

N_FAKES = 3000
"""Number of fakes of the night."""

SCORE_NOISE = 0.05
"""Scatter of the real/bogus scores of a source among exposures."""


@dataclass(frozen=True, eq=False)
class SyntheticNight:
    """Input of association and ranking, and the truth.

    Attributes
    ----------
    detections, fakes, hosts, stars, galaxies
        Tables with the schemas of their stages; ``galaxies`` are those with distances.
    skymap, footprints
        Sky map and CCD images.
    kind
        Detection identity to the kind of its source.
    fluxes
        (n sources, n exposures) measured forced fluxes in nanojansky, with their errors and the exposures' data.
    """

    detections: pa.Table
    fakes: pa.Table
    hosts: pa.Table
    stars: pa.Table
    galaxies: pa.Table
    skymap: SkyMap
    footprints: Footprints
    kind: dict[int, str]
    source: dict[int, int]
    flux: FloatArray
    flux_error: FloatArray
    exposures: Exposures
    kilonova_snr: FloatArray
    kilonova_position: tuple[float, float]

    def forced(self, candidates: pa.Table) -> pa.Table:
        """Return forced photometry of candidates in all exposures."""
        names = candidates.column("candidate_id").to_pylist()
        first = [ids[0] for ids in candidates.column("detection_ids").to_pylist()]
        sources = np.array([self.source[i] for i in first], dtype=np.int64)
        e = self.exposures
        n, m = len(names), len(e.mjd)
        flux, error = self.flux[sources].ravel(), self.flux_error[sources].ravel()
        with np.errstate(invalid="ignore", divide="ignore"):
            mag = np.where(flux > 2 * error, -2.5 * np.log10(flux / AB_ZERO_NJY), np.nan)
            mag_error = np.where(np.isfinite(mag), 1.0857 * error / flux, np.nan)
        return make_table(
            {
                "candidate_id": np.repeat(np.array(names, dtype=object), m),
                "expnum": np.tile(e.expnum, n),
                "band": np.tile(e.band.astype(object), n),
                "night": np.tile(e.night, n),
                "ccd": np.ones(n * m, dtype=np.int64),
                "mjd": np.tile(e.mjd, n),
                "flux": flux,
                "flux_error": error,
                "snr": flux / error,
                "mag": _nullable(mag),
                "mag_error": _nullable(mag_error),
                "limit_mag": -2.5 * np.log10(5 * error / AB_ZERO_NJY),
                "masked": np.zeros(n * m, dtype=bool),
            },
            FORCED_PHOTOMETRY,
        )

    def kind_of(self, candidates: pa.Table) -> list[str]:
        """Return the kind of each candidate: that of its first detection."""
        return [self.kind[ids[0]] for ids in candidates.column("detection_ids").to_pylist()]


def make_night(
    seed: int,
    *,
    scale: float = 1.0,
    days_after: float | None = None,
    distance_mpc: float | None = None,
    template_days: float | None = None,
) -> SyntheticNight:
    """Simulate a night.

    Parameters
    ----------
    seed
        Random seed.
    scale
        Factor on the numbers of contaminants.
    days_after
        Days from the merger to the first exposure; drawn between 0.4 and 2.4 if None.
    distance_mpc
        Distance of the kilonova, and that of the map but for its error; drawn, below 260 Mpc, if None.
    template_days
        Days from the merger to the templates, whose light of each source is missing in all fluxes; long before if None.
    """
    rng = np.random.default_rng([seed, 1])
    exposures = _exposures(rng.uniform(0.4, 2.4) if days_after is None else days_after)
    drawn = exposures if template_days is None else _with_templates(exposures, MJD_EVENT + template_days)
    distance = rng.uniform(50.0, 140.0)
    centre = offset_position(*CENTRE, *(rng.normal(0, 2000.0, 2)))
    true_distance = float(np.clip(rng.normal(1.08 * distance, 0.22 * distance), 30.0, 260.0))
    if distance_mpc is not None:
        distance, true_distance = distance * distance_mpc / true_distance, distance_mpc
    skymap = gaussian_skymap(
        float(centre[0]), float(centre[1]), 0.9, distance_mpc=distance, distance_sigma_mpc=0.22 * distance, order=8,
        name=f"SIM{seed}", mjd=MJD_EVENT,
    )  # fmt: skip
    galaxies, hosts = draw_galaxies(rng, scale)
    kilonova, galaxies, hosts = draw_kilonova(rng, drawn, centre, true_distance, galaxies, hosts)
    kinds = [kilonova, *draw_contaminants(rng, drawn, hosts, scale)]
    if template_days is not None:
        kinds = [_less_templates(source, drawn, len(exposures.mjd)) for source in kinds]
    stars, hosts = draw_stars(rng, kinds, hosts, scale)
    return _observe(rng, kinds, exposures, skymap, _footprints(exposures), galaxies, hosts, stars)


def _exposures(days_after: float) -> Exposures:
    first = MJD_EVENT + days_after
    sequence = [("g", 0.0), ("i", 0.003), ("z", 0.006), ("r", 0.045), ("i", 0.048), ("z", 0.051)]
    after = [(band, first + delay) for band, delay in sequence]
    before = [(b, MJD_EVENT - d) for b, d in (("g", 30.0), ("i", 29.9), ("r", 12.0), ("z", 11.9), ("i", 3.1))]
    rows = [(band, mjd, pointing) for band, mjd in before + after for pointing in range(2)]
    return Exposures(
        expnum=np.array([1300000 + i for i in range(len(rows))]),
        band=np.array([row[0] for row in rows]),
        mjd=np.array([row[1] + 0.0012 * row[2] for row in rows]),
        night=np.array([NIGHT if row[1] > MJD_EVENT else night_of(row[1]) for row in rows]),
        pointing=np.array([row[2] for row in rows]),
    )


def _with_templates(exposures: Exposures, mjd: float) -> Exposures:
    """Return the exposures and behind them one template of each band."""
    bands = np.array(sorted(LIMIT_MAG))
    n = len(bands)
    further = (np.arange(n) + 1400000, bands, np.full(n, mjd), np.full(n, night_of(mjd)), np.zeros(n, dtype=np.int64))
    names = ("expnum", "band", "mjd", "night", "pointing")
    return Exposures(*(np.append(getattr(exposures, name), more) for name, more in zip(names, further, strict=True)))


def _less_templates(source: NightSources, exposures: Exposures, n: int) -> NightSources:
    """Return sources with fluxes in the first n exposures less those in the template of the band behind them.

    What is in one exposure alone, or moves, is not in the template.
    """
    if source.kind in ("artefact", "asteroid", "flare"):
        return replace(source, flux=source.flux[:, :n])
    template = {str(band): flux for band, flux in zip(exposures.band[n:], source.flux[:, n:].T, strict=True)}
    held = np.stack([template[str(band)] for band in exposures.band[:n]], axis=1)
    return replace(source, flux=source.flux[:, :n] - held)


def footprints_of(expnum: int, band: str, mjd: float, ra: float, dec: float, m50: float) -> Footprints:
    """Return the 62 CCD images of an exposure."""
    half = np.array([[-NX, -NY], [NX, -NY], [NX, NY], [-NX, NY]]) / 2.0 * PIXEL_SCALE_ARCSEC / 3600.0
    middle = np.array([CCDS[ccd].focal_plane_centre for ccd in SCIENCE_CCDS]) * PIXEL_SCALE_ARCSEC / 3600.0
    x, y = np.moveaxis(middle[:, None, :] + half[None], -1, 0)
    corners = np.stack(plane_to_sky(y, -x, ra, dec), axis=-1)  # x runs to the south, y to the east
    n = len(SCIENCE_CCDS)
    return Footprints(
        np.full(n, expnum), np.array(SCIENCE_CCDS), np.full(n, band), np.full(n, mjd), corners, np.full(n, m50)
    )


def join_footprints(parts: list[Footprints]) -> Footprints:
    """Concatenate footprints."""
    names = ("expnum", "ccd", "band", "mjd", "corners", "m50_mag")
    return Footprints(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _footprints(exposures: Exposures) -> Footprints:
    parts = [
        footprints_of(int(e), str(b), float(t), *pointing_of(int(p)), LIMIT_MAG[str(b)] + 0.1)
        for e, b, t, p in zip(exposures.expnum, exposures.band, exposures.mjd, exposures.pointing, strict=True)
        if t > MJD_EVENT
    ]
    return join_footprints(parts)


def _observe(
    rng: np.random.Generator,
    kinds: list[NightSources],
    exposures: Exposures,
    skymap: SkyMap,
    footprints: Footprints,
    galaxies: dict[str, FloatArray],
    hosts: pa.Table,
    stars: pa.Table,
) -> SyntheticNight:
    joined = {
        name: np.concatenate([getattr(s, name) for s in kinds]) for name in ("ra", "dec", "rate", "angle", "score")
    }
    truth = np.concatenate([s.flux for s in kinds])
    label = np.concatenate([np.full(len(s.ra), s.kind, dtype=object) for s in kinds])
    error = np.broadcast_to(flux_errors(exposures), truth.shape) * np.sqrt(1 + np.maximum(truth, 0) * 2e-4)
    hit = _covered(joined["ra"], joined["dec"], exposures)
    error = np.where(hit, error, 1e9)
    flux = np.where(hit, truth, 0.0) + error * rng.normal(size=truth.shape)
    flux = np.where(hit, flux, 0.0)
    hours = (exposures.mjd - exposures.mjd[exposures.mjd > MJD_EVENT].min()) * 24.0
    moved_ra = joined["ra"][:, None] + joined["rate"][:, None] * np.cos(
        joined["angle"][:, None]
    ) * hours / 3600.0 / np.cos(np.radians(joined["dec"][:, None]))
    moved_dec = joined["dec"][:, None] + joined["rate"][:, None] * np.sin(joined["angle"][:, None]) * hours / 3600.0
    snr = flux / error
    found = (np.abs(snr) > 5.0) & (exposures.mjd > MJD_EVENT)
    source, exposure = np.nonzero(found)
    sigma = np.clip(0.5 / np.abs(snr[source, exposure]), 0.01, 0.15)
    noise = rng.normal(size=(2, len(source))) * np.hypot(sigma, 0.03) / 3600.0
    ra = moved_ra[source, exposure] + noise[0] / np.cos(np.radians(CENTRE[1]))
    score = np.clip(joined["score"][source] + rng.normal(0, SCORE_NOISE, len(source)), 0.0, 1.0)
    detections = _detections(
        source, exposure, exposures, ra, moved_dec[source, exposure] + noise[1], sigma, flux, error, score
    )
    ids = detections.column("detection_id").to_pylist()
    return SyntheticNight(
        detections=detections,
        fakes=_fakes(rng),
        hosts=hosts,
        stars=stars,
        galaxies=pa.table({k: v for k, v in galaxies.items() if k != "a_arcsec"}),
        skymap=skymap,
        footprints=footprints,
        kind=dict(zip(ids, label[source].tolist(), strict=True)),
        source=dict(zip(ids, source.tolist(), strict=True)),
        flux=flux,
        flux_error=error,
        exposures=exposures,
        kilonova_snr=snr[0],
        kilonova_position=(float(joined["ra"][0]), float(joined["dec"][0])),
    )


def _covered(ra: FloatArray, dec: FloatArray, exposures: Exposures) -> NDArray[np.bool_]:
    """Return the pointing whose square contains a source; gaps between CCDs are ignored."""
    centres = np.array([pointing_of(int(p)) for p in exposures.pointing])
    return (np.abs(ra[:, None] - centres[:, 0]) < 1.0) & (np.abs(dec[:, None] - centres[:, 1]) < 0.95)


def _detections(
    source: NDArray[np.int64],
    exposure: NDArray[np.int64],
    exposures: Exposures,
    ra: FloatArray,
    dec: FloatArray,
    sigma: FloatArray,
    flux: FloatArray,
    error: FloatArray,
    score: FloatArray,
) -> pa.Table:
    n = len(source)
    f, e = flux[source, exposure], error[source, exposure]
    with np.errstate(invalid="ignore", divide="ignore"):
        mag = np.where(f > 0, -2.5 * np.log10(f / AB_ZERO_NJY), np.nan)
    ccd = 1 + np.arange(n) // 100_000  # the numbers of a CCD's detections have five digits
    fill: dict[str, Any] = {
        "detection_id": (exposures.expnum[exposure] * 100 + ccd) * 100_000 + np.arange(n) % 100_000,
        "expnum": exposures.expnum[exposure],
        "band": exposures.band[exposure].astype(object),
        "night": exposures.night[exposure],
        "ccd": ccd,
        "mjd": exposures.mjd[exposure],
        "ra": ra,
        "dec": dec,
        "position_error_arcsec": sigma,
        "flux": f,
        "flux_error": e,
        "snr": f / e,
        "mag": _nullable(mag),
        "mag_error": _nullable(np.where(np.isfinite(mag), 1.0857 * e / np.abs(f), np.nan)),
        "real_score": score,
        "flags": np.where(f < 0, 1, 0),
        "chi2_psf": np.ones(n),
    }
    return make_table({k: fill.get(k, np.zeros(n)) for k in DETECTIONS.names}, DETECTIONS)


def _fakes(rng: np.random.Generator) -> pa.Table:
    """Return fakes with scores of real sources, all of which pass the cuts."""
    score = np.clip(real_scores(rng, N_FAKES) + rng.normal(0, SCORE_NOISE, N_FAKES), 0.0, 1.0)
    columns = {name: np.zeros(N_FAKES) for name in FAKES.names if name != "band"} | {
        "band": np.full(N_FAKES, "i", dtype=object),
        "snr": 5.0 / (1.0 - rng.random(N_FAKES)),
        "real_score": score,
        **{name: np.ones(N_FAKES, dtype=bool) for name in ("on_host", "on_good_pixels", "detected", "passed")},
    }
    return make_table(columns, FAKES)


def _nullable(values: FloatArray) -> pa.Array:
    return pa.array(values, type=pa.float32(), mask=~np.isfinite(values))
