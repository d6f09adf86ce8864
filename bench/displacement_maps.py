"""Maps of tree rings and edges for simulated nights, built by the steps of ``gw-workflow build-pixel-displacement``.

A site has them from exposures of many nights. Here they come from dithered exposures of another seed, processed like
any others; the true displacements of the simulated camera stay unknown to the processing.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.plain_night import PlainNight
from blocks.site import Site
from imaging.errors import CcdError
from imaging.identity import ExposureId
from imaging.io.calibrations import CalibrationLibrary, write_manifest
from imaging.io.locks import locked
from imaging.io.manifest import Kind
from imaging.masters.settings import DisplacementSettings
from imaging.simulation.night import simulate_night
from imaging.simulation.settings import SimulationSettings
from tasks.build_pixel_displacement import displacement_job, fit_displacements
from tasks.calibration_files import master_path, record_files
from tasks.engine.jobs import StepResult
from tasks.jobs import StepJob
from tasks.products import observed_exposure

KIND: Kind = "pixel_displacement"
EPOCH = "rings"
DITHER_ARCSEC = 240.0
SEED, N_MAP = 21, 4
"""Seed and number of the exposures of the maps of other nights."""


def map_settings(band: str, ccds: tuple[int, ...], n_map: int, n_search: int = 0) -> SimulationSettings:
    """Return the settings of dithered exposures of a typical sky.

    Parameters
    ----------
    band, ccds
        Band and CCDs.
    n_map, n_search
        Number of exposures of earlier nights, which give the maps, and of a later one.
    """
    dithers = {"template_dither_arcsec": DITHER_ARCSEC, "search_dither_arcsec": DITHER_ARCSEC}
    numbers = {"n_template_epochs": n_map, "n_search_exposures": n_search}
    given = {"sky": "typical", "seed": SEED, "bands": (band,), "ccds": ccds, "focus_ccds": False}
    return SimulationSettings.model_validate(given | numbers | dithers)


def process_exposures(root: Path, settings: SimulationSettings) -> PlainNight:
    """Simulate and process the single epochs that have not been, the earlier ones first."""
    night = PlainNight.at(root)
    if not (root / "exposures.csv").is_file():
        simulate_night(root, settings, processes=1)
    for search in (False, True):
        for who in map(night.identity, night.listed(settings.night, search=search)):
            if not any(night.site.store.glob(f"*/exp/*/{who.expnum}/**/*_zeropoints.parquet")):
                night.single_epoch(who)
    return night


def build_maps(night: PlainNight, exposures: Sequence[ExposureId], ccds: Sequence[int]) -> dict[int, StepResult]:
    """Build the maps from processed exposures and enter them into the library; returns the results of the CCDs."""
    site, last, results = night.site, exposures[-1], {}
    for ccd in ccds:
        observed = observed_exposure(StepJob(exposure=last, ccd=ccd, site=site), "immask.fits")
        job = displacement_job(ccd, exposures, observed, site, EPOCH, DisplacementSettings())
        try:
            results[ccd] = night.run(fit_displacements, job)
        except CcdError as error:
            if error.reason != "no_displacement":
                raise
    enter_maps(site, last.night, last.band, list(results))
    return results


def enter_maps(site: Site, night: int, band: str, ccds: Sequence[int]) -> None:
    """Enter the maps that are in the library's folder into its manifest."""
    record_files(site, night, EPOCH, {(KIND, band): [master_path(site, EPOCH, KIND, ccd, band) for ccd in ccds]})


def without_maps(site: Site) -> None:
    """Take the maps out of the manifest."""
    manifest = CalibrationLibrary(site.calibrations).manifest
    write_manifest(site.calibrations, [e for e in manifest.entries if e.kind != KIND], manifest.age_limits)


def give_maps(site: Site, folder: Path, band: str, ccds: tuple[int, ...]) -> None:
    """Give a site's library the maps of a band, which are built unless a folder of exposures holds them.

    Parameters
    ----------
    site
        Site whose library gets the maps.
    folder
        Folder in which the exposures of all bands and sets of CCDs are kept.
    band, ccds
        Band and CCDs.
    """
    root = folder / f"maps_{band}_{len(ccds)}ccds"
    source, settings = Site.at(root), map_settings(band, ccds, N_MAP)
    with locked(root.with_suffix(".lock")):  # nights in processes of their own
        if not (source.calibrations / EPOCH).is_dir():
            night = process_exposures(root, settings)
            build_maps(night, [night.identity(item) for item in night.listed(settings.night, search=False)], ccds)
    copy_maps(source, site, band)


def copy_maps(source: Site, site: Site, band: str) -> None:
    """Copy the maps of a band from one library to another."""
    shutil.copytree(source.calibrations / EPOCH, site.calibrations / EPOCH, dirs_exist_ok=True)
    for entry in CalibrationLibrary(source.calibrations).manifest.entries:
        if entry.kind == KIND and entry.band == band:
            enter_maps(site, entry.made_night, band, entry.ccds or ())
