"""What a stack weighs, clips and keeps, by the formula; zero points and apertures by photutils; the rules of choice."""

import math

import numpy as np
import pytest
from photutils.aperture import CircularAperture, aperture_photometry

from imaging.bits import MaskBit
from imaging.exposure import Exposure
from imaging.templates.align import Alignment
from imaging.templates.combine import combine, psf_contrasts
from imaging.templates.grid import PixelMap
from imaging.templates.relative import aperture_fluxes, find_bright_sources, relative_zeropoints
from imaging.templates.resample import BLOCK, Resampled, relative_depth
from imaging.templates.select import TemplateCandidate, TemplateTarget, merit, rule_broken, select_templates
from imaging.templates.settings import StackSettings, TemplateSettings

SHAPE = (300, 140)
SETTINGS = StackSettings()


def plane(science, weight=1.0, mask=0):
    grid = PixelMap(np.zeros((2, 2)), np.zeros((2, 2)), 32, SHAPE, 0.0)
    arrays = [np.array(np.broadcast_to(v, SHAPE), dtype=t) for v, t in ((science, "f4"), (mask, "i2"), (weight, "f4"))]
    return Resampled(arrays[0], arrays[1], arrays[2], np.zeros((1, 1, 6, 6), np.float32), grid, Alignment())


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
def test_the_mean_is_weighted_by_inverse_variances_at_the_common_zero_point(n):
    rng = np.random.default_rng(n)
    scales, sigmas = rng.uniform(0.5, 2.0, n), rng.uniform(5.0, 20.0, n)
    truth = rng.uniform(0.0, 30.0, SHAPE)
    noise = [rng.normal(0.0, s, SHAPE).clip(-2 * s, 2 * s) for s in sigmas]
    weights = np.array([np.full(SHAPE, s**-2) for s in sigmas])
    weights[0, 200:] = 0.0
    planes = [plane((truth / f) + e, w) for f, e, w in zip(scales, noise, weights, strict=True)]
    values = np.array([p.science * f for p, f in zip(planes, scales, strict=True)], dtype=float)
    wide = SETTINGS.with_values(clip_sigma=50.0)
    science, mask, weight, clipped = combine(planes, scales, wide)
    w = weights / scales[:, None, None] ** 2
    good = w.sum(axis=0) > 0
    assert clipped.tolist() == [0] * n and np.array_equal(weight > 0, good)
    assert weight == pytest.approx(w.sum(axis=0), rel=1e-5)
    mean = (w * values).sum(axis=0)[good] / w.sum(axis=0)[good]
    assert science[good] == pytest.approx(mean, rel=1e-4, abs=1e-3)
    chi = (science - truth)[good] * np.sqrt(weight[good])
    inside = 0.9205  # variance of a unit Gaussian whose tails are put at two sigma
    share = (w**2 * (sigmas[:, None, None] * scales[:, None, None]) ** 2 * (w > 0)).sum(axis=0)[good] * inside
    assert np.mean(chi**2) == pytest.approx(np.mean(share / w.sum(axis=0)[good]), rel=5 * np.sqrt(2 / chi.size))
    if n == 1:
        assert np.all(mask[200:] == int(MaskBit.BPM)) and science[250, 50] == pytest.approx(
            values[0, 250, 50], rel=1e-5
        )


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize(("level", "scale"), [(0.0, 1.0), (900.0, 1.0), (900.0, 2.0), (-400.0, 0.5)])
def test_a_pixel_is_left_out_from_four_sigma_of_noise_and_a_share_of_the_brightness_on(n, level, scale):
    """In a flat image there is no contrast; photon noise of the common level counts at the input's own scale."""
    w = 0.01
    sigma = scale * math.sqrt(1 / w + max(level, 0.0) / scale)
    limit = 4.0 * (1.4 if n == 2 else 1.0) * sigma + 0.10 * abs(level)
    scales = np.full(n, scale)
    for sign in (1, -1):
        if n == 2 and sign == -1:
            continue  # of two values the lower one counts as the middle
        for share, out in ((0.99, 0), (1.01, 1)):
            planes = [plane(level / scale, w) for _ in range(n)]
            for y, x in ((1, 60), (127, 1), (128, 70), (298, 138), (150, 0)):
                planes[n - 1].science[y, x] += sign * share * limit / scale
            science, _, weight, clipped = combine(planes, scales, SETTINGS)
            assert clipped.tolist() == [0] * (n - 1) + [4 * out], (share, sign)
            assert weight[128, 70] == pytest.approx((n - out) * w / scale**2, rel=1e-5)
            expected = level if out else level + sign * share * limit / n
            assert science[128, 70] == pytest.approx(expected, rel=1e-4, abs=1e-2)
            assert weight[150, 0] == pytest.approx(n * w / scale**2, rel=1e-5)  # the outermost pixels stay


