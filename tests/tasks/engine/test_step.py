"""Steps on threads: cache, damaged products, typed failures, retries."""

import pickle
import threading

import httpx
import pytest
from prefect.states import Failed
from prefect.task_engine import TaskRunTimeoutError
from toy_steps import EXPOSURE, calls, hanging_flow, jobs_for, product, toy, toy_flow, whole_flow

from blocks.cluster import ComputeCluster
from blocks.site import Site
from imaging.errors import CcdError, InputError, NoWorkError, StorageError
from tasks.engine.failures import noted_failures
from tasks.engine.limits import StuckError
from tasks.engine.step import retry_if_worth_it, split
from tasks.engine.task_runner import with_options
from tasks.jobs import StepJob

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def site(tmp_path) -> Site:
    return Site.at(tmp_path)


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch):
    monkeypatch.setattr(toy.task, "retry_delay_seconds", [0.0])
    monkeypatch.setattr(toy.task, "retry_jitter_factor", None)


def test_a_second_run_does_nothing(site):
    jobs = jobs_for(site, range(1, 5))
    first = toy_flow(jobs)
    second = toy_flow(jobs)
    assert sorted(calls(site)) == [1, 2, 3, 4]
    assert [o.cached for o in first] == [False] * 4
    assert [o.cached for o in second] == [True] * 4
    assert [o.result for o in second] == [o.result for o in first]


def test_a_result_has_products_quality_and_cost(site):
    outcome = toy_flow(jobs_for(site, [7]))[0]
    record = outcome.result.products["text"]
    assert record.path == "products/gw/exp/20170818/1300001/D01300001_i_07_r4p5_toy.txt"
    assert site.path(record.path).read_text() == "1300001-ccd07 1.0\n"
    assert outcome.result.step == "toy"
    assert outcome.result.quality == {"level": 1.0, "bad": None}
    assert outcome.result.peak_memory_mb > 10


@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_a_damaged_product_is_recomputed(site, damage):
    jobs = jobs_for(site, [1, 2])
    before = toy_flow(jobs)
    path = product(site, 2)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:3] if damage == "truncated" else content[::-1])
    after = toy_flow(jobs)
    assert sorted(calls(site)) == [1, 2, 2]
    assert [o.cached for o in after] == [True, False]
    assert path.read_bytes() == content
    assert after[1].result.products["text"].content_hash == before[1].result.products["text"].content_hash


def test_a_product_with_another_date_but_the_same_content_is_accepted(site):
    jobs = jobs_for(site, [1])
    toy_flow(jobs)
    product(site, 1).touch()
    assert toy_flow(jobs)[0].cached


def test_a_damaged_record_is_recomputed(site):
    jobs = jobs_for(site, [1])
    toy_flow(jobs)
    record = next((site.records / "1300001").iterdir())
    record.write_bytes(record.read_bytes()[:40])
    assert not toy_flow(jobs)[0].cached


def test_other_settings_recompute(site):
    toy_flow(jobs_for(site, [1]))
    assert not toy_flow(jobs_for(site, [1], level=2.0))[0].cached
    assert product(site, 1).read_text() == "1300001-ccd01 2.0\n"
    assert not toy_flow(jobs_for(site, [1]))[0].cached, "the product is now that of the other settings"


def test_a_site_may_be_moved(tmp_path):
    toy_flow(jobs_for(Site.at(tmp_path / "here"), [1]))
    (tmp_path / "here").rename(tmp_path / "there")
    assert toy_flow(jobs_for(Site.at(tmp_path / "there"), [1]))[0].cached


def test_overwrite_recomputes_everything(site):
    jobs = jobs_for(site, [1, 2])
    toy_flow(jobs)
    outcomes = toy_flow(jobs, overwrite=True)
    assert sorted(calls(site)) == [1, 1, 2, 2]
    assert not any(o.cached for o in outcomes)
    assert all(o.cached for o in toy_flow(jobs))


