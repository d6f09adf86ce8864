"""A real exposure from raw file to ranked list: wall clock, CPU by stage, orchestration, memory and bytes.

``python -m bench.exposure [--ccds N] [--templates N] [--folder FOLDER] [--json]``: simulates a search exposure with
its templates (``gw-workflow simulate --preset full``: 61 CCDs worked that night), registers the night and runs
``gw-workflow night`` with the site's own server. ``--ccds 2`` takes the first two CCDs; limits per CCD stay, and the
peak on the disk is scaled to all CCDs. What the compression of images costs is measured in pairs: the same planes are
written and read plain and packed, as often as the steps do.
"""

import argparse
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import process_time

from bench.orchestration import Cost, run_night, server_process
from bench.report import Row, at_most, print_report
from blocks.nights import RegisteredNight
from blocks.site import Site
from deployments.events.registry import register_night
from deployments.maintenance.step_records import timing_table
from deployments.server.server import server_for
from imaging.detector.status import working_ccds
from imaging.io.images import STEP, read_header, read_planes, write_planes
from imaging.io.skymaps import read_skymap
from imaging.simulation.night import simulate_night
from imaging.simulation.settings import SimulationSettings
from tasks.steps import STEPS

FULL_CCDS = 61

KEPT_GB, KEPT_WITH_DIFFERENCE_GB = 1.3, 2.2
"""What an exposure of 61 CCDs may leave."""

PEAK_GB = 5.0
"""What may lie on the disk beyond what is kept."""

PACKING_CPU_S = 3.0
"""Largest CPU time of the compression of a CCD and its difference."""

ALL = ("SCI", "MSK", "WGT")

PASSING = (("immask.fits", ("SCI", "MSK")), ("immask.fits", ALL))
"""Planes of the detrended and of the measured image, which are removed; the final image stands for them."""

FINAL = ("immask.fits", ALL)
"""The final image, which a search reads with those of its templates."""

SEARCHED = (("diff.fits", ALL), ("template.fits", ("FLX",)))
"""Images of a difference, which the forced photometry reads."""

ORCHESTRATION_PERCENT = 5.0

LOOK_S = 2.0
"""Seconds between two looks at the size of the products."""


def measure(root: Path, n_ccds: int, n_templates: int) -> list[Row]:
    """Simulate, process and measure one search exposure and its templates.

    Parameters
    ----------
    root
        Folder of the site.
    n_ccds, n_templates
        CCDs of each exposure, and templates.
    """
    settings = SimulationSettings(n_search_exposures=1, n_template_epochs=n_templates)
    settings = settings.with_values(ccds=working_ccds(settings.night)[:n_ccds], bands=("i",))
    site, simulated = Site.at(root), simulate_night(root, settings)
    registered: RegisteredNight = register_night(
        site,
        settings.night,
        event=settings.event,
        skymap=simulated.skymap,
        exposures=simulated.exposure_list,
        check_skymap=read_skymap,
        update=True,
    ).night
    with server_for(site):
        server = server_process(site)
        before = server.cpu_times()
        with peak_of(site.products) as peak:
            cost = run_night(site, settings.night)
        after = server.cpu_times()
        cost.server_cpu_s = after.user + after.system - before.user - before.system
    record = registered.record
    return rows_of(site, cost, peak[0], record.exposures[0], record.templates, n_ccds)


def rows_of(site: Site, cost: Cost, peak_bytes: int, search: int, templates: Sequence[int], n_ccds: int) -> list[Row]:
    """Return the rows: time and CPU, by stage and step; memory; bytes.

    Parameters
    ----------
    site
        The processed site.
    cost
        Cost of the command and of the server.
    peak_bytes
        Largest size of the products meanwhile.
    search, templates
        Numbers of the exposures.
    n_ccds
        CCDs of each.
    """
    share = n_ccds / FULL_CCDS
    steps = timing_table(site).to_pylist()
    by_step = {name: [row for row in steps if row["step"] == name] for name in STEPS}
    rows = [Row("wall clock of gw-workflow night", cost.wall_s, "s"), Row("CPU of all processes", cost.cpu_s, "CPU s")]
    for stage in dict.fromkeys(info.stage for info in STEPS.values()):
        spent = [row["cpu_s"] for info in STEPS.values() if info.stage == stage for row in by_step[info.name]]
        if spent:
            rows.append(Row(f"  stage {stage}", sum(spent), "CPU s", n=len(spent)))
    science = sum(row["cpu_s"] for row in steps)
    percent = 100.0 * (cost.cpu_s - science) / cost.cpu_s
    rows.append(at_most("orchestration, share of all CPU", percent, "%", ORCHESTRATION_PERCENT))
    rows.append(Row("  of the server", cost.server_cpu_s, "CPU s"))
    rows.append(Row("  of the command and its workers, start included", cost.flow_cpu_s - science, "CPU s"))
    rows.append(Row("the same, per CCD and exposure", (cost.cpu_s - science) / n_ccds / (1 + len(templates)), "CPU s"))
    rows += packing_rows(site, search, len(templates), science / n_ccds)
    rows.append(Row("peak memory of a step", max(row["peak_memory_mb"] for row in steps), "MB", n=len(steps)))
    kept = {number: size_of(site, number) / 1e9 for number in (search, *templates)}
    rows.append(at_most("kept of the search exposure", kept[search], "GB", KEPT_WITH_DIFFERENCE_GB * share))
    largest = max((kept[number] for number in templates), default=None)
    rows.append(at_most("kept of a template, largest", largest, "GB", KEPT_GB * share, n=len(templates)))
    beyond = peak_bytes / 1e9 - sum(kept.values())
    rows.append(Row("peak beyond what is kept", beyond, "GB"))
    rows.append(at_most(f"the same, scaled to exposures of {FULL_CCDS} CCDs", beyond / share, "GB", PEAK_GB))
    return rows


