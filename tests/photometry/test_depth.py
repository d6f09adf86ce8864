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
    weight = np.full((100, 100), sigma_sky**-2, np.float32)
    weight[::2] = 0.0
    weight[::8, ::8] = sigma_sky**-2
    expected = 31.5 - 2.5 * math.log10(5.0 * sigma_sky * math.sqrt(4 * math.pi) * 1.8)
    assert point_source_depth_mag(gaussian_psf(1.8), weight, 31.5) == pytest.approx(expected, abs=0.005)


def test_nothing_seen_has_no_depth():
    assert point_source_depth_mag(gaussian_psf(1.8), np.zeros((16, 16), np.float32), 31.5) is None
