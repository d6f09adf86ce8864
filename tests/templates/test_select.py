"""The choice of templates."""

import math
from dataclasses import replace

import numpy as np
import pytest

from imaging.detector.distortion import seed_wcs
from imaging.exposure import Exposure
from imaging.tables import column
from imaging.templates.select import TemplateCandidate, TemplateTarget, merit, rule_broken, select_templates
from imaging.templates.settings import TemplateSettings
from imaging.wcs.sphere import footprint

SETTINGS = TemplateSettings()


def exposure(expnum: int, mjd: float = 60000.0, **changes: object) -> Exposure:
    values = {"band": "r", "night": 20230101, "exptime_s": 90.0, "ra_deg": 150.0, "dec_deg": -20.0, "airmass": 1.1}
    return Exposure(expnum=expnum, mjd=mjd, **(values | changes))


def footprints(ccds: tuple[int, ...], ra: float, dec: float) -> dict[int, np.ndarray]:
    return {ccd: footprint(seed_wcs(ccd, ra, dec), 2048, 4096) for ccd in ccds}


def candidate(expnum: int, days: float, dra: float = 0.0, ccds: tuple[int, ...] = (10, 11), **changes: object):
    quality = {k: changes.pop(k) for k in ("t_eff", "limit_mag", "fwhm_arcsec") if k in changes}
    return TemplateCandidate(
        exposure(expnum, 60000.0 + days, **changes), footprints(ccds, 150.0 + dra, -20.0), **quality
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"days": -3.0}, "before the search"),
        ({"days": 3.0}, "after the search"),
        ({"days": -40.0, "band": "g"}, "band"),
        ({"days": -40.0, "exptime_s": 20.0}, "shorter"),
        ({"days": -40.0, "t_eff": 0.1}, "effective time"),
        ({"days": -40.0, "night": 20090101}, "before 20100101"),
        ({"days": -40.0, "obstype": "dome flat"}, "not a sky exposure"),
        ({"days": -40.0, "object_name": "pointing test"}, "test or calibration"),
    ],
)
def test_every_rule_has_its_reason(changes, words):
    assert words in rule_broken(exposure(1), candidate(2, **changes), SETTINGS)


def test_an_unknown_effective_time_passes_and_the_blacklist_does_not():
    assert rule_broken(exposure(1), candidate(2, -40.0, t_eff=math.nan), SETTINGS) == ""
    assert rule_broken(exposure(1), candidate(2, -40.0), SETTINGS.with_values(blacklist=(2,))) == "on the blacklist"


def test_a_ccd_without_a_good_template_takes_those_whose_effective_time_alone_is_short():
    """Better a shallow search than none; where a good one covers the sky, the cut holds."""
    short, shorter = candidate(2, -40.0, t_eff=0.2), candidate(3, -40.0, t_eff=0.15)
    bad, recent = candidate(4, -40.0, t_eff=0.05), candidate(5, -3.0, t_eff=0.2)
    good = candidate(6, -40.0, ccds=(10,), t_eff=0.5)
    target = TemplateTarget(exposure(1), footprints((10, 11), 150.0, -20.0))

    def chosen(settings, *candidates):
        rows = select_templates(target, candidates, settings).to_pylist()
        return {ccd: [r["template_expnum"] for r in rows if r["ccd"] == ccd and r["rank"]] for ccd in (10, 11)}

    everything = [shorter, bad, recent, short]
    assert chosen(SETTINGS, *everything) == {10: [2, 3], 11: [2, 3]}
    assert chosen(SETTINGS, *everything, good) == {10: [6], 11: [2, 3]}
    assert chosen(SETTINGS.with_values(spare_t_eff_share=1.0), *everything) == {10: [], 11: []}
    half = 0.5 * 2048 * 0.263 / 3600
    beside = TemplateCandidate(exposure(7, 59000.0), footprints((10, 11), 150.0, -20.0 + half), t_eff=0.5)
    covers_half = {10: [7, 2], 11: [7, 2]}  # one of the short ones suffices for the other half
    assert chosen(SETTINGS, short, shorter, beside) == covers_half
    assert chosen(SETTINGS, short, shorter, beside, good) == {10: [6, 7], 11: [7, 2]}
    assert chosen(SETTINGS.with_values(spare_t_eff_share=1.0), short, beside) == {10: [7], 11: [7]}


