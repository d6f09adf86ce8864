"""Listing, checking and pruning the step records."""

import json
import os
from dataclasses import replace

import pytest
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultRecord, ResultStore
from prefect.serializers import JSONSerializer

from blocks.site import Site
from deployments.cli import main
from imaging.identity import ExposureId
from imaging.io.atomic import content_hash
from imaging.io.tables import read_table
from tasks.engine.cache import fingerprint, parse_record_name, record_name
from tasks.jobs import StepJob, ccd_of

EXPOSURE = ExposureId(1300001, "i", 20170818, rnum=4, pnum=5)


def record(site: Site, ccd: int, digest: str, pnum: int = 5, cost: dict | None = None) -> StepJob:
    """Leave a product and its record, as Prefect writes it."""
    job = StepJob(exposure=replace(EXPOSURE, pnum=pnum), ccd=ccd, site=site)
    product = job.product_path("detrend.fits")
    product.parent.mkdir(parents=True, exist_ok=True)
    product.write_text("pixels")
    result = job.result({"image": product}).model_copy(update={"step": "detrend"} | (cost or {}))
    store = ResultStore(result_storage=LocalFileSystem(basepath=str(site.records)), serializer=JSONSerializer())
    kept: ResultRecord = store.create_result_record(result, key="x")
    path = site.records / job.subject / record_name("detrend", job.unit_name, digest * 32)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(kept.serialize())
    return job


@pytest.fixture
def cache(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    def do(*words):
        code = main.run(["cache", *words, "--root", str(tmp_path), "--json"])
        return int(code), json.loads(capsys.readouterr().out)

    return do


@pytest.fixture
def site(tmp_path) -> Site:
    site = Site.at(tmp_path)
    for ccd in (1, 2, 3):
        record(site, ccd, "a")
    return site


def test_records_are_listed(site, cache):
    code, document = cache("list")
    assert code == 0
    assert document["records"] == [{"subject": "1300001", "step": "detrend", "records": 3, "size_mb": 0.0}]


def test_good_records_are_good(site, cache):
    assert cache("verify", "--deep") == (
        0,
        {"command": "cache verify", "n_records": 3, "damaged": [], "exit_code": 0},
    )


def test_damage_is_found(site, cache, tmp_path):
    folder = site.products / EXPOSURE.folder
    (folder / "D01300001_i_01_r4p5_detrend.fits").unlink()
    (folder / "D01300001_i_02_r4p5_detrend.fits").write_text("others")
    code, document = cache("verify")
    assert code == 2
    assert [(d["ccd"], d["damage"].partition(":")[0]) for d in document["damaged"]] == [
        (1, "product missing"),
        (2, "product altered"),
    ]


def test_the_record_of_what_is_there_is_kept_whatever_the_clock_said(site, cache):
    (former,) = (path for path in (site.records / "1300001").iterdir() if "ccd01" in path.name)
    product = site.products / EXPOSURE.folder / "D01300001_i_01_r4p5_detrend.fits"
    record(site, 1, "b")  # computed again, with another content, after the clock was set back
    (current,) = (path for path in (site.records / "1300001").iterdir() if "ccd01" in path.name and path != former)
    text = former.read_text().replace(content_hash(product), "0" * 32)
    former.write_text(text.replace(str(product.stat().st_mtime_ns), "1"))
    os.utime(former, (4e9, 4e9))
    assert cache("prune")[1]["removed"] == {"damaged": 0, "replaced": 1, "errors": 0, "forgotten": 0}
    assert current.exists()
    assert not former.exists()


def test_what_serves_nothing_is_pruned(site, cache):
    record(site, 1, "b")
    record(site, 3, "c", pnum=6)  # another version, with products of its own
    (site.products / EXPOSURE.folder / "D01300001_i_02_r4p5_detrend.fits").unlink()
    (site.records / "0123456789abcdef0123456789abcdef").write_text("an error that Prefect has kept")
    raw = site.raw / "a.fits"
    raw.parent.mkdir()
    raw.write_text("raw")
    os.utime(raw, (1, 1))
    fingerprint(site, raw)
    raw.unlink()
    (site.state / "stuck").mkdir()
    (site.state / "stuck" / "a-killed-run.txt").touch()
    assert cache("prune")[1]["removed"] == {"damaged": 1, "replaced": 1, "errors": 1, "forgotten": 2}
    left = sorted(path.name for path in (site.records / "1300001").iterdir())
    assert left == [
        record_name("detrend", f"ccd{ccd:02d}", digest * 32) for ccd, digest in ((1, "b"), (3, "a"), (3, "c"))
    ]
    assert cache("prune")[1]["removed"] == {"damaged": 0, "replaced": 0, "errors": 0, "forgotten": 0}


@pytest.mark.parametrize(
    ("step", "unit", "ccd"), [("fit_sky", "", None), ("detrend", "ccd07", 7), ("odd_name", "ccd62", 62)]
)
def test_names_can_be_read_back(step, unit, ccd):
    assert parse_record_name(record_name(step, unit, "0" * 32)) == (step, unit)
    assert ccd_of(unit) == ccd
    assert parse_record_name("something.json") is None


def test_what_every_step_has_cost_is_a_table(site, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    record(site, 4, "d", cost={"total_cpu_s": 2.5, "wall_s": 3.0, "peak_memory_mb": 800.0, "cpu_s": {"overscan": 0.5}})
    target = tmp_path / "timings.parquet"
    assert main.run(["timings", "--root", str(tmp_path), "--to", str(target), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["steps"] == [{"step": "detrend", "n": 4, "cpu_s": 2.5, "longest_s": 3.0, "peak_memory_mb": 800.0}]
    table = read_table(target)
    assert table.num_rows == document["n_rows"] == 4
    last = table.to_pylist()[-1]
    assert (last["subject"], last["ccd"], last["product_bytes"]) == ("1300001", 4, len("pixels"))
    assert last["parts_cpu_s"] == [("overscan", 0.5)]
    assert 60000 < last["finished_mjd"] < 80000
