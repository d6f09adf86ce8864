"""Inputs and outputs of steps: small frozen records, never pixels.

:class:`StepInfo` describes a step; a :class:`Job`, which the project subclasses, holds its arguments; a
:class:`StepResult` or a :class:`Failure` is its :class:`Outcome`.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, SerializeAsAny

from blocks.site import Site
from imaging.errors import InputError
from imaging.io.atomic import content_hash
from imaging.settings import Settings

QualityValue = float | int | str | None
FailureKind = Literal["ccd", "no_work", "input", "storage", "memory", "lost", "defect"]
StageSettings = TypeVar("StageSettings", bound=Settings)


class ExitCode(IntEnum):
    """Exit codes of the commands."""

    COMPLETE = 0
    BAD_INPUT = 1
    MISSING = 2
    """Completed, but some CCDs failed."""
    FAILED = 3


@dataclass(frozen=True, slots=True)
class StepInfo:
    """Static properties of a step; every list of steps is derived from these.

    Attributes
    ----------
    name
        Name in task runs, records and failures.
    stage
        Stage of the pipeline.
    mapped_over
        What the step is mapped over, such as ``ccd``, ``exposure`` or ``night``.
    cpu_s
        Nominal CPU seconds of one job on one core.
    products
        Name of each product to its file suffix; part of the cache key. Products whose names depend on the job are not
        included.
    intermediate
        Names of products that only the next steps read; housekeeping may delete them.
    runs_in_flow
        Whether the step runs in the flow's process instead of on a worker.
    """

    name: str
    stage: str
    mapped_over: str
    cpu_s: float
    products: Mapping[str, str] = field(default_factory=dict)
    intermediate: tuple[str, ...] = ()
    runs_in_flow: bool = False


class Record(BaseModel):
    """A frozen pydantic model that rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FileRecord(Record):
    """A file as it was when a step read or wrote it."""

    path: str
    """Name relative to the site's folders, such as ``products/gw/exp/...``."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time, nanoseconds since 1970."""
    content_hash: str
    """128-bit XXH3 hash of the content."""

    @classmethod
    def of(cls, site: Site, path: Path, *, known_hash: str | None = None) -> Self:
        """Describe a file.

        Parameters
        ----------
        site
            Site to whose folders the recorded path is relative.
        path
            The file.
        known_hash
            Content hash from a manifest or an earlier record; None to compute it.

        Raises
        ------
        OSError
            If the file does not exist.
        """
        status = Path(path).stat()
        digest = known_hash or content_hash(path)
        return cls(path=site.name_of(path), size=status.st_size, mtime_ns=status.st_mtime_ns, content_hash=digest)

    def is_intact(self, site: Site) -> bool:
        """Whether the file is unchanged: same size and modification time, or the same content hash."""
        path = site.path(self.path)
        try:
            status = path.stat()
            if status.st_size != self.size:
                return False
            return status.st_mtime_ns == self.mtime_ns or content_hash(path) == self.content_hash
        except OSError:
            return False


