"""Linearity, crosstalk and brighter-fatter kernels that are built from raw frames, against the simulated truth.

``python -m bench.built_calibrations [--json] [--quick]``: CCD 33 at full size. A ramp of 28 dome flats (quick: 14);
two exposures of the sky and two pairs of dome flats with the brighter-fatter effect, whose library has no kernels and a
crosstalk matrix that is wrong by half. The steps run in this process.
"""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.detrend_truth import read_truth
from bench.report import Row, at_most, main
from blocks.site import Site
from imaging.detector.ccds import science_ccd
from imaging.detector.crosstalk import CrosstalkMatrix, CrosstalkTerm, format_crosstalk, observatory_crosstalk
from imaging.detrend.chain import detrend_ccd
from imaging.detrend.settings import DetrendSettings
from imaging.io.atomic import content_hash, write_text
from imaging.io.calibrations import (
    CalibrationLibrary,
    read_brighter_fatter,
    read_calibration_image,
    read_crosstalk,
    read_linearity,
    write_manifest,
)
from imaging.io.detrend_calibrations import detrend_calibration_paths, read_detrend_calibrations
from imaging.io.raw import index_raw, read_raw_ccd
from imaging.masters.settings import LeakSettings, RampSettings, RepulsionSettings
from imaging.simulation.brighter_fatter import border_kernels
from imaging.simulation.calibrations import calibration_path, true_linearity
from imaging.simulation.exposures import SimulatedExposure
from imaging.simulation.night import SimulatedNight, simulate_night
from imaging.simulation.settings import SimulationSettings
from tasks.build_brighter_fatter import flat_pairs, measure_repulsion, repulsion_job
from tasks.build_crosstalk import crosstalk_job, measure_crosstalk, science_frames, write_matrix
from tasks.build_linearity import linearity_job, measure_linearity, ramps
from tasks.calibration_files import master_path
from tasks.raw_files import FLAT_KINDS, raw_of_kind

FloatArray = NDArray[np.float64]

CCD = science_ccd(33)

IN_TURN = (0.3, 6.0, 21.0, 0.6, 10.0, 24.0, 1.2, 14.0, 26.0, 2.0, 18.0, 28.0, 3.5, 29.0)
"""Exposure times of the ramp, short and long in turn, seconds."""

EPOCH = "built"

WEIGHT_PIXELS, REACH = 4.0, 12
"""Standard deviation of the weight of a star's moments, and half the side of its stamp, pixels."""

PEAKS_ELECTRONS = (15_000.0, 130_000.0)
"""Peaks of the stars whose size is measured."""


def ramp_night(
    root: Path, times: tuple[float, ...], bands: tuple[str, ...], **frames: int
) -> tuple[Site, SimulationSettings]:
    """Simulate a ramp of dome flats of one CCD, and numbers of other frames, in a folder."""
    nothing = {"n_search_exposures": 0, "n_template_epochs": 0, "galaxy_density": 0.0, "star_density": 0.01}
    settings = SimulationSettings(
        ccds=(CCD.ccdnum,),
        focus_ccds=False,
        bands=bands,
        ramp_exptimes_s=times,
        supernovae_per_ccd=0.0,
        **nothing,
        **frames,
    )
    simulate_night(root, settings, processes=1)
    return Site.at(root), settings


def half_known_night(root: Path) -> SimulatedNight:
    """Simulate two exposures and four dome flats of one CCD, and spoil what the library knows of leaks and kernels."""
    settings = SimulationSettings(
        ccds=(CCD.ccdnum,),
        focus_ccds=False,
        n_search_exposures=2,
        n_template_epochs=0,
        n_flat_exposures=4,
        brighter_fatter=True,
        galaxy_density=0.2,
        supernovae_per_ccd=0.0,
    )
    night = simulate_night(root, settings, processes=1)
    half = CrosstalkMatrix(
        tuple(
            CrosstalkTerm(t.victim, t.source, t.coefficient / 2, t.onset_adu, tuple(c / 2 for c in t.polynomial))
            for t in observatory_crosstalk().into(CCD.ccdnum)
        )
    )
    path = calibration_path(root, "crosstalk")
    write_text(path, format_crosstalk(half.terms))
    kept = [e for e in CalibrationLibrary(night.calibrations).manifest.entries if e.kind != "brighter_fatter"]
    checksums = {"crosstalk": {path.name: content_hash(path)}}
    renewed = [e.model_copy(update={"checksums": checksums.get(e.kind, e.checksums)}) for e in kept]
    write_manifest(night.calibrations, renewed)
    return night


