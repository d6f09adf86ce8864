"""Catalogues in partitions: pieces, lookups that read little, and the part that a sky map needs."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imaging.errors import InputError, StorageError
from imaging.io.prefetch import prefetch_catalogue, region_pixels
from imaging.io.reference import (
    catalogue_partitions,
    partition_path,
    partitions_in_cone,
    read_pieces,
    read_properties,
    read_reference_cone,
    read_reference_polygon,
    write_partition,
    write_pieces,
    write_reference_catalogue,
)
from imaging.reference.partition import merge_pieces, sort_along_sky
from imaging.schemas.reference import REFERENCE_STARS
from imaging.skymap.model import SkyMap
from imaging.tables import column, make_table
from imaging.wcs.sphere import separation_deg
from imaging.wcs.tpv import plane_to_sky
from tests.timing import least_s


def stars(ra, dec, first=0):
    n = len(ra)
    columns = {f.name: np.zeros(n) for f in REFERENCE_STARS}
    columns |= {"source_id": np.arange(first, first + n), "ra": ra, "dec": dec, "variable": np.zeros(n, bool)}
    return make_table(columns, REFERENCE_STARS)


def field(n, seed, ra=30.0, dec=-20.0, size=4.0):
    random = np.random.default_rng(seed)
    return (ra + random.uniform(-size, size, n)) % 360.0, dec + random.uniform(-size, size, n)


def test_pieces_of_several_files_make_each_partition_whole(tmp_path):
    tables = [stars(*field(3000, seed), first=10_000 * seed) for seed in (1, 2, 3)]
    tables[2] = pa.concat_tables([tables[2], tables[0].slice(0, 100)])  # sources that two files hold
    paths = [tmp_path / f"{n}.parquet" for n in range(3)]
    rows = [write_pieces(path, table, 5) for path, table in zip(paths, tables, strict=True)]
    pixels = sorted(set().union(*rows))
    found = [read_pieces(path, pixels) for path in paths]
    merged = {p: merge_pieces([piece[p] for piece in found if p in piece]) for p in pixels}
    assert sum(table.num_rows for table in merged.values()) == 9000
    for pixel, table in merged.items():
        _, place = sort_along_sky(table)
        assert set(place >> 48) == {pixel}
        assert np.unique(column(table, "source_id")).size == table.num_rows
    with pytest.raises(StorageError, match="pieces"):
        read_pieces(tmp_path / "absent.parquet", pixels)


@pytest.mark.parametrize(("ra0", "dec0"), [(0.0, 0.0), (359.9, -45.0), (120.0, 89.8), (33.0, -89.9), (200.0, 60.0)])
def test_lookups_by_row_group_find_exactly_what_is_inside(tmp_path, ra0, dec0):
    random = np.random.default_rng(7)
    sine = np.sin(np.radians(dec0))
    dec = np.degrees(np.arcsin(random.uniform(max(sine - 0.02, -1), min(sine + 0.02, 1), 20_000)))
    ra = (ra0 + random.uniform(-4, 4, 20_000) / max(np.cos(np.radians(dec0)), 0.02)) % 360.0
    write_reference_catalogue(tmp_path, stars(ra, dec), name="test")
    for order, pixels in catalogue_partitions(tmp_path).items():
        for pixel in pixels:  # many small row groups
            path = partition_path(tmp_path, order, pixel)
            write_partition(path, pq.read_table(path, partitioning=None), rows_per_group=100)
    found = column(read_reference_cone(tmp_path, ra0, dec0, 0.3), "source_id")
    expected = np.flatnonzero(separation_deg(ra0, dec0, ra, dec) <= 0.3)
    assert np.array_equal(found, expected)
    assert expected.size > 2


@pytest.mark.parametrize(("ra0", "dec0"), [(0.0, -30.0), (123.0, 89.95), (200.0, 45.0)])
@pytest.mark.parametrize("turn", [1, -1])
def test_polygons_hold_what_is_inside(tmp_path, ra0, dec0, turn):
    random = np.random.default_rng(11)
    x, y = random.uniform(-0.5, 0.5, (2, 3000))
    ra, dec = plane_to_sky(x, y, ra0, dec0)
    square = np.array([(-0.2, -0.3), (0.2, -0.3), (0.2, 0.3), (-0.2, 0.3)])[::turn]
    corners = np.stack(plane_to_sky(square[:, 0], square[:, 1], ra0, dec0), axis=-1)
    write_reference_catalogue(tmp_path, stars(ra, dec), name="test")
    found = column(read_reference_polygon(tmp_path, corners), "source_id")
    assert np.array_equal(found, np.flatnonzero((np.abs(x) < 0.2) & (np.abs(y) < 0.3)))


def test_a_lookup_in_a_crowded_field_is_fast(tmp_path):
    ra, dec = field(600_000, 5, size=1.2)
    write_reference_catalogue(tmp_path, stars(ra, dec), name="crowded")
    read_reference_cone(tmp_path, 30.0, -20.0, 0.2)
    cones = [(29.7 + 0.05 * k, -20.0, 0.2) for k in range(10)]
    assert least_s(lambda: [read_reference_cone(tmp_path, *cone) for cone in cones], times=2) / 10 < 0.05


def test_a_catalogue_says_what_it_holds(tmp_path):
    write_reference_catalogue(tmp_path, stars(*field(500, 8)), name="mine")
    properties = read_properties(tmp_path)
    assert (properties["obs_collection"], properties["hats_nrows"]) == ("mine", "500")
    assert pq.read_schema(tmp_path / "dataset" / "_common_metadata").names == REFERENCE_STARS.names
    assert sum(pq.read_metadata(p).num_rows for p in partitions_in_cone(tmp_path, 30.0, -20.0, 8.0)) == 500
    with pytest.raises(InputError, match="no reference catalogue"):
        read_properties(tmp_path / "absent")


def test_a_damaged_partition_is_said(tmp_path):
    write_reference_catalogue(tmp_path, stars(*field(500, 8, size=0.2)), name="mine")
    path = partitions_in_cone(tmp_path, 30.0, -20.0, 0.2)[0]
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(StorageError, match="damaged"):
        read_reference_cone(tmp_path, 30.0, -20.0, 0.2)


def skymap(order, pixels):
    pixels = np.asarray(pixels)
    return SkyMap(np.full(pixels.size, order), pixels, np.full(pixels.size, 1.0 / pixels.size))


@pytest.mark.parametrize("order", [3, 5, 8])
def test_the_part_that_a_sky_map_needs(tmp_path, order):
    ra, dec = field(20_000, 9, ra=10.0, dec=5.0, size=9.0)
    whole, part = tmp_path / "whole", tmp_path / "part"
    write_reference_catalogue(whole, stars(ra, dec), name="whole")
    _, place = sort_along_sky(stars(np.array([10.0]), np.array([5.0])))
    region = skymap(order, place >> (2 * (29 - order)))
    copied = prefetch_catalogue(whole, part, region, 0.9)
    assert copied.n_copied == copied.n_partitions > 4
    # Whatever a camera of 1.1 degrees radius sees, when it is pointed at the region, is there.
    for offset in (-0.8, 0.0, 0.8):
        here, there = (read_reference_cone(root, 10.0 + offset, 5.0, 0.3) for root in (part, whole))
        assert here.equals(there)
        assert here.num_rows > 5
    assert len(catalogue_partitions(part)[5]) < len(catalogue_partitions(whole)[5]) or order == 3
    again = prefetch_catalogue(whole, part, region, 0.9)
    assert again.n_copied == 0
    with pytest.raises(InputError, match="no partition in the sky map's region"):
        prefetch_catalogue(whole, tmp_path / "other", skymap(5, [12 * 4**5 - 1]), 0.9)


def test_a_region_is_widened_by_the_camera():
    assert len(region_pixels(skymap(5, [4000]), 0.9, 5)) == 9
    assert len(region_pixels(skymap(5, [4000, 4001, 4002, 4003]), 1.0, 4)) == 9


@pytest.mark.optional
def test_hats_opens_what_is_written(tmp_path):
    hats = pytest.importorskip("hats")
    from hats.io.validation import is_valid_catalog

    ra, dec = field(3000, 9, ra=0.0, dec=5.0, size=6.0)
    write_reference_catalogue(tmp_path / "gaia", stars(ra % 360.0, dec), name="gaia")
    assert is_valid_catalog(tmp_path / "gaia", strict=True)
    catalogue = hats.read_hats(tmp_path / "gaia")
    assert catalogue.catalog_info.total_rows == 3000
    assert {pixel.order for pixel in catalogue.get_healpix_pixels()} == {5}
