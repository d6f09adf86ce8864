"""Circles, Kron ellipses and half-light radii against sep and photutils, which sum the pixels in their own ways."""

import galsim
import numpy as np
import pytest
import sep
from drawn import as_image, draw, one_source
from photutils.aperture import CircularAperture, EllipticalAperture
from scipy.optimize import brentq

from imaging.catalogue.apertures import aperture_photometry, circle_fluxes, covered_fraction
from imaging.catalogue.detect import Detections
from imaging.catalogue.settings import CatalogueSettings
from imaging.catalogue.shapes import Centroids, Shapes, isophotal_shapes
from imaging.schemas.catalogue import APERTURE_DIAMETERS_PIXELS

SETTINGS = CatalogueSettings()
RADII = np.array(APERTURE_DIAMETERS_PIXELS) / 2
SHAPE = (120, 130)
PLACES = np.array([[60.0, 60.0], [61.5, 58.5], [63.31, 55.87], [40.49, 70.51], [3.2, 50.0], [126.4, 117.8]])


def rough(seed=1, shape=SHAPE):
    """Return pixels that differ from one to the next, so that each one that is missed or counted twice shows."""
    return np.random.default_rng(seed).uniform(10.0, 1000.0, shape).astype(np.float32)


def shapes_of(a, b, theta_deg):
    """Return given second moments as shapes; what the apertures do not read is empty."""
    one = np.ones(1)
    return Shapes(0 * one, 0 * one, a * one, b * one, theta_deg * one, np.ones(1, int), one, one, np.zeros(1, np.int16))


def centred(x, y):
    return Centroids(np.array([x]), np.array([y]), np.ones(1), np.ones(1), np.array([True]))


def measure(image, x, y, a, b, theta_deg, found=None, settings=SETTINGS):
    found = one_source(image.shape, x, y) if found is None else found
    return aperture_photometry(image, found, shapes_of(a, b, theta_deg), centred(x, y), settings)


@pytest.mark.parametrize("radius_number", range(len(RADII)))
def test_circles_on_rough_pixels_are_those_of_sep(radius_number):
    science = rough()
    free = np.zeros(SHAPE, np.int32)
    flux, area = circle_fluxes(science, np.ones_like(science), free, PLACES[:, 0], PLACES[:, 1], RADII)
    theirs, _, _ = sep.sum_circle(science, PLACES[:, 0], PLACES[:, 1], RADII[radius_number], subpix=5)
    areas, _, _ = sep.sum_circle(np.ones_like(science), PLACES[:, 0], PLACES[:, 1], RADII[radius_number], subpix=5)
    assert flux[:, radius_number] == pytest.approx(theirs, rel=1e-5)
    assert area[:, radius_number] == pytest.approx(areas, rel=1e-6)


def test_circles_are_the_exact_ones_but_for_the_division_of_pixels():
    """A cut pixel's share is off by 0.05 rms where it is divided by 25; a circle cuts about 8 r pixels."""
    science = rough(2)
    inner = PLACES[:2]
    flux, area = circle_fluxes(
        science, np.ones_like(science), np.zeros(SHAPE, np.int32), inner[:, 0], inner[:, 1], RADII
    )
    for number, radius in enumerate(RADII[:11]):
        circle = CircularAperture(inner, radius)
        exact, _ = circle.do_photometry(science, method="exact")
        error = 0.05 * np.sqrt(8 * radius)
        assert np.abs(area[:, number] - np.pi * radius**2).max() < 4 * error
        assert np.abs(flux[:, number] - exact).max() < 4 * error * np.sqrt(np.mean(science.astype(float) ** 2))


def test_a_pixel_that_a_circle_cuts_in_halves_counts_half():
    assert covered_fraction(3.0, 0.0, 1.0, 0.0, 1.0, 2.4**2) == 0.0
    assert covered_fraction(3.0, 0.0, 1.0, 0.0, 1.0, 3.7**2) == 1.0
    assert covered_fraction(100.0, 0.0, 1.0, 0.0, 1.0, 99.95**2) == pytest.approx(0.4)
    assert covered_fraction(0.0, 100.0, 1.0, 0.0, 1.0, 100.05**2) == pytest.approx(0.6)
    # The ellipse is half as long in y: its border is at y = 50 and x = 100.
    assert covered_fraction(0.0, 50.0, 1.0, 0.0, 4.0, 100.0**2 - 1e-6) == pytest.approx(0.4, abs=0.01)


def test_errors_hold_the_sky_of_the_area_and_the_photons_of_the_source():
    science = rough(3)
    image = as_image(science, sigma=30.0)
    found = measure(image, 61.5, 58.5, 2.0, 1.5, 20.0)
    for number, radius in enumerate(RADII):
        _, error, _ = sep.sum_circle(science, [61.5], [58.5], radius, err=30.0, gain=1.0, subpix=5)
        assert found.flux_error[0, number] == pytest.approx(error[0], rel=1e-5)
    _, error, _ = sep.sum_ellipse(
        science, [61.5], [58.5], [2.0], [1.5], [np.radians(20)], found.kron_radius[0], err=30.0, gain=1.0, subpix=5
    )
    assert found.flux_auto_error[0] == pytest.approx(error[0], rel=1e-5)


