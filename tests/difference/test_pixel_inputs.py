"""Stars are subtracted where single pixels of the stack lack an input, and the search image is convolved to its PSF."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
from known_pairs import WHITE, draw, lattice, profile, psf_model, side

from imaging.difference.alard_lupton import match_alard_lupton
from imaging.difference.pair import Pair
from imaging.difference.settings import NoiseSettings, RegistrationSettings, SubtractionSettings
from imaging.templates.stack import StackMakeup
from imaging.timing import StepTimes

SHARP, BROAD, SEARCH = 3.2, 4.8, 2.6
SHAPE, BLOCK, SIGMA = (320, 480), 32, 12.0
SETTINGS = SubtractionSettings(
    noise=NoiseSettings(background_mesh_pixels=0), registration=RegistrationSettings(correct=False)
)


def makeup_of(used: np.ndarray, weights: np.ndarray) -> StackMakeup:
    """Return the makeup of a stack of inputs of known weights, whose bits tell where they are used."""
    planes = np.stack([((used >> k) & 1) * w for k, w in enumerate(weights)], axis=2)
    blocks = planes.reshape(SHAPE[0] // BLOCK, BLOCK, SHAPE[1] // BLOCK, BLOCK, -1).sum(axis=(1, 3))
    stamps = np.array([psf_model(profile(f)).stamp(0.0, 0.0, 20) for f in (SHARP, BROAD)])
    mean = blocks.sum(axis=(0, 1))
    return StackMakeup(blocks / blocks.sum(axis=2, keepdims=True), BLOCK, mean / mean.sum(), stamps, used=used)


def defects(kind: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return bits of the inputs used: beside the core of each eighth star a bad column, or the end of an input."""
    used = np.full(SHAPE, 3, dtype=np.uint8)
    width = {"column": 6, "end": 20}[kind]
    for number, (a, b) in enumerate(zip(np.rint(x[::8]).astype(int), np.rint(y[::8]).astype(int), strict=True)):
        used[max(b - 16, 0) : b + 17, a + 1 : a + width] = 1 + number % 2
    return used


@pytest.mark.parametrize("kind", ["column", "end"])
def test_stars_leave_noise_only_where_pixels_beside_their_cores_lack_an_input(kind):
    """Templates of 0.85 and 1.25 arcsec with weights of 3 to 2, and stars with peaks of 45 to 450 times the noise."""
    x, y = lattice(96, SHAPE)
    flux = 10 ** np.random.default_rng(5).uniform(3.6, 4.6, x.size)
    weights, used = np.array([0.6, 0.4]), defects(kind, x, y)
    sharp, broad = (draw(profile(f), x, y, flux, SHAPE) for f in (SHARP, BROAD))
    template = np.where(used == 3, 0.6 * sharp + 0.4 * broad, np.where(used == 1, sharp, broad))
    rng = np.random.default_rng(6)
    first = side(draw(profile(SEARCH), x, y, flux, SHAPE) + rng.normal(0.0, SIGMA, SHAPE), SIGMA, profile(SEARCH))
    usual = galsim.Sum([0.6 * profile(SHARP), 0.4 * profile(BROAD)])
    second = side(template + rng.normal(0.0, SIGMA / 3.0, SHAPE), SIGMA / 3.0, usual)
    known = makeup_of(used, weights)
    left = []
    for makeup in (known, replace(known, used=None)):
        pair = Pair(first, second, WHITE[None, None].astype(np.float32), max(SHAPE), makeup)
        result = match_alard_lupton(pair, SETTINGS, StepTimes())
        assert result.kernel.convolved == "search"
        noise = result.noise
        sigma = np.sqrt(np.mean(noise.search_factor * SIGMA**2 + noise.template_factor * (SIGMA / 3.0) ** 2))
        cores = [
            np.mean(result.image[b - 4 : b + 5, a - 4 : a + 5] ** 2) / sigma**2
            for a, b in zip(np.rint(x).astype(int), np.rint(y).astype(int), strict=True)
            if 24 < a < SHAPE[1] - 24 and 24 < b < SHAPE[0] - 24 and np.ptp(used[b - 4 : b + 5, a - 4 : a + 5])
        ]
        left.append(np.sqrt(np.median(cores)))
    assert len(cores) == 12
    assert left[0] < 1.25
    assert left[1] > 3.0  # with the kernel of the block


def test_nothing_changes_where_pixels_have_the_inputs_and_weights_of_their_blocks():
    """On the left the inputs have weights of 2 to 1, on the right equal ones, as behind clouds."""
    x, y = lattice(40, SHAPE)
    flux = np.full(x.size, 2e4)
    used = np.full(SHAPE, 3, dtype=np.uint8)
    known = makeup_of(used, np.array([0.5, 0.5]))
    known.shares[:, : SHAPE[1] // BLOCK // 2] = 2 / 3, 1 / 3
    first = side(draw(profile(SEARCH), x, y, flux, SHAPE), SIGMA, profile(SEARCH))
    second = side(0.5 * draw(profile(SHARP), x, y, flux, SHAPE) + 0.5 * draw(profile(BROAD), x, y, flux, SHAPE), SIGMA)
    images = [
        match_alard_lupton(
            Pair(first, second, WHITE[None, None].astype(np.float32), max(SHAPE), makeup), SETTINGS, StepTimes()
        ).image
        for makeup in (known, replace(known, used=None))
    ]
    assert images[0].any()
    assert np.array_equal(*images)
