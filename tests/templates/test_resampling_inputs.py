"""Work on a template is done once: repair, mask growth and stars are laid with the final image and only read later."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from imaging.bits import MaskBit
from imaging.image import CalibratedImage, CcdImage
from imaging.io.images import read_planes, write_planes
from imaging.photometry.settings import CalibrationSettings
from imaging.simulation.pairs import ExposureSpec, expose, make_pair_sky
from imaging.templates import resampling_inputs as module
from imaging.templates.pixels import grow_bits
from imaging.templates.relative import find_bright_sources
from imaging.templates.resampling_inputs import (
    EXTENSIONS,
    make_resampling_inputs,
    resampling_inputs_from,
    resampling_inputs_of,
    resampling_planes,
    with_resampling_inputs,
)
from imaging.templates.saturated import _connected, fill_saturated_cores, repair_pixels
from imaging.templates.settings import ResamplingInputSettings, StackSettings
from imaging.templates.stack import stack_templates

SHAPE = (420, 360)
SETTINGS = ResamplingInputSettings()
STAR_ELECTRONS = 6e6


@pytest.fixture(scope="module")
def images() -> list[CalibratedImage]:
    """A search image and two templates; the first template has a bad column and a saturated star."""
    sky = make_pair_sky(3, SHAPE, n_transients=5)
    specs = [
        ExposureSpec(0.9 + 0.1 * k, 41 + k, turbulence_mas=0.0, cosmic_rays=8, dither_pixels=(9.3 * k, -7.6 * k))
        for k in range(3)
    ]
    search, first, second = (expose(sky, spec, SHAPE).image for spec in specs)
    return [search, spoilt(first), second]


def spoilt(image: CalibratedImage) -> CalibratedImage:
    pixels = image.pixels
    science, mask = pixels.science.copy(), pixels.mask.copy()
    stamp = image.psf.stamp(150.3, 210.6, 20)
    science[211 - 20 : 211 + 21, 150 - 20 : 150 + 21] += (STAR_ELECTRONS * stamp).astype(np.float32)
    full = science > image.saturation_electrons
    science[full] = image.saturation_electrons
    mask[full] |= np.int16(MaskBit.SATURATE)
    mask[:, 77] |= np.int16(MaskBit.BPM)
    science[5, 77] = np.nan
    weight = np.where(mask != 0, np.float32(0.0), pixels.weight)
    return replace(image, pixels=CcdImage(science, mask, weight, pixels.header))


def test_resampling_inputs_are_the_repair_the_growth_and_the_stars(images):
    image = images[1]
    laid = resampling_inputs_of(image)
    science, mask = image.pixels.science.copy(), image.pixels.mask.copy()
    repaired = repair_pixels(image.pixels, image.psf, SETTINGS.repair_gap_pixels)
    assert np.array_equal(laid.repair(image.pixels.science), repaired)
    assert np.isfinite(repaired).all()
    assert np.array_equal(laid.grow(image.pixels.mask), grow_bits(image.pixels.mask, SETTINGS.mask_growth_pixels))
    assert np.array_equal(image.pixels.science, science, equal_nan=True)  # the image itself is left as it is
    assert np.array_equal(image.pixels.mask, mask)
    assert image.pixels.science[211, 150] == image.saturation_electrons
    peak = STAR_ELECTRONS * image.psf.stamp(150.3, 210.6, 20).max()
    assert repaired[211, 150] == pytest.approx(peak, rel=0.05)  # the star's core has its light back
    assert laid.repaired.size < 0.02 * repaired.size
    assert laid.stars.shape[1] == 2
    assert len(laid.stars) > 10


def test_stars_are_where_the_sources_are(images):
    """Centroids agree with those of the sky that was drawn, seen in another image through the coordinates of both."""
    first, second = (resampling_inputs_of(images[k]).stars for k in (0, 2))
    ra, dec = images[0].wcs.pixel_to_sky(*first.T)
    x, y = images[2].wcs.sky_to_pixel(ra, dec)
    nearest = np.hypot(x[:, None] - second[:, 0], y[:, None] - second[:, 1]).min(axis=1)
    assert np.count_nonzero(nearest < 0.3) > 0.5 * len(first)


def test_file_keeps_resampling_inputs_to_the_bit(images, tmp_path: Path):
    pixels = images[1].pixels
    laid = resampling_inputs_of(images[1])
    planes = {"SCI": pixels.science, "MSK": pixels.mask, "WGT": pixels.weight}
    paths = [tmp_path / name for name in ("one.fits", "two.fits")]
    for path in paths:
        write_planes(path, planes | resampling_planes(laid), pixels.header)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    again = resampling_inputs_from(read_planes(paths[0], optional=EXTENSIONS)[0])
    assert again is not None
    for name in ("repaired_at", "repaired", "grown_at", "grown", "stars"):
        kept, expected = getattr(again, name), getattr(laid, name)
        assert kept.dtype == expected.dtype
        assert np.array_equal(kept, expected)
    assert (again.repair_gap_pixels, again.mask_growth_pixels) == (12, 2)
    assert set(read_planes(paths[0])[0]) == {"SCI", "MSK", "WGT"}  # who does not ask for it is not given it


def test_image_without_defects_and_stars_keeps_empty_lists(images, tmp_path: Path):
    nothing = CcdImage(np.zeros((60, 50), np.float32), np.zeros((60, 50), np.int16), np.ones((60, 50), np.float32), {})
    laid = make_resampling_inputs(nothing, images[0].psf, 1e5, SETTINGS)
    assert set(resampling_planes(laid)) == {module.SETTINGS}
    path = tmp_path / "empty.fits"
    write_planes(path, {"SCI": nothing.science} | resampling_planes(laid), {})
    again = resampling_inputs_from(read_planes(path, ["SCI"], optional=EXTENSIONS)[0])
    assert again is not None
    assert again.stars.shape == (0, 2)
    assert again.repaired_at.size == again.grown_at.size == 0
    assert np.array_equal(again.grow(nothing.mask), nothing.mask)


def test_file_of_another_hand_has_none(images, tmp_path: Path):
    path = tmp_path / "other.fits"
    write_planes(path, {"SCI": images[0].pixels.science, "REPAIRED": np.ones(3, np.float32)}, {})
    assert resampling_inputs_from(read_planes(path, ["SCI"], optional=EXTENSIONS)[0]) is None


def test_templates_that_bring_resampling_inputs_are_not_worked_on_again(images, monkeypatch):
    search, *templates = images
    settings = StackSettings()
    alone = stack_templates(search, templates, settings)
    ready = [with_resampling_inputs(image, settings.resampling_inputs) for image in images]

    def refuse(*_: object) -> None:
        raise AssertionError("worked on a second time")

    monkeypatch.setattr(module, "make_resampling_inputs", refuse)
    stack = stack_templates(ready[0], ready[1:], settings)
    for name in ("science", "mask", "weight"):
        assert np.array_equal(getattr(stack.image.pixels, name), getattr(alone.image.pixels, name))
    assert [i.alignment for i in stack.inputs] == [i.alignment for i in alone.inputs]
    other = settings.with_values(resampling_inputs=ResamplingInputSettings(mask_growth_pixels=3).model_dump())
    with pytest.raises(AssertionError, match="second time"):
        stack_templates(ready[0], ready[1:], other)


def test_other_settings_make_other_resampling_inputs(images):
    image = with_resampling_inputs(images[1], SETTINGS)
    narrow = ResamplingInputSettings(repair_gap_pixels=0, mask_growth_pixels=0)
    assert resampling_inputs_of(image, SETTINGS) is image.resampling_inputs
    assert resampling_inputs_of(image) is image.resampling_inputs
    other = resampling_inputs_of(image, narrow)
    assert other.grown_at.size == 0
    assert other.grow(image.pixels.mask).tolist() == image.pixels.mask.tolist()
    assert 0 < other.repaired_at.size < resampling_inputs_of(image).repaired_at.size  # the core is filled all the same


def test_groups_of_saturated_pixels_are_those_of_eight_neighbours():
    rng = np.random.default_rng(5)
    mask = np.where(rng.random((90, 70)) < 0.3, np.int16(MaskBit.SATURATE), np.int16(0))
    mask |= np.where(rng.random(mask.shape) < 0.5, np.int16(MaskBit.BPM), np.int16(0))  # other bits do not join
    places, first = _connected(mask, np.int16(MaskBit.SATURATE))
    labels, n = ndimage.label((mask & np.int16(MaskBit.SATURATE)) != 0, structure=np.ones((3, 3)))
    assert len(first) == n + 1
    for k in range(n):
        assert sorted(places[first[k] : first[k + 1]]) == np.flatnonzero(labels == k + 1).tolist()


def test_no_saturated_pixel_is_no_core(images):
    pixels = images[2].pixels
    science = pixels.science.copy()
    assert fill_saturated_cores(science, np.zeros(SHAPE, np.int16), pixels.weight, images[2].psf) == 0
    assert np.array_equal(science, pixels.science)


def test_bright_sources_are_the_highest_good_pixels():
    """Every source found is good, above the noise, below the limit, and no pixel within three is higher."""
    rng = np.random.default_rng(9)
    science = rng.normal(0.0, 10.0, (240, 192)).astype(np.float32)
    weight = np.full(science.shape, 0.01, np.float32)
    places = [(30, 40, 900.0), (33, 90, 400.0), (100, 100, 2500.0), (150, 60, 700.0), (152, 61, 800.0), (5, 100, 900.0)]
    for y, x, peak in places:
        science[y, x] = peak
    weight[33, 90] = 0.0
    x, y, peak = find_bright_sources(science, weight, min_snr=15.0, maximum=2000.0)
    # a bad pixel, one beyond the limit, one beside a higher one and one at the border are no sources
    assert list(zip(y, x, peak, strict=True)) == [(30.0, 40.0, 900.0), (152.0, 61.0, 800.0)]
    nothing = find_bright_sources(science, np.zeros_like(weight), min_snr=15.0, maximum=2000.0)
    assert [len(part) for part in nothing] == [0, 0, 0]


def test_the_settings_are_read_under_their_name_of_version_0_1():
    assert (
        StackSettings.model_validate({"groundwork": {"mask_growth_pixels": 5}}).resampling_inputs.mask_growth_pixels
        == 5
    )
    assert CalibrationSettings.model_validate({"groundwork": {}}) == CalibrationSettings()
