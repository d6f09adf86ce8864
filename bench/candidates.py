"""Candidates: rank of the kilonova, contaminants ranked before it, and cost of ranking, page and sky maps.

``python -m bench.candidates``. The nights are those of :mod:`imaging.simulation.candidate_night`: tables without
pixels, with one kilonova above S/N 7 in two exposures. Real sky maps are read from ``../shared/data/skymaps``. With
``--sky hard`` (or another sky) a night from raw pixels to the ranked list instead: :mod:`bench.sky_candidates`.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import ndtr

from bench.page_in_a_browser import browser_rows
from bench.ranked_site import write_site
from bench.report import Row, at_least, at_most, main
from bench.searched_truth import truth_rows
from bench.sky_candidates import rows_on_sky
from blocks.nights import read_night
from imaging.candidates.associate import associate_detections, candidate_table
from imaging.candidates.chance import without_chance
from imaging.candidates.crossmatch import match_point_sources, match_reference_stars
from imaging.candidates.hosts import add_distances, match_hosts
from imaging.candidates.lightcurve import lightcurve_likelihood
from imaging.candidates.rank import rank_candidates
from imaging.candidates.settings import AssociateSettings, CrossmatchSettings, LightcurveSettings, RankSettings
from imaging.io.skymaps import read_skymap, write_skymap
from imaging.pictures.candidate_page import NightPage, build_page
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.simulation.candidate_night import SyntheticNight, footprints_of, join_footprints, make_night
from imaging.simulation.candidate_sources import MJD_EVENT, NIGHT
from imaging.skymap.build import gaussian_skymap
from imaging.skymap.coverage import search_coverage
from imaging.skymap.footprints import covering
from imaging.skymap.model import SkyMap
from imaging.skymap.settings import CoverageSettings
from imaging.tables import make_table
from imaging.wcs.sphere import offset_position
from tasks.rank import rank as rank_step
from tasks.ranked_tables import rerank_job

REAL_MAPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "skymaps"
RIGHT_AREAS = (
    # published areas are rounded to 0.1 square degree
    ("GW200129", "S200129m_G361581_bayestar.multiorder.fits", {0.5: 10.2, 0.9: 53.1}),
    ("GW190814", "GW190814_LALInference.v1.fits.gz", {0.5: 4.8, 0.9: 23.1}),
)


FAR_MPC, FAR_SNR = 300.0, 8.0
"""Distance of a far kilonova, and its least signal to noise in the best exposure."""


def prepare(
    seed: int, scale: float = 1.0, distance_mpc: float | None = None
) -> tuple[SyntheticNight, pa.Table, pa.Table]:
    """Return a simulated night, its candidates matched to stars and hosts, and their forced photometry."""
    night, settings = make_night(seed, scale=scale, distance_mpc=distance_mpc), CrossmatchSettings()
    table = associate_detections(night.detections, NIGHT, AssociateSettings(), night.footprints, night.fakes)
    hosts = add_distances(night.hosts, night.galaxies, settings)
    table = match_point_sources(match_reference_stars(table, night.stars, MJD_EVENT, settings), hosts, settings)
    table = match_hosts(table, hosts, settings)
    return night, table, night.forced(table)


def kinds_of_best(seeds: Sequence[int], distance_mpc: float | None = None) -> list[list[str]]:
    """Return the true kind of each candidate of each night, the best-ranked first."""
    kinds = []
    for seed in seeds:
        night, table, forced = prepare(seed, distance_mpc=distance_mpc)
        if distance_mpc is not None and night.kilonova_snr[night.exposures.mjd > MJD_EVENT].max() < FAR_SNR:
            continue
        ranked = rank_candidates(table, forced, night.skymap, MJD_EVENT, RankSettings(), LightcurveSettings())
        kinds.append(night.kind_of(without_chance(ranked, forced, night.footprints, AssociateSettings())))
    return kinds


def rank_rows(seeds: Sequence[int], further: Sequence[int]) -> list[Row]:
    """Measure the rank of the kilonova, and the kinds of contaminants among the first ten."""
    kinds = kinds_of_best(seeds)
    ranks = [_rank_of_kilonova(kind) for kind in kinds]
    contaminants = Counter(name for kind in kinds for name in kind[:10] if name != "kilonova")
    n = len(ranks)
    rows = [
        at_least("kilonova ranked first", ranks.count(1) / n, "share", 0.95, n=n, seeds=seeds),
        at_most("worst rank of the kilonova", max(ranks), "", 3, n=n),
        Row("candidates in a night", float(np.mean([len(kind) for kind in kinds])), "", n=n),
    ]
    rows += [Row(f"nights with the kilonova at rank {r}", ranks.count(r), "", n=n) for r in sorted(set(ranks))]
    rows += [Row(f"{name} in the first ten", count / n, "a night", n=n) for name, count in contaminants.most_common()]
    far = [_rank_of_kilonova(kind) for kind in kinds_of_best(range(500, 500 + n), FAR_MPC)]
    label = f"worst rank of a kilonova at {FAR_MPC:.0f} Mpc above S/N {FAR_SNR:.0f}"
    rows.append(at_most(label, max(far), "", 10, n=len(far), seeds=range(500, 500 + n)))
    if further:
        others = [_rank_of_kilonova(kind) for kind in kinds_of_best(further)]
        m = len(others)
        label = "on further nights, not used for tuning"
        rows.append(at_least(f"kilonova ranked first {label}", others.count(1) / m, "share", 0.95, n=m, seeds=further))
        rows.append(at_most(f"worst rank {label}", max(others), "", 3, n=m))
    return rows


def _rank_of_kilonova(kind: list[str]) -> int:
    """Return the rank of the kilonova; the length of the list plus one if it is not listed."""
    return kind.index("kilonova") + 1 if "kilonova" in kind else len(kind) + 1


def seconds_of(action: Callable[[], Any]) -> tuple[float, float]:
    """Return the CPU seconds and the wall-clock seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


