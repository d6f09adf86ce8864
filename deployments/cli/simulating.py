"""The command simulate."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from deployments.cli.options import DEFAULT_DISPLAY, Ccds, Display, ccds_of
from deployments.cli.output import Answer

if TYPE_CHECKING:
    from imaging.simulation.settings import SimulationSettings

Seed = Annotated[int | None, Parameter(name="--seed", help="Seed of everything that is random.")]


def simulate(
    directory: Annotated[Path, Parameter(help="Folder to write into.")],
    /,
    *,
    preset: Annotated[Literal["demo", "full"], Parameter(name="--preset", help="4 CCDs, or all 62.")] = "demo",
    seed: Seed = None,
    ccds: Ccds = None,
    bands: Annotated[str | None, Parameter(name="--bands", help="Bands such as g,i,z.")] = None,
    night: Annotated[int | None, Parameter(name=["--night", "-n"], help="Night, YYYYMMDD.")] = None,
    search_exposures: Annotated[
        int | None, Parameter(name="--search-exposures", help="Exposures of the night, per band.")
    ] = None,
    template_epochs: Annotated[
        int | None, Parameter(name="--template-epochs", help="Earlier exposures, per band.")
    ] = None,
    processes: Annotated[int | None, Parameter(name="--processes", help="One per core without it.")] = None,
    display: Display = DEFAULT_DISPLAY,
) -> Answer:
    """Write a simulated night in the observatory's raw format, with all that its processing needs."""
    from imaging.simulation.night import simulate_night

    settings = simulation_settings(
        preset,
        seed=seed,
        ccds=ccds_of(ccds),
        bands=tuple(bands.replace(" ", "").split(",")) if bands else None,
        night=night,
        n_search_exposures=search_exposures,
        n_template_epochs=template_epochs,
    )
    with simulation_bars(show=not display.json) as progress:
        simulated = simulate_night(directory, settings, processes=processes, progress=progress)
    document = {
        "command": "simulate",
        "root": str(simulated.root),
        "night": settings.night,
        "event": settings.event,
        "exposures": [exposure.expnum for exposure in simulated.exposures],
        "skymap": str(simulated.skymap),
        "exposure_list": str(simulated.exposure_list),
        "settings": settings.model_dump(mode="json"),
    }
    count = len(simulated.exposures)
    return Answer(document, (f"{count} exposures of {len(settings.ccds)} CCDs written to {simulated.root}",))


def simulation_settings(preset: str, **changes: Any) -> "SimulationSettings":  # noqa: ANN401
    """Return the settings of a simulation: a preset with the given changes, None for none.

    Raises
    ------
    InputError
        If a setting is refused.
    """
    from pydantic import ValidationError

    from imaging.errors import InputError
    from imaging.simulation.settings import SimulationSettings, demo_settings

    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return demo_settings(**given) if preset == "demo" else SimulationSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "setting"
        raise InputError(f"simulation cannot have this {name}", value=first["input"], limit=first["msg"]) from error


@contextmanager
def simulation_bars(*, show: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """Show how far a simulation has come on standard error, if that is a terminal."""
    if not show or not sys.stderr.isatty():
        yield None
        return
    from deployments.cli.running import bars

    with bars() as shown:
        rows: dict[str, Any] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in rows:
                rows[what] = shown.add_task(what, total=total)
            shown.update(rows[what], completed=done, total=total)

        yield update
