"""Products that were compressed or removed after their step: they still count as what the step wrote.

A note below ``state/tidied`` says of a file what it was when its step wrote it, and what it is now: another file with
the same pixels, or nothing. Both are known by their content hash, so a file that is neither is not accepted. A note is
written before its file is touched: if the process dies in between, the file is one of the two.

A removed product is computed again when a step that has to run reads it (:func:`bring_back`), and not before.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from blocks.site import Site
from imaging.io.sealed import read_sealed, write_sealed
from tasks.engine.jobs import Failure, FileRecord, Job, Outcome, Record, StepResult

if TYPE_CHECKING:
    from tasks.engine.step import Step


class Tidied(Record):
    """A product before and after it was tidied."""

    original: FileRecord
    """The file that the step wrote."""
    now: FileRecord | None
    """The file in its place, with the same pixels; None if it was removed."""

    def holds(self, site: Site) -> bool:
        """Whether the file is as this note says."""
        if self.now is None:
            return not site.path(self.original.path).exists()
        return self.now.is_intact(site)


def _note(site: Site, name: str) -> Path:
    return site.state / "tidied" / f"{xxhash.xxh3_128_hexdigest(name.encode())}.json"


def write_note(site: Site, original: FileRecord, now: FileRecord | None) -> None:
    """Note what becomes of a product, before it does.

    Raises
    ------
    StorageError
        If the note cannot be written.
    """
    write_sealed(_note(site, original.path), Tidied(original=original, now=now).model_dump_json(), flush=False)


def read_note(site: Site, name: str) -> Tidied | None:
    """Return the note on a file, if it has one of that name; it need not hold."""
    try:
        known = Tidied.model_validate_json(read_sealed(_note(site, name)))
    except (OSError, ValueError):
        return None
    return known if known.original.path == name else None


def all_notes(site: Site) -> Iterator[Tidied]:
    """Yield all notes of a site that can be read; they need not hold."""
    for path in sorted((site.state / "tidied").glob("*.json")):
        with suppress(OSError, ValueError):
            yield Tidied.model_validate_json(read_sealed(path))


def forget(site: Site, name: str) -> None:
    """Remove the note on a file: a product that is missing then counts as missing."""
    _note(site, name).unlink(missing_ok=True)


def original_of(site: Site, path: Path) -> FileRecord | None:
    """Return what a step wrote to a path, if the file was tidied since; None if it was not."""
    known = read_note(site, site.name_of(path))
    return known.original if known is not None and known.holds(site) else None


def expected(site: Site, product: FileRecord) -> FileRecord | None:
    """Return the file that should lie in the place of a product: as written, or as tidied; None if it was removed."""
    known = None if product.is_intact(site) else read_note(site, product.path)
    is_noted = known is not None and known.original.content_hash == product.content_hash
    return known.now if known is not None and is_noted else product


def is_kept(site: Site, product: FileRecord) -> bool:
    """Whether a product is what its step wrote, or was tidied since, even while another run tidies it."""
    if product.is_intact(site):
        return True
    now = expected(site, product)  # the note was written before the file was removed
    return not site.path(product.path).exists() if now is None else now.is_intact(site)


def is_away(site: Site, product: FileRecord) -> bool:
    """Whether a product was removed and counts as present."""
    return not site.path(product.path).exists() and is_kept(site, product)


_producers: dict[Path, "tuple[Step, Job]"] = {}
"""Removed products that a flow of this process met, to the step and job that compute them."""


def note_producer(step: "Step", job: Job, result: StepResult) -> None:
    """Remember how the removed products of a cached result are computed."""
    for name in step.info.intermediate:
        product = result.products.get(name)
        if product is not None and is_away(job.site, product):
            _producers[job.site.path(product.path)] = (step, job)


def bring_back(jobs: Sequence[Job], map_step: "Callable[[Step, Sequence[Job]], list[Outcome]]") -> dict[int, Failure]:
    """Compute the removed inputs of jobs that have to run; return the failures of those that cannot.

    Parameters
    ----------
    jobs
        The jobs.
    map_step
        Runs a step for several jobs.

    Returns
    -------
    failures
        Place in the sequence to failure. The notes of these inputs are removed, so that the stage that writes them does
        so when it is run.
    """
    failures: dict[int, Failure] = {}
    wanted: dict[str, tuple[Step, list[Job]]] = {}
    for place, job in enumerate(jobs):
        for product in job.inputs.values():
            if not is_away(job.site, product):
                continue
            forget(job.site, product.path)
            producer = _producers.pop(job.site.path(product.path), None)
            if producer is None:
                failures[place] = _removed(job, product)
            else:
                step, maker = producer
                wanted.setdefault(step.name, (step, []))[1].append(maker)
    for step, makers in wanted.values():
        map_step(step, makers)
    return failures


def _removed(job: Job, product: FileRecord) -> Failure:
    message = (
        f"{job.label}: an input was removed when the night was tidied: {product.path}. "
        "Run gw-workflow single-epoch for this exposure, which computes it again, then the same command"
    )
    return Failure(reason="removed_input", message=message, kind="input")
