"""Check everything that a night needs, with a remedy for what is missing."""

import fcntl
import os
import shutil
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from blocks.gw_events import newest_event
from blocks.nights import read_night, registered_nights
from blocks.site import Site
from deployments.server.database import address_in_use, parse_address, size_of
from deployments.server.identity import LOOPBACK, is_own_here, open_url
from deployments.server.server import HEALTH_TIMEOUT_S, api_address, ask_server, is_healthy, user_of_server
from imaging.errors import GWWorkflowError

Verdict = Literal["good", "warning", "bad"]

DISK_GB = (20.0, 200.0)
"""Free disk space below the first is bad, below the second a warning; an exposure of 60 CCDs writes 16 GB."""

WORKER_GB = 2.2
"""Memory of the largest step of a CCD, GiB."""

BLOCKS = (
    "gw-storage-roots",
    "gw-calibration-library",
    "gw-reference-catalogue",
    "gw-compute-cluster",
    "gw-notification-target",
)
"""Types of blocks of which ``deploy`` creates one named ``default``."""

DATABASE_GB = 5.0
"""Size above which a database gets a warning, since its clean-up does not seem to run, GiB."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    check
        Name of the check.
    verdict
        ``good``; ``warning``: a night can run; ``bad``: it cannot run, or not to the end.
    found
        Result in words.
    remedy
        Remedy; empty if none is needed.
    commands
        Commands that bring what is missing; words in capitals are to be replaced.
    """

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""
    commands: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the finding as JSON."""
        return asdict(self)


def examine(site: Site, night: int | None = None) -> list[Finding]:
    """Check everything that a night on a site needs.

    Parameters
    ----------
    site
        The site.
    night
        Check only this night; None for all registered ones.

    Returns
    -------
    findings
        In the order of the processing.
    """
    findings = [*check_server(site), *check_machine(site)]
    numbers = registered_nights(site)
    if night is not None and night not in numbers:
        event = newest_event(site)
        given = "EVENT --skymap FILE" if event is None else event
        command = f"gw-workflow register-night {night} --event {given}"
        findings.append(Finding(f"night {night}", "bad", "is not registered", "register it", (command,)))
        return findings
    nights = [read_night(site, number) for number in numbers if night in (None, number)]
    if nights:
        from deployments.checks.doctor_night import check_night

    for registered in nights:
        findings += check_night(site, registered)
    if not nights:
        findings.append(Finding("nights", "good", "none registered"))
    return findings


def check_server(site: Site) -> Iterator[Finding]:
    """Check the server, its deployments and triggers, its workers and its database."""
    named = os.environ.get("PREFECT_API_URL")
    api_url = api_address(site)
    if named and not is_healthy(named):
        yield Finding("server", "bad", f"nothing answers at {named}", "start it, or unset PREFECT_API_URL")
        return
    if not api_url:
        yield Finding(
            "server",
            "warning",
            "none is running; registered nights stay pending",
            "gw-workflow serve, or a server and workers",
        )
    else:
        user = "" if named else user_of_server(site)
        yield Finding("server", "good", f"answers at {api_url}{f', run by {user}' if user else ''}")
        if named and not is_own_here(named, site.state / "server"):
            yield from _check_doors(named)
        yield from _check_deployments(api_url, own=not named)
        yield from _check_supports(api_url, own=not named)
        yield from _check_changes(site, api_url, own=not named)
    yield from _check_database(site)


def _check_doors(named: str) -> Iterator[Finding]:
    """Check that a server of one's own is neither open to everybody nor reached in clear text."""
    address = urlsplit(named)
    if address.scheme == "http" and address.hostname not in LOOPBACK:
        found = f"{named} is beyond this machine and without TLS: everybody on the way reads its secrets"
        yield Finding(
            "encryption", "warning", found, "put a reverse proxy with TLS in front of it, see docs/security.md"
        )
    question = urllib.request.Request(  # noqa: S310
        f"{named}/block_types/filter", b'{"limit": 1}', {"Content-Type": "application/json"}
    )
    try:
        with open_url(question, HEALTH_TIMEOUT_S):
            remedy = "set PREFECT_SERVER_API_AUTH_STRING for it, and PREFECT_API_AUTH_STRING for commands and workers"
            yield Finding("access", "warning", f"{named} answers everybody, with the keys of all blocks", remedy)
    except (OSError, ValueError):
        yield Finding("access", "good", "nothing is answered without PREFECT_API_AUTH_STRING")


def _check_changes(site: Site, api_url: str, *, own: bool) -> Iterator[Finding]:
    """Show what somebody has changed on the pages, which serve and deploy keep."""
    from deployments.server.applied import Applied, changes
    from deployments.server.definitions import DEFINITIONS, served_definition
    from tasks.steps import LIMITS

    applied = Applied.read(site.state / "server", "embedded" if own else api_url)
    definitions = [served_definition(each) if own else each for each in DEFINITIONS]
    for what, value, default in changes(partial(ask_server, api_url), applied, definitions, LIMITS):
        remedy = f"keep it, or set it to {default} on the pages"
        yield Finding(what, "warning", f"changed to {value}; the default is {default}", remedy)


