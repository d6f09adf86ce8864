"""Brighter and fatter: borders move after Coulomb's law, stars grow with their peaks, flats lose variance."""

import numpy as np
import pytest
from detector_frames import rng

from imaging.simulation.brighter_fatter import border_kernels, redistribute

SHIFT = 3.0e-7
"""Pixels by which an electron in a pixel moves that pixel's own border."""


def coulomb(along: float, across: float) -> float:
    """Return the field across a border of a charge so many pixels away, over that of a charge half a pixel away."""
    return along / np.hypot(along, across) ** 3 * 0.5**2


@pytest.mark.parametrize(("row", "col"), [(0, 0), (0, 1), (1, 0), (2, 3), (5, 5), (0, 5)])
def test_borders_move_after_coulombs_law(row, col):
    right, top = border_kernels()
    assert right.shape == top.shape == (6, 6)
    expected = SHIFT * coulomb(col + 0.5, row)
    assert right[row, col] == pytest.approx(expected, rel=1e-9)
    assert top[col, row] == pytest.approx(expected, rel=1e-9)


def moved_charge(image, background):
    """Sum the shift of every border over all charges within six pixels, one by one."""
    out = image.astype(float).copy()
    bright = np.argwhere(image != background)
    for swap in (False, True):
        given, result = (image.T, out.T) if swap else (image, out)
        for y in range(given.shape[0]):
            for x in range(given.shape[1] - 1):
                shift = 0.0
                for place in bright:
                    by, bx = place[::-1] if swap else place
                    along, across = bx - x - 0.5, by - y
                    if abs(along) < 6 and abs(across) < 6:
                        charge = given[by, bx] - background
                        shift += np.sign(along) * SHIFT * coulomb(abs(along), across) * charge
                moved = 0.5 * (given[y, x] + given[y, x + 1]) * shift
                result[y, x] += moved
                result[y, x + 1] -= moved
    return out


def test_every_pixel_is_what_the_sum_over_all_charges_gives():
    image = np.full((40, 33), 2000.0, dtype=np.float32)
    image[20, 12] = 90_000.0
    image[23, 13] = 50_000.0
    image[1, 31] = 30_000.0  # near two borders of the image
    spread = redistribute(image)
    expected = moved_charge(image, 2000.0)
    assert np.abs(spread - expected).max() < 0.1  # float32
    assert spread[20, 12] < 90_000.0 - 4 * 0.5 * 88_000.0 * SHIFT * 90_000.0 * 0.9
    assert spread[20, 11] > 2000.0
    assert spread[19, 12] > 2000.0


def test_an_even_sky_stays_as_it_is():
    image = np.full((64, 64), 50_000.0, dtype=np.float32)
    np.testing.assert_allclose(redistribute(image), image, rtol=1e-6)


def second_moments(image):
    light = image.astype(float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] - 30.0
    inside = np.hypot(x, y) < 13
    total = light[inside].sum()
    return [(light * x**2)[inside].sum() / total, (light * y**2)[inside].sum() / total]


def test_stars_grow_in_proportion_to_their_peak_and_alike_along_both_axes():
    y, x = np.mgrid[:61, :61] - 30.0
    shape = np.exp(-0.5 * (x**2 + y**2) / 1.7**2)
    growth = []
    for peak in (20_000.0, 40_000.0, 80_000.0):
        image = (peak * shape).astype(np.float32)
        before, after = second_moments(image), second_moments(redistribute(image))
        assert after[0] == pytest.approx(after[1], rel=1e-4)
        growth.append(after[0] / before[0] - 1.0)
    assert growth[0] > 1e-3
    np.testing.assert_allclose(np.array(growth) / growth[0], [1.0, 2.0, 4.0], rtol=1e-3)


def test_a_flat_loses_variance_to_the_covariance_of_its_neighbours():
    """Photon transfer with repelling charge: C_00 = mean (1 + 2 mean A_00), C_0j = 2 mean^2 A_0j (Downing 2006)."""
    mean, size = 20_000.0, 1600
    noise = (mean + np.sqrt(mean) * rng(8).standard_normal((size, size))).astype(np.float32)
    flat = redistribute(noise).astype(float)[20:-20, 20:-20] - mean
    flat -= flat.mean()
    error = 4 * mean * np.sqrt(2.0) / size
    # area of a pixel against its own charge: four borders move by SHIFT each
    assert flat.var() == pytest.approx(
        mean * (1 - 2 * mean * 4 * SHIFT), abs=error + mean * (mean * 4 * SHIFT) ** 2 * 2
    )
    # and against the charge of its neighbour: the common border comes nearer by SHIFT, the far one by a ninth of that,
    # the two borders of the other axis move away from it by the field beside a charge, 0.5 / (0.25 + 1)^1.5 / 4
    neighbour = SHIFT * (1.0 - 1.0 / 9.0 - 2.0 * coulomb(0.5, 1.0))
    expected = 2 * mean**2 * neighbour
    for pair in ((flat[:, 1:], flat[:, :-1]), (flat[1:], flat[:-1])):
        assert (pair[0] * pair[1]).mean() == pytest.approx(expected, abs=error / np.sqrt(2) + 0.02 * expected)
    total = sum(
        (flat[10 : -10 or None, 10:-10] * np.roll(flat, (j, i), axis=(0, 1))[10:-10, 10:-10]).mean()
        for j in range(-7, 8)
        for i in range(-7, 8)
    )
    assert total == pytest.approx(mean, rel=4 * np.sqrt(2.0) * 15 / size)  # charge is conserved


@pytest.mark.parametrize("peak", [1e6, 1e8, 1e10])
def test_the_brightest_stars_leave_no_pixel_of_negative_charge(peak):
    """Charge beyond a full well bleeds; pixels below zero were copied by crosstalk as sharp holes of other CCDs."""
    y, x = np.indices((61, 61)) - 30
    star = (2000.0 + peak * np.exp(-0.5 * (x**2 + y**2) / 2.0**2)).astype(np.float32)
    spread = redistribute(star)
    assert spread.min() > 1500.0
    assert spread.sum(dtype=float) == pytest.approx(star.sum(dtype=float), rel=1e-5)