def packing_rows(site: Site, search: int, n_templates: int, science_s: float) -> list[Row]:
    """Return the rows of the compression of images, from those of a CCD of the search exposure; none without them.

    Parameters
    ----------
    site, search
        The processed site, and the number of the search exposure.
    n_templates
        Templates of the CCD, which have been written and are read by the search.
    science_s
        CPU seconds of all steps for this CCD, with its templates.
    """
    found = {
        name: sorted(site.products.glob(f"*/exp/*/{search}/**/*_{name}")) for name, _ in (*PASSING, FINAL, *SEARCHED)
    }
    if not all(found.values()):
        return []
    own = sum(extra_cpu_s(found[name][0], planes, 1) for name, planes in PASSING)
    written, read = (extra_cpu_s(found[FINAL[0]][0], FINAL[1], n_reads) for n_reads in (0, 1))
    searched = sum(extra_cpu_s(found[name][0], planes, 1) for name, planes in SEARCHED)
    one = own + written + (1 + n_templates) * (read - written) + searched
    everything = one + n_templates * (own + written)
    return [
        at_most("compression of a CCD with its difference, beyond plain files", one, "CPU s", PACKING_CPU_S),
        Row("delay of the list by it, all cores busy", 100.0 * everything / (science_s - everything), "%"),
    ]


def extra_cpu_s(path: Path, names: Sequence[str], n_reads: int) -> float:
    """Return the CPU seconds beyond those of a plain file of writing planes packed and reading them, least of three."""
    planes, header = read_planes(path, names)
    steps = {name: read_header(path, name).get(STEP) for name in names}
    seconds = {}
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        for pack in (False, True):
            took = []
            for _ in range(3):
                began = process_time()
                write_planes(Path(folder) / "x.fits", planes, header, pack=pack, steps=steps)
                for _ in range(n_reads):
                    read_planes(Path(folder) / "x.fits", names)
                took.append(process_time() - began)
            seconds[pack] = min(took)
    return seconds[True] - seconds[False]


def size_of(site: Site, expnum: int) -> int:
    """Return the bytes of an exposure's products."""
    return sum(bytes_below(folder) for folder in site.products.glob(f"*/exp/*/{expnum}"))


def bytes_below(folder: Path) -> int:
    """Return the bytes of all files below a folder, of which some may vanish meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        total += status.st_size if path.is_file() else 0
    return total


@contextmanager
def peak_of(folder: Path) -> Iterator[list[int]]:
    """Watch the size of a folder inside the ``with`` block; yield a list whose element is the largest, bytes."""
    stopped, peak = threading.Event(), [0]

    def watch() -> None:
        while not stopped.wait(LOOK_S):
            peak[0] = max(peak[0], bytes_below(folder))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stopped.set()
        watcher.join()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="A real exposure")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--ccds", type=int, default=FULL_CCDS, help="CCDs of each exposure")
    parser.add_argument("--templates", type=int, default=3, help="templates")
    parser.add_argument("--folder", type=Path, help="folder of the site, kept; default: a temporary one")
    options = parser.parse_args(arguments)
    if options.folder is None:
        with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as folder:
            rows = measure(Path(folder), options.ccds, options.templates)
    else:
        rows = measure(options.folder, options.ccds, options.templates)
    print_report(rows, as_json=options.json, title="A real exposure")


if __name__ == "__main__":
    main()
