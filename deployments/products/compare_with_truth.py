"""Compare the results of a simulated night with the truth, for the demonstration and its bench; not for processing."""

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from blocks.site import Site
from imaging.errors import StorageError
from imaging.io.tables import read_table
from imaging.io.truth import sky_table_path, source_truth_path
from imaging.tables import column
from imaging.wcs.sphere import separation_deg
from tasks.engine.cache import parse_record_name, read_record
from tasks.engine.jobs import StepResult
from tasks.jobs import ccd_of

MATCH_PIXELS = 1.5
"""Match radius of true and measured sources; turbulence and centroids are ten times better."""

MINIMUM_SNR = 30.0
"""Minimum signal to noise of the stars for the astrometry."""

KILONOVA = 0
"""Kind of a kilonova in the table of true transients."""

KILONOVA_ARCSEC = 1.5
"""Match radius of candidates and the true kilonova."""

WHOLE = 0
"""CCD number of a step of the whole exposure or night."""

SNR_EDGES = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, math.inf)
"""Edges of the bins of the completeness."""

FloatArray = NDArray[np.float64]
Row = dict[str, Any]


def ccd_figures(site: Site, expnums: Iterable[int]) -> list[Row]:
    """Return a row per exposure and CCD: astrometry and zero point against the truth, noise, counts.

    Parameters
    ----------
    site
        Site whose root has the truth of the simulation.
    expnums
        Exposure numbers.
    """
    rows = []
    for expnum in expnums:
        quality = recorded_quality(site, str(expnum))
        zeropoints = _adopted_zeropoints(site, expnum)
        for ccd in sorted((set(quality) | set(zeropoints)) - {WHOLE}):
            stars = _matched_stars(site, expnum, ccd, _truth(site, expnum, ccd))
            found = quality.get(ccd, {})
            rows.append(
                {
                    "expnum": expnum,
                    "ccd": ccd,
                    "astrometry_rms_mas": _astrometry_rms_mas(stars),
                    "zeropoint_error_mmag": _zeropoint_error_mmag(zeropoints.get(ccd), stars),
                    "difference_noise_width": found.get("difference_noise_width"),
                    "n_detections": found.get("n_detections"),
                    "n_candidates": found.get("n_passed"),
                    "fwhm_arcsec": found.get("fwhm_arcsec"),
                }
            )
    return rows


def recorded_quality(site: Site, subject: str) -> dict[int, Row]:
    """Return the quality numbers of a subject's CCDs from all steps, the latest of repeated steps."""
    quality: dict[int, Row] = {}
    for ccd, _, result in _records(site, subject):
        quality.setdefault(ccd, {}).update(result.quality)
    return quality


def stage_costs(site: Site, subjects: Iterable[str]) -> list[Row]:
    """Return the cost of each step: count, total CPU seconds, longest wall time, peak memory."""
    costs: dict[str, Row] = {}
    for subject in subjects:
        for _, _, result in _records(site, subject):
            row = costs.setdefault(
                result.step, {"step": result.step, "n": 0, "cpu_s": 0.0, "longest_s": 0.0, "peak_memory_mb": 0.0}
            )
            row["n"] += 1
            row["cpu_s"] += result.total_cpu_s
            row["longest_s"] = max(row["longest_s"], result.wall_s)
            row["peak_memory_mb"] = max(row["peak_memory_mb"], result.peak_memory_mb)
    return list(costs.values())


