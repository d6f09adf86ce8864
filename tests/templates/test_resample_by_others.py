"""Resampled images against reproject and against the formula of the kernel: flux, places, weights, reach."""

import numpy as np
import pytest
import sep
from astropy.io import fits
from astropy.wcs import WCS
from reproject import reproject_adaptive, reproject_exact, reproject_interp

from imaging.bits import MaskBit
from imaging.image import CalibratedImage, CcdImage
from imaging.psf.model import PsfModel
from imaging.templates.align import measure_alignment
from imaging.templates.grid import PixelMap
from imaging.templates.psf import fwhm_of_samples
from imaging.templates.resample import noise_correlation, resample
from imaging.templates.settings import ResamplingInputSettings, StackSettings
from imaging.wcs.tpv import TpvWcs

SHAPE = (240, 220)
SCALE_DEG = 0.263 / 3600
SETTINGS = StackSettings(resampling_inputs=ResamplingInputSettings(mask_growth_pixels=0, repair_gap_pixels=0))
UNALIGNED = SETTINGS.with_values(align_min_sources=10**6)
SOURCES = [(60.3, 70.8, 9e4), (150.6, 60.2, 7e4), (110.4, 121.5, 8e4), (70.9, 170.1, 6e4), (160.2, 180.7, 1e5)]
SIGMA = 2.6
SLOPE_ERROR = 0.02
"""Largest error of the mean position of the six weights of the Lanczos kernel, pixels."""


def tangent(angle_deg=0.0, zoom=1.0, centre=(109.5, 119.5), shift=(0.0, 0.0)):
    """Return coordinates whose pixels are turned and ``zoom`` times as large."""
    a = np.radians(angle_deg)
    cd = SCALE_DEG * zoom * np.array([[-np.cos(a), np.sin(a)], [np.sin(a), np.cos(a)]])
    pv = np.zeros((2, 40))
    pv[:, 1] = 1.0
    return TpvWcs((150.0, -20.0), (centre[0] + 1 + shift[0], centre[1] + 1 + shift[1]), cd, pv)


def image(wcs, science, mask=None, weight=None):
    axis = np.arange(-20, 21) * 0.5
    core = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / SIGMA**2) / (2 * np.pi * SIGMA**2)
    psf = PsfModel(core[None].astype(np.float32), 0, 0.5, (0.0, 0.0), (1.0, 1.0), 2.3548 * SIGMA)
    mask = np.zeros(science.shape, np.int16) if mask is None else mask
    weight = np.ones(science.shape, np.float32) if weight is None else weight
    pixels = CcdImage(science.astype(np.float32), mask, weight.astype(np.float32), {})
    return CalibratedImage(pixels, wcs, psf, 30.0, 100.0, 1e6, "image")


def gaussians(sources, sigma=SIGMA, shape=SHAPE):
    y, x = np.mgrid[: shape[0], : shape[1]]
    norm = 1.0 / (2 * np.pi * sigma**2)
    return sum(f * norm * np.exp(-0.5 * ((x - a) ** 2 + (y - b) ** 2) / sigma**2) for a, b, f in sources)


def plain_wcs(wcs):
    header = fits.Header()
    header.update({k: v for k, v in wcs.to_header().items() if not k.startswith("PV")})
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    return WCS(header)


@pytest.mark.parametrize(("angle", "zoom"), [(0.0, 1.0), (17.0, 1.0), (-35.0, 1.2), (180.0, 0.85)])
def test_pixels_flux_and_places_are_those_of_reproject(angle, zoom):
    source, target = tangent(), tangent(angle, zoom, shift=(0.37, -1.21))
    science = gaussians(SOURCES)
    found = resample(image(source, science), image(target, np.zeros(SHAPE)), UNALIGNED)
    inside = found.weight > 0
    before, after = (science.astype(np.float32), plain_wcs(source)), plain_wcs(target)
    spline, _ = reproject_interp(before, after, shape_out=SHAPE, order="bicubic")
    # A Gaussian of 2.6 pixels is band-limited: both interpolations are good to a few thousandths of the peak.
    peak = (spline[inside] * zoom**2).max()
    assert np.nanmax(np.abs(found.science - spline * zoom**2)[inside]) < 0.004 * peak
    exact, _ = reproject_exact(before, after, shape_out=SHAPE)
    adaptive, _ = reproject_adaptive(before, after, shape_out=SHAPE, conserve_flux=True, boundary_mode="ignore")
    x, y = target.sky_to_pixel(*source.pixel_to_sky(*np.array(SOURCES).T[:2]))
    ours = sep.sum_circle(np.ascontiguousarray(found.science), x, y, 13.0 / zoom, subpix=0)[0]
    for plane, factor, tolerance in ((exact, zoom**2, 2e-3), (adaptive, 1.0, 1e-2)):
        judged = np.nan_to_num(plane * factor).astype(np.float32)
        assert ours == pytest.approx(sep.sum_circle(judged, x, y, 13.0 / zoom, subpix=0)[0], rel=tolerance)
    assert ours == pytest.approx([flux for *_, flux in SOURCES], rel=2e-3)
    sigma = np.full(x.size, SIGMA / zoom)
    places = sep.winpos(np.ascontiguousarray(found.science), x, y, sigma)[:2]
    # A slope is not kept exactly by the kernel: a place moves by up to SLOPE_ERROR pixels along each axis.
    assert np.abs(np.subtract(places, (x, y))).max() < (SLOPE_ERROR + 0.002) / zoom