def test_neighbours_of_an_outlier_are_left_out_from_six_tenths_of_the_noise_on_and_contrast_is_allowed():
    planes = [plane(0.0, 1.0) for _ in range(3)]
    planes[1].science[100, 50:53] = (2.5, 4.5, 2.3)
    planes[1].science[101, 53], planes[1].science[60, 60] = 2.5, 2.5
    _, _, weight, clipped = combine(planes, np.ones(3), SETTINGS)
    assert clipped.tolist() == [0, 1, 0]
    assert weight[100, 50:53].tolist() == [2.0, 2.0, 3.0] and weight[101, 53] == weight[60, 60] == 3.0
    slope = np.arange(SHAPE[1]) * 10.0  # three pixels differ by 20: 0.35 of it is allowed, and a tenth of the level
    planes = [plane(slope, 1.0) for _ in range(3)]
    limit = 4.0 * math.sqrt(1 + 200.0) + 0.35 * 20.0 + 20.0
    planes[2].science[30, 20] += 0.99 * limit
    planes[2].science[40, 20] += 1.01 * limit
    assert combine(planes, np.ones(3), SETTINGS)[3].tolist() == [0, 0, 1]


@pytest.mark.parametrize("seeing", [(3.0, 4.9), (3.6, 4.3, 3.7), (4.9, 3.0, 3.1, 3.0)])
def test_stars_in_different_seeing_are_not_clipped_and_cosmic_rays_beside_them_are(seeing):
    """Of Moffat profiles, to a peak of 300 times the noise; the mean of the inputs is the mean of their PSFs."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] * 1.0
    places = np.array([(40.3, 30.7), (90.0, 61.0), (60.2, 128.1), (110.4, 228.6)])

    def moffat(fwhm: float, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        alpha = fwhm / 2 / math.sqrt(2 ** (1 / 3) - 1)
        return 2 / (np.pi * alpha**2) * (1 + (dx**2 + dy**2) / alpha**2) ** -3

    images = [sum(3e4 * 40.0 * moffat(f, x - a, y - b) for a, b in places) for f in seeing]
    planes = [plane(image, 0.01) for image in images]
    offsets = np.arange(-20.0, 21.0)
    stamps = np.array([moffat(f, offsets[None], offsets[:, None]) for f in seeing])
    for hit_y, hit_x in ((100, 40), (30, 60), (200, 70)):  # on the sky, and twenty pixels from a star
        planes[0].science[hit_y, hit_x] += 900.0
    science, _, _, clipped = combine(planes, np.ones(len(seeing)), SETTINGS, psf_contrasts(stamps))
    assert clipped.tolist() == [3] + [0] * (len(seeing) - 1)
    for a, b in places:
        core = (slice(round(b) - 6, round(b) + 7), slice(round(a) - 6, round(a) + 7))
        assert science[core] == pytest.approx(np.mean([image[core] for image in images], axis=0), rel=1e-4)
    if max(seeing) > 1.3 * min(seeing):  # without the PSFs the cores are lost
        assert combine(planes, np.ones(len(seeing)), SETTINGS)[3].sum() > 20


def test_masks_of_a_stack_say_what_all_inputs_suspect_and_why_there_is_nothing():
    star, suspect, cray, edge, bump = (int(MaskBit[b]) for b in ("STAR", "SUSPECT", "CRAY", "EDGE", "TAPEBUMP"))
    masks = [np.zeros(SHAPE, int), np.zeros(SHAPE, int)]
    weights = [np.ones(SHAPE), np.ones(SHAPE)]
    cases = [((star, star), (1, 1), star), ((star | cray, suspect), (0, 1), 0), ((cray, edge), (0, 0), cray | edge)]
    cases += [
        ((cray | star, cray), (0, 0), cray),
        ((0, 0), (0, 0), int(MaskBit.BPM)),
        ((suspect, suspect | cray), (1, 0), suspect),
        ((bump | suspect, 0), (1, 1), bump),  # the glow of one input is in the stack
        ((bump | cray, edge), (0, 0), bump | cray | edge),
    ]
    for x, (bits, good, _) in enumerate(cases):
        for k in range(2):
            masks[k][5, x], weights[k][5, x] = bits[k], good[k]
    found = combine([plane(7.0, w, m) for w, m in zip(weights, masks, strict=True)], np.ones(2), SETTINGS)[1]
    assert found[5, : len(cases)].tolist() == [expected for *_, expected in cases]
    assert not found[6:].any()


def stars(seed, shape=(420, 400), n=30, zeropoint=30.0, sky=40.0):
    """Return an image of Gaussian stars on a grid with the noise of sky and stars; its weight knows the sky's alone."""
    places, rng = np.random.default_rng(3), np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    cx, cy = (np.tile(np.arange(6), 5)[:n] * 62.0 + 40 + places.integers(-3, 4, n) for _ in range(2))
    cy = np.repeat(np.arange(5), 6)[:n] * 80.0 + 40 + places.integers(-3, 4, n)
    flux = 10 ** (-0.4 * (places.uniform(17.0, 18.0, n) - zeropoint))
    model = sum(
        f / (2 * np.pi * 4) * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 8) for a, b, f in zip(cx, cy, flux, strict=True)
    )
    science = model + rng.normal(0.0, 1.0, shape) * np.sqrt(model + sky**2)
    return science.astype(np.float32), np.full(shape, sky**-2, np.float32), cx, cy, flux


