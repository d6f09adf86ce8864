"""A site with only the tables of one night, to rank it again and to use its list."""

import json
from pathlib import Path

import pyarrow as pa

from blocks.nights import RECORD, NightRecord, night_folder
from blocks.site import Site
from imaging.candidates.settings import CandidateSettings
from imaging.io.atomic import content_hash, write_text
from imaging.io.candidates import write_candidates
from imaging.io.skymaps import write_skymap
from imaging.io.tables import write_table
from imaging.simulation.candidate_sources import NIGHT
from imaging.skymap.footprints import Footprints
from imaging.skymap.model import SkyMap
from tasks.jobs import StepJob
from tasks.ranked_tables import RANKING


def write_site(
    root: Path,
    candidates: pa.Table,
    forced: pa.Table,
    skymap: SkyMap,
    footprints: Footprints,
    settings: CandidateSettings = CandidateSettings(),  # noqa: B008 (frozen)
) -> Site:
    """Write the tables of an associated night and register it.

    Parameters
    ----------
    root
        Folder of the site.
    candidates, forced
        Candidates before ranking, and their forced photometry.
    skymap, footprints
        Sky map and CCD footprints of the night.
    settings
        Settings of the ranking.
    """
    site = Site.at(root)
    job = StepJob(night=NIGHT, site=site)
    write_candidates(job.product_path("associated.parquet"), candidates)
    write_table(job.product_path("lightcurves.parquet"), forced)
    images = range(len(footprints))
    searched = [
        [int(footprints.expnum[i]), int(footprints.ccd[i]), str(footprints.band[i]), float(footprints.mjd[i]),
         footprints.corners[i].tolist(), float(footprints.m50_mag[i])]
        for i in images
    ]  # fmt: skip
    parameters = {
        "event": skymap.name or "S1",
        "searched": searched,
        "templates": [[row[0], row[1], [1200001, 1200002]] for row in searched],
        "code_version": "c" * 32,
        "calibration_set": "d" * 32,
        "upstream": {},
        "mjd_event": skymap.mjd,
    }
    content = {"parameters": parameters, "settings": settings.model_dump(mode="json"), "stamps": {}}
    write_text(job.product_path(RANKING), json.dumps(content))
    register(site, skymap)
    return site


def register(site: Site, skymap: SkyMap) -> None:
    """Register the night at the site, with its sky map and without exposures."""
    folder = night_folder(site, NIGHT)
    write_skymap(folder / "skymap-1.fits", skymap)
    write_text(folder / "exposures-1.csv", "")
    record = NightRecord(
        night=NIGHT,
        event=skymap.name or "S1",
        revision=1,
        skymap="skymap-1.fits",
        skymap_hash=content_hash(folder / "skymap-1.fits"),
        exposure_list="exposures-1.csv",
        exposures=(),
        templates=(),
        exposure_list_hash=content_hash(folder / "exposures-1.csv"),
    )
    write_text(folder / RECORD, record.model_dump_json())
