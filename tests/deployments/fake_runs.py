"""A server and its runs in memory, and a site on disk, for tests of the decisions about nights."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from listed_nights import write_list

from blocks import night_runs
from blocks.gw_events import AlertRecord, event_folder, is_retracted
from blocks.night_runs import PROCESS, RANK, NightRun
from blocks.nights import read_night
from blocks.site import Site
from deployments.events import decisions
from deployments.events.decisions import EXPOSURE, ServerRun
from deployments.events.registry import register_night
from imaging.io.atomic import write_text
from tasks.jobs import StepJob
from tasks.steps import RANK as RANK_STEP

EVENT = "S230922g"
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class ServerDiedError(Exception):
    """The server died in the middle of a request."""


class FakeRuns:
    """Runs of a server in memory: created once per key, as Prefect's server does it."""

    def __init__(self) -> None:
        self.by_id: dict[str, ServerRun] = {}
        self.by_key: dict[tuple[str, str], str] = {}
        self.parameters: dict[str, dict[str, Any]] = {}
        self.dies_in: int | None = None
        self._numbers = itertools.count(1)

    def _request(self) -> None:
        """Die if it is time: before the effect of a request, or after it."""
        if self.dies_in is None:
            return
        if self.dies_in == 0:
            self.dies_in = None
            raise ServerDiedError
        self.dies_in -= 1

    def active(self) -> list[ServerRun]:
        self._request()
        return [run for run in self.by_id.values() if run.state not in ENDED]

    def find(self, identity: str) -> ServerRun | None:
        self._request()
        return self.by_id.get(identity)

    def create(self, flow: str, key: str, name: str, parameters: dict[str, Any]) -> ServerRun:
        self._request()
        identity = self.by_key.get((flow, key))
        if identity is None:
            identity = f"run-{next(self._numbers)}"
            night = parameters.get("night") or parameters["exposure"]["night"]
            self.by_id[identity] = ServerRun(identity, flow, name, "SCHEDULED", night)
            self.by_key[flow, key] = identity
            self.parameters[identity] = parameters
        self._request()
        return self.by_id[identity]

    def set(self, identity: str, state: str) -> None:
        self.by_id[identity] = replace(self.by_id[identity], state=state)

    def crash(self, identity: str, message: str) -> None:
        self._request()
        assert message
        self.set(identity, "CRASHED")

    def cancel(self, identity: str, message: str) -> None:
        self._request()
        assert message
        self.set(identity, "CANCELLING")

    def forget(self) -> None:
        """Lose the database."""
        self.by_id.clear()
        self.by_key.clear()


class World:
    """A site on disk, a server in memory, and the processes of its runs.

    Parameters
    ----------
    folder
        Folder for the site.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = Site.at(folder / "site")
        self.server = FakeRuns()
        self.arrived: set[int] = set()
        self.cut: set[int] = set()
        self.alive: dict[str, NightRun] = {}
        self.maps = itertools.count(1)

    def patch(self, monkeypatch) -> None:
        """Let the decisions see this world's processes and raw files; any file is a sky map."""
        monkeypatch.setattr(decisions, "is_alive", lambda night, run: run.run in self.alive)
        monkeypatch.setattr("tasks.raw_files.arrived_exposures", self.arrived_of)
        monkeypatch.setattr(decisions, "has_raw_files", lambda site: True)
        monkeypatch.setattr("blocks.skymaps.read_skymap", lambda path: None)

    def arrived_of(self, site, exposures, *, whole=False) -> set[int]:
        return (self.arrived - self.cut if whole else self.arrived) & {exposure.expnum for exposure in exposures}

    def map_file(self) -> Path:
        path = self.folder / "map.fits"
        path.write_text(f"SIMPLE map {next(self.maps)}")
        return path

    def register(
        self, night: int, numbers: list[int], *, event: str = EVENT, update: bool = False, skymap=None
    ) -> None:
        path = write_list(self.folder / "list.csv", numbers, night=night, templates=())
        register_night(
            self.site,
            night,
            event=event,
            skymap=skymap or self.map_file(),
            exposures=path,
            check_skymap=lambda path: None,
            update=update,
        )

    def alert(self, kind: str, number: int, event: str = EVENT) -> None:
        """Store an alert: with a new map, or a retraction."""
        time = f"2023-09-22T02:{number // 60:02d}:{number % 60:02d}Z"
        record = AlertRecord(superevent=event, alert_type=kind, time_created=time)
        folder = event_folder(self.site, event)
        folder.mkdir(parents=True, exist_ok=True)
        if kind != "RETRACTION":
            record = record.model_copy(update={"skymap": f"{record.name}.multiorder.fits"})
            (folder / record.skymap).write_text(f"SIMPLE map {next(self.maps)}")
        write_text(folder / f"{record.name}.json", record.model_dump_json())

    def look(self) -> decisions.Look:
        return decisions.look(self.site, self.server)

    def scheduled(self, *flows: str) -> list[str]:
        runs = [run for run in self.server.by_id.values() if run.state == "SCHEDULED"]
        return [run.identity for run in runs if not flows or run.flow in flows]

    def start(self, identity: str) -> None:
        """Start a run: its process reads the night and writes its record."""
        run = self.server.by_id[identity]
        self.server.set(identity, "RUNNING")
        if run.flow == EXPOSURE:
            self.server.set(identity, "COMPLETED")
            return
        night = read_night(self.site, run.night)
        listed = {*night.record.exposures, *night.record.templates}
        seen = sorted(self.arrived & listed) if run.flow == PROCESS else []
        retracted = is_retracted(self.site, night.record.event)
        found = {"exposures": seen, "partial": sorted(self.cut & set(seen))}
        record = night_runs.run_of(night.record, run.flow, identity, retracted=retracted, **found)
        self.alive[identity] = night_runs.write_run(night, record)

    def rank(self, identity: str) -> None:
        """Write the ranked list of a running run, from the newest state of its night."""
        night = read_night(self.site, self.server.by_id[identity].night)
        path = StepJob(night=night.record.night, site=self.site).product_path(RANK_STEP.products["ranking"])
        content = {"skymap": {"content_hash": night.record.skymap_hash}, "parameters": {}}
        if is_retracted(self.site, night.record.event):
            content["parameters"]["retracted"] = True
        write_text(path, json.dumps(content))

    def finish(self, identity: str, *, ranked: bool = True) -> None:
        """End a running run, with its list; a run of the night without any exposure makes none."""
        run = self.alive.pop(identity)
        night = read_night(self.site, self.server.by_id[identity].night)
        if ranked and (run.flow == RANK or run.exposures):
            self.rank(identity)
        night_runs.write_run(night, run, end="completed")
        if identity in self.server.by_id:
            self.server.set(identity, "COMPLETED")

    def kill(self, identity: str) -> None:
        """Kill the process of a run; the server does not notice."""
        self.alive.pop(identity, None)

    def settle(self, most: int = 60) -> decisions.Look:
        """Let everything run until nothing more is due; return the last look."""
        for _ in range(most):
            found, closed = self.look(), False
            for identity, run in list(self.server.by_id.items()):
                if run.state == "CANCELLING":
                    self.kill(identity)
                    self.server.set(identity, "CANCELLED")
                    closed = True
                elif run.state == "RUNNING" and identity not in self.alive:  # it sends no heartbeats
                    self.server.set(identity, "CRASHED")
                    closed = True
            waiting, running = self.scheduled(), list(self.alive)
            if not (found.created or closed or waiting or running):
                return found
            for identity in running:
                self.finish(identity)
            for identity in waiting:
                self.start(identity)
        raise AssertionError(f"not settled: {found}")
