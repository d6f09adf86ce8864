"""Photon transfer of the simulated amplifiers: gain, read noise, linearity, overscan and where the pixels lie."""

import numpy as np
import pytest
from detector_frames import cut, rng

from imaging.detector.ccds import CCDS, SCIENCE_CCDS
from imaging.simulation.camera import LINEARITY_ADU, Defects, linearity_table, read_noise_electrons
from imaging.simulation.detector import add_column_offsets, bias_level, collect_light, digitise, read_out

LINEAR = (LINEARITY_ADU, {"A": LINEARITY_ADU, "B": LINEARITY_ADU})

# Sections as the observatory writes them into the headers of N and S science CCDs.
NORTH = {
    "DATASECA": "[57:1080,1:4096]",
    "DATASECB": "[1081:2104,1:4096]",
    "BIASSECA": "[7:56,1:4096]",
    "BIASSECB": "[2105:2154,1:4096]",
    "POSTSECA": "[57:1080,4097:4146]",
    "POSTSECB": "[1081:2104,4097:4146]",
    "PRESECA": "[1:6,1:4096]",
    "PRESECB": "[2155:2160,1:4096]",
}
SOUTH = {
    "DATASECA": "[1081:2104,51:4146]",
    "DATASECB": "[57:1080,51:4146]",
    "BIASSECA": "[2105:2154,51:4146]",
    "BIASSECB": "[7:56,51:4146]",
    "POSTSECA": "[1081:2104,1:50]",
    "POSTSECB": "[57:1080,1:50]",
    "PRESECA": "[2155:2160,51:4146]",
    "PRESECB": "[1:6,51:4146]",
}
LAYOUTS = [(33, NORTH), (27, SOUTH)]


