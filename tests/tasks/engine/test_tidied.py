"""Products that were compressed or removed after their step, and what a re-run makes of them."""

import os

import pytest
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from toy_steps import EXPOSURE, ToySettings, calls, toy

from blocks.site import Site
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import FileRecord, Outcome, StepInfo, StepResult
from tasks.engine.step import map_step, step
from tasks.engine.tidied import bring_back, expected, is_away, is_kept, read_note, write_note
from tasks.jobs import StepJob


@pytest.fixture
def site(tmp_path) -> Site:
    return Site.at(tmp_path / "site")


@pytest.fixture
def written(site):
    """Return the path of a product and what its step wrote."""
    path = site.products / "a.fits"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"plain" * 100)
    return path, FileRecord.of(site, path)


def pack(site, path, original, content=b"small"):
    path.write_bytes(content)
    write_note(site, original, FileRecord.of(site, path))


def test_a_compressed_product_counts_as_what_was_written(site, written):
    path, original = written
    pack(site, path, original)
    assert is_kept(site, original)
    assert fingerprint(site, path) == original, "the keys of later steps do not change"
    os.utime(path, (0, 0))
    assert is_kept(site, original), "copied to another disk"
    path.write_bytes(b"SMALL")
    assert not is_kept(site, original), "altered, size kept"
    assert fingerprint(site, path).content_hash != original.content_hash
    path.unlink()
    assert not is_kept(site, original)
    with pytest.raises(OSError, match="No such file"):
        fingerprint(site, path)


def test_a_removed_product_counts_as_present(site, written):
    path, original = written
    write_note(site, original, None)
    assert is_kept(site, original), "the process died before it removed the file"
    assert expected(site, original) == original
    path.unlink()
    assert is_kept(site, original)
    assert is_away(site, original)
    assert fingerprint(site, path) == original
    path.write_bytes(b"another")
    assert not is_kept(site, original), "a step has written something else since"
    assert fingerprint(site, path).content_hash != original.content_hash


def test_a_product_that_another_run_removes_between_two_looks_is_kept(site, written, monkeypatch):
    path, original = written
    look = FileRecord.is_intact

    def removed_after(product, where):
        found = look(product, where)
        if path.exists():
            write_note(site, original, None)
            path.unlink()
        return found

    monkeypatch.setattr(FileRecord, "is_intact", removed_after)
    assert is_kept(site, original)


def test_a_note_is_believed_for_the_content_that_it_names_alone(site, written):
    path, original = written
    pack(site, path, original)
    other = original.model_copy(update={"content_hash": "0" * 32})
    assert not is_kept(site, other)
    (note,) = (site.state / "tidied").iterdir()
    note.write_bytes(note.read_bytes().replace(b"a.fits", b"b.fits"))
    assert read_note(site, original.path) is None
    assert not is_kept(site, original)


READ = StepInfo("read", "toys", "ccd", 0.01, {"copy": "copy.txt"})


@step(READ)
def read(job: StepJob) -> StepResult:
    """Copy the input."""
    path = job.product_paths(READ)["copy"]
    path.write_text(job.input_path("text").read_text() + str(job.parameters))
    return job.result({"copy": path})


@flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
def chain(jobs: list[StepJob], readers: list[StepJob]) -> list[Outcome]:
    return [*map_step(toy, jobs), *map_step(read, readers)]


def test_a_removed_input_is_computed_when_a_step_has_to_run_and_not_before(site, prefect_server):
    jobs = [StepJob(exposure=EXPOSURE, ccd=ccd, site=site, settings=ToySettings()) for ccd in (1, 2)]
    first = chain(jobs, [])
    texts = {job.ccd: outcome.result.products["text"] for job, outcome in zip(jobs, first, strict=True)}

    def readers(**parameters):
        return [job.model_copy(update={"inputs": {"text": texts[job.ccd]}, "parameters": parameters}) for job in jobs]

    chain(jobs, readers())
    for text in texts.values():
        write_note(site, text, None)
        site.path(text.path).unlink()
    assert all(outcome.cached for outcome in chain(jobs, readers()))
    assert sorted(calls(site)) == [1, 2]
    again = chain(jobs, readers(more=1))
    assert [outcome.cached for outcome in again] == [True, True, False, False]
    assert all(outcome.failure is None for outcome in again)
    assert sorted(calls(site)) == [1, 1, 2, 2]
    assert all(text.is_intact(site) for text in texts.values())


def test_an_input_that_nothing_here_writes_is_refused_by_name_and_computed_by_the_next_run(site, written):
    path, original = written
    write_note(site, original, None)
    path.unlink()
    job = StepJob(exposure=EXPOSURE, ccd=3, site=site, inputs={"text": original})
    failures = bring_back([job], map_step)
    assert set(failures) == {0}
    assert failures[0].reason == "removed_input"
    assert "a.fits" in failures[0].message
    assert "single-epoch" in failures[0].message
    assert not is_kept(site, original)
