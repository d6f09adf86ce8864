"""The detector: noise, wells, amplifiers, crosstalk, readout."""

import numpy as np
import pytest

from imaging.detector.ccds import CCDS
from imaging.detector.crosstalk import CrosstalkTerm
from imaging.simulation.bleed import bleed_columns, spread_at_register
from imaging.simulation.brighter_fatter import redistribute
from imaging.simulation.camera import LINEARITY_ADU, linearity_table, read_noise_electrons
from imaging.simulation.cosmic_rays import add_cosmic_rays
from imaging.simulation.crosstalk import add_crosstalk
from imaging.simulation.detector import FOCUS_ROWS, bias_level, collect_light, digitise, overflow, read_out


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("level", [60.0, 3000.0])
def test_photon_noise_has_the_variance_and_skewness_of_poisson(level):
    shape = (2000, 1000)
    ones = np.ones(shape, dtype=np.float32)
    collected = collect_light(
        np.zeros(shape, dtype=np.float32), ones, ones, np.full(shape, level, dtype=np.float32), rng()
    )
    deviation = collected.astype(float) - level
    n = collected.size
    assert deviation.mean() == pytest.approx(0.0, abs=4 * np.sqrt(level / n))
    assert deviation.var() == pytest.approx(level, rel=4 * np.sqrt(2.0 / n) + 1.0 / (18 * level))
    skewness = (deviation**3).mean() / level**1.5
    assert skewness == pytest.approx(level**-0.5, abs=4 * np.sqrt(6.0 / n))


def test_star_flat_acts_on_sources_and_flat_on_all():
    shape = (400, 400)
    light, sky = np.full(shape, 4e4, dtype=np.float32), np.full(shape, 1e4, dtype=np.float32)
    star_flat, flat = np.full(shape, 0.9, dtype=np.float32), np.full(shape, 0.5, dtype=np.float32)
    collected = collect_light(light, star_flat, flat, sky, rng())
    assert collected.mean(dtype=float) == pytest.approx((4e4 * 0.9 + 1e4) * 0.5, rel=1e-4)


def test_bleeding_conserves_charge_and_is_even():
    image = np.full((400, 3), 100.0, dtype=np.float32)
    image[200, 1] = 10_100.0 + 1000.0
    before = image.sum(dtype=float)
    spilt = bleed_columns(image, np.full(3, 1000.0), True)
    assert image.sum(dtype=float) == pytest.approx(before)
    assert not spilt.any()
    full = np.flatnonzero(image[:, 1] == 1000.0)
    assert len(full) in (12, 13)  # 10,100 electrons into pixels with room for 900 each
    assert abs((full[0] + full[-1]) / 2 - 200) <= 1
    np.testing.assert_array_equal(image[:, [0, 2]], 100.0)


@pytest.mark.parametrize("register_below", [True, False])
def test_a_trail_that_reaches_the_register_spills_there(register_below):
    image = np.zeros((300, 40), dtype=np.float32)
    row = 5 if register_below else 294
    image[row, 20] = 1000.0 * 100
    spilt = bleed_columns(image, np.full(40, 1000.0), register_below)
    assert spilt[20] > 0
    assert image.sum(dtype=float) + spilt.sum() == pytest.approx(1e5)
    spread_at_register(image, spilt, np.full(40, 1000.0), register_below, (slice(0, 20), slice(20, 40)))
    edge = image[0 if register_below else -1]
    assert (edge[21:] > 0).all()
    assert not edge[:20].any()  # the other amplifier has a register of its own
    assert image.max() <= 1000.0


def test_only_wells_that_overflow_are_altered():
    ccd = CCDS[33]
    image = np.full((ccd.ny, 2048), 3000.0, dtype=np.float32)
    image[1000, 500] = 5e5
    altered = overflow(image, ccd)
    rows, columns = np.nonzero(altered)
    assert set(columns) == {500}
    assert rows.min() < 1000 < rows.max()
    assert image.max() <= ccd.amplifier("A").saturation_adu * ccd.amplifier("A").gain * 1.031


def test_reported_adu_follow_the_linearity_table():
    ccd = CCDS[33]
    table = linearity_table(61, ccd)
    electrons = np.full((ccd.ny, 2048), 80_000.0, dtype=np.float32)
    analog = read_out(electrons, np.zeros_like(electrons), (LINEARITY_ADU, table), ccd, rng())
    for amplifier in ccd.amplifiers:
        columns = slice(56 + amplifier.columns.start, 56 + amplifier.columns.stop)
        reported = analog[: ccd.ny, columns].mean(dtype=float)
        corrected = np.interp(reported, LINEARITY_ADU, table[amplifier.name])
        assert corrected == pytest.approx(80_000.0 / amplifier.gain, rel=1e-5)
        assert reported != pytest.approx(corrected, rel=1e-4)


