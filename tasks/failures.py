"""What failed last, kept below the site's state folder so that the status can be told without a server.

A step that succeeds, or has nothing to do, removes the note of its failure.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from blocks.site import Site
from imaging.detector.ccds import format_ccd_list
from imaging.io.atomic import write_text
from tasks.records import Failure, Outcome, StepJob


class NotedFailure(BaseModel):
    """A failure and where it happened."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    step: str
    ccd: int | None
    failure: Failure


def note_outcome(step: str, outcome: Outcome) -> None:
    """Note the failure of a job, or that it has failed no more.

    Raises
    ------
    StorageError
        If the note cannot be written.
    """
    note_failure(step, outcome.job, outcome.failure)


def note_failure(step: str, job: StepJob, failure: Failure | None) -> None:
    """Note that a step has failed for a job, or was not even begun; without a failure forget what was noted.

    Raises
    ------
    StorageError
        If the note cannot be written.
    """
    part = f"-{job.part}" if job.part else "" if job.ccd is None else f"-ccd{job.ccd:02d}"
    path = _folder(job.site) / job.subject / f"{step}{part}.json"
    if failure is None or failure.kind == "no_work":
        path.unlink(missing_ok=True)
        return
    note = NotedFailure(subject=job.subject, step=step, ccd=job.ccd, failure=failure)
    write_text(path, note.model_dump_json(indent=1) + "\n")


def noted_failures(site: Site, subject: str) -> list[NotedFailure]:
    """Return what failed last for a subject, by step and CCD."""
    notes = []
    for path in sorted((_folder(site) / subject).glob("*.json")):
        try:
            notes.append(NotedFailure.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError):
            continue
    return notes


def describe_failures(failures: Mapping[Any, Failure]) -> str:
    """Name what failed by reason: ``too_few_stars 7,31; lost 12``."""
    by_reason: dict[str, list[Any]] = {}
    for key, failure in failures.items():
        by_reason.setdefault(failure.reason, []).append(key)
    texts = []
    for reason, keys in sorted(by_reason.items()):
        numbers = all(isinstance(key, int) for key in keys)
        texts.append(f"{reason} {format_ccd_list(keys) if numbers else ', '.join(map(str, keys))}")
    return "; ".join(texts)


def _folder(site: Site) -> Path:
    return site.state / "failures"
