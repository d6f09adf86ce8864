"""Write and read the truth of a simulation, and true zero points and geometry."""

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from imaging.bands import BANDS
from imaging.io.atomic import write_text
from imaging.io.tables import read_table, write_table
from imaging.io.truth import exposure_truth_path, read_truth_text, sky_table_path
from imaging.schemas.truth import TRUE_ASTEROIDS, TRUE_GALAXIES, TRUE_STARS, TRUE_TRANSIENTS
from imaging.simulation.asteroids import Asteroids
from imaging.simulation.exposures import SimulatedExposure
from imaging.simulation.galaxies import Galaxies
from imaging.simulation.optics import TrueGeometry, camera_misalignment
from imaging.simulation.pixel_shifts import pixel_shifts
from imaging.simulation.psf import true_psf
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.sky import SimulatedSky
from imaging.simulation.stars import Stars
from imaging.simulation.transients import Transients
from imaging.tables import column, make_table

Record = TypeVar("Record", Stars, Galaxies, Transients)


def write_sky(root: Path, sky: SimulatedSky) -> None:
    """Write the true-sky tables to ``truth/sky``."""
    for name, record, schema in (
        ("stars", sky.stars, TRUE_STARS),
        ("galaxies", sky.galaxies, TRUE_GALAXIES),
        ("transients", sky.transients, TRUE_TRANSIENTS),
    ):
        write_table(sky_table_path(root, name), make_table(_columns(record), schema))
    write_table(sky_table_path(root, "asteroids"), _asteroid_table(sky.asteroids))
    read_sky.cache_clear()


def _columns(record: Any) -> dict[str, NDArray[Any]]:  # noqa: ANN401
    columns: dict[str, NDArray[Any]] = {}
    for item in fields(record):
        value = getattr(record, item.name)
        if isinstance(value, Mapping):
            columns |= {f"mag_{band}": value[band] for band in BANDS}
        else:
            columns[item.name] = value
    return columns


def _asteroid_table(asteroids: Mapping[int, Asteroids]) -> pa.Table:
    tables = []
    for night in asteroids.values():
        n = len(night.mag_i)
        columns = {
            item.name: np.broadcast_to(np.asarray(getattr(night, item.name)), n).copy() for item in fields(night)
        }
        tables.append(make_table(columns, TRUE_ASTEROIDS))
    return pa.concat_tables(tables) if tables else TRUE_ASTEROIDS.empty_table()


@lru_cache(maxsize=2)
def read_sky(root: Path) -> SimulatedSky:
    """Read the sky of a simulation.

    Raises
    ------
    StorageError
        If a table is missing or damaged.
    """
    table = read_table(sky_table_path(root, "asteroids"))
    nights = {}
    for night in sorted(set(column(table, "night").tolist())):
        rows = column(table, "night") == night
        values: dict[str, Any] = {item.name: column(table, item.name)[rows] for item in fields(Asteroids)}
        for name in ("night", "field_ra", "field_dec", "mjd"):
            values[name] = values[name][0].item()
        nights[night] = Asteroids(**values)
    return SimulatedSky(
        _read(root, "stars", Stars), _read(root, "galaxies", Galaxies), _read(root, "transients", Transients), nights
    )


def _read(root: Path, name: str, kind: type[Record]) -> Record:
    table = read_table(sky_table_path(root, name))
    values: dict[str, Any] = {}
    for item in fields(kind):
        if item.name == "mags":
            values["mags"] = {band: column(table, f"mag_{band}") for band in BANDS}
        else:
            values[item.name] = column(table, item.name)
    return kind(**values)


def write_exposure_truth(root: Path, exposure: SimulatedExposure) -> None:
    """Write the true parameters of an exposure as JSON."""
    write_text(exposure_truth_path(root, exposure.expnum), exposure.model_dump_json(indent=1) + "\n")


def read_exposure_truth(root: Path, expnum: int) -> SimulatedExposure:
    """Read the true parameters of an exposure.

    Raises
    ------
    InputError
        If the exposure is not of this simulation.
    """
    return SimulatedExposure.model_validate_json(read_truth_text(exposure_truth_path(root, expnum)))


def true_zeropoint_mag(
    settings: SimulationSettings, exposure: SimulatedExposure, ccdnum: int, x: ArrayLike, y: ArrayLike
) -> NDArray[np.float64]:
    """Return the true zero point in the reference aperture at positions of a CCD.

    Parameters
    ----------
    settings
        The simulation's settings.
    exposure
        The exposure.
    ccdnum
        The CCD.
    x, y
        (n,) pixels, 0-based.

    Returns
    -------
    zeropoint_mag
        (n,) AB magnitude of a point source of one electron in the reference aperture of a detrended image (divided by
        dome flat and star flat), with clouds and aperture losses included.
    """
    geometry = true_geometry(settings, exposure, ccdnum)
    clouds = exposure.clouds.extinction_mag(*geometry.wcs.pixel_to_plane(x, y))
    share = true_psf(exposure, ccdnum, x, y).aperture_fraction()
    return exposure.zeropoint_mag - clouds + 2.5 * np.log10(share)


def true_geometry(settings: SimulationSettings, exposure: SimulatedExposure, ccdnum: int) -> TrueGeometry:
    """Return the true mapping from the sky to the pixels of a CCD."""
    misalignment = camera_misalignment(
        settings.camera_seed, ccdnum, settings.ccd_offset_arcsec, settings.distortion_mas
    )
    effects = settings.effects
    pixels = pixel_shifts(settings.camera_seed, ccdnum, tree_rings=effects.tree_rings, edges=effects.edge_fields)
    return TrueGeometry(exposure, ccdnum, replace(misalignment, pixels=pixels))
