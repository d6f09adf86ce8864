"""The simulated sky map, read and judged by ligo.skymap, mocpy and astropy_healpix."""

import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astropy_healpix import HEALPix, nside_to_pixel_area, uniq_to_level_ipix
from mocpy import MOC

from imaging.simulation.skymap import make_skymap, write_skymap_file

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="_add_newdoc_ufunc", category=DeprecationWarning)
    from ligo.skymap.bayestar import rasterize
    from ligo.skymap.distance import conditional_pdf, parameters_to_marginal_moments, parameters_to_moments
    from ligo.skymap.io import read_sky_map
    from ligo.skymap.postprocess import find_greedy_credible_levels

SOURCE, DISTANCE = (190.5, -10.0), 165.0


@pytest.fixture(scope="module")
def skymap():
    return make_skymap(3, *SOURCE, DISTANCE)


@pytest.fixture(scope="module")
def path(skymap, tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "map.multiorder.fits"
    write_skymap_file(path, skymap, "MS240510a", 60440.4)
    return path


@pytest.fixture(scope="module")
def read(path):
    return read_sky_map(str(path), moc=True)


def levels_of(skymap):
    return uniq_to_level_ipix(skymap.uniq)


def test_pixels_cover_the_sky_once_in_the_orders_of_bayestar(skymap):
    level, pixel = levels_of(skymap)
    assert level.min() == 4
    assert 10 <= level.max() <= 11
    # each of seven rounds makes 768 pixels into 3072
    assert len(level) == 3072 + 7 * 3 * 768
    start, end = pixel << (2 * (11 - level)), (pixel + 1) << (2 * (11 - level))
    order = np.argsort(start)
    assert start[order][0] == 0
    assert end[order][-1] == 12 * 4**11
    np.testing.assert_array_equal(start[order][1:], end[order][:-1])
    area = nside_to_pixel_area(2**level).to_value(u.sr)
    np.testing.assert_allclose(skymap.pixel_steradian, area, rtol=1e-12)
    assert (skymap.density * area).sum() == pytest.approx(1.0, abs=1e-12)


def test_the_likeliest_pixels_are_the_smallest(skymap):
    level, _ = levels_of(skymap)
    density = [np.median(skymap.density[level == k]) for k in np.unique(level)]
    assert (np.diff(density[1:]) > 0).all()  # far away there is a floor
    assert density[0] <= density[1] < 1e-8 * density[-1]
    per_pixel = skymap.density * skymap.pixel_steradian
    assert per_pixel.max() < 2e-3


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_the_areas_are_those_of_a_gaussian_of_2_6_by_4_8_degrees(seed):
    made = make_skymap(seed, *SOURCE, DISTANCE)
    level, _ = levels_of(made)
    area = nside_to_pixel_area(2**level).to_value(u.deg**2)
    order = np.argsort(-made.density)
    probability = np.cumsum((made.density * made.pixel_steradian)[order])
    for credible in (0.5, 0.9):
        exact = -2 * np.log(1.0 - credible) * np.pi * 2.6 * 4.8
        # the bend keeps areas in the plane; the projection stretches them by 1/cos^3 of some 10 degrees
        assert np.interp(credible, probability, np.cumsum(area[order])) == pytest.approx(exact, rel=0.03)
        moc = MOC.from_valued_healpix_cells(
            made.uniq, made.density * made.pixel_steradian, max_depth=11, cumul_to=credible
        )
        assert moc.sky_fraction * 41252.96 == pytest.approx(exact, rel=0.04)


def test_the_ellipse_has_its_axes(skymap):
    """Second moments on the tangent plane of the peak, against sigmas of 2.6 and 4.8 degrees."""
    level, pixel = levels_of(skymap)
    ra, dec = np.empty(len(level)), np.empty(len(level))
    for k in np.unique(level):
        lon, lat = HEALPix(2 ** int(k), order="nested").healpix_to_lonlat(pixel[level == k])
        ra[level == k], dec[level == k] = lon.deg, lat.deg
    places = SkyCoord(ra, dec, unit="deg")
    peak = places[np.argmax(skymap.density)]
    offset = places.transform_to(peak.skyoffset_frame())
    weight = skymap.density * skymap.pixel_steradian * (peak.separation(places).deg < 25.0)
    x, y = offset.lon.wrap_at(180 * u.deg).deg, offset.lat.deg
    covariance = np.cov(np.stack([x, y]), aweights=weight)
    small, large = np.sqrt(np.linalg.eigvalsh(covariance))
    bend = 0.02 * np.sqrt(2.0) * 4.8**2  # rms of 0.02 times the square along the ellipse
    assert large == pytest.approx(4.8, rel=0.03)
    assert small == pytest.approx(np.hypot(2.6, bend), rel=0.03)
    assert peak.separation(SkyCoord(*SOURCE, unit="deg")).deg < 3 * 0.6 * 4.8


def test_ligo_skymap_reads_the_file_as_one_of_its_own(read, skymap):
    assert read.meta["objid"] == "MS240510a"
    assert Time(read.meta["gps_time"], format="gps").utc.mjd == pytest.approx(60440.4, abs=1e-6)
    assert read.meta["instruments"] == {"H1", "L1", "V1"}
    np.testing.assert_array_equal(read["UNIQ"], skymap.uniq)
    np.testing.assert_array_equal(read["PROBDENSITY"], skymap.density)
    flat = rasterize(read, order=7)
    assert flat["PROB"].sum() == pytest.approx(1.0, abs=1e-9)


def test_the_header_is_that_of_a_multi_order_map(path):
    header = fits.getheader(path, 1)
    expected = {"ORDERING": "NUNIQ", "COORDSYS": "C", "INDXSCHM": "EXPLICIT", "MOCORDER": 11, "MOC": True}
    assert {name: header[name] for name in expected} == expected
    assert Time(header["DATE-OBS"]).mjd == pytest.approx(60440.4, abs=1e-9)
    assert (Time(header["DATE"]) - Time(header["DATE-OBS"])).to_value(u.min) == pytest.approx(5.0, abs=1e-6)
    units = {name: str(column.unit).replace(" ", "") for name, column in Table.read(path).items()}
    assert units["PROBDENSITY"] == "1/sr"
    assert units["DISTMU"] == units["DISTSIGMA"] == "Mpc"
    assert units["DISTNORM"] == "1/Mpc2"


def test_distances_have_the_moments_that_ligo_skymap_finds(read, skymap, path):
    mean, spread, norm = parameters_to_moments(skymap.distmu, skymap.distsigma)
    # the tail below zero distance, at 4.5 sigma, is left out of the normalisation
    np.testing.assert_allclose(skymap.distnorm, 1.0 / (skymap.distmu**2 + skymap.distsigma**2), rtol=1e-12)
    np.testing.assert_allclose(norm, skymap.distnorm, rtol=1e-4)
    weight = skymap.density * skymap.pixel_steradian
    total, total_spread = parameters_to_marginal_moments(weight, skymap.distmu, skymap.distsigma)
    header = fits.getheader(path, 1)
    assert header["DISTMEAN"] == pytest.approx(total, rel=1e-4)
    assert header["DISTSTD"] == pytest.approx(total_spread, rel=1e-3)
    assert (spread / mean).min() > 0.18
    assert read.meta["distmean"] == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_the_source_lies_at_the_distance_of_the_map_within_its_error(seed):
    made = make_skymap(seed, *SOURCE, DISTANCE)
    level, pixel = levels_of(made)
    here = HEALPix(2**11, order="nested").lonlat_to_healpix(*(SOURCE * u.deg))
    at = np.flatnonzero(here >> (2 * (11 - level)) == pixel)
    assert len(at) == 1
    mean, spread, _ = (float(v[0]) for v in parameters_to_moments(made.distmu[at], made.distsigma[at]))
    # the map's mean is at most 0.7 of 22 per cent off; the density of a pixel's centre changes by 15 % over 45 degrees
    assert abs(mean / DISTANCE - 1.0) < 0.7 * 0.22 + 0.01
    assert abs(mean - DISTANCE) < spread
    r = np.linspace(0.0, 700.0, 7001)
    density = conditional_pdf(r, made.distmu[at], made.distsigma[at], made.distnorm[at])
    assert np.trapezoid(density, r) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_the_source_lies_within_the_90_per_cent_region_of_ligo_skymap(seed):
    made = make_skymap(seed, *SOURCE, DISTANCE)
    level, pixel = levels_of(made)
    credible = find_greedy_credible_levels(made.density * made.pixel_steradian, made.density)
    here = HEALPix(2**11, order="nested").lonlat_to_healpix(*(SOURCE * u.deg))
    assert credible[here >> (2 * (11 - level)) == pixel][0] < 0.95


def test_the_seed_alone_decides_on_the_map(skymap, path, tmp_path):
    again = make_skymap(3, *SOURCE, DISTANCE)
    np.testing.assert_array_equal(again.uniq, skymap.uniq)
    np.testing.assert_array_equal(again.density, skymap.density)
    assert not np.array_equal(make_skymap(4, *SOURCE, DISTANCE).uniq, skymap.uniq)
    write_skymap_file(tmp_path / "again.fits", again, "MS240510a", 60440.4)
    assert (tmp_path / "again.fits").read_bytes() == path.read_bytes()
    assert len(Table.read(path)) == len(skymap.uniq)
