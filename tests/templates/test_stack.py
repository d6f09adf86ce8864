"""Stacks: relative zero points, outliers, coverage, noise, PSF."""

from dataclasses import replace

import numpy as np
import pytest

from imaging.bits import MaskBit
from imaging.detector.distortion import seed_wcs
from imaging.errors import NoWorkError
from imaging.numerics.robust import mad_sigma
from imaging.simulation.pairs import ExposureSpec, Frame, expose, make_pair_sky
from imaging.templates.psf import pixel_matrix, turned
from imaging.templates.resample import resample
from imaging.templates.settings import StackSettings
from imaging.templates.stack import Template, stack_templates
from imaging.wcs.tpv import TpvWcs

SHAPE = (600, 512)
SETTINGS = StackSettings()
ZEROPOINTS = (31.4, 31.55, 31.25)


@pytest.fixture(scope="module")
def frames() -> tuple[Frame, list[Frame]]:
    sky = make_pair_sky(7, SHAPE, n_transients=5)
    search = expose(sky, ExposureSpec(1.1, 71, turbulence_mas=5.0), SHAPE, "search")
    templates = [
        expose(
            sky,
            ExposureSpec(
                0.9 + 0.1 * k,
                72 + k,
                turbulence_mas=5.0,
                zeropoint_mag=ZEROPOINTS[k],
                dither_pixels=(11.0 * k, -8.0 * k),
            ),
            SHAPE,
            f"template {k}",
        )
        for k in range(3)
    ]
    return search, templates


@pytest.fixture(scope="module")
def stack(frames) -> Template:
    search, templates = frames
    return stack_templates(search.image, [t.image for t in templates], SETTINGS)


def truth_on_grid(search: Frame, template: Frame) -> np.ndarray:
    image = template.image
    model = replace(image, pixels=replace(image.pixels, science=template.model))
    return resample(model, search.image, SETTINGS).science


def test_noise_of_the_stack_is_its_weight(frames, stack):
    search, templates = frames
    pixels = stack.image.pixels
    scale = 10 ** (-0.4 * (np.array(ZEROPOINTS) - ZEROPOINTS[0]))
    model = np.mean([s * truth_on_grid(search, t) for s, t in zip(scale, templates, strict=True)], axis=0)
    blank = (pixels.weight > 0) & (np.abs(model) < 10)
    residual = (pixels.science - model)[blank] * np.sqrt(pixels.weight[blank])
    assert mad_sigma(residual) == pytest.approx(1.0, abs=0.015)


def test_cores_of_stars_are_not_clipped(frames, stack):
    search, templates = frames
    pixels = stack.image.pixels
    scale = 10 ** (-0.4 * (np.array(ZEROPOINTS) - ZEROPOINTS[0]))
    planes = [truth_on_grid(search, t) * s for s, t in zip(scale, templates, strict=True)]
    bright = (pixels.weight > 0) & (planes[0] > 3000) & (planes[0] < 60000)
    assert bright.sum() > 100
    low, high = np.min(planes, axis=0), np.max(planes, axis=0)
    noise = 5 * np.sqrt(1 / pixels.weight[bright] + planes[0][bright])
    inside = (pixels.science[bright] > low[bright] - noise) & (pixels.science[bright] < high[bright] + noise)
    assert inside.mean() > 0.99
    usual = np.median(pixels.weight[pixels.weight > 0])
    assert np.median(pixels.weight[bright]) > 0.9 * usual


def test_an_unmasked_cosmic_ray_of_one_input_goes(frames):
    search, templates = frames
    hit = templates[1].image
    science = hit.pixels.science.copy()
    places = [(100, 120), (300, 250), (420, 400)]
    for j, i in places:
        science[j : j + 2, i : i + 2] += 4000.0
    images = [templates[0].image, replace(hit, pixels=replace(hit.pixels, science=science)), templates[2].image]
    stacked = stack_templates(search.image, images, SETTINGS)
    assert stacked.inputs[1].clipped_pixels >= 9
    for j, i in places:
        x, y = (round(float(v[0])) for v in search.image.wcs.sky_to_pixel(*hit.wcs.pixel_to_sky([i + 0.5], [j + 0.5])))
        clean = stack_templates(search.image, [templates[0].image, templates[2].image], SETTINGS).image.pixels.science
        difference = stacked.image.pixels.science[y - 2 : y + 3, x - 2 : x + 3] - clean[y - 2 : y + 3, x - 2 : x + 3]
        assert np.abs(difference).max() < 400


def test_each_pixel_tells_its_inputs(frames):
    search, templates = frames
    image = templates[1].image
    mask = image.pixels.mask.copy()
    mask[300:305, 250:255] |= np.int16(MaskBit.TRAIL)
    images = [templates[0].image, replace(image, pixels=replace(image.pixels, mask=mask)), templates[2].image]
    used = stack_templates(search.image, images, SETTINGS).makeup.used
    x, y = (round(float(v[0])) for v in search.image.wcs.sky_to_pixel(*image.wcs.pixel_to_sky([252.0], [302.0])))
    assert np.all(used[y - 1 : y + 2, x - 1 : x + 2] == 0b101)  # all but the second
    assert np.median(used[y - 20 : y + 21, x - 20 : x + 21]) == 0b111


