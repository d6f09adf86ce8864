"""Tree rings from a flat: their centre, the displacement that follows from the pixels' areas, flats without rings."""

import numpy as np
import pytest

from imaging.errors import CcdError
from imaging.masters.rings import find_rings

SHAPE = (2048, 1024)
CENTRE = (-350.0, -180.0)


def flat(depth, seed=1):
    """Return a flat: illumination, step between amplifiers, response of single pixels, bad pixels, rings of some depth.

    The sine of the rings has a wavelength of 150 pixels, which falls to 100 at the far corner.
    """
    random = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0]))
    image = 1.0 + depth * np.sin(phase(np.hypot(x - CENTRE[0], y - CENTRE[1])))
    image *= 0.9 + 0.05 * ((x - 300.0) / 1000.0) ** 2 - 0.03 * (y / 2000.0) ** 3
    image[:, SHAPE[1] // 2 :] *= 1.01
    image += random.normal(0.0, 0.006, SHAPE)
    image[random.integers(0, SHAPE[0], 500), random.integers(0, SHAPE[1], 500)] = random.choice([0.0, 0.6, 3.0], 500)
    image[:, 700:703] = 0.1
    return image.astype(np.float32)


def phase(radius):
    return 2.0 * np.pi * (radius / 150.0 + radius**2 / 1.2e6)


def test_the_displacement_is_the_integral_of_the_areas_of_the_pixels():
    depth = 0.002
    rings = find_rings(flat(depth), 27)
    np.testing.assert_allclose(rings.centre, CENTRE, atol=6.0)
    seen = (rings.radii > 650.0) & (rings.radii < 2100.0)
    radii = np.arange(0.0, 3000.0, 0.5)
    true = -0.5 * np.cumsum(depth * np.sin(phase(radii)))
    expected = np.interp(rings.radii[seen], radii, true)
    expected -= expected.mean()
    assert expected.std() > 0.02
    slope = float(rings.shift[seen] @ expected / (expected @ expected))
    assert abs(slope - 1.0) < 0.06
    # The response of single pixels, 0.006 over 150 bins of 16 pixels in each of some 80 steps of 4 pixels: 0.005.
    assert float((rings.shift[seen] - expected).std()) < 0.009


@pytest.mark.parametrize("image", [flat(0.0), np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.float32)])
def test_a_flat_without_rings_is_told(image):
    with pytest.raises(CcdError, match="CCD 27: no tree rings in the flat") as refused:
        find_rings(image, 27)
    assert refused.value.reason == "no_rings"