def test_aperture_fluxes_and_errors_are_those_of_photutils():
    science, weight, x, y, flux = stars(1)
    found, error = aperture_fluxes(science + np.float32(500.0), weight, x, y, 1e9)
    aperture = CircularAperture(np.stack([x, y], axis=1), 22.22 / 2)
    table = aperture_photometry(science, aperture, error=np.sqrt(1 / weight + 0.0))
    noise = np.hypot(np.asarray(table["aperture_sum_err"]), np.sqrt(flux))
    # The local background is a median of some 1100 pixels: 1.25 sigma / sqrt(1100) per pixel of the aperture.
    local = aperture.area * 1.2533 * 40.0 / np.sqrt(1100)
    assert np.abs(found - np.asarray(table["aperture_sum"])).max() < 4 * local + 2e-3 * flux.max()
    assert error == pytest.approx(noise, rel=0.02)
    assert np.abs((found - flux) / np.hypot(error, local)).max() < 4.0
    peak = science[y.astype(int), x.astype(int)]
    limited, _ = aperture_fluxes(science, weight, x, y, float(np.median(peak)))
    assert np.isfinite(limited).sum() == np.sum(peak <= np.median(peak))
    weight[y.astype(int)[0], x.astype(int)[0] + 11] = 0.0
    assert np.isnan(aperture_fluxes(science, weight, x, y, 1e9)[0][0])
    near = np.array([11.0, 12.0, 387.0, 388.0])
    assert np.isfinite(aperture_fluxes(science, weight, near, near, 1e9)[0]).tolist() == [False, True, True, False]


def test_bright_sources_are_the_peaks_brightest_first():
    science, weight, x, y, _ = stars(2)
    fx, fy, peak = find_bright_sources(science, weight, min_snr=15.0, maximum=1e9)
    assert np.all(np.diff(peak) <= 0) and len(fx) == 30
    distance = np.hypot(fx[:, None] - x, fy[:, None] - y)
    assert distance.min(axis=1).max() <= 2.0 and np.unique(distance.argmin(axis=1)).size == 30
    limit = float(peak[10])
    assert len(find_bright_sources(science, weight, min_snr=15.0, maximum=limit)[0]) == 19
    assert len(find_bright_sources(science, weight, min_snr=0.999 * limit / 40.0, maximum=1e9)[0]) == 11


