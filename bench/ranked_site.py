"""A site with only the tables of one night, to rank it again and to use its list."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from blocks.nights import RECORD, NightRecord, night_folder
from blocks.site import Site
from imaging.candidates.settings import CandidateSettings
from imaging.detector.distortion import seed_wcs
from imaging.difference.triplet import STAMP_SIDE, StampTriplet
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.atomic import content_hash, write_text
from imaging.io.candidates import write_candidates
from imaging.io.exposure_list import ListedExposure, write_exposure_list
from imaging.io.skymaps import write_skymap
from imaging.io.stamps import StoredStamps, write_stamps
from imaging.io.tables import write_table
from imaging.simulation.candidate_sources import NIGHT
from imaging.skymap.footprints import Footprints
from imaging.skymap.model import SkyMap
from imaging.wcs.header import stamp_keywords
from tasks.jobs import StepJob
from tasks.rank import STAMPS, detection_image
from tasks.ranked_tables import RANKING


def write_site(
    root: Path,
    candidates: pa.Table,
    forced: pa.Table,
    skymap: SkyMap,
    footprints: Footprints,
    settings: CandidateSettings = CandidateSettings(),  # noqa: B008 (frozen)
    *,
    with_stamps: bool = False,
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
    with_stamps
        Whether to write stamps of all detections, of noise alone.
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
    content = {"parameters": parameters, "settings": settings.model_dump(mode="json")}
    content["stamps"] = write_noise_stamps(site, candidates) if with_stamps else {}
    write_text(job.product_path(RANKING), json.dumps(content))
    register(site, skymap, footprints)
    return site


def write_noise_stamps(site: Site, candidates: pa.Table) -> dict[str, str]:
    """Write stamps of noise for all detections of candidates; return name to path, as the ranking keeps them."""
    of_image: dict[str, list[StoredStamps]] = {}
    for row in candidates.select(["ra", "dec", "detection_ids"]).to_pylist():
        wcs = seed_wcs(27, row["ra"], row["dec"])
        x, y = (float(value) for value in wcs.sky_to_pixel(row["ra"], row["dec"]))
        coordinates = stamp_keywords(wcs, x, y, STAMP_SIDE)
        for detection in row["detection_ids"]:
            noise = np.random.default_rng(detection).normal(size=(3, STAMP_SIDE, STAMP_SIDE)).astype(np.float32)
            stamp = StoredStamps(detection, StampTriplet(*noise), coordinates)
            of_image.setdefault(detection_image(detection), []).append(stamp)
    paths = {}
    for image, stamps in of_image.items():
        expnum, ccd = (int(part) for part in image.split("_"))
        path = StepJob(exposure=ExposureId(expnum, "i", NIGHT), ccd=ccd, season=1, site=site).product_path(
            "stamps.fits"
        )
        write_stamps(path, stamps, {"EXPNUM": expnum, "CCDNUM": ccd})
        paths[f"{STAMPS}{image}"] = site.name_of(path)
    return paths


def register(site: Site, skymap: SkyMap, footprints: Footprints) -> None:
    """Register the night at the site, with its sky map and the searched exposures."""
    folder = night_folder(site, NIGHT)
    write_skymap(folder / "skymap-1.fits", skymap)
    numbers, first = np.unique(footprints.expnum, return_index=True)
    listed = [
        ListedExposure(
            Exposure(
                expnum=int(footprints.expnum[i]),
                band=str(footprints.band[i]),
                night=NIGHT,
                mjd=float(footprints.mjd[i]),
                exptime_s=90.0,
                ra_deg=float(footprints.corners[i, 0, 0]),
                dec_deg=float(footprints.corners[i, 0, 1]),
                airmass=1.2,
            )
        )
        for i in first
    ]
    write_exposure_list(folder / "exposures-1.csv", listed)
    record = NightRecord(
        night=NIGHT,
        event=skymap.name or "S1",
        revision=1,
        skymap="skymap-1.fits",
        skymap_hash=content_hash(folder / "skymap-1.fits"),
        exposure_list="exposures-1.csv",
        exposures=tuple(int(number) for number in numbers),
        templates=(),
        exposure_list_hash=content_hash(folder / "exposures-1.csv"),
    )
    write_text(folder / RECORD, record.model_dump_json())