def _records(site: Site, subject: str) -> list[tuple[int, str, StepResult]]:
    """Return (CCD or ``WHOLE``, step, result) of a subject, the earliest first."""
    paths = sorted((site.records / subject).glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    found = [(parse_record_name(path.name), read_record(path)) for path in paths]
    return [(ccd_of(name[1]) or WHOLE, name[0], result) for name, result in found if name and result]


def completeness(site: Site, expnums: Iterable[int]) -> list[Row]:
    """Return the fractions of injected transients detected and passed, on good pixels, by expected signal to noise."""
    snr, detected, passed = [np.zeros(0)], [np.zeros(0, bool)], [np.zeros(0, bool)]
    for expnum in expnums:
        for path in _products(site, expnum, "fakes.parquet"):
            table = read_table(path, ["snr_expected", "on_good_pixels", "detected", "passed"])
            good = column(table, "on_good_pixels").astype(bool)
            snr.append(column(table, "snr_expected")[good])
            detected.append(column(table, "detected").astype(bool)[good])
            passed.append(column(table, "passed").astype(bool)[good])
    expected, found, kept = np.concatenate(snr), np.concatenate(detected), np.concatenate(passed)
    rows = []
    for low, high in pairwise(SNR_EDGES):
        inside = (expected >= low) & (expected < high)
        n = int(inside.sum())
        rows.append(
            {
                "snr_min": low,
                "snr_max": None if math.isinf(high) else high,
                "n": n,
                "detected": float(found[inside].mean()) if n else None,
                "passed": float(kept[inside].mean()) if n else None,
            }
        )
    return rows


def kilonova_rank(site: Site, candidates: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the rank of the candidate at the true position of the kilonova; None if there is none."""
    truth = read_table(sky_table_path(site.root, "transients"))
    is_kilonova = column(truth, "kind") == KILONOVA
    ra, dec = column(truth, "ra")[is_kilonova], column(truth, "dec")[is_kilonova]
    ranks = [
        int(row["rank"])
        for row in candidates
        if ra.size and np.min(separation_deg(row["ra"], row["dec"], ra, dec)) * 3600 < KILONOVA_ARCSEC
    ]
    return min(ranks, default=None)


def _products(site: Site, expnum: int, suffix: str) -> list[Path]:
    return sorted(site.store.glob(f"*/exp/*/{expnum}/**/*_{suffix}"))


def _truth(site: Site, expnum: int, ccd: int) -> Mapping[str, NDArray[Any]] | None:
    """Read the unsaturated true stars of a CCD."""
    try:
        table = read_table(source_truth_path(site.root, expnum, ccd))
    except StorageError:
        return None
    names = ("kind", "x", "y", "ra", "dec", "mag", "is_saturated")
    columns = {name: column(table, name) for name in names}
    stars = (columns["kind"] == "star") & ~columns["is_saturated"].astype(bool)
    return {name: values[stars] for name, values in columns.items()}


def _matched_stars(
    site: Site, expnum: int, ccd: int, truth: Mapping[str, NDArray[Any]] | None
) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Return the errors in RA and Dec, in mas, and the true zero points of the measured stars above S/N 30.

    A true zero point is that of the measured flux: the flat says what an electron stands for, and flats that are built
    of some CCDs have another mean than those of the whole camera.
    """
    paths = _products(site, expnum, "fullcat.parquet") or _products(site, expnum, "cat.parquet")
    mine = [path for path in paths if f"_{ccd:02d}_" in path.name]
    if truth is None or not mine or not truth["x"].size:
        return None
    table = read_table(mine[0])
    x, y, ra, dec = (column(table, name) for name in ("x", "y", "ra", "dec"))
    bright = column(table, "flux_psf") > MINIMUM_SNR * column(table, "flux_psf_error")
    clean = bright & (column(table, "flags") == 0)
    if not clean.any():
        return None
    distance, nearest = KDTree(np.column_stack([truth["x"], truth["y"]])).query(np.column_stack([x, y])[clean])
    same = distance < MATCH_PIXELS
    true_ra, true_dec = truth["ra"][nearest[same]], truth["dec"][nearest[same]]
    east = (ra[clean][same] - true_ra + 180.0) % 360.0 - 180.0
    zeropoint = truth["mag"][nearest[same]] + 2.5 * np.log10(column(table, "flux_psf")[clean][same])
    return east * np.cos(np.radians(true_dec)) * 3.6e6, (dec[clean][same] - true_dec) * 3.6e6, zeropoint


def _astrometry_rms_mas(stars: tuple[FloatArray, FloatArray, FloatArray] | None) -> float | None:
    """Return the RMS error per axis without the worst per cent (blends with fainter sources)."""
    if stars is None or stars[0].size < 10:
        return None
    squared = np.sort(stars[0] ** 2 + stars[1] ** 2)[: math.ceil(0.99 * stars[0].size)]
    return float(np.sqrt(squared.mean() / 2))


def _adopted_zeropoints(site: Site, expnum: int) -> dict[int, float]:
    zeropoints: dict[int, float] = {}
    for path in _products(site, expnum, "zeropoints.parquet"):
        table = read_table(path, ["ccd", "zeropoint_mag"])
        for ccd, value in zip(column(table, "ccd").tolist(), column(table, "zeropoint_mag").tolist(), strict=True):
            zeropoints[int(ccd)] = float(value)
    return zeropoints


def _zeropoint_error_mmag(
    adopted: float | None, stars: tuple[FloatArray, FloatArray, FloatArray] | None
) -> float | None:
    """Return adopted minus true zero point; the true one is the median of the CCD's stars."""
    if adopted is None or stars is None or not stars[2].size or not math.isfinite(adopted):
        return None
    return float((adopted - np.median(stars[2])) * 1000)
