"""Ghosts that GalSim draws by geometrical optics are fitted from a wrong start, and nothing of them is detected."""

from dataclasses import replace

import galsim
import numpy as np
import pytest

from imaging.bits import MaskBit
from imaging.detector.distortion import seed_wcs
from imaging.difference.detect import BrightStars, detect
from imaging.difference.ghost_fit import without_ghosts
from imaging.difference.ghost_model import GhostFamily, GhostModel
from imaging.difference.settings import DetectionSettings
from imaging.difference.subtract import subtract
from imaging.image import CalibratedImage, CcdImage
from tests.difference.drawn import FWHM, ROUND, draw, model_of

SHAPE, GAIN, SIGMA, ZEROPOINT = (900, 800), 4.0, 10.0, 31.0
STAR, MAG = (-60.0, 400.0), 6.0
FLUX = 10 ** (0.4 * (ZEROPOINT - MAG))
CENTRE, RADIUS, HOLE, LEVEL = (-20.0, 425.0), 520.0, 182.0, 60.0
"""The drawn donut; it comes from beyond the left border of the image, and its rim crosses it."""
WCS = seed_wcs(10, 150.0, -20.0)


def donut(level=LEVEL, centre=CENTRE, radius=RADIUS, hole=HOLE):
    """Return an image of the pupil in electrons per pixel, out of focus, seen through the PSF."""
    image = galsim.ImageD(SHAPE[1], SHAPE[0], xmin=0, ymin=0, scale=1.0)
    disc, dark = (s * galsim.TopHat(r, flux=level * np.pi * r**2) for s, r in ((1.0, radius), (-1.0, hole)))
    params = galsim.GSParams(maximum_fft_size=16384)
    seen = galsim.Convolve([galsim.Sum([disc, dark]), ROUND], gsparams=params)
    seen.drawImage(image=image, center=galsim.PositionD(*centre), method="no_pixel")
    return image.array


def image_of(light, seed, *, mask=None):
    """Return an image with noise of the sky and of the light, which its weight does not know."""
    random = np.random.default_rng(seed)
    science = light + random.normal(0.0, SIGMA, SHAPE) + random.normal(0.0, np.sqrt(np.maximum(light, 0.0) / GAIN))
    mask = np.zeros(SHAPE, np.int16) if mask is None else mask
    weight = np.where(mask > 0, 0.0, SIGMA**-2).astype(np.float32)
    pixels = CcdImage(science.astype(np.float32), mask, weight, {"GAIN": GAIN})
    return CalibratedImage(pixels, WCS, model_of(ROUND), ZEROPOINT, SIGMA**2, 1e7, "drawn")


def calibration(radius=1.006, shift=3.0, level=0.8):
    """Return a calibration whose radii, displacement (pixels) and level are wrong, and the star."""
    along = (CENTRE[1] - STAR[1] + shift) / (STAR[1] - (WCS.crpix[1] - 1.0))
    outer, inner = radius * RADIUS, radius * HOLE
    family = GhostFamily(
        displacement=along, outer_pixels=outer, inner_pixels=inner, level=level * LEVEL / FLUX, level_error=4e-10
    )
    model = GhostModel(name="ghosts_r.json", band="r", families=[family])
    x = (CENTRE[0] + along * (WCS.crpix[0] - 1.0)) / (1.0 + along)
    return model, BrightStars(np.array([x]), np.array([STAR[1]]), np.array([MAG]))


@pytest.fixture(scope="module")
def stars():
    random = np.random.default_rng(4)
    x, y = random.uniform(30, SHAPE[1] - 30, 160), random.uniform(30, SHAPE[0] - 30, 160)
    return draw(SHAPE, x, y, 10 ** random.uniform(3.6, 4.9, 160))


def test_the_geometry_is_fitted_from_pixels_and_the_light_is_gone(stars):
    light = donut()
    image = image_of(stars + light, 1)
    model, star = calibration()
    left = without_ghosts(image, star, model)
    (ghost,) = left.ghosts
    assert ghost.subtracted
    assert (ghost.outer_pixels, ghost.inner_pixels) == (pytest.approx(RADIUS, abs=0.5), pytest.approx(HOLE, abs=0.7))
    assert abs(ghost.level - LEVEL) < 3.0 * ghost.level_error and ghost.level_error < 0.02 * LEVEL
    rest = left.pixels.science - image.pixels.science + light
    assert np.sqrt(np.mean(rest**2)) < 0.02 * LEVEL
    lit = light > 0.99 * LEVEL
    variance = np.var((left.pixels.science - stars)[lit][::7])
    assert np.median(left.pixels.weight[lit]) * variance == pytest.approx(1.0, abs=0.03)
    y, x = np.indices(SHAPE)
    far = np.hypot(x - CENTRE[0], y - CENTRE[1]) > RADIUS + 60.0
    assert np.allclose(left.pixels.weight[far], image.pixels.weight[far], rtol=1e-4)
    share = left.pixels.weight / image.pixels.weight
    assert np.abs(np.diff(share, axis=1)).max() < 0.01, "no step at a rim"


