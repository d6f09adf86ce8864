"""The planned pointings of a night, stored in ``state/plans/{night}.json``.

A plan is stored before its event is emitted. The run started by the event reads it from there; so does the scheduled
run at dusk if the event was lost.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from blocks.site import Site
from imaging.identity import check_night
from imaging.io.damage import reading
from imaging.io.pointings import Pointing
from imaging.io.sealed import read_sealed, write_sealed

EVENT_NAME = "gw.pointings.planned"
"""Name of the event of a plan; its payload has the key ``night``."""


class PointingPlan(BaseModel):
    """The planned pointings of a night."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    night: int
    """Local date at the beginning of the night, YYYYMMDD."""
    pointings: tuple[Pointing, ...]
    """RA, Dec and band of each pointing."""
    exposure_list: str | None = None
    """Exposure list to choose templates from; None for all exposures with raw files at the site."""


def plan_path(site: Site, night: int) -> Path:
    """Return the file of a night's plan."""
    return site.state / "plans" / f"{night}.json"


def store_plan(site: Site, plan: PointingPlan) -> None:
    """Store the plan of a night, replacing an earlier one.

    Raises
    ------
    InputError
        If the night is not a date.
    StorageError
        If it cannot be written.
    """
    check_night(plan.night)
    write_sealed(plan_path(site, plan.night), plan.model_dump_json(indent=1) + "\n")


def read_plan(site: Site, night: int) -> PointingPlan | None:
    """Return the plan of a night; None if there is none.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    path = plan_path(site, night)
    if not path.exists():
        return None
    with reading(path, "plan of a night is damaged", "plan the night again"):
        return PointingPlan.model_validate_json(read_sealed(path))
