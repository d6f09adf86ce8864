"""Resampling: positions, flux, noise, masks."""

from dataclasses import replace

import numpy as np
import pytest

from imaging.bits import MaskBit
from imaging.image import CalibratedImage
from imaging.simulation.pairs import ExposureSpec, expose, make_pair_sky
from imaging.templates.pixels import grow_bits, repair_rows
from imaging.templates.resample import lanczos_table, resample
from imaging.templates.saturated import fill_saturated_cores, repair_pixels
from imaging.templates.settings import StackSettings

SHAPE = (420, 360)
SETTINGS = StackSettings()


@pytest.fixture(scope="module")
def pair() -> tuple[CalibratedImage, CalibratedImage]:
    sky = make_pair_sky(3, SHAPE, n_transients=5)
    spec = ExposureSpec(1.1, 31, turbulence_mas=0.0, astrometry_error_mas=0.0, cosmic_rays=3)
    other = ExposureSpec(
        0.9, 32, turbulence_mas=0.0, astrometry_error_mas=0.0, cosmic_rays=3, dither_pixels=(9.3, -7.6)
    )
    return expose(sky, spec, SHAPE).image, expose(sky, other, SHAPE).image


def with_science(image: CalibratedImage, science: np.ndarray) -> CalibratedImage:
    clean = replace(
        image.pixels, science=science.astype(np.float32), mask=np.zeros(science.shape, np.int16),
        weight=np.ones(science.shape, np.float32),
    )  # fmt: skip
    return replace(image, pixels=clean)


def test_weights_of_every_phase_sum_to_one():
    table = lanczos_table()
    assert np.allclose(table.sum(axis=1), 1.0, atol=1e-6)
    assert table[0, 2] == pytest.approx(1.0)


def test_a_star_arrives_where_the_coordinates_say_with_its_flux(pair):
    search, template = pair
    ny, nx = SHAPE
    ra, dec = template.wcs.pixel_to_sky(np.array([180.37]), np.array([205.81]))
    stamp = template.psf.stamp(180.37, 205.81, 20)
    science = np.zeros(SHAPE)
    science[206 - 20 : 206 + 21, 180 - 20 : 180 + 21] = 1e5 * stamp
    out = resample(with_science(template, science), with_science(search, np.zeros(SHAPE)), SETTINGS)
    assert out.alignment.n_sources == 0
    x, y = search.wcs.sky_to_pixel(ra, dec)
    gy, gx = np.mgrid[:ny, :nx]
    near = np.hypot(gx - x[0], gy - y[0]) < 12
    total = out.science[near].sum(dtype=float)
    assert total == pytest.approx(science.sum() * 0.995, rel=0.01)
    assert (out.science * gx)[near].sum(dtype=float) / total == pytest.approx(x[0], abs=0.02)
    assert (out.science * gy)[near].sum(dtype=float) / total == pytest.approx(y[0], abs=0.02)


