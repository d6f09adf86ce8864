"""Read and write reference catalogues of stars and galaxies: HEALPix-partitioned Parquet (HATS), read by position.

A catalogue is a folder ``dataset/Norder=K/Dir=D/Npix=P.parquet`` of nested HEALPix pixels with ``hats.properties`` and
``partition_info.csv``, readable by lsdb and hats. Inside a partition the stars are sorted by position in row groups,
and a lookup reads only the row groups that it overlaps. This module does not access the network.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from astropy_healpix import HEALPix
from numpy.typing import NDArray

from imaging.errors import InputError, StorageError
from imaging.io.atomic import atomic_path, write_text
from imaging.io.damage import reading
from imaging.reference.partition import split_by_pixel
from imaging.schemas.reference import REFERENCE_STARS
from imaging.tables import column
from imaging.wcs.sphere import inside_convex, polygon_centre, separation_deg

DIRECTORY_SIZE = 10_000
"""Partitions per directory, fixed by the HATS convention."""

ROWS_PER_GROUP = 16384
"""Stars per row group."""

PIECES_LEVEL = 1
"""Compression level of pieces, which are read once and removed."""

REMEDY, NO_CATALOGUE = "build or copy the reference catalogue again", "there is no reference catalogue"

ADDED_LATER = {"distance_method"}
"""Columns that catalogues of earlier versions lack."""

MAX_ORDER = 13
"""Order of partitions; those of 13 are 0.4 arcmin wide."""

PIXELS = b"pixels"
"""Metadata of a file of pieces: the HEALPix pixel of each of its row groups."""


def partition_path(root: Path, order: int, pixel: int) -> Path:
    """Return the path of a HEALPix pixel's partition."""
    directory = pixel // DIRECTORY_SIZE * DIRECTORY_SIZE
    return Path(root) / "dataset" / f"Norder={order}" / f"Dir={directory}" / f"Npix={pixel}.parquet"


def write_reference_catalogue(root: Path, stars: pa.Table, *, name: str, order: int = 5) -> None:
    """Partition a table of reference stars or galaxies and write it as a catalogue.

    Parameters
    ----------
    root
        Folder of the catalogue.
    stars
        Columns of a schema of :mod:`imaging.schemas.reference`.
    name
        Name of the catalogue.
    order
        HEALPix order of the partitions; 5 is 3.4 square degrees.
    """
    rows = {}
    for pixel, part in split_by_pixel(stars, order):
        write_partition(partition_path(root, order, pixel), part)
        rows[pixel] = part.num_rows
    finish_catalogue(root, name, order, rows, stars.schema)


def write_partition(path: Path, stars: pa.Table, rows_per_group: int = ROWS_PER_GROUP) -> None:
    """Write the stars of one partition atomically.

    Parameters
    ----------
    path
        The file.
    stars
        Stars, sorted by position.
    rows_per_group
        Stars per row group.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    with atomic_path(path) as temporary:
        pq.write_table(stars, temporary, row_group_size=rows_per_group, **_encoding(stars.schema))


def _encoding(schema: pa.Schema, level: int = 6) -> dict[str, object]:
    """Return Parquet options: byte-stream split for floats, delta encoding for integers, compression level."""
    encodings = {f.name: "BYTE_STREAM_SPLIT" for f in schema if pa.types.is_floating(f.type)}
    encodings |= {f.name: "DELTA_BINARY_PACKED" for f in schema if pa.types.is_integer(f.type)}
    text = [f.name for f in schema if pa.types.is_string(f.type)]
    tightly = {"compression": "zstd", "compression_level": level}
    return {**tightly, "use_dictionary": text, "column_encoding": encodings or None}


def finish_catalogue(root: Path, name: str, order: int, rows: Mapping[int, int], schema: pa.Schema) -> None:
    """Write the metadata of a catalogue; readers see new partitions afterwards.

    Parameters
    ----------
    root
        Folder of the catalogue.
    name
        Name of the catalogue.
    order
        HEALPix order of the partitions.
    rows
        Pixel to its number of stars.
    schema
        Columns.

    Raises
    ------
    StorageError
        If a file cannot be written.
    """
    root = Path(root)
    with atomic_path(root / "dataset" / "_common_metadata") as temporary:
        pq.write_metadata(schema, temporary)
    properties = {
        "obs_collection": name,
        "dataproduct_type": "object",
        "hats_nrows": sum(rows.values()),
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_max_rows": max(rows.values(), default=0),
        "hats_order": order,
        "moc_sky_fraction": f"{len(rows) / (12 * 4**order):.8f}",
        "hats_version": "v0.1",
    }
    write_text(root / "hats.properties", "".join(f"{key}={value}\n" for key, value in properties.items()))
    lines = ["Norder,Npix"] + [f"{order},{pixel}" for pixel in sorted(rows)]
    write_text(root / "partition_info.csv", "\n".join(lines) + "\n")
    _read_partitions.cache_clear()


def read_properties(root: Path) -> dict[str, str]:
    """Read the properties of a catalogue (``hats.properties``).

    Raises
    ------
    InputError
        If there is no catalogue.
    """
    path = Path(root) / "hats.properties"
    with reading(path, "properties of a reference catalogue damaged", REMEDY, missing=NO_CATALOGUE):
        lines = path.read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


def write_pieces(path: Path, stars: pa.Table, order: int) -> dict[int, int]:
    """Write the stars of one source file by partition: one row group per pixel.

    Parameters
    ----------
    path
        The file.
    stars
        Stars of one source file.
    order
        HEALPix order of the partitions.

    Returns
    -------
    rows
        Pixel to its number of stars.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    rows: dict[int, int] = {}
    encoding = _encoding(stars.schema, PIECES_LEVEL)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, stars.schema, **encoding) as writer:
        for pixel, part in split_by_pixel(stars, order):
            writer.write_table(part, row_group_size=part.num_rows)
            rows[pixel] = part.num_rows
        writer.add_key_value_metadata({PIXELS: " ".join(map(str, rows)).encode()})
    return rows


