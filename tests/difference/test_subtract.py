"""Whole subtractions of a pair with known truth."""

from dataclasses import replace

import numpy as np
import pytest

from bench.difference_runs import Scenario, is_true, run, take
from imaging.difference.detect import detect, find_peaks
from imaging.difference.masks import kernel_radius
from imaging.difference.pair import prepare_pair
from imaging.difference.settings import DetectionSettings, KernelSettings, SubtractionSettings
from imaging.difference.subtract import subtract
from imaging.errors import CcdError
from imaging.numerics.noise_peaks import curvature_of, noise_peaks
from imaging.numerics.robust import weighted_median
from imaging.schemas.difference import DetectionFlag
from imaging.simulation.pairs import ExposureSpec, expose, make_pair_sky
from imaging.templates.settings import StackSettings
from imaging.templates.stack import stack_templates


def test_noise_has_unit_width_and_no_correlation(searched):
    quality = searched.difference.quality
    assert quality["difference_noise_width"] == pytest.approx(1.0, abs=0.02)
    assert quality["score_noise_width"] == pytest.approx(1.0, abs=0.04)
    assert abs(quality["difference_lag1"]) < 0.02
    assert quality["noise_width_predicted"] == pytest.approx(1.0, abs=0.03)


def test_peaks_of_noise_are_as_many_as_stated(searched):
    """The negative ones, which are no transients; below some bright sources the noise is overstated."""
    difference = searched.difference
    n, curvature = np.count_nonzero(difference.weight), curvature_of(difference.filtered.psf_stamps.mean(axis=(0, 1)))
    score = find_peaks(difference.score, 3.0, 2)[2]
    found = np.count_nonzero((score < -3.0) & (score > -4.5))
    expected = noise_peaks(n, curvature, 3.0) - noise_peaks(n, curvature, 4.5)
    assert expected > 100
    assert found == pytest.approx(0.9 * expected, abs=0.1 * expected + 3.0 * np.sqrt(expected))
    assert searched.quality["noise_peaks"] == pytest.approx(noise_peaks(n, curvature))


def test_kernel_agrees_with_the_zero_points(searched):
    quality = searched.difference.quality
    assert quality["kernel_sum"] == pytest.approx(1.0, abs=0.02)
    assert quality["kernel_stamps"] > 15
    assert quality["kernel_chi2"] == pytest.approx(1.0, abs=0.15)
    assert searched.difference.kernel.convolved == "template"
    assert searched.difference.kernel.fallback == ""


def test_registration_is_corrected_below_a_twentieth_of_a_pixel(searched):
    assert searched.difference.quality["registration_pixels"] < 0.05


def test_transients_are_found_with_their_flux(searched, truth):
    detections = searched.detections
    real, nearest = is_true(detections, truth)
    flux = truth.transient_flux[nearest]
    bright = real & (detections.score > 15)
    assert bright.sum() > 30
    ratio = detections.measured.flux[bright] / flux[bright]
    error = detections.measured.flux_error[bright] / flux[bright]
    assert weighted_median(ratio, error**-2) == pytest.approx(1.0, abs=0.006)
    pull = (ratio - 1) / error
    assert 0.7 < 1.4826 * np.median(np.abs(pull)) < 1.3


def test_missed_cosmic_rays_are_labelled(searched, truth):
    m = searched.detections.measured
    labels = []
    for x, y in truth.search.missed:
        distance = np.hypot(m.x - x, m.y - y)
        if distance.min() < 4:
            labels.append(bool(searched.detections.flags[distance.argmin()] & DetectionFlag.COSMIC_RAY))
    assert len(labels) >= 4
    assert np.mean(labels) >= 0.8


def test_few_false_detections_pass(searched, truth, scenario):
    """Three images of a twelfth of a CCD: one each at most, where the goal of two per CCD means a half in all."""
    others = [take(replace(scenario, seed=seed)) for seed in (42, 43)]
    pairs = [(searched, truth), *((run(other, scenario), other) for other in others)]
    passed = [item.detections.passed & ~is_true(item.detections, of)[0] for item, of in pairs]
    assert sum(int(one.sum()) for one in passed) <= 3


def test_cut_flow_counts_everything_once(searched):
    flow = searched.cut_flow
    removed = sum(count for name, count in flow.items() if name not in ("detected", "passed"))
    assert flow["detected"] - removed == flow["passed"] == int(searched.detections.passed.sum())


