"""The bottleneck of a night of many exposures, and the night whose steps only wait."""

import pytest

from bench import dry_night
from bench.dry_night import SEARCH, STAGES, waiting_job
from bench.scaling import CORES, SETTINGS_THAT_HELP, Overhead, bottleneck, extrapolated, night_hours
from bench.step_times import CCD_S, CCD_STEPS, EXPOSURE_S, TASKS_PER_EXPOSURE, WHOLE_STEPS

FREE = Overhead(0.0, 0.0, 0.0)


def test_without_overhead_few_cores_are_the_limit_and_twice_as_many_take_half_as_long():
    small, large = night_hours(8, FREE), night_hours(16, FREE)
    assert bottleneck(small) == bottleneck(large) == "cores"
    assert small["cores"] == pytest.approx(2 * large["cores"])
    assert small["cores"] == pytest.approx(200 * (60 * CCD_S + EXPOSURE_S) / 8 / 3600)


@pytest.mark.parametrize(
    ("overhead", "limit"),
    [
        (Overhead(1.0, 0.0, 0.0), "the run's process"),
        (Overhead(0.0, 0.0, 1.0), "the server"),
        (Overhead(0.0, 5.0, 0.0), "cores"),
    ],
)
def test_the_most_expensive_resource_is_the_limit(overhead, limit):
    assert bottleneck(night_hours(16, overhead)) == limit


def test_two_exposures_at_a_time_cannot_use_more_than_120_cores():
    one, other = night_hours(128, FREE), night_hours(512, FREE)
    assert one["exposures at a time"] == other["exposures at a time"]
    assert bottleneck(other) == "exposures at a time"
    assert night_hours(512, FREE, at_once=8)["exposures at a time"] == pytest.approx(other["exposures at a time"] / 4)


def test_runs_share_the_work_of_a_process_but_not_that_of_the_server():
    overhead = Overhead(0.1, 0.0, 0.1)
    one, four = night_hours(512, overhead), night_hours(512, overhead, processes=4)
    assert four["the run's process"] == pytest.approx(one["the run's process"] / 4)
    assert four["the server"] == one["the server"]


def test_every_number_of_cores_has_a_limit_and_a_setting_against_it():
    rows = extrapolated(Overhead(0.009, 0.025, 0.012))
    names = [row.name for row in rows]
    assert [sum(f" {cores} cores" in name for name in names) for cores in CORES] == [1] * len(CORES)
    assert all(any(f"({how})" in name for how in SETTINGS_THAT_HELP.values()) for name in names)
    better = [k for k, name in enumerate(names) if name.startswith("  ")]
    assert better
    assert all(rows[k].value < 0.95 * rows[k - 1].value for k in better)


def test_the_share_is_that_of_all_processes():
    assert TASKS_PER_EXPOSURE == 60 * 6 + 6
    share = 100 * 366 * 0.06 / (60 * CCD_S + EXPOSURE_S)
    assert Overhead(0.01, 0.02, 0.03).share_percent == pytest.approx(share)


def test_steps_of_whole_exposures_do_not_block_the_flow_process():
    assert night_hours(64, FREE)["the run's process"] == 0.0
    assert night_hours(64, FREE)["cores"] > 200 * 60 * CCD_S / 64 / 3600


def test_all_steps_of_the_processing_are_rehearsed():
    rehearsed = {name for steps in STAGES.values() for name in steps} | set(SEARCH)
    assert rehearsed | {"associate", "forced_photometry", "rank"} == set(CCD_STEPS) | set(WHOLE_STEPS)


def test_a_step_waits_its_share_of_the_time_and_writes_one_small_product(tmp_path):
    job = waiting_job("measure", 7, 3, str(tmp_path), 100 * CCD_STEPS["measure"])
    assert job.parameters["wait_s"] == pytest.approx(0.01)
    result = dry_night.step_named("measure")(job)
    assert 0.01 <= result.quality["ended"] - result.quality["began"] < 5.0
    assert [record.size < 100 for record in result.products.values()] == [True]


def test_a_small_night_is_done_once(tmp_path, prefect_server):
    from prefect.task_runners import ThreadPoolTaskRunner

    threads = {"task_runner": ThreadPoolTaskRunner(max_workers=4)}
    night = dry_night.dry_night.with_options(**threads)
    arguments = ((1, 2), (1, 2, 3), str(tmp_path), 1e6)
    original = dry_night.dry_stage, dry_night.dry_exposure
    dry_night.dry_stage, dry_night.dry_exposure = (run.with_options(**threads) for run in original)
    try:
        first = night(*arguments)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.txt")}
        assert night(*arguments) == first
    finally:
        dry_night.dry_stage, dry_night.dry_exposure = original
    assert first == {"records": 2 * (3 * 6 + 6) + 2, "failures": 0}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.txt")} == before
