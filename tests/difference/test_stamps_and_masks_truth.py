"""Geometry of stamps, masks, blank sky and a stack's makeup, against NumPy and SciPy."""

import io
from dataclasses import replace

import galsim
import numpy as np
import pytest
from matplotlib.image import imread
from scipy.ndimage import binary_dilation, binary_propagation

from imaging.bits import NO_WEIGHT, MaskBit
from imaging.difference.blank import quiet_sky
from imaging.difference.masks import difference_mask, kernel_radius, usable
from imaging.difference.settings import MaskSettings
from imaging.difference.stamps import cut_stamp, cut_triplet
from imaging.difference.triplet import StampTriplet
from imaging.pictures.stamps import WIDE_GAP as GAP
from imaging.pictures.stamps import ZOOM, triplet_picture
from tests.difference.drawn import ROUND, difference_of, draw

RNG = np.random.default_rng(1)


@pytest.mark.parametrize(("x", "y", "half"), [(10, 12, 3), (0, 0, 4), (29, 19, 5), (2, 18, 25), (-2, 22, 4)])
def test_a_stamp_is_the_window_of_the_padded_image(x, y, half):
    image = RNG.normal(size=(20, 30)).astype(np.float32)
    wide = np.pad(image, 40, constant_values=np.nan)
    expected = wide[y + 40 - half : y + 41 + half, x + 40 - half : x + 41 + half]
    stamp = cut_stamp(image, x, y, half)
    assert stamp.dtype == np.float32 and np.array_equal(stamp, expected, equal_nan=True)


def test_a_triplet_holds_search_matched_template_and_difference_about_the_nearest_pixel():
    image, model = draw((80, 90), [40.4], [33.6], [1e4]), draw((80, 90), [50.0], [33.0], [3e4])
    triplet = cut_triplet(difference_of(image, model=model), 40.4, 33.6, side=31)
    window = (slice(34 - 15, 34 + 16), slice(40 - 15, 40 + 16))
    assert triplet.difference == pytest.approx(image[window], abs=1e-3)
    assert triplet.template == pytest.approx(model[window], abs=1e-3)
    assert triplet.search == pytest.approx((image + model)[window], abs=1e-2)


def test_the_picture_is_upright_and_its_panels_are_stretched_by_noise_and_core():
    noise = RNG.normal(0.0, 10.0, (3, 51, 51)).astype(np.float32)
    light = draw((51, 51), [25.0], [25.0], [2e4])
    search, template, difference = noise + np.array([light, 0 * light, light])
    search[45, 5] = 1e6  # above and left of the middle
    difference[25, 25] = -difference.max()
    picture = imread(io.BytesIO(triplet_picture(StampTriplet(search, template, difference))))[..., :3]
    side = 51 * ZOOM
    assert picture.shape == (side, 3 * side + 2 * GAP, 3)
    panels = [picture[:, k * (side + GAP) : k * (side + GAP) + side].mean(axis=2) for k in range(3)]

    def pixel(panel, x, y):
        block = panels[panel][(50 - y) * ZOOM : (51 - y) * ZOOM, x * ZOOM : (x + 1) * ZOOM]
        assert np.ptp(block) == 0
        return float(block[0, 0])

    assert pixel(0, 5, 45) == 1.0 and pixel(0, 45, 5) < 0.6
    assert pixel(0, 25, 25) == pytest.approx(1.0, abs=0.02)
    assert np.median(panels[1]) == pytest.approx(np.median(panels[0]), abs=0.02)  # one stretch for both
    assert pixel(2, 25, 25) == 0.0 and pixel(2, 26, 25) > 0.8
    assert np.median(panels[2]) == pytest.approx(0.5, abs=0.02)  # zero is the middle grey
    for k in range(2):
        assert (picture[:, (k + 1) * side + k * GAP : (k + 1) * (side + GAP)] == 1.0).all()
    marked = np.abs(picture - np.array([230, 159, 0]) / 255).max(axis=2) < 0.01
    middle, rows_and_columns = side // 2, np.nonzero(marked)
    for k in range(3):
        inside = (rows_and_columns[1] >= k * (side + GAP)) & (rows_and_columns[1] < k * (side + GAP) + side)
        rows, columns = rows_and_columns[0][inside] - middle, rows_and_columns[1][inside] - middle - k * (side + GAP)
        reach = np.maximum(np.abs(rows + 0.5), np.abs(columns + 0.5))
        assert reach.min() > 7 * ZOOM - 1 and reach.max() < 11 * ZOOM + 1 and rows.size == 2 * 2 * 4 * ZOOM