def test_windows_before_and_after_may_differ():
    settings = SETTINGS.with_values(min_days_before=2.0, min_days_after=100.0)
    assert rule_broken(exposure(1), candidate(2, -5.0), settings) == ""
    assert "after" in rule_broken(exposure(1), candidate(2, 50.0), settings)


def test_ranking_prefers_deep_sharp_and_near_in_time():
    search = exposure(1)
    base = merit(search, candidate(2, -40.0, limit_mag=23.5, fwhm_arcsec=1.0), SETTINGS)
    assert merit(search, candidate(2, -40.0, limit_mag=24.0, fwhm_arcsec=1.0), SETTINGS) > base
    assert merit(search, candidate(2, -40.0, limit_mag=23.5, fwhm_arcsec=1.4), SETTINGS) < base
    assert merit(search, candidate(2, -1200.0, limit_mag=23.5, fwhm_arcsec=1.0), SETTINGS) < base


def test_overlap_is_exact_and_every_candidate_has_a_row():
    target = TemplateTarget(exposure(1), footprints((10,), 150.0, -20.0))
    half = 0.5 * 2048 * 0.263 / 3600
    table = select_templates(
        target, [candidate(2, -40.0), candidate(3, -40.0, band="g"), candidate(4, -40.0, ccds=(60,))], SETTINGS
    )
    taken = table.filter(table.column("rank").is_valid())
    assert column(taken, "template_expnum").tolist() == [2]
    assert column(taken, "overlap_fraction")[0] == pytest.approx(1.0, abs=1e-6)
    assert set(column(table, "template_expnum").tolist()) == {2, 3}
    shifted = TemplateCandidate(exposure(5, 59000.0), {10: footprint(seed_wcs(10, 150.0, -20.0 + half), 2048, 4096)})
    row = select_templates(target, [shifted], SETTINGS)
    assert column(row, "overlap_fraction")[0] == pytest.approx(0.5, abs=0.01)


def test_a_crossing_without_a_corner_inside_counts():
    target = TemplateTarget(
        exposure(1), {10: np.array([[149.9, -20.1], [150.1, -20.1], [150.1, -20.0], [149.9, -20.0]])}
    )
    band = {3: np.array([[149.98, -20.3], [150.02, -20.3], [150.02, -19.8], [149.98, -19.8]])}
    table = select_templates(target, [TemplateCandidate(exposure(2, 59900.0), band)], SETTINGS)
    assert column(table, "overlap_fraction")[0] == pytest.approx(0.2, abs=0.01)


def test_enough_covers_and_the_cap_leave_the_rest():
    target = TemplateTarget(exposure(1), footprints((10,), 150.0, -20.0))
    many = [candidate(10 + k, -40.0 - k, limit_mag=23.0 + 0.1 * k, ccds=(10,)) for k in range(8)]
    table = select_templates(target, many, SETTINGS)
    taken = table.filter(table.column("rank").is_valid())
    assert column(taken, "template_expnum").tolist() == [17, 16, 15, 14]
    assert table.num_rows == 8
    capped = select_templates(target, many, SETTINGS.with_values(max_templates=2))
    assert capped.column("rank").null_count == 6


def test_a_broad_template_is_used_only_where_fewer_than_two_others_are():
    """One out of focus beside two sharp ones, of which one covers CCD 11 only."""
    sharp, half = candidate(2, -40.0, fwhm_arcsec=1.0), candidate(3, -50.0, ccds=(11,), fwhm_arcsec=1.2)
    broad, unknown = candidate(4, -40.0, limit_mag=27.0, fwhm_arcsec=1.6), candidate(5, -60.0)
    target = TemplateTarget(exposure(1), footprints((10, 11), 150.0, -20.0))

    def chosen(*candidates, **changes):
        rows = select_templates(target, candidates, SETTINGS.with_values(**changes)).to_pylist()
        taken = {ccd: {r["template_expnum"] for r in rows if r["ccd"] == ccd and r["rank"]} for ccd in (10, 11)}
        return taken, [r["reason"] for r in rows if r["template_expnum"] == 4]

    shallow = candidate(4, -40.0, limit_mag=20.0, fwhm_arcsec=1.6)
    taken, reasons = chosen(sharp, half, shallow)
    assert taken == {10: {2, 4}, 11: {2, 3}}
    assert reasons == ["taken", 'better ones cover the same part 2 times; 1.60" beside 1.00"']
    assert chosen(sharp, half, shallow, broad_ratio=1.7)[0] == {10: {2, 4}, 11: {2, 3, 4}}
    assert chosen(sharp, half, broad)[0] == {10: {2, 4}, 11: {2, 3, 4}}, "the deepest comes first"
    assert chosen(sharp, half, unknown)[0] == {10: {2, 5}, 11: {2, 3, 5}}


