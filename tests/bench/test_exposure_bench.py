"""The bench of a real exposure: what its rows are made of."""

import threading

import pytest

from bench.exposure import bytes_below, peak_of, rows_of
from bench.orchestration import Cost
from blocks.site import Site
from imaging.identity import ExposureId
from tasks.engine.cache import record_name
from tasks.engine.jobs import StepResult
from tasks.engine.records import record_bytes

SEARCH, TEMPLATE = 1300001, 1270601


@pytest.fixture
def site(tmp_path) -> Site:
    """Return a site with the records of two steps of two CCDs, and a product of each exposure."""
    site = Site.at(tmp_path)
    for expnum, size in ((SEARCH, 3_000_000), (TEMPLATE, 1_000_000)):
        folder = site.products / ExposureId(expnum, "i", 20240510).folder
        folder.mkdir(parents=True)
        (folder / "x.fits").write_bytes(b"x" * size)
        for ccd in (1, 2):
            for number, (step, seconds) in enumerate((("measure", 3.0), ("tidy", 1.0 + ccd))):
                path = site.records / str(expnum) / record_name(step, f"ccd{ccd:02d}", f"{number:032x}")
                path.parent.mkdir(parents=True, exist_ok=True)
                result = StepResult(step=step, total_cpu_s=seconds, peak_memory_mb=100.0 * ccd)
                path.write_bytes(record_bytes(result, "key"))
    return site


def test_the_rows_add_up(site):
    cost = Cost(flow_cpu_s=20.0, server_cpu_s=4.0, wall_s=60.0)
    rows = {row.name: row for row in rows_of(site, cost, 9_000_000, SEARCH, [TEMPLATE], 2)}
    assert rows["CPU of all processes"].value == 24.0
    assert rows["  stage single_epoch"].value == pytest.approx(12.0)
    assert rows["  stage tidy"].value == pytest.approx(10.0)
    assert rows["orchestration, share of all CPU"].value == pytest.approx(100 * 2 / 24)
    assert not rows["orchestration, share of all CPU"].ok
    assert rows["compression of a CCD with its difference, largest"].value == pytest.approx(3.0)
    assert rows["peak memory of a step"].value == 200.0
    assert rows["kept of the search exposure"].value == pytest.approx(0.003)
    assert rows["kept of the search exposure"].limit == pytest.approx(2.2 * 2 / 61)
    assert rows["peak beyond what is kept"].value == pytest.approx(0.005)
    assert rows["the same, scaled to exposures of 61 CCDs"].value == pytest.approx(0.005 * 61 / 2)


def test_a_file_that_comes_and_goes_is_in_the_peak(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.exposure.LOOK_S", 0.01)
    seen = threading.Event()

    def look(folder):
        size = bytes_below(folder)
        if size:
            seen.set()
        return size

    monkeypatch.setattr("bench.exposure.bytes_below", look)
    with peak_of(tmp_path) as peak:
        (tmp_path / "a").write_bytes(b"x" * 500)
        assert seen.wait(60.0)
        (tmp_path / "a").unlink()
    assert peak[0] == 500
