"""Brighter-fatter kernels from pairs of flats that the simulator has spread: the kernel, and stars after it."""

import numpy as np
import pytest

from imaging.detrend.brighter_fatter import correct_brighter_fatter
from imaging.errors import CcdError
from imaging.masters.repulsion import fit_repulsion, pair_covariance
from imaging.masters.settings import RepulsionSettings
from imaging.simulation.brighter_fatter import border_kernels, redistribute

SETTINGS = RepulsionSettings()
LEVEL, GAIN = 90_000.0, 4.0


def flat(seed, spread=True):
    """Return a flat of 1100 x 1024 pixels in ADU with an offset common to each row and a cosmic ray."""
    random = np.random.default_rng(seed)
    electrons = (LEVEL + np.sqrt(LEVEL) * random.standard_normal((1100, 1024))).astype(np.float32)
    electrons = redistribute(electrons) if spread else electrons
    electrons[300, 400:420] += 20000.0
    adu = electrons / GAIN + 1.6 * random.standard_normal(electrons.shape) + 0.4 * random.standard_normal((1100, 1))
    return np.rint(adu).astype(np.float32)


def covariances(n_pairs, *, spread=True):
    """Return the covariances of pairs whose second frame is half a per cent brighter on one side."""
    pairs = []
    for k in range(n_pairs):
        slope = np.linspace(0.9975, 1.0025, 1024, dtype=np.float32)
        first, second = flat(2 * k, spread), flat(2 * k + 1, spread) * slope
        pairs.append(pair_covariance(first, second, None, GAIN, 1.0, 1.6, SETTINGS.clip_sigma))
    return pairs


@pytest.fixture(scope="module")
def kernel():
    return fit_repulsion(covariances(3), 33, SETTINGS)


def test_borders_move_as_in_the_truth(kernel):
    """Three pairs of an eighth of a CCD; the correlation of neighbours is known to 1.5 per cent."""
    right, top = border_kernels()
    assert kernel.right[0, 0] == pytest.approx(right[0, 0], rel=0.1)
    assert kernel.top[0, 0] == pytest.approx(top[0, 0], rel=0.1)
    assert np.abs(kernel.right - right).max() < 0.1 * right[0, 0]
    assert np.abs(kernel.top - top).max() < 0.1 * top[0, 0]


def sizes(image, places, background):
    """Return the rms radius of each star within 12 pixels."""
    y, x = np.mgrid[-12:13, -12:13]
    found = []
    for row, column in places:
        light = image[row - 12 : row + 13, column - 12 : column + 13].astype(float) - background
        cy, cx = (light * y).sum() / light.sum(), (light * x).sum() / light.sum()
        found.append(np.sqrt((light * ((y - cy) ** 2 + (x - cx) ** 2)).sum() / light.sum()))
    return np.array(found)


def test_stars_have_one_size_at_all_magnitudes_after_the_correction(kernel):
    """Peaks from 3 to 120 thousand electrons, at all places within a pixel, on a sky of 2000."""
    random = np.random.default_rng(1)
    places = [(row, column) for row in range(30, 600, 40) for column in range(30, 600, 40)]
    peaks = 3000.0 * 40.0 ** np.linspace(0.0, 1.0, len(places))
    image = np.full((620, 620), 2000.0)
    y, x = np.mgrid[-20:21, -20:21]
    for (row, column), peak in zip(places, peaks, strict=True):
        dy, dx = random.uniform(-0.5, 0.5, 2)
        image[row - 20 : row + 21, column - 20 : column + 21] += peak * np.exp(
            -0.5 * ((x - dx) ** 2 + (y - dy) ** 2) / 1.7**2
        )
    before = sizes(image, places, 2000.0)
    spread = redistribute(image.astype(np.float32))
    trend = sizes(spread, places, 2000.0) / before - 1.0
    corrected = spread.copy()
    correct_brighter_fatter(corrected, np.zeros(image.shape, np.int16), kernel, 2000.0)
    left = sizes(corrected, places, 2000.0) / before - 1.0
    assert trend[-20:].mean() - trend[:20].mean() > 0.006
    assert abs(left[-20:].mean() - left[:20].mean()) < 0.002
    assert np.abs(left).max() < 0.002


def test_flats_without_the_effect_and_too_few_are_refused():
    alone = covariances(1, spread=False)
    with pytest.raises(CcdError) as refused:
        fit_repulsion(alone * 3, 33, SETTINGS)
    assert refused.value.reason == "repulsion_not_seen"
    with pytest.raises(CcdError) as refused:
        fit_repulsion(alone, 33, SETTINGS)
    assert refused.value.reason == "too_few_exposures"