def cpu_seconds(action: Callable[[], Any]) -> float:
    """Return the CPU seconds of a call."""
    return seconds_of(action)[0]


def many_candidates(n: int, skymap: SkyMap) -> tuple[pa.Table, pa.Table]:
    """Return n random candidates around the peak of a map and eight photometric points for each."""
    rng, points = np.random.default_rng(1), 8
    peak = skymap.peak()
    names = np.array([f"C{i:07d}" for i in range(n)], dtype=object)
    hosted = rng.uniform(size=n) < 0.5
    columns = {
        "candidate_id": pa.array(names),
        "rank": np.arange(1, n + 1),
        "ra": (peak[0] + rng.normal(0, 6, n)) % 360,
        "dec": np.clip(peak[1] + rng.normal(0, 6, n), -89, 89),
        "position_error_arcsec": np.full(n, 0.1),
        "n_detections": np.full(n, 2),
        "n_exposures": np.full(n, 5),
        "bands": ["g,i"] * n,
        "mjd_first": np.full(n, MJD_EVENT + 0.5),
        "mjd_last": np.full(n, MJD_EVENT + 0.6),
        "snr_best": rng.uniform(5, 50, n),
        "mag_last": rng.uniform(18, 23, n),
        "real_score": rng.uniform(0, 1, n),
        "flags": np.zeros(n, dtype=np.int64),
        "detection_ids": pa.array(np.arange(n)[:, None].tolist(), type=pa.list_(pa.int64())),
        "motion_arcsec_per_hour": rng.uniform(0, 0.5, n),
        "motion_error_arcsec_per_hour": np.full(n, 0.2),
        "host_dlr": np.where(hosted, rng.uniform(0, 5, n), np.nan),
        "host_separation_arcsec": np.where(hosted, rng.uniform(0, 5, n), np.nan),
        "host_mag": np.where(hosted, rng.uniform(15, 23, n), np.nan),
        "host_distance_mpc": np.where(rng.uniform(size=n) < 0.05, rng.uniform(20, 2000, n), np.nan),
    }
    days = np.array([-20.0, -10.0, -3.0, 0.5, 0.51, 0.55, 0.56, 0.6])
    flux = rng.normal(0, 600, (n, points)) + (days > 0) * 10 ** rng.uniform(3, 4.3, (n, 1))
    total = n * points
    forced = {
        "candidate_id": pa.array(np.repeat(names, points)),
        "expnum": np.tile(np.arange(points), n),
        "ccd": np.ones(total, dtype=np.int64),
        "band": pa.array(np.tile(np.array(list("gizgizri"), dtype=object), n)),
        "mjd": np.tile(MJD_EVENT + days, n),
        "flux": flux.ravel(),
        "flux_error": np.full(total, 600.0),
        "masked": np.zeros(total, dtype=bool),
    }
    rest = {f.name: pa.nulls(total, f.type) for f in FORCED_PHOTOMETRY if f.name not in forced}
    return candidate_table(columns), make_table(forced | rest, FORCED_PHOTOMETRY)


