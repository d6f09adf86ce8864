"""Areas of pixels in tree rings and at edges: the divergence of the displacement, and what the flat does to stars."""

import numpy as np
import pytest

from imaging.astrometry.displacement import PixelDisplacement
from imaging.detector.ccds import NX, NY
from imaging.image import CcdImage

DEPTH, WAVE = 0.003, 30.0
CENTRE = (-300.0, -200.0)
RADII = np.arange(0.0, 5200.0, 4.0)
RINGS = {"centre": CENTRE, "radius_step": 4.0, "ring": (DEPTH * WAVE * np.cos(RADII / WAVE)).tolist()}
EDGES = [[-0.16, -0.09, -0.03, -0.01, 0.0], [0.16, 0.09, 0.03, 0.01, 0.0], [0.05, 0.02, 0.0, 0.0, 0.0], [0.0] * 5]


def displacement(**parts):
    return PixelDisplacement(name="m", ccd=27, band="i", **parts)


def divergence(found, x, y, h=0.5):
    """Return the derivatives of the displacement along x by x and along y by y, summed: (n,)."""
    along_x = (found.at(x + h, y)[0] - found.at(x - h, y)[0]) / (2.0 * h)
    return along_x + (found.at(x, y + h)[1] - found.at(x, y - h)[1]) / (2.0 * h)


def test_areas_are_one_minus_the_divergence_of_the_displacement():
    found = displacement(**RINGS, edges=EDGES)
    x, y = np.random.default_rng(1).uniform(300.0, [[NX - 300.0], [NY - 300.0]], (2, 2000))
    expected = -divergence(found, x, y)
    assert np.std(expected) > 0.6 * DEPTH
    assert found.area(x, y) - 1.0 == pytest.approx(expected, abs=0.1 * DEPTH)  # linear between radii
    edges = displacement(edges=EDGES)
    x = np.array([3.0, 11.0, 22.0, 50.0, 1000.0, NX - 11.0, NX - 22.0, 700.0, 700.0])
    y = np.array([2000.0] * 7 + [11.0, NY - 11.0])
    assert edges.area(x, y) - 1.0 == pytest.approx(-divergence(edges, x, y), abs=1e-6)
    assert np.abs(edges.area(x, y) - 1.0).max() > 0.005


def test_the_image_has_the_areas_of_its_pixels_and_the_weights_follow():
    found = displacement(**RINGS, edges=EDGES)
    science, weight = np.full((NY, NX), 100.0, np.float32), np.full((NY, NX), 0.01, np.float32)
    weight[5, 7] = 0.0
    image = found.times_area(CcdImage(science, np.zeros((NY, NX), np.int16), weight, {}))
    x, y = np.random.default_rng(2).integers(0, [[NX], [NY]], (2, 3000))
    assert image.science[y, x] / 100.0 == pytest.approx(found.area(x.astype(float), y.astype(float)), abs=2e-6)
    assert image.weight[y, x] * image.science[y, x] ** 2 == pytest.approx(100.0, rel=1e-5)
    assert image.weight[5, 7] == 0.0
    assert (science == 100.0).all()


def test_stars_on_rings_that_the_flat_has_made_fainter_or_brighter_get_their_flux():
    found, random = displacement(**RINGS), np.random.default_rng(3)
    science = np.zeros((NY, NX), np.float32)
    stars = random.uniform(30.0, [[NX - 30.0], [NY - 30.0]], (2, 150))
    grid = np.arange(-12, 13)
    corners = np.round(stars).astype(int)
    for (x, y), (i, j) in zip(stars.T, corners.T, strict=True):
        dx, dy = np.meshgrid(i + grid - x, j + grid - y)
        science[j - 12 : j + 13, i - 12 : i + 13] += np.exp(-0.5 * (dx**2 + dy**2) / 4.0).astype(np.float32)
    x, y = np.meshgrid(np.arange(NX), np.arange(NY))
    flat = 1.0 + DEPTH * np.sin(np.hypot(x - CENTRE[0], y - CENTRE[1]) / WAVE)
    divided = CcdImage((science / flat).astype(np.float32), np.zeros((NY, NX), np.int16), np.ones_like(science), {})

    def scatter_mmag(image):
        flux = [image[j - 12 : j + 13, i - 12 : i + 13].sum() for i, j in corners.T]
        true = [science[j - 12 : j + 13, i - 12 : i + 13].sum() for i, j in corners.T]
        return 1086.0 * float(np.std(np.divide(flux, true)))

    assert scatter_mmag(divided.science) == pytest.approx(1086.0 * DEPTH / np.sqrt(2.0), rel=0.15)
    assert scatter_mmag(found.times_area(divided).science) < 0.1
    assert scatter_mmag(divided.science / found.area(x.ravel(), y.ravel()).reshape(NY, NX)) > 4.0  # the wrong way round


def test_a_map_without_rings_and_edges_changes_nothing():
    image = CcdImage(np.ones((NY, NX), np.float32), np.zeros((NY, NX), np.int16), np.ones((NY, NX), np.float32), {})
    changed = displacement().times_area(image)
    assert (changed.science == 1.0).all()
    assert (changed.weight == 1.0).all()
    assert (displacement().area(np.array([5.0]), np.array([9.0])) == 1.0).all()
