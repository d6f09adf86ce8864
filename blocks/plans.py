"""Where the telescope is going to point in a night, kept in ``state/plans/{night}.json``.

A plan is stored before anybody is told of it: the run that its event starts finds it there, and so does the one that a
schedule starts at dusk, if no server heard the event.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from blocks.site import Site
from imaging.errors import InputError
from imaging.identity import check_night
from imaging.io.atomic import write_text
from imaging.io.pointings import Pointing

EVENT_NAME = "gw.pointings.planned"
"""Name of the event of a plan; its payload names the ``night``."""


class PointingPlan(BaseModel):
    """The planned pointings of a night."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    night: int
    """Local date at the beginning of the night, YYYYMMDD."""
    pointings: tuple[Pointing, ...]
    """RA, Dec and band of each."""
    exposure_list: str | None = None
    """File that lists the exposures to choose templates from; None for all whose raw files the site has."""


def plan_path(site: Site, night: int) -> Path:
    """Return where the plan of a night is kept."""
    return site.state / "plans" / f"{night}.json"


def store_plan(site: Site, plan: PointingPlan) -> None:
    """Keep the plan of a night; it takes the place of an earlier one.

    Raises
    ------
    InputError
        If the night is no date.
    StorageError
        If it cannot be written.
    """
    check_night(plan.night)
    write_text(plan_path(site, plan.night), plan.model_dump_json(indent=1) + "\n")


def read_plan(site: Site, night: int) -> PointingPlan | None:
    """Return the plan of a night; None if there is none.

    Raises
    ------
    InputError
        If it is damaged.
    """
    path = plan_path(site, night)
    try:
        return PointingPlan.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise InputError("plan of a night is damaged", value=path, remedy="plan the night again") from error