def test_relative_zeropoints_undo_a_wrong_header(frames):
    search, templates = frames
    wrong = replace(templates[1].image, zeropoint_mag=templates[1].image.zeropoint_mag + 0.06)
    settings = SETTINGS.with_values(min_zeropoint_stars=5)
    stacked = stack_templates(search.image, [templates[0].image, wrong, templates[2].image], settings)
    corrections = np.array([i.zeropoint_correction_mag for i in stacked.inputs])
    assert min(i.n_stars for i in stacked.inputs) >= 5
    assert corrections[1] - (corrections[0] + corrections[2]) / 2 == pytest.approx(-0.06, abs=0.006)


def test_psf_and_gain_are_those_of_the_mean(frames, stack):
    _, templates = frames
    width = [t.image.psf.fwhm_pixels for t in templates]
    assert min(width) < stack.image.psf.fwhm_pixels < max(width)
    assert stack.image.psf.stamp(250.3, 300.8, 11).sum() == pytest.approx(1.0, abs=0.02)
    assert 2.5 < stack.image.pixels.header["GAIN"] < 3.5
    assert [i.label for i in stack.inputs] == ["template 0", "template 1", "template 2"]


def test_uncovered_pixels_are_masked_and_too_little_is_no_work(frames):
    search, templates = frames
    weight = templates[0].image.pixels.weight.copy()
    weight[80:] = 0.0
    part = replace(templates[0].image, pixels=replace(templates[0].image.pixels, weight=weight))
    stacked = stack_templates(search.image, [part], SETTINGS)
    assert 0.10 < stacked.coverage < 0.20
    pixels = stacked.image.pixels
    assert np.all(pixels.mask[pixels.weight == 0] != 0)
    weight[30:] = 0.0
    with pytest.raises(NoWorkError) as failure:
        stack_templates(search.image, [part], SETTINGS)
    assert failure.value.reason == "no_template_overlap"


def test_same_inputs_same_bytes(frames, stack):
    search, templates = frames
    again = stack_templates(search.image, [t.image for t in templates], SETTINGS)
    assert again.image.pixels.science.tobytes() == stack.image.pixels.science.tobytes()
    assert again.image.pixels.weight.tobytes() == stack.image.pixels.weight.tobytes()


def test_a_template_that_is_turned_and_mirrored_keeps_its_psf_on_the_sky():
    """An elongated PSF of an image whose rows run along the other axis comes out along that axis."""
    axis = np.arange(-20, 21) * 1.0
    long_x = np.exp(-0.5 * (axis[None, :] ** 2 / 9.0 + axis[:, None] ** 2 / 4.0)) / (2 * np.pi * 6.0)
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    assert np.allclose(turned(long_x, quarter), long_x.T, atol=1e-9)
    assert np.array_equal(turned(long_x, np.array([[1.0, 0.01], [-0.01, 1.0]])), long_x)
    small = turned(long_x, 1.5 * np.eye(2))
    assert small.sum() == pytest.approx(1.0, abs=1e-3)
    assert small.max() == pytest.approx(2.25 * long_x.max(), rel=0.01)


def test_the_matrix_between_two_pixel_grids():
    wcs = seed_wcs(10, 150.0, -20.0)
    other = TpvWcs(wcs.crval, (wcs.crpix[1], wcs.crpix[0]), wcs.cd[:, ::-1], wcs.pv)
    assert pixel_matrix(wcs, other, 1000.0, 2000.0) == pytest.approx(np.array([[0.0, 1.0], [1.0, 0.0]]), abs=1e-3)


def test_the_optical_axis_of_every_template_is_known_on_the_search_images_grid(frames, stack):
    search, templates = frames
    tangent = [search.image.wcs.sky_to_pixel(*np.array(t.image.wcs.crval)[:, None]) for t in templates]
    axes = np.array([one.axis for one in stack.inputs])
    moved = np.squeeze(np.array(tangent))
    assert axes[0] == pytest.approx(np.array(search.image.wcs.crpix) - 1.0, abs=0.1)
    assert axes - axes[0] == pytest.approx(moved - moved[0], abs=0.3)
    assert abs(axes[2, 0] - axes[0, 0]) > 20.0


def test_the_error_of_the_transparency_is_that_of_the_same_places_in_the_templates(frames):
    """Errors that grow along each template, by the coordinates on the search image's grid."""
    search, templates = frames
    y, x = np.mgrid[: SHAPE[0] // 64 + 2, : SHAPE[1] // 64 + 2] * 64.0
    given = [np.zeros((1, 1)), 0.02 + 1e-4 * x, 0.01 + 2e-4 * y]
    stack = stack_templates(
        search.image,
        [replace(t.image, transparency_error=error) for t, error in zip(templates, given, strict=True)],
        SETTINGS,
    )
    found = stack.image.transparency_error
    sky = search.image.wcs.pixel_to_sky(x.ravel(), y.ravel())
    (own_x, _), (_, own_y) = (t.image.wcs.sky_to_pixel(*sky) for t in templates[1:])
    block = stack.makeup.block
    for j, i in ((1, 1), (1, 6), (5, 4), (8, 2)):
        shares = stack.makeup.shares[j * 64 // block, i * 64 // block]
        k = j * x.shape[1] + i
        expected = np.hypot(shares[1] * (0.02 + 1e-4 * own_x[k]), shares[2] * (0.01 + 2e-4 * own_y[k]))
        assert found[j, i] == pytest.approx(expected, rel=2e-3)
    assert not stack_templates(search.image, [templates[0].image], SETTINGS).image.transparency_error.any()
