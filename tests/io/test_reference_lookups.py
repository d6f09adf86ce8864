"""Lookups in reference catalogues against separations of astropy, and the partitions against HEALPix and MOC."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy_healpix import HEALPix
from mocpy import MOC

from imaging.errors import InputError
from imaging.io.prefetch import prefetch_catalogue, region_pixels
from imaging.io.reference import (
    _may_touch,
    catalogue_partitions,
    covered,
    finish_catalogue,
    partition_path,
    partitions_in_cone,
    read_pieces,
    read_properties,
    read_reference_cone,
    write_partition,
    write_pieces,
    write_reference_catalogue,
)
from imaging.reference.partition import split_by_pixel
from imaging.schemas.reference import REFERENCE_GALAXIES
from imaging.skymap.model import SkyMap
from imaging.tables import column, make_table

N = 6000


def galaxies(ra, dec):
    columns = {field.name: np.zeros(len(ra)) for field in REFERENCE_GALAXIES}
    return make_table(columns | {"source_id": np.arange(len(ra)), "ra": ra, "dec": dec}, REFERENCE_GALAXIES)


@pytest.fixture(scope="module")
def sky():
    """Return a third of the galaxies all over the sky, a third within 4 degrees of each pole."""
    rng = np.random.default_rng(12)
    z = rng.uniform(-1.0, 1.0, N)
    z[: N // 3] = np.cos(np.radians(4.0 * np.sqrt(rng.uniform(size=N // 3))))
    z[N // 3 : 2 * N // 3] *= 0.0
    z[N // 3 : 2 * N // 3] -= np.cos(np.radians(4.0 * np.sqrt(rng.uniform(size=N // 3))))
    return rng.uniform(0.0, 360.0, N), np.degrees(np.arcsin(z))


@pytest.fixture(scope="module")
def catalogue(sky, tmp_path_factory):
    """Return a catalogue of order 1 in row groups of 20 galaxies, so that most groups are left out of a lookup."""
    root, table = tmp_path_factory.mktemp("galaxies"), galaxies(*sky)
    write_reference_catalogue(root, table, name="galaxies", order=1)
    for pixel, part in split_by_pixel(table, 1):
        write_partition(partition_path(root, 1, pixel), part, rows_per_group=20)
    return root


def cones():
    rng = np.random.default_rng(3)
    dec = np.concatenate(
        [np.degrees(np.arcsin(rng.uniform(-1, 1, 25))), rng.uniform(84, 90, 20), rng.uniform(-90, -84, 20)]
    )
    ra = np.where(
        rng.uniform(size=dec.size) < 0.3,
        rng.choice([0.0, 0.01, 359.99, 180.0], dec.size),
        rng.uniform(0, 360, dec.size),
    )
    return list(zip(ra, dec, np.tile([0.5, 1.5, 3.0, 8.0, 25.0], 13), strict=True))


def test_cones_hold_exactly_what_astropy_finds_inside(catalogue, sky):
    places, numbers = SkyCoord(*sky, unit="deg"), 0
    for ra, dec, radius in cones():
        separation = places.separation(SkyCoord(ra, dec, unit="deg")).deg
        assert np.abs(separation - radius).min() > 1e-9
        found = column(read_reference_cone(catalogue, ra, dec, radius, REFERENCE_GALAXIES), "source_id")
        assert np.array_equal(found, np.flatnonzero(separation <= radius)), (ra, dec, radius)
        numbers += found.size
    assert numbers > 2000


def test_a_row_group_is_read_where_its_box_reaches_into_the_cone_and_only_there(catalogue):
    """The smallest separation from a box of coordinates is measured on points of the box, closer than 0.4 degrees."""
    read = skipped = 0
    for path in sorted((catalogue / "dataset").rglob("*.parquet"))[::4]:
        metadata, part = pq.read_metadata(path), pq.read_table(path, columns=["ra", "dec"], partitioning=None)
        for k in range(0, metadata.num_row_groups, 3):
            rows = part.slice(20 * k, 20)
            west, east, south, north = (f(column(rows, n)) for n in ("ra", "dec") for f in (np.min, np.max))
            ra, dec = np.meshgrid(np.linspace(west, east, 61), np.linspace(south, north, 31))
            box = SkyCoord(ra, dec, unit="deg")
            for where in [(c[0], c[1], r) for c in cones()[:25:2] for r in (2.0, 10.0)]:
                nearest = box.separation(SkyCoord(where[0], where[1], unit="deg")).deg.min()
                touches = _may_touch(metadata.row_group(k), *where)
                if nearest <= where[2]:
                    assert touches, (where, west, east, south, north)
                    read += 1
                elif abs(where[1]) + where[2] < 88.0 and (
                    south > where[1] + where[2] + 0.01
                    or north < where[1] - where[2] - 0.01
                    or _beyond(where, west, east)
                ):
                    assert not touches, (where, west, east, south, north)
                    skipped += 1
    assert read > 10 and skipped > 200


def _beyond(cone, west, east):
    """Whether a range of right ascension lies outside the meridians that touch a cone, by a hundredth of a degree."""
    ra, dec, radius = cone
    around = SkyCoord(ra, dec, unit="deg").directional_offset_by(np.linspace(0, 360, 721) * u.deg, radius * u.deg)
    reach = np.abs(around.ra.wrap_at((ra + 180) * u.deg).deg - ra).max() + 0.01
    away = (np.linspace(west, east, 2001) - ra + 180.0) % 360.0 - 180.0
    return bool(np.abs(away).min() > reach)


def test_partitions_are_the_nested_pixels_of_healpix_and_their_files_those_of_the_convention(tmp_path, sky):
    write_reference_catalogue(tmp_path, galaxies(*sky), name="all sky", order=2)
    pixels = HEALPix(4, order="nested").lonlat_to_healpix(sky[0] * u.deg, sky[1] * u.deg)
    assert catalogue_partitions(tmp_path) == {2: frozenset(pixels.tolist())}
    for pixel, count in zip(*np.unique(pixels, return_counts=True), strict=True):
        path = tmp_path / "dataset" / "Norder=2" / "Dir=0" / f"Npix={pixel}.parquet"
        table = pq.read_table(path, partitioning=None)
        assert table.num_rows == count and set(column(table, "source_id")) == set(np.flatnonzero(pixels == pixel))
    assert partition_path(tmp_path, 6, 29999).parts[-2:] == ("Dir=20000", "Npix=29999.parquet")
    properties = read_properties(tmp_path)
    counts = np.unique(pixels, return_counts=True)[1]
    assert (int(properties["hats_nrows"]), int(properties["hats_max_rows"])) == (N, counts.max())
    assert float(properties["moc_sky_fraction"]) == pytest.approx(counts.size / 192, abs=1e-8)
    assert properties["hats_order"] == "2"


def test_covered_says_where_there_are_partitions_of_any_order(tmp_path):
    finish_catalogue(tmp_path, "x", 3, {5: 1, 200: 2}, REFERENCE_GALAXIES)
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0, 360, 3000), np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))
    (tmp_path / "partition_info.csv").write_text("Norder,Npix\n3,5\n3,200\n1,47\n")
    moc = MOC.from_healpix_cells(np.array([5, 200, 47]), np.array([3, 3, 1]), max_depth=3)
    found = covered(tmp_path, ra, dec)
    assert np.array_equal(found, moc.contains_lonlat(ra * u.deg, dec * u.deg)) and found.sum() > 40
    with pytest.raises(InputError, match="Npix=47"):
        partitions_in_cone(tmp_path, *(float(a[found][0]) for a in (ra, dec)), 90.0)


def test_pieces_are_taken_by_pixel(tmp_path, sky):
    table = galaxies(*sky)
    rows = write_pieces(tmp_path / "p.parquet", table, 1)
    pixels = HEALPix(2, order="nested").lonlat_to_healpix(sky[0] * u.deg, sky[1] * u.deg)
    assert rows == dict(zip(*(v.tolist() for v in np.unique(pixels, return_counts=True)), strict=True))
    found = read_pieces(tmp_path / "p.parquet", [40, 2, 999])
    assert list(found) == [2, 40]
    for pixel, part in found.items():
        assert sorted(column(part, "source_id")) == np.flatnonzero(pixels == pixel).tolist()


# astropy_healpix warns of pixels with seven neighbours; it gives -1 for the eighth.
@pytest.mark.filterwarnings("ignore:invalid value encountered in neighbours_nested:RuntimeWarning")
@pytest.mark.parametrize("order", [2, 3])
def test_the_region_of_a_mixed_map_and_its_border_are_those_of_a_moc(tmp_path, sky, order):
    depth, pixel = np.array([2, 2, 4, 5, 3]), np.array([3, 100, 777, 9000, 40])
    first = pixel << (2 * (29 - depth))
    sort = np.argsort(first)
    skymap = SkyMap(depth[sort], pixel[sort], np.full(5, 0.2))
    moc = MOC.from_healpix_cells(pixel.astype(np.uint64), depth.astype(np.uint8), max_depth=5).degrade_to_order(order)
    expected = set(moc.add_neighbours().flatten().tolist())
    assert region_pixels(skymap, 1.0, order) == expected
    whole, part = tmp_path / "whole", tmp_path / "part"
    write_reference_catalogue(whole, galaxies(sky[0][-500:], sky[1][-500:]), name="whole", order=order)
    held = catalogue_partitions(whole)[order]
    copied = prefetch_catalogue(whole, part, skymap, 1.0)
    assert (copied.n_partitions, copied.n_copied) == (len(expected & held),) * 2
    assert copied.n_missing == len(expected - held)
    assert copied.size_mb == pytest.approx(sum(p.stat().st_size for p in part.rglob("Npix*")) / 1e6)
    assert catalogue_partitions(part) == {order: frozenset(expected & held)}
    assert read_properties(part)["obs_collection"] == "whole"
    mixed = tmp_path / "mixed"
    finish_catalogue(mixed, "m", 6, {1: 1}, REFERENCE_GALAXIES)
    with pytest.raises(InputError, match="too small"):
        prefetch_catalogue(mixed, part, skymap, 1.0)
    (mixed / "partition_info.csv").write_text("Norder,Npix\n3,5\n1,47\n\n")
    with pytest.raises(InputError, match="mixed HEALPix orders"):
        prefetch_catalogue(mixed, part, skymap, 1.0)
