"""Kill workers, flows and servers at random times, and compare the products with those of an undisturbed run.

Two runs are killed (SIGKILL) repeatedly and restarted until they finish: an exposure with trivial steps, so that most
kills hit the orchestration; and a small but complete simulated night, from raw exposures to the ranked list. The
products must be identical, byte for byte, to those of an undisturbed run, and no finished step may run again.
"""

import random
import tempfile
import time
from pathlib import Path

from bench.report import Row, at_least, at_most, main
from bench.storm import VICTIMS, Prey, Storm, finish_under_fire
from bench.storm_night import storm_over_nights
from bench.storm_steps import EXECUTIONS, N_WORKERS, expected_products, products_of
from blocks.site import Site

SEED = 20170817
N_CCDS = 8
PAUSE_S = 0.4
"""Duration of a step, seconds."""

CALM_S = (0.05, 1.0)
"""Range of the time between two kills, seconds, drawn uniformly, from the first step of the process."""


def storm(root: Path, n_kills: int, *, seed: int = SEED, kills_per_exposure: int = 8) -> Storm:
    """Process exposures while killing processes, until a number of kills is reached, and check the products.

    Parameters
    ----------
    root
        Working folder.
    n_kills
        Total number of kills.
    seed
        Seed of victims and times.
    kills_per_exposure
        Kills after which an exposure is left to finish.

    Raises
    ------
    TimeoutError
        If a process hangs.
    """
    rng = random.Random(seed)
    site, quiet = Site.at(root / "storm"), Site.at(root / "calm")
    site.root.mkdir(parents=True)
    result = Storm()
    expnum = 0
    while result.kills.total() < n_kills:
        expnum += 1
        left = min(kills_per_exposure, n_kills - result.kills.total())
        before = _executions(site)
        finish_under_fire(_exposure(site, expnum), left, rng, result)
        result.executed += _executions(site) - before
        expected = expected_products(quiet, expnum, tuple(range(1, N_CCDS + 1)))
        result.needed += 2 * N_CCDS + 2
        found = products_of(site, expnum)
        wrong = {name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)}
        result.differing += sorted(wrong)
    result.redone = max(0, result.executed - result.needed - result.interrupted(N_WORKERS))
    return result


def _exposure(site: Site, expnum: int) -> Prey:
    begun = [_executions(site)]

    def has_begun(process: object) -> bool:  # noqa: ARG001
        return _executions(site) > begun[0]

    def look() -> None:
        begun[0] = _executions(site)

    words = ("bench.storm_steps", str(site.root), str(expnum), str(N_CCDS))
    return Prey(site, words, {"STORM_PAUSE_S": str(PAUSE_S)}, has_begun, look, CALM_S)


def _executions(site: Site) -> int:
    path = site.root / EXECUTIONS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def rows_of(what: str, result: Storm, wanted: int, seconds: float) -> list[Row]:
    """Return the rows of a test."""
    n, seeds, again = result.needed, (SEED,), result.executed - result.needed
    return [
        at_least(f"{what}: kills", result.kills.total(), "", wanted, n=result.starts, seeds=seeds),
        *(Row(f"{what}: kills, {victim}", result.kills[victim], "") for victim in VICTIMS),
        at_most(f"{what}: products that differ", len(result.differing), "", 0, n=n, seeds=seeds),
        at_most(f"{what}: finished steps that ran again", result.redone, "", 0, n=n, seeds=seeds),
        Row(f"{what}: interrupted steps that ran again", again, "", n=n, seeds=seeds),
        Row(f"{what}: processes started", result.starts, ""),
        Row(f"{what}: wall", seconds, "s"),
    ]


def measure(quick: bool) -> list[Row]:
    """Run both tests."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        wanted = 10 if quick else 200
        began = time.perf_counter()
        result = storm(Path(folder) / "steps", wanted)
        rows += rows_of("steps", result, wanted, time.perf_counter() - began)
        wanted = 3 if quick else 200
        began = time.perf_counter()
        result = storm_over_nights(Path(folder) / "night", wanted, seed=SEED)
        rows += rows_of("night", result, wanted, time.perf_counter() - began)
    return rows


if __name__ == "__main__":
    main("Chaos: SIGKILL of workers, flows and servers", measure)
