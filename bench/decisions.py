"""Random histories of nights against real processes: right lists in the end, and times of the decisions.

``python -m bench.decisions [--json] [--quick]``: a site is served, with stand-ins for the flows that take a second or
two. In each of 200 scenarios (quick: 4; others by ``GW_WORKFLOW_SCENARIOS=FIRST:END``)
two nights are registered, and seeded actions follow at random moments: raw
files arrive, exposures are added, alerts bring new maps, events are emitted twice, the server, the serving process or
the process of a run is killed (SIGKILL), ``serve`` is started again. In the end each list must be that of the newest
map with every exposure at hand, and no night may have been processed twice for the same exposures. A decision is made
when the server has a run for all that is due; its time counts from the last action, or from the restart of ``serve``.
A scenario in which the server or ``serve`` was killed counts as restarted; a ``serve`` that ends by itself is an error.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from prefect import flow
from prefect.runtime import flow_run

from bench.report import Row, at_least, at_most, main
from blocks.folders import load_site
from blocks.gw_events import AlertRecord, event_folder, is_retracted
from blocks.night_runs import PROCESS, RANK, list_lock, read_runs, recorded_run
from blocks.nights import read_night
from blocks.site import Site, raw_path
from deployments.events.decisions import EXPOSURE, nights_to_do, read_ranked, read_state
from deployments.events.due import due_together
from deployments.events.registry import announce, register_night
from deployments.events.server_runs import ServerRuns
from deployments.server.definitions import Definition
from deployments.server.serve import serve
from deployments.server.server import known_address, server_for
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.atomic import write_text
from imaging.io.exposure_list import ListedExposure, write_exposure_list
from tasks import raw_files
from tasks.engine.final_state import keep_result
from tasks.jobs import StepJob
from tasks.steps import RANK as RANK_STEP

SCENARIOS, QUICK = 200, 4

EVENT_LIMIT_S, RESTART_LIMIT_S, SETTLE_S = 10.0, 90.0, 300.0

MOST_ACTIONS = 8


def at_hand(site: Site, night: int) -> list[int]:
    """Return the listed exposures of a night that have arrived."""
    return [n for n in read_night(site, night).record.exposures if raw_path(site, ExposureId(n, "i", night)).exists()]


def write_list(site: Site, night: int) -> None:
    """Write what the ranking would: the sky map of the list, and whether the event is retracted."""
    record = read_night(site, night).record
    path = StepJob(night=night, site=site).product_path(RANK_STEP.products["ranking"])
    retracted = {"retracted": True} if is_retracted(site, record.event) else {}
    write_text(path, json.dumps({"skymap": {"content_hash": record.skymap_hash}, "parameters": retracted}))


@keep_result
@flow(name=PROCESS)
def stand_in_night(night: int, site: str = "default") -> None:
    """Wait a second or two, then write a list."""
    place = load_site(site)
    registered = read_night(place, night)
    with recorded_run(registered, PROCESS, flow_run.id, exposures=at_hand(place, night)):
        time.sleep(random.uniform(0.5, 2.0))
        with list_lock(registered):
            write_list(place, night)


@keep_result
@flow(name=RANK)
def stand_in_rank(night: int, site: str = "default") -> None:
    """Write a list."""
    place = load_site(site)
    with list_lock(read_night(place, night)):
        registered = read_night(place, night)
        retracted = is_retracted(place, registered.record.event)
        with recorded_run(registered, RANK, flow_run.id, retracted=retracted):
            write_list(place, night)


@keep_result
@flow(name=EXPOSURE)
def stand_in_exposure(exposure: dict[str, Any], site: str = "default") -> None:
    """Do nothing."""


DEFINITIONS = [
    Definition(
        name=name,
        entrypoint=f"bench/decisions.py:{function}",
        description="A stand-in.",
        concurrency_limit={"limit": limit, "collision_strategy": "ENQUEUE"},
    )
    for name, function, limit in (
        (PROCESS, "stand_in_night", 1),
        (RANK, "stand_in_rank", 1),
        (EXPOSURE, "stand_in_exposure", 2),
    )
]


class Served:
    """A site that is served by a separate process, and what is done to it.

    Parameters
    ----------
    site
        The site.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.process: subprocess.Popen[str] | None = None
        self.n_maps = 0

    def start(self) -> None:
        """Start to serve, and wait until runs are accepted."""
        words = [sys.executable, "-m", "bench.decisions", "--serve", str(self.site.root)]
        root = Path(__file__).parents[1]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=root, text=True, start_new_session=True)
        if self.process.stdout is None or not self.process.stdout.readline():
            raise RuntimeError("serve did not start")

    def stop(self) -> None:
        """End serving."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=60)

    def kill_serve(self, *, with_runs: bool) -> None:
        """Kill the serving process, with the runs that it has started or without."""
        if self.process is None:
            return
        family = psutil.Process(self.process.pid).children(recursive=True) if with_runs else []
        self.process.kill()
        self.process.wait()
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()

    def kill_server(self) -> None:
        """Kill the server; the serving process starts another one."""
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            address = json.loads((self.site.state / "server" / "address.json").read_text())
            psutil.Process(address["pid"]).kill()

    def kill_run(self) -> None:
        """Kill one process of a run."""
        if self.process is not None and self.process.poll() is None:
            for child in psutil.Process(self.process.pid).children():
                with suppress(psutil.NoSuchProcess):
                    if "prefect" in " ".join(child.cmdline()) and "server" not in " ".join(child.cmdline()):
                        child.kill()
                        return

    def new_map(self) -> Path:
        """Return a file with a new sky map; its content does not matter here."""
        self.n_maps += 1
        path = self.site.root / "map.fits"
        write_text(path, f"SIMPLE map {self.n_maps}")
        return path

    def register(self, night: int, numbers: list[int], *, update: bool) -> None:
        """Register or update a night."""
        listed = [ListedExposure(Exposure(n, "i", night, 60209.0, 90.0, 197.45, -23.38, 1.2)) for n in sorted(numbers)]
        path = self.site.root / "list.csv"
        write_exposure_list(path, listed)
        skymap = read_night(self.site, night).skymap if update else self.new_map()
        register_night(
            self.site,
            night,
            event=f"S{night % 1000000}a",
            skymap=skymap,
            exposures=path,
            check_skymap=str,
            update=update,
        )

    def arrive(self, night: int, number: int) -> None:
        """Let a raw file arrive, complete."""
        path = raw_path(self.site, ExposureId(number, "i", night))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("whole")

    def alert(self, night: int, kind: str) -> None:
        """Store an alert: a new map, or a retraction."""
        event, moment = read_night(self.site, night).record.event, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        self.n_maps += 1
        record = AlertRecord(superevent=event, alert_type=kind, time_created=f"{moment}.{self.n_maps:06d}Z")
        folder = event_folder(self.site, event)
        folder.mkdir(parents=True, exist_ok=True)
        if kind != "RETRACTION":
            record = record.model_copy(update={"skymap": f"{record.name}.multiorder.fits"})
            write_text(folder / str(record.skymap), f"SIMPLE map {self.n_maps}")
        write_text(folder / f"{record.name}.json", record.model_dump_json())


def play(served: Served, seed: int) -> dict[str, Any]:
    """Play one scenario; return whether it ended rightly, and the times of its decisions."""
    chosen, site = random.Random(seed), served.site
    nights = [20200101 + 10000 * (seed // 100) + 100 * (seed // 10 % 10) + 2 * (seed % 10) + k for k in range(2)]
    listed = {night: [10 * night + k for k in range(2)] for night in nights}
    down = restarted = False

    def add(night: int) -> None:
        listed[night].append(10 * night + len(listed[night]))
        served.register(night, listed[night][-1:], update=True)

    def emit_twice(night: int) -> None:
        with suppress(Exception), server_for(site):
            announce(read_night(site, night))
            announce(read_night(site, night))

    def kill_server(_: int) -> None:
        nonlocal restarted
        served.kill_server()
        restarted = True

    def kill_serve(night: int) -> None:
        nonlocal down, restarted
        served.kill_serve(with_runs=bool(night % 2))
        down = restarted = True

    actions: list[Callable[[int], object]] = [
        lambda night: served.arrive(night, chosen.choice(listed[night])),
        add,
        lambda night: served.alert(night, "UPDATE"),
        lambda night: served.alert(night, "RETRACTION"),
        emit_twice,
        kill_server,
        lambda _: served.kill_run(),
        kill_serve,
    ]
    for night in nights:
        served.register(night, listed[night], update=False)
        if chosen.random() < 0.7:
            served.arrive(night, listed[night][0])
    for _ in range(chosen.randint(2, MOST_ACTIONS)):
        time.sleep(chosen.choice([0.0, 0.1, 0.5, 1.0, 3.0]))
        action = chosen.choice(actions)
        if down and action in actions[-4:]:
            continue
        action(chosen.choice(nights))
    if down:
        served.start()
    began = time.monotonic()
    decided_s = wait_for(lambda: is_decided(site, nights), SETTLE_S)
    settled_s = wait_for(lambda: is_settled(site, nights), SETTLE_S - (time.monotonic() - began))
    wrong = [problem for night in nights if (problem := problem_of(site, night))]
    if served.process is None or served.process.poll() is not None:
        wrong.append("serve has ended by itself")
        served.start()
    return {"seed": seed, "restarted": restarted, "decided_s": decided_s, "settled_s": settled_s, "wrong": wrong}


def wait_for(condition: Callable[[], bool], seconds: float) -> float | None:
    """Wait until a condition holds; return the elapsed seconds, or None after the timeout."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with suppress(Exception):
            if condition():
                return time.monotonic() - began
        time.sleep(0.2)
    return None


