"""Flows that stand in for the processing of a night: they note what they were given."""

import json
import time

from prefect import flow
from prefect.runtime import flow_run

from blocks.folders import load_site
from blocks.night_runs import PROCESS, RANK, recorded_run
from blocks.nights import read_night
from imaging.io.atomic import write_text
from tasks.jobs import StepJob
from tasks.steps import RANK as RANK_STEP


def note(site: str, night: int, name: str) -> None:
    """Write the ranked list of a toy night, and that it has run."""
    here = load_site(site)
    record = read_night(here, night).record
    path = StepJob(night=night, site=here).product_path(RANK_STEP.products["ranking"])
    write_text(path, json.dumps({"skymap": {"content_hash": record.skymap_hash}, "parameters": {}}))
    write_text(here.root / name, json.dumps({"night": night, "revision": record.revision}))


@flow(name="process-night")
def toy_night(night: int, site: str = "default") -> None:
    here = load_site(site)
    registered = read_night(here, night)
    listed = [item.exposure.expnum for item in registered.listed()]
    with recorded_run(registered, PROCESS, flow_run.id, exposures=listed):
        write_text(here.root / "started.json", json.dumps({"night": night}))
        if registered.record.event == "SLOW":
            time.sleep(120)
        note(site, night, "ran.json")


@flow(name="rank-night")
def toy_rank(night: int, site: str = "default") -> None:
    with recorded_run(read_night(load_site(site), night), RANK, flow_run.id):
        note(site, night, "ranked.json")