def lanczos(distance):
    return np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)


def taps(phase):
    """Return the normalised weights of the input pixels -2 to 3 for an output pixel at a sub-pixel phase."""
    weights = lanczos(phase - np.arange(-2, 4))
    return weights / weights.sum()


@pytest.mark.parametrize(("dx", "dy"), [(0.25, 0.75), (0.75, 0.25), (0.125, 0.5), (-0.375, -0.125)])
def test_a_point_spreads_over_six_by_six_pixels_and_the_noise_falls_by_their_squares(dx, dy):
    """Output pixel (x, y) lies at (x + dx, y + dy) of the input."""
    science = np.zeros(SHAPE)
    science[100, 90] = 1000.0
    rng = np.random.default_rng(2)
    weight, mask = rng.uniform(1.0, 2.0, SHAPE), np.zeros(SHAPE, np.int16)
    mask[50, 60], mask[51, 70] = MaskBit.CRAY, MaskBit.SUSPECT
    source = image(tangent(shift=(dx, dy)), science, mask, weight)
    found = resample(source, image(tangent(), np.zeros(SHAPE)), UNALIGNED)
    ix, iy = int(np.floor(dx)), int(np.floor(dy))
    wx, wy = taps(dx - ix), taps(dy - iy)
    expected = np.zeros(SHAPE)
    # Output pixel x takes the input pixel x + ix + k with the weight of tap k.
    expected[100 - iy - 3 : 100 - iy + 3, 90 - ix - 3 : 90 - ix + 3] = 1000.0 * np.outer(wy[::-1], wx[::-1])
    assert found.science == pytest.approx(expected, abs=0.02)  # positions are good to 1e-3 pixel in 1 / 2048 steps
    rows, columns = np.nonzero(found.mask != int(MaskBit.EDGE))
    assert (columns.min() + ix, columns.max() + ix, rows.min() + iy, rows.max() + iy) == (2, 216, 2, 236)
    near_x, near_y = ix + (dx - ix > 0.5), iy + (dy - iy > 0.5)
    inner = weight[10 + near_y : 230 + near_y, 10 + near_x : 210 + near_x]
    noise = np.sum(wx**2) * np.sum(wy**2)
    kept = found.weight[10:230, 10:210]
    assert kept[kept > 0] == pytest.approx((inner / noise)[kept > 0], rel=2e-3)
    assert np.argwhere(kept == 0).tolist() == [[40 - near_y, 50 - near_x]]
    assert (
        found.mask[50 - near_y, 60 - near_x] == MaskBit.CRAY and found.mask[51 - near_y, 70 - near_x] == MaskBit.SUSPECT
    )
    assert np.all(found.weight[found.mask == int(MaskBit.EDGE)] == 0.0)


def test_larger_pixels_hold_more_light_and_more_noise():
    found = resample(image(tangent(), np.full(SHAPE, 100.0)), image(tangent(zoom=1.5), np.zeros(SHAPE)), UNALIGNED)
    inside = found.weight > 0
    assert found.science[inside] == pytest.approx(225.0, rel=1e-4)
    # Every output pixel lies a quarter of a pixel beside an input pixel, along both axes.
    assert found.weight[inside] == pytest.approx(1 / (1.5**2 * np.sum(taps(0.25) ** 2)) ** 2, rel=1e-3)


