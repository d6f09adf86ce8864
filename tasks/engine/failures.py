"""The last failure of every job, kept in files below the site's state folder, so that ``status`` needs no server.

The file of a failure is deleted when its step succeeds or has nothing to do.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from blocks.site import Site
from imaging.io.atomic import write_text
from tasks.engine.jobs import Failure, Job


class NotedFailure(BaseModel):
    """A failure with its step and unit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    step: str
    unit: int | None = Field(validation_alias=AliasChoices("unit", "ccd"))
    """Number of the job's unit; sites of version 0.1 call it ``ccd``."""
    failure: Failure


def note_failure(step: str, job: Job, failure: Failure | None) -> None:
    """Write the failure of a job; without a failure delete the earlier one.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    path = _folder(job.site) / job.subject / f"{step}{'-' if job.unit_name else ''}{job.unit_name}.json"
    if failure is None or failure.kind == "no_work":
        path.unlink(missing_ok=True)
        return
    note = NotedFailure(subject=job.subject, step=step, unit=job.unit, failure=failure)
    write_text(path, note.model_dump_json(indent=1) + "\n")


def noted_failures(site: Site, subject: str) -> list[NotedFailure]:
    """Return the last failures of a subject, in order of step and unit."""
    notes = []
    for path in sorted((_folder(site) / subject).glob("*.json")):
        try:
            notes.append(NotedFailure.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError):
            continue
    return notes


def describe_failures(failures: Mapping[Any, Failure]) -> str:
    """Return a summary of failures by reason, such as ``too_few_stars 7,31; lost 12``."""
    by_reason: dict[str, list[Any]] = {}
    for key, failure in failures.items():
        by_reason.setdefault(failure.reason, []).append(key)
    texts = []
    for reason, keys in sorted(by_reason.items()):
        numbers = all(isinstance(key, int) for key in keys)
        texts.append(f"{reason} {number_ranges(keys) if numbers else ', '.join(map(str, keys))}")
    return "; ".join(texts)


def _folder(site: Site) -> Path:
    return site.state / "failures"


def number_ranges(numbers: Iterable[int]) -> str:
    """Return sorted numbers as text such as ``1,3-5,25``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
