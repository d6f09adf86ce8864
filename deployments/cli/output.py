"""Output of the command line: results on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imaging.plain_text import visible
from tasks.engine.jobs import ExitCode

FORMATS = {
    "ra": ".5f",
    "dec": ".5f",
    "mag_first": ".2f",
    "mag_last": ".2f",
    "real_score": ".3f",
    "rank_score": ".2f",
    "astrometry_rms_mas": ".1f",
    "zeropoint_error_mmag": ".1f",
    "difference_noise_width": ".3f",
    "cpu_s": ".1f",
    "longest_s": ".1f",
    "peak_memory_mb": ".0f",
    "size_mb": ".1f",
}
"""Formats of the columns with fractions; others have four digits."""


@dataclass(frozen=True)
class Answer:
    """Result of a command.

    Attributes
    ----------
    document
        The result as JSON.
    lines
        The result as text.
    exit_code
        Exit code of the command.
    """

    document: Mapping[str, Any]
    lines: Sequence[str] = field(default_factory=tuple)
    exit_code: ExitCode = ExitCode.COMPLETE


def write_answer(answer: Answer, *, as_json: bool) -> ExitCode:
    """Write a result to standard output, as one JSON document or as lines; return the exit code."""
    if as_json:
        write_document({**answer.document, "exit_code": int(answer.exit_code)})
    else:
        sys.stdout.write("".join(f"{visible(line)}\n" for line in answer.lines))
        sys.stdout.flush()
    return answer.exit_code


def write_error(
    message: str, exit_code: ExitCode, *, as_json: bool, about: Mapping[str, Any] | None = None
) -> ExitCode:
    """Write an error to standard error, and as a JSON document to standard output; return the exit code."""
    sys.stderr.write(f"gw-workflow: {visible(message)}\n")
    if as_json:
        write_document({"error": message, **(about or {}), "exit_code": int(exit_code)})
    return exit_code


def write_document(document: Mapping[str, Any]) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json.dumps(document, indent=1, default=str) + "\n")
    sys.stdout.flush()


def table_lines(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Format rows as columns, numbers aligned to the right."""
    cells = [[_cell(value, heading) for value, heading in zip(row, headings, strict=True)] for row in rows]
    widths = [max(len(row[column]) for row in [list(headings), *cells]) for column in range(len(headings))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(headings, widths, strict=True)).rstrip()]
    for row in cells:
        padded = [
            text.rjust(width) if _is_number(text) else text.ljust(width)
            for text, width in zip(row, widths, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def _cell(value: object, heading: str) -> str:
    if value is None:
        return "-"
    return format(value, FORMATS.get(heading, ".4g")) if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).replace("-", "", 1).replace("e+", "", 1).isdigit()
