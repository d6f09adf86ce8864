"""All skies in one table: nights are pooled, the worst is named, a failed night counts, and a run can be continued."""

import json
import multiprocessing
import os
import pickle
import signal
from collections import Counter
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

import numpy as np
import pytest

from bench.plain_night import Cost
from bench.skies import FIGURES, columns_of, main, measure, report, rows_of
from bench.sky_candidates import Ranked
from bench.sky_cost import Spent
from bench.sky_difference import Collected
from bench.sky_goals import CROWDED, GOALS
from bench.sky_matrix import (
    MeasuredNight,
    matrix,
    measure_night,
    measured_nights,
    saved_path,
    title_of,
)
from bench.sky_night import SkyNight
from bench.sky_single_epoch import Measured

RNG = np.random.default_rng(11)

COSTS = {"detrend": 1.0, "measure": 2.5, "calibrate": 0.75, "difference": 7.0, "rank": 3.0}
"""CPU seconds of steps."""


def measured(night: SkyNight, false: int = 5, width: float = 1.0, rank: int = 1) -> MeasuredNight:
    """Return what a night of two CCDs gives: its false detections per CCD, pulls of 600 transients, and a rank."""
    n = len(night.ccds)
    pull = RNG.normal(0.0, width, 600)
    difference = Collected(
        quality=[{"kernel_chi2": 1.01, "noise_peaks": 0.9}] * 2 * n,
        false=[false] * 2 * n,
        unflagged=[0] * 2 * n,
        used=[0] * 2 * n,
        pulls=[np.stack([pull, 1.0 + pull / 100.0, np.full(600, 100.0)], axis=1)],
        searched=[0.9] * 2 * n,
        wanted=2 * n,
    )
    single = Measured(wanted=5 * n, solution_mas=[2.0] * 5 * n, ideal_mas=[1.9] * 5, exposures=list(range(5 * n)))
    parts = {
        "single epochs": single,
        "differences": difference,
        "candidates": Ranked([rank], [0], [30], [True] * 40),
        "cost": Spent([Cost(step, 1, 26, seconds, 900.0, {}) for step, seconds in COSTS.items() for _ in range(n)]),
    }
    return MeasuredNight(night, parts, "abc1234", cpu_s=300.0)


def lines_of(nights, by="sky"):
    """Return the cells of the lines of the table by their titles, and all text."""
    text = report(nights, by, len(nights))
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {cells[0]: dict(zip(lines[0][1:], cells[1:], strict=True)) for cells in lines}, text


NIGHTS = matrix(["typical", "crowded"], ["g", "z"], "both", (26, 27))


def test_the_matrix_has_every_combination_once_and_its_seeds_stay():
    whole = matrix(["typical", "hard", "crowded", "bright"], list("griz"), "both", (26,))
    assert len(whole) == len({night.seed for night in whole}) == len({night.name for night in whole}) == 32
    half = matrix(["typical", "hard", "crowded", "bright"], list("griz"), "alternating", (26,))
    assert set(half) < set(whole)
    assert Counter((night.sky, night.sharp) for night in half) == Counter({(n.sky, n.sharp): 2 for n in half})
    assert Counter((night.band, night.sharp) for night in half) == Counter({(n.band, n.sharp): 2 for n in half})
    assert len({night.seed for night in matrix(["hard"], ["g"], "both", (26,), nights=3)}) == 6


def test_every_line_of_the_table_is_a_row_of_the_benches():
    names = {row.name.removeprefix("a: ") for row in rows_of([measured(NIGHTS[0])], "a")}
    assert [figure.row for figure in FIGURES if figure.row not in names] == []
    goals = {row.name.removeprefix("a: ") for row in rows_of([measured(NIGHTS[0])], "a") if row.limit is not None}
    assert goals - {figure.row for figure in FIGURES} == {"the same beyond the stated, error of clouds included"}, (
        "a figure with a goal is not in the table"
    )