def test_zero_points_are_brought_together_by_the_stars():
    wrong = np.array([0.0, 0.08, -0.05])
    images = [stars(10 + k, zeropoint=30.0 + 0.3 * k) for k in range(3)]
    headers = [30.0 + 0.3 * k + wrong[k] for k in range(3)]
    planes = [i[0] for i in images], [i[1] for i in images]
    corrections, counts = relative_zeropoints(*planes, headers, [1e9] * 3, SETTINGS)
    assert np.all(counts >= 25) and np.median(corrections) == 0.0
    # A star of 20000 electrons in an aperture with 800 electrons of noise is good to 0.04 mag; thirty of them to 0.01.
    flux = np.median(images[0][4])
    error = 1.0857 * np.hypot(40.0 * np.sqrt(387.8), np.sqrt(flux)) / flux / np.sqrt(25)
    difference = corrections - corrections[0] + wrong - wrong[0]
    assert np.abs(difference).max() < 4 * np.sqrt(2) * error < 0.02
    few = relative_zeropoints(*planes, headers, [1e9] * 3, SETTINGS.with_values(min_zeropoint_stars=31))
    assert few[0].tolist() == [0.0] * 3


def exposure(expnum=2, mjd=60000.0, night=20230101, exptime_s=90.0, band="r", **more):
    return Exposure(expnum, band, night, mjd, exptime_s, 150.0, -20.0, 1.1, **more)


@pytest.mark.parametrize(
    ("allowed", "forbidden"),
    [
        ({"mjd": 59985.0}, {"mjd": 59985.01}),
        ({"mjd": 60015.0}, {"mjd": 60014.99}),
        ({"mjd": 59000.0, "exptime_s": 30.0}, {"mjd": 59000.0, "exptime_s": 29.99}),
        ({"mjd": 59000.0, "night": 20220101}, {"mjd": 59000.0, "night": 20211231}),
        ({"mjd": 59000.0, "night": 20240101}, {"mjd": 59000.0, "night": 20240102}),
        ({"mjd": 59000.0, "expnum": 5}, {"mjd": 59000.0, "expnum": 6}),
        ({"mjd": 59000.0, "object_name": "DES wide"}, {"mjd": 59000.0, "object_name": "Zero field"}),
    ],
)
def test_rules_hold_up_to_their_bounds(allowed, forbidden):
    settings = TemplateSettings(first_night=20220101, last_night=20240101, blacklist=(6,))
    assert rule_broken(exposure(1), TemplateCandidate(exposure(**allowed), {}), settings) == ""
    assert rule_broken(exposure(1), TemplateCandidate(exposure(**forbidden), {}), settings) != ""


@pytest.mark.parametrize(("band", "cut"), [("g", 0.2), ("r", 0.3), ("Y", 0.2)])
def test_the_effective_time_is_cut_by_band_and_a_shorter_window_of_one_side_is_its_own(band, cut):
    search, settings = exposure(1, band=band), TemplateSettings(min_days_after=2.0)
    for t_eff, words in ((cut, ""), (cut - 0.001, "effective time")):
        candidate = TemplateCandidate(exposure(mjd=60002.0, band=band), {}, t_eff=t_eff)
        assert rule_broken(search, candidate, settings).startswith(words) and bool(
            rule_broken(search, candidate, settings)
        ) == bool(words)
    early = TemplateCandidate(exposure(mjd=59990.0, band=band), {}, t_eff=1.0)
    assert rule_broken(search, early, settings) == "10.0 d before the search, less than 15 d"
    assert rule_broken(search, TemplateCandidate(exposure(1, mjd=59000.0, band=band), {}), settings).startswith(
        "the search"
    )


