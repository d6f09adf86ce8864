"""The simulated camera: flats, bias, defects and the bad-pixel map that lists them, and the library that holds them."""

from datetime import date

import numpy as np
import pytest
from astropy.io import fits
from detector_frames import rng
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import label, median_filter

from imaging.detector.ccds import CCDS
from imaging.detector.crosstalk import observatory_crosstalk
from imaging.io.calibrations import (
    CalibrationLibrary,
    read_brighter_fatter,
    read_calibration_image,
    read_crosstalk,
    read_linearity,
    read_sky_modes,
    read_sky_templates,
)
from imaging.simulation.calibrations import (
    calibration_path,
    true_linearity,
    write_camera_calibrations,
    write_ccd_calibrations,
    write_library_manifest,
)
from imaging.simulation.camera import (
    column_defects,
    make_bad_pixels,
    make_bias,
    make_flat,
    make_star_flat,
    upsample,
)
from imaging.simulation.settings import SimulationSettings

CAMERA = 61
FLAT_MIN, FLAT_MASK, HOT, WARM, COLUMN, EDGE, FUNKY, NEAR_EDGE, BUMP = 1, 4, 8, 16, 64, 128, 1024, 8192, 16384
"""Bits of the survey's bad-pixel map."""


@pytest.fixture(scope="module")
def camera():
    """Return bias, flat and bad pixels of CCD 1, an S CCD at the camera's edge, and of CCD 33, an N CCD."""
    made = {}
    for ccdnum in (1, 33):
        bias, flat = make_bias(CAMERA, CCDS[ccdnum]), make_flat(CAMERA, CCDS[ccdnum], 3)
        made[ccdnum] = bias, flat, make_bad_pixels(CAMERA, CCDS[ccdnum], bias, flat).astype(int)
    return made


@pytest.mark.parametrize("step", [1, 4, 64])
def test_upsampling_is_scipys_linear_interpolation(step):
    shape = (2 * step, 3 * step)
    coarse = rng(1).normal(size=(3, 4))
    y, x = np.mgrid[: shape[0], : shape[1]] / step
    expected = RegularGridInterpolator((range(3), range(4)), coarse)(np.stack([y, x], axis=-1))
    np.testing.assert_allclose(upsample(coarse, step, shape), expected, atol=1e-6)


def test_pixels_differ_by_six_parts_in_a_thousand_in_all_bands_alike(camera):
    flat = camera[1][1]
    patch = flat[1500:1900, 300:700].astype(float)
    noise = (patch[:, 1:] - patch[:, :-1]) / (patch[:, 1:] + patch[:, :-1])
    deviation = 1.4826 * np.median(np.abs(noise - np.median(noise)))  # without the dead pixels
    assert deviation * np.sqrt(2) == pytest.approx(0.006, rel=0.02)  # 160,000 pixels: 0.4 per cent
    ratio = make_flat(CAMERA, CCDS[1], 1) / np.where(flat > 0, flat, 1.0)
    assert np.abs(np.diff(ratio[1500:1900, 300:700], axis=1)).max() < 1e-4  # only the illumination differs
    assert abs(np.median(ratio) - 1.0) > 1e-3


def test_the_corner_of_the_camera_is_vignetted(camera):
    """Throughput falls as 1 - 0.035 r^4: CCD 1 reaches from r^2 = 0.65 to 1.07 of the focal plane's radius."""
    flat = camera[1][1]
    corner = np.median(flat[60:260, 60:260]) / np.median(flat[-260:-60, -260:-60])
    assert corner == pytest.approx((1 - 0.035 * 1.05**2) / (1 - 0.035 * 0.645**2), abs=0.016)  # waves and amplifiers
    assert 0.85 < np.median(camera[33][1]) < 1.1


@pytest.mark.parametrize("ccdnum", [1, 33])
def test_columns_glow_towards_both_long_sides(camera, ccdnum):
    flat = camera[ccdnum][1]
    profile = np.median(flat, axis=0)
    bias = np.median(camera[ccdnum][0], axis=0)
    for edge in (profile, profile[::-1]):
        inside = np.median(edge[60:90])
        assert edge[0] / inside == pytest.approx(1.07, abs=0.004)
        assert edge[9] / inside == pytest.approx(1 + 0.1 * np.exp(-3.0) - 0.03 * np.exp(-0.75), abs=0.004)
        assert edge[1] < edge[0]
    for edge in (bias, bias[::-1]):
        assert edge[:2].mean() - edge[40:60].mean() == pytest.approx(
            2.8, abs=3.0
        )  # 3 ADU above columns that wander by 0.5


