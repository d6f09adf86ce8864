"""Commands on simulated data: demo, simulate."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from blocks.site import Site
from deployments.cli.options import A_PORT, DEFAULT_DISPLAY, Ccds, Display, ccds_of
from deployments.cli.output import Answer, table_lines
from deployments.server.server import Server, api_address, ask_server
from imaging.errors import StorageError
from tasks.engine.jobs import ExitCode

if TYPE_CHECKING:
    from imaging.simulation.night import SimulatedNight
    from imaging.simulation.settings import SimulationSettings

Seed = Annotated[int | None, Parameter(name="--seed", help="Seed of the random numbers.")]

Sky = Annotated[
    Literal["easy", "typical", "hard", "crowded", "bright"],
    Parameter(name="--sky", help="How the sky, the telescope and the detector are simulated."),
]

NIGHT_FLOW = "process-night"
"""Prefect's name of the flow of a night."""

START_TIMEOUT_S = 180.0
"""Timeout for the start of the server, its deployments and the first run."""

LOOK_S = 2.0
"""Seconds between two looks at the progress of the run."""

FINAL = {"COMPLETED": ExitCode.COMPLETE, "FAILED": ExitCode.FAILED, "CRASHED": ExitCode.FAILED}
FINAL |= {"CANCELLED": ExitCode.FAILED}
"""Types of the final states."""


def demo(
    *,
    root: Annotated[Path, Parameter(name="--root", help="Folder of the demonstration.")] = Path("gw-demo"),
    ccds: Ccds = None,
    seed: Seed = None,
    sky: Sky = "typical",
    keep_serving: Annotated[
        bool, Parameter(name="--keep-serving", negative="", help="Continue serving the pages until interrupted.")
    ] = False,
    port: Annotated[int | None, Parameter(name="--port", validator=A_PORT, help="Port of the server.")] = None,
    display: Display = DEFAULT_DISPLAY,
) -> Answer:
    """Simulate and register a small night, let the server process it, and print the results."""
    began = time.monotonic()
    site = Site.at(root)
    settings = simulation_settings("demo", seed=seed, sky=sky, ccds=ccds_of(ccds))
    say(f"simulating {settings.event} on {len(settings.ccds)} CCDs in {site.root}", display)
    simulated = simulated_once(site, settings, display)
    simulated_s = time.monotonic() - began
    with serving(site, port) as server:
        say(f"serving at {server['server']}", display)
        api_address(site)  # the server proves that it is the site's, and is asked with the site's string from now on
        before = latest_run(server["api"]) or {}
        register(site, simulated)
        run = wait_for_run(site, server["api"], settings.night, display, not_run=before.get("id"))
        waited_s = time.monotonic() - began - simulated_s
        answer = report(site, simulated, run, {"simulate_s": simulated_s, "process_s": waited_s}, server["server"])
        if keep_serving:
            from deployments.server.serve import sign_in_link

            link = sign_in_link(Server(server["api"], embedded=True)) if server["sign_in"] else server["server"]
            say(f"serving; interrupt to stop; sign in, once: {link}", display)
            with suppress(KeyboardInterrupt):
                server["process"].wait()
    return answer


def say(text: str, display: Display) -> None:
    """Write progress to standard error."""
    if not display.json or sys.stderr.isatty():
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def simulated_once(site: Site, settings: Any, display: Display) -> "SimulatedNight":  # noqa: ANN401
    """Simulate the night, unless the same one exists already."""
    from imaging.io.atomic import write_text
    from imaging.simulation.night import open_night, simulate_night

    done = site.state / "simulated.json"
    wanted = settings.model_dump_json()
    if done.exists() and done.read_text() == wanted:
        return open_night(site.root)
    with simulation_bars(show=not display.json) as progress:
        night = simulate_night(site.root, settings, progress=progress)
    write_text(done, wanted)
    return night