def linearity_rows(root: Path, bands: tuple[str, ...]) -> list[Row]:
    """Return the row of the curves of both amplifiers, from 500 ADU to 90 % of saturation, but for their scale."""
    (site, truth), settings = ramp_night(root, IN_TURN, bands), RampSettings()
    raws = ramps(raw_of_kind(site, truth.night, FLAT_KINDS), truth.night, settings)
    result = measure_linearity(linearity_job(site, truth.night, CCD.ccdnum, EPOCH, raws, settings))
    table = read_linearity(master_path(site, EPOCH, "linearity", CCD.ccdnum), CCD.ccdnum)
    adu, linear = true_linearity(truth, CCD.ccdnum)
    worst, reference = 0.0, settings.reference_adu
    for a in CCD.amplifiers:
        at = np.linspace(settings.lowest_adu, 0.9 * a.saturation_adu, 500)
        true = np.interp(at, adu, linear[a.name]) / np.interp(reference, adu, linear[a.name]) * reference
        worst = max(worst, float(np.abs(np.interp(at, table.adu, table.linear[a.name]) / true - 1.0).max()))
    seeds, n = (truth.seed,), len(raws)
    return [
        at_most("build-linearity: curve, worst amplifier and signal", 100 * worst, "%", 0.1, n=n, seeds=seeds),
        Row("build-linearity: cost of a CCD", result.total_cpu_s or sum(result.cpu_s.values()), "CPU s", n=n),
    ]


def crosstalk_rows(night: SimulatedNight) -> list[Row]:
    """Return the row of the worst coefficient, which starts at half its value."""
    site, settings = Site.at(night.root), LeakSettings()
    raws = science_frames(site, [e.expnum for e in night.exposures if e.is_on_sky])
    base = read_crosstalk(calibration_path(night.root, "crosstalk"))
    result = measure_crosstalk(crosstalk_job(site, CCD.ccdnum, EPOCH, raws, settings))
    path, _ = write_matrix(site, EPOCH, base, {CCD.ccdnum: result}, settings)
    true = {(t.victim, t.source): t.coefficient for t in observatory_crosstalk().into(CCD.ccdnum)}
    found = {(t.victim, t.source): t.coefficient for t in read_crosstalk(path).into(CCD.ccdnum)}
    error, start = max(abs(true[p] - found[p]) for p in true), max(abs(true[p] / 2) for p in true)
    n, seeds = len(true), (night.settings.seed,)
    return [
        at_most("build-crosstalk: error of the worst coefficient", 1e6 * error, "1e-6", 20.0, n=n, seeds=seeds),
        Row("build-crosstalk: the same before it", 1e6 * start, "1e-6", n=n, seeds=seeds),
    ]


def repulsion_rows(night: SimulatedNight) -> list[Row]:
    """Return the rows of the kernels, and of the size of stars against the peak with them and without."""
    site, settings = Site.at(night.root), RepulsionSettings()
    number = night.settings.night
    pairs = flat_pairs(raw_of_kind(site, number, FLAT_KINDS), number)
    measure_repulsion(repulsion_job(site, number, CCD.ccdnum, EPOCH, pairs, settings))
    path = master_path(site, EPOCH, "brighter_fatter", CCD.ccdnum)
    kernel, (right, top) = read_brighter_fatter(path, CCD.ccdnum), border_kernels()
    error = max(abs(float(k[0, 0] / t[0, 0]) - 1.0) for k, t in ((kernel.right, right), (kernel.top, top)))
    seeds = (night.settings.seed,)
    rows = [Row("build-brighter-fatter: shift of the nearest borders, error", 100 * error, "%", n=len(pairs))]
    exposures = [exposure for exposure in night.exposures if exposure.is_on_sky]
    for name, used, limit in (("with the kernel", path, 0.2), ("without", None, None)):
        stars = [sizes_against_peak(night, exposure, used) for exposure in exposures]
        peak, change = (np.concatenate([each[k] for each in stars]) for k in range(2))
        slope, slope_error = slope_of(peak / 1e5, 100 * change)
        title, n = f"size of stars per 100,000 electrons at the peak, {name}", peak.size
        row = Row(title, slope, "%", n=n, seeds=seeds)
        rows.append(row if limit is None else at_most(title, abs(slope), "%", limit, n=n, seeds=seeds))
        rows.append(Row("  its statistical error", slope_error, "%", n=n, seeds=seeds))
    return rows