def test_the_dead_respond_little_and_the_map_knows_them(camera):
    for bias, flat, bpm in camera.values():
        assert bias.shape == flat.shape == bpm.shape == (4096, 2048)
        dead_columns = np.flatnonzero(((bpm & FLAT_MASK) > 0).all(axis=0))
        assert len(dead_columns) == 1
        column = dead_columns[0]
        assert np.median(flat[:, column] / flat[:, column + 3]) == pytest.approx(0.3, abs=0.01)
        single = ((bpm & FLAT_MASK) > 0) & (np.arange(2048) != column)
        assert 55 < single.sum() <= 60
        assert flat[single].max() < 0.6
        assert 8 <= (flat[single] == 0).sum() <= 30  # three in ten do not respond at all
        np.testing.assert_array_equal((bpm & FLAT_MIN) > 0, flat < 0.1)
        good = (bpm & (FLAT_MASK | BUMP | EDGE)) == 0
        assert flat[good].min() > 0.8


def test_hot_pixels_stand_out_of_the_bias_and_the_map_knows_them(camera):
    for bias, _, bpm in camera.values():
        columns = bpm & (COLUMN | FUNKY)
        above = bias - np.median(bias, axis=0)
        hot, warm = (bpm & HOT) > 0, (bpm & WARM) > 0
        outside = columns == 0
        assert 100 < (hot | warm)[outside].sum() <= 120  # each at least 15 ADU, a few on each other or on bad columns
        assert above[outside & ~hot & ~warm].max() < 12.0
        assert 1490 < bias[hot].max() < 1600
        share = hot[outside].sum() / (hot | warm)[outside].sum()
        # charge is log-normal about 100 ADU with half a dex: 67 per cent lie above 60 ADU
        assert share == pytest.approx(0.67, abs=4 * np.sqrt(0.67 * 0.33 / 120))


@pytest.mark.parametrize("ccdnum", [1, 33])
def test_hot_pixels_trail_away_from_the_register(camera, ccdnum):
    """What is read through a hot pixel lies beyond it: above it on N CCDs, below it on S CCDs."""
    bias, _, bpm = camera[ccdnum]
    defects = column_defects(CAMERA, CCDS[ccdnum])
    assert len(defects.column) == 5
    for n, column in enumerate(defects.column):
        line = (
            bias[:, column]
            - (np.median(bias[:, column - 3 : column]) + np.median(bias[:, column + 1 : column + 4])) / 2
        )
        marked = (bpm[:, column] & (COLUMN if n < 3 else FUNKY)) > 0
        step = np.median(line[marked]) - (np.median(line[~marked]) if n < 3 else 0.0)
        assert step == pytest.approx(defects.mean_adu[n], abs=3.0)
        assert 8.0 <= defects.mean_adu[n] <= 60.0
        rows = np.flatnonzero(marked)
        assert len(rows) == rows[-1] - rows[0] + 1
        if n >= 3:
            assert len(rows) == 4096
            continue
        hot = rows[0] if ccdnum == 33 else rows[-1]
        assert (rows[-1] if ccdnum == 33 else rows[0]) == (4095 if ccdnum == 33 else 0)
        assert 300 <= hot < 4096 - 300
        assert bias[hot, column] == 1500.0
        assert bpm[hot, column] & HOT


def test_edges_are_marked_column_by_column(camera):
    for _, _, bpm in camera.values():
        for bit, width in ((EDGE, 9), (NEAR_EDGE, 30)):
            expected = np.minimum(np.arange(2048), 2047 - np.arange(2048)) < width
            np.testing.assert_array_equal((bpm & bit > 0).all(axis=0), expected)
            np.testing.assert_array_equal((bpm & bit > 0).any(axis=0), expected)


def test_tape_bumps_are_discs_near_the_sides_that_dim_the_flat_by_three_per_cent(camera):
    dips = []
    for _, flat, bpm in camera.values():
        discs, n = label((bpm & BUMP) > 0)
        assert 1 <= n <= 4
        for k in range(1, n + 1):
            y, x = np.nonzero(discs == k)
            assert x.mean() < 190 or x.mean() > 2048 - 190
            assert 150 < y.mean() < 4096 - 150
            radius = np.sqrt(len(y) / np.pi)
            if not 25.0 < radius < 45.0 or x.min() < 12 or x.max() > 2035:  # two that overlap, or cut by the edge
                continue
            rows, columns = np.s_[y.min() - 40 : y.max() + 40], np.s_[max(x.min() - 40, 0) : x.max() + 40]
            near = flat[rows, columns]
            dy, dx = np.ogrid[: near.shape[0], : near.shape[1]]
            r = np.hypot(dy + rows.start - y.mean(), dx + columns.start - x.mean())
            ring = np.median(near[(r > 1.3 * radius) & (r < 1.6 * radius)])
            dips.append(1.0 - np.median(near[r < 0.15 * radius]) / ring)
    assert len(dips) >= 3
    np.testing.assert_allclose(dips, 0.0285, atol=0.006)  # the pixels' own noise over some 80 pixels, and the glow


