"""Detrending, sky, masks and weights on simulated exposures: accuracy against the truth, and CPU seconds.

``python -m bench.detrend`` simulates 12 CCDs at three seeds (seeing 0.8, 1.1 and 1.4 arcsec) and searches 60 clean
fields for streaks; ``--quick`` takes 4 CCDs of one seed and 6 fields.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.detrend_truth import (
    Scores,
    read_truth,
    score_cosmic_rays,
    score_crosstalk,
    score_detrended,
    score_streaks,
)
from bench.report import Row, at_least, at_most, main
from imaging.bits import NO_WEIGHT, MaskBit
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC, science_ccd
from imaging.detector.distortion import seed_wcs
from imaging.detrend.chain import DetrendedCcd, detrend_ccd
from imaging.detrend.settings import DetrendSettings
from imaging.io.calibrations import (
    CalibrationLibrary,
    read_calibration_image,
    read_crosstalk,
    read_sky_modes,
    read_sky_templates,
)
from imaging.io.detrend_calibrations import detrend_calibration_paths, read_detrend_calibrations
from imaging.io.raw import RawIndex, index_raw, read_raw_ccd
from imaging.masks.cosmic_rays import find_cosmic_rays
from imaging.masks.settings import CosmicRaySettings, StreakSettings
from imaging.masks.streak_links import link_streaks
from imaging.masks.streak_model import Streak, mask_streak
from imaging.masks.streaks import find_streaks
from imaging.simulation.exposures import SimulatedExposure
from imaging.simulation.night import SimulatedNight, simulate_night
from imaging.simulation.settings import DEMO_CCDS, SimulationSettings
from imaging.simulation.star_fields import MoffatPsf, draw_field
from imaging.sky.fit import SkyFit, fit_sky
from imaging.sky.image import sky_image
from imaging.sky.noise import check_noise
from imaging.sky.settings import SkySettings
from imaging.sky.star_flat import apply_star_flat
from imaging.sky.weight import sky_weight

Result = TypeVar("Result")

CCDS_FULL = (3, 7, 12, 20, 26, 27, 31, 33, 46, 52, 58, 62)
SEEING_ARCSEC = {1: 0.8, 2: 1.1, 3: 1.4}
"""Seed to seeing."""
ARITHMETIC = ("overscan", "crosstalk", "response", "health", "columns", "flat")
CLEAN_FIELDS_FULL, CLEAN_FIELDS_QUICK = 60, 6


class Costs:
    """CPU seconds by step, one entry per CCD."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def timed(self, name: str, function: Callable[[], Result]) -> Result:
        """Call a function and add its CPU seconds to a step."""
        start = time.process_time()
        result = function()
        self.seconds.setdefault(name, []).append(time.process_time() - start)
        return result

    def median(self, *names: str) -> float:
        """Return the median over CCDs of the summed steps, without the first CCD, which loads the compiled kernels."""
        return float(np.median(np.sum([self.seconds[name] for name in names], axis=0)[1:]))


