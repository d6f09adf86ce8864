"""A flow that stands in for the processing of a night: it notes what it was given."""

import json
import time
from typing import Any

from prefect import flow

from blocks.folders import load_site
from blocks.nights import read_night


@flow
def toy_night(night: int | None = None, event: dict[str, Any] | None = None, site: str = "default") -> str:
    here = load_site(site)
    registered = read_night(here, (event or {})["night"] if night is None else night)
    registered.mark_started()
    (here.root / "started.json").write_text(json.dumps(event))
    if registered.record.event == "SLOW":
        time.sleep(120)
    (here.root / "ran.json").write_text(json.dumps(event))
    return registered.record.event


@flow
def toy_rank(event: dict[str, Any] | None = None, site: str = "default") -> None:
    (load_site(site).root / "ranked.json").write_text(json.dumps(event))