def _check_database(site: Site) -> Iterator[Finding]:
    """Check the size of the server's database, if its address is known here."""
    address = address_in_use(site.state / "server")
    shown = parse_address(address)
    if shown.get_backend_name() == "sqlite" and not os.path.exists(str(shown.database)):  # noqa: PTH110 (False if it may not be read)
        return
    try:
        size = size_of(address) / 2**30
    except GWWorkflowError as error:
        yield Finding("database", "bad", error.sentence(), error.remedy or "")
        return
    verdict: Verdict = "good" if size < DATABASE_GB else "warning"
    remedy = "" if verdict == "good" else "gw-workflow database vacuum; if it stays so large, use PostgreSQL"
    yield Finding("database", verdict, f"{shown.render_as_string(hide_password=True)}: {size:.2f} GB", remedy)


def _check_supports(api_url: str, *, own: bool) -> Iterator[Finding]:
    """Check blocks, limits and notifications."""
    from deployments.server.automations import NIGHT_FAILED
    from tasks.steps import LIMITS

    again = "restart gw-workflow serve" if own else "gw-workflow deploy"
    kinds = {kind["id"]: kind["slug"] for kind in ask_server(api_url, "block_types/filter", {"limit": 200})}
    saved = {
        kinds.get(block["block_type_id"])
        for block in ask_server(api_url, "block_documents/filter", {"limit": 200})
        if block["name"] == "default"
    }
    missing = [slug for slug in BLOCKS if slug not in saved]
    if missing:
        yield Finding("blocks", "bad", f"no block default of {', '.join(missing)}", again)
    else:
        yield Finding("blocks", "good", f"all {len(BLOCKS)} defaults exist")
    limits = {limit["name"] for limit in ask_server(api_url, "v2/concurrency_limits/filter", {"limit": 200})}
    if set(LIMITS) - limits:
        yield Finding("limits", "warning", f"missing: {', '.join(sorted(set(LIMITS) - limits))}", again)
    else:
        yield Finding("limits", "good", f"all {len(LIMITS)} exist")
    enabled = {a["name"] for a in ask_server(api_url, "automations/filter", {"limit": 200}) if a["enabled"]}
    if NIGHT_FAILED in enabled:
        yield Finding("notifications", "good", "a failed night is notified")
    else:
        remedy = f"fill in the block Notification Target / default, then {again}"
        yield Finding("notifications", "warning", "a failed night is not notified", remedy)


def _check_deployments(api_url: str, *, own: bool) -> Iterator[Finding]:
    from deployments.server.automations import ZOMBIES
    from deployments.server.definitions import DEFINITIONS

    again = "restart gw-workflow serve" if own else "gw-workflow deploy"
    deployed = {d["name"]: d for d in ask_server(api_url, "deployments/filter", {"limit": 200})}
    missing = [d.name for d in DEFINITIONS if d.name not in deployed]
    if missing:
        yield Finding("deployments", "bad", f"missing: {', '.join(missing)}", again)
    else:
        yield Finding("deployments", "good", f"all {len(DEFINITIONS)} exist")
    wanted = {ZOMBIES} | {trigger["name"] for d in DEFINITIONS for trigger in d.triggers}
    found = {a["name"]: a["enabled"] for a in ask_server(api_url, "automations/filter", {"limit": 200})}
    if wanted - set(found):
        yield Finding("automations", "bad", f"missing: {', '.join(sorted(wanted - set(found)))}", again)
    else:
        yield Finding("automations", "good", "all exist")
    for name in sorted(name for name in wanted if not found.get(name, True)):
        yield Finding(name, "bad", "switched off", "switch it on (pages, Automations); a restart does not")
    idle = sorted(name for name, d in deployed.items() if d.get("status") != "READY")
    if idle and not missing:
        start = "gw-workflow serve" if own else "prefect worker start --pool gw-workflow"
        yield Finding("workers", "bad", f"no worker for {', '.join(idle)}", start)
    elif deployed:
        yield Finding("workers", "good", "every deployment has a worker")


def check_machine(site: Site) -> Iterator[Finding]:
    """Check disk, file locks and memory."""
    site.state.mkdir(parents=True, exist_ok=True)
    for name, folder in (("products", site.products), ("state", site.state)):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free / 1e9
        verdict: Verdict = "bad" if free < DISK_GB[0] else "warning" if free < DISK_GB[1] else "good"
        remedy = "" if verdict == "good" else "free disk space, or run the deployment housekeeping"
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


def summary(findings: Iterable[Finding]) -> dict[str, Any]:
    """Count the findings by verdict."""
    counts: dict[str, int] = {"good": 0, "warning": 0, "bad": 0}
    for finding in findings:
        counts[finding.verdict] += 1
    return counts
