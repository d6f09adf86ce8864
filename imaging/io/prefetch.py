"""Copy the partitions of a reference catalogue within a sky map's region, before the night."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from astropy_healpix import core as healpix

from imaging.errors import InputError, StorageError
from imaging.io.atomic import atomic_path, storage_error
from imaging.io.reference import catalogue_partitions, finish_catalogue, partition_path, read_properties
from imaging.skymap.model import SkyMap


@dataclass(frozen=True, slots=True)
class Prefetched:
    """Summary of a copy.

    Attributes
    ----------
    n_partitions
        Partitions of the region.
    n_copied
        Partitions copied; the others were present.
    size_mb
        Size of the region's partitions.
    n_missing
        Pixels of the region, at the catalogue's order, for which the source has no partition.
    """

    n_partitions: int
    n_copied: int
    size_mb: float
    n_missing: int


def region_pixels(skymap: SkyMap, level: float, order: int) -> set[int]:
    """Return the nested pixels that overlap a sky map's region, and their neighbours as a margin for the camera.

    Parameters
    ----------
    skymap
        The sky map.
    level
        Probability of the credible region.
    order
        HEALPix order, at most 5: a pixel should be no smaller than the camera's radius of 1.1 degrees.
    """
    chosen = skymap.region(level)
    touched: set[int] = set()
    for own_order, pixel in zip(skymap.order[chosen].tolist(), skymap.pixel[chosen].tolist(), strict=True):
        shift = 2 * (own_order - order)
        touched |= {pixel >> shift} if shift >= 0 else set(range(pixel << -shift, (pixel + 1) << -shift))
    around = healpix.neighbours(np.fromiter(touched, np.int64), 2**order, order="nested")
    return touched | (set(around.ravel().tolist()) - {-1})


def prefetch_catalogue(source: Path, target: Path, skymap: SkyMap, level: float) -> Prefetched:
    """Copy the partitions around a sky map's region into another folder, which becomes a catalogue itself.

    Files present with the same size are not copied again; partitions copied for other maps are kept.

    Parameters
    ----------
    source, target
        Folder of the whole catalogue and of the part.
    skymap
        The sky map.
    level
        Probability of the region.

    Raises
    ------
    InputError
        If the source is not a catalogue, or its partitions have mixed orders or are too small.
    StorageError
        If a file cannot be copied.
    """
    held = catalogue_partitions(source)
    if len(held) != 1:
        raise InputError("reference catalogue of mixed HEALPix orders", value=sorted(held), limit="one order")
    order, pixels = next(iter(held.items()))
    if order > 5:
        raise InputError("partitions too small to add a camera's width to a region", value=order, limit="order 5")
    region = region_pixels(skymap, level, order)
    wanted = sorted(region & pixels)
    copied, size = 0, 0
    for pixel in wanted:
        path, place = partition_path(source, order, pixel), partition_path(target, order, pixel)
        copied += _copy(path, place)
        size += place.stat().st_size
    _finish(source, target, order, wanted)
    return Prefetched(len(wanted), copied, size / 1e6, len(region - pixels))


def _copy(path: Path, place: Path) -> bool:
    """Copy a file unless it is present; return whether it was copied."""
    try:
        if place.is_file() and place.stat().st_size == path.stat().st_size:
            return False
        with atomic_path(place) as temporary:
            shutil.copyfile(path, temporary)
    except OSError as error:
        raise storage_error(error, place) from error
    return True


def _finish(source: Path, target: Path, order: int, copied: Iterable[int]) -> None:
    try:
        earlier = catalogue_partitions(target).get(order, frozenset())
    except InputError:
        earlier = frozenset()
    pixels = sorted({*earlier, *copied})
    if not pixels:
        raise InputError("the catalogue has no partition in the sky map's region", value=source)
    try:
        parts = {pixel: pq.read_metadata(partition_path(target, order, pixel)) for pixel in pixels}
        schema = pq.read_schema(partition_path(target, order, pixels[0]))
    except (OSError, ValueError) as error:
        raise StorageError(
            f"copied partition damaged: {error}", value=target, remedy="remove it and run again"
        ) from error
    name = read_properties(source).get("obs_collection", source.name)
    finish_catalogue(target, name, order, {pixel: part.num_rows for pixel, part in parts.items()}, schema)
