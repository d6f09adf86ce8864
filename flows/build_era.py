"""Build master calibrations over an era from the raw biases and dome flats of all its nights.

map sign_frames over nights and CCDs -> stable periods -> for each the steps of build-calibrations -> manifest
"""

from collections.abc import Mapping, Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.folders import load_site
from blocks.site import Site
from flows.build_calibrations import build_masters
from imaging.detector.status import working_ccds
from imaging.errors import InputError
from imaging.masters.periods import Period
from imaging.masters.settings import EraSettings, MasterSettings
from tasks.calibration_era import BIAS, Era, divide_era, find_era, sign_frames, sign_job
from tasks.engine.final_state import keep_result
from tasks.engine.jobs import Failure
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.jobs import StepJob
from tasks.raw_files import RawFile
from tasks.requests import Ccds, Name, Night
from tasks.steps import MAKE_BIAS


@keep_result
@flow(name="build-era", flow_run_name="build-era-{first}-{last}", task_runner=ComputeTaskRunner())
def build_era(
    first: Night,
    last: Night,
    site: str = "default",
    ccds: Ccds | None = None,
    epoch: Name = "n",
    overwrite: bool = False,
    settings: EraSettings = EraSettings(),
) -> State[dict[str, Any]]:
    """Build bias, dome flats and bad-pixel maps of an era, a set for each stable period, with the nights it holds for.

    Args:
        first: First night of the era, YYYYMMDD.
        last: Last night of the era, YYYYMMDD.
        site: Name or folder of the site.
        ccds: CCDs to build for; None for all that are in the files.
        epoch: Begin of the names of the calibration epochs; the first night of each period follows.
        overwrite: Recompute cached steps.
        settings: Settings of the stage.

    Raises:
        InputError: If the era is no range of nights, or has no biases or no dome flats.
    """
    if first > last:
        raise InputError("the era ends before it begins", value=f"{first} to {last}")
    place = load_site(site)
    era = find_era(place, first, last)
    stage = Stage("build-era", StepJob(topic=f"era-{first}-{last}", site=place), overwrite=overwrite)
    wanted = {night: _ccds_of(era, night, ccds) for night in era.nights}
    jobs = [sign_job(place, era, night, ccd, settings) for night, present in wanted.items() for ccd in present]
    periods = divide_era(era, stage.map_all(sign_frames, jobs), settings)
    done: set[int] = set()
    told = []
    for period in periods.periods:
        nights = [night for night in era.nights if period.first_night <= night <= period.last_night]
        ccds_of_period = sorted({ccd for night in nights for ccd in wanted[night]})
        frames = {
            kind: era.of_period(kind, period, left_out, settings.masters.maximum_exposures)
            for kind, left_out in periods.left_out.items()
        }
        name = f"{epoch}{nights[0]}"
        built, lacking = _build(stage, place, nights, name, period, ccds_of_period, frames, settings.masters)
        done |= set(built)
        told.append(_told(name, period, len(nights), sorted(set(frames) - set(lacking)) if built else [], lacking))
    stage.notes += [f"night {n}: {why}" for found in periods.left_out.values() for n, why in found.items()]
    return stage.final_state(sorted(done - set(stage.failures)), periods=told)


def _build(
    stage: Stage,
    place: Site,
    nights: Sequence[int],
    epoch: str,
    period: Period,
    ccds: Sequence[int],
    frames: Mapping[str, Sequence[RawFile]],
    settings: MasterSettings,
) -> tuple[tuple[int, ...], list[str]]:
    """Build the masters of a period; return their CCDs, and the kinds with too few frames."""
    lacking = sorted(kind for kind, raws in frames.items() if len(raws) < settings.minimum_exposures)
    by_band = {kind.removeprefix("flat "): raws for kind, raws in frames.items() if kind not in (BIAS, *lacking)}
    if BIAS in lacking or not by_band:
        message = f"too few frames from {period.first_night} to {period.last_night} of the kinds {', '.join(lacking)}"
        for ccd in ccds:
            stage.miss(ccd, MAKE_BIAS.name, Failure(reason="too_few_exposures", message=message, kind="input"))
        return (), lacking
    middle, validity = nights[len(nights) // 2], (period.first_night, period.last_night)
    biases = frames[BIAS]
    built, _ = build_masters(stage, place, middle, epoch, ccds, biases, by_band, settings, validity=validity)
    return built, lacking


def _ccds_of(era: Era, night: int, asked: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the CCDs of a night: those that worked and that all its frames have."""
    raws = [raw for by_night in era.frames.values() for raw in by_night.get(night, [])]
    working = [ccd for ccd in working_ccds(night) if all(ccd in raw.index.extensions for raw in raws)]
    return tuple(ccd for ccd in working if asked is None or ccd in asked)


def _told(epoch: str, period: Period, n_nights: int, kinds: Sequence[str], lacking: Sequence[str]) -> dict[str, Any]:
    """Describe the masters of a period for the summary of the run."""
    return {
        "epoch": epoch,
        "first_night": period.first_night,
        "last_night": period.last_night,
        "nights_with_frames": n_nights,
        "flats": [kind.removeprefix("flat ") for kind in kinds if kind != BIAS],
        "lacking": list(lacking),
        "begins_with": list(period.why),
    }