@pytest.mark.parametrize(("dx", "dy"), [(0.3, 0.8), (0.0, 0.5)])
def test_the_correlation_of_the_noise_is_the_autocorrelation_of_the_weights(dx, dy):
    x, y = np.meshgrid(np.arange(0, 257, 32) + dx, np.arange(0, 257, 32) + dy)
    correlation = noise_correlation(PixelMap(x, y, 32, SHAPE, 0.0), SHAPE, 128)
    ax, ay = (np.correlate(w, w, "full")[5:] for w in (taps(dx), taps(dy)))
    assert correlation.shape == (2, 2, 6, 6)
    assert correlation == pytest.approx(np.broadcast_to(np.outer(ay, ax), correlation.shape), abs=2e-3)
    away = noise_correlation(PixelMap(x + 5000, y, 32, SHAPE, 0.0), SHAPE, 128)
    assert np.all(away[..., 0, 0] == 1.0) and away.sum() == 4.0


def test_a_shift_and_a_stretch_of_the_coordinates_are_measured_and_applied():
    """A hundred and fifty stars of 0.05 pixel noise give a shift to 0.01 and slopes to 0.05 per thousand pixels."""
    rng = np.random.default_rng(7)
    step, shape = 32, (1600, 1800)
    gx, gy = np.meshgrid(np.arange(0, 1826, step) + 3.0, np.arange(0, 1626, step) - 2.0)
    grid = PixelMap(gx, gy, step, shape, 0.0)
    stars = rng.uniform(20, 1580, (150, 2))
    x, y = stars.T / 1000
    truth = np.stack([1.5 + 0.4 * x - 0.2 * y, -2.25 - 0.3 * x + 0.1 * y], axis=1)
    seen = stars + np.array([3.0, -2.0]) + truth + rng.normal(0.0, 0.05, stars.shape)
    seen[:20] = rng.uniform(20, 1580, (20, 2))
    found = measure_alignment(stars, rng.permutation(seen), grid, SETTINGS.with_values(align_min_sources=4))
    assert found.x == pytest.approx((1.5, 0.4, -0.2), abs=0.05) and found.y == pytest.approx(
        (-2.25, -0.3, 0.1), abs=0.05
    )
    assert 115 <= found.n_sources <= 131 and found.rms_pixels == pytest.approx(0.05, rel=0.15)
    corrected = found.apply(grid).at([1000.0], [500.0])
    assert np.ravel(corrected) == pytest.approx((1003.0 + 1.5 + 0.4 - 0.1, 498.0 - 2.25 - 0.3 + 0.05), abs=0.05)
    few = measure_alignment(stars[30:55], seen[30:55], grid, SETTINGS)
    assert few.x[1:] == (0.0, 0.0) and few.n_sources > 4
    assert measure_alignment(stars[30:33], seen[30:33], grid, SETTINGS).n_sources == 0
    far = measure_alignment(stars, seen + 20.0, grid, SETTINGS)
    assert far.x == pytest.approx((21.5, 0.4, -0.2), abs=0.05) and far.n_sources >= 115
    assert measure_alignment(stars, seen + 400.0, grid, SETTINGS).n_sources == 0  # more than an arcminute


@pytest.mark.parametrize(("sigma", "step"), [(3.0, 0.5), (6.0, 0.5), (2.0, 0.25)])
def test_the_width_of_samples_is_that_of_the_gaussian(sigma, step):
    axis = np.arange(-60, 61) * step
    samples = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / sigma**2)
    # The half-maximum area is counted in samples, which come in rings of up to twelve of equal value.
    rings = 12 / (np.pi * (1.1774 * sigma / step) ** 2)
    assert fwhm_of_samples(samples, step) == pytest.approx(2.3548 * sigma, rel=rings / 2)
    assert np.isnan(fwhm_of_samples(np.ones((5, 5)), step))


def test_a_resampled_image_without_resampling_inputs_is_repaired_first():
    science, mask = np.full(SHAPE, 50.0), np.zeros(SHAPE, np.int16)
    science[:, 100:103], mask[:, 100:103] = 1e5, MaskBit.BPM
    repairing = UNALIGNED.with_values(resampling_inputs=ResamplingInputSettings(mask_growth_pixels=2))
    found = resample(image(tangent(), science, mask), image(tangent(shift=(-0.5, 0.0)), np.zeros(SHAPE)), repairing)
    assert found.science[20:-20, 20:-20] == pytest.approx(50.0, abs=0.01)
    assert np.flatnonzero(found.weight[120, 10:-10] == 0).size == 7
