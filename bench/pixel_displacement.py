"""Coordinates with and without maps of tree rings and edges, on exposures that are not in the maps.

``python -m bench.pixel_displacement [--json] [--quick] [--band BAND] [--keep FOLDER]`` simulates 16 dithered exposures
of two CCDs of a typical sky, processes them, and builds the maps from the twelve earlier ones as
``flows/build_pixel_displacement.py`` does. The four others, and the five exposures of the night of
``bench.single_epoch --sky typical --seed 1 --quick``, are then solved without and with the maps and compared with the
truth. ``--quick`` takes four exposures for the maps and leaves out the second night.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.plain_night import PlainNight
from bench.report import Row, print_report
from bench.sky_night import SkyNight
from bench.sky_single_epoch import rows_on_sky
from blocks.site import Site
from imaging.identity import ExposureId
from imaging.io.calibrations import CalibrationLibrary, write_manifest
from imaging.io.manifest import Kind
from imaging.masters.settings import DisplacementSettings
from imaging.simulation.night import simulate_night
from imaging.simulation.settings import DEMO_CCDS, SimulationSettings
from tasks.build_pixel_displacement import displacement_job, fit_displacements
from tasks.calibrate import calibrate, calibrate_job
from tasks.calibration_files import master_path, record_files
from tasks.engine.jobs import StepResult
from tasks.jobs import StepJob
from tasks.products import observed_exposure, product_inputs
from tasks.tie_astrometry import tie_astrometry, tie_astrometry_job

KIND: Kind = "pixel_displacement"
EPOCH = "rings"
DITHER_ARCSEC = 240.0
CCDS = DEMO_CCDS[:2]
N_TESTED = 4
SEED, OTHER_SEED = 21, 1


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
        if not self.n_map:
            return plain
        dithers = {"template_dither_arcsec": DITHER_ARCSEC, "search_dither_arcsec": DITHER_ARCSEC}
        numbers = {"n_template_epochs": self.n_map, "n_search_exposures": N_TESTED}
        given = {"sky": self.sky, "seed": self.seed, "bands": (self.band,), "ccds": self.ccds, "focus_ccds": False}
        return SimulationSettings.model_validate(given | numbers | dithers)

    def expnums(self, *, search: bool) -> list[int]:
        """Return the numbers of the exposures that are compared with the truth."""
        return SkyNight.expnums(self, search=search) if search or not self.n_map else []

    def exposures(self, night: PlainNight, *, search: bool) -> list[ExposureId]:
        """Return the search exposures, or the earlier ones."""
        return [night.identity(item) for item in night.listed(self.settings.night, search=search)]

    def process(self) -> None:
        """Simulate and process the exposures that have not been."""
        night = PlainNight.at(self.root)
        if not (self.root / "exposures.csv").is_file():
            simulate_night(self.root, self.settings, processes=1)
        for who in [*self.exposures(night, search=False), *self.exposures(night, search=True)]:
            if not any(night.site.store.glob(f"*/exp/*/{who.expnum}/**/*_zeropoints.parquet")):
                night.single_epoch(who)


def build_maps(night: PlainNight, exposures: Sequence[ExposureId]) -> dict[int, StepResult]:
    """Build the maps from processed exposures and enter them into the library; returns the result of each CCD."""
    site, last, results = night.site, exposures[-1], {}
    for ccd in CCDS:
        observed = observed_exposure(StepJob(exposure=last, ccd=ccd, site=site), "immask.fits")
        job = displacement_job(ccd, exposures, observed, site, EPOCH, DisplacementSettings())
        results[ccd] = night.run(fit_displacements, job)
    enter_maps(site, last)
    return results


def enter_maps(site: Site, last: ExposureId) -> None:
    """Enter the maps that are in the library's folder into its manifest."""
    paths = [master_path(site, EPOCH, KIND, ccd, last.band) for ccd in CCDS]
    record_files(site, last.night, EPOCH, {(KIND, last.band): paths})


def without_maps(site: Site) -> None:
    """Take the maps out of the manifest."""
    manifest = CalibrationLibrary(site.calibrations).manifest
    write_manifest(site.calibrations, [e for e in manifest.entries if e.kind != KIND], manifest.age_limits)


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
            simulated.process()
            without_maps(Site.at(simulated.root))
            rows += compare(simulated, f"{name}, without maps")
        night = PlainNight.at(first.root)
        exposures = first.exposures(night, search=False)
        for ccd, result in build_maps(night, exposures).items():
            for key, unit in (("ring_amplitude", ""), ("ring_amplitude_error", ""), ("n_stars", "")):
                value = float(str(result.quality[key]))
                rows.append(Row(f"CCD {ccd}: {key.replace('_', ' ')}", value, unit, n=n_map, seeds=(SEED,)))
        rows.append(Row("map of a CCD", night.costs[0].cpu_s, "CPU s", n=n_map))
        for name, simulated in tested.items():
            site = Site.at(simulated.root)
            if simulated is not first:
                shutil.copytree(first.root / "calibrations" / EPOCH, site.calibrations / EPOCH, dirs_exist_ok=True)
                enter_maps(site, exposures[-1])
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
