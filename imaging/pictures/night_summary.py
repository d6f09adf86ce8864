"""Markdown summary of a night: exposures, failures with remedies, CPU time by step."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from imaging.pictures.markdown import number
from imaging.plain_text import markdown_text

COLUMNS = (
    ("depth_mag", "depth, mag", 2),
    ("fwhm_arcsec", 'seeing, "', 2),
    ("zeropoint_loss_mag", "clouds, mag", 2),
    ("t_eff", "t_eff", 2),
    ("sky_electrons", "sky, e-", 0),
    ("airmass", "airmass", 2),
)
"""Quality metrics of an exposure: name, heading, digits."""

LISTED = 100
"""Number of failures listed on the page; the others are counted."""


def night_summary_page(data: Mapping[str, Any], message: str, flow_cpu_s: float, in_flow: Collection[str]) -> str:
    """Return the summary of a night as Markdown.

    Parameters
    ----------
    data
        Data of the night's final state, as JSON.
    message
        Message of the final state, in one sentence.
    flow_cpu_s
        CPU seconds of the flow's process.
    in_flow
        Steps that ran in that process.
    """
    parts = [f"{markdown_text(message)}.", "## Exposures", *exposure_table(data), "## Where the time went"]
    parts += time_table(data, flow_cpu_s, in_flow)
    failures = list(failure_lines(data))
    if failures:
        parts += ["## What failed, and what to do", *failures[:LISTED]]
        if len(failures) > LISTED:
            parts.append(f"- and {len(failures) - LISTED} more: `gw-workflow status`")
    return "\n".join(f"\n{part}\n" if part.startswith("#") else part for part in parts) + "\n"


def exposure_table(data: Mapping[str, Any]) -> list[str]:
    """Return a table row per exposure: CCDs processed, conditions, detections."""
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


def time_table(data: Mapping[str, Any], flow_cpu_s: float, in_flow: Collection[str]) -> list[str]:
    """Return a table row per step, and the cost of the flow itself."""
    seconds = step_seconds(data)
    if not seconds:
        return ["Every result was cached; nothing was computed."]
    orchestration = max(flow_cpu_s - sum(seconds.get(step, 0.0) for step in in_flow), 0.0)
    total = sum(seconds.values()) + orchestration
    rows = [*sorted(seconds.items(), key=lambda item: -item[1]), ("orchestration", orchestration)]
    lines = ["| step | CPU seconds | share |", "|---|--:|--:|"]
    return lines + [f"| {step} | {number(cpu_s, 1)} | {cpu_s / total:.1%} |" for step, cpu_s in rows if cpu_s >= 0.05]


def failure_lines(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line per failure: exposure or CCD, reason, remedy."""
    for expnum, told in (*data["exposures"].items(), *data["differences"].items()):
        if told["state"] not in ("Completed", "CompletedWithFailures") and not told.get("failures"):
            yield f"- exposure {expnum}: {markdown_text(told['message'])}"
        for failure in told.get("failures", {}).values():
            yield f"- {markdown_text(failure['message'])}"
    for name, failure in data["failures"].items():
        if failure["reason"] != "exposure_failed":
            yield f"- {name}: {markdown_text(failure['message'])}"
