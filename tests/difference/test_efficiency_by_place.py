"""How complete the search was in blank sky and on hosts of each surface brightness."""

import numpy as np
import pyarrow as pa
import pytest

from imaging.difference.efficiency import efficiency_by_place, fit_curve
from imaging.difference.engine import ImageDifference, summary
from imaging.difference.fakes import draw_magnitudes
from imaging.difference.settings import FakeSettings
from imaging.schemas.difference import FAKES
from imaging.tables import make_table


def fakes_with(mag, surface, passed):
    n = len(mag)
    columns = {name: np.zeros(n) for name in FAKES.names}
    columns |= {"band": ["r"] * n, "mag": mag, "detected": passed, "passed": passed}
    columns |= {"on_host": [s is not None for s in surface], "on_good_pixels": np.ones(n, dtype=bool)}
    for field in FAKES:
        if pa.types.is_integer(field.type):
            columns[field.name] = np.zeros(n, dtype=np.int64)
    columns["host_surface_brightness"] = pa.array(surface, pa.float32())
    return make_table(columns, FAKES)


def test_bright_hosts_cost_depth_and_the_table_says_how_much():
    rng = np.random.default_rng(2)
    mag = rng.uniform(18.0, 24.5, 900)
    surface = [None if k < 300 else 20.0 if k < 600 else 23.0 for k in range(900)]
    half = np.repeat([23.5, 21.5, 23.0], 300)
    passed = rng.random(900) < 1.0 / (1.0 + np.exp((mag - half) / 0.15))
    table = efficiency_by_place(fakes_with(mag, surface, passed), 0.5).to_pylist()
    m50 = {row["place"]: (row["m50_mag"], row["m50_error_mag"]) for row in table}
    truth = {"blank sky": 23.5, "host brighter than 21": 21.5, "host 22.5 to 24": 23.0}
    assert set(m50) == set(truth)
    for place, expected in truth.items():
        assert m50[place][0] == pytest.approx(expected, abs=max(4 * m50[place][1], 0.05)), place
    assert sum(row["n_injected"] for row in table) == 900
    assert all(row["share_low"] - 1e-6 <= row["share_passed"] <= row["share_high"] + 1e-6 for row in table)


def test_too_few_fakes_have_counts_but_no_half_magnitude():
    table = efficiency_by_place(fakes_with(np.array([18.2, 18.3, 24.2]), [None] * 3, [True, True, False]), 0.5)
    rows = table.to_pylist()
    assert [(r["n_injected"], r["n_passed"], r["m50_mag"]) for r in rows] == [(2, 2, None), (1, 0, None)]
    assert efficiency_by_place(FAKES.empty_table(), 0.5).num_rows == 0


def test_the_summary_of_a_user_tells_the_efficiency_by_place(searched):
    document = summary(ImageDifference(searched, (), zeropoint_known=True, zeropoint_ratio=1.0))
    places = {row["place"] for row in document["efficiency"]}
    assert "blank sky" in places and any(place.startswith("host") for place in places)
    assert sum(row["n_injected"] for row in document["efficiency"]) == len(searched.fakes)


def test_fakes_crowd_where_the_efficiency_falls_and_still_cover_the_range():
    settings = FakeSettings()
    error = np.full(4000, 300.0)
    mag = draw_magnitudes(np.random.default_rng(1), error, 31.4, 5.0, settings)
    limit = 31.4 - 2.5 * np.log10(5.0 * 300.0)
    near = np.abs(mag - limit) < settings.threshold_width_mag
    uniform = (1 - settings.threshold_share) * 1.4 / 6.5 + settings.threshold_share
    assert near.mean() == pytest.approx(uniform, abs=0.04)
    assert mag.min() < 18.1 and mag.max() > 24.4
    counts, _ = np.histogram(mag[~near], np.arange(18.0, 24.6, 0.5))
    assert (counts[:8] > 100).all()
    nowhere = draw_magnitudes(np.random.default_rng(1), np.full(50, np.inf), 31.4, 5.0, settings)
    assert ((nowhere >= 18.0) & (nowhere <= 24.5)).all()


def test_fakes_about_the_threshold_fix_the_half_signal_to_noise():
    """As many fakes as a CCD gets tell the signal to noise of half completeness to a fifth, better than without."""
    errors = {}
    for share in (0.0, FakeSettings().threshold_share):
        rng = np.random.default_rng(8)
        settings = FakeSettings(threshold_share=share)
        error = rng.uniform(250.0, 400.0, settings.n_blank + settings.n_hosts)
        mag = draw_magnitudes(rng, error, 31.4, 5.0, settings)
        snr = 10 ** (-0.4 * (mag - 31.4)) / error
        found = snr + rng.standard_normal(snr.size) > 5.0
        curve = fit_curve(snr, found, width=1.0)
        assert abs(curve.half - 5.0) < 3.0 * curve.half_error
        errors[share] = curve.half_error
    assert errors[FakeSettings().threshold_share] < 0.2 < 1.3 * errors[0.0]
