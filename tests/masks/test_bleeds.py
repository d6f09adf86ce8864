"""Bleed trails, edge bleeds and halos."""

import numpy as np
import pytest

from imaging.bits import MaskBit
from imaging.detector.ccds import science_ccd
from imaging.masks.bleeds import mask_bleeds
from imaging.masks.settings import BleedSettings

SKY, SIGMA, FULL = 2800.0, 53.3, 1.8e5
NORTH, SOUTH = science_ccd(33), science_ccd(26)


def frame(seed=1):
    random = np.random.default_rng(seed)
    return random.normal(SKY, SIGMA, (4096, 2048)).astype(np.float32), np.zeros((4096, 2048), np.int16)


def add_saturated_star(science, mask, x, y, flux, up, down):
    """A Moffat star cut at the full well, with a trail that fades at its ends."""
    yy, xx = np.mgrid[max(y - 400, 0) : min(y + 400, 4096), max(x - 400, 0) : min(x + 400, 2048)]
    alpha = 4.0
    box = science[max(y - 400, 0) : min(y + 400, 4096), max(x - 400, 0) : min(x + 400, 2048)]
    box += (flux * 2 / (np.pi * alpha**2) * (1 + ((xx - x) ** 2 + (yy - y) ** 2) / alpha**2) ** -3).astype(np.float32)
    science[y - down : y + up, x : x + 2] = 1.1 * FULL
    fading = science[y + up : y + up + 40, x : x + 2]
    fading += np.linspace(3e4, 200, 40)[: len(fading), None].astype(np.float32)
    full = science >= FULL
    science[full] = FULL
    mask[full] |= np.int16(MaskBit.SATURATE)


def test_a_trail_is_followed_until_it_fades():
    science, mask = frame()
    add_saturated_star(science, mask, 700, 2000, 1e8, 300, 200)
    quality = mask_bleeds(science, mask, NORTH, 6.0, BleedSettings())
    assert quality == {"n_saturated_stars": 1.0, "n_bleed_trails": 1.0, "n_edge_bleeds": 0.0}
    trail = (mask & MaskBit.TRAIL) != 0
    assert trail[1800:2335, 699:703].all()
    assert not trail[2380:].any()
    assert not trail[:1780].any()
    assert trail.sum() < 1.5 * 600 * 8


def test_the_halo_grows_with_the_star():
    science, mask = frame()
    for x, flux in ((400, 3e7), (1500, 1e9)):
        add_saturated_star(science, mask, x, 2000, flux, 25, 25)
    mask_bleeds(science, mask, NORTH, 6.0, BleedSettings())
    star = (mask & MaskBit.STAR) != 0
    widths = [star[2000, :1000].sum(), star[2000, 1000:].sum()]
    alpha, level = 4.0, 7 * SIGMA
    for width, flux in zip(widths, (3e7, 1e9), strict=True):
        peak = flux * 2 / (np.pi * alpha**2)
        radius = alpha * np.sqrt((peak / level) ** (1 / 3) - 1)
        assert width == pytest.approx(2 * 2 * radius, rel=0.15)


@pytest.mark.parametrize("ccd", [NORTH, SOUTH], ids=["N", "S"])
def test_charge_spilt_along_the_readout_edge_is_masked_on_its_side_only(ccd):
    science, mask = frame()
    at_bottom = ccd.a_is_left
    add_saturated_star(science, mask, 900, 500 if at_bottom else 3595, 1e9, *((40, 500) if at_bottom else (501, 40)))
    edge = slice(0, 12) if at_bottom else slice(4084, 4096)
    science[edge, 700:1000] += 3000.0
    quality = mask_bleeds(science, mask, ccd, 6.0, BleedSettings())
    assert quality["n_edge_bleeds"] == 1.0
    spilt = (mask & MaskBit.EDGEBLEED) != 0
    assert spilt[edge, 704:992].all()
    assert not spilt[300:3700].any()
    assert not spilt[:, :650].any()
    # The halo belongs to the star, not to the wide rows at the edge.
    star = np.argwhere((mask & MaskBit.STAR) != 0)
    assert star[:, 0].mean() == pytest.approx(500 if at_bottom else 3595, abs=25)


def test_a_trail_into_the_far_edge_is_no_edge_bleed():
    science, mask = frame()
    add_saturated_star(science, mask, 900, 3600, 1e8, 496, 40)
    assert mask_bleeds(science, mask, NORTH, 6.0, BleedSettings())["n_edge_bleeds"] == 0.0


def test_few_saturated_pixels_are_no_star():
    science, mask = frame()
    mask[100, 100:103] |= np.int16(MaskBit.SATURATE)
    assert mask_bleeds(science, mask, NORTH, 6.0, BleedSettings())["n_saturated_stars"] == 0.0
    assert not (mask & MaskBit.STAR).any()


def test_charge_next_to_full_wells_is_masked():
    science, mask = frame()
    mask[500:504, 100:104] |= np.int16(MaskBit.SATURATE)
    mask_bleeds(science, mask, NORTH, 6.0, BleedSettings())
    assert (mask[498:506, 100:104] & MaskBit.TRAIL).all()
    assert not (mask[500:504, 90:98] & MaskBit.TRAIL).any()
