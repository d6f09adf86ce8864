"""A small but complete night, from raw exposures to the ranked list, for tests with random kills."""

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from bench.storm import Prey, Storm, finish_under_fire, workers_of
from blocks.nights import RegisteredNight
from blocks.site import Site
from deployments.events.registry import register_night
from imaging.io.atomic import content_hash
from imaging.io.skymaps import read_skymap
from imaging.simulation.night import SimulatedNight, simulate_night
from imaging.simulation.settings import demo_settings

CCDS = (27, 34)
"""Neighbouring CCDs, one of which contains the kilonova."""

N_WORKERS = 2

CALM_S = (0.3, 6.0)
"""Range of the time between two kills, seconds; a CCD's step takes one to five seconds on an idle core."""


@dataclass
class Records:
    """The step records of a site at their first appearance.

    Attributes
    ----------
    site
        The site.
    seen
        Name of a record to its modification time.
    redone
        Records that were written again, although their steps had finished.
    """

    site: Site
    seen: dict[str, int] = field(default_factory=dict)
    redone: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Compare the records with those seen before."""
        for path in self.site.records.glob("*/*.json"):
            try:
                written = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
            name = path.relative_to(self.site.records).as_posix()
            if self.seen.setdefault(name, written) != written:
                self.redone.append(name)
                self.seen[name] = written


def simulate_small_night(root: Path) -> SimulatedNight:
    """Simulate one search exposure and one template of two CCDs."""
    return simulate_night(root, demo_settings(ccds=CCDS, n_search_exposures=1, n_template_epochs=1))


def registered_copy(night: SimulatedNight, root: Path) -> tuple[Site, RegisteredNight]:
    """Create a site with the raw exposures and calibrations of a simulated night, and register the night."""
    lender, site = Site.at(night.root), Site.at(root)
    for folder in ("raw", "calibrations", "reference"):
        target = site.root / folder
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(lender.root / folder)
    registration = register_night(
        site,
        night.settings.night,
        event=night.settings.event,
        skymap=night.skymap,
        exposures=night.exposure_list,
        check_skymap=read_skymap,
    )
    return site, registration.night


def products_of(site: Site) -> dict[str, str]:
    """Return name to content hash of each product, without temporary files of killed writers."""
    files = (path for path in sorted(site.store.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(site.store).as_posix(): content_hash(path) for path in files}


def prey_in(site: Site, night: int, records: Records, calm_s: tuple[float, float] = CALM_S) -> Prey:
    """Return the run of the command that processes a night."""
    words = ("night", str(night), "--site", str(site.root), "--workers", str(N_WORKERS), "--json")
    return Prey(
        site,
        ("deployments.cli.main", *words),
        {"OMP_NUM_THREADS": "1"},
        lambda process: bool(workers_of(process)),
        records.look,
        calm_s,
    )


def storm_over_nights(
    root: Path, n_kills: int, *, seed: int, kills_per_night: int = 25, calm_s: tuple[float, float] = CALM_S
) -> Storm:
    """Process the night repeatedly with random kills, until ``n_kills``; compare it with an undisturbed one.

    Parameters
    ----------
    root
        Working folder.
    n_kills
        Total number of kills.
    seed
        Seed of victims and times.
    kills_per_night
        Kills after which a night is left to finish.
    calm_s
        Range of the time between two kills, seconds.

    Raises
    ------
    TimeoutError
        If a process hangs.
    """
    rng = random.Random(seed)
    night = simulate_small_night(root / "lender")
    calm, _ = registered_copy(night, root / "calm")
    finish_under_fire(prey_in(calm, night.settings.night, Records(calm)), 0, rng, Storm())
    expected, needed = products_of(calm), len(list(calm.records.glob("*/*.json")))
    result = Storm()
    while result.kills.total() < n_kills:
        site, _ = registered_copy(night, root / f"storm{result.kills.total():03d}")
        records = Records(site)
        prey = prey_in(site, night.settings.night, records, calm_s)
        finish_under_fire(prey, min(kills_per_night, n_kills - result.kills.total()), rng, result)
        found = products_of(site)
        result.needed += needed
        result.executed += len(records.seen) + len(records.redone)
        result.redone += len(records.redone)
        result.differing += sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        shutil.rmtree(site.root, ignore_errors=True)
    return result