def test_template_with_the_worse_seeing_turns_the_convolution_round():
    scenario = Scenario(seed=43, shape=(700, 640), n_templates=1, search_fwhm=0.95, template_fwhm=1.2, n_transients=60)
    truth = take(scenario)
    template = stack_templates(truth.search.image, [t.image for t in truth.templates], StackSettings())
    difference = subtract(truth.search.image, template)
    assert difference.kernel.convolved == "search"
    assert difference.quality["difference_noise_width"] == pytest.approx(1.0, abs=0.02)
    assert abs(difference.quality["difference_lag1"]) < 0.03
    detections = detect(difference, DetectionSettings())
    real, nearest = is_true(detections, truth)
    bright = real & (detections.score > 20)
    assert bright.sum() > 20
    ratio = detections.measured.flux[bright] / truth.transient_flux[nearest][bright]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.02)


def test_proper_subtraction_answers_through_the_same_interface(truth, template):
    difference = subtract(truth.search.image, template, SubtractionSettings(method="zogy"))
    assert difference.method == "zogy"
    assert difference.quality["difference_noise_width"] == pytest.approx(1.0, abs=0.03)
    assert abs(difference.quality["difference_lag1"]) < 0.03
    detections = detect(difference, DetectionSettings())
    real, nearest = is_true(detections, truth)
    bright = real & (detections.score > 20)
    ratio = detections.measured.flux[bright] / truth.transient_flux[nearest][bright]
    assert bright.sum() > 30
    assert np.median(ratio) == pytest.approx(1.0, abs=0.02)


def test_delta_kernel_is_an_option(truth, template):
    settings = SubtractionSettings(kernel=KernelSettings(basis="delta", max_order=0))
    difference = subtract(truth.search.image, template, settings)
    assert difference.quality["kernel_sum"] == pytest.approx(1.0, abs=0.03)
    assert difference.quality["difference_noise_width"] == pytest.approx(1.0, abs=0.03)


def test_saturated_pixels_and_their_surroundings_are_masked(searched, truth):
    star = np.argmax(np.where(truth.search.image.pixels.mask & 2, truth.search.image.pixels.science, 0))
    j, i = np.unravel_index(star, searched.difference.mask.shape)
    weight = searched.difference.weight
    assert not weight[max(j - 4, 0) : j + 5, max(i - 4, 0) : i + 5].any()
    assert searched.difference.quality["masked_by_subtraction"] < 0.05


def test_radius_of_a_kernel_holds_its_share():
    kernel = np.zeros((9, 9))
    kernel[4, 4], kernel[4, 6] = 0.85, 0.15
    assert kernel_radius(kernel, 0.8) == 0
    assert kernel_radius(kernel, 0.9) == 2


def test_wrong_zero_point_is_a_typed_failure(truth, template):
    image = replace(template.image, zeropoint_mag=template.image.zeropoint_mag + 0.6)
    with pytest.raises(CcdError) as failure:
        subtract(truth.search.image, replace(template, image=image))
    assert failure.value.reason == "kernel_sum"
    assert failure.value.limit == "1 within 0.2"


def test_empty_images_fall_back_to_the_psf_models():
    sky = make_pair_sky(5, (300, 300), 0)
    frames = [expose(sky, ExposureSpec(fwhm, seed, cosmic_rays=0), (300, 300)) for fwhm, seed in ((1.2, 1), (0.9, 2))]
    images = []
    for frame in frames:
        science = frame.image.pixels.science - frame.model
        weight = np.full(science.shape, 1 / 2600, np.float32)
        pixels = replace(
            frame.image.pixels, science=science, mask=np.zeros_like(frame.image.pixels.mask), weight=weight
        )
        images.append(replace(frame.image, pixels=pixels))
    difference = subtract(images[0], images[1])
    assert difference.kernel.fallback == "kernel of the PSF models"
    assert difference.kernel.sum == pytest.approx(1.0)


def test_other_shapes_and_no_good_pixels_are_refused(truth, template):
    image = template.image
    small = replace(
        image.pixels, science=image.pixels.science[:-1], mask=image.pixels.mask[:-1], weight=image.pixels.weight[:-1]
    )
    with pytest.raises(CcdError) as failure:
        subtract(truth.search.image, replace(image, pixels=small))
    assert failure.value.reason == "shapes_differ"
    nothing = replace(image.pixels, weight=np.zeros_like(image.pixels.weight))
    with pytest.raises(CcdError) as failure:
        prepare_pair(truth.search.image, replace(image, pixels=nothing))
    assert failure.value.reason == "no_good_pixels"


def test_wrong_weights_are_noticed(truth, template):
    pixels = truth.search.image.pixels
    search = replace(truth.search.image, pixels=replace(pixels, weight=pixels.weight * 9))
    with pytest.raises(CcdError) as failure:
        subtract(search, template)
    assert failure.value.reason in ("difference_noise", "kernel_chi2")


def test_same_inputs_same_bytes(truth, template, searched):
    again = subtract(truth.search.image, template)
    assert again.image.tobytes() == searched.difference.image.tobytes()
    assert again.score.tobytes() == searched.difference.score.tobytes()