def test_nights_are_pooled_until_a_figure_is_known():
    nights = [measured(night, width=1.02) for night in NIGHTS]
    lines, _ = lines_of(nights[:1])
    width = "pull of true transients, width from 1"
    assert lines[width]["typical"] == "not measured"
    lines, text = lines_of(nights)
    assert float(lines[width]["typical"]) == pytest.approx(0.02, abs=0.02)
    assert lines[width]["worst night"] == ""  # each night alone has too few
    assert lines["CCDs with a difference (of)"]["typical"] == "16 (16)"
    assert lines["peaks of noise among them to expect; half of them without a flag"]["typical"] == "1.8"
    assert lines["raw to catalogue, CPU s per CCD (limit of the easy sky)"]["typical"] == "4.25"
    assert lines["difference, CPU s per CCD (limit of the easy sky)"]["typical"] == "**7**"
    assert "8 of 8 nights of 2 CCDs, commit abc1234" in text


def test_the_worst_night_is_named_and_crowded_fields_have_their_own_goal():
    nights = [measured(night, false=10 if night.seed == NIGHTS[1].seed else 4) for night in NIGHTS]
    lines, _ = lines_of(nights)
    false = lines["false detections per CCD"]
    assert false["goal"] == "5 (crowded 15)"
    assert (false["typical"], false["crowded"]) == ("**5.5**", "4")
    assert false["worst night"] == f"**10**: {title_of(NIGHTS[1])}"
    assert lines["coordinates, error per axis, mas (1.2 times the ideal process)"]["typical"] == "2 (2.28)"
    assert lines["nights processed (asked for)"]["worst night"] == ""


def test_goals_of_crowded_fields_differ_in_counts_only():
    differ = [item.name for item in fields(GOALS) if getattr(GOALS, item.name) != getattr(CROWDED, item.name)]
    assert differ == ["false"]


def test_a_failed_night_counts_as_one_without_products():
    typical = [night for night in NIGHTS if night.sky == "typical"]
    failed = MeasuredNight.missing(typical[0], "BrokenProcessPool: killed")
    lines, text = lines_of([failed, *(measured(night) for night in typical[1:])])
    assert lines["nights processed (asked for)"]["typical"] == "**3** (4)"
    assert lines["CCDs with a catalogue (of)"]["typical"] == "**30** (40)"
    assert lines["CCDs with a difference (of)"]["typical"] == "**12** (16)"
    assert lines["rank of the kilonova, worst night"]["typical"] == "**9999**"
    assert f"Failed: {title_of(typical[0])}: BrokenProcessPool: killed" in text
    assert lines_of([failed])[0]["false detections per CCD"]["typical"] == "not measured"


def test_a_night_whose_kilonova_is_masked_is_named():
    hidden = measured(NIGHTS[0])
    hidden.parts["candidates"] = Ranked([], [0], [30], [True] * 40, unsearchable=[hidden.night.seed])
    lines, text = lines_of([hidden, *(measured(night, rank=2) for night in NIGHTS[1:4])])
    assert lines["kilonovae under masks of every search exposure (no rank)"]["typical"] == "1"
    assert f"not searchable, under masks of every search exposure: {title_of(NIGHTS[0])}." in text


@dataclass(frozen=True, slots=True)
class DrawnNight(SkyNight):
    """A night that something else draws."""


def test_nights_that_galsim_draws_have_columns_and_goals_of_their_sky():
    drawn = [DrawnNight(*astuple(night)) for night in NIGHTS]
    nights = [*(measured(night) for night in NIGHTS), *(measured(night, false=9) for night in drawn)]
    lines, _ = lines_of(nights)
    false = lines["false detections per CCD"]
    assert [false[name] for name in ("typical", "crowded")] == ["5", "5"]
    assert [false[f"GalSim, {name}"] for name in ("typical", "crowded")] == ["**9**", "9"]


def test_columns_over_skies_leave_crowded_fields_out():
    nights = [measured(night) for night in [*NIGHTS, *matrix(["easy", "hard"], ["g"], "usual", (26, 27))]]
    by_sky = {"easy": 1, "typical": 4, "hard": 1, "crowded": 4, "all but crowded": 5}
    assert {name: len(items) for name, items in columns_of(nights, "sky").items()} == by_sky
    nights = nights[:8]
    assert {name: len(items) for name, items in columns_of(nights, "band").items()} == {"g": 2, "z": 2}
    assert {name: len(items) for name, items in columns_of(nights, "sharpness").items()} == {"usual": 2, "sharper": 2}


