"""Kill workers, flows and servers at random instants, and see whether the night comes out the same.

Two things are killed (SIGKILL), again and again, and started again when they have ended without having finished, as a
person or a restarted service would: an exposure whose steps do next to nothing, so that most kills fall on the
orchestration; and a small but complete simulated night, from raw exposures to the ranked list. In the end the products
must be, byte by byte, those of a run that nobody has killed, and nothing that was finished may have been done again.
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
"""Seconds that a step works."""

CALM_S = (0.05, 1.0)
"""Between two kills, drawn evenly, counted from the first step of the process."""


def storm(root: Path, n_kills: int, *, seed: int = SEED, kills_per_exposure: int = 8) -> Storm:
    """Process exposures under fire until so many kills have fallen, and check what comes out.

    Parameters
    ----------
    root
        Folder to work in.
    n_kills
        Kills, all together.
    seed
        Seed of victims and instants.
    kills_per_exposure
        After so many kills an exposure is left in peace to be finished.

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
    """Return what a storm has shown."""
    n, seeds, again = result.needed, (SEED,), result.executed - result.needed
    return [
        at_least(f"{what}: kills", result.kills.total(), "", wanted, n=result.starts, seeds=seeds),
        *(Row(f"{what}: kills, {victim}", result.kills[victim], "") for victim in VICTIMS),
        at_most(f"{what}: products that differ from those in calm", len(result.differing), "", 0, n=n, seeds=seeds),
        at_most(f"{what}: finished steps done again", result.redone, "", 0, n=n, seeds=seeds),
        Row(f"{what}: steps done more often than in calm", again, "", n=n, seeds=seeds),
        Row(f"{what}: processes started", result.starts, ""),
        Row(f"{what}: wall", seconds, "s"),
    ]


def measure(quick: bool) -> list[Row]:
    """Raise both storms."""
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
