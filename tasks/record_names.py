"""The names of step records, which a person can read: step, CCD and hash."""

import re

PATTERN = re.compile(r"(?P<step>.+?)(?:-ccd(?P<ccd>\d\d))?-[0-9a-f]{32}\.json")


def record_name(step: str, ccd: int | None, digest: str) -> str:
    """Name the record of a step.

    Parameters
    ----------
    step
        Name of the step.
    ccd
        CCD number; None for a step without one.
    digest
        32 hexadecimal digits.
    """
    return f"{step}{'' if ccd is None else f'-ccd{ccd:02d}'}-{digest}.json"


def parse_record_name(name: str) -> tuple[str, int | None] | None:
    """Return step and CCD of a record; None if this is no record's name."""
    match = PATTERN.fullmatch(name)
    return (match["step"], int(match["ccd"]) if match["ccd"] else None) if match else None