@pytest.mark.parametrize("ccdnum", [33, 35])
def test_read_noise_of_each_amplifier(ccdnum):
    ccd = CCDS[ccdnum]
    analog = read_out(None, np.zeros((ccd.ny, 2048), dtype=np.float32), (LINEARITY_ADU, {}), ccd, rng())
    assert analog.shape == (4146, 2160)
    for amplifier in ccd.amplifiers:
        half = slice(0, 1080) if amplifier.is_left else slice(1080, 2160)
        measured = analog[:, half].std(dtype=float) * amplifier.gain
        assert measured == pytest.approx(read_noise_electrons(ccd, amplifier.name), rel=0.002)
    headers = [a.read_noise_electrons for a in ccd.amplifiers]
    quiet = ccdnum == 35  # the overscan of the shared backplane is quieter than its headers say
    assert (read_noise_electrons(ccd, "A") < headers[0]) is quiet


def test_level_jumps_only_on_the_backplane_that_focus_ccds_share():
    for ccdnum, jump in ((35, 6.5), (33, 0.0), (28, 6.5)):
        ccd = CCDS[ccdnum]
        level = bias_level(ccd, "A", rng(4))
        in_order = level if ccd.a_is_left else level[::-1]
        step = in_order[FOCUS_ROWS : FOCUS_ROWS + 40].mean() - in_order[FOCUS_ROWS - 40 : FOCUS_ROWS].mean()
        assert step == pytest.approx(jump, abs=0.8)


def test_crosstalk_is_mirrored_and_bends_beyond_its_onset():
    source = np.zeros((20, 2160), dtype=np.float32)
    source[10, 100] = 1000.0  # CCD 33 is N2: amplifier A on the left
    source[12, 100] = 50_000.0
    term = CrosstalkTerm((33, "B"), (33, "A"), 1e-4, 40_000.0, (2e-4, 0.0, 0.0))
    result = add_crosstalk(source, 33, (term,), {33: source})
    assert result[10, 2159 - 100] == pytest.approx(0.1, rel=1e-5)
    assert result[12, 2159 - 100] == pytest.approx(1e-4 * 40_000.0 + 2e-4 * 10_000.0, rel=1e-5)
    assert result[10, 100] == 1000.0
    same_side = CrosstalkTerm((34, "A"), (33, "A"), 1e-4, 1e10, ())
    result = add_crosstalk(np.zeros_like(source), 34, (same_side,), {33: source})
    assert result[10, 100] == pytest.approx(0.1, rel=1e-5)
    assert np.count_nonzero(result) == 2


def test_raw_values_are_cut_to_16_bits():
    analog = np.array([[-5000.0, 0.4, 0.6, 70_000.0]], dtype=np.float32)
    level = np.array([2000.0], dtype=np.float32)
    np.testing.assert_array_equal(digitise(analog, level, level), [[0, 2000, 2001, 65535]])


def test_cosmic_rays_leave_what_the_truth_says():
    image = np.full((1024, 1024), 10.0, dtype=np.float32)
    pixels = add_cosmic_rays(image, 60.0, rng(3))
    added = (image - 10.0).ravel()
    recorded = np.bincount(pixels.index, weights=pixels.electrons, minlength=image.size)
    np.testing.assert_allclose(added, recorded, atol=0.02)
    assert 30 < len(np.unique(pixels.label)) < 100
    lengths = np.bincount(pixels.label)
    assert lengths.max() > 60  # some are long tracks
    assert np.median(lengths[lengths > 0]) < 80


def test_bright_stars_grow_by_a_per_cent_when_charge_repels():
    y, x = np.mgrid[:81, :81]
    star = 1e5 * np.exp(-0.5 * ((x - 40.0) ** 2 + (y - 40.0) ** 2) / 1.8**2)
    image = (star + 3000.0).astype(np.float32)
    spread = redistribute(image)
    assert spread.sum(dtype=float) == pytest.approx(image.sum(dtype=float), rel=1e-6)

    def width2(array: np.ndarray) -> float:
        light = array.astype(float) - 3000.0
        near = (x - 40) ** 2 + (y - 40) ** 2 < 12**2
        return float((light * (x - 40.0) ** 2)[near].sum() / light[near].sum())

    assert np.sqrt(width2(spread) / width2(image)) == pytest.approx(1.008, abs=0.004)
    faint = ((image - 3000.0) * 1e-3 + 3000.0).astype(np.float32)
    assert np.sqrt(width2(redistribute(faint)) / width2(faint)) == pytest.approx(1.0, abs=3e-3)
