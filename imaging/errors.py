"""Exceptions for user-facing errors: problem, exposure, CCD, step, limit and remedy.

:class:`InputError`: the user's input is invalid, nothing was started, exit code 1. :class:`CcdError`: this CCD of this
exposure cannot be processed; the other CCDs continue; it is never retried, because the same input gives the same
error. :class:`StorageError`: the machine failed (full disk, lost mount), so the step may be retried. Any other
exception is a bug.
"""

from typing import Any


class GWWorkflowError(Exception):
    """Base class: an error with a one-sentence message.

    Parameters
    ----------
    problem
        What is wrong, in a few words.
    expnum, ccd
        Exposure number and CCD number concerned, if any.
    step
        Name of the processing step.
    value, limit
        The offending value, and the allowed values.
    remedy
        What the user can do.
    """

    def __init__(
        self,
        problem: str,
        *,
        expnum: int | None = None,
        ccd: int | None = None,
        step: str | None = None,
        value: object = None,
        limit: object = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = problem
        self.expnum = expnum
        self.ccd = ccd
        self.step = step
        self.value = None if value is None else str(value)
        self.limit = None if limit is None else str(limit)
        self.remedy = remedy
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """Return the error message in one sentence."""
        where = [
            text
            for text in (
                f"exposure {self.expnum}" if self.expnum is not None else "",
                f"CCD {self.ccd}" if self.ccd is not None else "",
                self.step or "",
            )
            if text
        ]
        text = f"{', '.join(where)}: {self.problem}" if where else self.problem
        if self.value is not None:
            text += f" ({self.value}"
            text += f"; allowed: {self.limit})" if self.limit is not None else ")"
        elif self.limit is not None:
            text += f" (allowed: {self.limit})"
        return f"{text}. To do: {self.remedy}." if self.remedy else f"{text}."

    def _keywords(self) -> dict[str, Any]:
        return {
            "expnum": self.expnum,
            "ccd": self.ccd,
            "step": self.step,
            "value": self.value,
            "limit": self.limit,
            "remedy": self.remedy,
        }

    def details(self) -> dict[str, Any]:
        """Return the known fields of the error as a dictionary."""
        return {key: value for key, value in self._keywords().items() if value is not None}

    def located(
        self, *, expnum: int | None = None, ccd: int | None = None, step: str | None = None
    ) -> "GWWorkflowError":
        """Return a copy of the error with missing exposure, CCD and step filled in."""
        keywords = self._keywords()
        for key, found in (("expnum", expnum), ("ccd", ccd), ("step", step)):
            if keywords[key] is None:
                keywords[key] = found
        return _rebuild(type(self), self.problem, keywords)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the error with all its fields."""
        return _rebuild, (type(self), self.problem, self._keywords())


class InputError(GWWorkflowError):
    """The user's input is missing or invalid; nothing was started."""


class CcdError(GWWorkflowError):
    """A CCD of an exposure cannot be processed; the other CCDs continue.

    Parameters
    ----------
    reason
        A short name for tables and counts, such as ``too_few_stars``.
    """

    def __init__(self, problem: str, *, reason: str, **where: Any) -> None:  # noqa: ANN401
        self.reason = reason
        super().__init__(problem, **where)

    def _keywords(self) -> dict[str, Any]:
        return super()._keywords() | {"reason": self.reason}


class NoWorkError(CcdError):
    """Nothing to do for this CCD, which is a normal outcome (for example, no template overlaps it)."""


class StorageError(GWWorkflowError):
    """The disk or file system failed; the step may be retried."""


def _rebuild(kind: type[GWWorkflowError], problem: str, keywords: dict[str, Any]) -> GWWorkflowError:
    return kind(problem, **keywords)
