"""The kilonova's rank where a night has few exposures, one band, no history, a far event or late templates."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from imaging.candidates.associate import associate_detections
from imaging.candidates.chance import without_chance
from imaging.candidates.crossmatch import match_point_sources, match_reference_stars
from imaging.candidates.history import relative_to_before, template_history
from imaging.candidates.hosts import add_distances, match_hosts
from imaging.candidates.lightcurve import lightcurve_likelihood
from imaging.candidates.rank import rank_candidates
from imaging.candidates.settings import AssociateSettings, CrossmatchSettings, LightcurveSettings, RankSettings
from imaging.schemas.difference import DIRECT_PHOTOMETRY, FORCED_PHOTOMETRY
from imaging.simulation.candidate_night import make_night
from imaging.simulation.candidate_sources import MJD_EVENT, NIGHT
from imaging.tables import column, make_table

SEEDS = range(500, 506)
LIGHT = LightcurveSettings()


def kinds_by_rank(night, kept, template_days=None):
    """Return the kinds of the candidates, the best first, if only some exposures were made."""
    numbers = pa.array(night.exposures.expnum[kept].tolist(), type=pa.int64())
    settings = CrossmatchSettings()
    detections = night.detections.filter(pc.is_in(night.detections.column("expnum"), value_set=numbers))
    table = associate_detections(detections, NIGHT, AssociateSettings(), night.footprints, night.fakes)
    hosts = add_distances(night.hosts, night.galaxies, settings)
    table = match_point_sources(match_reference_stars(table, night.stars, MJD_EVENT, settings), hosts, settings)
    table = match_hosts(table, hosts, settings)
    forced = night.forced(table)
    forced = forced.filter(pc.is_in(forced.column("expnum"), value_set=numbers))
    if template_days is not None:
        forced = relative_to_before(
            forced, templates_of(table.column("candidate_id").to_pylist(), template_days), MJD_EVENT
        )
    ranked = rank_candidates(table, forced, night.skymap, MJD_EVENT, RankSettings(), LIGHT)
    return night.kind_of(without_chance(ranked, forced, night.footprints, AssociateSettings()))


def templates_of(names, days, bands="griz"):
    """Return photometry of one template per band, taken some days after the merger."""
    n = len(names) * len(bands)
    columns = {name: np.zeros(n) for name in DIRECT_PHOTOMETRY.names} | {
        "candidate_id": np.repeat(np.array(names, dtype=object), len(bands)),
        "band": np.tile(np.array(list(bands), dtype=object), len(names)),
        "mjd": np.full(n, MJD_EVENT + days),
        "side": np.full(n, "template", dtype=object),
        "flux_error": np.full(n, 500.0),
        "masked": np.zeros(n, dtype=bool),
    }
    return make_table(columns, DIRECT_PHOTOMETRY)


def odd_nights(exposures):
    """Return which exposures were made, by name of the odd night."""
    after = exposures.mjd > MJD_EVENT
    in_i = exposures.band == "i"
    return {
        "one band": in_i,
        "one band, nothing before": in_i & after,
        "one exposure of each field": after & in_i & (exposures.mjd < exposures.mjd[after & in_i].min() + 0.002),
        "nothing before": after,
        "one band only before": (in_i & ~after) | (after & ~in_i),
    }


@pytest.mark.parametrize("odd", ["one band", "one band, nothing before", "one exposure of each field", "nothing before",
                                 "one band only before"])  # fmt: skip
def test_the_kilonova_is_among_the_first_three_of_an_odd_night(odd):
    for seed in SEEDS:
        night = make_night(seed)
        assert "kilonova" in kinds_by_rank(night, odd_nights(night.exposures)[odd])[:3]


def seen_once(night, exposure):
    """Return the night with the kilonova in a gap between CCDs in all exposures after the merger but one."""
    gap = (night.exposures.mjd > MJD_EVENT) & (np.arange(len(night.exposures.mjd)) != exposure)
    ids = night.detections.column("detection_id").to_pylist()
    of_kilonova = np.array([night.kind[number] == "kilonova" for number in ids])
    lost = of_kilonova & np.isin(column(night.detections, "expnum"), night.exposures.expnum[gap])
    flux, error = night.flux.copy(), night.flux_error.copy()
    flux[0, gap], error[0, gap] = 0.0, 1e9
    return replace(night, detections=night.detections.filter(pa.array(~lost)), flux=flux, flux_error=error)


def test_a_kilonova_in_gaps_but_for_its_faintest_exposure_above_s_n_8_is_among_the_first_three():
    for seed in SEEDS:
        night = make_night(seed)
        snr = np.where((night.exposures.mjd > MJD_EVENT) & (night.kilonova_snr > 8.0), night.kilonova_snr, np.inf)
        once = seen_once(night, int(snr.argmin()))
        assert "kilonova" in kinds_by_rank(once, night.exposures.mjd < np.inf)[:3]


@pytest.mark.parametrize("days", [4.0, 8.0])
def test_a_template_that_holds_its_light_does_not_hide_the_kilonova(days):
    for seed in SEEDS:
        night = make_night(seed, template_days=days)
        assert "kilonova" in kinds_by_rank(night, night.exposures.mjd < np.inf, days)[:3]


def test_a_far_kilonova_is_among_the_first_ten():
    ranked = 0
    for seed in SEEDS:
        night = make_night(seed, distance_mpc=300.0)
        for kept in (night.exposures.mjd < np.inf, *odd_nights(night.exposures).values()):
            if night.kilonova_snr[kept & (night.exposures.mjd > MJD_EVENT)].max() > 8.0:
                ranked += 1
                assert "kilonova" in kinds_by_rank(night, kept)[:10]
    assert ranked >= 12


def lightcurve(*rows):
    """Return forced photometry from rows of (band, days since the merger, flux, error)."""
    bands, days, flux, error = zip(*rows, strict=True)
    n = len(rows)
    columns = {name: np.zeros(n) for name in FORCED_PHOTOMETRY.names} | {
        "candidate_id": np.full(n, "A", dtype=object),
        "expnum": np.arange(n),
        "band": np.array(bands, dtype=object),
        "mjd": MJD_EVENT + np.array(days),
        "flux": np.array(flux),
        "flux_error": np.array(error),
        "masked": np.zeros(n, dtype=bool),
    }
    return make_table(columns, FORCED_PHOTOMETRY)


def test_fluxes_are_relative_to_those_before_the_merger_where_the_template_is_later():
    rows = (
        ("i", -20.0, -900.0, 100.0),
        ("i", -9.0, -1200.0, 200.0),
        ("i", 1.0, 5000.0, 100.0),
        ("g", 1.0, 7000.0, 90.0),
    )
    found = relative_to_before(lightcurve(*rows), templates_of(["A"], 6.0, "i"), MJD_EVENT)
    mean, error = -960.0, 100.0 / np.sqrt(1.25)  # weights 4 to 1
    assert column(found, "flux").tolist() == pytest.approx([60.0, -240.0, 5960.0, 7000.0])
    assert column(found, "flux_error").tolist() == pytest.approx([*np.hypot([100.0, 200.0, 100.0], error), 90.0])
    assert found.column("mag").to_pylist()[2] == pytest.approx(31.4 - 2.5 * np.log10(5000.0 - mean), abs=1e-3)
    assert found.schema.equals(FORCED_PHOTOMETRY)


def test_an_older_template_and_a_band_without_photometry_before_leave_the_fluxes():
    table = lightcurve(("i", -20.0, -900.0, 100.0), ("i", 1.0, 5000.0, 100.0), ("g", 1.0, 7000.0, 90.0))
    assert relative_to_before(table, templates_of(["A"], -400.0), MJD_EVENT).equals(table)
    assert relative_to_before(table, templates_of(["B"], 6.0), MJD_EVENT).equals(table)
    assert relative_to_before(table, templates_of(["A"], 6.0, "g"), MJD_EVENT).equals(table)


def test_one_late_template_of_three_is_no_activity_before():
    """Two templates of a year before the merger and one of the week after it, which holds 6 microjanskys of it."""
    direct = pa.concat_tables(
        [templates_of(["A"], -400.0, "i"), templates_of(["A"], -300.0, "i"), templates_of(["A"], 6.0, "i")]
    )
    direct = direct.set_column(1, DIRECT_PHOTOMETRY.field(1), pa.array([11, 12, 13], type=pa.int64()))
    flux = DIRECT_PHOTOMETRY.get_field_index("flux")
    direct = direct.set_column(flux, DIRECT_PHOTOMETRY.field(flux), pa.array([1e4, 1e4, 1.6e4], type=pa.float32()))
    search = lightcurve(("i", 1.0, 18_000.0, 500.0), ("i", 1.1, 18_000.0, 500.0))
    history = template_history(direct, LightcurveSettings(history_host_fraction=0.0))
    everything = pa.concat_tables([search, history])
    found = relative_to_before(everything, direct, MJD_EVENT)
    names = pa.array(["A"])
    before, after = (lightcurve_likelihood(table, names, MJD_EVENT, LIGHT) for table in (everything, found))
    assert before.history[0] < -2.0, "the defect that is mended"
    assert after.history[0] > 0.0
    assert column(found, "flux")[:2].tolist() == pytest.approx([20_000.0] * 2)
