"""The bench of single-epoch processing keeps results, and reuses them only with the same code."""

import pytest

from bench import single_epoch
from bench.report import at_most
from imaging.simulation.star_fields import MoffatPsf, draw_field


class Part:
    """A bench that counts how often it runs, and may fail."""

    def __init__(self, value):
        self.value, self.runs, self.fails = value, 0, False

    def __call__(self, quick):
        self.runs += 1
        if self.fails:
            raise RuntimeError("interrupted")
        return [at_most("rms", self.value, "mas", 10.0, n=3, seeds=(1, 2))]


def here(run, quick):
    """Run a part in this process."""
    return run(quick)


@pytest.fixture
def parts():
    return {"chain": Part(3.4), "measure": Part(12.0)}


def test_an_interrupted_run_continues_where_it_stopped(tmp_path, parts):
    parts["measure"].fails = True
    with pytest.raises(RuntimeError, match="interrupted"):
        single_epoch.measure_all(False, tmp_path / "kept", parts, start=here)
    parts["measure"].fails = False
    rows = single_epoch.measure_all(False, tmp_path / "kept", parts, start=here)
    assert [(row.name, row.ok, row.seeds) for row in rows] == [
        ("chain: rms", True, (1, 2)),
        ("measure: rms", False, (1, 2)),
    ]
    assert (parts["chain"].runs, parts["measure"].runs) == (1, 2)
    assert single_epoch.measure_all(False, tmp_path / "kept", parts, start=here) == rows
    assert (parts["chain"].runs, parts["measure"].runs) == (1, 2)


def test_figures_of_other_code_and_of_the_quick_run_are_measured_again(tmp_path, parts, monkeypatch):
    single_epoch.measure_all(False, tmp_path, parts, start=here)
    single_epoch.measure_all(True, tmp_path, parts, start=here)
    assert parts["chain"].runs == 2
    monkeypatch.setattr(single_epoch, "code_hash", lambda: "another")
    single_epoch.measure_all(True, tmp_path, parts, start=here)
    assert parts["chain"].runs == 3


def test_without_a_folder_nothing_is_kept(tmp_path, parts, monkeypatch):
    monkeypatch.chdir(tmp_path)
    single_epoch.measure_all(False, None, parts, start=here)
    assert not list(tmp_path.iterdir())


def test_the_hash_is_that_of_the_sources(monkeypatch, tmp_path):
    (tmp_path / "bench").mkdir()
    (tmp_path / "imaging").mkdir()
    monkeypatch.setattr(single_epoch, "__file__", str(tmp_path / "bench" / "single_epoch.py"))
    empty = single_epoch.code_hash()
    (tmp_path / "imaging" / "new.py").write_text("x = 1\n")
    assert single_epoch.code_hash() not in (empty, "")
    (tmp_path / "imaging" / "notes.txt").write_text("no code")
    first = single_epoch.code_hash()
    assert single_epoch.code_hash() == first


def test_the_field_of_the_clean_ccds_is_full_size_and_reproducible():
    one, two = (draw_field(3, psf=MoffatPsf(shape=(256, 128)), n_stars=5, n_galaxies=5) for _ in range(2))
    assert (one.image.science == two.image.science).all()
    assert MoffatPsf().shape == (4096, 2048)
