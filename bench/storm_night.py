"""A small but complete night, from raw exposures to the ranked list, that can be killed at any instant."""

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
"""Neighbours, on one of which the kilonova lies."""

N_WORKERS = 2

CALM_S = (0.3, 6.0)
"""Between two kills; a CCD's step takes one to five seconds on an idle core."""


@dataclass
class Records:
    """The step records of a site, as they were when they were first seen.

    Attributes
    ----------
    site
        The site.
    seen
        Name of a record to the time at which it was written.
    redone
        Records that were written again: their steps were finished, and yet done once more.
    """

    site: Site
    seen: dict[str, int] = field(default_factory=dict)
    redone: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Compare what is there with what was seen before."""
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
    """Make a site with the raw exposures and calibrations of a simulated night, and register the night there."""
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
    """Return the name of each product and its content's hash; halves of killed writers are none."""
    files = (path for path in sorted(site.store.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(site.store).as_posix(): content_hash(path) for path in files}


def prey_in(site: Site, night: int, records: Records, calm_s: tuple[float, float] = CALM_S) -> Prey:
    """Return the command that processes a night, as something to be killed."""
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
    """Process the night under fire again and again until so many kills have fallen; hold it against a calm one.

    Parameters
    ----------
    root
        Folder to work in.
    n_kills
        Kills, all together.
    seed
        Seed of victims and instants.
    kills_per_night
        After so many kills a night is left in peace to be finished.
    calm_s
        Seconds between two kills.

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
