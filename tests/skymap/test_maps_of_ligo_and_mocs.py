"""Sky maps against ligo.skymap and mocpy: credible levels, areas, distances, searched area and probability."""

import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import ICRS, SkyCoord
from astropy.table import QTable
from astropy_healpix import HEALPix
from mocpy import MOC

from imaging.errors import InputError
from imaging.skymap.build import gaussian_skymap, skymap_from_flat, skymap_from_multiorder
from imaging.skymap.coverage import at_least, search_coverage
from imaging.skymap.distance import conditional_distance, distance_density
from imaging.skymap.footprints import Footprints, count_exposures, covering
from imaging.skymap.model import WHOLE_SKY_DEG2
from imaging.skymap.settings import CoverageSettings
from imaging.wcs.tpv import plane_to_sky

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from ligo.skymap import distance as ligo_distance
    from ligo.skymap import moc as ligo_moc
    from ligo.skymap.postprocess import crossmatch


@pytest.fixture(scope="module")
def table():
    """Return a map of mixed orders, finer where it is denser, with a distance in every pixel."""
    rng = np.random.default_rng(21)
    order = np.concatenate([np.full(40, 1), np.full(31, 3), np.full(128, 4), np.full(256, 5)]).astype(np.int64)
    pixel = np.concatenate(
        [np.arange(8, 48), np.arange(1, 32), np.arange(512, 640), np.arange(1024 * 8, 1024 * 8 + 256)]
    )
    pixel[71:199] = np.arange(4 * 32, 4 * 64)
    pixel[199:] = np.arange(16 * 64, 16 * 80)
    density = rng.uniform(0.5, 1.0, order.size) * 10.0**order
    uniq = pixel + (4 << (2 * order))
    density /= np.sum(density * ligo_moc.uniq2pixarea(uniq))
    mean, sigma = rng.uniform(60, 200, order.size), rng.uniform(5, 25, order.size)
    mu, scale, norm = ligo_distance.moments_to_parameters(mean, sigma)
    found = QTable({"UNIQ": uniq, "PROBDENSITY": density / u.sr, "DISTMU": mu * u.Mpc})
    found["DISTSIGMA"], found["DISTNORM"] = scale * u.Mpc, norm / u.Mpc**2
    return found[rng.permutation(order.size)]


@pytest.fixture(scope="module")
def skymap(table):
    distance = {"mu_mpc": table["DISTMU"].value, "sigma_mpc": table["DISTSIGMA"].value, "norm": table["DISTNORM"].value}
    return skymap_from_multiorder(table["UNIQ"], table["PROBDENSITY"].value, distance=distance)


def places(n=400):
    rng = np.random.default_rng(22)
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def test_levels_densities_and_areas_are_those_of_the_crossmatch(table, skymap):
    ra, dec = places()
    levels = np.array([0.1, 0.5, 0.9])
    judged = crossmatch(table, SkyCoord(ra, dec, unit="deg"), contours=levels)
    inside = skymap.find(ra, dec) >= 0
    assert 300 < inside.sum() < 400 and np.all(skymap.credible_level_at(ra[~inside], dec[~inside]) == 1.0)
    assert skymap.credible_level_at(ra[inside], dec[inside]) == pytest.approx(judged.searched_prob[inside], abs=1e-9)
    density = judged.probdensity[inside] * np.radians(1.0) ** 2
    assert skymap.probability_density(ra[inside], dec[inside]) == pytest.approx(density, rel=1e-9)
    for level, area in zip(levels, judged.contour_areas, strict=True):
        assert skymap.area_at_level_deg2(level) == pytest.approx(area, rel=1e-6)
        region = skymap.region(level)
        smallest = skymap.probability[region][np.argmin(skymap.density_per_deg2[region])]
        assert level <= skymap.probability[region].sum() < level + smallest + 1e-12
    assert skymap.area_deg2.sum() == pytest.approx(_covered(skymap), rel=1e-12)


def _covered(skymap):
    """Return the area of the MOC of a map's pixels."""
    moc = MOC.from_healpix_cells(skymap.pixel.astype(np.uint64), skymap.order.astype(np.uint8), max_depth=5)
    return WHOLE_SKY_DEG2 * moc.sky_fraction


def test_distances_along_a_line_of_sight_are_those_of_ligo(table, skymap):
    ra, dec = (values[skymap.find(*places()) >= 0][:60] for values in places())
    index = skymap.find(ra, dec)
    mu, scale, norm = (getattr(skymap.distance, name)[index] for name in ("mu_mpc", "sigma_mpc", "norm"))
    mean, sigma, unit = ligo_distance.parameters_to_moments(mu, scale)
    found = conditional_distance(skymap, ra, dec)
    assert found[0] == pytest.approx(mean, rel=1e-6) and found[1] == pytest.approx(sigma, rel=1e-5)
    assert norm == pytest.approx(unit, rel=1e-6)
    for r in (1.0, 60.0, 150.0):
        assert distance_density(skymap, ra, dec, np.full(60, r)) == pytest.approx(
            ligo_distance.conditional_pdf(r, mu, scale, norm), rel=1e-9
        )


