"""Simulate a night: raw exposures, template epochs, calibrations, reference catalogues, sky map, truth."""

import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from imaging.detector.ccds import CCDS
from imaging.errors import InputError
from imaging.identity import raw_name
from imaging.io.atomic import write_text
from imaging.io.exposure_list import ListedExposure, write_exposure_list
from imaging.io.raw_write import encode_primary, write_raw
from imaging.io.reference import write_reference_catalogue
from imaging.io.truth import exposures_with_truth, read_truth_text, remove_folder, settings_truth_path
from imaging.simulation.calibrations import (
    FOLDER,
    write_camera_calibrations,
    write_ccd_calibrations,
    write_library_manifest,
)
from imaging.simulation.ccd import WORK_FOLDER, CcdJob, finish_ccd, header_date, simulate_analog
from imaging.simulation.exposures import SimulatedExposure
from imaging.simulation.plan import first_search_mjd, plan_exposures
from imaging.simulation.raw_headers import header_angle_deg, primary_cards
from imaging.simulation.reference_catalogues import gaia_like_table, galaxy_table
from imaging.simulation.scene import Painter
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.sky import SimulatedSky, make_sky
from imaging.simulation.skymap import make_skymap, write_skymap_file
from imaging.simulation.truth import read_exposure_truth, write_exposure_truth, write_sky

Progress = Callable[[str, int, int], None]
"""Callback with description, amount done and total."""

Item = TypeVar("Item")

SKYMAP_NAME = "skymap.multiorder.fits"
EXPOSURES_NAME = "exposures.csv"


@dataclass(frozen=True)
class SimulatedNight:
    """Paths of a simulated night.

    Attributes
    ----------
    root
        Folder of the simulation.
    settings
        Its settings.
    exposures
        All exposures, in order of time.
    raw, calibrations, stars, galaxies, skymap, exposure_list
        Raw files by night, calibration library, reference catalogues, sky map, list of exposures.
    """

    root: Path
    settings: SimulationSettings
    exposures: tuple[SimulatedExposure, ...]
    raw: Path
    calibrations: Path
    stars: Path
    galaxies: Path
    skymap: Path
    exposure_list: Path

    def raw_path(self, exposure: SimulatedExposure) -> Path:
        """Return the path of an exposure's raw file."""
        return self.raw / str(exposure.night) / raw_name(exposure.expnum)


def simulate_night(
    directory: Path,
    settings: SimulationSettings,
    *,
    processes: int | None = None,
    progress: Progress | None = None,
    painter: type[Painter] | None = None,
) -> SimulatedNight:
    """Simulate a night and write it into a folder.

    The files are identical for any number of processes.

    Parameters
    ----------
    directory
        Output folder.
    settings
        Settings of the night.
    processes
        Number of processes; None takes one per core, 1 uses this process.
    progress
        Progress callback.
    painter
        Another way to draw the sources, such as that of ``bench/hard_sky.py``.

    Returns
    -------
    night
        Paths of the files.

    Raises
    ------
    InputError
        If the folder contains another simulation.
    StorageError
        If a file cannot be written.
    """
    root = Path(directory)
    _refuse_another_simulation(root, settings)
    exposures = tuple(_as_header_says(exposure) for exposure in plan_exposures(settings))
    night = simulated_night(root, settings, exposures)
    report = progress or _silent
    sky = make_sky(settings, exposures)
    _write_sky_and_catalogues(night, sky)
    workers = min(processes or os.cpu_count() or 1, len(settings.ccds))
    with _executor(workers) as executor:
        _for_each(executor, partial(write_ccd_calibrations, root, settings), settings.ccds, "calibrations", report)
        write_camera_calibrations(root, settings)
        write_library_manifest(root, settings)
        for number, exposure in enumerate(exposures):
            _write_exposure(night, exposure, executor, painter)
            report("exposures", number + 1, len(exposures))
    remove_folder(root / WORK_FOLDER)
    return night


