"""Many nights of the named skies, each measured once in a process of its own; only what the figures need is kept.

A night is simulated and processed below ``KEEP/unfinished`` and deleted when its figures are saved (some megabytes), so
that a run that was stopped goes on where it ended. A night that other benches keep whole in the same folder is used as
it is.
"""

import multiprocessing
import pickle
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from bench.report import commit
from bench.sky_candidates import CANDIDATES
from bench.sky_cost import COSTS
from bench.sky_difference import DIFFERENCES
from bench.sky_goals import Family
from bench.sky_night import SEED, SkyNight
from bench.sky_single_epoch import SINGLE_EPOCHS
from imaging.simulation.skies import SkyName

FAMILIES: dict[str, Family[Any]] = {
    "single epochs": SINGLE_EPOCHS,
    "differences": DIFFERENCES,
    "candidates": CANDIDATES,
    "cost": COSTS,
}
"""All figures of a night."""

SKIES: tuple[str, ...] = get_args(SkyName)
BANDS = tuple("ugrizY")
SHARPNESS = ("both", "alternating", "usual", "sharper")


@dataclass(frozen=True)
class MeasuredNight:
    """What a night gives.

    Attributes
    ----------
    night
        The night.
    parts
        What it gives to each of :data:`FAMILIES`.
    commit
        Commit of the code that measured it; empty if it failed.
    failure
        Why it has no figures; empty if it has.
    n_failed
        Number of CCDs and exposures that failed in it.
    cpu_s
        CPU seconds of simulation, processing and comparison.
    """

    night: SkyNight
    parts: dict[str, Any]
    commit: str = ""
    failure: str = ""
    n_failed: int = 0
    cpu_s: float = 0.0

    @classmethod
    def missing(cls, night: SkyNight, failure: str) -> "MeasuredNight":
        """Return a night that failed: it should have had what others have."""
        return cls(night, {name: family.absent(night) for name, family in FAMILIES.items()}, failure=failure)


def matrix(
    skies: Sequence[str], bands: Sequence[str], sharpness: str, ccds: tuple[int, ...], seed: int = SEED, nights: int = 1
) -> list[SkyNight]:
    """Return nights of all skies and bands, one sky after the other in each band.

    Parameters
    ----------
    skies, bands
        Names of skies and bands.
    sharpness
        One of :data:`SHARPNESS`: nights with the usual seeing and nights with a search sharper than the templates;
        both in turn from sky to sky and band to band; or only one of them.
    ccds
        Their CCDs.
    seed
        Seed to which each combination adds its number, the same whatever else is asked for.
    nights
        Number of nights of each combination; their seeds differ by 100.
    """
    found = []
    for number in range(nights):
        for band in bands:
            for sky in skies:
                column, row = BANDS.index(band), SKIES.index(sky)
                turn = {"both": (False, True), "usual": (False,), "sharper": (True,)}
                for sharp in turn.get(sharpness, (bool((column + row) % 2),)):
                    own = seed + 100 * number + 2 * (len(BANDS) * row + column) + sharp
                    found.append(SkyNight(Path(), sky, band, sharp, own, ccds))
    return found


def measure_night(night: SkyNight, keep: Path) -> None:
    """Process a night below ``KEEP/unfinished``, unless the folder holds it whole, and save its figures."""
    start, whole = time.process_time(), replace(night, root=keep / night.name)
    if not whole.is_processed:
        whole = replace(night, root=_scratch(night, keep))
        shutil.rmtree(whole.root, ignore_errors=True)
    whole.process(keep)
    parts = {name: family.collect(whole) for name, family in FAMILIES.items()}
    n_failed = len((whole.root / "failures.txt").read_text(encoding="utf-8").splitlines())
    found = MeasuredNight(night, parts, commit(), n_failed=n_failed, cpu_s=time.process_time() - start)
    path = saved_path(night, keep)
    path.with_suffix(".part").write_bytes(pickle.dumps(found))
    path.with_suffix(".part").replace(path)


def _scratch(night: SkyNight, keep: Path) -> Path:
    return keep / "unfinished" / night.name


def saved_path(night: SkyNight, keep: Path) -> Path:
    """Return the file of a night's figures."""
    return keep / f"{night.name}.pickle"


def measured_nights(nights: Iterable[SkyNight], keep: Path, processes: int) -> Iterator[MeasuredNight]:
    """Yield the figures of nights as they are ready, the saved ones first; failed nights too.

    Ctrl-C and SIGTERM end the running nights and delete what they have written; then KeyboardInterrupt is raised.

    Parameters
    ----------
    nights
        The nights.
    keep
        Folder of saved figures.
    processes
        Number of nights that are processed at a time, each in a new process; none with 0.
    """
    keep.mkdir(parents=True, exist_ok=True)
    waiting = []
    for night in nights:
        if saved_path(night, keep).is_file():
            yield _saved(night, keep)
        else:
            waiting.append(night)
    running: dict[Future[None], tuple[SkyNight, ProcessPoolExecutor]] = {}
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while processes and (waiting or running):
            while waiting and len(running) < processes:
                night = waiting.pop(0)
                sys.stderr.write(f"{title_of(night)}: started\n")
                context = multiprocessing.get_context("spawn")
                pool = ProcessPoolExecutor(1, context, signal.signal, (signal.SIGINT, signal.SIG_IGN))
                running[pool.submit(measure_night, night, keep)] = night, pool
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                night, pool = running.pop(future)
                pool.shutdown()
                shutil.rmtree(_scratch(night, keep), ignore_errors=True)
                yield _ended(night, future, keep)
    finally:
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
        for night, _ in running.values():
            shutil.rmtree(_scratch(night, keep), ignore_errors=True)
        signal.signal(signal.SIGTERM, before)


def _ended(night: SkyNight, future: "Future[None]", keep: Path) -> MeasuredNight:
    error = future.exception()
    if error is None:
        return _saved(night, keep)
    traceback.print_exception(error)
    return MeasuredNight.missing(night, f"{type(error).__name__}: {error}")


def _saved(night: SkyNight, keep: Path) -> MeasuredNight:
    found = pickle.loads(saved_path(night, keep).read_bytes())
    if not isinstance(found, MeasuredNight) or found.night != night:
        raise TypeError(f"{saved_path(night, keep)} does not hold the figures of this night; remove it")
    return found


def title_of(night: SkyNight) -> str:
    """Return what names a night among all."""
    return f"{night.label}, seed {night.seed}"