def test_without_the_ghost_nothing_is_subtracted(stars):
    """What is predicted and not seen stays known, as light that may be there."""
    image = image_of(stars, 2)
    model, star = calibration()
    left = without_ghosts(image, star, model)
    assert [ghost.subtracted for ghost in left.ghosts] == [False]
    assert left.pixels is image.pixels
    faint = replace(star, mag=star.mag + 8.0)
    assert not without_ghosts(image, faint, model).ghosts
    hidden = image_of(stars + donut(), 3, mask=np.full(SHAPE, MaskBit.BPM, np.int16))
    assert without_ghosts(hidden, star, model) is hidden


@pytest.mark.parametrize("in_template", [False, True])
def test_a_rim_makes_no_detection_and_transients_on_the_ghost_have_the_right_flux(stars, in_template):
    """A dozen lie on the plateau, a dozen on the rims; their errors are those of the scatter."""
    turn = np.linspace(-0.8, 0.8, 12)
    radii = np.repeat([0.65 * RADIUS, RADIUS], 12)
    x, y = CENTRE[0] + radii * np.cos(np.tile(turn, 2)), CENTRE[1] + radii * np.sin(np.tile(turn, 2))
    flux = np.full(24, 1600.0)
    ghost = donut()
    search = image_of(stars + draw(SHAPE, x, y, flux) + (0.0 if in_template else ghost), 5)
    template = image_of(stars + (ghost if in_template else 0.0), 6)
    model, star = calibration()
    cleaned = [without_ghosts(image, star, model) for image in (search, template)]
    found = detect(subtract(*cleaned), DetectionSettings())
    distance = np.hypot(found.measured.x[:, None] - x, found.measured.y[:, None] - y)
    assert (distance.min(axis=0) < 2.0).all()
    nearest = distance.argmin(axis=0)
    pull = (found.measured.flux[nearest] - flux) / found.measured.flux_error[nearest]
    assert abs(pull.mean()) < 3.0 / np.sqrt(24) and 0.6 < pull.std() < 1.4
    other = distance.min(axis=1) > 2.0 * FWHM
    assert other.sum() <= 1, "what is left of the ghost makes none"
    if in_template:
        return
    plain = detect(subtract(search, template), DetectionSettings())
    false = np.hypot(plain.measured.x[:, None] - x, plain.measured.y[:, None] - y).min(axis=1) > 2.0 * FWHM
    assert false.sum() >= 5, "without a model it makes many"


def test_the_rim_of_a_small_ghost_in_a_halo_tells_the_light_of_one_whose_rims_are_not_seen():
    """The star has 0.7 of the light that its G predicts; the larger donut covers the image."""
    star, radius, level = (380.0, 420.0), 150.0, 70.0
    y, x = np.indices(SHAPE)
    away = np.maximum(np.hypot(x - star[0], y - star[1]), 10.0)
    axis = tuple(value - 1.0 for value in WCS.crpix)
    slope = 20.0 / (star[0] - axis[0])
    about = {"displacement": slope, "level_error": 0.3 * level / FLUX, "ratio_error": 0.02, "place_error": 1.0}
    small = GhostFamily(outer_pixels=radius, inner_pixels=0.35 * radius, level=level / 0.7 / FLUX, **about)
    large = GhostFamily(outer_pixels=2500.0, inner_pixels=0.0, level=20.0 / FLUX, **about | {"displacement": 0.0})
    centre = small.centre(star, axis)
    light = donut(level, centre, radius, 0.35 * radius) + 900.0 * (70.0 / away) ** 2.5 + 14.0
    image, stars = image_of(light, 7), BrightStars(*(np.array([value]) for value in (*star, MAG)))
    both = GhostModel(name="ghosts_r.json", band="r", families=[small, large])
    rim, cover = without_ghosts(image, stars, both).ghosts
    assert rim.subtracted and cover.subtracted
    assert (rim.x, rim.y) == (pytest.approx(centre[0], abs=0.3), pytest.approx(centre[1], abs=0.3))
    assert rim.outer_pixels == pytest.approx(radius, abs=0.3)
    assert rim.level == pytest.approx(level, abs=3.0 * rim.level_error) and rim.level_error < 0.03 * level
    assert cover.level == pytest.approx(14.0, abs=3.0 * cover.level_error) and cover.level_error < 0.06 * 14.0
    alone = GhostModel(name="ghosts_r.json", band="r", families=[large])
    assert [ghost.subtracted for ghost in without_ghosts(image, stars, alone).ghosts] == [False]
