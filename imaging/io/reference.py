"""Reference catalogues of stars and galaxies: HEALPix-partitioned Parquet in the HATS layout, read by position.

A catalogue is a folder ``dataset/Norder=K/Dir=D/Npix=P.parquet`` of nested HEALPix pixels with ``hats.properties`` and
``partition_info.csv`` beside it, which lsdb and hats open. Nothing here touches the network.
"""

from functools import lru_cache
from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from astropy_healpix import HEALPix

from imaging.errors import InputError
from imaging.io.atomic import write_text
from imaging.io.tables import column, read_tables, write_table
from imaging.schemas.reference import REFERENCE_STARS
from imaging.wcs.sphere import separation_deg

DIRECTORY_SIZE = 10_000
"""Partitions per directory, fixed by the HATS convention."""


def partition_path(root: Path, order: int, pixel: int) -> Path:
    """Return the file of a HEALPix pixel."""
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
    root = Path(root)
    healpix = HEALPix(nside=2**order, order="nested")
    pixels = healpix.lonlat_to_healpix(column(stars, "ra") * u.deg, column(stars, "dec") * u.deg)
    found = np.unique(pixels)
    for pixel in found:
        write_table(partition_path(root, order, int(pixel)), stars.filter(pa.array(pixels == pixel)))
    lines = ["Norder,Npix"] + [f"{order},{pixel}" for pixel in found]
    write_text(root / "partition_info.csv", "\n".join(lines) + "\n")
    properties = {
        "obs_collection": name,
        "dataproduct_type": "object",
        "hats_nrows": stars.num_rows,
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_max_rows": stars.num_rows,
        "hats_order": order,
        "moc_sky_fraction": f"{len(found) / (12 * 4**order):.8f}",
        "hats_version": "v0.1",
    }
    write_text(root / "hats.properties", "".join(f"{key}={value}\n" for key, value in properties.items()))


@lru_cache
def _partitions(root: Path) -> tuple[int, frozenset[int]]:
    """Read which pixels a catalogue holds: (order, pixel numbers)."""
    try:
        table = pacsv.read_csv(root / "partition_info.csv")
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            "there is no reference catalogue", value=root, remedy="build or copy the reference catalogue"
        ) from error
    orders = set(table.column("Norder").to_pylist())
    if len(orders) != 1:
        raise InputError("reference catalogue of mixed HEALPix orders", value=sorted(orders), limit="one order")
    return orders.pop(), frozenset(table.column("Npix").to_pylist())


def partitions_in_cone(root: Path, ra_deg: float, dec_deg: float, radius_deg: float) -> list[Path]:
    """Return the files of a catalogue that touch a cone (ICRS, degrees), in order of their pixels.

    Raises
    ------
    InputError
        If there is no catalogue, or a file that it should have is missing.
    """
    root = Path(root)
    order, held = _partitions(root)
    healpix = HEALPix(nside=2**order, order="nested")
    wanted = healpix.cone_search_lonlat(ra_deg * u.deg, dec_deg * u.deg, radius=radius_deg * u.deg)
    paths = [partition_path(root, order, int(pixel)) for pixel in sorted(set(wanted.tolist()) & held)]
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
        Cone, ICRS. Right across RA = 0 and at the poles.
    schema
        What the catalogue holds: stars, or :data:`imaging.schemas.reference.REFERENCE_GALAXIES`.

    Returns
    -------
    table
        Columns of the schema, sorted by ``source_id``; empty where the catalogue has nothing.

    Raises
    ------
    InputError
        If there is no catalogue.
    """
    found = read_tables(partitions_in_cone(root, ra_deg, dec_deg, radius_deg), schema)
    inside = separation_deg(ra_deg, dec_deg, column(found, "ra"), column(found, "dec")) <= radius_deg
    return found.filter(pa.array(inside)).sort_by("source_id")
