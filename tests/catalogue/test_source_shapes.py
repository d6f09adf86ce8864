"""Shapes, centroids and apertures on noiseless and noisy profiles with a known answer."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from imaging.catalogue.apertures import aperture_photometry
from imaging.catalogue.detect import Detections, detect
from imaging.catalogue.settings import CatalogueSettings
from imaging.catalogue.shapes import core_widths, isophotal_shapes, windowed_centroids
from imaging.image import CcdImage
from imaging.schemas.catalogue import APERTURE_DIAMETERS_PIXELS
from imaging.simulation.star_fields import MoffatPsf, add_moffats, draw_field

SETTINGS = CatalogueSettings()
SIZE = 121


def gaussian_image(a=4.0, b=2.0, theta_deg=30.0, x=60.3, y=59.6, flux=1e5, noise=0.0):
    j, i = np.mgrid[:SIZE, :SIZE]
    t = np.radians(theta_deg)
    u = (i - x) * np.cos(t) + (j - y) * np.sin(t)
    v = -(i - x) * np.sin(t) + (j - y) * np.cos(t)
    science = flux / (2 * np.pi * a * b) * np.exp(-0.5 * ((u / a) ** 2 + (v / b) ** 2))
    science = science + noise * np.random.default_rng(0).standard_normal(science.shape)
    weight = np.full(science.shape, 1.0 / max(noise, 1.0) ** 2, np.float32)
    return CcdImage(science.astype(np.float32), np.zeros((SIZE, SIZE), np.int16), weight, {})


def one_source(segmentation, x=60.0, y=60.0):
    return Detections(np.array([x]), np.array([y]), np.array([False]), segmentation.astype(np.int32))


def measured(image, segmentation=None):
    found = one_source(np.ones((SIZE, SIZE)) if segmentation is None else segmentation)
    shapes = isophotal_shapes(image, found)
    centroids = windowed_centroids(image, found, shapes, 5.0)
    return shapes, centroids, aperture_photometry(image, found, shapes, centroids, SETTINGS)


def test_gaussian_has_its_moments():
    shapes, centroids, apertures = measured(gaussian_image())
    assert (shapes.x[0], shapes.y[0]) == pytest.approx((60.3, 59.6), abs=1e-3)
    assert (shapes.a[0], shapes.b[0]) == pytest.approx((4.0, 2.0), rel=1e-3)
    assert shapes.theta_deg[0] == pytest.approx(30.0, abs=0.01)
    assert (centroids.x[0], centroids.y[0]) == pytest.approx((60.3, 59.6), abs=1e-3)
    assert apertures.flux_auto[0] == pytest.approx(1e5, rel=0.005)


def test_circle_of_a_round_gaussian_holds_the_known_share():
    _, _, apertures = measured(gaussian_image(a=4.0, b=4.0))
    share = 1 - np.exp(-0.5 * (np.array(APERTURE_DIAMETERS_PIXELS) / 2 / 4.0) ** 2)
    # The smallest circle is not much larger than a pixel, on which the sampled image is taken as constant.
    assert apertures.flux[0, 1:] == pytest.approx(1e5 * share[1:], rel=0.01)
    assert apertures.flux_radius[0] == pytest.approx(4.0 * np.sqrt(2 * np.log(2)), rel=0.02)


def test_mask_bits_within_the_isophote_are_collected():
    image = gaussian_image()
    image.mask[60, 61] = 16
    image.mask[10, 10] = 2
    inside = np.hypot(*(np.mgrid[:SIZE, :SIZE] - 60.0)) < 12
    shapes, _, _ = measured(image, inside)
    assert shapes.mask[0] == 16
    assert shapes.area[0] == inside.sum()


def test_masked_and_neighbouring_pixels_are_mirrored():
    image = gaussian_image(a=2.5, b=2.5, x=60.0, y=60.0)
    segmentation = np.hypot(*(np.mgrid[:SIZE, :SIZE] - 60.0)) < 9
    image.science[55:58, 62:68] = 1e4
    image.weight[55:58, 62:68] = 0.0
    labels = segmentation.astype(int)
    image.science[70:80, 60:75] += 500.0
    labels[70:80, 60:75] = 2
    found = Detections(np.array([60.0, 67.0]), np.array([60.0, 75.0]), np.zeros(2, bool), labels.astype(np.int32))
    shapes = isophotal_shapes(gaussian_image(a=2.5, b=2.5, x=60.0, y=60.0), found)
    centroids = windowed_centroids(image, found, shapes, 5.9)
    assert (centroids.x[0], centroids.y[0]) == pytest.approx((60.0, 60.0), abs=0.01)
    apertures = aperture_photometry(image, found, shapes, centroids, SETTINGS)
    assert apertures.flux[0, 8] == pytest.approx(1e5, rel=0.01)
    assert apertures.neighbour_fraction[0] > 0.02
    fewer = aperture_photometry(image, found, shapes, centroids, SETTINGS, 8)
    assert fewer.flux == pytest.approx(apertures.flux[:, :8], rel=1e-12)  # sums along rows begin elsewhere
    assert np.array_equal(fewer.neighbour_fraction, apertures.neighbour_fraction)


@pytest.mark.parametrize(("beta", "tolerance"), [(2.5, 0.03), (3.0, 0.01), (4.5, 0.03)])
def test_core_width_is_the_width_at_half_maximum(beta, tolerance):
    psf = MoffatPsf(fwhm_pixels=4.0, beta=beta, ellipticity=(0, 0), size_variation=0, shape_variation=0)
    image = np.zeros((61, 61), np.float32)
    shapes = psf.inverse_shape(np.array([30.0]), np.array([30.0]))
    place = np.array([30.2]), np.array([29.7])
    add_moffats(image, *place, np.array([1e4]), shapes, beta, np.array([40.0]))
    width = core_widths(image, np.ones_like(image), *place, np.array([float(image.max())]), 12)
    assert width[0] == pytest.approx(4.0, rel=tolerance)


@pytest.mark.parametrize("fwhm_pixels", [3.0, 5.3])
def test_stated_centroid_errors_are_the_true_ones(fwhm_pixels):
    """A formula for Gaussian images would state errors a tenth too small for these Moffat ones."""
    psf = MoffatPsf(fwhm_pixels=fwhm_pixels, beta=3.0, shape=(2000, 1500))
    field = draw_field(11, psf=psf, n_stars=700, n_galaxies=0, mag_range=(18, 21.5))
    found = detect(field.image, fwhm_pixels, SETTINGS)
    shapes = isophotal_shapes(field.image, found)
    centroids = windowed_centroids(field.image, found, shapes, fwhm_pixels)
    tree = cKDTree(np.stack([field.x, field.y], axis=-1))
    distance, nearest = tree.query(np.stack([centroids.x, centroids.y], axis=-1), k=2)
    use = (distance[:, 0] < 1.0) & (distance[:, 1] > 25.0) & centroids.converged & (shapes.mask == 0)
    errors = (centroids.x - field.x[nearest[:, 0]]) / centroids.x_error
    others = (centroids.y - field.y[nearest[:, 0]]) / centroids.y_error
    pull = np.concatenate([errors[use], others[use]])
    assert pull.size > 500
    assert pull.std() == pytest.approx(1.0, abs=3.0 / np.sqrt(2 * pull.size))
    assert abs(pull.mean()) < 4.0 / np.sqrt(pull.size)


def test_auto_aperture_of_a_long_trail_stays_small():
    image = gaussian_image()
    trail = np.zeros((SIZE, SIZE))
    trail[:, 58:62] = 1
    image.science[:, 58:62] = 1e5
    settings = SETTINGS.with_values(maximum_auto_radius_pixels=20.0)
    found = one_source(trail)
    shapes = isophotal_shapes(image, found)
    centroids = windowed_centroids(image, found, shapes, 5.0)
    apertures = aperture_photometry(image, found, shapes, centroids, settings)
    assert apertures.flux_auto[0] < 0.5 * image.science.sum()
