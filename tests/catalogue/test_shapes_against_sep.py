"""Isophotal moments against sep on galaxies drawn by galsim, windowed centroids against sep and the drawn places."""

import galsim
import numpy as np
import pytest
import sep
from drawn import as_image, draw, one_source

from imaging.catalogue.detect import Detections
from imaging.catalogue.shapes import core_widths, isophotal_shapes, windowed_centroids

SHAPE = (101, 111)
FWHM_TO_SIGMA = 0.42466


def field(seed=3, shape=(300, 320)):
    """Return galaxies and stars on a loose grid, with unit noise, and their places."""
    random = np.random.default_rng(seed)
    sources = []
    for row in range(5):
        for column in range(5):
            x, y = 35 + 60 * column + random.uniform(-8, 8), 32 + 58 * row + random.uniform(-8, 8)
            size, flux = random.uniform(1.5, 4.0), 10 ** random.uniform(3.3, 5)
            kind = galsim.Exponential if column % 2 else galsim.Gaussian
            profile = kind(half_light_radius=size, flux=flux)
            g, angle = random.uniform(0, 0.5), random.uniform(0, 180) * galsim.degrees
            sources.append((profile.shear(g=g, beta=angle), x, y))
    return draw(shape, sources) + random.standard_normal(shape), sources


def test_isophotal_moments_are_those_of_sep():
    science = np.ascontiguousarray(field()[0], dtype=np.float32)
    found, labels = sep.extract(
        science, 3.0, minarea=5, filter_kernel=None, deblend_cont=1.0, clean=False, segmentation_map=True
    )
    detections = Detections(found["xpeak"] + 0.0, found["ypeak"] + 0.0, np.zeros(len(found), bool), labels)
    shapes = isophotal_shapes(as_image(science), detections)
    assert len(found) >= 25
    for ours, theirs in (("x", "x"), ("y", "y"), ("a", "a"), ("b", "b"), ("flux", "flux"), ("peak", "peak")):
        assert getattr(shapes, ours) == pytest.approx(found[theirs], rel=1e-4), ours
    assert np.array_equal(shapes.area, found["tnpix"])
    turn = np.radians(shapes.theta_deg) - found["theta"]
    long = found["a"] > 1.05 * found["b"]
    assert long.sum() > 15
    assert np.abs(np.sin(turn[long])).max() < 1e-3


def test_the_axes_of_a_sheared_gaussian_are_the_drawn_ones():
    """A shear g stretches by (1 + g)/(1 - g); sampling does not change the second moments of a Gaussian."""
    g, sigma, angle = 0.25, 3.0, -35.0
    profile = galsim.Gaussian(sigma=sigma, flux=1e5).shear(g=g, beta=angle * galsim.degrees)
    image = as_image(draw(SHAPE, [(profile, 54.3, 49.6)]))
    shapes = isophotal_shapes(image, one_source(SHAPE, 54.0, 50.0))
    stretch = np.sqrt((1 + g) / (1 - g))
    assert (shapes.a[0], shapes.b[0]) == pytest.approx((sigma * stretch, sigma / stretch), rel=1e-3)
    assert shapes.theta_deg[0] == pytest.approx(angle, abs=0.01)


def test_pixels_below_zero_count_in_the_flux_and_not_in_the_moments():
    random = np.random.default_rng(5)
    science = random.normal(2.0, 5.0, SHAPE).astype(np.float32)
    labels = np.zeros(SHAPE, np.int32)
    labels[20:41, 30:61] = 1
    labels[60:64, 70:90] = 2
    found = Detections(np.array([40.0, 80.0]), np.array([30.0, 61.0]), np.zeros(2, bool), labels)
    shapes = isophotal_shapes(as_image(science), found)
    for k in (0, 1):
        y, x = np.nonzero(labels == k + 1)
        value = science[y, x].astype(float)
        light = np.clip(value, 0.0, None)
        mean = np.average(np.stack([x, y]), axis=1, weights=light)
        moments = np.cov(np.stack([x, y]), aweights=light, ddof=0)
        low, high = np.linalg.eigvalsh(moments)
        assert shapes.flux[k] == pytest.approx(value.sum(), rel=1e-5)
        assert shapes.peak[k] == value.max()
        assert shapes.area[k] == value.size
        assert (shapes.x[k], shapes.y[k]) == pytest.approx(tuple(mean), abs=1e-4)
        assert (shapes.a[k] ** 2, shapes.b[k] ** 2) == pytest.approx((high, low), rel=1e-4)


