"""Cosmic rays are told by the search image's own pixels; noise peaks by their number."""

from dataclasses import replace

import numpy as np
import pytest

from imaging.difference.score import FEATURES, features_of, shipped_model
from imaging.difference.sharpness import pixel_excess
from imaging.difference.train import NOISE_PRIOR, class_weights, reliability, train_score
from imaging.schemas.difference import DetectionFlag


def on_image(searched, place, added):
    """Return the search image with a stamp added about a pixel of blank sky."""
    image = searched.difference.search
    science, (x, y) = image.pixels.science.copy(), place
    half = added.shape[0] // 2
    science[y - half : y + half + 1, x - half : x + half + 1] += added.astype(np.float32)
    return replace(image, pixels=replace(image.pixels, science=science))


@pytest.fixture
def places(searched):
    """Blank places, far from the template's light and from the drawn transients."""
    d = searched.difference
    rng = np.random.default_rng(3)
    lit = d.filtered.template_flux * np.sqrt(np.maximum(d.filtered.norm, 0.0)) > 2.0
    ny, nx = lit.shape
    found = []
    for _ in range(4000):
        x, y = int(rng.integers(30, nx - 30)), int(rng.integers(30, ny - 30))
        window = (slice(y - 10, y + 11), slice(x - 10, x + 11))
        if not lit[window].any() and (d.weight[window] > 0).all() and np.abs(d.score[window]).max() < 4.0:
            found.append((x, y))
    assert len(found) >= 10
    return found[:10]


@pytest.mark.parametrize("snr", [7.0, 20.0, 100.0])
def test_a_point_source_has_no_pixel_of_its_own(searched, places, snr):
    d = searched.difference
    flux = snr / np.sqrt(np.median(d.filtered.norm[d.filtered.norm > 0]))
    for x, y in places:
        search = on_image(searched, (x, y), flux * d.search.psf.stamp(x, y, 12))
        excess = pixel_excess(search, d.model, np.array([x]), np.array([y]), np.array([flux]))
        assert excess[0] < 5.0


def test_a_single_pixel_of_the_same_flux_stands_out(searched, places):
    d = searched.difference
    flux = 7.0 / np.sqrt(np.median(d.filtered.norm[d.filtered.norm > 0]))
    ray = np.zeros((5, 5))
    psf = d.search.psf.stamp(places[0][0], places[0][1], 12)
    ray[2, 2] = flux * np.sum(psf**2) / psf.max()  # the matched filter sees the flux of a source of seven sigma
    found = []
    for x, y in places:
        search = on_image(searched, (x, y), ray)
        found.append(pixel_excess(search, d.model, np.array([x + 0.2]), np.array([y]), np.array([flux]))[0])
    assert np.median(found) > 8.0 and min(found) > 5.0


def test_a_negative_source_is_turned_over(searched, places):
    d = searched.difference
    (x, y), flux = places[0], 5e3
    pit = np.zeros((5, 5))
    pit[2, 2] = -flux
    search = on_image(searched, (x, y), pit)
    deep = pixel_excess(search, d.model, np.array([x]), np.array([y]), np.array([-flux]))
    untouched = pixel_excess(d.search, d.model, np.array([x]), np.array([y]), np.array([-flux]))
    assert deep[0] > 6.0 > untouched[0]


def test_masked_neighbours_and_the_border_say_nothing(searched, places):
    d = searched.difference
    x, y = places[0]
    pixels = d.search.pixels
    weight = pixels.weight.copy()
    weight[y - 2 : y + 3, x - 2 : x + 3] = 0.0
    masked = replace(d.search, pixels=replace(pixels, weight=weight))
    assert pixel_excess(masked, d.model, np.array([x]), np.array([y]), np.array([1e4]))[0] == 0.0
    assert pixel_excess(d.search, d.model, np.array([0.0]), np.array([1.0]), np.array([1e4]))[0] == 0.0


def test_fakes_are_judged_by_the_copy_of_the_search_image(searched):
    fakes = searched.fakes
    found = fakes.match[fakes.detected]
    rays = (fakes.detections.flags[found] & DetectionFlag.COSMIC_RAY) != 0
    assert found.size > 15 and rays.sum() <= 1


def test_the_score_doubts_what_noise_makes_and_believes_what_it_cannot(searched):
    real = features_of(searched.detections, searched.difference.psf.fwhm_pixels)
    good = np.median(real[searched.detections.passed & (searched.detections.score > 10)], axis=0)
    rows = np.tile(good, (3, 1))
    for row, snr in zip(rows, (5.05, 5.5, 8.0), strict=True):
        row[FEATURES.index("log_snr")] = np.log10(snr)
        row[FEATURES.index("noise_exponent")] = 0.5 * min(snr, 7.0) ** 2
    score = shipped_model().probability(rows)
    assert score[0] < 0.3 < score[2] and score[0] < score[1] < score[2]
    assert score[2] > 0.9


def test_noise_peaks_count_with_their_odds_and_the_reliability_says_what_comes_true():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(4000, len(FEATURES)))
    features[:, FEATURES.index("noise_exponent")] = np.where(rng.random(4000) < 0.5, 13.0, 24.5)
    is_real = rng.random(4000) < 1.0 / (1.0 + np.exp(-3.0 * features[:, 0]))
    weight = class_weights(features, is_real)
    assert weight[is_real].sum() == pytest.approx(0.5 * 4000)
    faint = features[:, FEATURES.index("noise_exponent")] < 18
    assert weight[~is_real & faint].mean() == pytest.approx(NOISE_PRIOR * weight[~is_real & ~faint].mean())
    model = train_score(features[:3000], is_real[:3000], "test", limits={})
    for row in reliability(model, features[3000:], is_real[3000:]):
        assert row["share_real"] == pytest.approx(row["score"], abs=3.0 / np.sqrt(row["n"]))