COST = Cost("detrend", 1, 26, 0.5, 800.0, {"flat": 0.1})


class FakeNight(SkyNight):
    """A night without exposures: 'hard' fails, 'bright' kills its process, 'crowded' is interrupted by Ctrl-C."""

    def process(self, maps: Path | None = None) -> None:
        assert maps is not None
        if self.is_processed:
            return
        self.root.mkdir(parents=True)
        (self.root / "raw.fits").write_bytes(bytes(1000))
        if self.sky == "hard":
            raise ValueError("no star in CCD 26")
        if self.sky == "bright":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.sky == "crowded":
            os.kill(os.getppid(), signal.SIGINT)
            signal.pause()
        (self.root / "failures.txt").write_text("CCD 26: too few stars\n")
        (self.root / "costs.json").write_text(json.dumps([asdict(COST)]))

    def expnums(self, *, search: bool) -> list[int]:
        return []

    def planned(self) -> list[int]:
        return []


def fake(sky: str) -> FakeNight:
    return FakeNight(Path(), sky, "i", False, 1, (26,))


def test_a_night_is_measured_by_all_benches_and_its_saved_figures_are_its_own(tmp_path):
    night = fake("typical")
    measure_night(night, tmp_path)
    (found,) = measured_nights([night], tmp_path, 1)
    assert (found.night, found.n_failed, found.failure) == (night, 1, "")
    nothing = MeasuredNight.missing(night, "").parts | {"single epochs": Measured()}  # its plan has no exposures
    assert found.parts == nothing | {"cost": Spent([COST])}
    saved_path(fake("hard"), tmp_path).write_bytes(pickle.dumps(found))
    with pytest.raises(TypeError, match=r"hard_i_1ccds_1\.pickle does not hold"):
        list(measured_nights([fake("hard")], tmp_path, 1))


def test_a_night_that_another_bench_keeps_is_used_and_stays(tmp_path):
    night = fake("hard")
    kept = tmp_path / night.name
    kept.mkdir()
    (kept / "failures.txt").write_text("")
    measure_night(night, tmp_path)
    assert kept.is_dir()
    assert saved_path(night, tmp_path).is_file()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_nights_that_fail_or_die_cost_no_other_and_a_run_goes_on_after_ctrl_c(tmp_path, capfd, monkeypatch):
    forked = multiprocessing.get_context("fork")  # spares the imports of new processes
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: forked)
    wanted = [fake(sky) for sky in ("hard", "bright", "typical", "crowded", "easy")]
    found, complete = measure(wanted[:3], tmp_path, 2)
    assert complete
    assert [item.failure.partition(":")[0] for item in found] == ["ValueError", "BrokenProcessPool", ""]
    assert "ValueError: no star in CCD 26" in capfd.readouterr().err
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{wanted[2].name}.pickle"]
    again, complete = measure(wanted[2:], tmp_path, 1)
    assert not complete
    assert [item.parts for item in again] == [found[2].parts]
    said = capfd.readouterr().err
    assert "interrupted after 1 of 3 nights" in said
    assert said.count("started") == 1
    assert list((tmp_path / "unfinished").iterdir()) == []
    assert multiprocessing.active_children() == []


def test_the_command_prints_the_table_of_saved_nights(tmp_path, capsys):
    (night,) = matrix(["hard"], ["z"], "usual", (26, 27))
    saved_path(night, tmp_path).write_bytes(pickle.dumps(measured(night)))
    arguments = ["--quick", "--skies", "hard", "--bands", "z", "--keep", str(tmp_path), "--processes", "0"]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    assert "1 of 2 nights of 2 CCDs" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*arguments, "--json"])
    names = {row["name"] for row in json.loads(capsys.readouterr().out)["rows"]}
    assert {"hard: PSF, rms residual", f"{title_of(night)}: PSF, rms residual"} <= names
