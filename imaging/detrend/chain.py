"""Detrending of one CCD: from raw pixels to flat-fielded electrons, with mask and mini-sky.

The corrections and their order are those of the Dark Energy Survey (Morganson et al. 2018, PASP 130, 074501;
Bernstein et al. 2017, PASP 129, 114502).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.bits import NO_WEIGHT, NOT_SKY, MaskBit
from imaging.detector.ccds import NX, Ccd
from imaging.detector.status import dead_ccds
from imaging.detrend.amplifiers import AmplifierFigures, amplifier_figures
from imaging.detrend.brighter_fatter import correct_brighter_fatter
from imaging.detrend.calibrations import DetrendCalibrations
from imaging.detrend.columns import repair_columns
from imaging.detrend.crosstalk import CrosstalkSources, remove_crosstalk
from imaging.detrend.defaults import DEFAULTS, LINEARITY_KNOWN, default_cards
from imaging.detrend.header import amplifier_keywords, initial_header
from imaging.detrend.health import dark_rows, light_floor, mask_dead_rows, noisy_rows, require_working
from imaging.detrend.history import record_correction
from imaging.detrend.overscan import Overscan, measure_overscan
from imaging.detrend.pixels import BPM_TRANSLATION, correct_response, divide_flat, subtract_overscan
from imaging.detrend.settings import DetrendSettings
from imaging.errors import CcdError
from imaging.exposure import Exposure
from imaging.image import RawCcd
from imaging.masks.bleeds import mask_bleeds, sample_sky
from imaging.masks.counts import mask_shares
from imaging.sky.mini_sky import MiniSky, make_mini_sky
from imaging.timing import StepTimes

_NO_IMAGE = np.empty((0, 0), dtype=np.float32)
_NO_BITS = np.empty((0, 0), dtype=np.int16)
_NO_TABLE = np.empty(0, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class DetrendedCcd:
    """A detrended CCD; the sky is not subtracted.

    Attributes
    ----------
    science
        (ny, nx) float32, electrons.
    mask
        (ny, nx) int16, bits of :class:`imaging.bits.MaskBit`.
    header
        Keywords, including one per correction.
    mini_sky
        Medians of the sky in superpixels.
    amplifiers
        Amplifiers A and B, with the read noise measured in the overscan.
    quality
        Quality metrics.
    times
        CPU and wall seconds per step.
    """

    science: NDArray[np.float32]
    mask: NDArray[np.int16]
    header: dict[str, Any]
    mini_sky: MiniSky
    amplifiers: tuple[AmplifierFigures, AmplifierFigures]
    quality: dict[str, float]
    times: StepTimes


def detrend_ccd(
    ccd: Ccd,
    raw: RawCcd,
    sources: Mapping[int, RawCcd],
    exposure: Exposure,
    calibrations: DetrendCalibrations,
    settings: DetrendSettings,
) -> DetrendedCcd:
    """Detrend one CCD.

    Parameters
    ----------
    ccd
        The CCD.
    raw
        Its raw extension.
    sources
        CCD number to raw extension of the CCDs with crosstalk into this one; missing ones are counted.
    exposure
        Exposure from the primary header.
    calibrations
        Calibrations of this CCD and band.
    settings
        Detrending settings.

    Returns
    -------
    detrended
        The image, its mask and mini-sky.

    Raises
    ------
    CcdError
        If the CCD is dead (``dead_ccd``), has no light (``no_light``), is saturated (``saturated``), is almost entirely
        masked (``masked``), or its raw array has the wrong shape (``unexpected_shape``).
    InputError
        If a calibration is of another size than the CCD.
    """
    where: dict[str, Any] = {"expnum": exposure.expnum, "ccd": ccd.ccdnum, "step": "detrend"}
    if ccd.ccdnum in dead_ccds(exposure.night):
        limit = "a night outside the periods in the table of faults"
        raise CcdError(
            "the CCD did not work on that night", reason="dead_ccd", value=exposure.night, limit=limit, **where
        )
    calibrations.require_shape((ccd.ny, NX))
    work = _Work(ccd, raw, exposure, calibrations, settings)
    work.remove_overscan()
    work.remove_crosstalk(sources)
    work.correct_response()
    work.judge_rows(where)
    work.repair_columns()
    work.correct_brighter_fatter()
    work.divide_flat()
    work.mask_bleeds()
    mini_sky = work.compress_sky()
    _require_pixels(work.quality, settings, where)
    return DetrendedCcd(work.science, work.mask, work.header, mini_sky, work.amplifiers, work.quality, work.times)


class _Work:
    """A CCD during detrending: each method applies one correction, times it, and writes its key to the header."""

    def __init__(
        self, ccd: Ccd, raw: RawCcd, exposure: Exposure, calibrations: DetrendCalibrations, settings: DetrendSettings
    ) -> None:
        self.ccd, self.raw, self.exposure = ccd, raw, exposure
        self.calibrations, self.settings = calibrations, settings
        self.times = StepTimes()
        self.header = initial_header(ccd, raw.header, exposure)
        shape = (raw.pixels.shape[0], raw.pixels.shape[1])
        self.header |= default_cards(self.header, calibrations.defaults)
        self.header[LINEARITY_KNOWN] = calibrations.linearity is not None
        self.amplifiers = amplifier_figures(ccd, raw.header, shape, exposure.night, settings)
        if "linearity" in calibrations.defaults:
            share = settings.unknown_linearity_fraction
            a, b = (replace(each, saturation_adu=share * each.saturation_adu) for each in self.amplifiers)
            self.amplifiers = (a, b)
        self.quality = {"header_fallbacks": float(sum(len(a.fallbacks) for a in self.amplifiers))}
        self.overscans: dict[str, Overscan] = {}
        self.science = np.empty((ccd.ny, NX), dtype=np.float32)
        self.mask = np.zeros((ccd.ny, NX), dtype=np.int16)

    def record(self, key: str, kind: str) -> None:
        """Write the key of a correction, with the name of its calibration file if there is one."""
        record_correction(self.header, key, self.calibrations.names.get(kind, True))

    def remove_overscan(self) -> None:
        with self.times.step("overscan"):
            for a in self.amplifiers:
                overscan = measure_overscan(self.raw.pixels, a.overscan, self.settings)
                place = (a.data.y0, a.data.x0, overscan.levels_adu, self.science, self.mask)
                subtract_overscan(self.raw.pixels, *place, a.columns.start, a.width)
                self.overscans[a.name] = overscan
            self.amplifiers = self._with_measured_noise()
        record_correction(self.header, "DESOSCN", self.settings.overscan_method)

    def _with_measured_noise(self) -> tuple[AmplifierFigures, AmplifierFigures]:
        """Replace nominal by measured read noise, and mark amplifiers with implausible overscan noise as unusable."""
        measured = []
        low, high = self.settings.read_noise_range_electrons
        for a in self.amplifiers:
            overscan, name = self.overscans[a.name], a.name.lower()
            noise = overscan.noise_adu * a.gain
            self.quality[f"overscan_{name}_adu"] = overscan.level_adu
            self.quality[f"read_noise_{name}_electrons"] = noise
            self.quality[f"read_noise_ratio_{name}"] = noise / a.read_noise_electrons
            usable = a.usable and not noisy_rows(overscan, a.gain, (low, high)).all()
            believed = noise if low <= noise <= high else a.read_noise_electrons
            measured.append(replace(a, usable=usable, read_noise_electrons=believed))
        return measured[0], measured[1]

    def remove_crosstalk(self, sources: Mapping[int, RawCcd]) -> None:
        matrix = self.calibrations.crosstalk
        if matrix is None:
            return
        with self.times.step("crosstalk"):
            readings = CrosstalkSources({**sources, self.ccd.ccdnum: self.raw}, self.exposure.night, self.settings)
            readings.add(self.ccd.ccdnum, self.amplifiers, self.overscans)
            self.quality |= remove_crosstalk(self.science, self.mask, self.ccd.ccdnum, readings, matrix)
        default = DEFAULTS["crosstalk"].name if "crosstalk" in self.calibrations.defaults else True
        record_correction(self.header, "DESDCXTK", self.calibrations.names.get("crosstalk", default))

    def correct_response(self) -> None:
        """Bias, linearity, saturation and bad-pixel masks, gain."""
        given = self.calibrations
        bias = _NO_IMAGE if given.bias is None else given.bias
        bad_pixels = _NO_BITS if given.bad_pixels is None else given.bad_pixels
        with self.times.step("response"):
            for a in self.amplifiers:
                table = (0, _NO_TABLE) if given.linearity is None else given.linearity.corrections(a.name)
                saturation = self.settings.saturation_fraction * a.saturation_adu
                maps = (bias, bad_pixels, BPM_TRANSLATION)
                correct_response(self.science, self.mask, *maps, a.columns.start, a.width, *table, saturation, a.gain)
        for key, kind in (("DESBIAS", "bias"), ("DESLINC", "linearity"), ("DESBPM", "bad_pixels")):
            if getattr(given, kind) is not None:
                self.record(key, kind)
        record_correction(self.header, "DESSAT")
        record_correction(self.header, "DESGAINC")
        self.header.update(amplifier_keywords(self.amplifiers))

    def judge_rows(self, where: dict[str, Any]) -> None:
        """Mask amplifiers and rows that did not work; raise if none did."""
        with self.times.step("health"):
            usable = tuple(a for a in self.amplifiers if a.usable)
            level, dead = dark_rows(self.science, usable, self.exposure, self.settings)
            for a in usable:
                dead[a.name] |= noisy_rows(self.overscans[a.name], a.gain, self.settings.read_noise_range_electrons)
            floor = light_floor(self.exposure, self.settings.light_fraction)
            require_working(self.amplifiers, dead, level, floor, where)
            mask_dead_rows(self.mask, self.amplifiers, dead)

    def repair_columns(self) -> None:
        if self.calibrations.bad_pixels is None:
            return
        with self.times.step("columns"):
            repaired = repair_columns(self.science, self.mask, self.calibrations.bad_pixels, self.settings.columns)
        self.quality["fixed_columns"] = float(repaired)
        self.record("DESFIXC", "bad_pixels")

    def correct_brighter_fatter(self) -> None:
        kernel = self.calibrations.brighter_fatter
        if kernel is None or not self.settings.brighter_fatter:
            return
        with self.times.step("brighter_fatter"):
            level = sample_sky(self.science, self.mask)
            self.quality["brighter_fatter_electrons"] = correct_brighter_fatter(self.science, self.mask, kernel, level)
        self.record("DESBFC", "brighter_fatter")

    def divide_flat(self) -> None:
        if self.calibrations.flat is None:
            return
        with self.times.step("flat"):
            self.quality["flat_without_light"] = float(divide_flat(self.science, self.mask, self.calibrations.flat))
        self.record("DESFLAT", "flat")

    def mask_bleeds(self) -> None:
        with self.times.step("bleeds"):
            noise = max(a.read_noise_electrons for a in self.amplifiers)
            self.quality |= mask_bleeds(self.science, self.mask, self.ccd, noise, self.settings.bleeds)

    def compress_sky(self) -> MiniSky:
        """Measure the mini-sky, and count the masked pixels."""
        with self.times.step("mini_sky"):
            mini_sky = make_mini_sky(self.science, self.mask, self.ccd.ccdnum)
        with self.times.step("quality"):
            self.quality |= _counts(self.mask, mini_sky)
        return mini_sky


def _counts(mask: NDArray[np.int16], mini_sky: MiniSky) -> dict[str, float]:
    """Count masked pixels and measure the sky level."""
    saturated, bad_amplifier, masked, not_sky = mask_shares(mask, MaskBit.SATURATE, MaskBit.BADAMP, NO_WEIGHT, NOT_SKY)
    known = mini_sky.values[np.isfinite(mini_sky.values)]
    return {
        "n_saturated": saturated * mask.size,
        "saturated_fraction": saturated,
        "bad_amplifier_fraction": bad_amplifier,
        "masked_fraction": masked,
        "not_sky_fraction": not_sky,
        "sky_electrons": float(np.median(known)) if known.size else float("nan"),
        "sky_superpixels": float(known.size),
    }


def _require_pixels(quality: Mapping[str, float], settings: DetrendSettings, where: dict[str, Any]) -> None:
    """Raise if too few pixels of the CCD are usable."""
    for reason, key, limit, problem in (
        ("saturated", "saturated_fraction", settings.saturated_limit, "the CCD is saturated"),
        ("masked", "not_sky_fraction", settings.masked_limit, "almost all pixels of the CCD are masked"),
    ):
        if quality[key] > limit:
            raise CcdError(
                problem,
                reason=reason,
                value=f"{quality[key]:.0%} of its pixels",
                limit=f"{limit:.0%}",
                remedy="shorten the exposure or point away from the bright source",
                **where,
            )
