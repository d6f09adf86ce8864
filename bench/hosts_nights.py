"""The nights of ``bench.hosts``: a simulated one, and one of trivial steps that counts every execution."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bench import storm_steps
from bench.served_hosts import COMMAND
from bench.storm_night import CCDS, Records, products_of, registered_copy
from blocks.site import Site
from imaging.simulation.night import SimulatedNight, simulate_night
from imaging.simulation.settings import demo_settings
from tasks.engine.jobs import ExitCode

EXPOSURES, TRIVIAL_CCDS = (1, 2, 3, 4), (1, 2, 3, 4, 5, 6)

PAUSE_S = 2.0
"""Duration of a trivial step, seconds."""


@dataclass
class RealNight:
    """A simulated night of four exposures, from raw files to the ranked list.

    Attributes
    ----------
    simulated
        The raw night.
    site
        Site of this run.
    expected
        Name to content hash of each product of an undisturbed run.
    n_steps
        Number of its steps.
    """

    simulated: SimulatedNight
    site: Site
    expected: dict[str, str]
    n_steps: int
    records: Records = field(init=False)

    def __post_init__(self) -> None:
        """Watch the records."""
        self.records = Records(self.site)

    @classmethod
    def of(cls, folder: Path, play: Callable[[Self], Any]) -> Self:
        """Simulate a night and play it undisturbed.

        Raises
        ------
        RuntimeError
            If it does not complete.
        """
        simulated = simulate_night(
            folder / "lender", demo_settings(ccds=CCDS, n_search_exposures=2, n_template_epochs=2)
        )
        calm = cls(simulated, registered_copy(simulated, folder / "calm")[0], {}, 0)
        played = play(calm)
        if played.said:
            raise RuntimeError(f"the undisturbed night: {played.said}")
        sys.stderr.write(f"undisturbed: {calm.n_done()} steps in {played.wall_s:.0f} s\n")
        return cls(simulated, calm.site, products_of(calm.site), calm.n_done())

    def copied(self, root: Path) -> Self:
        """Return the same night for another run."""
        return type(self)(self.simulated, registered_copy(self.simulated, root)[0], self.expected, self.n_steps)

    @property
    def command(self) -> list[str]:
        """The command that processes it."""
        return [*COMMAND, "night", str(self.simulated.settings.night), "--site", str(self.site.root), "--json"]

    def n_done(self) -> int:
        """Return the number of finished steps."""
        self.records.look()
        return len(self.records.seen)

    def n_again(self) -> int:
        """Return the number of steps that ran again although they had finished."""
        self.records.look()
        return len(self.records.redone)

    def differing(self) -> list[str]:
        """Return the products that are missing, additional or different."""
        return _differing(self.expected, products_of(self.site))


@dataclass
class TrivialNight:
    """Four exposures of trivial steps, one after the other.

    Attributes
    ----------
    site
        Site of this run.
    expected
        Name to content hash of each product.
    """

    site: Site
    expected: dict[str, str]

    n_steps = len(EXPOSURES) * (2 * len(TRIVIAL_CCDS) + 2)
    """Number of steps."""

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Run the steps as plain functions."""
        site = Site.at(folder / "calm")
        expected: dict[str, str] = {}
        for expnum in EXPOSURES:
            expected |= storm_steps.expected_products(site, expnum, TRIVIAL_CCDS)
        return cls(site, expected)

    def copied(self, root: Path) -> Self:
        """Return the same night for another run."""
        root.mkdir(parents=True)
        return type(self)(Site.at(root), self.expected)

    @property
    def command(self) -> list[str]:
        """The command that processes it."""
        program = "import sys; from bench.hosts_nights import play_trivial_night as play; play(sys.argv[1])"
        return [sys.executable, "-c", program, str(self.site.root)]

    def _executed(self) -> list[str]:
        path = self.site.root / storm_steps.EXECUTIONS
        return path.read_text().splitlines() if path.exists() else []

    def n_done(self) -> int:
        """Return the number of different steps that have begun."""
        return len(set(self._executed()))

    def n_again(self) -> int:
        """Return the number of steps that ran again."""
        return len(self._executed()) - self.n_done()

    def differing(self) -> list[str]:
        """Return the products that are missing, additional or different."""
        found: dict[str, str] = {}
        for expnum in EXPOSURES:
            found |= storm_steps.products_of(self.site, expnum)
        return _differing(self.expected, found)


def play_trivial_night(root: str) -> None:
    """Process the exposures; exit with 0 if all steps succeeded."""
    from deployments.cli.running import quiet_console
    from deployments.server.server import server_for

    quiet_console(verbose=False)
    with server_for(Site.at(root)):
        for expnum in EXPOSURES:
            state = storm_steps.storm_exposure(root, expnum, TRIVIAL_CCDS, return_state=True)
            if not (state.is_completed() and state.result()):
                sys.stdout.write(f"exposure {expnum}: {state.name}: {state.message}\n")
                sys.exit(ExitCode.FAILED)


def _differing(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
