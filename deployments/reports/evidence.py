"""Gather what a report needs of each candidate from the products of its night."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from blocks.nights import is_registered, read_night
from blocks.site import Site
from imaging.candidates.reports import SEARCH, TEMPLATE, Evidence, Row
from imaging.errors import InputError
from imaging.io.keywords import ELECTRONS
from imaging.io.packets import cutout_bytes
from imaging.io.reference import read_reference_cone
from imaging.io.stamps import StoredStamps, read_stamps
from imaging.io.tables import read_table
from imaging.pictures.compass import Compass
from imaging.pictures.stamps import panel_pictures
from imaging.reference.surveys import GALAXY_CATALOGUES
from imaging.schemas.reference import REFERENCE_GALAXIES
from tasks.context import catalogues_of
from tasks.jobs import StepJob
from tasks.rank import STAMPS, detection_image
from tasks.ranked_tables import RANKING, read_ranking

HOST_REACH_ARCSEC = 60.0
"""Radius around the host in which its entry of the galaxy catalogue is searched, which has the same distance."""


def gather(site: Site, night: int, chosen: pa.Table) -> dict[str, Evidence]:
    """Return what is known of candidates beside their rows.

    Parameters
    ----------
    site, night
        Site and night.
    chosen
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.

    Raises
    ------
    InputError
        If the night was not ranked.
    """
    job = StepJob(night=night, site=site)
    path = job.product_path(RANKING)
    if not path.is_file():
        raise InputError("night has not been ranked", value=path, remedy="process it with gw-workflow night")
    known = read_ranking(path)
    rows = chosen.to_pylist()
    searched = {image[0] for image in known["parameters"]["searched"]}
    photometry = _photometry(job, chosen, searched)
    stamps = last_stamps(site, rows, known["stamps"])
    found = {}
    for row in rows:
        name = row["candidate_id"]
        stamp = stamps.get(name)
        about: dict[str, Any] = {}
        if stamp is not None:
            triplet = stamp.triplet
            about = {
                "detection_id": stamp.detection_id,
                "cutouts": {
                    plane: cutout_bytes(pixels, {"BUNIT": ELECTRONS, **stamp.coordinates})
                    for plane, pixels in stamp.planes.items()
                },
                "thumbnails": panel_pictures(
                    triplet.search, triplet.template, triplet.difference, Compass.of(stamp.coordinates)
                ),
            }
        redshift = _host_redshift(site, row)
        found[name] = Evidence(photometry[name], known["parameters"]["event"], host_redshift=redshift, **about)
    return found


def last_stamps(site: Site, rows: Sequence[Row], stamps: Mapping[str, str]) -> dict[str, StoredStamps]:
    """Return the stamps of each candidate's last detection that has some.

    Parameters
    ----------
    site
        The site.
    rows
        Candidates, with their detections in order of time.
    stamps
        Name of each file of stamps to its path in the site, as the ranking keeps them.
    """
    files: dict[Path, dict[int, StoredStamps]] = {}
    found: dict[str, StoredStamps] = {}
    for row in rows:
        for detection in row["detection_ids"] or ():
            place = stamps.get(f"{STAMPS}{detection_image(detection)}")
            path = None if place is None else site.path(place)
            if path is None or not path.exists():
                continue
            if path not in files:
                files[path] = {stamp.detection_id: stamp for stamp in read_stamps(path)[0]}
            if detection in files[path]:
                found[row["candidate_id"]] = files[path][detection]
    return found


def _photometry(job: StepJob, chosen: pa.Table, searched: set[int]) -> dict[str, list[dict[str, Any]]]:
    """Return the forced photometry of each candidate, with the side and the exposure time of every point."""
    ids = chosen.column("candidate_id")
    night = job.night or 0
    listed = read_night(job.site, night).listed() if is_registered(job.site, night) else ()
    exptime_s = {item.exposure.expnum: item.exposure.exptime_s for item in listed}
    table = read_table(job.product_path("lightcurves.parquet"))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ids.to_pylist()}
    for point in table.filter(pc.is_in(table.column("candidate_id"), value_set=ids.combine_chunks())).to_pylist():
        expnum = point["expnum"]
        side = SEARCH if expnum in searched else TEMPLATE
        found[point["candidate_id"]].append(point | {"side": side, "exptime_s": exptime_s.get(expnum)})
    return found


def _host_redshift(site: Site, row: Row) -> float | None:
    """Return the catalogued redshift of a candidate's host: of the entry that gave the host its distance."""
    if row["host_distance_mpc"] is None:
        return None
    cone = row["host_ra"], row["host_dec"], HOST_REACH_ARCSEC / 3600.0
    distance = pa.scalar(row["host_distance_mpc"], type=pa.float32())
    for name in catalogues_of(site, GALAXY_CATALOGUES):
        galaxies = read_reference_cone(site.reference / name, *cone, REFERENCE_GALAXIES)
        same = galaxies.filter(pc.equal(galaxies.column("distance_mpc"), distance)).column("redshift").drop_null()
        if len(same):
            return float(same[0].as_py())
    return None