@pytest.mark.parametrize("sigma", [0.8, 1.5, 2.5])
def test_the_radius_of_a_kernel_is_that_of_the_square_that_holds_the_share(sigma):
    side = np.arange(-12, 13)
    line = np.exp(-0.5 * (side / sigma) ** 2)
    kernel = np.outer(line, line) * np.where(np.add.outer(side, side) % 2, -1.0, 1.0)  # of either sign
    line /= line.sum()
    for share in (0.5, 0.8, 0.99):
        held = [line[12 - r : 13 + r].sum() ** 2 for r in range(13)]
        assert kernel_radius(kernel, share) == next(r for r in range(13) if held[r] >= share)


def a_kernel(radius):
    kernel = np.zeros((13, 13))
    kernel[6, 6], kernel[6, 6 + radius] = 0.5, 0.5
    return kernel


def masked(fixed, convolved, model, *, radius=2, **settings):
    kernel, settings = a_kernel(radius), MaskSettings(**settings)
    return difference_mask(fixed, convolved, kernel, model.astype(np.float32), 10.0, 36.0, settings)


@pytest.mark.parametrize("radius", [0, 1, 4])
def test_defects_grow_where_the_image_was_convolved_and_nowhere_else(radius):
    fixed, convolved = np.zeros((2, 60, 70), np.int16)
    fixed[20, 30], convolved[40, 15], convolved[41, 50] = MaskBit.CRAY, MaskBit.BPM, MaskBit.SUSPECT
    fixed[30, 40] |= MaskBit.SSXTALK
    mask = masked(fixed, convolved, np.zeros((60, 70)), radius=radius)
    square = np.ones((2 * radius + 1, 2 * radius + 1))
    for bit, expected in (
        (MaskBit.CRAY, fixed == MaskBit.CRAY),
        (MaskBit.BPM, binary_dilation(convolved == MaskBit.BPM, square)),
        (MaskBit.SUSPECT, binary_dilation(convolved == MaskBit.SUSPECT, square)),
    ):
        assert np.array_equal((mask & bit) != 0, expected)
    inner = np.zeros(mask.shape, bool)
    inner[radius : 60 - radius, radius : 70 - radius] = True
    assert np.array_equal((mask & MaskBit.EDGE) != 0, ~inner)
    assert np.array_equal(usable(mask), (mask & int(NO_WEIGHT | MaskBit.SSXTALK)) == 0)
    assert usable(mask)[41, 50] and not usable(mask)[40, 15] and not usable(mask)[30, 40]