def test_a_bad_ccd_does_not_affect_the_others(site):
    modes = {2: "bad", 3: "nothing", 4: "input", 5: "defect", 6: "full"}
    results, failures = split(toy_flow(jobs_for(site, range(1, 8), modes)))
    assert sorted(results) == [1, 7]
    assert {ccd: (f.kind, f.reason) for ccd, f in failures.items()} == {
        2: ("ccd", "too_few_stars"),
        3: ("no_work", "no_template"),
        4: ("input", "bad_input"),
        5: ("defect", "ZeroDivisionError"),
        6: ("storage", "storage"),
    }
    assert failures[2].message == "exposure 1300001, CCD 2, toy: too few stars (3; allowed: at least 10)."
    assert "a defect" in failures[5].message
    assert calls(site).count(2) == 1, "a bad CCD is not tried again"
    assert calls(site).count(4) == 1
    assert calls(site).count(5) == 1
    assert calls(site).count(6) == 4
    assert [path.name for path in site.records.iterdir()] == ["1300001"], "errors are no records"


def test_a_rerun_computes_only_the_failed_ccd(site):
    toy_flow(jobs_for(site, [1, 2, 3], {2: "bad", 3: "nothing"}))
    assert [(n.unit, n.step, n.failure.reason) for n in noted_failures(site, "1300001")] == [
        (2, "toy", "too_few_stars")
    ]
    toy_flow(jobs_for(site, [1, 2, 3], {2: "bad", 3: "nothing"}))
    assert sorted(calls(site)) == [1, 2, 2, 3]
    toy_flow(jobs_for(site, [2]))
    assert noted_failures(site, "1300001") == []


def test_a_transient_error_is_retried(site):
    outcome = toy_flow(jobs_for(site, [1], {1: "flaky"}))[0]
    assert outcome.result is not None
    assert calls(site) == [1, 1, 1]


def test_two_concurrent_runs_compute_each_step_once(site):
    jobs = jobs_for(site, [1, 2], {1: "slow", 2: "slow"})
    outcomes = []
    threads = [threading.Thread(target=lambda: outcomes.append(toy_flow(jobs))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(calls(site)) == [1, 2]
    assert len(outcomes) == 2
    assert all(o.result is not None for outcome in outcomes for o in outcome)


def test_a_whole_exposure_step_runs_in_the_flow(site):
    job = jobs_for(site, [None])[0]
    assert whole_flow(job).result.products["text"].path.endswith("D01300001_i_r4p5_toy.txt")
    assert whole_flow(job).cached


def test_a_whole_exposure_step_that_hangs_is_terminated(site):
    outcome = hanging_flow(jobs_for(site, [None], {None: "always"})[0])
    assert outcome.failure.kind == "lost"
    assert outcome.failure.reason == "time_limit"
    assert "1.0 s" in outcome.failure.message or "1.0 second" in outcome.failure.message
    assert (site.root / "calls").read_text().count("None") == 1, "it is not tried again"


def test_progress_is_reported(site):
    seen = []
    jobs = jobs_for(site, [1, 2, 3], {2: "bad"})
    toy_flow(jobs[:1])
    with_options(toy_flow, cluster=ComputeCluster(n_workers=1, processes=False), listener=seen.append)(jobs)
    assert [(p.done, p.total, p.failed, p.cached) for p in seen] == [(1, 3, 0, 1), (2, 3, 1, 1), (3, 3, 1, 1)]


def test_a_step_is_a_plain_function(site):
    assert toy(jobs_for(site, [1])[0]).quality["level"] == 1.0
    with pytest.raises(CcdError):
        toy(jobs_for(site, [1], {1: "bad"})[0])


def test_a_step_is_pickled_by_name():
    assert pickle.loads(pickle.dumps(toy)) is toy
    assert len(pickle.dumps(toy)) < 200


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (StorageError("disk"), True),
        (OSError("disk"), True),
        (TimeoutError("net"), True),
        (ConnectionResetError("net"), True),
        (httpx.ConnectError("net"), True),
        (BlockingIOError("lock"), True),
        (MemoryError(), False),
        (TaskRunTimeoutError(), False),
        (StuckError(), False),
        (CcdError("bad", reason="bad"), False),
        (NoWorkError("none", reason="none"), False),
        (InputError("bad"), False),
        (ValueError("defect"), False),
    ],
)
def test_retries_by_class_of_error(error, again):
    assert retry_if_worth_it(toy.task, None, Failed(data=error)) is again


def test_a_job_needs_a_subject(site):
    with pytest.raises(ValueError, match="an exposure, a night or a topic"):
        StepJob(site=site)
    assert StepJob(site=site, night=20170818).subject == "night-20170818"
    assert StepJob(site=site, exposure=EXPOSURE, ccd=3).label == "exposure 1300001 CCD 3"