@pytest.mark.parametrize(("rows", "columns", "theta"), [(1, 9, 0.0), (9, 1, 90.0)])
def test_a_line_of_pixels_is_as_thick_as_a_pixel(rows, columns, theta):
    science = np.zeros(SHAPE)
    science[40 : 40 + rows, 50 : 50 + columns] = 7.0
    labels = (science > 0).astype(np.int32)
    found = Detections(np.array([50.0]), np.array([40.0]), np.zeros(1, bool), labels)
    shapes = isophotal_shapes(as_image(science), found)
    # The variance of nine pixels in a row is 80/12, that of a pixel itself 1/12.
    assert (shapes.a[0], shapes.b[0]) == pytest.approx((np.sqrt(81 / 12), np.sqrt(1 / 12)), rel=1e-6)
    assert abs(shapes.theta_deg[0]) == pytest.approx(theta, abs=1e-6)


def test_an_isophote_without_light_has_the_place_of_its_peak():
    shapes = isophotal_shapes(as_image(np.full(SHAPE, -1.0)), one_source(SHAPE, 33.0, 44.0))
    assert (shapes.x[0], shapes.y[0]) == (33.0, 44.0)
    assert shapes.a[0] == pytest.approx(np.sqrt(1 / 12))
    assert shapes.flux[0] == pytest.approx(-1.0 * SHAPE[0] * SHAPE[1])


def window(image, x, y, fwhm, **options):
    """Return the windowed centroid of one source that starts at a place."""
    found = one_source(image.shape, x, y)
    shapes = isophotal_shapes(image, found)
    shapes.x[:], shapes.y[:] = x, y
    return windowed_centroids(image, found, shapes, fwhm, **options)


@pytest.mark.parametrize("place", [(55.0, 50.0), (55.5, 50.5), (54.31, 50.83), (55.92, 49.27)])
@pytest.mark.parametrize(("fwhm", "tolerance"), [(3.0, 2e-4), (4.4, 4e-5)])
def test_the_centroid_of_a_star_is_where_galsim_drew_it(place, fwhm, tolerance):
    """Where the last step is below 2e-4 pixel, what is left is a tenth of that; 3 pixels are sampled coarsely."""
    star = galsim.Moffat(beta=3.0, fwhm=fwhm, flux=1e5)
    image = as_image(draw(SHAPE, [(star, *place)]))
    for dx, dy in ((1.3, -0.8), (-0.9, 1.1), (0.0, 0.4)):
        found = window(image, place[0] + dx, place[1] + dy, fwhm)
        assert found.converged[0]
        assert (found.x[0], found.y[0]) == pytest.approx(place, abs=tolerance)
    x, y, flag = sep.winpos(image.science, [place[0] + 0.5], [place[1]], [fwhm * FWHM_TO_SIGMA])
    assert flag[0] == 0
    # sep divides the pixels, as if their light were even.
    assert (found.x[0], found.y[0]) == pytest.approx((x[0], y[0]), abs=2e-3)


def test_centroids_on_noise_follow_those_of_sep():
    science, sources = field()
    image = as_image(science)
    x, y = np.array([s[1] for s in sources]), np.array([s[2] for s in sources])
    labels = np.zeros(image.shape, np.int32)
    found = Detections(x, y, np.zeros(x.size, bool), labels)
    shapes = isophotal_shapes(image, found)
    centroids = windowed_centroids(image, found, shapes, 5.0)
    theirs = sep.winpos(image.science, x, y, np.full(x.size, 5.0 * FWHM_TO_SIGMA))
    assert centroids.converged.mean() > 0.9
    good = centroids.converged & (theirs[2] == 0)
    # The two windows differ by their rims only, which hold less than a tenth of the noise.
    assert np.abs((centroids.x - theirs[0]) / centroids.x_error)[good].max() < 0.15
    assert np.abs((centroids.y - theirs[1]) / centroids.y_error)[good].max() < 0.15


def test_a_centroid_is_moved_until_a_step_is_shorter_than_two_parts_in_ten_thousand():
    """A source wider than the window comes closer by half at each step: every step more can be seen."""
    image = as_image(draw(SHAPE, [(galsim.Gaussian(sigma=2.6, flux=1e5), 55.0, 50.0)]))
    j, i = np.indices(SHAPE)
    near_the_limit = 0
    for start in np.linspace(0.3, 1.3, 15):
        place, step = np.array([55.0 + start, 50.0]), np.ones(2)
        while np.hypot(*step) >= 2e-4:
            offset = np.stack([i - place[0], j - place[1]])
            light = image.science * np.exp(-0.5 * (offset**2).sum(axis=0) / (4.4 * FWHM_TO_SIGMA) ** 2)
            box = np.abs(np.stack([i, j]) - np.rint(place)[:, None, None]).max(axis=0) <= 8  # 4 sigma of the window
            step = 2.0 * (offset * light * box).sum(axis=(1, 2)) / (light * box).sum()
            place += step
            near_the_limit += 2e-4 < np.hypot(*step) < 3e-4
        found = window(image, 55.0 + start, 50.0, 4.4)
        assert found.converged[0]
        assert (found.x[0], found.y[0]) == pytest.approx(tuple(place), abs=1e-6)
    assert near_the_limit >= 3