def is_decided(site: Site, nights: list[int]) -> bool:
    """Whether the server has a run for all that is due."""
    with server_for(site), ServerRuns(site, str(site.root)) as runs:
        active = runs.active()
        states = {night: read_state(site, read_night(site, night), None, active) for night in nights}
        return not any(due_together(states).values())


def is_settled(site: Site, nights: list[int]) -> bool:
    """Whether nothing is due, and nothing is waiting or running."""
    if known_address(site) is None or any(decision for n, decision in nights_to_do(site).items() if n in nights):
        return False
    running = [run for night in nights for run in read_runs(read_night(site, night)) if run.end == "running"]
    with server_for(site), ServerRuns(site, str(site.root)) as runs:
        return not running and not [run for run in runs.active() if run.night in nights]


def problem_of(site: Site, night: int) -> str:
    """Return what is wrong with a night in the end; empty if nothing."""
    registered = read_night(site, night)
    done = [run for run in read_runs(registered) if run.flow == PROCESS and run.end == "completed"]
    missing = set(at_hand(site, night)) - {n for run in done for n in run.exposures}
    if missing:
        return f"{night}: exposures {sorted(missing)} were not processed"
    ranked = read_ranked(site, night)
    if ranked is None or ranked.skymap_hash != registered.record.skymap_hash:
        return f"{night}: the list is not that of the newest map"
    if ranked.retracted != is_retracted(site, registered.record.event):
        return f"{night}: the list does not state the retraction"
    for number, run in enumerate(done):
        for other in done[:number]:
            if other.revision >= run.revision and set(run.exposures) <= set(other.exposures):
                return f"{night}: revision {run.revision} was processed twice"
    return ""