class ExposureBench:
    """One simulated exposure with its calibrations."""

    def __init__(self, night: SimulatedNight, exposure: SimulatedExposure, scores: Scores, costs: Costs) -> None:
        self.night, self.truth, self.scores, self.costs = night, exposure, scores, costs
        self.path: Path = night.raw_path(exposure)
        self.index: RawIndex = index_raw(self.path)
        self.library = CalibrationLibrary(night.calibrations)
        self.detrended: dict[int, DetrendedCcd] = {}
        self.pixels: dict[int, dict[str, NDArray]] = {}
        self.matrix = read_crosstalk(self.library.find("crosstalk", self.index.exposure, 0))

    def run(self) -> None:
        """Detrend all CCDs, fit the sky, clean them, link the streaks, and score every step."""
        for ccdnum in self.night.settings.ccds:
            self.detrended[ccdnum] = self._detrend(ccdnum)
        modes = read_sky_modes(self.library.find("sky_modes", self.index.exposure, 0))
        skies = {ccdnum: result.mini_sky for ccdnum, result in self.detrended.items()}
        fit = self.costs.timed("sky fit", lambda: fit_sky(skies, modes, SkySettings()))
        errors, full, found, differences = {}, {}, {}, []
        for ccdnum in self.detrended:
            error, wells, streaks, difference = self._clean(ccdnum, fit)
            errors[ccdnum], full[ccdnum], found[ccdnum] = error, wells, streaks
            differences.append(difference)
        masks = {ccdnum: result.mask for ccdnum, result in self.detrended.items()}
        score_crosstalk(self.scores, errors, masks, full, self.matrix)
        field = np.concatenate(differences)
        self.scores.sky_range.append(float(np.ptp(field) / fit.sky_electrons))
        self._link(found)

    def _detrend(self, ccdnum: int) -> DetrendedCcd:
        paths = detrend_calibration_paths(self.library, self.index.exposure, ccdnum)
        calibrations = read_detrend_calibrations(paths, ccdnum, self.index.exposure.band)
        expnum = self.index.exposure.expnum
        present = [n for n in self.matrix.sources_of(ccdnum) if n in self.index.extensions]
        sources = {n: read_raw_ccd(self.path, self.index.extensions[n], expnum) for n in present}
        raw = read_raw_ccd(self.path, self.index.extensions[ccdnum], expnum)
        settings = DetrendSettings()
        result = detrend_ccd(science_ccd(ccdnum), raw, sources, self.index.exposure, calibrations, settings)
        for name, seconds in result.times.cpu_s.items():
            self.costs.seconds.setdefault(name, []).append(seconds)
        return result

    def _clean(
        self, ccdnum: int, fit: SkyFit
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], list[Streak], NDArray[np.float32]]:
        """Clean and score a CCD; return its error image, full wells, streaks, and the error of its sky."""
        exposure, scores, timed = self.index.exposure, self.scores, self.costs.timed
        ccd, result = science_ccd(ccdnum), self.detrended[ccdnum]
        flat = read_calibration_image(self.library.find("flat", exposure, ccdnum), ccdnum)
        star_flat = read_calibration_image(self.library.find("star_flat", exposure, ccdnum), ccdnum)
        templates = read_sky_templates(self.library.find("sky_templates", exposure, ccdnum), ccdnum)
        truth = read_truth(self.night, exposure.expnum, ccdnum)
        self.pixels[ccdnum] = truth.pixels
        error = score_detrended(scores, result.science, result.mask, star_flat, truth, ccd)
        mask, header = result.mask.copy(), dict(result.header)
        shape = (mask.shape[0], mask.shape[1])
        sky = timed("sky image", lambda: sky_image(fit, templates, ccdnum, shape))
        difference = (sky - truth.sky)[64::128, 64::128].ravel()
        science = result.science - sky
        timed("star flat", lambda: apply_star_flat(science, mask, header, star_flat))
        weight = timed("weight", lambda: sky_weight(mask, sky, flat, star_flat, ccd, header))
        sigma = float(1.0 / np.sqrt(np.median(weight[weight > 0])))
        fwhm = self.truth.psf.fwhm_arcsec / PIXEL_SCALE_ARCSEC
        rays = timed("cosmic rays", lambda: find_cosmic_rays(science, weight, mask, fwhm, CosmicRaySettings()))
        score_cosmic_rays(scores, rays, mask, truth, sigma)
        mask[rays.pixels] |= np.int16(MaskBit.CRAY)
        weight[rays.pixels] = 0.0
        streaks = timed("streaks", lambda: find_streaks(science, weight, mask, StreakSettings()))
        for streak in streaks:
            mask_streak(mask, streak)
        weight[(mask & np.int16(NO_WEIGHT)) != 0] = 0.0
        scores.noise_ratio.append(timed("noise", lambda: check_noise(science, weight, mask)).ratio)
        return error, truth.pixels["full_index"], streaks, difference

    def _link(self, found: dict[int, list[Streak]]) -> None:
        geometry = {ccdnum: seed_wcs(ccdnum) for ccdnum in found}
        linked = self.costs.timed("link", lambda: link_streaks(found, geometry, StreakSettings()))
        for ccdnum, streaks in found.items():
            predicted = list(linked.predicted.get(ccdnum, ()))
            detrended = self.detrended[ccdnum]
            sigma = float(np.sqrt(detrended.quality["sky_electrons"] + 50.0))
            score_streaks(self.scores, streaks, predicted, detrended.mask, self.pixels[ccdnum], sigma)


def invented_streaks(n: int) -> int:
    """Count false streaks on fields of stars and galaxies of varying density and seeing."""
    total = 0
    for seed in range(n):
        random = np.random.default_rng(seed)
        density, fwhm = random.choice([0.3, 1.0, 1.0, 3.0]), random.uniform(3.0, 5.5)
        numbers = {"n_stars": int(1500 * density), "n_galaxies": int(5000 * density)}
        image = draw_field(seed, psf=MoffatPsf(fwhm_pixels=fwhm), mag_range=(12.0, 25.0), **numbers).image
        total += len(find_streaks(image.science, image.weight, image.mask, StreakSettings()))
    return total


