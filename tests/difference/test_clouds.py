"""Clouds left in search and templates after both were corrected by their reference stars: whose are they?

Drawn many times: fields left in the search image and in the template, of which the difference sees the ratio.
"""

from dataclasses import replace

import numpy as np
import pytest

from imaging.difference.clouds import LEAST_ERROR, add_cloud_errors, correct_search
from imaging.difference.filter import FilteredDifference
from imaging.difference.forced import measure_forced
from imaging.difference.pair import Pair, Side
from imaging.difference.records import Matched
from imaging.difference.registration import no_shift_field
from imaging.difference.residual_noise import ResidualNoise
from imaging.difference.settings import DetectionSettings, RegistrationSettings, SubtractionSettings
from imaging.difference.subtract import subtract
from imaging.photometry.transparency import Transparency, at_places
from tests.difference.known_pairs import calibrated, draw, lattice, profile

SHAPE = (640, 512)
NODES = SHAPE[0] // 64 + 2, SHAPE[1] // 64 + 2
SIGN = np.where(np.arange(NODES[0]) < NODES[0] / 2, 1.0, -1.0)[:, None] * np.ones(NODES)
"""More light on one half, less on the other: the mean belongs to the zero points."""

FEW = SubtractionSettings(registration=RegistrationSettings(min_stars=12))
PLACE = np.array([100.0]), np.array([100.0])


def side(error):
    ones = np.ones(SHAPE, np.float32)
    return Side(ones, np.zeros(SHAPE, np.int16), ones, 1.0, 1e5, None, error * np.ones(NODES))


def difference_of(excess, search_error, template_error, error=0.0):
    """Return a difference of flux 1000 everywhere after the correction, and its pair."""
    shifts = no_shift_field(SHAPE)
    if excess is not None:
        shifts = replace(shifts, transparency=Transparency(excess, np.full(NODES, error), 600.0, 0.05, 0.0))
    flux = np.full(SHAPE, 1000.0, np.float32)
    matched = Matched(flux, 2 * flux, None, np.zeros(SHAPE, np.int16), None, None, None, shifts)
    pair = Pair(side(search_error), side(template_error), np.zeros((1, 1, 6, 6), np.float32), 512, None)
    return correct_search(pair, matched)


@pytest.mark.parametrize(("search", "template"), [(0.03, 0.01), (0.02, 0.02), (0.0, 0.03), (0.04, 0.0)])
def test_the_error_left_is_the_stated_one(search, template):
    """A new source of 1000 electrons behind what is left in the search image."""
    rng, pulls, errors = np.random.default_rng(int(1000 * search)), [], []
    for _ in range(400):
        s, t = (float(rng.normal(0.0, np.hypot(error, LEAST_ERROR))) for error in (search, template))
        _, matched = difference_of((1.0 + s * SIGN) / (1.0 + t * SIGN) - 1.0, search, template)
        flux = float(matched.image[100, 100]) * (1.0 + s)
        pulls.append((flux / 1000.0 - 1.0) / at_places(matched.transparency_error, *PLACE)[0])
        errors.append(flux / 1000.0 - 1.0)
    assert np.std(pulls) == pytest.approx(1.0, abs=3.0 / np.sqrt(800.0))
    assert np.std(errors) < 1.15 * np.hypot(min(search, template), LEAST_ERROR)


def test_brightness_and_weight_change_together_and_the_field_has_an_error_too():
    pair, matched = difference_of(0.1 * SIGN, 0.05, 0.0, error=0.02)
    for row, excess in ((7, 0.1), (600, -0.1)):
        factor = float(matched.image[row, 9]) / 1000.0
        assert factor == pytest.approx((1.0 + excess) ** -0.99, rel=2e-3)
        assert matched.model[row] == pytest.approx(2000.0 * factor)
        for one in (pair.search, pair.template):
            assert one.weight[row] == pytest.approx(factor**-2, rel=1e-4)
    assert matched.transparency_error == pytest.approx(np.hypot(LEAST_ERROR, 0.02), rel=0.02)


