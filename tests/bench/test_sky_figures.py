"""Figures of nights of the named skies: what is counted, and that what is too little is not measured."""

import numpy as np
import pytest

from bench.sky_candidates import false_ones, rows_on_sky
from bench.sky_difference import Collected, rows_of
from imaging.errors import InputError
from imaging.io.tables import write_table
from imaging.io.truth import source_truth_path
from imaging.schemas.truth import TRUE_SOURCES
from imaging.tables import make_table

RNG = np.random.default_rng(5)


def collected(n: int, width: float = 1.0, bias: float = 0.0) -> Collected:
    """Return what two CCDs give that have n true transients of S/N 100 and 5,000 fakes."""
    pull = RNG.normal(0.0, width, n)
    pulls = np.stack([pull, 1.0 + bias + pull / 100.0, np.full(n, 100.0)], axis=1)
    snr = np.repeat([10.0, 60.0], 2500)
    fakes = np.stack([RNG.normal(0.0, 1.0, 5000), snr, np.where(np.arange(5000) % 50 == 0, 0.0, 1.0)], axis=1)
    return Collected(
        quality=[{"kernel_chi2": 0.9}, {"kernel_chi2": 1.02}],
        false=[4, 8],
        unflagged=[1, 2],
        used=[1, 0],
        scores=[np.array([0.95]), np.zeros(0)],
        stars=[RNG.normal(0.0, [2e-4, 1.2], (1000, 2))],
        pulls=[pulls],
        fakes=[fakes],
    )


def rows_with(data: Collected) -> dict[str, float | None]:
    return {row.name.removeprefix("hard, g: "): row.value for row in rows_of(data, "hard, g", 7)}


def test_counts_are_per_ccd_and_widths_are_those_of_the_pulls():
    rows = rows_with(collected(2000, width=1.3, bias=0.01))
    false = "false detections per CCD, "
    assert [rows[false + name] for name in ("all", "without a flag", "that make a candidate")] == [6.0, 1.5, 0.5]
    assert rows[false + "of these with a score above 0.9"] == 0.5
    assert rows["chi-square of the kernel fit, |median - 1|"] == pytest.approx(0.06)
    assert rows["residual of stars of 16 to 18 mag"] == pytest.approx(0.02, rel=0.1)
    assert rows["the same over its stated error"] == pytest.approx(1.2, rel=0.1)
    assert rows["pull of true transients, |width - 1|"] == pytest.approx(0.3, abs=0.1)
    assert rows["their flux over the true one, S/N above 20, |ratio - 1|"] == pytest.approx(1.0, abs=0.1)
    for snr in ("8 to 12", "50 to inf"):
        assert rows[f"detected fakes of S/N {snr} without a flag"] == pytest.approx(98.0)


def test_a_figure_of_too_few_objects_is_not_measured():
    rows = rows_with(collected(30))
    for name in ("pull of true transients, |width - 1|", "mean pull of true transients"):
        assert rows[name] is None
    assert rows["their flux over the true one, S/N above 20, |ratio - 1|"] is None
    assert rows["pull of fakes above S/N 8, |width - 1|"] is not None


def test_a_candidate_is_false_without_a_changing_source_at_its_place(tmp_path):
    kinds, ra = ["star", "variable_star", "kilonova"], np.array([10.0, 10.1, 10.2])
    given = {"kind": kinds, "ra": ra, "dec": np.full(3, -5.0)}
    columns = {f.name: given.get(f.name, np.zeros(3, dtype=f.type.to_pandas_dtype())) for f in TRUE_SOURCES}
    path = source_truth_path(tmp_path, 1300001, 27)
    path.parent.mkdir(parents=True)
    write_table(path, make_table(columns, TRUE_SOURCES))
    places = [{"ra": a, "dec": -5.0 + 0.4 / 3600} for a in ra]
    assert false_ones(tmp_path, {1300001}, (26, 27), places) == 1
    assert false_ones(tmp_path, {1300001}, (26,), places) == 3


def test_the_demonstration_has_one_band():
    with pytest.raises(InputError, match="one band"):
        rows_on_sky("hard", "g", quick=True)
