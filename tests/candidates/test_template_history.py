"""What the templates themselves tell of the time before the merger."""

import numpy as np
import pyarrow as pa
import pytest

from imaging.candidates.history import template_history
from imaging.candidates.lightcurve import lightcurve_likelihood
from imaging.candidates.settings import LightcurveSettings
from imaging.schemas.difference import DIRECT_PHOTOMETRY, FORCED_PHOTOMETRY
from imaging.tables import make_table

T0, ERROR = 60000.0, 500.0
SETTINGS = LightcurveSettings()


def direct(*rows):
    """Return photometry from rows of (candidate, expnum, band, flux), with options behind them."""
    n = len(rows)
    options = [row[4] if len(row) > 4 else {} for row in rows]
    columns = {
        "candidate_id": [row[0] for row in rows],
        "expnum": [row[1] for row in rows],
        "band": [row[2] for row in rows],
        "night": [20200101] * n,
        "ccd": [1] * n,
        "mjd": [T0 - 1000.0 + row[1] for row in rows],
        "side": [option.get("side", "template") for option in options],
        "flux": pa.array([row[3] for row in rows], type=pa.float32()),
        "flux_error": [option.get("error", ERROR) for option in options],
        "snr": [0.0] * n,
        "mag": pa.nulls(n, pa.float32()),
        "mag_error": pa.nulls(n, pa.float32()),
        "limit_mag": [23.0] * n,
        "masked": [option.get("masked", False) for option in options],
    }
    return make_table(columns, DIRECT_PHOTOMETRY)


def test_templates_are_told_against_their_mean_band_by_band():
    table = direct(("A", 1, "g", 900.0), ("A", 2, "g", 1100.0), ("A", 3, "i", 7000.0), ("A", 4, "i", 5000.0))
    found = template_history(table, LightcurveSettings(history_host_fraction=0.0))
    assert found.schema.equals(FORCED_PHOTOMETRY)
    assert found.column("flux").to_pylist() == pytest.approx([-100.0, 100.0, 1000.0, -1000.0])
    assert found.column("flux_error").to_pylist() == [ERROR] * 4
    assert found.column("expnum").to_pylist() == [1, 2, 3, 4]


def test_better_templates_count_more():
    table = direct(("A", 1, "g", 0.0), ("A", 2, "g", 1000.0, {"error": ERROR / 3}))
    flux = template_history(table, SETTINGS).column("flux").to_pylist()
    assert flux == pytest.approx([-900.0, 100.0])


@pytest.mark.parametrize("odd", [{"masked": True}, {"side": "search"}, {"error": 0.0}, {"error": np.nan}])
def test_what_says_nothing_is_left_out(odd):
    table = direct(("A", 1, "g", 0.0), ("A", 2, "g", 300.0), ("A", 3, "g", 1e6, odd))
    assert template_history(table, SETTINGS).column("expnum").to_pylist() == [1, 2]


def test_one_template_has_nothing_to_be_compared_with():
    assert template_history(direct(("A", 1, "g", 0.0), ("A", 2, "i", 0.0)), SETTINGS).num_rows == 0
    assert template_history(DIRECT_PHOTOMETRY.empty_table(), SETTINGS).num_rows == 0


def test_a_template_that_several_searches_have_measured_counts_once():
    once = direct(("A", 1, "g", 0.0), ("A", 2, "g", 300.0))
    twice = pa.concat_tables([once, once])
    assert template_history(twice, SETTINGS).equals(template_history(once, SETTINGS))


def test_candidates_do_not_mix():
    rows = [(name, expnum, "g", base + 10.0 * expnum) for name, base in (("A", 0.0), ("B", 9e4)) for expnum in (1, 2)]
    found = template_history(direct(*rows), SETTINGS)
    assert found.column("candidate_id").to_pylist() == ["A", "A", "B", "B"]
    assert found.column("flux").to_pylist() == pytest.approx([-5.0, 5.0, -5.0, 5.0], abs=0.01)


def test_a_galaxy_that_breathes_with_the_seeing_is_no_history_but_a_supernova_is():
    epochs = range(1, 6)
    galaxy = [("G", e, "g", 20 * ERROR * (1 + 0.15 * (-1) ** e)) for e in epochs]
    supernova = [("S", e, "g", 20 * ERROR if e == 3 else 0.0) for e in epochs]
    quiet = [("Q", e, "g", 0.0) for e in epochs]
    history = template_history(direct(*galaxy, *supernova, *quiet), SETTINGS)
    likelihood = lightcurve_likelihood(history, pa.array(["G", "S", "Q"]), T0, SETTINGS)
    assert likelihood.history_snr[0] < 1.0
    assert likelihood.history_snr[1] > 3.5
    assert likelihood.history[1] < -4.0
    assert likelihood.history[2] > 0.3