def test_an_even_pedestal_does_not_move_a_centroid():
    """The window is as long on either side of a source: a missing row would move it by 4e-4 pixel on this pedestal."""
    science = draw(SHAPE, [(galsim.Moffat(beta=3.0, fwhm=4.0, flux=1e5), 55.0, 50.0)])
    found = window(as_image(science + science.max()), 55.0, 50.0, 4.0)
    assert found.converged[0]
    assert (found.x[0], found.y[0]) == pytest.approx((55.0, 50.0), abs=2e-5)


@pytest.mark.parametrize(("sigma", "flux"), [(200.0, 1e4), (0.01, 4e4)])
def test_errors_are_those_of_the_windowed_noise(sigma, flux):
    """A unit Gaussian window passes the sky with variance pi s^4 / 2; photons are summed over the drawn star."""
    fwhm = 4.4
    s = fwhm * FWHM_TO_SIGMA
    light = draw(SHAPE, [(galsim.Moffat(beta=3.0, fwhm=fwhm, flux=flux), 55.0, 50.0)])
    j, i = np.indices(SHAPE)
    r2 = (i - 55) ** 2 + (j - 50) ** 2
    weighted = np.exp(-0.5 * r2 / s**2) * light
    slope = np.sum(weighted * (1 - (i - 55) ** 2 / s**2)) / weighted.sum()
    photons = np.sum(np.exp(-r2 / s**2) * light * (i - 55) ** 2)
    expected = np.sqrt(sigma**2 * np.pi * s**4 / 2 + photons) / (slope * weighted.sum())
    found = window(as_image(light, sigma), 55.0, 50.0, fwhm)
    assert (found.x_error[0], found.y_error[0]) == pytest.approx((expected, expected), rel=0.01)


def test_the_errors_of_a_repaired_source_take_the_weight_of_the_opposite_pixel():
    light = draw(SHAPE, [(galsim.Gaussian(sigma=2.0, flux=1e5), 55.0, 50.0)])
    whole = as_image(light, sigma=100.0)
    masked = as_image(light, sigma=100.0)
    masked.science[:, 57:60] = 1e6
    masked.weight[:, 57:60] = 0.0
    before, after = window(whole, 55.2, 50.1, 4.7), window(masked, 55.2, 50.1, 4.7)
    assert after.converged[0]
    assert (after.x[0], after.y[0]) == pytest.approx((55.0, 50.0), abs=1e-3)
    assert after.x_error[0] == pytest.approx(before.x_error[0], rel=0.01)


@pytest.mark.parametrize(("start", "converged"), [(2.7, True), (3.3, False)])
def test_a_centroid_farther_than_three_pixels_is_not_believed(start, converged):
    image = as_image(draw(SHAPE, [(galsim.Gaussian(sigma=3.0, flux=1e5), 55.0, 50.0)]))
    for dx, dy in ((start, 0.0), (0.0, -start)):
        found = window(image, 55.0 + dx, 50.0 + dy, 7.0)
        assert bool(found.converged[0]) is converged
        expected = (55.0, 50.0) if converged else (55.0 + dx, 50.0 + dy)
        assert (found.x[0], found.y[0]) == pytest.approx(expected, abs=1e-3)


def test_a_hole_in_the_image_keeps_its_starting_place_and_a_wide_error():
    found = window(as_image(np.full(SHAPE, -5.0)), 40.2, 41.7, 4.0)
    assert not found.converged[0]
    assert (found.x[0], found.y[0]) == (40.2, 41.7)
    assert (found.x_error[0], found.y_error[0]) == pytest.approx((4.0 * FWHM_TO_SIGMA,) * 2, rel=1e-4)


@pytest.mark.parametrize("fwhm", [3.2, 5.0, 7.0])
def test_the_core_width_of_a_moffat_profile_is_that_of_galsim(fwhm):
    star = galsim.Moffat(beta=3.0, fwhm=fwhm, flux=1e5)
    science = draw(SHAPE, [(star, 55.0, 50.0)]).astype(np.float32)
    place = np.array([55.0]), np.array([50.0])
    width = core_widths(science, np.ones_like(science), *place, np.array([float(science.max())]), 12)
    assert width[0] == pytest.approx(fwhm, rel=1e-3)


def test_a_single_bright_pixel_has_no_core_width():
    science = np.zeros(SHAPE, np.float32)
    science[50, 55] = 1000.0
    width = core_widths(science, np.ones_like(science), np.array([55.0]), np.array([50.0]), np.array([1000.0]), 12)
    assert np.isnan(width[0])
