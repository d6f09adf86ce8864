"""Divide stars into HEALPix partitions, sorted by position."""

from collections.abc import Iterator, Sequence

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy_healpix import core as healpix
from numpy.typing import NDArray

from imaging.tables import column

DEEPEST_ORDER = 29
"""HEALPix order of the nested curve along which stars are sorted, so that neighbours are close in a file."""


def sort_along_sky(stars: pa.Table) -> tuple[pa.Table, NDArray[np.int64]]:
    """Sort stars along the nested HEALPix curve.

    Parameters
    ----------
    stars
        Columns ``ra`` and ``dec``, degrees.

    Returns
    -------
    sorted_stars
        The same stars.
    place
        (n,) int64, pixels of the stars at :data:`DEEPEST_ORDER`.
    """
    ra, dec = column(stars, "ra") * u.deg, column(stars, "dec") * u.deg
    place = np.asarray(healpix.lonlat_to_healpix(ra, dec, 2**DEEPEST_ORDER, order="nested"), dtype=np.int64)
    order = np.lexsort((column(stars, "source_id"), place))
    return stars.take(pa.array(order)), place[order]


def split_by_pixel(stars: pa.Table, order: int) -> Iterator[tuple[int, pa.Table]]:
    """Yield each non-empty HEALPix pixel of an order, in order, with its stars sorted by position."""
    ordered, place = sort_along_sky(stars)
    pixels = place >> (2 * (DEEPEST_ORDER - order))
    found, first = np.unique(pixels, return_index=True)
    last = np.append(first, pixels.size)[1:]
    for pixel, start, end in zip(found, first, last, strict=True):
        yield int(pixel), ordered.slice(int(start), int(end - start))


def merge_pieces(pieces: Sequence[pa.Table]) -> pa.Table:
    """Combine the pieces of one partition: sorted by position, without duplicate sources."""
    ordered, _ = sort_along_sky(pa.concat_tables(pieces).combine_chunks())
    if pc.count_distinct(ordered.column("source_id")).as_py() == ordered.num_rows:
        return ordered
    _, first = np.unique(column(ordered, "source_id"), return_index=True)
    return ordered.take(pa.array(np.sort(first)))
