"""Stable periods of an era from its raw biases and dome flats, and the frames of each for master calibrations."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from blocks.raw_index import raw_files
from blocks.site import Site
from imaging.detector.ccds import science_ccd
from imaging.errors import InputError
from imaging.masters.adu_frames import adu_frame
from imaging.masters.periods import Jump, Period, find_jumps, spread, stable_periods
from imaging.masters.settings import EraSettings
from tasks.engine.jobs import StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.raw_files import BIAS_KINDS, FLAT_KINDS, RawFile, indexed_raw, usual_exposures
from tasks.raw_frames import frame_inputs, read_frames
from tasks.steps import DISK, SIGN_FRAMES

FloatArray = NDArray[np.float64]

BIAS = "bias"


@dataclass(frozen=True)
class Era:
    """The calibration frames of an era.

    Attributes
    ----------
    first, last
        First and last night, YYYYMMDD.
    frames
        Kind (``bias``, ``flat i``) to night to raw files.
    """

    first: int
    last: int
    frames: Mapping[str, Mapping[int, list[RawFile]]]

    @property
    def nights(self) -> list[int]:
        """The nights with frames, in order."""
        return sorted({night for by_night in self.frames.values() for night in by_night})

    def of_period(self, kind: str, period: Period, left_out: Iterable[int], most: int) -> list[RawFile]:
        """Return at most so many frames of a kind, spread over the nights of a period."""
        inside = [n for n in sorted(self.frames.get(kind, {})) if period.first_night <= n <= period.last_night]
        raws = [raw for night in inside if night not in set(left_out) for raw in self.frames[kind][night]]
        return [raws[k] for k in spread(range(len(raws)), most)]


@dataclass(frozen=True)
class Periods:
    """The stable periods of an era.

    Attributes
    ----------
    periods
        In order of time.
    left_out
        Kind to night to the reason why its frames are in no master.
    """

    periods: list[Period]
    left_out: dict[str, dict[int, str]] = field(default_factory=dict)


def find_era(site: Site, first: int, last: int) -> Era:
    """Find the calibration frames of an era in the index of raw files.

    Of a band with several exposure times in a night, those of the usual one are taken; the others are a ramp.

    Raises
    ------
    InputError
        If there are none, or a raw file is damaged.
    """
    known = raw_files(site)
    frames: dict[str, dict[int, list[RawFile]]] = {}
    chosen = [e for e in known.exposures().values() if first <= e.night <= last]
    biases = [e for e in chosen if e.obstype.lower() in BIAS_KINDS]
    flats = usual_exposures(e for e in chosen if e.obstype.lower() in FLAT_KINDS)
    for exposure in sorted([*biases, *flats], key=lambda e: e.expnum):
        kind = BIAS if exposure.obstype.lower() in BIAS_KINDS else f"flat {exposure.band}"
        found = frames.setdefault(kind, {}).setdefault(exposure.night, [])
        found.append(indexed_raw(site, known, exposure.expnum))
    if BIAS not in frames or len(frames) < 2:
        raise InputError(
            "the era has no biases, or no dome flats",
            value=f"{first} to {last}: {', '.join(frames) or 'no calibration frames'}",
            remedy="make the raw files known with add-raw, or give other nights",
        )
    return Era(first, last, frames)


def sign_job(site: Site, era: Era, night: int, ccd: int, settings: EraSettings) -> StepJob:
    """Plan the signatures of one CCD and night."""
    kinds = {kind: by_night[night] for kind, by_night in era.frames.items() if night in by_night}
    raws = {kind: spread_frames(found, settings.frames_per_night) for kind, found in kinds.items()}
    inputs, extensions = frame_inputs(site, [raw for found in raws.values() for raw in found], [ccd])
    of_kind = {str(raw.exposure.expnum): kind for kind, found in raws.items() for raw in found}
    parameters = {"extensions": extensions, "kinds": of_kind}
    return StepJob(night=night, ccd=ccd, site=site, inputs=inputs, settings=settings, parameters=parameters)


def spread_frames(raws: list[RawFile], most: int) -> list[RawFile]:
    """Return at most so many raw files, spread evenly over them."""
    return [raws[k] for k in spread(range(len(raws)), most)]


@step(SIGN_FRAMES, limit=DISK)
def sign_frames(job: StepJob) -> StepResult:
    """Measure medians of blocks, ADU above the overscan, of the biases and flats of one CCD and night."""
    settings, ccd = job.settings_as(EraSettings), science_ccd(job.ccd or 0)
    blocks: dict[str, list[FloatArray]] = {}
    for expnum, exposure, raws in read_frames(job):
        frame = adu_frame(ccd, raws, exposure.night, settings.masters.detrend)
        kind = job.parameters["kinds"][str(expnum)]
        blocks.setdefault(kind, []).append(_block_medians(frame.science, settings.block_pixels))
    quality: dict[str, float] = {"night": float(job.night or 0), "ccd": float(ccd.ccdnum)}
    for kind, found in blocks.items():
        for k, value in enumerate(np.median(found, axis=0)):
            quality[f"{kind}/{k}"] = round(float(value), 3)
    return job.result(quality=quality)


def divide_era(era: Era, results: Iterable[StepResult], settings: EraSettings) -> Periods:
    """Find the stable periods of an era.

    Parameters
    ----------
    era
        The era.
    results
        Results of :func:`sign_frames`.
    settings
        Sizes of jumps.
    """
    jumps: list[Jump] = []
    left_out: dict[str, dict[int, str]] = {}
    signed = list(results)
    for kind in era.frames:
        nights = _signatures(signed, kind)
        if kind != BIAS:
            nights = _relative_to_camera(nights)
        limit = settings.bias_jump_adu if kind == BIAS else settings.flat_jump
        found, left_out[kind] = find_jumps(kind, nights, limit, settings)
        jumps += found
    return Periods(stable_periods(era.first, era.last, jumps), left_out)


def _signatures(results: Iterable[StepResult], kind: str) -> dict[int, dict[int, FloatArray]]:
    """Return night to CCD number to the medians of its blocks in frames of a kind."""
    nights: dict[int, dict[int, FloatArray]] = {}
    for result in results:
        names = [name for name in result.quality if name.startswith(f"{kind}/")]
        if names:
            numbers = {name: float(str(result.quality[name])) for name in ("night", "ccd", *names)}
            values = np.array([numbers[f"{kind}/{k}"] for k in range(len(names))])
            nights.setdefault(int(numbers["night"]), {})[int(numbers["ccd"])] = values
    return nights


def _relative_to_camera(nights: Mapping[int, Mapping[int, FloatArray]]) -> dict[int, dict[int, FloatArray]]:
    """Divide flats by the mean level of the CCDs that all nights have, or each by its own if there are none."""
    common = set.intersection(*(set(found) for found in nights.values())) if nights else set()
    divided = {}
    for night, found in nights.items():
        levels = {ccd: max(float(np.median(blocks)), 1.0) for ccd, blocks in found.items()}
        camera = float(np.mean([levels[ccd] for ccd in common])) if common else 0.0
        divided[night] = {ccd: blocks / (camera or levels[ccd]) for ccd, blocks in found.items()}
    return divided


def _block_medians(science: NDArray[np.float32], size: int) -> FloatArray:
    """Return the medians of every fourth pixel of square blocks, flattened."""
    rows, columns = science.shape[0] // size, science.shape[1] // size
    sample = science[: rows * size : 4, : columns * size : 4]
    blocks = sample.reshape(rows, size // 4, columns, size // 4).swapaxes(1, 2).reshape(rows * columns, -1)
    return np.asarray(np.median(blocks, axis=1), dtype=np.float64)
