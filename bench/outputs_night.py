"""A processed night, and where its files are."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.plain_night import PlainNight
from blocks.site import Site
from deployments.events.registry import register_night
from imaging.export.settings import ExportSettings
from imaging.identity import ExposureId
from imaging.io.skymaps import read_skymap
from imaging.simulation.night import simulate_night
from imaging.simulation.settings import SimulationSettings
from tasks.export import export, export_job
from tasks.jobs import StepJob

OF_EXPORT = ("immask.fits", "fullcat.parquet", "psf.fits", "measure.json", "quality.json")
"""Products that the export reads."""


@dataclass(frozen=True)
class ProcessedNight:
    """A processed night.

    Attributes
    ----------
    site
        Its site.
    night
        YYYYMMDD.
    scratch
        Folder for the checks' own files.
    """

    site: Site
    night: int
    scratch: Path

    @property
    def folder(self) -> Path:
        """Folder with the products of the whole night."""
        return StepJob(night=self.night, site=self.site).product_path("candidates.parquet").parent

    def files(self, *patterns: str) -> list[Path]:
        """Return the products of the night's exposures, and of their differences, whose names match."""
        found = self.site.store.glob(f"*/exp/{self.night}/**/*")
        return sorted(path for path in found if any(path.match(pattern) for pattern in patterns))

    def ccds(self) -> Iterator[tuple[ExposureId, int]]:
        """Yield exposure and number of every calibrated CCD of the night."""
        for path in self.files("*_immask.fits"):
            stem, band, ccd, version, _ = path.name.split("_")
            rnum, pnum = (int(word) for word in version[1:].split("p"))
            yield ExposureId(int(stem[1:]), band, self.night, rnum, pnum), int(ccd)

    def exported(self) -> dict[str, Path]:
        """Export one CCD into the scratch folder; return the paths by name."""
        who, ccd = next(self.ccds())
        elsewhere = Site.at(self.scratch / "exported")
        for suffix in OF_EXPORT:
            name = StepJob(exposure=who, ccd=ccd, site=self.site).product_path(suffix)
            target = StepJob(exposure=who, ccd=ccd, site=elsewhere).product_path(suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, target)
        result = export(export_job(who, ccd, elsewhere, ExportSettings()))
        return {name: elsewhere.path(record.path) for name, record in result.products.items()}


def process_night(root: Path, simulation: SimulationSettings) -> ProcessedNight:
    """Simulate a night in a folder and process it in this process, from the raw files to the ranked list."""
    simulated = simulate_night(root, simulation)
    night = PlainNight.at(root)
    site = night.site
    register_night(
        site,
        simulation.night,
        event=simulation.event,
        skymap=simulated.skymap,
        exposures=simulated.exposure_list,
        check_skymap=read_skymap,
    )
    night.process(simulation.night)
    return ProcessedNight(site, simulation.night, root / "scratch")