def read_pieces(path: Path, pixels: Iterable[int]) -> dict[int, pa.Table]:
    """Read the stars of one source file in some partitions.

    Parameters
    ----------
    path
        File written by :func:`write_pieces`.
    pixels
        Requested pixels; those without stars in the file are omitted.

    Raises
    ------
    StorageError
        If the file is missing or damaged.
    """
    problem, remedy = (
        "pieces of a reference catalogue missing or damaged",
        "run the same command again; finished work is kept",
    )
    with reading(path, problem, remedy, error=StorageError), pq.ParquetFile(path) as file:
        held = [int(word) for word in file.metadata.metadata[PIXELS].split()]
        wanted = set(pixels)
        return {pixel: file.read_row_group(n) for n, pixel in enumerate(held) if pixel in wanted}


def catalogue_partitions(root: Path) -> dict[int, frozenset[int]]:
    """Return the pixels of a catalogue: HEALPix order to pixel numbers.

    Raises
    ------
    InputError
        If there is no catalogue.
    """
    path = Path(root) / "partition_info.csv"
    with reading(path, "partition table of a reference catalogue damaged", REMEDY, missing=NO_CATALOGUE):
        return _read_partitions(path, path.stat().st_mtime_ns)


@lru_cache
def _read_partitions(path: Path, mtime_ns: int) -> dict[int, frozenset[int]]:  # noqa: ARG001
    table = pacsv.read_csv(path)
    orders, pixels = (column(table, name) for name in ("Norder", "Npix"))
    if orders.dtype.kind != "i" or pixels.dtype.kind != "i":
        raise ValueError("Norder and Npix must be whole numbers")
    if not ((orders >= 0) & (orders <= MAX_ORDER)).all() or not ((pixels >= 0) & (pixels < 12 * 4**orders)).all():
        raise ValueError(f"pixels outside of the sky, or orders outside of 0 to {MAX_ORDER}")
    return {int(order): frozenset(pixels[orders == order].tolist()) for order in np.unique(orders)}


