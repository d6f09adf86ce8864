"""Cosmic rays against astroscrappy's Laplacian search, and the rules of the search pixel by pixel."""

import astroscrappy
import numpy as np
import pytest
from frames import SIGMA, add_star, add_stars, add_track, blank
from scipy.ndimage import binary_dilation, label
from scipy.ndimage import sum as sum_labels

from imaging.bits import MaskBit
from imaging.identity import ExposureId
from imaging.masks.cosmic_rays import find_cosmic_rays, sharpest_drops
from imaging.masks.settings import CosmicRaySettings
from imaging.masks.tables import cosmic_ray_table
from imaging.schemas.masks import COSMIC_RAYS

SETTINGS = CosmicRaySettings()
EIGHT = np.ones((3, 3))


def laplacian(science, fwhm, objlim=5.0):
    """Return the pixels that astroscrappy flags; the sky's variance is given back as a level."""
    found, _ = astroscrappy.detect_cosmics(
        science + np.float32(SIGMA**2),
        gain=1.0,
        readnoise=0.0,
        satlevel=1e9,
        sigclip=5.0,
        sigfrac=0.3,
        objlim=objlim,
        psffwhm=fwhm,
        fsmode="median",
    )
    return found


def rays_on_stars(seed, fwhm, n=40, shape=(512, 512)):
    """Return stars with tracks on them, the same without, and the tracks' electrons."""
    science, weight, mask = blank(shape, seed)
    x, y, flux = add_stars(science, 40, fwhm, seed)
    clean = science.copy()
    random = np.random.default_rng(seed + 50)
    light = np.zeros(shape, np.float32)
    for _ in range(n):
        light += add_track(
            science, *random.uniform(15, shape[0] - 15, 2), random.uniform(0, 20), random.uniform(0, 6.28),
            random.uniform(600, 4000), random.uniform(0.3, 0.5),
        )  # fmt: skip
    return science, clean, weight, mask, light, (x, y, flux)


@pytest.mark.parametrize(("seed", "fwhm"), [(21, 3.4), (22, 4.2), (23, 5.2)])
def test_rays_that_astroscrappy_finds_are_found(seed, fwhm):
    science, _, weight, mask, light, _ = rays_on_stars(seed, fwhm)
    ours = find_cosmic_rays(science, weight, mask, fwhm, SETTINGS).pixels
    theirs = laplacian(science, fwhm)
    # Of what the other search flags only the groups in which a ray truly fell can be asked for.
    labels, n = label(theirs, structure=EIGHT)
    true = np.flatnonzero(sum_labels(light, labels, np.arange(1, n + 1)) > 5 * SIGMA) + 1
    assert true.size > 25
    reached = binary_dilation(ours, EIGHT)
    found = np.array([reached[labels == k].any() for k in true])
    assert found.mean() >= 0.97
    # And what ours finds beyond is no more often wrong: rays in the noise, not stars.
    alone = ours & ~binary_dilation(theirs, EIGHT, iterations=2)
    groups, m = label(alone, structure=EIGHT)
    false = [k for k in range(1, m + 1) if light[binary_dilation(groups == k, EIGHT)].max() < 1.0]
    assert len(false) <= 3


@pytest.mark.parametrize("fwhm", [3.0, 4.2, 6.0])
def test_no_core_of_a_star_is_flagged_where_astroscrappy_flags_none(fwhm):
    science, weight, mask = blank((512, 512), 31)
    x, y, flux = add_stars(science, 60, fwhm, 31)
    cores = np.zeros(science.shape, bool)
    bright = flux > 5e3
    cores[np.rint(y[bright]).astype(int), np.rint(x[bright]).astype(int)] = True
    cores = binary_dilation(cores, EIGHT)
    ours = find_cosmic_rays(science, weight, mask, fwhm, SETTINGS).pixels
    assert not (ours & cores).any()
    assert (laplacian(science, fwhm) & cores).sum() <= 3