def test_stars_see_another_response_than_the_flat_lamp():
    """A smooth factor: 0.012 (r^2 - 0.4) and the pupil's ghost at a third of the radius."""
    star_flat = make_star_flat(CAMERA, CCDS[1], 3)
    r2 = [((0.5 + 1 - 13423.2) ** 2 + (y + 1 - 6307.333) ** 2) / 14336.0**2 for y in (0.0, 4095.0)]
    expected = (1.012 * 1.0 + 0.012 * (r2[0] - 1.4)) / (1.012 * 1.0 + 0.012 * (r2[1] - 1.4))
    assert star_flat[0, 0] / star_flat[-1, 0] == pytest.approx(expected, abs=2e-4)
    assert np.abs(np.diff(star_flat, axis=0)).max() < 2e-5
    assert abs(star_flat.mean() - 1.0) < 0.02
    assert not np.array_equal(make_star_flat(CAMERA, CCDS[1], 2), star_flat)


SETTINGS = SimulationSettings(ccds=(27, 33), bands=("z",), brighter_fatter=True)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    root = tmp_path_factory.mktemp("library")
    write_ccd_calibrations(root, SETTINGS, 27)
    write_ccd_calibrations(root, SETTINGS, 33)
    write_camera_calibrations(root, SETTINGS)
    write_library_manifest(root, SETTINGS)
    return root


def test_files_hold_the_camera_within_half_a_quantum(library):
    ccd = CCDS[27]
    for kind, truth, step in (
        ("bias", make_bias(CAMERA, ccd), 0.05),
        ("flat", make_flat(CAMERA, ccd, 4), 1 / 16384),  # z is the fifth band
        ("star_flat", make_star_flat(CAMERA, ccd, 4), 1 / 16384),
    ):
        path = calibration_path(library, kind, 27, "z")
        assert np.abs(read_calibration_image(path) - truth).max() < 0.5 * step * 1.01 + 1e-4 * (kind == "bias")
        with fits.open(path) as hdus:
            hdus.verify("exception")
            assert hdus[0].header["CCDNUM"] == 27
            assert hdus[0].header["DETPOS"] == "S3"
            assert hdus[0].header["BITPIX"] == 16
            if kind != "bias":
                assert hdus[0].header["BAND"] == "z"
                assert hdus[0].header["FILTER"] == "z DECam SDSS c0004 9260.0 1520.0"


def test_camera_files_hold_linearity_crosstalk_and_kernels(library):
    measured, linear = true_linearity(SETTINGS, 33)
    read_linearity(calibration_path(library, "linearity"), 33)  # understood by the processing
    with fits.open(calibration_path(library, "linearity")) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus[1:]] == ["CCD27", "CCD33"]
        np.testing.assert_array_equal(hdus["CCD33"].data["ADU"], measured)
        np.testing.assert_array_equal(hdus["CCD33"].data["ADU_LINEAR_B"], linear["B"])
    assert not np.array_equal(linear["A"], linear["B"])
    written = read_crosstalk(calibration_path(library, "crosstalk")).terms
    assert [t.victim + t.source for t in written] == [t.victim + t.source for t in observatory_crosstalk().terms]
    kernel = read_brighter_fatter(calibration_path(library, "brighter_fatter"), 27)
    assert kernel.right[0, 0] == pytest.approx(3.0e-7)
    assert kernel.right[0, 1] == pytest.approx(3.0e-7 / 9)  # three times as far from its border
    np.testing.assert_array_equal(kernel.top, kernel.right.T)


def test_sky_modes_are_the_templates_averaged_over_superpixels(library):
    modes = read_sky_modes(calibration_path(library, "sky_modes", band="z")).values[33]
    assert modes.shape == (6, 32, 16)
    path = calibration_path(library, "sky_templates", 33, "z")
    templates = read_calibration_image(path)
    assert templates.shape == (6, 512, 256)
    averaged = templates.reshape(6, 32, 16, 16, 16).mean(axis=(2, 4))
    np.testing.assert_allclose(modes, averaged, atol=2e-4)
    assert read_sky_templates(path, 33) is not None


def test_the_library_was_made_twenty_days_before_and_finds_each_file(library):
    found = CalibrationLibrary(calibration_path(library, "crosstalk").parent)
    entries = {entry.kind: entry for entry in found.manifest.entries}
    assert len(entries) == 9
    for entry in entries.values():
        text = str(entry.made_night)
        made = date(int(text[:4]), int(text[4:6]), int(text[6:]))
        assert (date(2024, 5, 10) - made).days == 20
        assert len(entry.checksums) == (2 if "{ccd" in entry.files else 1)
    assert entries["flat"].band == entries["sky_modes"].band == "z"
    assert entries["bias"].band is None


def test_the_map_in_the_library_is_that_of_the_files_themselves(library):
    bias = read_calibration_image(calibration_path(library, "bias", 27))
    bpm = read_calibration_image(calibration_path(library, "bad_pixels", 27)).astype(int)
    smooth = median_filter(bias[1000:1200, 200:400], (1, 15))
    above = bias[1000:1200, 200:400] - smooth
    unmarked = bpm[1000:1200, 200:400] == 0
    assert above[unmarked].max() < 12.0