def flat_exposure(ccd, levels, seed):
    """Return the raw image of a flat whose level changes in steps along the rows."""
    sky = np.repeat(levels, ccd.ny // len(levels)).astype(np.float32)[:, None] * np.ones(2048, np.float32)
    ones = np.ones_like(sky)
    electrons = collect_light(np.zeros_like(sky), ones, ones, sky, rng(seed))
    analog = read_out(electrons, np.zeros_like(sky), LINEAR, ccd, rng(seed + 1))
    level = np.full(len(analog), 1500.0, dtype=np.float32)
    return digitise(analog, level, level).astype(float) - 1500.0


@pytest.mark.parametrize(("ccdnum", "sections"), LAYOUTS)
def test_variance_against_mean_gives_gain_and_read_noise(ccdnum, sections):
    ccd = CCDS[ccdnum]
    levels = np.geomspace(200.0, 60_000.0, 16)
    one, two = flat_exposure(ccd, levels, 1), flat_exposure(ccd, levels, 11)
    for amplifier in ccd.amplifiers:
        section = sections[f"DATASEC{amplifier.name}"]
        mean = cut((one + two) / 2, section).reshape(16, -1).mean(axis=1)
        variance = cut(one - two, section).reshape(16, -1).var(axis=1) / 2
        error = variance * np.sqrt(2.0 / (256 * 1024))
        (slope, constant), covariance = np.polyfit(mean, variance, 1, w=1 / error, cov="unscaled")
        assert 1.0 / slope == pytest.approx(amplifier.gain, rel=4 * np.sqrt(covariance[0, 0]) / slope)
        noise = (read_noise_electrons(ccd, amplifier.name) / amplifier.gain) ** 2 + 1 / 12  # and digitisation
        assert constant == pytest.approx(noise, abs=4 * np.sqrt(covariance[1, 1]))
        overscan = cut(one, sections[f"BIASSEC{amplifier.name}"])
        assert overscan.var() == pytest.approx(noise, rel=4 * np.sqrt(2.0 / overscan.size))


@pytest.mark.parametrize(("ccdnum", "sections"), LAYOUTS)
def test_light_fills_the_data_section_and_nothing_else(ccdnum, sections):
    ccd = CCDS[ccdnum]
    electrons = np.full((4096, 2048), 20_000.0, dtype=np.float32)
    electrons[0, 0], electrons[-1, -1] = 90_000.0, 70_000.0
    bias = np.full_like(electrons, 5.0)
    noise = read_out(None, bias, LINEAR, ccd, rng(2))
    signal = read_out(electrons, bias, LINEAR, ccd, rng(2)) - noise
    image = cut(signal, sections["DATASECA"]), cut(signal, sections["DATASECB"])
    for name, part in zip("AB", image, strict=True):
        assert np.median(part) == pytest.approx(20_000.0 / ccd.amplifier(name).gain + 5.0, abs=1e-2)
    left, right = image if ccd.a_is_left else image[::-1]
    names = "AB" if ccd.a_is_left else "BA"
    assert left[0, 0] == pytest.approx(90_000.0 / ccd.amplifier(names[0]).gain + 5.0, abs=2e-2)
    assert right[-1, -1] == pytest.approx(70_000.0 / ccd.amplifier(names[1]).gain + 5.0, abs=2e-2)
    for key in ("BIASSEC", "POSTSEC", "PRESEC"):
        for name in "AB":
            assert not cut(signal, sections[key + name]).any(), key + name


@pytest.mark.parametrize("ccdnum", [33, 27])
def test_the_linearity_table_gives_true_charge_back_over_the_whole_range(ccdnum):
    ccd = CCDS[ccdnum]
    table = linearity_table(61, ccd)
    adu = np.linspace(-40.0, 62_000.0, 4096)
    nothing = np.zeros((4096, 2048), dtype=np.float32)
    noise = read_out(None, nothing, LINEAR, ccd, rng(1))
    y0 = 0 if ccd.a_is_left else 50
    for amplifier in ccd.amplifiers:
        electrons = (adu[:, None] * amplifier.gain * np.ones(2048)).astype(np.float32)
        reported = (read_out(electrons, nothing, (LINEARITY_ADU, table), ccd, rng(1)) - noise)[y0 : y0 + 4096]
        one = reported[:, 56 + amplifier.columns.start + 7].astype(float)
        corrected = np.where(one > 0, np.interp(one, LINEARITY_ADU, table[amplifier.name]), one)
        assert np.abs(corrected - adu).max() < 0.05  # float32 at 62,000 and steps of 1 ADU
        assert (np.abs(one - adu)[adu > 40_000] > 10.0).all()  # 0.1 per cent at least is there to be corrected


def test_amplifiers_deviate_from_linearity_by_half_a_per_cent_at_both_ends():
    tables = [linearity_table(61, CCDS[n])[name] for n in SCIENCE_CCDS for name in "AB"]
    excess = np.array([table[1:] / LINEARITY_ADU[1:] - 1.0 for table in tables])
    n = len(tables)
    for adu, low, high in ((50.0, 0.92, 0.0), (600.0, 0.3679, 0.0002), (3000.0, 0.0067, 0.0056), (60_000.0, 0.0, 2.25)):
        here = excess[:, LINEARITY_ADU[1:] == adu]
        scatter = 0.002 * np.hypot(low, high)
        assert here.mean() == pytest.approx(0.004 * (low + high), abs=4 * scatter / np.sqrt(n) + 2e-7)
        assert here.std() == pytest.approx(scatter, rel=4 / np.sqrt(2 * n))
    assert all((np.diff(table) > 0).all() for table in tables)


def test_the_quiet_amplifiers_are_those_of_the_backplane_of_the_focus_ccds():
    def quiet(n):
        return read_noise_electrons(CCDS[n], "A") < CCDS[n].amplifier("A").read_noise_electrons

    assert {n for n in SCIENCE_CCDS if quiet(n)} == {28, 29, 30, 31, 35, 36, 37, 38}
    assert read_noise_electrons(CCDS[33], "A") == pytest.approx(6.2276, abs=1e-3)  # header 5.959384
    assert read_noise_electrons(CCDS[27], "B") == pytest.approx(6.3260, abs=1e-3)  # header 6.053577


def test_only_the_broken_amplifier_of_ccd_31_changes_its_gain():
    ccd = CCDS[31]
    electrons = np.full((4096, 2048), 40_000.0, dtype=np.float32)
    gains = []
    for seed in range(5):
        analog = read_out(electrons, np.zeros_like(electrons), LINEAR, ccd, rng(seed))
        rows = [cut(analog, SOUTH[f"DATASEC{name}"]).mean(axis=1, dtype=float) for name in "AB"]
        gains.append([40_000.0 / row / ccd.amplifier(name).gain for row, name in zip(rows, "AB", strict=True)])
    a, b = np.array(gains).transpose(1, 0, 2)
    np.testing.assert_allclose(b, 1.0, rtol=1e-4)
    assert 0.03 < np.sqrt(np.mean((a.mean(axis=1) - 1.0) ** 2)) < 0.25  # a tenth, from five exposures
    within = a.std(axis=1) / a.mean(axis=1)
    assert 0.002 < np.median(within) < 0.03  # a random walk of 3 per cent over the rows


@pytest.fixture(scope="module")
def levels():
    """Return overscan levels of 300 exposures, in the order of readout: {(ccd, amplifier): (300, rows)}."""
    keys = [(33, "A"), (27, "A"), (27, "B")]
    made = {key: np.array([bias_level(CCDS[key[0]], key[1], rng(s)) for s in range(300)], dtype=float) for key in keys}
    return {key: m if CCDS[key[0]].a_is_left else m[:, ::-1] for key, m in made.items()}


@pytest.mark.parametrize(
    ("key", "base"), [((33, "A"), 1481.0), ((27, "A"), 2218.0), ((27, "B"), 2321.0)], ids=["north", "south", "south B"]
)
def test_the_overscan_level_settles_within_the_first_rows_read(levels, key, base):
    level = levels[key]
    assert level.shape == (300, 4146)
    assert level[:, 400:].mean() == pytest.approx(base, abs=4 * 3.0 / np.sqrt(300))
    settled = level - level[:, 1000:].mean(axis=1)[:, None]
    for step, expected in ((0, -7.0), (60, -2.575), (180, -0.3485)):  # e-folding of 60 rows
        assert settled[:, step].mean() == pytest.approx(expected, abs=4 * 0.66 / np.sqrt(300))


def test_the_overscan_level_wanders_slowly_within_and_freely_between_exposures(levels):
    level = levels[33, "A"]
    assert level[:, 400:].mean(axis=1).std() == pytest.approx(3.0, rel=4 / np.sqrt(600))
    level = level[:, 600:] - level[:, 600:].mean(axis=1)[:, None]
    assert np.diff(level).std() == pytest.approx(0.3603, rel=0.01)  # sqrt(2 (0.25^2 + 0.6^2 (1 - e^(-1/150))))
    covariance = {lag: (level[:, :-lag] * level[:, lag:]).mean() for lag in (1, 150)}
    drop = covariance[1] - covariance[150]
    assert drop == pytest.approx(0.36 * (np.exp(-1 / 150) - np.exp(-1.0)), rel=0.06)  # 300 x 23 memories


def test_each_half_of_a_raw_row_gets_the_level_of_its_amplifier():
    left, right = np.array([100.0, 200.0], np.float32), np.array([1100.0, 1200.0], np.float32)
    analog = np.array([[0.0, 0.49, 0.5, -0.5], [1.0, -0.51, 64_400.0, -1300.0]], dtype=np.float32)
    expected = [[100, 100, 1101, 1100], [201, 199, 65535, 0]]
    np.testing.assert_array_equal(digitise(analog, left, right), expected)


def test_no_light_gives_no_electrons_and_little_light_whole_poisson_moments():
    shape = (1000, 1000)
    ones = np.ones(shape, np.float32)
    dark = collect_light(np.full(shape, -5.0, np.float32), ones, ones, np.zeros(shape, np.float32), rng())
    assert not dark.any()
    faint = collect_light(np.zeros(shape, np.float32), ones, ones, np.full(shape, 0.4, np.float32), rng()).astype(float)
    assert faint.mean() == pytest.approx(0.4, abs=4 * np.sqrt(0.4) / 1000)
    # below one electron the term of skewness shrinks with the mean: variance + mean^2 / 18
    assert faint.var() == pytest.approx(0.4 + 2 * (0.4 / 6) ** 2, rel=0.01)


def test_bad_columns_leave_their_mean_by_a_third_along_their_rows_alone():
    bias = np.full((60, 50), 2.0, dtype=np.float32)
    defects = Defects(np.array([7, 30]), np.array([10, 0]), np.array([59, 40]), np.array([60.0, 9.0]))
    made = np.array([add_column_offsets(bias, defects, rng(seed)) for seed in range(400)]) - 2.0
    assert (bias == 2.0).all()
    assert (made[:, 10:, 7] == made[:, 10:11, 7]).all()
    assert made[:, 10, 7].std() == pytest.approx(19.8, rel=4 / np.sqrt(800))
    assert made[:, 40, 30].std() == pytest.approx(2.97, rel=4 / np.sqrt(800))
    made[:, 10:, 7] = 0.0
    made[:, :41, 30] = 0.0
    assert not made.any()