@pytest.mark.parametrize("bit", [MaskBit.SATURATE, MaskBit.TRAIL, MaskBit.EDGEBLEED])
def test_a_saturated_star_is_masked_as_far_as_its_connected_light_is_uncertain(bit):
    """An uncertainty of 15 per cent is, over the 36 pixels of a fit, two sigma at a level of 10 * 2 / (0.15 * 6)."""
    level = 2.0 * 10.0 / (0.15 * 6.0)
    shape = (120, 140)
    model = draw(shape, [60.0, 110.0], [50.0, 90.0], [2e5, 2e5], galsim.Moffat(beta=2.5, fwhm=5.0), reach=60)
    fixed, convolved = np.zeros((2, *shape), np.int16)
    convolved[48:53, 60] = bit
    mask = masked(fixed, convolved, model, bright_error=0.15)
    seeds = binary_dilation(convolved != 0, np.ones((11, 11)))  # three pixels and the two of the kernel
    reached = binary_propagation(seeds, mask=(model > level) | seeds)
    assert np.array_equal((mask & MaskBit.SATURATE) != 0, reached)
    assert not reached[90, 110] and reached.sum() > 2 * seeds.sum()
    smaller = masked(fixed, convolved, model, bright_error=0.075)
    strict = binary_propagation(seeds, mask=(model > 2 * level) | seeds)
    assert np.array_equal((smaller & MaskBit.SATURATE) != 0, strict)
    narrow = masked(fixed, convolved, model * 0, saturated_growth_pixels=1, radius=0)
    assert np.array_equal((narrow & MaskBit.SATURATE) != 0, binary_dilation(convolved != 0, np.ones((3, 3))))


def test_the_mask_of_a_saturated_star_ends_at_the_flank_of_a_galaxy_beside_it():
    """The valley between them is above the level, so that all connected light would be masked."""
    shape, level = (120, 140), 2.0 * 10.0 / (0.15 * 6.0)
    star = draw(shape, [50.0], [60.0], [4e6], galsim.Moffat(beta=2.5, fwhm=5.0), reach=60)
    model = star + draw(shape, [80.0], [60.0], [4e5], galsim.Gaussian(fwhm=9.0), reach=60)
    assert model[60, 50:81].min() > level
    fixed, convolved = np.zeros((2, *shape), np.int16)
    convolved[58:63, 50] = MaskBit.SATURATE
    noisy = model + np.random.default_rng(3).normal(0.0, 10.0, shape)
    saturated = (masked(fixed, convolved, noisy, bright_error=0.15) & MaskBit.SATURATE) != 0
    assert saturated[60, 30:66].mean() > 0.9 and not saturated[53:68, 76:87].any()


def test_quiet_sky_has_a_score_and_less_template_than_so_many_sigma():
    flux = RNG.normal(0.0, 300.0, (40, 30)).astype(np.float32)
    variance = RNG.uniform(50.0, 100.0, (40, 30)) ** 2
    norm = (1 / variance).astype(np.float32)
    norm[4:9, 7] = 0.0
    expected = (np.abs(flux) / np.sqrt(variance) < 2.5) & (norm > 0)
    assert np.array_equal(quiet_sky(flux, norm, np.float32(2.5)), expected)
    assert 0.3 < expected.mean() < 0.8


def test_the_difference_as_an_image_tells_forced_photometry_what_it_needs():
    d = difference_of(draw((140, 150), [40.0], [60.0], [1e4]), widths=np.array([[1.0, 1.1], [1.2, 1.7]]))
    d = replace(d, scale_error=0.004, shift_error=0.03, photon_gain=0.8, psf_flux_error=0.002)
    image = d.as_image()
    header = image.pixels.header
    assert {k: header[k] for k in ("SCALEERR", "SHIFTERR", "PSFERR", "PHOTGAIN", "KERNSUM", "GAIN")} == {
        "SCALEERR": 0.004,
        "SHIFTERR": 0.03,
        "PSFERR": 0.002,
        "PHOTGAIN": 0.8,
        "KERNSUM": 1.01,
        "GAIN": 1.0,
    }
    assert header["FLUXERRS"] == pytest.approx(1.15) and header["KERNCONV"] == "template"
    assert image.psf is d.psf and image.pixels.science is d.image and image.zeropoint_mag == 31.4
    assert "SCALEERR" not in d.search.pixels.header and image.label == "difference of drawn"
    assert image.psf.noise_pixels(75.0, 70.0) == pytest.approx(1 / (draw((41, 41), [20], [20], [1], ROUND) ** 2).sum())
