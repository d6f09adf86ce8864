"""The command rank: order the candidates of a night again, on another sky map or with other weights."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deployments.cli.nights import NightNumber
from deployments.cli.options import DEFAULTS, Common, Destination, Overwrite, find_site
from deployments.cli.output import Answer
from deployments.cli.running import run_flow
from imaging.errors import InputError

if TYPE_CHECKING:
    from imaging.candidates.settings import CandidateSettings

Weights = Annotated[
    tuple[str, ...],
    Parameter(name="--weight", help="Weight of a part, such as skymap=2; may be given several times."),
]


def rank(
    night: NightNumber,
    /,
    *,
    skymap: Annotated[Path | None, Parameter(name="--skymap", help="New sky map, which becomes the night's.")] = None,
    weight: Weights = (),
    announce: Annotated[
        bool, Parameter(name="--announce", negative="", help="Let the server do it: emit the event of a new map.")
    ] = False,
    destination: Destination = "persistent",
    overwrite: Overwrite = False,
    common: Common = DEFAULTS,
) -> Answer:
    """Rank the candidates of a processed night again, from its tables alone: no pixel is touched."""
    from tasks.ranked_tables import last_settings

    found = find_site(common)
    place = found.site.storing_in(destination)
    settings = None if not weight else weighted(last_settings(night, place), weight)
    file = None if skymap is None else str(skymap.resolve())
    if announce:
        if file is None or weight:
            raise InputError("an announced map needs a file and takes no weights", remedy="give --skymap FILE alone")
        return announced(night, Path(file))

    parameters = {
        "night": night,
        "skymap": file,
        "site": found.name,
        "settings": settings,
        "destination": destination,
        "overwrite": overwrite,
    }
    about = {"night": night, "skymap": file}
    return run_flow("rank", common, found.site, "flows.ranking:rank_night", parameters, about=about)


def weighted(settings: "CandidateSettings", weights: tuple[str, ...]) -> "CandidateSettings":
    """Return settings with some weights of the rank changed.

    Parameters
    ----------
    settings
        The settings.
    weights
        Texts such as ``skymap=2``.

    Raises
    ------
    InputError
        If a part is unknown or a weight no number.
    """
    from imaging.candidates.rank import PARTS

    changes = {}
    for text in weights:
        part, _, number = text.partition("=")
        try:
            changes[f"weight_{part}"] = float(number)
        except ValueError:
            part = ""
        if part not in PARTS:
            raise InputError("weight not understood", value=text, limit=f"PART=NUMBER, PART of {', '.join(PARTS)}")
    return settings.with_values(rank=settings.rank.with_values(**changes))


def announced(night: int, skymap: Path) -> Answer:
    """Emit the event of a new sky map to the server that PREFECT_API_URL names.

    Raises
    ------
    InputError
        If no server is named or the file is no sky map.
    """
    import uuid

    from blocks.skymaps import EVENT_NAME
    from deployments.registry import RESOURCE
    from imaging.io.atomic import content_hash
    from imaging.io.skymaps import read_skymap
    from tasks.engine.events import emit

    if not os.environ.get("PREFECT_API_URL"):
        raise InputError("no server to announce the map to", limit="PREFECT_API_URL", remedy="run gw-workflow serve")
    read_skymap(skymap)
    payload = {"night": night, "skymap": str(skymap)}
    event_id = uuid.uuid5(uuid.NAMESPACE_URL, f"gw-workflow/skymap/{night}/{content_hash(skymap)}")
    emit(EVENT_NAME, event_id, RESOURCE.format(night=night), about=f"sky map {skymap.name}", payload=payload)
    return Answer({"command": "rank", "announced": True, **payload}, (f"night {night}: {skymap.name} announced",))