def test_the_worth_of_a_template_is_its_inverse_variance_over_seeing_and_age():
    search, settings = exposure(1), TemplateSettings()

    def worth(mjd=60000.0, exptime_s=90.0, **quality):
        return merit(search, TemplateCandidate(exposure(mjd=mjd, exptime_s=exptime_s), {}, **quality), settings)

    assert worth(limit_mag=24.0) == pytest.approx(1.0)
    # Half a magnitude deeper is a noise lower by 10^0.2, a variance by 10^0.4.
    assert worth(limit_mag=24.5) == pytest.approx(10**0.4)
    assert worth(limit_mag=24.0, fwhm_arcsec=1.25) == pytest.approx(0.8)
    for days in (-730.5, 730.5):
        assert worth(limit_mag=24.0, mjd=60000.0 + days) == pytest.approx(1 / 1.1)
    assert worth(t_eff=0.8, exptime_s=200.0) == pytest.approx(1.6)
    assert worth(exptime_s=200.0) == pytest.approx(1.0)


def square(width, east=0.0):
    x, y = np.array([0.0, width, width, 0.0]) + east, np.array([0.0, 0.0, 1.0, 1.0])
    return np.stack([10.0 + 0.1 * x, 0.1 * y - 0.05], axis=1)


def test_a_sliver_below_two_per_cent_and_a_part_covered_often_enough_are_left():
    target = TemplateTarget(exposure(1), {7: square(1.0)})
    wanted = [("sliver", square(1.0, 0.985), 26.0), ("strip", square(1.0, 0.9), 25.0), ("half", square(0.5), 24.0)]
    wanted += [(f"whole {k}", square(1.0), 23.5 - 0.1 * k) for k in range(5)]
    candidates = [
        TemplateCandidate(exposure(10 + k, mjd=59000.0, object_name=name), {3: corners}, limit_mag=depth)
        for k, (name, corners, depth) in enumerate(wanted)
    ]
    table = select_templates(target, candidates[::-1], TemplateSettings()).to_pylist()
    rows = {row["template_expnum"]: row for row in table}
    assert [rows[10 + k]["overlap_fraction"] for k in range(4)] == pytest.approx([0.015, 0.1, 0.5, 1.0], abs=1e-4)
    assert rows[10]["rank"] is None and "overlap 1.5 % is below 2 %" in rows[10]["reason"]
    # Worth times share is 0.63 for the strip, 0.50 for the half, 0.40 to 0.19 for the wholes; where strip and half do
    # not reach, the fourth whole is still wanted.
    assert [rows[11 + k]["rank"] for k in range(7)] == [1, 2, 3, 4, 5, 6, None]
    assert "cover the same part 4 times" in rows[17]["reason"]
    assert {row["ccd"] for row in table} == {7} and {row["template_ccd"] for row in table} == {3}
    assert all(row["delta_days"] == -1000.0 for row in table)


def test_the_depth_of_a_foreign_stack_is_that_of_its_weights_but_for_bad_pixels():
    """Two exposures above the row 160 of the stack, three below; the search image is turned and begins at row 64."""
    rng = np.random.default_rng(4)
    weight = 0.3 * rng.uniform(0.98, 1.02, SHAPE).astype(np.float32)
    weight[160:] *= 2.0 / 3.0
    weight[rng.uniform(size=SHAPE) < 0.3] = 0.0
    nodes = np.arange(0, 192, 32.0)
    x, y = np.meshgrid(139.0 - nodes, 64.0 + nodes)
    depth = relative_depth(weight, PixelMap(x, y, 32, (160, 140), 0.0))
    assert depth.shape == (5, -(-140 // BLOCK))
    assert depth[:3] == pytest.approx(1.0, abs=0.02)
    assert depth[3:] == pytest.approx(2.0 / 3.0, abs=0.02)
    assert np.all(relative_depth(np.zeros(SHAPE, np.float32), PixelMap(x, y, 32, (160, 140), 0.0)) == 1.0)


@pytest.mark.parametrize(
    ("shape", "side"), [((121, 121), 32), ((190, 251), 32), ((600, 600), 64), ((1024, 2000), 128), ((4096, 2048), 128)]
)
def test_small_images_have_small_tiles_of_the_noise_correlation(shape, side):
    assert StackSettings().correlation_tile(shape) == side
    assert StackSettings(correlation_tile_pixels=64).correlation_tile(shape) == min(side, 64)
