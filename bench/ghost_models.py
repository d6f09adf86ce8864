"""Models of the ghosts of bright stars for simulated nights, built by the steps of ``gw-workflow build-ghosts``.

A site has them from fields with bright stars. Here they come from dithered exposures of another seed, processed like
any others; the true radii, displacements and levels of the simulated ghosts stay unknown to the processing.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.displacement_maps import DITHER_ARCSEC, process_exposures
from bench.plain_night import PlainNight
from blocks.site import Site
from imaging.identity import ExposureId
from imaging.io.locks import locked
from imaging.io.manifest import Kind
from imaging.masters.settings import GhostSettings
from imaging.simulation.settings import DEMO_CCDS, SimulationSettings
from imaging.simulation.skies import SKIES
from tasks.build_ghosts import fit_ghosts, ghosts_job
from tasks.calibration_files import master_path, record_files
from tasks.engine.jobs import StepResult

KIND: Kind = "ghosts"
EPOCH = "ghosts"
SEED, N_EXPOSURES, CCDS = 22, 4, DEMO_CCDS[:2]
"""Seed, number and CCDs of the exposures; a model holds for all CCDs."""

BRIGHT_STARS = (5.5, 6.5, 7.0, 7.5, 8.0, 8.5, 9.0)
"""G of the stars that are put into the field."""


def ghost_settings(band: str) -> SimulationSettings:
    """Return the settings of dithered exposures of a typical sky with bright stars."""
    return SimulationSettings(
        sky="typical",
        effects=SKIES["typical"]["effects"].with_values(bright_stars=BRIGHT_STARS),
        seed=SEED,
        bands=(band,),
        ccds=CCDS,
        focus_ccds=False,
        n_template_epochs=N_EXPOSURES,
        n_search_exposures=0,
        template_dither_arcsec=DITHER_ARCSEC,
    )


def build_model(night: PlainNight, exposures: Sequence[ExposureId]) -> StepResult:
    """Fit the ghosts to processed exposures and enter the model into their library."""
    job, _ = ghosts_job(exposures, night.site, EPOCH, GhostSettings())
    made = night.run(fit_ghosts, job)
    enter_model(night.site, exposures[-1].night, exposures[-1].band)
    return made


def enter_model(site: Site, night: int, band: str) -> None:
    """Enter the model that is in the library's folder into its manifest."""
    record_files(site, night, EPOCH, {(KIND, band): [master_path(site, EPOCH, KIND, 0, band)]})


def give_ghosts(site: Site, folder: Path, band: str) -> None:
    """Give a site's library the model of a band, which is built unless a folder of exposures holds it.

    Parameters
    ----------
    site
        Site whose library gets the model.
    folder
        Folder in which the exposures of all bands are kept.
    band
        Band.
    """
    root = folder / f"ghosts_{band}"
    source, settings = Site.at(root), ghost_settings(band)
    path = master_path(source, EPOCH, KIND, 0, band)
    with locked(root.with_suffix(".lock")):  # nights in processes of their own
        if not path.is_file():
            night = process_exposures(root, settings)
            build_model(night, [night.identity(item) for item in night.listed(settings.night, search=False)])
    own = master_path(site, EPOCH, KIND, 0, band)
    own.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, own)
    enter_model(site, settings.night, band)
