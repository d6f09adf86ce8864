"""What goes into a step and what comes out of it: small frozen records, never pixels.

A step states of itself what others need to know (:class:`StepInfo`); what it is done for is a :class:`Job`, of which a
project makes its own subclass; how it ends is an :class:`Outcome`.
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
    """How a command ends."""

    COMPLETE = 0
    BAD_INPUT = 1
    MISSING = 2
    """It finished, but CCDs are missing."""
    FAILED = 3


@dataclass(frozen=True, slots=True)
class StepInfo:
    """What a step states of itself; every list of steps is derived from these.

    Attributes
    ----------
    name
        A verb; the name in task runs, records and failures.
    stage
        The stage that it belongs to.
    mapped_over
        What it is done for each of, such as ``ccd``, ``exposure`` or ``night``.
    cpu_s
        Nominal CPU seconds of one job on one core.
    products
        Name of each product to the suffix of its file; they are part of the cache key. Products whose names depend on
        the job are left out.
    intermediate
        Names of the products that only the next steps read; housekeeping may remove them.
    runs_in_flow
        Whether it runs in the process of the flow rather than on a worker.
    """

    name: str
    stage: str
    mapped_over: str
    cpu_s: float
    products: Mapping[str, str] = field(default_factory=dict)
    intermediate: tuple[str, ...] = ()
    runs_in_flow: bool = False


class Record(BaseModel):
    """A frozen record; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FileRecord(Record):
    """A file as it was when a step read or wrote it."""

    path: str
    """Name relative to the site's folders, such as ``products/gw/exp/...``."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Time of the last change, nanoseconds since 1970."""
    content_hash: str
    """128-bit XXH3 hash of the content."""

    @classmethod
    def of(cls, site: Site, path: Path, *, known_hash: str | None = None) -> Self:
        """Describe a file.

        Parameters
        ----------
        site
            Site whose folders the name is relative to.
        path
            The file.
        known_hash
            Hash of the content, where a manifest or an earlier record states it; None to compute it.

        Raises
        ------
        OSError
            If the file does not exist.
        """
        status = Path(path).stat()
        digest = known_hash or content_hash(path)
        return cls(path=site.name_of(path), size=status.st_size, mtime_ns=status.st_mtime_ns, content_hash=digest)

    def is_intact(self, site: Site) -> bool:
        """Whether the file is still what the record says: same size and time, or else the same content."""
        path = site.path(self.path)
        try:
            status = path.stat()
            if status.st_size != self.size:
                return False
            return status.st_mtime_ns == self.mtime_ns or content_hash(path) == self.content_hash
        except OSError:
            return False


class Job(Record):
    """One step to be done for one thing; a subclass says what that may be."""

    site: Site
    """Where the files are."""
    inputs: dict[str, FileRecord] = {}
    """Input files by a name that the step knows."""
    settings: SerializeAsAny[Settings] | None = None
    """The settings that steer the step, and no others: they are part of its cache key."""
    parameters: dict[str, Any] = {}
    """Further small values that steer the step; they must be JSON."""

    @property
    @abstractmethod
    def subject(self) -> str:
        """What the job is about, as in the name of a folder."""

    @property
    @abstractmethod
    def unit(self) -> int | None:
        """Number of the one that is meant among those of the subject; None for all of it."""

    @property
    @abstractmethod
    def unit_name(self) -> str:
        """The unit as in file names; empty for all of the subject."""

    @abstractmethod
    def at_unit(self, unit: int) -> Self:
        """Return the same job for one unit of the subject."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Subject and unit in words; used in messages."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """All that tells the job from others of its step, as JSON for the cache key."""

    @property
    @abstractmethod
    def place(self) -> dict[str, Any]:
        """Subject and unit as arguments of :meth:`imaging.errors.GWWorkflowError.located`."""

    @property
    def name(self) -> str:
        """Subject and unit; used in the names of task runs."""
        return f"{self.subject}-{self.unit_name}" if self.unit_name else self.subject

    def settings_as(self, kind: type[StageSettings]) -> StageSettings:
        """Return the settings, which must be of this kind.

        Raises
        ------
        TypeError
            If the job was made with other settings: a defect of the flow.
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
            raise InputError("a step lacks an input", **self.place, value=name, limit=", ".join(self.inputs)) from None

    def result(
        self,
        products: Mapping[str, Path] | None = None,
        *,
        quality: Mapping[str, Any] | None = None,
        cpu_s: Mapping[str, float] | None = None,
        notes: tuple[str, ...] = (),
    ) -> "StepResult":
        """Return what the step has done, its products hashed.

        Parameters
        ----------
        products
            Files that the step has written, by a name that the next steps know.
        quality
            Numbers that describe the outcome; NumPy scalars become plain ones, NaN and infinities None.
        cpu_s
            CPU seconds by part of the step.
        notes
            Sentences for the person who looks at the run.
        """
        return StepResult(
            products={name: FileRecord.of(self.site, path) for name, path in (products or {}).items()},
            quality=plain_quality(quality or {}),
            cpu_s=dict(cpu_s or {}),
            notes=notes,
        )


class StepResult(Record):
    """What a step has done."""

    step: str = ""
    """Name of the step; filled in by the engine."""
    products: dict[str, FileRecord] = {}
    """Files written, by name."""
    quality: dict[str, QualityValue] = {}
    """Numbers that describe the outcome, with their units in their names."""
    cpu_s: dict[str, float] = {}
    """CPU seconds by part of the step."""
    total_cpu_s: float = 0.0
    """CPU seconds of the whole step; filled in by the engine."""
    wall_s: float = 0.0
    """Wall-clock seconds of the whole step; filled in by the engine."""
    peak_memory_mb: float = 0.0
    """Largest resident memory while the step ran; filled in by the engine."""
    notes: tuple[str, ...] = ()
    """Sentences for the person who looks at the run."""
    nothing_to_do: str | None = None
    """Why there was, normally, nothing to do; None if there was."""


class Failure(Record):
    """Why a job has no result."""

    reason: str
    """A short name for tables and counts, such as ``too_few_stars``."""
    message: str
    """One sentence: where, what, value, limit, remedy."""
    kind: FailureKind
    """``ccd``: this unit cannot be processed; ``no_work``: there was nothing to do; ``input``: bad
    input; ``storage``: the disk failed; ``memory``: there was not enough of it; ``lost``: the worker died; ``defect``:
    the code failed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: with a result or with a failure.

    Attributes
    ----------
    job
        The job.
    result
        What was done; None if it failed or there was nothing to do.
    failure
        Why there is no result; None if there is one.
    cached
        Whether the result was known from an earlier run.
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
        """Return the same outcome, its failure (if it is one) told with a circumstance."""
        if self.failure is None:
            return self
        message = f"{self.failure.message} ({circumstance})"
        return replace(self, failure=self.failure.model_copy(update={"message": message}))


def plain_quality(quality: Mapping[str, Any]) -> dict[str, QualityValue]:
    """Return quality numbers as JSON can hold them: NumPy scalars become plain, NaN and infinities None."""
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in quality.items()}
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in plain.items()}