def accuracy_rows(scores: Scores, seeds: Sequence[int], clean_fields: int) -> list[Row]:
    """Return the rows of accuracy."""
    n_ccds = len(scores.noise_ratio)

    def worst(values: ArrayLike) -> float:
        return float(np.max(np.abs(values)))

    def most(name: str, value: float, unit: str, limit: float) -> Row:
        return at_most(name, value, unit, limit, n=n_ccds, seeds=seeds)

    def least(name: str, value: float, limit: float, n: int) -> Row:
        return at_least(name, value, "", limit, n=n, seeds=seeds)

    crosstalk = abs(scores.crosstalk_sum) / max(scores.crosstalk_weight, 1.0)
    noise = float(np.sqrt(scores.crosstalk_variance) / max(scores.crosstalk_weight, 1.0))
    streaks = scores.streaks_found / max(scores.streaks_true, 1)
    invented = at_most("false streaks on clean fields", invented_streaks(clean_fields), "", 0, n=clean_fields)
    return [
        most("detrended against truth, mean, worst amplifier", worst(scores.mean_error_electrons), "e-", 0.5),
        most("gain and flat from the sky, worst amplifier", worst(scores.flat_millimag), "mmag", 1.0),
        Row("gain and flat from bright pixels, worst CCD", worst(scores.light_millimag), "mmag", None, None, n_ccds),
        most("residual crosstalk of full wells", crosstalk, "", 1e-5),
        Row("its statistical error", noise, "", None, None, n_ccds),
        most("unmasked pixels beyond 6 sigma", scores.outliers / scores.good_pixels, "", 1e-6),
        most("sky, range of its error over the field", worst(scores.sky_range), "of sky", 1e-3),
        most("noise ratio, worst distance from 1", worst(np.array(scores.noise_ratio) - 1.0), "", 0.02),
        least("cosmic rays, tracks", float(np.mean(scores.tracks)), 0.95, len(scores.tracks)),
        least("cosmic rays, pixels above 1 sigma", float(np.mean(scores.track_pixels)), 0.90, n_ccds),
        most("cosmic rays, false pixels", scores.false_pixels / scores.good_pixels, "", 1e-5),
        most("cosmic rays, star cores hit", scores.star_cores, "", 0),
        least("streaks above 1 sigma per pixel masked", streaks, 1.0, scores.streaks_true),
        most("false streaks on these CCDs", scores.streaks_false, "", 0),
        invented,
    ]


def cost_rows(costs: Costs) -> list[Row]:
    """Return the rows of CPU seconds per CCD."""
    n = len(costs.seconds["overscan"])
    detrend = (*ARITHMETIC, "bleeds", "mini_sky", "quality")
    rows = [
        at_most("cost, arithmetic of detrending", costs.median(*ARITHMETIC), "CPU s", 0.15, n=n),
        at_most("cost, detrending with masks and mini-sky", costs.median(*detrend), "CPU s", 0.30, n=n),
    ]
    steps = ("sky image", "star flat", "weight", "cosmic rays", "streaks", "noise")
    return rows + [Row(f"cost, {name}", costs.median(name), "CPU s", None, None, n) for name in steps]


def measure(quick: bool) -> list[Row]:
    """Simulate, process and compare."""
    scores, costs = Scores(), Costs()
    seeds = (1,) if quick else tuple(SEEING_ARCSEC)
    for seed in seeds:
        seeing = SEEING_ARCSEC[seed]
        settings = SimulationSettings(
            seed=seed,
            ccds=DEMO_CCDS if quick else CCDS_FULL,
            n_search_exposures=1,
            n_template_epochs=0,
            search_seeing_arcsec=(seeing, seeing),
            streaks_per_exposure=4.0,
        )
        with tempfile.TemporaryDirectory(prefix="bench-detrend-") as folder:
            night = simulate_night(Path(folder), settings)
            ExposureBench(night, night.exposures[0], scores, costs).run()
    return accuracy_rows(scores, seeds, CLEAN_FIELDS_QUICK if quick else CLEAN_FIELDS_FULL) + cost_rows(costs)


if __name__ == "__main__":
    main("Detrending, sky and masks", measure)