@contextmanager
def serving(site: Site, port: int | None) -> Iterator[dict[str, Any]]:
    """Serve the site from a separate process inside the ``with`` block.

    Raises
    ------
    StorageError
        If the server does not start.
    """
    words = ["serve", "--json", "--site", str(site.root), *(["--port", str(port)] if port else [])]
    log = site.state / "serve.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.cli.main", *words],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
            stderr=stream,
            start_new_session=True,
            text=True,
        )
    try:
        document = read_document(process.stdout)
        if document is None:
            raise StorageError("the server does not start", value=site.root, remedy=f"read the end of {log}")
        yield {**document, "process": process}
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        process.kill()
        process.wait()


def read_document(stream: IO[str] | None) -> dict[str, Any] | None:
    """Read one JSON document up to its closing brace on a line; None if the stream ends before."""
    lines: list[str] = []
    for line in stream or ():
        lines.append(line)
        if line.rstrip() == "}":
            return json.loads("".join(lines))
    return None


def register(site: Site, simulated: "SimulatedNight") -> None:
    """Register or update the night; if all its runs are done already, start one more."""
    from deployments.events import registry
    from deployments.events.decisions import nights_to_do
    from deployments.server.server import server_for
    from imaging.io.skymaps import read_skymap

    settings = simulated.settings
    registry.register_night(
        site,
        settings.night,
        event=settings.event,
        skymap=simulated.skymap,
        exposures=simulated.exposure_list,
        check_skymap=read_skymap,
        update=True,
    )
    if settings.night not in nights_to_do(site):
        with server_for(site):
            from prefect.deployments import run_deployment

            run_deployment(f"{NIGHT_FLOW}/{NIGHT_FLOW}", parameters={"night": settings.night}, timeout=0)


def wait_for_run(
    site: Site, api_url: str, night: int, display: Display, *, not_run: str | None = None
) -> dict[str, Any]:
    """Wait until the run of the night has finished; show its progress.

    Parameters
    ----------
    site, api_url, night
        Site, server and night of the run.
    display
        Whether to show bars.
    not_run
        Identity of an earlier run to ignore.

    Raises
    ------
    StorageError
        If no run starts.
    """
    from deployments.cli.running import bars

    began = time.monotonic()
    shown: dict[str, Any] = {}
    progress = bars() if sys.stderr.isatty() and not display.json else None
    try:
        if progress:
            progress.start()
        while True:
            run = latest_run(api_url)
            if run is not None and run["id"] == not_run:
                run = None
            if run is None and time.monotonic() - began > START_TIMEOUT_S:
                raise StorageError("no run has started", limit=f"{START_TIMEOUT_S:g} s", remedy="see serve.log")
            if progress:
                show_progress(progress, shown, site, night)
            if run is not None and run["state_type"] in FINAL:
                return run
            time.sleep(LOOK_S)
    finally:
        if progress:
            progress.stop()