def test_every_place_has_its_own_share_and_error():
    """Reference stars of the search image on one half, of the template on the other."""
    known_above = np.where(SIGN > 0, 0.01, 0.06)
    pair, matched = difference_of(0.1 * SIGN, known_above, known_above[::-1])
    own, other = np.hypot((0.01, 0.06), LEAST_ERROR) ** 2
    for row, excess, share in ((7, 0.1, own / (own + other)), (600, -0.1, other / (own + other))):
        assert float(matched.image[row, 9]) / 1000.0 == pytest.approx((1.0 + excess) ** -share, rel=2e-3)
        assert pair.search.weight[row, 9] == pytest.approx((1.0 + excess) ** (2.0 * share), rel=4e-3)
    assert matched.transparency_error == pytest.approx(np.sqrt(own * other / (own + other)))


def test_a_common_factor_is_a_matter_of_zero_points():
    _, matched = difference_of(np.full(NODES, 0.05), 0.05, 0.01)
    assert matched.image == pytest.approx(1000.0)


def test_where_the_images_agree_nothing_changes():
    pair, matched = difference_of(None, 0.03, 0.01)
    assert (matched.image == 1000.0).all()
    assert (pair.search.weight == 1.0).all()
    assert (matched.transparency_error == 0.03).all()
    assert not difference_of(None, 0.0, 0.03)[1].transparency_error.any()


@pytest.mark.parametrize("search_fwhm", [3.8, 5.0])
def test_a_cloud_in_front_of_the_search_image_is_taken_out_whichever_image_is_convolved(search_fwhm):
    """Waves of 8 % that the template has not. With the wrong sign, fluxes are wrong by 1.4 times as much or more."""
    rng = np.random.default_rng(8)
    x, y = lattice(110, SHAPE)
    flux = 10 ** rng.uniform(4.6, 5.1, x.size)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    seen = 1.0 + 0.08 * np.sin(2.0 * np.pi * rows / 600.0) * np.cos(2.0 * np.pi * columns / 900.0)
    new_x, new_y = np.array([60.0, 61.0, 300.0, 301.0]), np.array([150.0, 450.0, 170.0, 440.0])
    search = draw(profile(search_fwhm), np.append(x, new_x), np.append(y, new_y), np.append(flux, 4 * [4e4]), SHAPE)
    images = [
        calibrated(light + rng.normal(0.0, 10.0, SHAPE), 10.0, profile(fwhm))
        for light, fwhm in ((search * seen, search_fwhm), (draw(profile(4.4), x, y, flux, SHAPE), 4.4))
    ]
    difference = subtract(replace(images[0], transparency_error=np.full((1, 1), 0.08)), images[1], FEW)
    assert difference.kernel.convolved == ("search" if search_fwhm < 4.4 else "template")
    found = measure_forced(difference.as_image(), new_x, new_y, DetectionSettings())
    cloud = seen[new_y.astype(int), new_x.astype(int)] - 1.0
    assert (np.abs(found.flux / 4e4 - 1.0) < 0.85 * np.abs(cloud)).all()


def test_a_star_is_as_uncertain_as_the_clouds_at_its_place():
    """Stars of 1e5 electrons whose light differs by what the interpolation of the clouds does not know there."""
    error = np.linspace(0.002, 0.03, NODES[1])[None, :] * np.ones(NODES)
    rng, side_pixels = np.random.default_rng(3), 20
    x, y = (g.ravel().astype(int) for g in np.meshgrid(*(np.arange(20, s - 20, side_pixels) for s in SHAPE[::-1])))
    light = np.zeros(SHAPE, np.float32)
    light[y, x] = 1e5
    left = np.zeros(SHAPE, np.float32)
    left[y, x] = 1e5 * at_places(error, x, y) * rng.normal(size=x.size) + rng.normal(size=x.size)
    ones = np.ones(SHAPE, np.float32)
    filtered = FilteredDifference(left, ones.copy(), light, np.ones((1, 1, 5, 5)) / 5.0)
    noise = ResidualNoise(filtered, ones.copy(), (0.0, 0.0), 4.0, 0.26)
    add_cloud_errors(noise, None)
    assert np.array_equal(filtered.norm, ones)
    add_cloud_errors(noise, Transparency(np.zeros(NODES), error, 600.0, 0.05, 0.02))
    pull = filtered.numerator[y, x] / np.sqrt(filtered.norm[y, x])
    for part in (pull[x < SHAPE[1] / 3], pull[x > 2 * SHAPE[1] / 3]):
        assert np.std(part) == pytest.approx(1.0, abs=4.0 / np.sqrt(2 * part.size))
    assert np.array_equal(filtered.norm[light == 0], ones[light == 0])
