"""Check what a night needs, and say what to do about what is missing."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from blocks.nights import RegisteredNight, read_night, registered_nights
from blocks.site import Site
from deployments.server import is_healthy, known_address
from deployments.status import ask_server
from imaging.detector.status import working_ccds
from imaging.errors import GWWorkflowError
from imaging.exposure import Exposure

Verdict = Literal["good", "warning", "bad"]

DISK_GB = (20.0, 200.0)
"""Free disk below the first is bad, below the second worth a warning: an exposure of 60 CCDs leaves 16 GB."""

WORKER_GB = 2.2
"""Memory that the largest step of a CCD takes, GiB."""

DATABASE_GB = 5.0
"""A database that has grown beyond is worth a warning: its clean-up does not run."""

FIELD_DEG = 1.1
"""Radius of the focal plane on the sky."""


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


def examine(site: Site) -> list[Finding]:
    """Check everything that a night on a site needs.

    Returns
    -------
    findings
        In the order in which a night would meet them.
    """
    findings = [*check_server(site), *check_machine(site)]
    nights = [read_night(site, number) for number in registered_nights(site)]
    for night in nights:
        findings += check_night(site, night)
    if not nights:
        findings.append(Finding("nights", "good", "none is registered"))
    return findings


def check_server(site: Site) -> Iterator[Finding]:
    """Check the server, its deployments and triggers, its workers and its database."""
    named = os.environ.get("PREFECT_API_URL")
    api_url = named or known_address(site)
    if named and not is_healthy(named):
        yield Finding("server", "bad", f"nothing answers at {named}", "start it, or unset PREFECT_API_URL")
        return
    if not api_url:
        yield Finding(
            "server", "warning", "none is running; registered nights wait", "gw-workflow serve, or a server and workers"
        )
    else:
        yield Finding("server", "good", f"answers at {api_url}")
        yield from _check_deployments(api_url, own=not named)
    database = site.state / "server" / "prefect.db"
    if database.exists():
        size = database.stat().st_size / 2**30
        verdict: Verdict = "good" if size < DATABASE_GB else "warning"
        remedy = "" if verdict == "good" else "stop the server and remove state/server, or use PostgreSQL"
        yield Finding("database", verdict, f"{database}: {size:.2f} GB", remedy)


def _check_deployments(api_url: str, *, own: bool) -> Iterator[Finding]:
    from deployments.automations import ZOMBIES
    from deployments.definitions import DEFINITIONS

    again = "restart gw-workflow serve" if own else "gw-workflow deploy"
    deployed = {d["name"]: d for d in ask_server(api_url, "deployments/filter", {"limit": 200})}
    missing = [d.name for d in DEFINITIONS if d.name not in deployed]
    if missing:
        yield Finding("deployments", "bad", f"missing: {', '.join(missing)}", again)
    else:
        yield Finding("deployments", "good", f"all {len(DEFINITIONS)} are there")
    wanted = {ZOMBIES} | {f"{d.name}-on-event" for d in DEFINITIONS if d.event}
    found = {a["name"] for a in ask_server(api_url, "automations/filter", {"limit": 200}) if a["enabled"]}
    if wanted - found:
        yield Finding("automations", "bad", f"missing or off: {', '.join(sorted(wanted - found))}", again)
    else:
        yield Finding("automations", "good", "all triggers are on")
    idle = sorted(name for name, d in deployed.items() if d.get("status") != "READY")
    if idle and not missing:
        start = "gw-workflow serve" if own else "prefect worker start --pool gw-workflow"
        yield Finding("workers", "bad", f"nobody takes the runs of {', '.join(idle)}", start)
    elif deployed:
        yield Finding("workers", "good", "somebody takes the runs of all deployments")


def check_machine(site: Site) -> Iterator[Finding]:
    """Check disk, file locks and memory."""
    site.state.mkdir(parents=True, exist_ok=True)
    for name, folder in (("products", site.products), ("state", site.state)):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free / 1e9
        verdict: Verdict = "bad" if free < DISK_GB[0] else "warning" if free < DISK_GB[1] else "good"
        remedy = "" if verdict == "good" else "make room, or start the deployment housekeeping"
        yield Finding(f"disk of {name}", verdict, f"{folder}: {free:.0f} GB free", remedy)
    yield _check_locks(site.state / "doctor.lock")
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    share = MEMORY_LIMIT / CPU_COUNT / 2**30
    workers = max(int(MEMORY_LIMIT / 2**30 / WORKER_GB), 1)
    remedy = "" if share >= WORKER_GB else f"set Workers of the block Compute Cluster to {workers}"
    found = f"{share:.1f} GB for each of {CPU_COUNT} workers; a CCD needs {WORKER_GB}"
    yield Finding("memory", "good" if not remedy else "warning", found, remedy)


def _check_locks(path: Path) -> Finding:
    try:
        with path.open("ab") as one, path.open("ab") as other:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Finding("file locks", "good", f"work in {path.parent}")
    except OSError as error:
        return Finding("file locks", "bad", f"{path.parent}: {error}", "put the state folder on a local disk")
    return Finding("file locks", "bad", f"have no effect in {path.parent}", "put the state folder on a local disk")


def check_night(site: Site, night: RegisteredNight) -> list[Finding]:
    """Check a registered night: raw files, calibrations, reference stars, templates, sky map."""
    what = f"night {night.record.night}"
    listed = night.listed()
    exposures = [item.exposure for item in listed]
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("raw files", lambda: _check_raw(site, exposures)),
        ("calibrations", lambda: _check_calibrations(site, exposures)),
        ("reference stars", lambda: _check_reference(site, exposures)),
        ("templates", lambda: _check_templates(night)),
        ("sky map", lambda: _check_skymap(night)),
    ]
    findings = []
    for name, check in checks:
        try:
            found = check()
        except GWWorkflowError as error:
            found = Finding(name, "bad", error.sentence(), error.remedy or "")
        findings.append(Finding(f"{what}: {name}", found.verdict, found.found, found.remedy))
    return findings


def _check_raw(site: Site, exposures: Iterable[Exposure]) -> Finding:
    from imaging.identity import ExposureId
    from tasks.raw_files import raw_path

    listed = list(exposures)
    missing = [e.expnum for e in listed if not raw_path(site, ExposureId(e.expnum, e.band, e.night)).exists()]
    if missing:
        found = f"{len(missing)} of {len(listed)} are not there: {_some(missing)}"
        return Finding("raw files", "warning", found, f"copy them into {site.raw}; they are processed as they come")
    return Finding("raw files", "good", f"all {len(listed)} are there")


def _check_calibrations(site: Site, exposures: Iterable[Exposure]) -> Finding:
    from imaging.io.calibrations import CalibrationLibrary, detrend_calibration_paths

    library = CalibrationLibrary(site.calibrations)
    firsts = {(e.night, e.band): e for e in exposures}
    missing: list[str] = []
    example = ""
    warnings: dict[str, None] = {}
    for exposure in firsts.values():
        warnings |= dict.fromkeys(library.age_warnings(exposure))
        lacking = []
        for ccd in working_ccds(exposure.night):
            try:
                detrend_calibration_paths(library, exposure, ccd)
            except GWWorkflowError as error:
                lacking.append(ccd)
                example = example or error.sentence()
        if lacking:
            missing.append(f"{len(lacking)} CCDs of night {exposure.night}, {exposure.band}")
    if missing:
        found = f"lacking for {'; '.join(missing)}; such as: {example}"
        return Finding("calibrations", "warning", found, "these CCDs will fail; complete the library")
    if warnings:
        return Finding("calibrations", "warning", "; ".join(warnings), "gw-workflow build-calibrations")
    return Finding("calibrations", "good", f"valid for all {len(firsts)} combinations of night and band")


def _check_reference(site: Site, exposures: Iterable[Exposure]) -> Finding:
    from imaging.io.reference import partitions_in_cone

    absent = []
    listed = list(exposures)
    for e in listed:
        paths = partitions_in_cone(site.reference / "gaia", e.ra_deg, e.dec_deg, FIELD_DEG)
        if not paths or not all(path.exists() for path in paths):
            absent.append(e.expnum)
    if absent:
        found = f"missing or incomplete below {len(absent)} exposures: {_some(absent)}"
        return Finding("reference stars", "bad", found, "gw-workflow reference-catalog")
    return Finding("reference stars", "good", f"there below all {len(listed)} exposures")


def _check_templates(night: RegisteredNight) -> Finding:
    from imaging.templates.settings import TemplateSettings
    from tasks.night_plan import plan_night
    from tasks.requests import Version

    plan = plan_night(night, Version(), TemplateSettings())
    without = [request.expnum for request in plan.search if not plan.templates[request.expnum]]
    if without:
        found = f"{len(without)} of {len(plan.search)} search exposures have none: {_some(without)}"
        return Finding("templates", "warning", found, "add earlier exposures to the list with register-night --update")
    return Finding("templates", "good", f"each of {len(plan.search)} search exposures has some")


def _check_skymap(night: RegisteredNight) -> Finding:
    from imaging.io.skymaps import read_skymap

    read_skymap(night.skymap)
    return Finding("sky map", "good", f"{night.skymap.name} can be read")


def _some(numbers: list[int], most: int = 8) -> str:
    text = ", ".join(map(str, numbers[:most]))
    return text if len(numbers) <= most else f"{text}, ..."


def summary(findings: Iterable[Finding]) -> dict[str, Any]:
    """Count the findings by verdict."""
    counts: dict[str, int] = {"good": 0, "warning": 0, "bad": 0}
    for finding in findings:
        counts[finding.verdict] += 1
    return counts