def measure(quick: bool) -> list[Row]:
    """Play the scenarios and summarize them."""
    os.environ.pop("PREFECT_API_URL", None)
    accept_any_file()
    first, _, end = os.environ.get("GW_WORKFLOW_SCENARIOS", f"0:{QUICK if quick else SCENARIOS}").rpartition(":")
    played = range(int(first or 0), int(end))
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        served = Served(Site.at(Path(folder) / "site"))
        served.start()
        try:
            for seed in played:
                results.append(play(served, seed))
                sys.stderr.write(f"{results[-1]}\n")
        finally:
            served.stop()
    right = [r for r in results if not r["wrong"] and r["settled_s"] is not None]
    seeds, number = (played[0], played[-1]), len(played)
    rows = [at_least("scenarios that end in the right lists", len(right), "", number, n=number, seeds=seeds)]
    for what, restarted, limit in (
        ("time from the last event to the decision, longest", False, EVENT_LIMIT_S),
        ("time from the restart to the decision, longest", True, RESTART_LIMIT_S),
    ):
        times = [r["decided_s"] or SETTLE_S for r in results if r["restarted"] is restarted]
        rows.append(at_most(what, max(times, default=None), "s", limit, n=len(times), seeds=seeds))
    return rows


def arrived(site: Site, exposures: Iterable[ExposureId], *, whole: bool = False) -> set[int]:  # noqa: ARG001
    """Return the exposures for which a file lies in the usual place."""
    return {exposure.expnum for exposure in exposures if raw_path(site, exposure).exists()}


def accept_any_file() -> None:
    """Take whatever lies there for a raw file or a sky map."""
    import blocks.skymaps

    raw_files.arrived_exposures = arrived
    blocks.skymaps.read_skymap = lambda *_: None  # type: ignore[assignment]


def serve_stand_ins(root: str) -> None:
    """Serve the stand-ins."""
    accept_any_file()
    serve(Site.at(root), definitions=DEFINITIONS, on_ready=lambda server: print(server.api_url, flush=True))


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve_stand_ins(sys.argv[-1])
    else:
        main("Decisions about nights", measure)
