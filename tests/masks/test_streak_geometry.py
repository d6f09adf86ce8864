"""Streaks against analytic ridges, a Hough transform by scikit-image, and lines on the sky by astropy."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from frames import SIGMA, add_stars, add_streak, blank
from scipy.ndimage import distance_transform_edt
from skimage.transform import hough_line, hough_line_peaks

from imaging.bits import MaskBit
from imaging.detector.distortion import seed_wcs
from imaging.masks.counts import mask_shares
from imaging.masks.settings import StreakSettings
from imaging.masks.streak_links import link_streaks
from imaging.masks.streak_model import Streak, mask_streak
from imaging.masks.streak_search import N_ANGLES, _radon, binned_signal, search_lines
from imaging.masks.streak_strip import HALF_WIDTH, Course, smooth, step_across, straighten, without_sides
from imaging.masks.streak_trace import _add_polynomial, mask_half_width
from imaging.masks.streaks import find_streaks

SETTINGS = StreakSettings()


def streak(x0, y0, x1, y1, sagitta=0.0, half_width=5.0):
    return Streak(x0, y0, x1, y1, sagitta, 4.0, half_width, 100.0, 2.0, 50.0)


@pytest.mark.parametrize("angle_deg", [0.0, 12.0, 45.0, 90.0, 133.0, 178.0])
def test_lines_are_where_scikit_image_finds_them(angle_deg):
    """Both see the same binned image; the step of the angles is 0.7 degrees, that of the distances a bin."""
    science, weight, mask = blank((1024, 1024), 3)
    angle = np.radians(angle_deg)
    add_streak(science, 540.0, 470.0, angle, 3 * SIGMA, 8.0)
    (best, *_) = search_lines(science, weight, mask, 0, SETTINGS)
    values, _ = binned_signal(science, weight, mask, 0, SETTINGS)
    # The image of the transform is black and white: what stands two sigma out.
    transform, angles, distances = hough_line(values > 2.0, theta=np.linspace(-np.pi / 2, np.pi / 2, 360, False))
    _, (normal,), (distance,) = hough_line_peaks(transform, angles, distances, num_peaks=1)
    assert abs(np.sin(best.angle - normal - np.pi / 2)) < np.radians(1.5)
    x, y = (best.x + 0.5) / 8 - 0.5, (best.y + 0.5) / 8 - 0.5
    assert abs(x * np.cos(normal) + y * np.sin(normal) - distance) < 2.0
    across = (best.y - 470.0) * np.cos(angle) - (best.x - 540.0) * np.sin(angle)
    assert abs(np.sin(best.angle - angle)) < np.radians(1.0)
    assert abs(across) < 8.0


def test_the_radon_transform_adds_each_bin_once_per_angle_at_its_distance():
    random = np.random.default_rng(2)
    values = random.standard_normal((40, 33)).astype(np.float32)
    valid = random.random((40, 33)) > 0.3
    sums, counts = _radon(values, valid)
    assert sums.sum(axis=1) == pytest.approx(np.full(N_ANGLES, values[valid].sum()), abs=1e-3)
    assert np.all(counts.sum(axis=1) == valid.sum())
    middle = (sums.shape[1] - 1) / 2
    y, x = np.nonzero(valid)
    for k in (0, 37, 64, 128, 200):
        angle = np.pi * k / N_ANGLES
        distance = (y - 19.5) * np.cos(angle) - (x - 16.0) * np.sin(angle)
        # A bin goes to the nearest distance; where it lies half way it may go to either.
        cells = np.rint(distance + middle).astype(int)
        clear = np.abs(distance + middle - np.floor(distance + middle) - 0.5) > 1e-3
        expected = np.bincount(cells[clear], weights=values[y, x][clear], minlength=sums.shape[1])
        touched = np.bincount(np.rint(distance + middle + 0.01).astype(int)[~clear], minlength=sums.shape[1])
        touched += np.bincount(np.rint(distance + middle - 0.01).astype(int)[~clear], minlength=sums.shape[1])
        assert sums[k][touched == 0] == pytest.approx(expected[touched == 0], abs=1e-4)


def test_a_line_of_ones_fills_one_cell_of_the_transform():
    values = np.zeros((65, 65), np.float32)
    values[40, :] = 1.0
    sums, counts = _radon(values, np.ones((65, 65), bool))
    middle = (sums.shape[1] - 1) // 2
    assert sums.argmax() == middle + 8  # the first angle runs along x; eight rows above the middle one
    assert sums.max() == 65.0
    assert counts[0, middle + 8] == 65.0
    values[:] = 0.0
    values[:, 20] = 1.0
    sums, _ = _radon(values, np.ones((65, 65), bool))
    # The normal of a line along y points to smaller x: 12 columns left of the middle are 12 above.
    assert sums[N_ANGLES // 2, middle + 12] == sums.max() == 65.0


def test_bins_have_unit_noise_and_leave_out_what_is_masked():
    science, weight, mask = blank((1024, 1024), 4)
    mask[:300] = np.int16(MaskBit.STAR)
    weight[:, 800:] /= 9.0
    science[:, 800:] *= 3.0
    mask[400:405, 96:104] = np.int16(MaskBit.BPM)  # 40 of the 64 pixels of a bin
    mask[408:412, 96:104] = np.int16(MaskBit.BPM)  # 32 of them
    values, valid = binned_signal(science, weight, mask, int(MaskBit.STAR | MaskBit.BPM), SETTINGS)
    assert values.shape == (128, 128)
    assert not valid[:37].any()
    assert valid[38:50].all()
    assert (valid[50, 12], valid[51, 12]) == (False, True)
    for part in (values[40:, :98], values[40:, 102:]):
        assert part.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * part.size))
    assert np.abs(values).max() <= SETTINGS.clip_sigma * 1.15
    assert not values[~valid].any()


@pytest.mark.parametrize(("angle_deg", "fwhm", "peak"), [(20.0, 6.0, 3.0), (100.0, 10.0, 2.0), (155.0, 5.0, 8.0)])
def test_position_and_width_of_a_trail_are_the_drawn_ones(angle_deg, fwhm, peak):
    science, weight, mask = blank((1400, 1100), 5)
    add_stars(science, 60, 4.0, 5)
    angle = np.radians(angle_deg)
    add_streak(science, 560.0, 690.0, angle, peak * SIGMA, fwhm)
    (found,) = find_streaks(science, weight, mask, SETTINGS)
    x, y = found.points(21)
    across = (y - 690.0) * np.cos(angle) - (x - 560.0) * np.sin(angle)
    # A piece of 64 pixels places the ridge to about fwhm / (2.4 x peak x sqrt(64)) pixel; 17 of them share three terms.
    inside = (x > 0) & (x < 1099) & (y > 0) & (y < 1399)
    assert np.abs(across[inside]).max() < max(0.5, 0.1 * fwhm)
    assert found.fwhm_pixels == pytest.approx(fwhm, rel=0.15, abs=0.7)
    direction = np.arctan2(found.y1 - found.y0, found.x1 - found.x0)
    assert abs(np.sin(direction - angle)) < 1e-3
    assert abs(found.sagitta_pixels) < 1.0
    # The trail leaves the image on both sides: what is masked reaches beyond the border.
    for px, py in ((found.x0, found.y0), (found.x1, found.y1)):
        assert not (1 < px < 1098 and 1 < py < 1398)


def test_a_bent_trail_has_the_sagitta_of_its_parabola():
    science, weight, mask = blank((1024, 1400), 6)
    yy, xx = np.mgrid[:1024, :1400]
    middle = 500.0 + 14.0 * (1 - ((xx - 700.0) / 700.0) ** 2)
    alpha = 6.0 / (2 * np.sqrt(2**0.4 - 1))
    science += (4 * SIGMA * (1 + ((yy - middle) / alpha) ** 2) ** -2.5).astype(np.float32)
    (found,) = find_streaks(science, weight, mask, SETTINGS)
    x, y = found.points(41)
    inside = (x > 0) & (x < 1399)
    assert y[inside] == pytest.approx(500.0 + 14.0 * (1 - ((x[inside] - 700.0) / 700.0) ** 2), abs=0.8)
    # Seen from the first to the second end, up is left where the way goes to the right.
    span = abs(found.x1 - found.x0) / 1400.0
    assert found.sagitta_pixels * np.sign(found.x1 - found.x0) == pytest.approx(14.0 * span**2, abs=1.0)


@pytest.mark.parametrize("ends", [(10.0, 20.0, 170.0, 95.0), (160.0, 15.0, 20.0, 105.0), (30.0, 110.0, 30.5, 5.0)])
@pytest.mark.parametrize("half_width", [2.0, 7.5])
def test_the_mask_of_a_straight_streak_is_all_within_its_half_width(ends, half_width):
    mask = np.zeros((120, 180), np.int16)
    mask[50] = np.int16(MaskBit.STAR)
    n = mask_streak(mask, streak(*ends, half_width=half_width))
    yy, xx = np.indices(mask.shape)
    start, end = np.array(ends[:2]), np.array(ends[2:])
    length = np.hypot(*(end - start))
    along = ((xx - start[0]) * (end - start)[0] + (yy - start[1]) * (end - start)[1]) / length
    across = ((yy - start[1]) * (end - start)[0] - (xx - start[0]) * (end - start)[1]) / length
    expected = (along >= 0) & (along <= length) & (np.abs(across) <= half_width)
    # Pixels on the very rim may fall to either side.
    rims = np.stack([along, along - length, np.abs(across) - half_width])
    clear = np.abs(rims).min(axis=0) > 1e-9
    covered = (mask & MaskBit.STREAK) != 0
    assert np.array_equal(covered[clear], expected[clear])
    assert n == covered.sum()
    assert ((mask & MaskBit.STAR) != 0).sum() == 180
    assert mask_shares(mask, int(MaskBit.STREAK)) == (pytest.approx(covered.mean()),)


@pytest.mark.parametrize("sagitta", [9.0, -9.0])
def test_the_mask_of_a_bent_streak_follows_its_points(sagitta):
    """Against the distance of each pixel from the densely sampled curve."""
    bent = streak(15.0, 60.0, 165.0, 75.0, sagitta, half_width=4.0)
    mask = np.zeros((130, 180), np.int16)
    mask_streak(mask, bent)
    x, y = bent.points(2000)
    far = np.ones(mask.shape, bool)
    far[np.rint(y).astype(int), np.rint(x).astype(int)] = False
    distance = distance_transform_edt(far)
    covered = mask != 0
    columns = np.indices(mask.shape)[1]
    inner = (columns > 20) & (columns < 160)
    assert covered[(distance < 3.0) & inner].all()
    assert not covered[(distance > 5.2) & inner].any()
    middle = (np.array([90.0, 67.5]) + sagitta * np.array([-15.0, 150.0]) / np.hypot(15.0, 150.0)).tolist()
    assert (x[1000], y[1000]) == pytest.approx(tuple(middle), abs=0.1)


def test_a_streak_without_length_masks_nothing():
    mask = np.zeros((20, 20), np.int16)
    assert mask_streak(mask, streak(5.0, 5.0, 5.0, 5.0)) == 0
    assert not mask.any()


@pytest.mark.parametrize("surface", [1.0, 20.0, 500.0])
def test_no_more_than_a_fifth_of_a_sigma_is_left_outside_of_the_mask(surface):
    width = mask_half_width(6.0, surface, SETTINGS)
    alpha = 6.0 / (2 * np.sqrt(2**0.4 - 1))
    left = surface * (1 + (width / alpha) ** 2) ** -2.5
    assert left <= 0.2 * 1.0001
    assert width >= 1.5 * 6.0
    if width > 9.0 * 1.0001:
        assert left == pytest.approx(0.2, rel=1e-6)


def test_a_course_enters_and_leaves_the_image_where_its_line_does():
    course = Course(50.0, 40.0, 0.8, 0.6)
    low, high = course.chord((100, 200))
    assert course.position(low) == pytest.approx((-0.5 + 0.0, 2.125), abs=1e-6)
    assert course.position(high) == pytest.approx((129.3333333, 99.5), abs=1e-6)
    assert Course(50.0, 40.0, 0.0, 1.0).chord((100, 200)) == (-40.5, 59.5)
    # Across is to the left of the way: a course along x with a = 3 lies three pixels higher.
    bent = Course(10.0, 20.0, 1.0, 0.0, a=3.0, b=0.1, c=0.01)
    assert bent.position(10.0) == pytest.approx((20.0, 25.0))
    assert Course(10.0, 20.0, 0.0, 1.0, a=3.0).position(5.0) == pytest.approx((7.0, 25.0))


def test_a_strip_is_the_median_signal_to_noise_along_its_pieces():
    science, weight, mask = blank((120, 400), 7)
    science[60] += 10 * SIGMA
    science[63] += 5 * SIGMA
    mask[60, 100:160] = np.int16(MaskBit.CRAY)
    strip = straighten((science, weight, mask), int(MaskBit.CRAY), Course(0.0, 60.0, 1.0, 0.0), (-0.5, 383.5), 64, 1)
    assert strip.along == pytest.approx(31.5 + 64.0 * np.arange(6))
    expected = np.median((science / SIGMA)[40:81].reshape(41, 400)[:, :384].reshape(41, 6, 64), axis=2).T
    free = [0, 3, 4, 5]
    assert strip.profile[free, HALF_WIDTH - 20 : HALF_WIDTH + 21] == pytest.approx(expected[free], abs=1e-5)
    assert np.isnan(strip.profile[2, HALF_WIDTH]) == (np.sum(mask[60, 128:192] == 0) < 64 // 3)
    assert strip.across[HALF_WIDTH + 3] == 3.0
    flat = without_sides(strip.profile, None)
    assert flat[3:, HALF_WIDTH].mean() == pytest.approx(10.0, abs=4 * 1.2533 / np.sqrt(3 * 64))
    assert flat[3:, HALF_WIDTH + 3].mean() == pytest.approx(5.0, abs=4 * 1.2533 / np.sqrt(3 * 64))
    assert strip.error == pytest.approx(np.full(6, 1.2533 / 8.0))
    assert smooth(flat, 3)[3, HALF_WIDTH] == pytest.approx(flat[3, HALF_WIDTH - 1 : HALF_WIDTH + 2].mean())


def test_sides_are_taken_off_and_their_step_is_told():
    profile = np.full((4, 2 * HALF_WIDTH + 1), 3.0)
    profile[:, HALF_WIDTH + 1 :] = 7.0
    profile[:, HALF_WIDTH - 2 : HALF_WIDTH + 3] = 25.0
    assert step_across(profile, 4.0) == 4.0
    assert np.all(without_sides(profile, 4.0)[:, HALF_WIDTH] == 20.0)  # above the mean of 3 and 7
    profile[:, HALF_WIDTH + 3 :] = np.nan
    assert np.all(without_sides(profile, 4.0)[:, HALF_WIDTH] == 22.0)
    assert step_across(profile, 4.0) == 0.0


@pytest.mark.parametrize("degree", [1, 2])
def test_a_course_is_corrected_by_the_weighted_fit_of_numpy(degree):
    random = np.random.default_rng(8)
    along = np.linspace(-900.0, 700.0, 25)
    significance = random.uniform(5.0, 80.0, 25)
    across = 2.0 - 0.004 * along + (3e-6 * along**2 if degree == 2 else 0.0) + random.normal(0, 0.1, 25)
    use = np.ones(25, bool)
    use[3] = False
    across[3] += 30.0
    start = Course(1.0, 2.0, 0.6, 0.8, a=0.5, b=0.001, c=1e-7)
    found = _add_polynomial(start, along, across, use, significance, degree)
    weights = np.sqrt(np.minimum(significance, 50.0))
    expected = np.polyfit(along[use], across[use], degree, w=weights[use])[::-1]
    assert (found.a - 0.5, found.b - 0.001) == pytest.approx(tuple(expected[:2]), rel=1e-6)
    assert found.c - 1e-7 == pytest.approx(expected[2] if degree == 2 else 0.0, abs=1e-12)
    assert (found.x, found.y, found.ux, found.uy) == (1.0, 2.0, 0.6, 0.8)


@pytest.mark.parametrize(("offset", "kept"), [(0.8, True), (1.0, False), (-1.0, False)])
def test_a_piece_three_widths_off_does_not_bend_a_course(offset, kept):
    """Pieces that agree have a width of 0.3 pixel: what lies 0.9 off the fit goes, and the fit is made again."""
    along = np.linspace(-1000.0, 1000.0, 41)
    across = np.zeros(41)
    across[20] = offset
    found = _add_polynomial(Course(0, 0, 1.0, 0.0), along, across, np.ones(41, bool), np.full(41, 20.0), 1)
    assert found.a == pytest.approx(offset / 41 if kept else 0.0, abs=1e-9)


def clipped_line(along, across, n_fits):
    """Fit a line so many times to what lies within three widths of the fit before, or 0.9."""
    keep = np.ones(along.size, bool)
    for _ in range(n_fits):
        line = np.polyfit(along[keep], across[keep], 1)
        residual = np.abs(across - np.polyval(line, along))
        keep = residual < 3 * max(1.4826 * np.median(residual[keep]), 0.3)
    return line[::-1]


def test_a_course_is_fitted_four_times_at_most():
    """Offsets of a Cauchy distribution, of which every fit leaves fewer."""
    along = np.linspace(-1000.0, 1000.0, 41)
    across = 2 * np.random.default_rng(230).standard_cauchy(41)
    found = _add_polynomial(Course(0, 0, 1.0, 0.0), along, across, np.ones(41, bool), np.full(41, 20.0), 1)
    fits = {n: clipped_line(along, across, n)[0] for n in (3, 4, 5)}
    assert min(abs(fits[4] - fits[3]), abs(fits[4] - fits[5])) > 0.3
    assert found.a == pytest.approx(fits[4], abs=1e-6)


def test_pieces_that_are_too_few_to_be_clipped_all_count():
    """Of four pieces the faint one lies far off; three are one too few to check a parabola."""
    along = np.array([-900.0, -300.0, 300.0, 900.0])
    across = np.array([1.0, 2.0, -1.0, 40.0])
    significance = np.array([40.0, 40.0, 40.0, 0.4])
    found = _add_polynomial(Course(0, 0, 1.0, 0.0), along, across, np.ones(4, bool), significance, 2)
    c, b, a = np.polyfit(along, across, 2, w=np.sqrt(significance))
    residual = np.abs(across - np.polyval([c, b, a], along))
    assert residual[3] > 3 * 1.4826 * np.median(residual)
    assert abs(a - np.polyfit(along[:3], across[:3], 2)[2]) > 0.02
    assert (found.a, found.b, found.c) == pytest.approx((a, b, c), rel=1e-6)


def test_a_trail_is_predicted_along_the_great_circle_that_the_sky_has():
    """Two CCDs show an arc of a great circle; on a third the mask must lie on the circle, by astropy."""
    ra, dec = 150.0, -35.0
    geometry = {ccd: seed_wcs(ccd, ra, dec) for ccd in range(1, 63)}
    start = SkyCoord(ra * u.deg, dec * u.deg).directional_offset_by(200 * u.deg, 0.15 * u.deg)
    sky = start.directional_offset_by(62 * u.deg, np.linspace(-1.2, 1.2, 2401) * u.deg)
    pieces = {}
    for ccd, wcs in geometry.items():
        x, y = wcs.sky_to_pixel(sky.ra.deg, sky.dec.deg)
        inside = np.flatnonzero((x > 0) & (x < 2047) & (y > 0) & (y < 4095))
        if inside.size > 60:
            pieces[ccd] = x[inside], y[inside]
    assert len(pieces) > 5
    shown = sorted(pieces)[1::2]
    seen = {}
    for ccd in shown:
        x, y = pieces[ccd]
        length = np.hypot(x[-1] - x[0], y[-1] - y[0])
        middle = len(x) // 2
        bow = ((y[middle] - y[0]) * (x[-1] - x[0]) - (x[middle] - x[0]) * (y[-1] - y[0])) / length
        seen[ccd] = [streak(x[0], y[0], x[-1], y[-1], bow)]
    linked = link_streaks(seen, geometry, SETTINGS)
    (trail,) = linked.trails
    assert trail.seen == tuple(shown)
    assert trail.rms_pixels < 0.5
    assert abs(trail.distance_deg) == pytest.approx(0.15 * np.sin(np.radians(62 - 200 + 180)), abs=5e-4)
    for ccd in set(pieces) - set(shown):
        (predicted,) = linked.predicted[ccd]
        assert predicted.half_width_pixels == 5.0 + SETTINGS.link_margin_pixels
        mask = np.zeros((4096, 2048), np.int16)
        mask_streak(mask, predicted)
        x, y = pieces[ccd]
        assert (mask[np.rint(y).astype(int), np.rint(x).astype(int)] != 0).mean() > 0.995
