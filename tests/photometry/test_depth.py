"""The depth of an image."""

import math

import numpy as np
import pytest

from imaging.photometry.depth import point_source_depth_mag
from imaging.psf.model import PsfModel
from imaging.psf.shape import normalised


def gaussian_psf(sigma):
    offsets = (np.arange(61) - 30) * 0.5
    samples = np.exp(-0.5 * (offsets[:, None] ** 2 + offsets[None, :] ** 2) / sigma**2).astype(np.float32)
    return normalised(PsfModel(samples[None], 0, 0.5, (50.0, 50.0), (50.0, 50.0), 2.3548 * sigma))


def test_depth_of_a_gaussian():
    sigma_sky = 50.0
    expected = 31.5 - 2.5 * math.log10(5.0 * sigma_sky * math.sqrt(4 * math.pi) * 1.8)
    assert point_source_depth_mag(gaussian_psf(1.8), sigma_sky, 31.5, (50.0, 50.0)) == pytest.approx(
        expected, abs=0.005
    )


def test_half_the_noise_shows_three_quarters_of_a_magnitude_more():
    depths = [point_source_depth_mag(gaussian_psf(1.8), sigma, 31.5, (50.0, 50.0)) for sigma in (50.0, 25.0)]
    assert depths[1] - depths[0] == pytest.approx(0.7526, abs=1e-3)
