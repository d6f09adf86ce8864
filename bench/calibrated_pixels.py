"""Zero points of full-size simulated CCDs from raw pixels, through clouds, compared with the truth.

``python -m bench.calibration --pixels FOLDER``: for each of three seeds and every band, an exposure of a third of the
focal plane is processed from raw file to zero points, and the results per CCD are kept in ``FOLDER``; an interrupted
run continues with the missing exposures.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from bench.measure_scores import MILLIMAG, Truth, counterparts, undisturbed
from bench.plain_night import PlainNight
from bench.report import Row, at_most
from imaging.detector.ccds import NX, NY, SCIENCE_CCDS
from imaging.io.atomic import write_text
from imaging.io.tables import read_table
from imaging.simulation.night import simulate_night
from imaging.simulation.settings import SimulationSettings
from imaging.tables import column
from tasks.check_products import zeropoint_rows
from tasks.jobs import StepJob
from tasks.steps import SOLVE_ZEROPOINTS

FloatArray = NDArray[np.float64]

SEEDS = (1, 2, 3)
BANDS = ("u", "g", "r", "i", "z", "Y")
LOOSE_BANDS = ("u", "Y")
CLOUDS_MAG = 0.15
"""Mean extinction; its rms over the field is three tenths of it, on scales from 0.8 to 4 degrees."""
UNUSUAL_CCDS = (2, 31, 61)
"""Dead CCDs, and one with a dead amplifier."""
BRIGHT_SNR = 100.0
"""Minimum signal to noise of stars used to measure the scale of PSF fluxes."""


@dataclass(frozen=True, slots=True)
class PixelZeropoint:
    """Results of one CCD.

    Attributes
    ----------
    seed, band, ccd
        Seed, band and CCD number.
    error_mmag, stated_mmag
        Adopted minus true zero point, the latter averaged over the CCD's area, and the stated error.
    own_error_mmag, own_stated_mmag
        The same for the zero point of the CCD alone; None without one.
    scale_mmag, scale_error_mmag
        Measured minus true magnitude of bright single stars: mean and standard error.
    n_used, flags
        Number of stars in the zero point of the CCD alone, and flags.
    calibrate_s, solve_s
        CPU seconds of the CCD's step, including input and output, and of the exposure's solution.
    """

    seed: int
    band: str
    ccd: int
    error_mmag: float
    stated_mmag: float
    own_error_mmag: float | None
    own_stated_mmag: float | None
    scale_mmag: float
    scale_error_mmag: float
    n_used: int
    flags: int
    calibrate_s: float
    solve_s: float


def ccds_of(seed: int) -> tuple[int, ...]:
    """Return the CCDs of a seed's exposures: a third of the focal plane, evenly distributed."""
    usual = [ccd for ccd in SCIENCE_CCDS if ccd not in UNUSUAL_CCDS]
    return tuple(usual[SEEDS.index(seed) :: len(SEEDS)])


def measure_pixels(folder: Path, say: Callable[[str], None]) -> list[PixelZeropoint]:
    """Return the results of all CCDs; exposures with results in the folder are not simulated again."""
    found = []
    for seed in SEEDS:
        for band in BANDS:
            path = folder / f"seed_{seed}_{band}.json"
            if not path.exists():
                say(f"seed {seed}, band {band}: {len(ccds_of(seed))} CCDs")
                shown = process_exposure(folder / "work", seed, band, ccds_of(seed))
                write_text(path, json.dumps([asdict(item) for item in shown], indent=1) + "\n")
            found += [PixelZeropoint(**item) for item in json.loads(path.read_text(encoding="utf-8"))]
    return found


def process_exposure(work: Path, seed: int, band: str, ccds: tuple[int, ...]) -> list[PixelZeropoint]:
    """Simulate an exposure, process it from raw file to zero points, and compare these with the truth.

    Parameters
    ----------
    work
        Folder for the simulation and its products; deleted before and afterwards.
    seed, band, ccds
        Seed, band and CCDs of the exposure.
    """
    shutil.rmtree(work, ignore_errors=True)
    settings = SimulationSettings(
        seed=seed,
        bands=(band,),
        ccds=ccds,
        focus_ccds=False,
        n_search_exposures=1,
        n_template_epochs=0,
        cloud_mag=CLOUDS_MAG,
    )
    simulate_night(work, settings, processes=1)
    night = PlainNight.at(work)
    who = night.identity(night.listed(settings.night, search=True)[0])
    night.single_epoch(who)
    seconds = {(cost.step, cost.ccd): cost.cpu_s for cost in night.costs}
    sources = work / "truth" / "sources" / f"{who.expnum:08d}"
    shown = []
    for ccd, row in zeropoint_rows(who, night.site).items():
        truth = Truth.of(read_table(sources / f"c{ccd:02d}.parquet"))
        true, own = mean_zeropoint_mag(truth), row["own_zeropoint_mag"]
        job = StepJob(exposure=who, ccd=ccd, site=night.site)
        scale, scale_error = flux_scale_mmag(truth, job.product_path("fullcat.parquet"))
        shown.append(
            PixelZeropoint(
                seed=seed,
                band=band,
                ccd=ccd,
                error_mmag=1000.0 * (row["zeropoint_mag"] - true),
                stated_mmag=1000.0 * row["zeropoint_error_mag"],
                own_error_mmag=None if own is None else 1000.0 * (own - true),
                own_stated_mmag=None if own is None else 1000.0 * row["own_zeropoint_error_mag"],
                scale_mmag=scale,
                scale_error_mmag=scale_error,
                n_used=row["n_used"],
                flags=row["flags"],
                calibrate_s=seconds["calibrate", ccd],
                solve_s=seconds[SOLVE_ZEROPOINTS.name, 0],
            )
        )
    shutil.rmtree(work)
    return shown