def test_the_stated_distance_of_a_gaussian_map_is_that_of_its_parameters():
    skymap = gaussian_skymap(30.0, 60.0, 2.0, distance_mpc=150.0, distance_sigma_mpc=40.0, order=5)
    mean, sigma, norm = ligo_distance.parameters_to_moments(150.0, 40.0)
    assert (skymap.distance_mean_mpc, skymap.distance_sigma_mpc) == pytest.approx((mean, sigma), rel=1e-6)
    assert skymap.distance.norm == pytest.approx(norm, rel=1e-6)


def boxes(places_deg, half_deg):
    x, y = np.array([-1.0, 1.0, 1.0, -1.0]) * half_deg, np.array([-1.0, -1.0, 1.0, 1.0]) * half_deg
    corners = np.array([np.stack(plane_to_sky(x, y, *place), axis=-1) for place in places_deg])
    n = np.arange(len(corners))
    return Footprints(n // 2, n + 1, np.full(n.size, "g"), np.full(n.size, 6e4), corners, np.full(n.size, 23.0))


def test_the_searched_area_and_probability_are_those_of_polygons_of_mocpy():
    skymap = gaussian_skymap(0.3, -30.0, 1.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=8)
    footprints = boxes([(0.2, -30.0), (0.9, -29.6), (359.5, -30.2), (0.4, -30.1)], 0.35)
    coverage = search_coverage(skymap, footprints, CoverageSettings())
    mocs = [MOC.from_polygon(*(a * u.deg for a in c.T), max_depth=13) for c in footprints.corners]
    union = mocs[0].union(*mocs[1:])
    # A polygon's MOC holds every cell of 0.43 arcmin that it touches: half a cell too much along its border.
    border = 0.5 * 3.0 * 4 * 0.7 * np.sqrt(WHOLE_SKY_DEG2 / (12 * 4**13))
    area = union.sky_fraction * WHOLE_SKY_DEG2
    assert area - 2 * border < coverage.area_searched_deg2 < area
    assert len(coverage.probability) == len(np.unique(coverage.pixel))
    contained = [moc.contains_lonlat(coverage.ra_deg * u.deg, coverage.dec_deg * u.deg) for moc in mocs]
    pairs = np.zeros((4, len(coverage.pixel)), dtype=bool)
    pairs[coverage.pair_footprint, coverage.pair_pixel] = True
    assert not np.any(pairs & ~np.array(contained)) and np.mean(pairs == np.array(contained)) > 0.995
    cells = HEALPix(2**13, order="nested", frame=ICRS()).healpix_to_skycoord(union.flatten().astype(np.int64))
    separation = cells.separation(SkyCoord(0.3, -30.0, unit="deg")).deg
    probability = np.sum(np.exp(-0.5 * separation**2)) / (2 * np.pi) * WHOLE_SKY_DEG2 / (12 * 4**13)
    assert probability - 2 * border / (2 * np.pi) < coverage.probability_searched < probability


def test_positions_lie_in_the_footprints_that_hold_them_in_mocpy():
    footprints = boxes([(10.0, 88.5), (190.0, 88.5), (100.0, 89.9), (0.0, 87.0)], 0.8)
    rng = np.random.default_rng(4)
    ra, dec = rng.uniform(0, 360, 3000), rng.uniform(86.0, 90.0, 3000)
    mocs = [MOC.from_polygon(*(a * u.deg for a in c.T), max_depth=14) for c in footprints.corners]
    judged = np.array([moc.contains_lonlat(ra * u.deg, dec * u.deg) for moc in mocs])
    footprint, position = covering(footprints, ra, dec)
    found = np.zeros(judged.shape, dtype=bool)
    found[footprint, position] = True
    assert np.argwhere(found != judged).shape[0] <= 6 and found.sum() > 400  # points within 13 arcsec of a border
    exposures = (found[:2].any(axis=0)).astype(int) + found[2:].any(axis=0)
    assert np.array_equal(count_exposures(footprints, ra, dec), exposures)


@pytest.mark.parametrize("required", [1, 2, 3, 4])
def test_the_chance_of_enough_detections_is_the_sum_over_all_outcomes(required):
    rng = np.random.default_rng(required)
    group, chance = rng.integers(0, 4, 14), rng.uniform(0.05, 0.95, 14)
    expected = np.zeros(5)
    for number in range(4):
        p = chance[group == number]
        for outcome in range(1 << p.size):
            hits = np.array([(outcome >> k) & 1 for k in range(p.size)], dtype=bool)
            expected[number] += (hits.sum() >= required) * np.prod(np.where(hits, p, 1 - p))
    assert at_least(required, group, chance, 5) == pytest.approx(expected, abs=1e-12)


def test_numbers_of_pixels_are_checked_to_the_last_one():
    flat = skymap_from_flat([0.5, 0.5], nested=False, index=[0, 767], nside=8)
    assert flat.pixel.tolist() == [63, 704] and flat.area_at_level_deg2(1.0) == pytest.approx(2 * WHOLE_SKY_DEG2 / 768)
    with pytest.raises(InputError, match="out of range"):
        skymap_from_flat([0.5, 0.5], nested=True, index=[0, 768], nside=8)
