"""Build master calibrations from a night's raw bias and dome-flat exposures.

map make_bias -> map measure_linearity, of a ramp -> map make_flat per band -> scales over the camera
-> map finish_masters -> manifest
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.folders import load_site
from blocks.site import Site
from imaging.detector.status import working_ccds
from imaging.errors import InputError
from imaging.masters.settings import MasterSettings, RampSettings
from tasks.build_linearity import linearity_job, measure_linearity, ramp_frames
from tasks.build_masters import bias_job, finish_jobs, finish_masters, flat_job, make_bias, make_flat, record_masters
from tasks.engine.final_state import keep_result
from tasks.engine.stage import Stage
from tasks.engine.task_runner import ComputeTaskRunner
from tasks.jobs import StepJob
from tasks.raw_files import BIAS_KINDS, FLAT_KINDS, RawFile, raw_of_kind, usual_exposures
from tasks.requests import Ccds, Name, Night
from tasks.steps import MAKE_BIAS, MAKE_FLAT, MEASURE_LINEARITY

TIME_TOLERANCE_S = 0.002
"""Difference of exposure times that are the same."""


@keep_result
@flow(name="build-calibrations", flow_run_name="build-calibrations-{night}", task_runner=ComputeTaskRunner())
def build_calibrations(
    night: Night,
    site: str = "default",
    ccds: Ccds | None = None,
    epoch: Name | None = None,
    overwrite: bool = False,
    ramp: RampSettings = RampSettings(),
    settings: MasterSettings = MasterSettings(),
) -> State[dict[str, Any]]:
    """Build bias, dome flats, bad-pixel maps and, from a ramp, linearity of a night for the calibration library.

    Args:
        night: Night of the calibration exposures, YYYYMMDD; their raw files lie in the folder of that night.
        site: Name or folder of the site.
        ccds: CCDs to build for; None for all that were functional on that night and are in the files.
        epoch: Name of the calibration epoch; None for ``n`` and the night.
        overwrite: Recompute cached steps.
        ramp: Settings of the linearity. A ramp that does not give it is noted; the library's is used, where it has one.
        settings: Settings of the masters.

    Raises:
        InputError: If the night has too few bias exposures or no dome flats.
    """
    place, name = load_site(site), epoch or f"n{night}"
    stage = Stage("build-calibrations", StepJob(night=night, site=place), overwrite=overwrite)
    biases, flats = raw_of_kind(place, night, BIAS_KINDS), raw_of_kind(place, night, FLAT_KINDS)
    frames = ramp_frames(flats, ramp)
    by_band = _by_band(flats, night, frames, settings)
    without = sorted({raw.exposure.band for raw in frames} - set(by_band))
    stage.notes += [f"{band}: no master flat, the dome flats are a ramp" for band in without]
    wanted = ccds or tuple(c for c in working_ccds(night) if all(c in raw.index.extensions for raw in biases))

    finished, curves = build_masters(
        stage, place, night, name, wanted, biases, by_band, settings, ramp=frames, ramp_settings=ramp
    )
    return stage.final_state(finished, epoch=name, bands=sorted(by_band), linearity=curves)


def build_masters(
    stage: Stage,
    place: Site,
    night: int,
    epoch: str,
    ccds: Collection[int],
    biases: Sequence[RawFile],
    by_band: Mapping[str, Sequence[RawFile]],
    settings: MasterSettings,
    *,
    validity: tuple[int, int] | None = None,
    ramp: Sequence[RawFile] = (),
    ramp_settings: RampSettings = RampSettings(),
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Build the masters of some frames and enter them into the library.

    Parameters
    ----------
    stage
        The stage that runs the steps.
    place, night, epoch, ccds
        Site; night of the data, YYYYMMDD; name of the calibration epoch; CCDs.
    biases, by_band, settings
        Bias frames, dome flats by band, and settings.
    validity
        First and last night for which they hold, YYYYMMDD; None for all nights, within the limits of age.
    ramp, ramp_settings
        Dome flats for the linearity, which the flats then use, and its settings.

    Returns
    -------
    finished, curves
        CCDs that have all masters, and those of them whose linearity was built.
    """
    jobs = stage.plan(MAKE_BIAS, ccds, lambda ccd: bias_job(place, night, ccd, epoch, biases, settings))
    made = stage.map(make_bias, jobs)
    built = {ccd: {"bias": result.products["bias"]} for ccd, result in made.items()}
    if ramp:
        jobs = stage.plan(
            MEASURE_LINEARITY,
            made,
            lambda ccd: linearity_job(place, night, ccd, epoch, ramp, ramp_settings, built[ccd]["bias"]),
        )
        for ccd, result in stage.map(measure_linearity, jobs, optional=True).items():
            built[ccd] |= result.products
    flats = {}
    for band, raws in by_band.items():

        def of_flat(ccd: int, raws: Sequence[RawFile] = raws) -> StepJob:
            return flat_job(place, night, ccd, epoch, built[ccd], raws, settings)

        flats[band] = stage.map(make_flat, stage.plan(MAKE_FLAT, made, of_flat))
    if not made or not flats or not all(flats.values()):
        return (), ()
    finished = sorted(stage.map(finish_masters, finish_jobs(place, night, epoch, made, flats, settings)))
    curves = tuple(ccd for ccd in finished if "linearity" in built[ccd])
    if finished:
        record_masters(place, night, epoch, finished, flats, curves=curves, validity=validity)
    return tuple(finished), curves


def _by_band(
    flats: Sequence[RawFile], night: int, ramp: Sequence[RawFile], settings: MasterSettings
) -> dict[str, list[RawFile]]:
    """Group dome flats of the usual exposure time by band; a band with too few of one time beside a ramp has none."""
    in_ramp = {raw.exposure.expnum for raw in ramp}
    others = {raw.exposure.band for raw in flats if raw.exposure.expnum not in in_ramp}
    possible = [raw for raw in flats if raw.exposure.expnum not in in_ramp or raw.exposure.band not in others]
    usual = {exposure.expnum for exposure in usual_exposures(raw.exposure for raw in possible)}
    by_band: dict[str, list[RawFile]] = {}
    for raw in possible:
        if raw.exposure.expnum in usual:
            by_band.setdefault(raw.exposure.band, []).append(raw)
    for band in {raw.exposure.band for raw in ramp}:
        times = [raw.exposure.exptime_s for raw in by_band[band]]
        if len(times) < settings.minimum_exposures or max(times) - min(times) > TIME_TOLERANCE_S:
            del by_band[band]
    if not by_band:
        raise InputError(
            "the night has no dome flats", value=night, remedy="give a night with bias and dome-flat exposures"
        )
    return by_band
