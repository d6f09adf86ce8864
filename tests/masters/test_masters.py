"""Master bias, dome flat and bad-pixel map from raw frames whose truth is known, and their place in the library."""

import numpy as np
import pytest

from blocks.site import Site
from imaging.bits import BpmBit
from imaging.detector.ccds import NX, science_ccd
from imaging.detector.sections import POSTSCAN, RAW_NX, raw_sections
from imaging.errors import CcdError
from imaging.exposure import Exposure
from imaging.image import RawCcd
from imaging.io.calibration_write import write_calibration_image
from imaging.io.calibrations import CalibrationLibrary, write_manifest
from imaging.io.manifest import AgeLimit, CalibrationEntry
from imaging.masters.bad_pixels import find_bad_pixels
from imaging.masters.combine import combine_frames
from imaging.masters.frames import master_bias, master_flat, outlying_frames, relative_levels
from imaging.masters.settings import MasterSettings
from tasks.build_masters import record_masters
from tasks.calibration_files import calibration_record, master_path

CCD = science_ccd(33)
SETTINGS = MasterSettings()
NIGHT = 20240510
N = 3


def flat_exposure(expnum):
    return Exposure(expnum, "i", NIGHT, 60440.9, 10.0, 150.0, 2.0, 1.0, obstype="dome flat")