def mean_zeropoint_mag(truth: Truth) -> float:
    """Return the true zero point of the transparency averaged over the area of a CCD.

    At every place it is that of the nearest source: clouds have structure that no polynomial follows. The mean is that
    of fluxes and not of magnitudes, as the fluxes of all sources are divided by a transparency of mean one.
    """
    x, y = (axis.ravel() for axis in np.meshgrid((np.arange(64) + 0.5) * NX / 64, (np.arange(128) + 0.5) * NY / 128))
    nearest = cKDTree(np.stack([truth.x, truth.y], axis=-1)).query(np.stack([x, y], axis=-1))[1]
    return float(2.5 * np.log10(np.mean(10 ** (0.4 * truth.mag[nearest]) * truth.flux[nearest])))


def flux_scale_mmag(truth: Truth, path: Path) -> tuple[float, float]:
    """Return measured minus true magnitude of the bright single stars of a CCD's catalogue: mean, standard error.

    The true fluxes are those behind the clouds.
    """
    catalogue = read_table(path)
    pairs = counterparts(truth, column(catalogue, "x"), column(catalogue, "y"))
    flux, error = (
        column(catalogue, name).astype(float) * column(catalogue, "transparency")
        for name in ("flux_psf", "flux_psf_error")
    )
    good = pairs.same & pairs.alone & undisturbed(catalogue) & truth.is_star[pairs.index] & (flux > BRIGHT_SNR * error)
    difference = -MILLIMAG * np.log(flux[good] / truth.flux[pairs.index][good])
    middle = np.median(difference)
    kept = difference[np.abs(difference - middle) < 5.0 * 1.4826 * np.median(np.abs(difference - middle))]
    return float(kept.mean()), float(kept.std(ddof=1) / np.sqrt(kept.size))


def pixel_rows(found: Sequence[PixelZeropoint]) -> list[Row]:
    """Return bias and rms by band, the pull, the contribution of PSF fluxes, and the cost of the steps."""
    seeds, n = sorted({item.seed for item in found}), len(found)
    rows = []
    for band in dict.fromkeys(item.band for item in found):
        errors = np.array([item.error_mmag for item in found if item.band == band])
        limit = 8.0 if band in LOOSE_BANDS else 3.0
        name = f"from pixels, {band}: zero point of a CCD"
        rows.append(at_most(f"{name}, bias", abs(errors.mean()), "mmag", 2.0, n=errors.size, seeds=seeds))
        rows.append(at_most(f"{name}, rms", _rms(errors), "mmag", limit, n=errors.size, seeds=seeds))
    width = _rms(np.array([item.error_mmag / item.stated_mmag for item in found]))
    met = bool(abs(width - 1.0) <= 0.05)
    rows.append(Row("from pixels: width of the pull (1.00 +- 0.05)", width, "", 1.05, met, n, tuple(seeds)))
    shared, own = scale_parts_mmag(found)
    cpu_s = float(np.median([item.calibrate_s for item in found]))
    solve_s = max(item.solve_s for item in found)
    n_exposures = len({(item.seed, item.band) for item in found})
    return [
        *rows,
        Row("from pixels: scale of PSF fluxes, shared by an exposure, rms", shared, "mmag", n=n_exposures),
        Row("from pixels: scale of PSF fluxes, from CCD to CCD, rms", own, "mmag", n=n),
        at_most("from pixels, cost: the whole step calibrate of a CCD", cpu_s, "CPU s", 0.3, n=n, seeds=seeds),
        at_most(
            "from pixels, cost: solve_zeropoints of an exposure", solve_s, "CPU s", 2.0, n=n_exposures, seeds=seeds
        ),
    ]


def scale_parts_mmag(found: Sequence[PixelZeropoint]) -> tuple[float, float]:
    """Return the rms of the scale of PSF fluxes: between exposures, and between CCDs of an exposure without noise."""
    means, scatter = [], []
    for exposure in {(item.seed, item.band) for item in found}:
        items = [item for item in found if (item.seed, item.band) == exposure]
        scale = np.array([item.scale_mmag for item in items])
        noise = np.array([item.scale_error_mmag for item in items])
        mean = float(np.average(scale, weights=1.0 / noise**2))
        means.append(mean)
        scatter.append(float(np.mean((scale - mean) ** 2 - noise**2)))
    return _rms(np.array(means)), float(np.sqrt(max(float(np.mean(scatter)), 0.0)))


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))