def cost_rows(sizes: Sequence[int]) -> list[Row]:
    """Measure the CPU seconds of association, ranking, re-ranking with kept light-curve likelihoods, and the page."""
    skymap = gaussian_skymap(60.0, -30.0, 6.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=8)
    rank, light = RankSettings(), LightcurveSettings()
    footprints = footprints_of(1, "i", MJD_EVENT + 0.5, 60.0, -30.0, 23.0)
    small, forced = many_candidates(10, skymap)
    rank_candidates(small, forced, skymap, MJD_EVENT, rank, light)
    rows = []
    for n in sizes:
        table, forced = many_candidates(n, skymap)
        seconds = cpu_seconds(partial(rank_candidates, table, forced, skymap, MJD_EVENT, rank, light))
        rows.append(at_most(f"rank {n} candidates", seconds, "s", 60.0))
        likelihood = lightcurve_likelihood(forced, table.column("candidate_id"), MJD_EVENT, light)
        again = cpu_seconds(partial(rank_candidates, table, forced, skymap, MJD_EVENT, rank, light, likelihood))
        rows.append(Row(f"re-rank {n} with kept light curves", again, "s"))
        ranked = rank_candidates(table, forced, skymap, MJD_EVENT, rank, light, likelihood)
        page = NightPage("S1", NIGHT, MJD_EVENT, ranked, forced, skymap, footprints)
        rows.append(Row(f"page of {n} candidates, the best 5000 shown", cpu_seconds(partial(build_page, page)), "s"))
        if n <= page.max_candidates:
            rows += browser_rows(build_page(page), n)
        del ranked, page
        rows += again_rows(n, table, forced, timed_map(skymap))
    night = make_night(1, scale=7.0)
    n = night.detections.num_rows
    seconds = cpu_seconds(lambda: associate_detections(night.detections, NIGHT, AssociateSettings(), night.footprints))
    return [*rows, Row(f"associate {n} detections of 12 exposures", seconds, "s")]


def timed_map(skymap: SkyMap) -> SkyMap:
    """Return the sky map with the time of the event set."""
    return replace(skymap, mjd=MJD_EVENT)