def test_a_ray_on_the_wing_of_a_star_takes_no_more_than_itself():
    science, weight, mask = blank((96, 96), 41)
    add_star(science, 48.0, 48.0, 3e5, 4.2)
    light = add_track(science, 54.0, 40.0, 9.0, 1.4, 6000.0, 0.4)
    rays = find_cosmic_rays(science, weight, mask, 4.2, SETTINGS)
    assert rays.pixels[light > 500].mean() > 0.9
    assert not rays.pixels[46:51, 46:51].any()
    assert (rays.pixels & ~binary_dilation(light > 1.0, EIGHT)).sum() == 0
    # What the list adds up is the star's light below the ray too, which the clean frame knows.
    assert rays.flux.sum() == pytest.approx(science[rays.pixels].sum(), rel=1e-5)


def flat(shape=(21, 21)):
    """Return an empty frame of unit noise, and a weight and a mask."""
    return np.zeros(shape, np.float32), np.ones(shape, np.float32), np.zeros(shape, np.int16)


def seeds(science, weight, mask, **changes):
    values = {"maximum_fraction": 0.9, "grow_sigma": 1e6, "skirt_sigma": 1e6} | changes
    return find_cosmic_rays(science, weight, mask, 4.0, SETTINGS.with_values(**values)).pixels


@pytest.mark.parametrize(("factor", "found"), [(0.995, False), (1.005, True)])
def test_a_lone_pixel_must_stand_five_sigma_high_with_its_photons(factor, found):
    """v^2 > 25 (1 + v): the noise of its own photons counts, so that 5 becomes 26 electrons."""
    science, weight, mask = flat()
    threshold = 0.5 * (25 + np.sqrt(25**2 + 4 * 25))
    science[10, 10] = threshold * factor
    assert seeds(science, weight, mask, gradient_sigma=0.1)[10, 10] == found


