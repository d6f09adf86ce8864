"""The account of a night as a page: its exposures, what failed and why, where the time went."""

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.pages import number

COLUMNS = (
    ("depth_mag", "depth, mag", 2),
    ("fwhm_arcsec", 'seeing, "', 2),
    ("zeropoint_loss_mag", "clouds, mag", 2),
    ("t_eff", "t_eff", 2),
    ("sky_electrons", "sky, e-", 0),
    ("airmass", "airmass", 2),
)
"""Numbers of an exposure: name, heading, digits."""

IN_FLOW = ("associate", "rank")
"""Steps that see the whole night; they are done by the process that directs the run."""

LISTED = 100
"""Failures that are named on the page; the rest are counted."""


def account_page(data: Mapping[str, Any], message: str, flow_cpu_s: float) -> str:
    """Write the account of a night as Markdown.

    Parameters
    ----------
    data
        The data of the state in which the night ended, from :func:`tasks.verdict.night_verdict`.
    message
        How the night ended, in one sentence.
    flow_cpu_s
        CPU seconds of the process that has directed the run.
    """
    parts = [f"{message}.", "## Exposures", *exposure_table(data), "## Where the time went"]
    parts += time_table(data, flow_cpu_s)
    failures = list(failure_lines(data))
    if failures:
        parts += ["## What failed, and what to do", *failures[:LISTED]]
        if len(failures) > LISTED:
            parts.append(f"- and {len(failures) - LISTED} more: `gw-workflow status`")
    return "\n".join(f"\n{part}\n" if part.startswith("#") else part for part in parts) + "\n"


def exposure_table(data: Mapping[str, Any]) -> list[str]:
    """Return a table row per exposure: what came through, the light, what the difference found."""
    headings = ["exposure", "CCDs", "failed", "searched", "detections", "m50, mag"]
    headings += [heading for _, heading, _ in COLUMNS]
    lines = ["| " + " | ".join(headings) + " |", "|--:" * len(headings) + "|"]
    for expnum, told in sorted(data["exposures"].items(), key=lambda item: int(item[0])):
        numbers = told.get("stages", {}).get("verification", {}).get("exposure", {})
        searched = data["differences"].get(expnum, {})
        found = searched.get("exposure", {})
        failed = len(told.get("failures", {})) + len(searched.get("failures", {}))
        cells = [expnum, str(len(told.get("done", ()))), str(failed or "–")]
        cells += [str(len(searched["done"])) if "done" in searched else "–"]
        cells += [number(found.get("n_detections"), 0), number(found.get("m50_mag"), 2)]
        cells += [number(numbers.get(name), digits) for name, _, digits in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def step_seconds(data: Mapping[str, Any]) -> dict[str, float]:
    """Return the CPU seconds of every step that was computed in this run, over all exposures."""
    seconds: dict[str, float] = {}
    for told in (*data["exposures"].values(), *data["differences"].values()):
        for stage in told.get("stages", {"": told}).values():
            for step, cpu_s in stage.get("cpu_s", {}).items():
                seconds[step] = seconds.get(step, 0.0) + cpu_s
    for step, cpu_s in data.get("cpu_s", {}).items():
        seconds[step] = seconds.get(step, 0.0) + cpu_s
    return seconds


def time_table(data: Mapping[str, Any], flow_cpu_s: float) -> list[str]:
    """Return a table row per step, and what directing the run has cost."""
    seconds = step_seconds(data)
    if not seconds:
        return ["Everything was known from an earlier run; nothing was computed."]
    directing = max(flow_cpu_s - sum(seconds.get(step, 0.0) for step in IN_FLOW), 0.0)
    total = sum(seconds.values()) + directing
    rows = [*sorted(seconds.items(), key=lambda item: -item[1]), ("directing the run", directing)]
    lines = ["| step | CPU seconds | share |", "|---|--:|--:|"]
    return lines + [f"| {step} | {number(cpu_s, 1)} | {cpu_s / total:.1%} |" for step, cpu_s in rows if cpu_s >= 0.05]


def failure_lines(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line per failure: where, why, what to do."""
    for expnum, told in (*data["exposures"].items(), *data["differences"].items()):
        if told["state"] not in ("Completed", "CompletedWithFailures") and not told.get("failures"):
            yield f"- exposure {expnum}: {told['message']}"
        for failure in told.get("failures", {}).values():
            yield f"- {failure['message']}"
    for name, failure in data["failures"].items():
        if failure["reason"] != "exposure_failed":
            yield f"- {name}: {failure['message']}"