def covered(root: Path, ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which positions (ICRS, degrees) are in a partition of a catalogue.

    Raises
    ------
    InputError
        If there is no catalogue.
    """
    found = np.zeros(np.shape(ra_deg), dtype=bool)
    for order, held in catalogue_partitions(root).items():
        pixels = HEALPix(nside=2**order, order="nested").lonlat_to_healpix(ra_deg * u.deg, dec_deg * u.deg)
        found |= np.isin(pixels, list(held))
    return found


def partitions_in_cone(root: Path, ra_deg: float, dec_deg: float, radius_deg: float) -> list[Path]:
    """Return the files of a catalogue that overlap a cone (ICRS, degrees), in order of their pixels.

    Raises
    ------
    InputError
        If there is no catalogue, or one of its files is missing.
    """
    paths = []
    for order, held in catalogue_partitions(root).items():
        healpix = HEALPix(nside=2**order, order="nested")
        wanted = healpix.cone_search_lonlat(ra_deg * u.deg, dec_deg * u.deg, radius=radius_deg * u.deg)
        paths += [partition_path(root, order, int(pixel)) for pixel in sorted(set(wanted.tolist()) & held)]
    for path in paths:
        if not path.exists():
            raise InputError(
                "a file of the reference catalogue is missing", value=path, remedy="build or copy the catalogue again"
            )
    return paths


def read_reference_cone(
    root: Path, ra_deg: float, dec_deg: float, radius_deg: float, schema: pa.Schema = REFERENCE_STARS
) -> pa.Table:
    """Read the reference stars or galaxies around a position.

    Parameters
    ----------
    root
        Folder of the catalogue.
    ra_deg, dec_deg, radius_deg
        Cone, ICRS. Valid across RA = 0 and at the poles.
    schema
        Schema of the catalogue: stars, or :data:`imaging.schemas.reference.REFERENCE_GALAXIES`.

    Returns
    -------
    table
        Columns of the schema, sorted by ``source_id``; empty if there are no sources.

    Raises
    ------
    InputError
        If there is no catalogue, or one of its files is missing.
    StorageError
        If a partition is damaged.
    """
    tables = [schema.empty_table()]
    for path in partitions_in_cone(root, ra_deg, dec_deg, radius_deg):
        part = _read_near(path, ra_deg, dec_deg, radius_deg, schema)
        inside = separation_deg(ra_deg, dec_deg, column(part, "ra"), column(part, "dec")) <= radius_deg
        tables.append(part.filter(pa.array(inside)))
    return pa.concat_tables(tables).sort_by("source_id")


def read_reference_polygon(root: Path, corners: NDArray[np.float64], schema: pa.Schema = REFERENCE_STARS) -> pa.Table:
    """Read the reference stars or galaxies inside a convex polygon.

    Parameters
    ----------
    root
        Folder of the catalogue.
    corners
        (n, 2) RA and Dec of the corners in degrees, ICRS, in cyclic order; smaller than a hemisphere. Valid across
        RA = 0 and at the poles.
    schema
        Schema of the catalogue.

    Returns
    -------
    table
        Columns of the schema, sorted by ``source_id``.

    Raises
    ------
    InputError
        If there is no catalogue, or one of its files is missing.
    StorageError
        If a partition is damaged.
    """
    ra, dec = polygon_centre(corners)
    radius = float(separation_deg(ra, dec, corners[:, 0], corners[:, 1]).max())
    found = read_reference_cone(root, ra, dec, radius, schema)
    return found.filter(pa.array(inside_convex(corners, column(found, "ra"), column(found, "dec"))))


def _read_near(path: Path, ra_deg: float, dec_deg: float, radius_deg: float, schema: pa.Schema) -> pa.Table:
    """Read the row groups of a partition that may overlap a cone."""
    damaged = reading(path, "partition of a reference catalogue damaged", REMEDY, error=StorageError)
    with damaged, pq.ParquetFile(path, memory_map=True) as file:
        near = [
            group
            for group in range(file.num_row_groups)
            if _may_touch(file.metadata.row_group(group), ra_deg, dec_deg, radius_deg)
        ]
        table = file.read_row_groups(near, columns=schema.names, use_threads=False)
        for name in ADDED_LATER & set(schema.names) - set(table.column_names):
            table = table.append_column(name, pa.nulls(table.num_rows, schema.field(name).type))
        table = table.select(schema.names).cast(schema)
        if not (np.isfinite(column(table, "ra")).all() and (np.abs(column(table, "dec")) <= 90.0).all()):
            raise ValueError("positions that are not on the sky")
        return table


def _may_touch(group: pq.RowGroupMetaData, ra_deg: float, dec_deg: float, radius_deg: float) -> bool:
    """Whether the stars of a row group may be in a cone, by its minimum and maximum coordinates."""
    limits = {}
    for index in range(group.num_columns):
        about = group.column(index)
        if about.path_in_schema in ("ra", "dec"):
            statistics = about.statistics
            if statistics is None or not statistics.has_min_max:
                return True
            limits[about.path_in_schema] = (statistics.min, statistics.max)
    south, north = limits["dec"]
    if south > dec_deg + radius_deg or north < dec_deg - radius_deg:
        return False
    farthest = abs(dec_deg) + radius_deg
    if farthest >= 89.0:
        return True
    sine = np.sin(np.radians(radius_deg)) / np.cos(np.radians(dec_deg))
    reach = float(np.degrees(np.arcsin(min(sine, 1.0))))
    west, east = limits["ra"]
    nearest = max(abs((ra_deg - 0.5 * (west + east) + 180.0) % 360.0 - 180.0) - 0.5 * (east - west), 0.0)
    return bool(nearest <= reach)