def sizes_against_peak(
    night: SimulatedNight, exposure: SimulatedExposure, kernel: Path | None
) -> tuple[FloatArray, FloatArray]:
    """Return (n,) peaks of stars in electrons, and their sizes over those of the true image less one.

    Parameters
    ----------
    night, exposure
        The simulated exposure.
    kernel
        Brighter-fatter kernels; None for a chain without them.
    """
    path, library = night.raw_path(exposure), CalibrationLibrary(night.calibrations)
    index = index_raw(path)
    paths = dict(detrend_calibration_paths(library, index.exposure, CCD.ccdnum))
    if kernel is not None:
        paths["brighter_fatter"] = kernel
    calibrations = read_detrend_calibrations(paths, CCD.ccdnum, exposure.band)
    raw = read_raw_ccd(path, index.extensions[CCD.ccdnum], exposure.expnum)
    result = detrend_ccd(CCD, raw, {CCD.ccdnum: raw}, index.exposure, calibrations, DetrendSettings())
    truth = read_truth(night, exposure.expnum, CCD.ccdnum)
    star_flat = read_calibration_image(library.find("star_flat", index.exposure, CCD.ccdnum), CCD.ccdnum)
    seen, true = (result.science - truth.sky) / star_flat, truth.sources
    peaks, changes = [], []
    ny, nx = true.shape
    for x, y in zip(truth.x, truth.y, strict=True):
        i, j = round(float(x)), round(float(y))
        if not (REACH <= i < nx - REACH and REACH <= j < ny - REACH):
            continue
        stamp = (slice(j - REACH, j + REACH + 1), slice(i - REACH, i + REACH + 1))
        peak = float(true[j, i])
        is_used = PEAKS_ELECTRONS[0] < peak < PEAKS_ELECTRONS[1] and peak >= true[stamp].max()
        if is_used and not result.mask[stamp].any():
            peaks.append(peak)
            changes.append(_size(seen[stamp], x - i, y - j) / _size(true[stamp], x - i, y - j) - 1.0)
    return np.array(peaks), np.array(changes)


def _size(stamp: NDArray[np.float32], x: float, y: float) -> float:
    """Return the standard deviation of a star about a place, that of the Gaussian with the same weighted moment."""
    dy, dx = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1]
    square = (dx - x) ** 2 + (dy - y) ** 2
    weighted = stamp * np.exp(-0.5 * square / WEIGHT_PIXELS**2)
    moment = float((weighted * square).sum() / weighted.sum()) / 2.0
    return float((1.0 / moment - 1.0 / WEIGHT_PIXELS**2) ** -0.5)


def slope_of(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Return the slope of a straight line without outliers beyond 4 sigma, and its error from the scatter."""
    good = np.abs(y - np.median(y)) < 4.0 * 1.4826 * np.median(np.abs(y - np.median(y)))
    terms, covariance = np.polyfit(x[good], y[good], 1, cov=True)
    return float(terms[0]), float(np.sqrt(covariance[0, 0]))


def measure(quick: bool) -> list[Row]:
    """Simulate, build and compare."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as folder:
        rows += linearity_rows(Path(folder) / "ramp", ("i",) if quick else ("i", "g"))
        night = half_known_night(Path(folder) / "frames")
        rows += crosstalk_rows(night) + repulsion_rows(night)
    return rows


if __name__ == "__main__":
    main("Calibrations built from raw frames", measure)
