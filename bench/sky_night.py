"""Nights of the named skies, from raw pixels to the ranked list, whose products benches compare with the truth.

The benches that know them take ``--sky NAME``, ``--band``, ``--sharp`` (search sharper than the templates), ``--seed``,
``--nights`` (with successive seeds) and ``--keep FOLDER`` (processed nights are kept there and used again).
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from imaging.simulation.skies import SkyName

if TYPE_CHECKING:
    from bench.plain_night import Cost, PlainNight
    from imaging.simulation.exposures import SimulatedExposure
    from imaging.simulation.scene import Painter

FloatArray = NDArray[np.float64]

SEED = 8300
STEADY = ("star", "galaxy")
"""Kinds of true sources that do not change."""
EXPLODING = ("kilonova", "supernova_ia", "supernova_ii")
"""Kinds of true sources that are new."""
SHARP_SEARCH_ARCSEC, BROAD_TEMPLATE_ARCSEC = (0.8, 0.9), (1.1, 1.3)
"""Ranges of the seeing of a search that is sharper than its templates."""


class Stamp(Protocol):
    """A true point-spread function."""

    def __call__(self, x: float, y: float, half: int, dx: float = 0.0, dy: float = 0.0) -> FloatArray:
        """Return its values around the pixel of (x, y), (2 half + 1, 2 half + 1), for a star at (x + dx, y + dy).

        Its flux in the reference aperture is one, its colour the reference colour.
        """


@dataclass(frozen=True, slots=True)
class SkyNight:
    """A processed night of a named sky: two search exposures and three template epochs in one band.

    Attributes
    ----------
    root
        Folder of its site.
    sky, band, sharp
        Sky, band, and whether the search is sharper than the templates.
    seed
        Seed of the night.
    ccds
        Its CCDs.
    """

    root: Path
    sky: str
    band: str
    sharp: bool
    seed: int
    ccds: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of its folder where nights are kept."""
        drawn = "" if type(self) is SkyNight else f"{type(self).__name__}_"
        return f"{drawn}{self.sky}_{self.band}{'_sharp' if self.sharp else ''}_{len(self.ccds)}ccds_{self.seed}"

    @property
    def is_processed(self) -> bool:
        """Whether it has been processed in its folder."""
        return (self.root / "failures.txt").is_file()

    @property
    def settings(self) -> Any:  # noqa: ANN401
        """Settings of the simulation."""
        from imaging.simulation.settings import SimulationSettings

        seeing = {"search_seeing_arcsec": SHARP_SEARCH_ARCSEC, "template_seeing_arcsec": BROAD_TEMPLATE_ARCSEC}
        given = {"sky": self.sky, "seed": self.seed, "bands": (self.band,), "ccds": self.ccds, "focus_ccds": False}
        return SimulationSettings.model_validate(given | (seeing if self.sharp else {}))

    @property
    def label(self) -> str:
        """Beginning of the names of its rows."""
        return f"{self.sky}, {self.band}{', search sharper' if self.sharp else ''}"

    @property
    def painter(self) -> "type[Painter] | None":
        """What draws its sources; None for the simulator's own."""
        return None

    def true_psf(self, exposure: "SimulatedExposure", ccd: int) -> Stamp:
        """Return the true point-spread function of a CCD of an exposure."""
        from imaging.simulation.psf import true_psf

        def stamp(x: float, y: float, half: int, dx: float = 0.0, dy: float = 0.0) -> FloatArray:
            mixture = true_psf(exposure, ccd, [x], [y])
            offsets = np.arange(-half, half + 1.0)
            right, up = offsets - (x + dx - np.floor(x + 0.5)), offsets - (y + dy - np.floor(y + 0.5))
            return np.asarray(mixture.evaluate(0, right[None, :], up[:, None]) / mixture.aperture_fraction()[0])

        return stamp

    def expnums(self, *, search: bool) -> list[int]:
        """Return the numbers of the search exposures, or of the templates."""
        from imaging.io.exposure_list import read_exposure_list

        rows = read_exposure_list(self.root / "exposures.csv")
        night = self.settings.night
        return [item.exposure.expnum for item in rows if (item.exposure.night == night) == search]

    def planned(self) -> list[int]:
        """Return the numbers of the exposures that the plan of the registered night processes, searches first."""
        from bench.plain_night import PlainNight

        plan = PlainNight.at(self.root).plan(self.settings.night)
        search = [request.expnum for request in plan.search]
        return search + [request.expnum for request in plan.all if request.expnum not in search]

    def product(self, expnum: int, ccd: int, suffix: str) -> Path | None:
        """Return the file of a CCD's product; None if the CCD has failed."""
        from blocks.site import Site

        found = Site.at(self.root).store.glob(f"*/exp/*/{expnum}/**/*_{ccd:02d}_*_{suffix}")
        return next(found, None)

    def run(self, night: "PlainNight") -> None:
        """Run the steps of the simulated and registered night, here to its ranked list."""
        night.process(self.settings.night)

    def process(self, maps: Path | None = None) -> None:
        """Simulate the night and process it, unless that has been done; tell the CCDs that failed.

        Parameters
        ----------
        maps
            Folder in which maps of tree rings and edges, and models of ghosts, are kept; None processes the night
            without them.
        """
        from bench.displacement_maps import give_maps
        from bench.ghost_models import give_ghosts
        from bench.plain_night import PlainNight
        from blocks.site import Site
        from deployments.events.registry import register_night
        from imaging.io.skymaps import read_skymap
        from imaging.simulation.night import simulate_night

        site, settings = Site.at(self.root), self.settings
        if self.is_processed:
            return
        made = simulate_night(self.root, settings, processes=1, painter=self.painter)
        register_night(
            site,
            settings.night,
            event=settings.event,
            skymap=made.skymap,
            exposures=made.exposure_list,
            check_skymap=read_skymap,
            update=True,
        )
        if maps is not None and settings.effects.tree_rings:
            give_maps(site, maps, self.band, self.ccds)
        if maps is not None and settings.effects.ghosts:
            give_ghosts(site, maps, self.band)
        night = PlainNight(site, failures=[])
        self.run(night)
        costs = [asdict(cost) for cost in night.costs]
        (self.root / "costs.json").write_text(json.dumps(costs), encoding="utf-8")
        lines = [f"{error}\n" for error in night.failures or ()]
        (self.root / "failures.txt").write_text("".join(lines), encoding="utf-8")
        sys.stderr.writelines(lines)

    def costs(self) -> "list[Cost]":
        """Return the cost of every step that ran; none of nights that were processed before costs were written."""
        from bench.plain_night import Cost

        path = self.root / "costs.json"
        return [Cost(**item) for item in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a named sky."""
    parser.add_argument("--sky", choices=get_args(SkyName), help="measure nights of this simulated sky instead")
    parser.add_argument("--band", default="i", help="their band")
    parser.add_argument("--sharp", action="store_true", help="with a search sharper than the templates")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the first night")
    parser.add_argument("--nights", type=int, default=1, help="number of nights")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep results in this folder, and reuse them")


def processed_nights(options: argparse.Namespace, kind: type[SkyNight] = SkyNight) -> Iterator[SkyNight]:
    """Yield the nights of the command line, one after the other, each processed; temporary ones vanish afterwards.

    Like a site at work, they have maps of tree rings and edges, and models of ghosts, from exposures of other nights.

    Parameters
    ----------
    options
        Those of :func:`add_options`, and ``quick``.
    kind
        Class of the nights, which says what draws their sources.
    """
    from imaging.simulation.settings import DEMO_CCDS

    ccds = DEMO_CCDS[: 2 if options.quick else 4]

    def folder(stack: ExitStack) -> Path:
        return options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gw-workflow-bench-")))

    with ExitStack() as whole:
        maps = folder(whole)
        for seed in range(options.seed, options.seed + options.nights):
            night = kind(Path(), options.sky, options.band, options.sharp, seed, ccds)
            with ExitStack() as stack:
                night = replace(night, root=folder(stack) / night.name)
                night.process(maps)
                yield night