@pytest.mark.parametrize("direction", [(0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (2, 2), (2, -2)])
@pytest.mark.parametrize("share", [0.97, 1.03])
def test_each_pair_of_pixels_is_held_against_the_moffat_profile(direction, share):
    """A pixel on an even plateau with one pair low is a ray if the pair is significantly below the profile's drop."""
    science, weight, mask = flat()
    value = 1e4
    science[:] = value
    dy, dx = direction
    alpha = 0.8 * 4.0 / (2 * np.sqrt(2 ** (1 / 3) - 1))
    drop = (1 + (dy**2 + dx**2) / alpha**2) ** -3.0
    # Solve excess^2 = 4.5^2 (drop^2 (1 + v) + (1 + 1 + v1 + v2) / 4) for two equal pixels v1 = v2 = p.
    pairs = np.linspace(0, value, 200001)
    excess = drop * value - pairs
    steep = (excess > 0) & (excess**2 > 4.5**2 * (drop**2 * (1 + value) + 0.25 * (2 + 2 * pairs)))
    limit = pairs[steep][-1]
    # One pixel of the pair is three times as bright as the other: it is the mean that counts.
    science[10 + dy, 10 + dx], science[10 - dy, 10 - dx] = 1.5 * limit * share, 0.5 * limit * share
    assert seeds(science, weight, mask)[10, 10] == (share < 1)


@pytest.mark.parametrize("noise", [2.0, 0.5])
def test_the_noise_of_the_pair_counts_by_its_own_weights(noise):
    """Faint pixels, where the sky's noise decides: v drop > 4.5 sqrt(drop^2 (1 + v) + (w1 + w2) / 4)."""
    science, weight, mask = flat()
    science[10, 10] = 60.0
    weight[:] = 0.0
    weight[10, 10] = 1.0
    weight[10, 11], weight[10, 9] = noise**-2, (3 * noise) ** -2
    drop = float(sharpest_drops(0.8 * 4.0)[0])
    significance = drop * 60.0 / np.sqrt(drop**2 * 61.0 + 0.25 * (noise**2 + 9 * noise**2))
    for gradient, found in ((significance * 0.99, True), (significance * 1.01, False)):
        assert seeds(science, weight, mask, gradient_sigma=gradient)[10, 10] == found
    weight[10, 9] = 0.0  # a pair of which one pixel is unknown says nothing
    assert not seeds(science, weight, mask, gradient_sigma=0.5 * significance).any()


def test_negative_pixels_beside_a_ray_add_no_noise_of_photons():
    science, weight, mask = flat()
    science[10, 10] = 60.0
    weight[:] = 0.0
    weight[10, 9:12] = 1.0
    science[10, 9] = science[10, 11] = -10.0
    drop = float(sharpest_drops(0.8 * 4.0)[0])
    significance = (drop * 60.0 + 10.0) / np.sqrt(drop**2 * 61.0 + 0.5)
    for gradient, found in ((significance * 0.99, True), (significance * 1.01, False)):
        assert seeds(science, weight, mask, gradient_sigma=gradient)[10, 10] == found


@pytest.mark.parametrize("bit", [MaskBit.SATURATE, MaskBit.TRAIL, MaskBit.EDGEBLEED, MaskBit.BPM])
@pytest.mark.parametrize(("dy", "dx"), [(0, 2), (-2, 0), (2, 2), (-2, -2), (0, 3), (3, 0), (-3, -3)])
def test_what_lies_within_two_pixels_of_a_full_well_is_left_alone(bit, dy, dx):
    science, weight, mask = flat()
    science[10, 10] = 500.0
    mask[10 + dy, 10 + dx] = np.int16(bit)
    near = max(abs(dy), abs(dx)) <= 2
    assert seeds(science, weight, mask)[10, 10] == (bit == MaskBit.BPM or not near)


@pytest.mark.parametrize(
    ("y", "x", "found"), [(2, 2, True), (1, 10, False), (10, 1, False), (18, 18, True), (19, 9, False)]
)
def test_the_outermost_two_rows_and_columns_have_no_opposite_pixels(y, x, found):
    science, weight, mask = flat()
    science[y, x] = 500.0
    assert seeds(science, weight, mask).any() == found


@pytest.mark.parametrize(("value", "grown"), [(2.3, False), (2.7, True), (385.0, True), (390.0, False)])
@pytest.mark.parametrize(("dy", "dx"), [(0, 1), (-1, 1), (1, 1)])
def test_neighbours_join_a_ray_between_noise_and_seventy_percent_of_its_signal(value, grown, dy, dx):
    """The first step takes what stands 2.5 sigma above its surroundings, and less than 0.7 x 550 + 2.5 electrons."""
    science, weight, mask = flat()
    science[10, 10] = 550.0
    science[10 + dy, 10 + dx] = value
    # So near to a full well the neighbour cannot start a ray itself, while the bright pixel can.
    mask[10, 13] = np.int16(MaskBit.SATURATE)
    found = seeds(science, weight, mask, grow_sigma=2.5)
    assert found[10, 10]
    assert found[10 + dy, 10 + dx] == grown
    assert found.sum() == 1 + grown


def test_the_list_of_rays_survives_writing_to_a_table():
    science, weight, mask = blank((200, 200), 61)
    light = [add_track(science, 50.0, 60.0, 10.0, 0.3, 3000.0), add_track(science, 140.0, 120.0, 0.0, 0.0, 5000.0)]
    rays = find_cosmic_rays(science, weight, mask, 4.0, SETTINGS)
    table = cosmic_ray_table(rays, ExposureId(1300001, "z", 20240510), 17)
    assert table.schema.equals(COSMIC_RAYS)
    assert table.num_rows == 2
    assert (set(table["ccd"].to_pylist()), set(table["band"].to_pylist())) == ({17}, {"z"})
    for name in ("x", "y", "n_pixels", "flux"):
        assert table[name].to_numpy() == pytest.approx(getattr(rays, name), rel=1e-6)
    order = np.argsort(table["x"].to_numpy())
    for k, track in zip(order, light, strict=True):
        n = table["n_pixels"].to_numpy()[k]
        assert table["flux"].to_numpy()[k] == pytest.approx(
            track.sum(), abs=4 * SIGMA * np.sqrt(n) + 0.05 * track.sum()
        )
    labels, n_groups = label(rays.pixels, structure=EIGHT)
    assert n_groups == 2
    assert sorted(np.bincount(labels.ravel())[1:]) == sorted(rays.n_pixels)
