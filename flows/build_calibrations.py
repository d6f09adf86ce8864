"""Build master calibrations from a night's raw bias and dome-flat exposures.

map make_bias -> map make_flat per band -> scales over the camera -> map finish_masters -> manifest
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.folders import load_site
from blocks.site import Site
from imaging.detector.status import working_ccds
from imaging.errors import InputError
from imaging.masters.settings import MasterSettings
from tasks.build_masters import bias_job, finish_jobs, finish_masters, flat_job, make_bias, make_flat, record_masters
from tasks.engine.final_state import keep_result
from tasks.engine.jobs import StepResult
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.jobs import StepJob
from tasks.raw_files import BIAS_KINDS, FLAT_KINDS, RawFile, raw_of_kind, usual_exposures
from tasks.requests import Ccds, Name, Night
from tasks.steps import MAKE_BIAS, MAKE_FLAT


@keep_result
@flow(name="build-calibrations", flow_run_name="build-calibrations-{night}", task_runner=ComputeTaskRunner())
def build_calibrations(
    night: Night,
    site: str = "default",
    ccds: Ccds | None = None,
    epoch: Name | None = None,
    overwrite: bool = False,
    settings: MasterSettings = MasterSettings(),
) -> State[dict[str, Any]]:
    """Build bias, dome flats and bad-pixel maps of a night and add them to the calibration library.

    Args:
        night: Night of the calibration exposures, YYYYMMDD; their raw files lie in the folder of that night.
        site: Name or folder of the site.
        ccds: CCDs to build for; None for all that were functional on that night and are in the files.
        epoch: Name of the calibration epoch; None for ``n`` and the night.
        overwrite: Recompute cached steps.
        settings: Settings of the stage.

    Raises:
        InputError: If the night has too few bias exposures or no dome flats.
    """
    place, name = load_site(site), epoch or f"n{night}"
    stage = Stage("build-calibrations", StepJob(night=night, site=place), overwrite=overwrite)
    biases, by_band = raw_of_kind(place, night, BIAS_KINDS), _by_band(raw_of_kind(place, night, FLAT_KINDS), night)
    wanted = ccds or tuple(c for c in working_ccds(night) if all(c in raw.index.extensions for raw in biases))

    finished = build_masters(stage, place, night, name, wanted, biases, by_band, settings)
    return stage.final_state(finished, epoch=name, bands=sorted(by_band))


def build_masters(
    stage: Stage,
    place: Site,
    night: int,
    epoch: str,
    ccds: Collection[int],
    biases: Sequence[RawFile],
    by_band: Mapping[str, Sequence[RawFile]],
    settings: MasterSettings,
    validity: tuple[int, int] | None = None,
) -> tuple[int, ...]:
    """Build the masters of some frames and enter them into the library; return the CCDs that have all.

    Parameters
    ----------
    stage
        The stage that runs the steps.
    place, night, epoch
        Site; night of the data, YYYYMMDD; name of the calibration epoch.
    ccds
        CCDs.
    biases, by_band
        Bias frames, and dome flats by band.
    settings
        Settings.
    validity
        First and last night for which they hold, YYYYMMDD; None for all nights, within the limits of age.
    """
    jobs = stage.plan(MAKE_BIAS, ccds, lambda ccd: bias_job(place, night, ccd, epoch, biases, settings))
    made = stage.map(make_bias, jobs)
    flats = {}
    for band, raws in by_band.items():
        plan = partial(_flat_job, place, night, epoch, made, raws, settings)
        flats[band] = stage.map(make_flat, stage.plan(MAKE_FLAT, made, plan))
    if not made or not flats or not all(flats.values()):
        return ()
    finished = stage.map(finish_masters, finish_jobs(place, night, epoch, made, flats, settings))
    if finished:
        record_masters(place, night, epoch, sorted(finished), flats, validity=validity)
    return tuple(sorted(finished))


def _flat_job(
    site: Site,
    night: int,
    epoch: str,
    biases: Mapping[int, StepResult],
    raws: Sequence[RawFile],
    settings: MasterSettings,
    ccd: int,
) -> StepJob:
    return flat_job(site, night, ccd, epoch, biases[ccd], raws, settings)


def _by_band(raws: list[RawFile], night: int) -> dict[str, list[RawFile]]:
    """Group dome flats by band; those of other than the usual exposure time are a ramp for build-linearity."""
    usual = {exposure.expnum for exposure in usual_exposures(raw.exposure for raw in raws)}
    by_band: dict[str, list[RawFile]] = {}
    for raw in raws:
        if raw.exposure.expnum in usual:
            by_band.setdefault(raw.exposure.band, []).append(raw)
    if not by_band:
        raise InputError(
            "the night has no dome flats", value=night, remedy="give a night with bias and dome-flat exposures"
        )
    return by_band