@pytest.fixture(scope="module")
def camera():
    random = np.random.default_rng(5)
    bias = random.normal(0.0, 0.3, (1, NX)).astype(np.float32) + np.linspace(-1, 1, CCD.ny, dtype=np.float32)[:, None]
    bias[1000, 500] += 900.0
    flat = (1.0 + 0.006 * random.standard_normal((CCD.ny, NX))).astype(np.float32)
    flat[:, : NX // 2] *= 1.01
    flat[2000, 1500] = 0.2
    return bias, flat


def raw_frame(camera, electrons, seed):
    """Read out a CCD that collected so many electrons at response one; a cosmic ray lies at a place of its own."""
    random, (bias, flat) = np.random.default_rng(seed), camera
    sections, analog = raw_sections(CCD), np.full((CCD.ny + POSTSCAN, RAW_NX), 2000.0, np.float32)
    light = electrons * flat + np.sqrt(electrons) * random.standard_normal(flat.shape, dtype=np.float32)
    light[300 + 10 * seed, 600:604] += 20000.0
    for a in CCD.amplifiers:
        analog[sections[f"DATASEC{a.name}"].slices] += light[:, a.columns] / np.float32(a.gain) + bias[:, a.columns]
        half = slice(0, RAW_NX // 2) if a.is_left else slice(RAW_NX // 2, RAW_NX)
        noise = a.read_noise_electrons / a.gain * random.standard_normal((analog.shape[0], RAW_NX // 2))
        analog[:, half] += noise.astype(np.float32)
    header = {f"{key}{a.name}": value for a in CCD.amplifiers for key, value in figures(a).items()}
    header |= {key: str(section) for key, section in sections.items()}
    return RawCcd(header, np.rint(np.clip(analog, 0, 65535)).astype(np.uint16))


def figures(amplifier):
    return {
        "GAIN": amplifier.gain,
        "RDNOISE": amplifier.read_noise_electrons,
        "SATURAT": amplifier.saturation_adu,
    }


@pytest.fixture(scope="module")
def bias(camera):
    return master_bias(CCD, {n: raw_frame(camera, 0.0, n) for n in range(N)}, NIGHT, SETTINGS)


@pytest.fixture(scope="module")
def flat(camera, bias):
    raws = {n: (raw_frame(camera, 50000.0, 10 + n), flat_exposure(n)) for n in range(N)}
    raws[98] = (raw_frame(camera, 600000.0, 98), flat_exposure(98))
    raws[99] = (raw_frame(camera, 1000.0, 99), flat_exposure(99))
    return master_flat(CCD, raws, bias.image, None, SETTINGS)


def test_a_master_bias_has_the_truth_with_the_noise_of_its_frames(camera, bias):
    difference = bias.image - camera[0]
    expected = bias.noise / np.sqrt(N)
    assert abs(difference.mean()) < 0.02
    assert difference.std() < 1.1 * expected
    assert np.abs(difference[300:340, 600:604]).max() < 6 * expected
    assert N * 4 <= bias.n_rejected < 1e-3 * bias.image.size * N
    assert bias.levels.keys() == set(range(N))


def test_a_master_flat_has_the_truth_and_leaves_out_frames_that_are_saturated_or_without_light(camera, flat):
    assert flat.levels.keys() == set(range(N))
    assert flat.left_out.keys() == {98, 99}
    assert flat.left_out[98] == "refused as saturated"
    assert "electrons" in flat.left_out[99]
    ratio = flat.image / camera[1]
    good = np.ones(ratio.shape, bool)
    good[1990:2010, 1490:1510] = good[990:1010, 490:510] = False
    assert ratio[good].std() < 1.2 * flat.noise / np.sqrt(N)
    left, right = np.median(ratio[:, : NX // 2]), np.median(ratio[:, NX // 2 :])
    assert abs(left / right - 1.0) < 5e-4
    assert flat.image[2000, 1500] == pytest.approx(0.2, abs=0.02)


def test_bad_pixels_of_the_masters(bias, flat):
    bad = find_bad_pixels(bias.image, flat.image, SETTINGS)
    inside = bad[:, 30:-30]
    assert bad[1000, 500] == BpmBit.BIAS_HOT
    assert bad[2000, 1500] == BpmBit.FLAT_MIN
    assert (inside != 0).sum() == 2


@pytest.fixture
def frames():
    random = np.random.default_rng(2)
    return random.normal(0.0, 0.3, (512, 256)).astype(np.float32), np.ones((512, 256), np.float32)


def test_a_column_that_trails_a_hot_pixel_and_one_that_is_off_throughout(frames):
    bias, flat = frames
    bias[200:, 100] += 20.0
    bias[200, 100] = 1500.0
    bias[:330, 180] += 8.0
    bias[329, 180] = 1500.0
    bias[:, 140] += 10.0
    bad = find_bad_pixels(bias, flat, SETTINGS)
    assert (bad[201:, 100] == BpmBit.BIAS_COL).all()
    assert bad[200, 100] == BpmBit.BIAS_COL | BpmBit.BIAS_HOT
    assert (bad[:200, 100] == 0).all()
    assert (bad[:329, 180] == BpmBit.BIAS_COL).all()
    assert (bad[330:, 180] == 0).all()
    assert (bad[:, 140] == BpmBit.FUNKY_COL).all()


def test_warm_dark_and_bright_pixels_and_the_edges(frames):
    bias, flat = frames
    bias[50, 60], flat[70, 80], flat[90, 100], flat[:, 110] = 20.0, 0.1, 2.0, 0.3
    bad = find_bad_pixels(bias, flat, SETTINGS)
    assert bad[50, 60] == BpmBit.BIAS_WARM
    assert bad[70, 80] == BpmBit.FLAT_MIN
    assert bad[90, 100] == BpmBit.FLAT_MAX
    assert (bad[:, 110] == BpmBit.FLAT_MIN).all()
    assert (bad[:, 0] == BpmBit.EDGE | BpmBit.NEAREDGE).all()
    assert (bad[:, -20] == BpmBit.NEAREDGE).all()


def test_combination_leaves_out_what_stands_off():
    frames = [np.full((2, 2), value, np.float32) for value in (10.0, 11.0, 9.0, 10.0)]
    frames[2][1, 1] = 500.0
    mean, rejected = combine_frames(frames, [1.0] * 4, 4.0)
    assert mean[0, 0] == 10.0
    assert mean[1, 1] == pytest.approx(31.0 / 3.0)
    assert rejected.tolist() == [[0, 0], [0, 1]]


def test_frames_that_are_unlike_the_others_are_left_out_and_named():
    random = np.random.default_rng(7)
    frames = {n: random.normal(0.0, 1.6, (1024, 512)).astype(np.float32) for n in range(5)}
    assert outlying_frames(frames, SETTINGS.bias_outlier_adu) == {}
    frames[1][:, :] += 5.0
    frames[3][:150] += np.linspace(0, 40, 150, dtype=np.float32)[:, None]
    frames[4][500:504, 100:104] += 3000.0
    found = outlying_frames(frames, SETTINGS.bias_outlier_adu)
    assert found.keys() == {1, 3}, "light all over, light in a corner; a cosmic ray is no reason"
    assert found[1] == pytest.approx(5.0, abs=0.3)


def test_a_lit_bias_does_not_reach_the_master(camera, bias):
    raws = {n: raw_frame(camera, 0.0, n) for n in range(N)}
    raws[50] = raw_frame(camera, 40.0, 50)
    master = master_bias(CCD, raws, NIGHT, SETTINGS)
    assert master.levels.keys() == set(range(N))
    assert master.left_out.keys() == {50}
    assert "ADU" in master.left_out[50]
    assert np.array_equal(master.image, bias.image)


def test_levels_become_scales_whatever_the_lamp_does():
    lamp = {1: 20000.0, 2: 30000.0, 3: 25000.0}
    levels = {ccd: {n: scale * light for n, light in lamp.items()} for ccd, scale in ((5, 0.9), (6, 1.0), (7, 1.1))}
    assert relative_levels(levels) == pytest.approx({5: 0.9, 6: 1.0, 7: 1.1})
    with pytest.raises(CcdError) as caught:
        relative_levels({5: {1: 1.0}, 6: {2: 1.0}})
    assert caught.value.reason == "too_few_exposures"


def test_two_frames_are_too_few():
    raw = RawCcd({}, np.zeros((2, 2), np.uint16))
    with pytest.raises(CcdError) as caught:
        master_bias(CCD, {1: raw, 2: raw}, NIGHT, SETTINGS)
    assert (caught.value.reason, caught.value.value) == ("too_few_exposures", "2")


def test_flats_that_are_all_saturated_say_so(camera, bias):
    raws = {n: (raw_frame(camera, 600000.0, n), flat_exposure(n)) for n in range(3)}
    with pytest.raises(CcdError) as caught:
        master_flat(CCD, raws, bias.image, None, SETTINGS)
    assert caught.value.reason == "saturated"


def test_alike_frames_that_are_too_few_say_so(camera):
    raws = {n: raw_frame(camera, 0.0 if n < 2 else 500.0 * n, n) for n in range(4)}
    with pytest.raises(CcdError, match="alike within 1 ADU") as caught:
        master_bias(CCD, raws, NIGHT, SETTINGS)
    assert caught.value.reason == "too_few_exposures"
    assert caught.value.limit == "at least 3"


def build(site, ccds, night=NIGHT, value=1.0):
    for ccd in ccds:
        for kind, band in (("bias", ""), ("bad_pixels", ""), ("flat", "i")):
            image = np.full((4, 4), value, np.int16 if kind == "bad_pixels" else np.float32)
            write_calibration_image(master_path(site, "n1", kind, ccd, band), image, {})
    record_masters(site, night, "n1", ccds, ["i"])
    return CalibrationLibrary(site.calibrations)


def test_the_library_takes_new_masters_and_keeps_what_it_had(tmp_path):
    site = Site.at(tmp_path)
    old = CalibrationEntry(epoch="old", kind="bias", files="old_{ccd:02d}.fits", made_night=20240101)
    site.calibrations.mkdir()
    write_manifest(site.calibrations, (old,), {"flat": AgeLimit(warn_days=5, refuse_days=50)})
    build(site, [33])
    library = build(site, [34])
    observed = flat_exposure(1)
    for ccd in (33, 34):
        path = library.find("bias", observed, ccd)
        assert path == master_path(site, "n1", "bias", ccd)
        assert calibration_record(site, library, path).content_hash == library.recorded_checksum(path)
        assert library.find("flat", observed, ccd).is_file()
    assert all(entry.ccds == (33, 34) for entry in library.manifest.entries if entry.epoch == "n1")
    assert not library.holds("flat", observed, 35)
    assert old in library.manifest.entries
    assert library.manifest.age_limits == {"flat": AgeLimit(warn_days=5, refuse_days=50)}
    assert sum(entry.epoch == "n1" for entry in library.manifest.entries) == 3


def test_an_empty_library_is_begun(tmp_path):
    assert build(Site.at(tmp_path), [33]).find("bad_pixels", flat_exposure(1), 33).is_file()


def test_tape_bumps_of_the_flat_are_marked_and_nothing_else():
    random, (x, y, size) = np.random.default_rng(4), (150.0, 500.0, 34.0)
    rows, columns = np.ogrid[:1024, :2048]
    flat = 1.0 + 0.1 * (columns / 2048 - 0.5) * np.ones((1024, 1)) + 0.004 * np.sin(np.hypot(rows, columns) / 30.0)
    flat[:, 1024:] *= 1.006
    edge = np.minimum(np.arange(2048), 2047 - np.arange(2048))
    flat *= 1.0 + 0.15 * np.exp(-edge / 8.0) - 0.03 * np.exp(-edge / 25.0)
    flat[:, 700] *= 0.3
    flat[800:808, 1500:1900] *= 0.9  # a scratch
    flat += random.normal(0.0, 0.006, flat.shape)
    disc = np.hypot(columns - x, rows - y)
    bumpy = flat * (1.0 - 0.03 * np.exp(-0.5 * (disc / (size / 2.0)) ** 2))
    plain, found = (
        find_bad_pixels(np.zeros((1024, 2048), np.float32), image.astype(np.float32), SETTINGS) & int(BpmBit.TAPEBUMP)
        for image in (flat, bumpy)
    )
    assert not plain.any()
    assert (found[disc < size] != 0).mean() > 0.9
    assert not found[disc > 1.5 * size].any()
