"""Progress of the exposures of a site, from its state folder, and the runs on its server."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from blocks.gw_events import is_retracted
from blocks.night_runs import PROCESS, RANK
from blocks.nights import read_night, registered_nights
from blocks.site import Site
from deployments.cli.output import table_lines
from deployments.events.decisions import read_state
from deployments.events.due import due
from deployments.server.server import api_address, ask_server, user_of_server
from imaging.errors import GWWorkflowError, InputError
from tasks.engine.cache import parse_record_name
from tasks.engine.failures import describe_failures, noted_failures
from tasks.steps import NIGHT_STAGES, steps_of

STEPS = tuple(step.name for step in steps_of(*NIGHT_STAGES))
"""Steps in the order of the processing; others are listed after them."""


@dataclass(frozen=True)
class SubjectStatus:
    """Progress of one exposure or night.

    Attributes
    ----------
    subject
        Exposure number, or ``night-YYYYMMDD``.
    done
        Number of CCDs done by step; 1 for a step of the whole subject.
    failures
        Failures by step, with reasons.
    n_failed
        Number of failed CCDs by step.
    storage
        What a full or failing disk said first; empty if none did.
    """

    subject: str
    done: dict[str, int]
    failures: dict[str, str]
    n_failed: dict[str, int]
    storage: str = ""


@dataclass(frozen=True)
class SiteStatus:
    """Progress of the exposures of a site.

    Attributes
    ----------
    subjects
        Exposures and nights.
    running
        Running and waiting flow runs with their states; None without a server.
    nights
        Registered nights.
    remarks
        Night to what else is to be known of it: retracted, not processed yet, held back, damaged record.
    server_of
        Name of another user who runs the site's server; empty without one.
    """

    subjects: tuple[SubjectStatus, ...]
    running: tuple[dict[str, str], ...] | None
    nights: tuple[int, ...] = field(default_factory=tuple)
    remarks: Mapping[int, str] = field(default_factory=dict)
    server_of: str = ""

    @property
    def steps(self) -> list[str]:
        """Steps that any subject has reached, in the order of the processing."""
        seen = {step for subject in self.subjects for step in (*subject.done, *subject.n_failed)}
        return [step for step in STEPS if step in seen] + sorted(seen - set(STEPS))

    def document(self) -> dict[str, Any]:
        """Return the status as JSON."""
        subjects = [
            {"subject": s.subject, "done": s.done, "failed": s.n_failed, "reasons": s.failures} for s in self.subjects
        ]
        remarks = {str(night): text for night, text in self.remarks.items()}
        server = {"server_of": self.server_of} if self.server_of else {}
        return {
            "nights": list(self.nights),
            "remarks": remarks,
            "subjects": subjects,
            "running": self.running,
            **server,
        }

    def lines(self) -> list[str]:
        """Return the status as a table, followed by the failures."""
        steps = self.steps
        rows = [
            [s.subject, *(_cell(s.done.get(step, 0), s.n_failed.get(step, 0)) for step in steps)] for s in self.subjects
        ]
        lines = table_lines(["", *steps], rows) if rows else ["no exposure has been processed"]
        lines += [f"{s.subject} {step}: {text}" for s in self.subjects for step, text in s.failures.items()]
        lines += [s.storage for s in self.subjects if s.storage][:1]  # the disk is the same for all
        lines += [f"night {night}: {text}" for night, text in self.remarks.items()]
        if self.running is None:
            return [*lines, "no server is running"]
        if self.server_of:
            lines.append(f"the server is run by {self.server_of}")
        return lines + [f"{run['state']}: {run['name']}{_doing(run)}" for run in self.running]


def site_status(site: Site, night: int | None = None) -> SiteStatus:
    """Return the progress of a site's exposures.

    Parameters
    ----------
    site
        The site.
    night
        Restrict to this night's exposures; None for all.

    Raises
    ------
    InputError
        If the night is not registered.
    """
    if night is None:
        nights = registered_nights(site)
        processed = [path.name for folder in (site.records, site.state / "failures") for path in folder.glob("*")]
        expected = {str(number) for known in nights for number in _exposures(site, known)}
        subjects = {name for name in processed if "." not in name} | expected
    else:
        nights = [night]
        record = read_night(site, night).record
        subjects = {str(n) for n in (*record.exposures, *record.templates)} | {f"night-{night}"}
    ordered = sorted(subjects, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    known = tuple(subject_status(site, name) for name in ordered)
    remarks = {number: text for number in nights if (text := remark(site, number))}
    running = running_flows(site)
    is_own = running is not None and not os.environ.get("PREFECT_API_URL")
    return SiteStatus(known, running, tuple(nights), remarks, user_of_server(site) if is_own else "")


def _exposures(site: Site, night: int) -> tuple[int, ...]:
    """Return the exposures of a night; none if its record is damaged."""
    try:
        return read_night(site, night).record.exposures
    except InputError:
        return ()


def remark(site: Site, night: int) -> str:
    """Return what is to be known of a night besides its progress; empty if nothing."""
    try:
        registered = read_night(site, night)
        decision = due(read_state(site, registered))
    except GWWorkflowError as error:
        return error.sentence()
    parts = [f"{registered.record.event} RETRACTED"] if is_retracted(site, registered.record.event) else []
    runs = {PROCESS: decision.process, RANK: decision.rank}
    parts += [f"{flow} is due" for flow, is_due in runs.items() if is_due]
    return "; ".join([*parts, *([decision.held] if decision.held else [])])


def subject_status(site: Site, subject: str) -> SubjectStatus:
    """Return the progress of one exposure or night, from its records and failures."""
    done: dict[str, set[str]] = {}
    for path in (site.records / subject).glob("*.json"):
        found = parse_record_name(path.name)
        if found:
            done.setdefault(found[0], set()).add(found[1])
    by_step: dict[str, dict[Any, Any]] = {}
    notes = noted_failures(site, subject)
    for note in notes:
        by_step.setdefault(note.step, {})[note.unit if note.unit is not None else subject] = note.failure
    return SubjectStatus(
        subject,
        done={step: len(ccds) for step, ccds in done.items()},
        failures={step: describe_failures(failures) for step, failures in by_step.items()},
        n_failed={step: len(failures) for step, failures in by_step.items()},
        storage=next((note.failure.message for note in notes if note.failure.kind == "storage"), ""),
    )


def running_flows(site: Site) -> tuple[dict[str, str], ...] | None:
    """Return the running and waiting runs of the server with their progress; None without a server."""
    api_url = api_address(site)
    if not api_url:
        return None
    states = ["RUNNING", "PENDING", "SCHEDULED", "PAUSED", "CANCELLING"]
    due = {"before_": (datetime.now(UTC) + timedelta(minutes=1)).isoformat()}
    question = {"flow_runs": {"state": {"type": {"any_": states}}, "expected_start_time": due}, "limit": 50}
    try:
        runs = ask_server(api_url, "flow_runs/filter", question)
        ids = [run["id"] for run in runs]
        shown = {"artifacts": {"type": {"any_": ["progress"]}, "flow_run_id": {"any_": ids}}} if ids else None
        progress = {a["flow_run_id"]: a for a in (ask_server(api_url, "artifacts/filter", shown) if shown else ())}
    except (OSError, ValueError):
        return None
    return tuple(_described(run, progress.get(run["id"])) for run in runs)


def _described(run: dict[str, Any], progress: dict[str, Any] | None) -> dict[str, str]:
    """Return name, state and progress of a run."""
    document = {"name": run["name"], "state": run["state_name"]}
    if progress is not None:
        percent, sentence = float(progress["data"] or 0.0), str(progress["description"] or "")
        return document | {"progress": f"{percent:.0f} %", "doing": sentence.partition(": ")[2]}
    waits = {"AwaitingConcurrencySlot": "waiting for another run to end", "Late": "waiting for a worker"}
    return document | ({"doing": waits[run["state_name"]]} if run["state_name"] in waits else {})


def _cell(done: int, failed: int) -> str:
    if not done and not failed:
        return "-"
    return f"{done}+{failed} failed" if failed else str(done)


def _doing(run: dict[str, str]) -> str:
    parts = [run[name] for name in ("progress", "doing") if run.get(name)]
    return f" ({', '.join(parts)})" if parts else ""