def open_night(directory: Path) -> SimulatedNight:
    """Return an existing simulated night.

    Raises
    ------
    InputError
        If the folder contains no simulation.
    """
    root = Path(directory)
    settings = SimulationSettings.model_validate_json(read_truth_text(settings_truth_path(root)))
    return simulated_night(root, settings, tuple(read_exposure_truth(root, n) for n in exposures_with_truth(root)))


def _refuse_another_simulation(root: Path, settings: SimulationSettings) -> None:
    path = settings_truth_path(root)
    if path.exists() and open_night(root).settings != settings:
        raise InputError(
            "the folder contains a simulation with other settings",
            value=root,
            remedy="choose an empty folder, or remove this one",
        )


def simulated_night(
    root: Path, settings: SimulationSettings, exposures: tuple[SimulatedExposure, ...]
) -> SimulatedNight:
    """Return the paths of a night in a folder."""
    return SimulatedNight(
        root,
        settings,
        exposures,
        raw=root / "raw",
        calibrations=root / FOLDER,
        stars=root / "reference" / "gaia",
        galaxies=root / "reference" / "galaxies",
        skymap=root / SKYMAP_NAME,
        exposure_list=root / EXPOSURES_NAME,
    )


def _as_header_says(exposure: SimulatedExposure) -> SimulatedExposure:
    """Round the nominal pointing to the precision of the header."""
    changes = {
        "ra_deg": header_angle_deg(exposure.ra_deg, hours=True),
        "dec_deg": header_angle_deg(exposure.dec_deg),
        "mjd": round(exposure.mjd, 8),
    }
    return exposure.model_copy(update=changes)


def _write_sky_and_catalogues(night: SimulatedNight, sky: SimulatedSky) -> None:
    settings, root = night.settings, night.root
    write_sky(root, sky)
    write_text(settings_truth_path(root), settings.model_dump_json(indent=1) + "\n")
    for exposure in night.exposures:
        write_exposure_truth(root, exposure)
    write_reference_catalogue(night.stars, gaia_like_table(settings.seed, sky.stars), name="simulated Gaia")
    kilonova = sky.transients.source_id == sky.transients.source_id.min()
    host_id = int(sky.transients.host_id[kilonova][0])
    galaxies = galaxy_table(settings.seed, sky.galaxies, host_id, settings.distance_mpc)
    write_reference_catalogue(night.galaxies, galaxies, name="simulated galaxies")
    ra, dec = float(sky.transients.ra[kilonova][0]), float(sky.transients.dec[kilonova][0])
    skymap = make_skymap(settings.seed, ra, dec, settings.distance_mpc)
    write_skymap_file(night.skymap, skymap, settings.event, first_search_mjd(settings) - settings.merger_age_h / 24.0)
    listed = [ListedExposure(e.listed(), e.t_eff) for e in night.exposures if e.is_on_sky]
    write_exposure_list(night.exposure_list, listed)


def _write_exposure(
    night: SimulatedNight, exposure: SimulatedExposure, executor: Executor | None, painter: type[Painter] | None
) -> None:
    """Simulate the CCDs, then add crosstalk, then write the file."""
    chosen = set(night.settings.ccds)
    ccds = [n for n, ccd in CCDS.items() if n in chosen or (ccd.is_focus and night.settings.writes_focus_ccds)]
    jobs = [CcdJob(night.root, night.settings, exposure, ccdnum, painter) for ccdnum in ccds]
    _for_each(executor, simulate_analog, jobs, "", _silent)
    _for_each(executor, finish_ccd, jobs, "", _silent)
    primary = encode_primary(primary_cards(exposure, len(jobs)), header_date(exposure))
    write_raw(night.raw_path(exposure), primary, [job.part_path for job in jobs])
    remove_folder(jobs[0].part_path.parent)


def _executor(workers: int) -> AbstractContextManager[Executor | None]:
    if workers <= 1:
        return nullcontext(None)
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _for_each(
    executor: Executor | None, function: Callable[[Item], None], items: Iterable[Item], what: str, report: Progress
) -> None:
    items = list(items)
    results = map(function, items) if executor is None else executor.map(function, items)
    for number, _ in enumerate(results, start=1):
        report(what, number, len(items))


def _silent(what: str, done: int, total: int) -> None:
    """Report nothing."""
