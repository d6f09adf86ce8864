"""What goes into a step and what comes out of it: small frozen records, never pixels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, SerializeAsAny, model_validator

from blocks.site import Site
from imaging.errors import InputError
from imaging.identity import ExposureId
from imaging.io.atomic import content_hash
from imaging.settings import Settings
from imaging.timing import StepTimes

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


class StepJob(Record):
    """One step to be done for one CCD, one exposure or one night."""

    exposure: ExposureId | None = None
    """The exposure; None for a step that sees a whole night."""
    night: int | None = None
    """The night, YYYYMMDD; that of the exposure where there is one."""
    topic: str | None = None
    """What the step is about if neither exposure nor night, such as ``catalogue-gaia``; used in file names."""
    part: str | None = None
    """Part of the topic, such as an input file."""
    ccd: int | None = None
    """CCD number; None for a step that sees a whole exposure."""
    season: int | None = None
    """Season under which products of the difference are filed; None for those of the single epoch."""
    site: Site
    """Where the files are."""
    inputs: dict[str, FileRecord] = {}
    """Input files by a name that the step knows."""
    settings: SerializeAsAny[Settings] | None = None
    """The settings that steer the step, and no others: they are part of its cache key."""
    parameters: dict[str, Any] = {}
    """Further small values that steer the step; they must be JSON."""

    @model_validator(mode="after")
    def _has_a_subject(self) -> Self:
        if self.exposure is None and self.night is None and self.topic is None:
            raise ValueError("a job needs an exposure, a night or a topic")
        return self

    @property
    def subject(self) -> str:
        """The exposure number, ``night-YYYYMMDD``, or the topic; used in file names."""
        if self.exposure is not None:
            return str(self.exposure.expnum)
        return self.topic or f"night-{self.night}"

    @property
    def name(self) -> str:
        """Subject and CCD, such as ``1300001-ccd07``; used in the names of task runs."""
        if self.part is not None:
            return f"{self.subject}-{self.part}"
        return self.subject if self.ccd is None else f"{self.subject}-ccd{self.ccd:02d}"

    @property
    def label(self) -> str:
        """Subject and CCD in words, such as ``exposure 1300001 CCD 7``; used in messages."""
        if self.topic is not None:
            return f"{self.topic} {self.part}" if self.part else self.topic
        text = f"night {self.night}" if self.exposure is None else f"exposure {self.exposure.expnum}"
        return text if self.ccd is None else f"{text} CCD {self.ccd}"

    @property
    def expnum(self) -> int | None:
        """Exposure number; None for a night."""
        return None if self.exposure is None else self.exposure.expnum

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
            raise InputError(
                "a step lacks an input", expnum=self.expnum, ccd=self.ccd, value=name, limit=", ".join(self.inputs)
            ) from None

    def product_path(self, suffix: str) -> Path:
        """Return where a product goes: the store, the folder of exposure or season, the CCD's stem and the suffix.

        Parameters
        ----------
        suffix
            End of the file name after the underscore, such as ``detrend.fits``; for a night, the whole file name.
        """
        if self.exposure is None:
            return self.site.store / PurePosixPath("nights") / str(self.night) / suffix
        folder = self.exposure.folder
        stem = self.exposure.stem if self.ccd is None else self.exposure.ccd_stem(self.ccd)
        if self.season is not None:
            folder = self.exposure.season_folder(self.season, self.ccd)
        return self.site.store / folder / f"{stem}_{suffix}"

    def result(
        self,
        products: Mapping[str, Path] | None = None,
        *,
        quality: Mapping[str, Any] | None = None,
        times: StepTimes | None = None,
        notes: tuple[str, ...] = (),
    ) -> "StepResult":
        """Return what the step has done, its products hashed.

        Parameters
        ----------
        products
            Files that the step has written, by a name that the next steps know.
        quality
            Numbers that describe the outcome; NumPy scalars become plain ones, NaN and infinities None.
        times
            CPU and wall seconds by part of the step.
        notes
            Sentences for the person who looks at the run.
        """
        return StepResult(
            products={name: FileRecord.of(self.site, path) for name, path in (products or {}).items()},
            quality=plain_quality(quality or {}),
            cpu_s=dict(times.cpu_s) if times else {},
            notes=notes,
        )


class StepResult(Record):
    """What a step has done."""

    step: str = ""
    """Name of the step; filled in by the seam."""
    products: dict[str, FileRecord] = {}
    """Files written, by name."""
    quality: dict[str, QualityValue] = {}
    """Numbers that describe the outcome, with their units in their names."""
    cpu_s: dict[str, float] = {}
    """CPU seconds by part of the step."""
    total_cpu_s: float = 0.0
    """CPU seconds of the whole step; filled in by the seam."""
    wall_s: float = 0.0
    """Wall-clock seconds of the whole step; filled in by the seam."""
    peak_memory_mb: float = 0.0
    """Largest resident memory while the step ran; filled in by the seam."""
    notes: tuple[str, ...] = ()
    """Sentences for the person who looks at the run."""
    nothing_to_do: str | None = None
    """Why there was, normally, nothing to do for this CCD; None if there was."""


class Failure(Record):
    """Why a CCD has no result."""

    reason: str
    """A short name for tables and counts, such as ``too_few_stars``."""
    message: str
    """One sentence: where, what, value, limit, remedy."""
    kind: FailureKind
    """``ccd``: it cannot be processed; ``no_work``: there was nothing to do; ``input``: bad input; ``storage``: the
    disk failed; ``memory``: there was not enough of it; ``lost``: the worker died; ``defect``: the code failed."""


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

    job: StepJob
    result: StepResult | None = None
    failure: Failure | None = None
    cached: bool = False

    @property
    def ccd(self) -> int | None:
        """CCD number of the job."""
        return self.job.ccd

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
