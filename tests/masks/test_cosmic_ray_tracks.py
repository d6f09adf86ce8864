"""Faint tracks of cosmic rays are masked along their length, sources that they cross are not."""

import numpy as np
import pytest
from frames import SIGMA, add_stars, add_streak, add_track, blank
from scipy.ndimage import binary_dilation

from imaging.masks.cosmic_rays import find_cosmic_rays, sharpest_drops
from imaging.masks.ray_tracks import follow
from imaging.masks.settings import CosmicRaySettings

SETTINGS = CosmicRaySettings()
SEEDS_ONLY = SETTINGS.model_copy(update={"line_sigma": np.inf})


@pytest.mark.parametrize(("fwhm", "per_pixel", "before"), [(3.0, 20 * SIGMA, 0.25), (3.6, 16 * SIGMA, 0.15)])
def test_tracks_two_pixels_wide_leave_little_in_sharp_seeing(fwhm, per_pixel, before):
    """A piece of four pixels that is left has the S/N of a faint transient: 0.08 of a track of 40 pixels at most."""
    science, weight, mask = blank((512, 512))
    random = np.random.default_rng(3)
    place, angle = random.uniform(60, 450, (12, 2)), random.uniform(0, 2 * np.pi, 12)
    track = sum(add_track(science, *p, 40.0, a, per_pixel, 0.6) for p, a in zip(place, angle, strict=True))
    masks = (find_cosmic_rays(science, weight, mask, fwhm, s).pixels for s in (SETTINGS, SEEDS_ONLY))
    left = [track[~pixels].sum() / track.sum() for pixels in masks]
    assert left[0] < 0.08
    assert left[1] > before


def test_no_source_is_followed_from_a_track_across_it():
    fwhm = 4.0
    science, weight, mask = blank((400, 400))
    add_stars(science, 150, fwhm)
    track = sum(add_track(science, x, 60.0, 200.0, 1.2, 60 * SIGMA, 0.4) for x in np.arange(40.0, 320.0, 40.0))
    rays = find_cosmic_rays(science, weight, mask, fwhm, SETTINGS).pixels
    assert rays[track > 5 * SIGMA].mean() > 0.9
    assert (rays & ~binary_dilation(track > 1.0, np.ones((7, 7)))).sum() <= 5


@pytest.mark.parametrize("wider", [1.0, 1.4])
def test_a_spike_is_not_followed_from_a_pixel_on_it(wider):
    """It fills so much of the window around its pixels that their median hides how slowly it drops: 200 pixels then."""
    fwhm = 5.0
    science, weight, mask = blank((200, 200))
    spike = add_streak(science, 100.0, 100.0, np.pi / 4, 60 * SIGMA, wider * fwhm)
    science += (np.sqrt(spike) * np.random.default_rng(4).normal(size=spike.shape)).astype(np.float32)
    seeds, state = np.array([[100, 100]], np.int32), np.zeros(science.shape, np.uint8)
    drops = sharpest_drops(SETTINGS.sharpness * fwhm)
    limits = np.float32(SETTINGS.grow_sigma), np.float32(SETTINGS.line_sigma)
    marked = follow(science, weight, mask, 0, 0, seeds, drops, *limits, state)
    assert len(marked) <= 3


def test_the_level_of_a_halo_hides_no_track():
    """A halo of 20 sigma counts where neighbours are compared with a pixel; tracks are followed there too."""
    science, weight, mask = blank((256, 256))
    level = np.linspace(15, 25, 256, dtype=np.float32)[:, None] * SIGMA
    science += level + (np.sqrt(level) * np.random.default_rng(5).normal(size=science.shape)).astype(np.float32)
    track = sum(add_track(science, x, 40.0, 60.0, 1.3, 35 * SIGMA, 0.6) for x in np.arange(20.0, 220.0, 20.0))
    masks = (find_cosmic_rays(science, weight, mask, 4.0, s).pixels for s in (SETTINGS, SEEDS_ONLY))
    left = [track[~pixels].sum() / track.sum() for pixels in masks]
    assert left[0] < 0.15 < 0.5 < left[1]
