"""Solutions of a whole exposure, and when they are kept although another CCD has joined.

Sky, astrometry and zero points rest on all CCDs of an exposure. When a CCD that could not be processed is repaired
later, solving again would change every other CCD's products by next to nothing and cost the whole exposure; so the
solution that the others were made with is kept, and the late CCD takes it. Overwriting solves again.
"""

from collections.abc import Mapping
from typing import Self

from tasks.engine.jobs import Failure, Record
from tasks.jobs import StepJob

PERMANENT = ("ccd", "input")
"""Kinds of failure after which a CCD may join later. A CCD that only its worker has lost makes the solution anew."""


class Basis(Record):
    """What a solution rests on."""

    version: str
    """Code and settings."""
    inputs: dict[int, str]
    """CCD number to the content hash of what it contributed."""
    without: dict[int, str]
    """CCDs that could not contribute, with the reason."""

    @classmethod
    def of(cls, job: StepJob, code_version: str, prefix: str) -> Self:
        """Read the basis of a solution off its job, whose inputs are named ``{prefix}{ccd}``."""
        settings = job.settings.digest() if job.settings else ""
        files = {int(n.removeprefix(prefix)): f for n, f in job.inputs.items() if n.startswith(prefix)}
        return cls(
            version=f"{code_version}-{settings}",
            inputs={ccd: file.content_hash for ccd, file in sorted(files.items())},
            without={int(ccd): reason for ccd, reason in sorted(job.parameters.get("without", {}).items())},
        )

    def joins(self, earlier: "Basis") -> bool:
        """Whether this basis is an earlier one and CCDs that could not contribute then."""
        unchanged = all(self.inputs.get(ccd) == digest for ccd, digest in earlier.inputs.items())
        added = set(self.inputs) - set(earlier.inputs)
        return self.version == earlier.version and unchanged and added <= set(earlier.without)


def absentees(failures: Mapping[int, Failure]) -> dict[str, str]:
    """Return the CCDs that an exposure's solution has to do without for good, as a job's parameter ``without``."""
    return {str(ccd): failure.reason for ccd, failure in sorted(failures.items()) if failure.kind in PERMANENT}


def discard_solution(job: StepJob, suffix: str) -> None:
    """Forget an exposure's solution, so that the next one is not a continuation of it."""
    job.product_path(suffix).unlink(missing_ok=True)