def latest_run(api_url: str) -> dict[str, Any] | None:
    """Return the latest run of a night from the server; None if there is none."""
    question = {"flows": {"name": {"any_": [NIGHT_FLOW]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 1}
    runs = ask_server(api_url, "flow_runs/filter", question, timeout_s=30)
    return runs[0] if runs else None


def show_progress(progress: Any, shown: dict[str, Any], site: Site, night: int) -> None:  # noqa: ANN401
    """Show the number of CCDs done by each step."""
    from deployments.checks.status import site_status

    status = site_status(site, night)
    for step in status.steps:
        done = sum(s.done.get(step, 0) for s in status.subjects)
        failed = sum(s.n_failed.get(step, 0) for s in status.subjects)
        if step not in shown:
            shown[step] = progress.add_task(step, total=None)
        text = f"{step} ({failed} failed)" if failed else step
        progress.update(shown[step], completed=done, total=max(done, 1), description=text)


def report(
    site: Site, simulated: "SimulatedNight", run: dict[str, Any], seconds: dict[str, float], server: str
) -> Answer:
    """Compare the results with the truth."""
    from deployments.products.compare_with_truth import ccd_figures, completeness, kilonova_rank, stage_costs
    from deployments.reports.candidates import candidate_table, read_candidates

    night = simulated.settings.night
    expnums = [exposure.expnum for exposure in simulated.exposures]
    rows = read_candidates(site, night) if candidate_table(site, night).is_file() else []
    code = FINAL[run["state_type"]]
    if code is ExitCode.COMPLETE and run["state_name"] != "Completed":
        code = ExitCode.MISSING
    document = {
        "command": "demo",
        "state": run["state_name"],
        "message": (run.get("state") or {}).get("message"),
        "server": server,
        "serve_again": f"gw-workflow serve --site {site.root} --port {server.rpartition(':')[2]}",
        "seconds": seconds,
        "ccds": ccd_figures(site, expnums),
        "completeness": completeness(site, expnums),
        "n_candidates": len(rows),
        "kilonova_rank": kilonova_rank(site, rows),
        "stages": stage_costs(site, [*map(str, expnums), f"night-{night}"]),
        "candidates": rows[:20],
    }
    return Answer(document, report_lines(document), code)


def report_lines(document: dict[str, Any]) -> list[str]:
    """Return the results as text."""
    columns = ("rank", "candidate_id", "ra", "dec", "n_detections", "mag_first", "mag_last", "rank_score")
    figures = ("expnum", "ccd", "astrometry_rms_mas", "zeropoint_error_mmag", "difference_noise_width", "n_detections")
    stages = ("step", "n", "cpu_s", "longest_s", "peak_memory_mb")
    found = document["kilonova_rank"]
    return [
        *table_lines(columns, [[row[name] for name in columns] for row in document["candidates"][:10]]),
        "",
        f"the kilonova has rank {found}" if found else "the kilonova was NOT found",
        "",
        *table_lines(figures, [[row[name] for name in figures] for row in document["ccds"]]),
        "",
        *table_lines(stages, [[row[name] for name in stages] for row in document["stages"]]),
        "",
        "; ".join(f"{name.removesuffix('_s')} {seconds:.0f} s" for name, seconds in document["seconds"].items()),
        f"{document['state']}: {document['message'] or ''}",
        f"to see the runs at {document['server']}: {document['serve_again']}",
    ]


def simulate(
    directory: Annotated[Path, Parameter(help="Output folder.")],
    /,
    *,
    preset: Annotated[Literal["demo", "full"], Parameter(name="--preset", help="4 CCDs, or all 62.")] = "demo",
    seed: Seed = None,
    sky: Sky = "easy",
    low_latitude: Annotated[
        bool, Parameter(name="--low-latitude", negative=(), help="Patchy dust in front of the field.")
    ] = False,
    ccds: Ccds = None,
    bands: Annotated[str | None, Parameter(name="--bands", help="Bands such as g,i,z.")] = None,
    night: Annotated[int | None, Parameter(name=["--night", "-n"], help="Night, YYYYMMDD.")] = None,
    search_exposures: Annotated[
        int | None, Parameter(name="--search-exposures", help="Exposures of the night, per band.")
    ] = None,
    template_epochs: Annotated[
        int | None, Parameter(name="--template-epochs", help="Earlier exposures, per band.")
    ] = None,
    processes: Annotated[
        int | None, Parameter(name="--processes", help="Number of processes; default: one per core.")
    ] = None,
    display: Display = DEFAULT_DISPLAY,
) -> Answer:
    """Write a simulated night in the observatory's raw format, with calibrations, catalogue and sky map."""
    from imaging.simulation.night import simulate_night

    settings = simulation_settings(
        preset,
        seed=seed,
        sky=sky,
        low_latitude=low_latitude or None,
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
    """Return the settings of a simulation: a preset with changes; None leaves a setting unchanged.

    Raises
    ------
    InputError
        If a setting is invalid.
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
        raise InputError(
            f"invalid setting of the simulation: {name}", value=first["input"], limit=first["msg"]
        ) from error


@contextmanager
def simulation_bars(*, show: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """Show the progress of a simulation on standard error, if that is a terminal."""
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
