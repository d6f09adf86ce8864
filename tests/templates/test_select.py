"""The choice of templates."""

import math

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
    """Better a shallow search than none; where a good one overlaps, the cut holds."""
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