def test_a_negative_flux_adds_no_photon_noise():
    found = measure(as_image(-rough(4), sigma=30.0), 60.0, 60.0, 2.0, 1.5, 20.0)
    area = np.pi * RADII[7] ** 2
    assert found.flux[0, 7] < -1e4
    assert found.flux_error[0, 7] == pytest.approx(30.0 * np.sqrt(area), rel=0.01)
    # No light, no first moment: the smallest radius that is allowed.
    assert found.kron_radius[0] == SETTINGS.minimum_kron_radius


@pytest.mark.parametrize(
    ("profile", "g1", "g2", "place"),
    [
        (galsim.Gaussian(sigma=3.0), 0.2, 0.1, (60.3, 58.8)),
        (galsim.Exponential(half_light_radius=4.0), 0.0, 0.3, (61.0, 60.5)),
        (galsim.Exponential(half_light_radius=3.0), -0.3, -0.2, (59.62, 61.17)),
        (galsim.Moffat(beta=2.2, fwhm=4.0), 0.05, 0.0, (60.9, 60.1)),
    ],
)
def test_kron_ellipses_and_half_light_radii_are_those_of_sep(profile, g1, g2, place):
    science = draw((151, 151), [(profile.withFlux(2e5).shear(g1=g1, g2=g2), *place)]).astype(np.float32)
    image = as_image(science)
    # The isophote at a hundredth of the peak.
    labels = (science > 0.01 * science.max()).astype(np.int32)
    found = Detections(np.array([60.0]), np.array([60.0]), np.array([False]), labels)
    shapes = isophotal_shapes(image, found)
    measured = aperture_photometry(image, found, shapes, centred(*place), SETTINGS)
    ellipse = ([place[0]], [place[1]], shapes.a, shapes.b, np.radians(shapes.theta_deg))
    first_moment, _ = sep.kron_radius(science, *ellipse, 6.0)
    kron = max(2.5 * first_moment[0], 3.5)
    assert measured.kron_radius[0] == pytest.approx(kron, rel=1e-5)
    flux, _, _ = sep.sum_ellipse(science, *ellipse, kron, subpix=5)
    assert measured.flux_auto[0] == pytest.approx(flux[0], rel=1e-5)
    exact, _ = EllipticalAperture(place, kron * shapes.a[0], kron * shapes.b[0], theta=ellipse[4][0]).do_photometry(
        science, method="exact"
    )
    assert measured.flux_auto[0] == pytest.approx(exact[0], rel=1e-3)
    half, _ = sep.flux_radius(science, *ellipse[:2], [14.0], 0.5, normflux=flux, subpix=5)
    assert measured.flux_radius[0] == pytest.approx(half[0], rel=0.005)


def test_the_half_light_radius_of_an_exponential_disk_is_the_drawn_one():
    disk = galsim.Exponential(half_light_radius=5.0, flux=1e6)
    science = draw((201, 201), [(disk, 100.2, 99.7)])
    measured = measure(as_image(science), 100.2, 99.7, 4.2, 4.2, 0.0)
    # The Kron ellipse holds 96 % of an exponential disk (Graham and Driver 2005).
    share = measured.flux_auto[0] / 1e6
    assert share == pytest.approx(0.96, abs=0.02)
    half = brentq(lambda r: 1 - (1 + r) * np.exp(-r) - 0.5 * share, 0.1, 5.0) * disk.scale_radius
    assert measured.flux_radius[0] == pytest.approx(half, rel=0.005)


@pytest.mark.parametrize(("a", "circle"), [(1.10, True), (1.15, False)])
def test_a_source_as_small_as_a_pixel_is_measured_in_the_smallest_circle(a, circle):
    """Where there is no light the radius is 3.5 axes: 3.67 pixels are less than half of 7.41, 3.75 are more."""
    science = -rough(5)
    found = measure(as_image(science), 60.3, 60.1, a, 1.0, 10.0)
    radius, long = (7.41 / 2, 1.0) if circle else (3.5, a)
    theirs, _, _ = sep.sum_ellipse(science, [60.3], [60.1], [long], [1.0], [np.radians(10)], radius, subpix=5)
    assert found.flux_auto[0] == pytest.approx(theirs[0], rel=1e-5)


def test_the_kron_radius_ends_at_six_axes():
    """Light that grows outwards has no first moment of its own; the ellipse stays within 2.5 x 6 axes."""
    j, i = np.indices(SHAPE)
    science = np.where(np.hypot(i - 60, j - 60) > 11.5, 1000.0, 0.0)
    found = measure(as_image(science), 60.0, 60.0, 2.0, 2.0, 0.0)
    # The ring from 11.5 to 12 pixels lies at 5.87 axes.
    assert found.kron_radius[0] == pytest.approx(2.5 * 5.87, rel=0.01)


