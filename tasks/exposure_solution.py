"""Reuse of the solutions of a whole exposure when a repaired CCD is added later.

Sky fit, astrometry and zero points depend on all CCDs of an exposure. If a CCD that failed is repaired later, a new
solution would change the products of all other CCDs marginally, at the cost of reprocessing the exposure. The existing
solution is kept instead and applied to the repaired CCD. ``overwrite`` computes a new solution.
"""

from collections.abc import Mapping
from typing import Self

from tasks.engine.jobs import Failure, Record
from tasks.jobs import StepJob

PERMANENT = ("ccd", "input")
"""Kinds of failure after which a CCD may be added to a solution. CCDs with other failures cause a new solution."""


class Basis(Record):
    """The inputs of an exposure's solution."""

    version: str
    """Code version and digest of the settings."""
    inputs: dict[int, str]
    """CCD number to the content hashes of its inputs, joined."""
    without: dict[int, str]
    """CCD number to the reason of its failure, for CCDs without an input."""

    @classmethod
    def of(cls, job: StepJob, code_version: str, *prefixes: str) -> Self:
        """Return the basis of a solution from its job, whose inputs are named ``{prefix}{ccd}``."""
        settings = job.settings.digest() if job.settings else ""
        hashes: dict[int, str] = {}
        for prefix in prefixes:
            for name, file in job.inputs.items():
                if name.startswith(prefix):
                    ccd = int(name.removeprefix(prefix))
                    hashes[ccd] = hashes.get(ccd, "") + file.content_hash
        return cls(
            version=f"{code_version}-{settings}",
            inputs=dict(sorted(hashes.items())),
            without={int(ccd): reason for ccd, reason in sorted(job.parameters.get("without", {}).items())},
        )

    def joins(self, earlier: "Basis") -> bool:
        """Whether this basis equals an earlier one except for CCDs that had failed then."""
        unchanged = all(self.inputs.get(ccd) == digest for ccd, digest in earlier.inputs.items())
        added = set(self.inputs) - set(earlier.inputs)
        return self.version == earlier.version and unchanged and added <= set(earlier.without)


def absentees(failures: Mapping[int, Failure]) -> dict[str, str]:
    """Return CCD to reason for failures of kind :data:`PERMANENT`, as the job parameter ``without``."""
    return {str(ccd): failure.reason for ccd, failure in sorted(failures.items()) if failure.kind in PERMANENT}


def discard_solution(job: StepJob, suffix: str) -> None:
    """Delete an exposure's solution, so that the next one is computed from scratch."""
    job.product_path(suffix).unlink(missing_ok=True)
