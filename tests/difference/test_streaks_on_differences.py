"""Streaks that the single-epoch search left unmasked are found on the difference; clean differences have none."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import erf

from bench.real_epochs import pairs, read_epochs
from imaging.bits import MaskBit
from imaging.difference.chain import search_ccd
from imaging.difference.detect import detect, find_peaks
from imaging.difference.prepare import calibrate
from imaging.difference.records import Identity
from imaging.difference.settings import DetectionSettings, SearchSettings
from imaging.difference.subtract import subtract
from imaging.schemas.difference import DetectionFlag

DEFECT = int(MaskBit.BPM)


def across_and_along(shape, angle_deg, offset):
    """Distance of each pixel from a line past the image's centre, and its place along it."""
    y, x = np.indices(shape) - np.reshape(np.array(shape) / 2, (2, 1, 1))
    ux, uy = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return y * ux - x * uy - offset, x * ux + y * uy


def with_streak(image, height, width, angle_deg, offset, dashed=0):
    """Add the trail of a disc out of focus: a box of ``width`` pixels blurred by the seeing, ``height`` sigma high.

    ``dashed`` is the period of defects on a third of the trail, pixels.
    """
    pixels = image.pixels
    across, along = across_and_along(pixels.science.shape, angle_deg, offset)
    sigma, blur = 1.0 / np.sqrt(np.median(pixels.weight[pixels.weight > 0])), np.sqrt(2.0) * 1.8
    light = 0.5 * (erf((across + width / 2) / blur) - erf((across - width / 2) / blur)) * height * sigma
    noise = np.random.default_rng(5).normal(size=light.shape) * np.sqrt(np.maximum(light, 0.0))
    mask, weight = pixels.mask.copy(), pixels.weight.copy()
    if dashed:
        broken = (np.abs(across) < width + 6) & (np.mod(along, dashed) < dashed / 3)
        mask[broken] |= DEFECT
        weight[broken] = 0.0
    science = (pixels.science + light + noise).astype(np.float32)
    return replace(image, pixels=replace(pixels, science=science, mask=mask, weight=weight))


def unflagged_on_the_streak(found, shape, angle_deg, offset, reach):
    across, _ = across_and_along(shape, angle_deg, offset)
    x, y = (
        np.clip(np.rint(v).astype(int), 0, n - 1)
        for v, n in ((found.measured.x, shape[1]), (found.measured.y, shape[0]))
    )
    return found.passed & (np.abs(across[y, x]) < reach)


@pytest.mark.parametrize(
    ("height", "width", "angle_deg", "offset", "dashed"),
    [(2.0, 3, 35, -80, 0), (2.0, 12, 143, 60, 0), (3.0, 3, 68, 100, 90), (8.0, 8, 5, -120, 90), (30.0, 5, 118, 0, 0)],
)
def test_nothing_on_an_unmasked_streak_passes_and_the_rest_stays(
    truth, template, searched, height, width, angle_deg, offset, dashed
):
    image = with_streak(truth.search.image, height, width, angle_deg, offset, dashed)
    difference = subtract(image, template)
    found = detect(difference, DetectionSettings())
    shape = difference.image.shape
    reach = width + 12
    base = unflagged_on_the_streak(searched.detections, shape, angle_deg, offset, reach).sum()
    assert not unflagged_on_the_streak(found, shape, angle_deg, offset, reach).any()
    assert difference.quality["difference_streaks"] == 1
    # the mask covers the trail over the image, and little more
    across, along = across_and_along(shape, angle_deg, offset)
    trail = np.abs(across) < width / 2
    masked = (difference.mask & int(MaskBit.STREAK)) != 0
    assert masked[trail & (np.abs(along) < 350)].mean() > 0.95
    assert masked[np.abs(across) > 5 * width + 40].mean() < 0.001
    assert difference.quality["streak_fraction"] == pytest.approx(
        (masked & (image.pixels.weight > 0)).mean(), abs=0.002
    )
    flagged = (found.flags & int(DetectionFlag.STREAK)) != 0
    assert searched.detections.passed.sum() - found.passed.sum() <= base + flagged.sum() + 2


def test_without_the_mask_the_streak_would_leave_detections(truth, template):
    # the test above can fail: with a threshold that no streak reaches, it makes many peaks
    image = with_streak(truth.search.image, 3.0, 3, 68, 100)
    deaf = SearchSettings.model_validate({"difference": {"streaks": {"detect_sigma": 1e6}}}).difference
    difference, settings = subtract(image, template, deaf), DetectionSettings()
    x, y, _ = find_peaks(difference.score, settings.threshold_sigma, settings.peak_radius_pixels)
    across, _ = across_and_along(difference.image.shape, 68, 100)
    assert np.sum(np.abs(across[y.astype(int), x.astype(int)]) < 15) > 50


def test_a_streak_of_the_template_is_masked_too(truth, template):
    ghost = with_streak(template.image, 6.0, 5, 120, 30)
    difference = subtract(truth.search.image, ghost)
    assert difference.quality["difference_streaks"] == 1
    found = detect(difference, DetectionSettings())
    assert not unflagged_on_the_streak(found, difference.image.shape, 120, 30, 17).any()


@pytest.mark.real_data
def test_real_noise_has_no_streak_and_a_streak_on_it_is_found(real_data):
    epochs = read_epochs(real_data / "decam_epochs")
    images = {e.date: calibrate(e.loaded, zeropoint_mag=e.zeropoint_mag) for e in epochs}
    identity, clean, hits, tried = Identity(1, "z", 20170101, 1, 57000.0), 0, 0, 0
    for number, (search, template) in enumerate(pairs(epochs)):
        image, reference = images[search.date], [images[template.date]]
        result = search_ccd(image, reference, identity, SearchSettings(), with_fakes=False)
        assert result.quality["difference_streaks"] == 0
        clean += 1
        if number % 4 == 0:
            place = (20.0 + 40.0 * number, 15.0 * (number % 3) - 15.0)
            streaked = with_streak(image, 4.0, 5, *place)
            result = search_ccd(streaked, reference, identity, SearchSettings(), with_fakes=False)
            passed = unflagged_on_the_streak(result.detections, image.pixels.science.shape, *place, 15)
            tried, hits = tried + 1, hits + (result.quality["difference_streaks"] == 1 and not passed.any())
    assert clean == 20
    assert (hits, tried) == (5, 5)
