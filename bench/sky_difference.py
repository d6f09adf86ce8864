"""Figures of the difference on nights of the named skies: ``python -m bench.difference --sky hard``."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import poisson

from bench.report import Row, at_least, at_most
from bench.sky_goals import GOALS, Family, Goals
from bench.sky_masks import masked_by_light, satellites_near
from bench.sky_night import EXPLODING, STEADY, SkyNight
from bench.sky_single_epoch import adopted_zeropoints
from blocks.site import Site
from deployments.reports.candidates import read_candidates
from imaging.difference.forced import ForcedFluxes, measure_forced
from imaging.difference.settings import DetectionSettings
from imaging.image import CalibratedImage, CcdImage, no_error
from imaging.io.images import read_planes
from imaging.io.psf import read_psf
from imaging.io.tables import read_table
from imaging.io.truth import source_truth_path
from imaging.numerics.robust import mad_sigma
from imaging.photometry.transparency import ERROR_PLANE
from imaging.schemas.difference import DetectionFlag
from imaging.tables import column
from imaging.wcs.tpv import TpvWcs
from tasks.products import read_quality

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

NEAR_PIXELS, ALONE_PIXELS = 4.0, 20.0
"""Distance of a detection from its source, and least distance of sources whose fluxes are compared."""
KINDS = (
    "on a source brighter than 22.5 mag",
    "within 6 FWHM of a star of 18 mag",
    "around a star of 15 mag",
    "elsewhere",
)
"""Where false detections are, each at the first place that holds."""

EXPECTED_OF_NOISE = "false detections per CCD, peaks of noise of both signs to expect"
"""Name of the row of what no process can avoid at a threshold of five sigma; half of it is without a flag."""


@dataclass
class Collected:
    """What the CCDs of a night give, list entries per CCD.

    Attributes
    ----------
    quality
        Quality numbers of the difference.
    false, unflagged, used
        Numbers of false detections: all, without a flag, and those of candidates in the ranked list.
    kinds
        Numbers of the last at each of the places of :data:`KINDS`.
    scores
        Scores of the last.
    stars
        Residual fluxes of stars of 16 to 18 mag over their flux, and over the stated error: (n, 2).
    pulls
        Pull, flux over the true one, and true flux over its error of true transients: (n, 3).
    fakes
        Pull, expected signal to noise and whether unflagged of fakes on good pixels: (n, 3).
    fake_flags
        Expected signal to noise and flags of the same fakes: (n, 2).
    searched
        Share of the pixels that are searched.
    masked
        Share of them that only the light of bright stars masks.
    wanted
        Number of CCDs that should have a difference.
    """

    quality: list[Mapping[str, Any]] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    unflagged: list[int] = field(default_factory=list)
    used: list[int] = field(default_factory=list)
    kinds: list[NDArray[np.int64]] = field(default_factory=list)
    scores: list[FloatArray] = field(default_factory=list)
    stars: list[FloatArray] = field(default_factory=list)
    pulls: list[FloatArray] = field(default_factory=list)
    fakes: list[FloatArray] = field(default_factory=list)
    fake_flags: list[FloatArray] = field(default_factory=list)
    searched: list[float] = field(default_factory=list)
    masked: list[float] = field(default_factory=list)
    wanted: int = 0


def rows_on_sky(nights: Iterable[SkyNight]) -> list[Row]:
    """Return the figures of the differences of processed nights, with the goals as limits."""
    return DIFFERENCES.on_sky(nights)


def collect(night: SkyNight) -> Collected:
    """Compare the differences of a processed and ranked night with the truth."""
    collected = absent(night)
    wanted = [(expnum, ccd) for expnum in night.expnums(search=True) for ccd in night.ccds]
    paths = {which: night.product(*which, "difference.json") for which in wanted}
    templates = night.expnums(search=False)
    listed = listed_detections(night) if any(paths.values()) else np.zeros(0, np.int64)
    for which, path in paths.items():
        if path is not None:
            collected.quality.append(read_quality(path))
            _compare(collected, night, *which, templates, listed)
    return collected


def absent(night: SkyNight) -> Collected:
    """Return what a night without any difference gives."""
    return Collected(wanted=len(night.ccds) * night.settings.n_search_exposures)


def listed_detections(night: SkyNight) -> NDArray[np.int64]:
    """Return the identities of all detections of the candidates in the night's ranked list.

    Raises
    ------
    InputError
        If the night has not been ranked.
    """
    rows = read_candidates(Site.at(night.root), night.settings.night)
    return np.array([number for row in rows for number in row["detection_ids"]], dtype=np.int64)


def _compare(
    collected: Collected, night: SkyNight, expnum: int, ccd: int, templates: Sequence[int], listed: NDArray[np.int64]
) -> None:
    def product(suffix: str) -> Path:
        found = night.product(expnum, ccd, suffix)
        assert found is not None, suffix
        return found

    truth = read_table(source_truth_path(night.root, expnum, ccd))
    kind, x, y = (column(truth, name) for name in ("kind", "x", "y"))
    changing = ~np.isin(kind, STEADY)
    found = read_table(product("detections.parquet"))
    flags, score = column(found, "flags"), column(found, "real_score").astype(float)
    false = ~_near(column(found, "x"), column(found, "y"), x[changing], y[changing], NEAR_PIXELS)
    used = false & np.isin(column(found, "detection_id"), listed)
    for counts, which in zip(
        (collected.false, collected.unflagged, collected.used), (false, false & (flags == 0), used), strict=True
    ):
        counts.append(int(which.sum()))
    fwhm = read_psf(product("diffpsf.fits")).fwhm_pixels
    place = places_of(column(found, "x")[used], column(found, "y")[used], truth, fwhm)
    collected.kinds.append(np.bincount(place, minlength=len(KINDS)))
    collected.scores.append(score[used])
    fakes, flags_of_fakes = _fakes(read_table(product("fakes.parquet")))
    collected.fakes.append(fakes)
    collected.fake_flags.append(flags_of_fakes)
    image, template_flux = _read(product("diff.fits"), product("diffpsf.fits"), product("template.fits"))
    collected.searched.append(float((image.pixels.weight > 0).mean()))
    mag, (zeropoint_mag, zeropoint_error_mag) = column(truth, "mag"), adopted_zeropoints(night, expnum)[ccd]
    flux = 10 ** (0.4 * (zeropoint_mag - mag))
    search = read_planes(product("immask.fits"), ["MSK"])[0]["MSK"]
    satellites = satellites_near(night, (expnum, ccd), templates, image.wcs)
    collected.masked.append(masked_by_light(image.pixels.mask, search, satellites))
    alone = _others(x, y, x[changing], y[changing]) > ALONE_PIXELS
    stars = (kind == "star") & (mag > 16) & (mag < 18) & ~column(truth, "is_saturated").astype(bool) & alone
    forced = measure_forced(image, x[stars], y[stars], DetectionSettings(), template_flux)
    good = ~forced.masked & np.isfinite(forced.flux)
    collected.stars.append(np.stack([forced.flux / flux[stars], forced.flux / forced.error], axis=1)[good])
    new = np.isin(kind, EXPLODING) & alone & ~_held(night.root, templates, ccd, truth)
    forced = measure_forced(image, x[new], y[new], DetectionSettings(), template_flux)
    good = ~forced.masked & np.isfinite(forced.flux) & (flux[new] > 5 * forced.error)
    collected.pulls.append(judged_fluxes(forced, flux[new], zeropoint_error_mag)[good])


def judged_fluxes(forced: ForcedFluxes, flux: FloatArray, zeropoint_error_mag: float) -> FloatArray:
    """Return (n, 3) pull, ratio to the true flux, and true flux over its error, of calibrated fluxes.

    Parameters
    ----------
    forced
        Fluxes of n sources, electrons.
    flux
        (n,) true electrons at the adopted zero point: the calibrated flux is judged, so an error of the zero point is
        one of the flux, and its stated error a part of the flux's.
    zeropoint_error_mag
        Stated error of the adopted zero point.
    """
    error = np.hypot(forced.error, flux * zeropoint_error_mag * np.log(10.0) / 2.5)
    return np.stack([(forced.flux - flux) / error, forced.flux / flux, flux / error], axis=1)


def places_of(x: FloatArray, y: FloatArray, truth: pa.Table, fwhm_pixels: float) -> NDArray[np.int64]:
    """Return (n,) the place in :data:`KINDS` of each false detection."""
    mag, star = column(truth, "mag"), column(truth, "kind") == "star"
    distance = np.hypot(x[:, None] - column(truth, "x"), y[:, None] - column(truth, "y"))
    around = 30.0 * 10 ** (0.14 * np.maximum(15.0 - mag, 0.0))  # pixels; the halos seen
    holds = (
        ((distance < NEAR_PIXELS) & (mag < 22.5)).any(axis=1),
        ((distance < 6.0 * fwhm_pixels) & (mag < 18.0) & star).any(axis=1),
        ((distance < around) & (mag < 15.0) & star).any(axis=1),
    )
    return np.select(holds, [0, 1, 2], default=3).astype(np.int64)


def _read(path: Path, psf: Path, template: Path) -> tuple[CalibratedImage, NDArray[np.float32]]:
    """Read a difference as forced photometry does, and the subtracted template through its filter."""
    planes, header = read_planes(path, optional=(ERROR_PLANE,))
    image = CalibratedImage(
        pixels=CcdImage(planes["SCI"], planes["MSK"], planes["WGT"], header),
        wcs=TpvWcs.from_header(header),
        psf=read_psf(psf),
        zeropoint_mag=float(header["MAGZERO"]),
        sky_electrons=float(header["SKYBRITE"]),
        saturation_electrons=float(header["SATURATE"]),
        label=path.name,
        transparency_error=planes.get(ERROR_PLANE, no_error()),
    )
    return image, read_planes(template, ["FLX"])[0]["FLX"]


def _fakes(table: pa.Table) -> tuple[FloatArray, FloatArray]:
    """Return the entries of ``fakes`` and ``fake_flags`` of a CCD."""
    found = column(table, "detected").astype(bool) & column(table, "on_good_pixels").astype(bool)
    names = ("flux_measured", "flux_error", "flux")
    measured, error, true = (column(table, name)[found].astype(float) for name in names)
    passed, snr, flags = (column(table, name)[found].astype(float) for name in ("passed", "snr_expected", "flags"))
    return np.stack([(measured - true) / error, snr, passed], axis=1), np.stack([snr, flags], axis=1)


def _held(root: Path, templates: Sequence[int], ccd: int, truth: pa.Table) -> BoolArray:
    """Return which sources have more than half a per cent of their flux in a template of the same CCD."""
    flux = dict.fromkeys(column(truth, "source_id").tolist(), 0.0)
    for expnum in templates:
        table = read_table(source_truth_path(root, expnum, ccd))
        names = (column(table, name).tolist() for name in ("source_id", "flux_aperture_electrons"))
        for number, value in zip(*names, strict=True):
            flux[number] = max(flux.get(number, 0.0), value)
    theirs = np.array([flux[number] for number in column(truth, "source_id").tolist()])
    return theirs > 0.005 * column(truth, "flux_aperture_electrons")


def _near(x: FloatArray, y: FloatArray, other_x: FloatArray, other_y: FloatArray, limit: float) -> BoolArray:
    distance = np.hypot(x[:, None] - other_x, y[:, None] - other_y)
    return distance.min(axis=1, initial=np.inf) < limit


def _others(x: FloatArray, y: FloatArray, other_x: FloatArray, other_y: FloatArray) -> FloatArray:
    """Return the distance to the nearest changing source other than the source itself."""
    distance = np.hypot(x[:, None] - other_x, y[:, None] - other_y)
    return np.where(distance == 0.0, np.inf, distance).min(axis=1, initial=np.inf)


def rows_of(collected: Collected, label: str, seeds: Sequence[int], goals: Goals = GOALS) -> list[Row]:
    """Return the figures of nights, with the goals as limits.

    A row has no value if the sampling error of its figure exceeds a third of its tolerance.

    Parameters
    ----------
    collected
        What their CCDs give.
    label
        Sky and band, the beginning of every row's name.
    seeds
        Seeds of the nights.
    goals
        Goals of the sky.
    """
    n = len(collected.false)
    scores = np.concatenate([np.zeros(0), *collected.scores])
    parts = ((2, collected.stars), (3, collected.pulls), (3, collected.fakes), (2, collected.fake_flags))
    stars, pulls, fakes, flagged = (np.concatenate([np.zeros((0, width)), *part]) for width, part in parts)

    def off(name: str, value: float | None, goal: float, count: int, unit: str = "") -> Row:
        return at_most(f"{label}: {name}", value, unit, goal, n=count, seeds=seeds)

    rows = [at_least(f"{label}: CCDs with a difference", n, "", collected.wanted, n=collected.wanted, seeds=seeds)]
    for (name, number), goal in zip(_false(collected, scores).items(), goals.false, strict=True):
        rows.append(off(f"false detections per CCD, {name}", rate_of(number, n, goal), goal, n))
    peaks = [2.0 * q["noise_peaks"] for q in collected.quality if "noise_peaks" in q]
    name, expected = f"{label}: {EXPECTED_OF_NOISE}", float(np.mean(peaks)) if peaks else None
    rows.append(Row(name, expected, "", n=len(peaks), seeds=tuple(seeds)))
    for name, number in zip(KINDS, np.sum([np.zeros(len(KINDS)), *collected.kinds], axis=0), strict=True):
        of_all = f"{label}: false detections per CCD, that make a candidate: {name}"
        rows.append(Row(of_all, float(number) / n if n else None, "", n=n, seeds=tuple(seeds)))
    chi2 = [abs(q["kernel_chi2"] - 1.0) for q in collected.quality]
    middle = float(np.median(chi2)) if chi2 else None
    rows.append(off("chi-square of the kernel fit, median distance from 1", middle, goals.kernel_chi2, n))
    residual = 100 * mad_sigma(stars[:, 0]) if len(stars) else None
    rows.append(Row(f"{label}: residual of stars of 16 to 18 mag", residual, "%", n=len(stars), seeds=tuple(seeds)))
    most = goals.stars_over_error
    rows.append(off("the same over its stated error", width_of(stars[:, 1], most - 1.0), most, len(stars)))
    for name, values in (("true transients", pulls[:, 0]), ("fakes above S/N 8", fakes[fakes[:, 1] > 8, 0])):
        width = width_of(values, goals.pull_width)
        distance = None if width is None else abs(width - 1)
        rows.append(off(f"pull of {name}, |width - 1|", distance, goals.pull_width, len(values)))
    mean, most = _mean(pulls[:, 0], goals.pull_mean), goals.ratio_percent
    rows.append(off("mean pull of true transients", mean, goals.pull_mean, len(pulls)))
    bright = pulls[pulls[:, 2] > 20]
    ratio = ratio_of(bright, most)
    rows.append(off("their flux over the true one, S/N above 20, |ratio - 1|", ratio, most, len(bright), "%"))
    for low, high, goal in ((8.0, 12.0, goals.faint_percent), (50.0, np.inf, goals.bright_percent)):
        inside = fakes[(fakes[:, 1] >= low) & (fakes[:, 1] < high), 2]
        lost = rate_of(int((inside == 0).sum()), inside.size, 1.0 - goal / 100.0)
        name = f"{label}: detected fakes of S/N {low:g} to {high:g} without a flag"
        rows.append(at_least(name, None if lost is None else 100 * (1 - lost), "%", goal, n=inside.size, seeds=seeds))
        rows += _hits(flagged[(flagged[:, 0] >= low) & (flagged[:, 0] < high), 1], name, seeds)
    searched, masked = (100 * float(np.mean(part)) if part else None for part in (collected.searched, collected.masked))
    rows.append(off("pixels masked by the light of bright stars alone", masked, goals.masked_percent, n, "%"))
    return [*rows, Row(f"{label}: searched share of the pixels", searched, "%", n=n, seeds=tuple(seeds))]


def _hits(flags: FloatArray, name: str, seeds: Sequence[int]) -> list[Row]:
    """Return the share of detected fakes that each flag hits, alone or with others; flags that hit none have no row."""
    hits = {flag.name: float(np.mean((flags.astype(int) & flag) != 0)) for flag in DetectionFlag if flags.size}
    of_all = name.replace("without a flag", "with the flag")
    return [Row(f"{of_all} {k}", 100 * v, "%", n=flags.size, seeds=tuple(seeds)) for k, v in hits.items() if v > 0]


def _false(collected: Collected, scores: FloatArray) -> dict[str, int]:
    return {
        "all": sum(collected.false),
        "without a flag": sum(collected.unflagged),
        "that make a candidate": sum(collected.used),
        "of these with a score above 0.5": int((scores > 0.5).sum()),
        "of these with a score above 0.9": int((scores > 0.9).sum()),
    }


def rate_of(number: int, n: int, goal: float) -> float | None:
    """Return a count over its trials; None if it can neither meet nor miss its goal.

    It can meet the goal if nine or more are allowed, so that the sampling error is a third of the goal, and it misses
    the goal if so many have a chance below one in a hundred where the goal is just met.
    """
    if not n or (goal * n < 9.0 and poisson.sf(number - 1, goal * n) > 0.01):
        return None
    return number / n


def width_of(values: FloatArray, tolerance: float) -> float | None:
    """Return the standard deviation within four robust widths; None if it is not known to a third of its tolerance."""
    if len(values) < 10:
        return None
    middle, robust = float(np.median(values)), mad_sigma(values)
    inside = values[np.abs(values - middle) < 4.0 * robust]
    width = float(np.std(inside))
    return width if width / math.sqrt(2.0 * inside.size) <= tolerance / 3 else None


def _mean(values: FloatArray, tolerance: float) -> float | None:
    """Return the absolute mean of pulls; None if its sampling error is above a third of the tolerance."""
    return abs(float(np.mean(values))) if len(values) and 1 / np.sqrt(len(values)) <= tolerance / 3 else None


def ratio_of(bright: FloatArray, tolerance: float) -> float | None:
    """Return the weighted mean ratio of fluxes minus one, per cent; None if not known to a third of its tolerance.

    Parameters
    ----------
    bright
        (n, 3) anything, flux over the true one, signal to noise.
    tolerance
        Tolerance, per cent.
    """
    weight = bright[:, 2] ** 2
    if not len(bright) or 100 / np.sqrt(weight.sum()) > tolerance / 3:
        return None
    return 100 * abs(float(np.sum(weight * bright[:, 1]) / weight.sum()) - 1)


DIFFERENCES = Family(Collected, collect, absent, rows_of)