def test_noise_is_described_by_weight_and_correlation(pair):
    search, template = pair
    rng = np.random.default_rng(5)
    out = resample(with_science(template, rng.standard_normal(SHAPE)), with_science(search, np.zeros(SHAPE)), SETTINGS)
    good = out.weight > 0
    normalised = out.science * np.sqrt(out.weight)
    n = np.count_nonzero(good)
    assert normalised[good].std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * n))
    edge = -(-60 // SETTINGS.correlation_tile(SHAPE))
    tiles = out.correlation[edge:-edge, edge:-edge]
    lags = tiles.mean(axis=(0, 1)) / tiles[..., 0, 0].mean()
    inner = normalised[60:-60, 60:-60]
    measured = np.mean(inner[:, 1:] * inner[:, :-1])
    assert measured == pytest.approx(lags[0, 1], abs=5 / np.sqrt(inner.size))
    assert out.correlation[..., 0, 0].mean() < 0.99


def test_alignment_finds_an_error_of_the_coordinates(pair):
    search, template = pair
    shifted = replace(template, wcs=template.wcs.shifted(0.8, -1.3))
    alignment = resample(shifted, search, SETTINGS).alignment
    assert alignment.n_sources >= SETTINGS.align_min_sources
    assert alignment.x[0] + 0.18 * alignment.x[1] == pytest.approx(-0.8, abs=0.05)
    assert alignment.y[0] + 0.18 * alignment.y[1] == pytest.approx(1.3, abs=0.05)


def test_outside_has_no_weight_and_bad_pixels_grow(pair):
    search, template = pair
    mask = np.zeros(SHAPE, np.int16)
    mask[200, 150] = MaskBit.BPM
    image = replace(template, pixels=replace(template.pixels, mask=mask, weight=np.ones(SHAPE, np.float32)))
    out = resample(image, search, SETTINGS)
    assert np.all(out.weight[out.mask == int(MaskBit.EDGE)] == 0)
    assert (out.mask == int(MaskBit.EDGE)).mean() > 0.01
    bad = (out.mask & int(MaskBit.BPM)) != 0
    assert 20 <= bad.sum() <= 36
    assert np.all(out.weight[bad] == 0)


def test_narrow_defects_are_bridged_and_wide_ones_left():
    science = np.tile(np.arange(30, dtype=np.float32), (5, 1))
    mask = np.zeros(science.shape, np.int16)
    mask[2, 10:13] = MaskBit.CRAY
    mask[3, 5:25] = MaskBit.BPM
    science[2, 10:13] = 5000.0
    science[3, 5:25] = 7000.0
    repaired = repair_rows(science, mask, max_gap=12)
    assert np.allclose(repaired[2], np.arange(30))
    assert np.all(repaired[3, 5:25] == 7000.0)


def test_growth_spreads_every_bit():
    mask = np.zeros((9, 9), np.int16)
    mask[4, 4], mask[4, 6] = MaskBit.BPM, MaskBit.CRAY
    grown = grow_bits(mask, 1)
    assert grown[5, 5] == MaskBit.BPM | MaskBit.CRAY
    assert (grown & int(MaskBit.BPM) != 0).sum() == 9


def test_saturated_core_gets_its_light_back(pair):
    _, template = pair
    stamp = template.psf.stamp(180.2, 200.3, 20)
    science = np.random.default_rng(2).normal(0.0, 50.0, SHAPE)
    science[200 - 20 : 200 + 21, 180 - 20 : 180 + 21] += 6e6 * stamp
    truth = science.copy()
    mask = np.where(science > 150000, int(MaskBit.SATURATE), 0).astype(np.int16)
    science = np.minimum(science, 150000).astype(np.float32)
    filled = fill_saturated_cores(science, mask, np.full(SHAPE, 1 / 2500, np.float32), template.psf)
    assert filled == 1
    core = mask != 0
    assert science[core].sum(dtype=float) == pytest.approx(truth[core].sum(), rel=0.05)


@pytest.mark.parametrize("half_width", [3, 7])  # masked with what is grown around it: narrower and wider than a defect
def test_a_bleed_trail_leaves_no_charge_and_its_star_keeps_its_core(pair, half_width):
    """A full well over 300 rows: through a kernel of 11 pixels a thousandth of it would be five times the noise."""
    _, template = pair
    stamp = template.psf.stamp(180.0, 200.0, 20)
    truth = np.random.default_rng(2).normal(0.0, 50.0, SHAPE)
    truth[200 - 20 : 200 + 21, 180 - 20 : 180 + 21] += 2e7 * stamp
    truth += np.arange(SHAPE[1])  # a slope of the sky
    saturated = truth > 150000
    saturated[60:360, 179:182] = True
    mask = np.where(saturated, int(MaskBit.SATURATE), 0).astype(np.int16)
    mask[60:360, 180 - half_width : 181 + half_width] |= np.int16(MaskBit.TRAIL)
    science = np.where(saturated, 150000.0, truth).astype(np.float32)
    pixels = replace(template.pixels, science=science, mask=mask, weight=np.full(SHAPE, 1 / 2500, np.float32))
    repaired = repair_pixels(pixels, template.psf)
    trail = (mask & int(MaskBit.TRAIL)) != 0
    far = trail & (np.abs(np.arange(SHAPE[0]) - 200)[:, None] > 20)
    assert (repaired - truth)[far].mean() == pytest.approx(0.0, abs=5.0)
    assert np.abs(repaired - truth)[far].max() < 400.0  # ends of 50 electrons and the noise of the truth
    core = (mask != 0) & ~far
    assert repaired[core].sum(dtype=float) == pytest.approx(truth[core].sum(), rel=0.05)
    assert np.array_equal(repaired[mask == 0], science[mask == 0])
