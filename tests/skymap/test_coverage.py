from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from imaging.simulation.candidate_night import footprints_of, join_footprints
from imaging.skymap.build import gaussian_skymap
from imaging.skymap.coverage import at_least, search_coverage
from imaging.skymap.footprints import Footprints, count_exposures, covering
from imaging.skymap.settings import CoverageSettings
from imaging.wcs.tpv import plane_to_sky

CCD_AREA_DEG2 = 2048 * 4096 * (0.263 / 3600) ** 2


def box(ra, dec, half_deg, *, expnum=1, band="g", m50=23.0, backwards=False):
    x = np.array([-1.0, 1.0, 1.0, -1.0]) * half_deg
    y = np.array([-1.0, -1.0, 1.0, 1.0]) * half_deg
    corners = np.stack(plane_to_sky(x, y, ra, dec), axis=-1)[None]
    corners = corners[:, ::-1] if backwards else corners
    return Footprints(np.array([expnum]), np.array([1]), np.array([band]), np.array([6e4]), corners, np.array([m50]))


@pytest.mark.parametrize(("ra", "dec"), [(120.0, 10.0), (0.05, -40.0), (200.0, 89.7), (77.0, -89.9)])
@pytest.mark.parametrize("backwards", [False, True])
def test_positions_inside_and_outside_anywhere_on_the_sphere(ra, dec, backwards):
    footprint = box(ra, dec, 0.5, backwards=backwards)
    x, y = np.array([0.0, 0.49, -0.49, 0.51, 0.0, -0.6]), np.array([0.0, 0.49, 0.0, 0.0, -0.51, 0.2])
    _, position = covering(footprint, *plane_to_sky(x, y, ra, dec))
    assert position.tolist() == [0, 1, 2]


def test_the_searched_area_is_that_of_the_ccds():
    skymap = gaussian_skymap(60.0, -30.0, 3.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=7)
    coverage = search_coverage(skymap, footprints_of(1, "g", 6e4, 60.0, -30.0, 23.0), CoverageSettings())
    assert coverage.area_searched_deg2 == pytest.approx(62 * CCD_AREA_DEG2, rel=0.005)


def test_the_searched_probability_is_that_of_the_formula():
    skymap = gaussian_skymap(60.0, -30.0, 1.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=9)
    coverage = search_coverage(skymap, box(60.0, -30.0, 1.0), CoverageSettings())
    assert coverage.probability_searched == pytest.approx(0.6827**2, rel=0.005)


def test_overlapping_exposures_count_the_sky_once():
    skymap = gaussian_skymap(60.0, -30.0, 1.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=7)
    one = search_coverage(skymap, box(60.0, -30.0, 0.3), CoverageSettings())
    both = join_footprints([box(60.0, -30.0, 0.3), box(60.0, -30.0, 0.3, expnum=2, band="i", m50=22.0)])
    two = search_coverage(skymap, both, CoverageSettings())
    assert two.probability_searched == one.probability_searched
    assert np.nanmax(two.depth_mag("g")) == 23.0
    assert np.isnan(one.depth_mag("i")).all()


def test_half_of_the_sources_at_m50_are_found():
    skymap = gaussian_skymap(60.0, -30.0, 0.2, distance_mpc=100.0, distance_sigma_mpc=1.0, order=9)
    settings = CoverageSettings(efficiency_plateau=1.0)
    coverage = search_coverage(skymap, box(60.0, -30.0, 1.2), settings)
    assert coverage.probability_found({"g": 23.0}) == pytest.approx(0.5, abs=0.01)
    assert coverage.probability_found({"g": 20.0}) == pytest.approx(1.0, abs=0.01)
    assert coverage.probability_found({"g": 26.0}) < 0.01
    assert coverage.probability_found({"r": 18.0}) == 0.0
    mean = np.nanmedian(coverage.distance_mpc)
    absolute = 23.0 - 5 * np.log10(mean) - 25
    assert coverage.probability_found_absolute({"g": absolute}) == pytest.approx(0.5, abs=0.03)


