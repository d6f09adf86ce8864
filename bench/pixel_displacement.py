"""Coordinates with and without maps of tree rings and edges, on exposures that are not in the maps.

``python -m bench.pixel_displacement [--json] [--quick] [--band BAND] [--keep FOLDER]`` simulates 16 dithered exposures
of two CCDs of a typical sky, processes them, and builds the maps from the twelve earlier ones as
``flows/build_pixel_displacement.py`` does. The four others, and the five exposures of the night of
``bench.single_epoch --sky typical --seed 1 --quick``, are then solved without and with the maps and compared with the
truth. ``--quick`` takes four exposures for the maps and leaves out the second night.
"""

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.displacement_maps import SEED, build_maps, copy_maps, map_settings, process_exposures, without_maps
from bench.plain_night import PlainNight
from bench.report import Row, print_report
from bench.sky_night import SkyNight
from bench.sky_single_epoch import rows_on_sky
from blocks.site import Site
from imaging.identity import ExposureId
from imaging.simulation.settings import DEMO_CCDS
from tasks.calibrate import calibrate, calibrate_job
from tasks.engine.jobs import StepResult
from tasks.jobs import StepJob
from tasks.products import observed_exposure, product_inputs
from tasks.tie_astrometry import tie_astrometry, tie_astrometry_job

CCDS = DEMO_CCDS[:2]
N_TESTED = 4
OTHER_SEED = 1


@dataclass(frozen=True, slots=True)
class EpochNight(SkyNight):
    """A night of which single epochs are processed.

    Attributes
    ----------
    n_map
        Number of dithered exposures of earlier nights, which are not compared with the truth; 0 for the night of the
        other benches.
    """

    n_map: int = 0

    @property
    def settings(self) -> Any:  # noqa: ANN401
        """Settings of the simulation."""
        plain: Any = SkyNight.settings.fget(self)  # type: ignore[attr-defined]
        return map_settings(self.band, self.ccds, self.n_map, N_TESTED) if self.n_map else plain

    def expnums(self, *, search: bool) -> list[int]:
        """Return the numbers of the exposures that are compared with the truth."""
        return SkyNight.expnums(self, search=search) if search or not self.n_map else []

    def exposures(self, night: PlainNight, *, search: bool) -> list[ExposureId]:
        """Return the search exposures, or the earlier ones."""
        return [night.identity(item) for item in night.listed(self.settings.night, search=search)]


def solve_again(night: PlainNight, who: ExposureId) -> None:
    """Tie and calibrate an exposure with the library as it is."""
    settings, site = night.settings.exposure, night.site
    measured = {}
    for ccd in CCDS:
        job = StepJob(exposure=who, ccd=ccd, site=site)
        names = {"matches": "matches.parquet", "streaks": "streaks.parquet"}
        measured[ccd] = StepResult.model_construct(products=product_inputs(job, names, "measure"))
        observed = observed_exposure(job, "immask.fits")
    job = tie_astrometry_job(measured, {}, observed, who, site, settings.single_epoch.measure)
    job.product_path("tie.json").unlink(missing_ok=True)
    night.run(tie_astrometry, job)
    for ccd in CCDS:
        night.run(calibrate, calibrate_job(who, ccd, site, settings.calibration))


def compare(simulated: EpochNight, label: str) -> list[Row]:
    """Solve the tested exposures of a night with the library as it is, and return the rows of their coordinates."""
    night = PlainNight.at(simulated.root)
    searches = (True,) if simulated.n_map else (True, False)
    chosen = [who for search in searches for who in simulated.exposures(night, search=search)]
    for who in chosen:
        solve_again(night, who)
    rows = [row for row in rows_on_sky([simulated]) if "coordinates" in row.name or "the same" in row.name]
    cost = sum(cost.cpu_s for cost in night.costs) / (len(CCDS) * len(chosen))
    rows.append(Row(f"{simulated.label}: tie and calibration, per CCD", cost, "CPU s", n=len(chosen)))
    return [replace(row, name=f"{label}: {row.name}") for row in rows]


def measure(quick: bool, band: str, keep: Path | None) -> list[Row]:
    """Return all rows."""
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gw-workflow-bench-")))
        n_map = 4 if quick else 12
        first = EpochNight(folder / f"map_{band}_{n_map}", "typical", band, False, SEED, CCDS, n_map)
        other = EpochNight(folder / f"night_{band}", "typical", band, False, OTHER_SEED, CCDS)
        tested = {"other exposures": first} | ({} if quick else {"another night": other})
        rows: list[Row] = []
        for name, simulated in tested.items():
            process_exposures(simulated.root, simulated.settings)
            without_maps(Site.at(simulated.root))
            rows += compare(simulated, f"{name}, without maps")
        night = PlainNight.at(first.root)
        exposures = first.exposures(night, search=False)
        for ccd, result in build_maps(night, exposures, CCDS).items():
            for key, unit in (("ring_amplitude", ""), ("ring_amplitude_error", ""), ("n_stars", "")):
                value = float(str(result.quality[key]))
                rows.append(Row(f"CCD {ccd}: {key.replace('_', ' ')}", value, unit, n=n_map, seeds=(SEED,)))
        rows.append(Row("map of a CCD", night.costs[0].cpu_s, "CPU s", n=n_map))
        for name, simulated in tested.items():
            if simulated is not first:
                copy_maps(Site.at(first.root), Site.at(simulated.root), band)
            rows += compare(simulated, f"{name}, with maps")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Coordinates with maps of tree rings and edges")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="four exposures for the maps, one night")
    parser.add_argument("--band", default="i", help="band")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the nights in this folder, and use them again"
    )
    options = parser.parse_args(arguments)
    rows = measure(options.quick, options.band, options.keep)
    print_report(rows, as_json=options.json, title="Pixel displacements")


if __name__ == "__main__":
    main()
