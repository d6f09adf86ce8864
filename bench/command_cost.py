"""What a command costs: a CCD or a night processed anew, with nothing to do, a difference of two images of a CCD.

``python -m bench.command_cost [--json] [--quick] [--only NAME] [--against FOLDER]`` on a simulated exposure, its
template and a night of both, one CCD each, on a site whose server does not run; compiled kernels exist after the first
commands. CPU time is that of the command, of a server that it starts and of all their processes, the least of three
(quick: of one). ``--against`` names another checkout, such as one of an earlier commit: its commands run in turn with
those of this one, each on a site of its own, because the speed of a machine changes from hour to hour. Linux only: the
server outlives the command, and its CPU time is counted by adopting it.
"""

import argparse
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.foreign_files import Final, write_community_pipeline
from bench.report import Row, at_most, print_report
from imaging.simulation.exposures import SimulatedExposure
from imaging.simulation.night import SimulatedNight, simulate_night
from imaging.simulation.settings import demo_settings

CCD = 27

TIMES = 3

PROCESS_CPU_S, NOTHING_CPU_S, DIFFERENCE_CPU_S = 15.0, 4.0, 12.0
"""Largest CPU times of a command that processes a CCD, of one with nothing to do, and of a difference of two images."""

PR_SET_CHILD_SUBREAPER = 36
"""Option of ``prctl``: processes whose parents have ended become children of this one."""

ROOT = Path(__file__).resolve().parents[1]

Words = Sequence[object]


def cpu_of(words: Words, checkout: Path = ROOT) -> float:
    """Run a command; return the CPU seconds of all processes that it has started, those that outlive it included.

    Raises
    ------
    CalledProcessError
        If it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program = [sys.executable, "-m", "deployments.cli.main"]
    subprocess.run([*program, *map(str, words)], check=True, capture_output=True, cwd=checkout)
    while True:  # the server ends a second after its last user
        try:
            os.wait()
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Compared:
    """One or two checkouts, each with a site of its own, whose commands run in turn."""

    def __init__(self, folder: Path, checkouts: Sequence[Path], times: int) -> None:
        self.times = times
        self.rows: list[Row] = []
        self._sites = {
            checkout: simulate_night(
                folder / str(number), demo_settings(ccds=(CCD,), n_search_exposures=1, n_template_epochs=1)
            )
            for number, checkout in enumerate(checkouts)
        }

    def sites(self) -> list[SimulatedNight]:
        """Return the sites, that of this checkout first."""
        return list(self._sites.values())

    def measure(self, name: str, words: Words, limit: float | None = None, *, times: int | None = None) -> None:
        """Add the least CPU time of a command; ``SITE`` in it stands for the folder of the site."""
        n = times or self.times
        spent: dict[Path, list[float]] = {checkout: [] for checkout in self._sites}
        for _ in range(n):
            for checkout, simulated in self._sites.items():
                here = [str(word).replace("SITE", str(simulated.root)) for word in words]
                spent[checkout].append(cpu_of(here, checkout))
        best = [min(values) for values in spent.values()]
        own = Row(name, best[0], "CPU s", n=n) if limit is None else at_most(name, best[0], "CPU s", limit, n=n)
        self.rows += [own, *(Row(f"{name}: the other checkout", value, "CPU s", n=n) for value in best[1:])]


def single_epoch(compared: Compared, exposure: SimulatedExposure) -> None:
    """Measure the command for one CCD of an exposure."""
    options = {"-E": exposure.expnum, "-b": exposure.band, "-n": exposure.night, "-r": 1, "-p": 1, "-S": 1, "-c": CCD}
    words = ["single-epoch", "-C", "--site", "SITE", *(word for option in options.items() for word in option)]
    what = "single-epoch -C of one CCD"
    compared.measure(f"{what}, on a new site", words, times=1)
    compared.measure(f"{what}, processed anew", [*words, "-O"], PROCESS_CPU_S)
    compared.measure(f"{what}, nothing to do", words, NOTHING_CPU_S)


def night(compared: Compared, exposure: SimulatedExposure) -> None:
    """Measure the night of one search exposure and one template."""
    files = {"--skymap": "SITE/skymap.multiorder.fits", "--exposures": "SITE/exposures.csv", "--event": "bench"}
    words = ["night", exposure.night, "--site", "SITE"]
    what = "night of two exposures of one CCD"
    given = [word for option in files.items() for word in option]
    compared.measure(f"{what}, on a new site", [*words, *given], times=1)
    compared.measure(f"{what}, nothing to do", words, NOTHING_CPU_S)


def difference_images(compared: Compared) -> None:
    """Measure the difference of the final images of the night, written as the Community Pipeline would."""
    for simulated in compared.sites():
        finals = sorted((simulated.root / "products").rglob("*_immask.fits"))
        searched = next(e.expnum for e in simulated.exposures if e.role == "search")
        for path in finals:
            kind = "search" if f"D{searched:08d}" in path.name else "template"
            (simulated.root / kind).mkdir(exist_ok=True)
            written = write_community_pipeline(Final.read(path), simulated.root / kind)
            for part in ("ooi", "ood", "oow"):
                beside = written.with_name(written.name.replace("_ooi_", f"_{part}_"))
                beside.rename(beside.with_name(f"image_{part}_i_v1.fits"))
    images = [f"SITE/{kind}/image_ooi_i_v1.fits" for kind in ("search", "template")]
    words = ["difference-images", *images, "--output", "SITE/difference"]
    compared.measure("difference-images of two images of a CCD", words, DIFFERENCE_CPU_S)


def measure(only: str | None, against: Path | None, times: int) -> list[Row]:
    """Simulate, run the commands, and return their rows."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as folder:
        compared = Compared(Path(folder), [ROOT, *([against.resolve()] if against else [])], times)
        exposure = next(one for one in compared.sites()[0].exposures if one.role == "search")
        if only in (None, "single-epoch"):
            single_epoch(compared, exposure)
        if only in (None, "night", "difference-images"):
            night(compared, exposure)
        if only in (None, "difference-images"):
            difference_images(compared)
        return compared.rows


def main() -> None:
    """Run the bench from the command line."""
    parser = argparse.ArgumentParser(description="The cost of a command")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="measure each command once")
    parser.add_argument("--only", choices=["single-epoch", "night", "difference-images"], help="measure this one")
    parser.add_argument("--against", type=Path, help="another checkout, whose commands run in turn")
    given = parser.parse_args()
    rows = measure(given.only, given.against, 1 if given.quick else TIMES)
    print_report(rows, as_json=given.json, title="The cost of a command")


if __name__ == "__main__":
    main()