def test_masked_pixels_and_neighbours_take_the_value_opposite():
    """The pixels are repaired here by turning the image about the source, then summed by sep."""
    science = rough(6)
    x, y = 60.4, 57.6  # twice the centre is (121, 115) in whole pixels
    image = as_image(science)
    labels = np.ones(SHAPE, np.int32)
    image.weight[50:56, 62:70] = 0.0
    labels[60:66, 44:60] = 2
    labels[70:75, 30:90] = 0
    found = Detections(np.array([x, 50.0]), np.array([y, 62.0]), np.zeros(2, bool), labels)
    hidden = (image.weight <= 0) | (labels == 2)
    turned = np.zeros_like(science)
    rows, columns = np.indices(SHAPE)
    inside = (115 - rows >= 0) & (115 - rows < SHAPE[0]) & (121 - columns >= 0) & (121 - columns < SHAPE[1])
    opposite = np.clip(115 - rows, 0, SHAPE[0] - 1), np.clip(121 - columns, 0, SHAPE[1] - 1)
    usable = inside & ~hidden[opposite]
    turned[usable] = science[opposite][usable]
    repaired = np.where(hidden, turned, science)
    flux, _ = circle_fluxes(science, image.weight, labels, np.array([x, 50.0]), np.array([y, 62.0]), RADII)
    for number, radius in enumerate(RADII[:11]):
        theirs, _, _ = sep.sum_circle(repaired, [x], [y], radius, subpix=5)
        assert flux[0, number] == pytest.approx(theirs[0], rel=1e-5)
    two = Shapes(*(np.repeat(v, 2) for v in (0.0, 0.0, 3.0, 2.0, 25.0, 9, 1.0, 1.0, 0)))
    both = Centroids(np.array([x, 50.0]), np.array([y, 62.0]), np.ones(2), np.ones(2), np.ones(2, bool))
    measured = aperture_photometry(image, found, two, both, SETTINGS)
    ellipse = EllipticalAperture(
        (x, y), measured.kron_radius[0] * 3.0, measured.kron_radius[0] * 2.0, theta=np.radians(25.0)
    )
    share, _ = ellipse.do_photometry(hidden.astype(float), method="subpixel", subpixels=5)
    lost, _ = ellipse.do_photometry((hidden & ~usable).astype(float), method="subpixel", subpixels=5)
    whole, _ = ellipse.do_photometry(np.ones(SHAPE), method="subpixel", subpixels=5)
    assert measured.neighbour_fraction[0] == pytest.approx(share[0] / whole[0], abs=1e-6)
    assert measured.missing_fraction[0] == pytest.approx(lost[0] / whole[0], abs=1e-6)
    assert share[0] > 10.0
    theirs, _, _ = sep.sum_ellipse(
        repaired, [x], [y], [3.0], [2.0], [np.radians(25)], measured.kron_radius[0], subpix=5
    )
    assert measured.flux_auto[0] == pytest.approx(theirs[0], rel=1e-5)


def test_what_is_masked_on_both_sides_is_missing():
    image = as_image(np.full(SHAPE, 10.0))
    image.weight[:, 50:56] = 0.0
    image.weight[:, 65:71] = 0.0
    found = measure(image, 60.0, 60.0, 3.0, 3.0, 0.0)
    ring = CircularAperture((60.0, 60.0), 3.0 * found.kron_radius[0])
    shares = []
    for columns in ((50, 51, 52, 53, 54, 55, 65, 66, 67, 68, 69, 70),):
        plane = np.zeros(SHAPE)
        plane[:, columns] = 1.0
        shares.append(ring.do_photometry(plane, method="subpixel", subpixels=5)[0][0])
    area = ring.do_photometry(np.ones(SHAPE), method="subpixel", subpixels=5)[0][0]
    assert found.missing_fraction[0] == pytest.approx(shares[0] / area, abs=1e-6)
    assert found.neighbour_fraction[0] == found.missing_fraction[0]
    assert found.flux_auto[0] == pytest.approx(10.0 * (area - shares[0]), rel=1e-5)


@pytest.mark.parametrize(("x", "truncated"), [(11.0, False), (9.0, True), (118.0, False), (120.0, True)])
def test_an_ellipse_over_the_border_is_truncated(x, truncated):
    """The ellipse is 10.5 pixels long, the border half a pixel beyond the middle of the first and last columns."""
    science = draw(SHAPE, [(galsim.Gaussian(sigma=3.0, flux=1e5), x, 60.0)])
    found = measure(as_image(science), x, 60.0, 3.0, 3.0, 0.0)
    assert found.kron_radius[0] == 3.5
    assert bool(found.truncated[0]) is truncated