def test_a_candidate_for_an_uncovered_part_is_taken_after_better_ones():
    target = TemplateTarget(exposure(1), footprints((10,), 150.0, -20.0))
    half = 0.5 * 2048 * 0.263 / 3600
    north = [
        TemplateCandidate(
            exposure(20 + k, 59900.0 - k),
            {10: footprint(seed_wcs(10, 150.0, -20.0 + half), 2048, 4096)},
            limit_mag=25.0,
        )
        for k in range(5)
    ]
    south = TemplateCandidate(
        exposure(30, 59900.0), {10: footprint(seed_wcs(10, 150.0, -20.0 - half), 2048, 4096)}, limit_mag=22.0
    )
    table = select_templates(target, [*north, south], SETTINGS)
    taken = table.filter(table.column("rank").is_valid())
    assert 30 in column(taken, "template_expnum").tolist()
    assert table.num_rows == 6 and taken.num_rows == 5


def test_ra_zero_and_the_pole_work():
    for ra, dec in ((0.02, -20.0), (10.0, 89.95)):
        target = TemplateTarget(exposure(1), footprints((10,), ra, dec))
        other = TemplateCandidate(exposure(2, 59900.0), footprints((10,), ra, dec))
        assert column(select_templates(target, [other], SETTINGS), "overlap_fraction")[0] == pytest.approx(
            1.0, abs=1e-3
        )


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (-900.0, -40.0, ""),
        (-900.0, -3.0, "before the search"),
        (-900.0, 40.0, "a stack with exposures from 900.0 d before to 40.0 d after"),
        (3.0, 400.0, "3.0 d after the search"),
        (20.0, 400.0, ""),
    ],
)
def test_no_exposure_of_a_stack_may_be_near_the_search(first, last, words):
    stack = candidate(2_000_000_000, last, exptime_s=1.0)  # that of a stack in units of flux is not known
    stack = replace(stack, first_mjd=60000.0 + first)
    broken = rule_broken(exposure(1), stack, SETTINGS)
    assert words in broken and bool(words) is bool(broken)


def test_patches_are_chosen_by_the_overlap_of_their_polygons():
    """Two bricks share a CCD at a line of right ascension; a third one lies beside it, a fourth covers a corner."""
    (corners,) = footprints((10,), 150.0, -20.0).values()
    low, high = corners.min(axis=0), corners.max(axis=0)
    cut = low[0] + 0.3 * (high[0] - low[0])

    def brick(number, west, east, *more):
        box = [(west, low[1] - 0.1), (east, low[1] - 0.1), (east, high[1] + 0.1), (west, high[1] + 0.1), *more]
        past = exposure(number, 60000.0 - 40.0)
        return TemplateCandidate(past, {1: np.array(box)}, first_mjd=59000.0, sources={1: f"Legacy Surveys, {number}"})

    left, right = brick(2_000_000_001, low[0] - 0.1, cut), brick(2_000_000_002, cut, high[0] + 0.1)
    beside = brick(2_000_000_003, high[0] + 0.2, high[0] + 0.4)
    triangle = replace(left, exposure=exposure(2_000_000_004, 60000.0 - 40.0))
    triangle = replace(
        triangle,
        footprints={
            1: np.array([low, (high[0], low[1]), (low[0], high[1])]),
            2: np.array([low - 9, low - 8, low - 7 - [0, 0.5], low - 9]),
        },
    )
    target = TemplateTarget(exposure(1), {10: corners})
    rows = {r["template_expnum"]: r for r in select_templates(target, [left, right, beside], SETTINGS).to_pylist()}
    assert rows[2_000_000_001]["overlap_fraction"] == pytest.approx(0.3, abs=0.01)
    assert rows[2_000_000_002]["overlap_fraction"] == pytest.approx(0.7, abs=0.01)
    assert 2_000_000_003 not in rows
    assert {row["rank"] for row in rows.values()} == {1, 2}
    assert rows[2_000_000_001]["source"] == "Legacy Surveys, 2000000001"
    (row,) = select_templates(target, [triangle], SETTINGS).to_pylist()
    assert row["overlap_fraction"] == pytest.approx(0.5, abs=0.02)