def again_rows(n: int, table: pa.Table, forced: pa.Table, skymap: SkyMap) -> list[Row]:
    """Measure ``gw-workflow rank`` with all its files: list, exports, regions, pages and pictures.

    First without cached light-curve likelihoods, then on a new map, with cached ones.
    """
    parts = [
        footprints_of(number, "i", MJD_EVENT + 0.5, 56.0 + 2.0 * (number % 5), -34.0 + 2.0 * (number // 5), 23.0)
        for number in range(25)
    ]
    what, rows = f"{n} candidates, 25 exposures, all files", []
    with tempfile.TemporaryDirectory() as folder:
        site = write_site(Path(folder), table, forced, skymap, join_footprints(parts))
        new = Path(folder) / "new.fits"
        moved = gaussian_skymap(61.0, -31.0, 5.0, distance_mpc=120.0, distance_sigma_mpc=20.0, order=8, mjd=MJD_EVENT)
        write_skymap(new, moved)
        for turn, path in (("first ranking", read_night(site, NIGHT).skymap), ("gw-workflow rank on a new map", new)):
            job = rerank_job(NIGHT, path, site)
            cpu, wall = seconds_of(partial(rank_step, job))
            rows.append(at_most(f"{turn}, {what}, CPU", cpu, "s", 60.0))
            rows.append(at_most(f"{turn}, {what}, wall clock", wall, "s", 60.0))
    return rows


def found_row() -> Row:
    """Compare the probability to detect a source of absolute magnitude -15 with draws from the map."""
    skymap = gaussian_skymap(60.0, -30.0, 1.0, distance_mpc=200.0, distance_sigma_mpc=50.0, order=9)
    bands = {"g": (60.2, -29.8, 22.6), "i": (60.6, -30.4, 22.0), "z": (59.5, -30.1, 21.4)}
    parts = [footprints_of(n, b, MJD_EVENT, *place) for n, (b, place) in enumerate(bands.items())]
    footprints = join_footprints(parts)
    settings = CoverageSettings()
    coverage = search_coverage(skymap, footprints, settings)
    predicted = coverage.probability_found_absolute(dict.fromkeys(bands, -15.0))
    rng, n = np.random.default_rng(3), 1_000_000
    ra, dec = offset_position(60.0, -30.0, *rng.normal(0.0, 3600.0, (2, n)))
    grid = np.linspace(0.5, 600.0, 20_000)
    density = grid**2 * np.exp(-0.5 * ((grid - 200.0) / 50.0) ** 2)
    distance = np.interp(rng.uniform(0, density.sum(), n), np.cumsum(density), grid)
    footprint, position = covering(footprints, ra, dec)
    mag = -15.0 + 5 * np.log10(distance[position]) + 25.0
    chance = settings.efficiency_plateau * ndtr((footprints.m50_mag[footprint] - mag) / settings.efficiency_width_mag)
    hit = rng.uniform(size=len(mag)) < chance
    counted = len(np.unique(position[hit])) / n
    error = 100 * abs(predicted - counted) / counted
    return at_most("probability to find M = -15, error against draws", error, "%", 1.0, n=n)


def map_rows() -> list[Row]:
    """Compare areas of real maps with published values, and the searched probability with random draws."""
    rows = []
    for event, name, right in RIGHT_AREAS:
        if not (REAL_MAPS / name).exists():
            rows.append(Row(f"areas of {event}: the map is absent", None, "%"))
            continue
        skymap = read_skymap(REAL_MAPS / name)
        for level, area in right.items():
            beyond = max(abs(skymap.area_at_level_deg2(level) - area) - 0.05, 0.0)
            label = f"{100 * level:.0f} % area of {event}, error beyond the published digits"
            rows.append(at_most(label, 100 * beyond / area, "%", 0.5))
    rng = np.random.default_rng(1)
    skymap = gaussian_skymap(60.0, -30.0, 1.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=9)
    footprints = footprints_of(1, "i", MJD_EVENT, 60.2, -29.8, 23.0)
    searched = search_coverage(skymap, footprints, CoverageSettings()).probability_searched
    offsets = np.random.default_rng(2).normal(0.0, 3600.0, (2, 1_000_000))
    inside = covering(footprints, *offset_position(60.0, -30.0, *offsets))[1]
    counted = len(np.unique(inside)) / offsets.shape[1]
    rows.append(
        at_most("searched probability, error", 100 * abs(searched - counted) / counted, "%", 0.5, n=offsets.shape[1])
    )
    places = rng.uniform(0, 360, 10**6), np.degrees(np.arcsin(rng.uniform(-1, 1, 10**6)))
    rows.append(
        Row("credible level of a million positions", cpu_seconds(lambda: skymap.credible_level_at(*places)), "s")
    )
    return rows


def measure(quick: bool) -> list[Row]:
    """Measure everything; ``quick`` takes lists of at most 5,000 candidates."""
    seeds, further = tuple(range(20)), () if quick else tuple(range(200, 240))
    sizes = (100, 5000) if quick else (100, 5000, 1_000_000)
    return [*rank_rows(seeds, further), *cost_rows(sizes), *map_rows(), found_row(), *truth_rows(quick)]


if __name__ == "__main__":
    main("Candidates", measure, rows_on_sky)