class Job(Record):
    """The arguments of one run of a step; subclasses define subject and unit."""

    site: Site
    """Folders of the input files and products."""
    inputs: dict[str, FileRecord] = {}
    """Input files by name."""
    settings: SerializeAsAny[Settings] | None = None
    """Settings that the step uses, and no others: they are part of its cache key."""
    parameters: dict[str, Any] = {}
    """Other small JSON values that the step uses; part of its cache key."""

    @property
    @abstractmethod
    def subject(self) -> str:
        """Subject of the job, usable as a folder name."""

    @property
    @abstractmethod
    def unit(self) -> int | None:
        """Number of the unit within the subject, such as a CCD; None for the whole subject."""

    @property
    @abstractmethod
    def unit_name(self) -> str:
        """The unit as used in file names; empty for the whole subject."""

    @abstractmethod
    def at_unit(self, unit: int) -> Self:
        """Return a copy of the job for one unit of the subject."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Subject and unit for messages."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """JSON values that identify the job among those of its step, for the cache key."""

    @property
    @abstractmethod
    def place(self) -> dict[str, Any]:
        """Subject and unit as arguments of :meth:`imaging.errors.GWWorkflowError.located`."""

    @property
    def name(self) -> str:
        """Subject and unit for the names of task runs."""
        return f"{self.subject}-{self.unit_name}" if self.unit_name else self.subject

    def settings_as(self, kind: type[StageSettings]) -> StageSettings:
        """Return the settings, checked to be of this class.

        Raises
        ------
        TypeError
            If the job has settings of another class, a programming error of the planner.
        """
        if not isinstance(self.settings, kind):
            raise TypeError(f"{self.label}: settings are {type(self.settings).__name__}, not {kind.__name__}")
        return self.settings

    def input_path(self, name: str) -> Path:
        """Return the path of an input file.

        Raises
        ------
        InputError
            If the job has no such input.
        """
        try:
            return self.site.path(self.inputs[name].path)
        except KeyError:
            raise InputError("step has no such input", **self.place, value=name, limit=", ".join(self.inputs)) from None

    def result(
        self,
        products: Mapping[str, Path] | None = None,
        *,
        quality: Mapping[str, Any] | None = None,
        cpu_s: Mapping[str, float] | None = None,
        notes: tuple[str, ...] = (),
    ) -> "StepResult":
        """Return the result of the step, with its products hashed.

        Parameters
        ----------
        products
            Files written by the step, by name.
        quality
            Quality numbers; NumPy scalars become Python numbers, NaN and infinities None.
        cpu_s
            CPU seconds by part of the step.
        notes
            Sentences shown on the page of the run.
        """
        return StepResult(
            products={name: FileRecord.of(self.site, path) for name, path in (products or {}).items()},
            quality=plain_quality(quality or {}),
            cpu_s=dict(cpu_s or {}),
            notes=notes,
        )


class StepResult(Record):
    """Result of a step."""

    step: str = ""
    """Name of the step; filled in by the engine."""
    products: dict[str, FileRecord] = {}
    """Files written, by name."""
    quality: dict[str, QualityValue] = {}
    """Quality numbers, with units in their names."""
    cpu_s: dict[str, float] = {}
    """CPU seconds by part of the step."""
    total_cpu_s: float = 0.0
    """CPU seconds of the whole step; filled in by the engine."""
    wall_s: float = 0.0
    """Wall-clock seconds of the whole step; filled in by the engine."""
    peak_memory_mb: float = 0.0
    """Peak resident memory while the step ran, MiB; filled in by the engine."""
    notes: tuple[str, ...] = ()
    """Sentences shown on the page of the run."""
    nothing_to_do: str | None = None
    """Reason why the step had nothing to do, which is no failure; None if it did its work."""


class Failure(Record):
    """Why a job has no result."""

    reason: str
    """Short identifier for tables and counts, such as ``too_few_stars``."""
    message: str
    """One sentence: place, problem, value, limit, remedy."""
    kind: FailureKind
    """``ccd``: this unit cannot be processed; ``no_work``: nothing to do; ``input``: bad input; ``storage``: disk or
    network error; ``memory``: out of memory; ``lost``: worker or task lost; ``defect``: bug in the code."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a job: a result or a failure.

    Attributes
    ----------
    job
        The job.
    result
        The result; None if the job failed or had nothing to do.
    failure
        The failure, of kind ``no_work`` if there was nothing to do; None if there is a result.
    cached
        Whether the result comes from the cache.
    """

    job: Job
    result: StepResult | None = None
    failure: Failure | None = None
    cached: bool = False

    @property
    def unit(self) -> int | None:
        """Number of the job's unit."""
        return self.job.unit

    def amended(self, circumstance: str) -> "Outcome":
        """Return the outcome with a circumstance appended to the message of its failure, if any."""
        if self.failure is None:
            return self
        message = f"{self.failure.message} ({circumstance})"
        return replace(self, failure=self.failure.model_copy(update={"message": message}))


def plain_quality(quality: Mapping[str, Any]) -> dict[str, QualityValue]:
    """Return quality numbers as JSON values: NumPy scalars become Python numbers, NaN and infinities None."""
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in quality.items()}
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in plain.items()}
