"""What one check has found, and what to do about it."""

from dataclasses import asdict, dataclass
from typing import Literal

Verdict = Literal["good", "warning", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found.

    Attributes
    ----------
    check
        What was looked at.
    verdict
        ``good``; ``warning``: a night can run; ``bad``: it cannot, or not to the end.
    found
        What was found.
    remedy
        What to do; empty if nothing.
    """

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""

    def document(self) -> dict[str, str]:
        """Return the finding as JSON."""
        return asdict(self)