def test_two_exposures_find_more_and_twice_is_harder():
    skymap = gaussian_skymap(60.0, -30.0, 0.2, distance_mpc=100.0, distance_sigma_mpc=1.0, order=9)
    both = join_footprints([box(60.0, -30.0, 1.2), box(60.0, -30.0, 1.2, expnum=2, band="i", m50=22.0)])
    magnitudes = {"g": 23.0, "i": 22.0}
    for required, expected in ((1, 0.75), (2, 0.25)):
        settings = CoverageSettings(efficiency_plateau=1.0, detections_required=required)
        assert search_coverage(skymap, both, settings).probability_found(magnitudes) == pytest.approx(
            expected, abs=0.01
        )


def test_at_least_follows_the_binomial():
    chance = at_least(2, np.array([0, 0, 0, 1]), np.array([0.3, 0.3, 0.3, 0.9]), 3)
    np.testing.assert_allclose(chance, [3 * 0.09 * 0.7 + 0.027, 0.0, 0.0], atol=1e-12)


def test_exposures_are_counted_not_ccds():
    both = join_footprints([box(60.0, -30.0, 0.3), box(60.0, -30.0, 0.3), box(60.1, -30.0, 0.3, expnum=2)])
    assert count_exposures(both, [60.0, 59.75, 75.0], [-30.0, -30.0, -30.0]).tolist() == [2, 1, 0]


def test_nothing_observed_is_nothing_searched():
    skymap = gaussian_skymap(60.0, -30.0, 1.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=6)
    empty = box(0.0, 0.0, 0.1)
    empty = Footprints(*(getattr(empty, n)[:0] for n in ("expnum", "ccd", "band", "mjd", "corners", "m50_mag")))
    coverage = search_coverage(skymap, empty, CoverageSettings())
    assert coverage.probability_searched == 0.0
    assert coverage.probability_found({"g": 20.0}) == 0.0


def test_every_ccd_has_the_curve_of_its_own_fakes():
    skymap = gaussian_skymap(60.0, -30.0, 0.2, distance_mpc=100.0, distance_sigma_mpc=1.0, order=9)
    usual = box(60.0, -30.0, 1.2)
    own = replace(usual, width_mag=np.array([0.1]), efficiency_max=np.array([0.8]))
    unknown = replace(usual, width_mag=np.array([np.nan]), efficiency_max=np.array([np.nan]))
    settings = CoverageSettings()
    found = {
        name: [search_coverage(skymap, f, settings).probability_found({"g": m}) for m in (20.0, 22.9, 23.0, 23.1, 26.0)]
        for name, f in (("usual", usual), ("own", own), ("unknown", unknown))
    }
    assert found["own"] == pytest.approx([0.8, 0.8 * ndtr(1.0), 0.4, 0.8 * ndtr(-1.0), 0.0], abs=0.002)
    assert found["unknown"] == found["usual"]
    assert found["usual"][1] == pytest.approx(0.98 * ndtr(0.1 / 0.27), abs=0.002)


def test_the_depth_of_any_place_is_that_of_the_deepest_image_there():
    skymap = gaussian_skymap(60.0, -30.0, 1.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=7)
    both = join_footprints([box(60.0, -30.0, 0.5, m50=22.5), box(60.0, -30.0, 0.2, expnum=2, m50=23.5)])
    coverage = search_coverage(skymap, both, CoverageSettings())
    dec = np.array([-30.0, -30.4, -33.0, np.nan])
    assert coverage.depth_at(np.full(4, 60.0), dec, "g") == pytest.approx([23.5, 22.5, np.nan, np.nan], nan_ok=True)
    assert np.isnan(coverage.depth_at(np.array([60.0]), np.array([-30.0]), "i")).all()
    nothing = search_coverage(
        skymap,
        both.__class__(*(v[:0] for v in (both.expnum, both.ccd, both.band, both.mjd, both.corners, both.m50_mag))),
        CoverageSettings(),
    )
    assert np.isnan(nothing.depth_at(np.array([60.0]), np.array([-30.0]), "g")).all()
