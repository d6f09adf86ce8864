"""The bench of a real exposure: what its rows are made of."""

import threading

import numpy as np
import pytest

from bench.exposure import ALL, bytes_below, packing_rows, peak_of, rows_of
from bench.orchestration import Cost
from blocks.site import Site
from imaging.identity import ExposureId
from imaging.io.images import write_planes
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
            for number, (step, seconds) in enumerate((("measure", 3.0), ("calibrate", 1.0 + ccd))):
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
    assert rows["  stage calibration"].value == pytest.approx(10.0)
    assert rows["orchestration, share of all CPU"].value == pytest.approx(100 * 2 / 24)
    assert not rows["orchestration, share of all CPU"].ok
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


def test_the_cost_of_compression_is_that_beyond_plain_files(site, monkeypatch):
    folder = site.products / ExposureId(SEARCH, "i", 20240510).folder
    plane = np.ones((32, 32), np.float32)
    for name, planes in (("immask", ALL), ("dp60/i_01/x_diff", ALL), ("dp60/i_01/x_template", ("FLX",))):
        path = folder / f"{name}.fits" if "/" in name else folder / f"x_{name}.fits"
        write_planes(path, {p: plane.astype(np.int16) if p == "MSK" else plane for p in planes}, {}, pack=True)
    monkeypatch.setattr("bench.exposure.extra_cpu_s", lambda _path, planes, n_reads: len(planes) * 0.1 * (1 + n_reads))
    own = (2 + 3) * 0.1 * 2  # detrended and measured image, written and read
    final, searched = 0.3, 2 * 0.3 + 2 * 0.1
    rows = packing_rows(site, SEARCH, 2, 20.0)
    one = own + final + 3 * final + searched
    assert rows[0].value == pytest.approx(one)
    everything = one + 2 * (own + final)
    assert rows[1].value == pytest.approx(100 * everything / (20.0 - everything))
