"""Associate the detections of a night over its exposures, and match them to stars and galaxies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from blocks.site import Site
from imaging.candidates.associate import associate_detections
from imaging.candidates.crossmatch import match_point_sources, match_reference_stars
from imaging.candidates.hosts import add_distances, hosts_of_catalogue, match_hosts
from imaging.candidates.settings import CandidateSettings, CrossmatchSettings
from imaging.io.candidates import write_candidates
from imaging.io.images import read_header
from imaging.io.reference import read_reference_cone
from imaging.io.tables import read_table, read_tables
from imaging.reference.surveys import GALAXY_CATALOGUES
from imaging.schemas.difference import DETECTIONS, FAKES
from imaging.schemas.hosts import HOSTS
from imaging.schemas.reference import REFERENCE_STARS
from imaging.skymap.footprints import Footprints
from imaging.wcs.sphere import polygon_centre, separation_deg
from imaging.wcs.tpv import TpvWcs
from tasks.context import catalogues_of, distinct, galaxies_near
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.steps import ASSOCIATE

NEEDED = (
    "detection_id expnum band mjd ra dec position_error_arcsec snr mag mag_error real_score flags "
    "trail_arcsec trail_error_arcsec trail_angle_deg trail_angle_error_deg trail_arcsec_per_hour"
)

ASSOCIATED = pa.schema([DETECTIONS.field(name) for name in NEEDED.split()])
"""Columns of detections that the association uses."""

CALIBRATING = pa.schema([FAKES.field(name) for name in ("snr", "real_score", "passed")])
"""Columns of fakes that calibrate the real/bogus score."""

DETECTED, FAKED, HOST_CATALOGUE, HOST_IMAGE = "detections_", "fakes_", "hosts_", "host_image_"

MARGIN_DEG = 0.05
"""Margin around a CCD within which stars and galaxies are read, degrees; the largest hosts are 2 arcmin wide."""

CELL_DEG = 0.1
"""Grid size in degrees: CCD images with centres in the same cell share one read of the reference catalogues."""


@dataclass(frozen=True, slots=True)
class SearchedCcd:
    """A searched CCD: one CCD of a search exposure with a difference image.

    Attributes
    ----------
    expnum, ccd, band
        Exposure number, CCD number and band.
    mjd
        Mid-exposure time, MJD UTC.
    corners
        ((RA, Dec), ...) of its four corners, degrees.
    m50_mag, width_mag, efficiency_max
        Efficiency curve of the fakes: magnitude at half of the maximum, width of the transition, and maximum at bright
        magnitudes; None if unknown.
    detections
        Table of its detections.
    stamps
        Stamps of its detections; None if no detection passed the cuts.
    fakes
        Table of its fakes.
    host_catalogue, host_image
        Catalogue and image of the best overlapping template CCD.
    host_zeropoint_mag
        Zero point of that image.
    templates
        Exposures in the subtracted template stack.
    noise_peaks
        Expected number of peaks of noise above five sigma; None if unknown.
    """

    expnum: int
    ccd: int
    band: str
    mjd: float
    corners: tuple[tuple[float, float], ...]
    m50_mag: float | None
    detections: FileRecord
    stamps: FileRecord | None
    fakes: FileRecord
    host_catalogue: FileRecord
    host_image: FileRecord
    host_zeropoint_mag: float
    templates: tuple[int, ...] = ()
    width_mag: float | None = None
    efficiency_max: float | None = None
    noise_peaks: float | None = None

    @property
    def name(self) -> str:
        """Exposure and CCD number, used in the names of inputs."""
        return f"{self.expnum}_{self.ccd:02d}"


def searched_parameters(searched: Sequence[SearchedCcd]) -> list[list[Any]]:
    """Return searched CCDs as the job parameter ``searched``, which :func:`footprints_in` reads."""
    return [
        [s.expnum, s.ccd, s.band, s.mjd, [list(c) for c in s.corners],
         s.m50_mag, s.width_mag, s.efficiency_max, s.noise_peaks]
        for s in searched
    ]  # fmt: skip


def associate_job(searched: Sequence[SearchedCcd], night: int, site: Site, settings: CandidateSettings) -> StepJob:
    """Plan the association of a night's detections.

    Parameters
    ----------
    searched
        All searched CCDs of the night.
    night, site, settings
        Night, YYYYMMDD; site; settings of the candidates.
    """
    inputs = {}
    for item in searched:
        name = item.host_image.content_hash
        inputs[f"{DETECTED}{item.name}"] = item.detections
        inputs[f"{FAKED}{item.name}"] = item.fakes
        inputs[f"{HOST_CATALOGUE}{name}"] = item.host_catalogue
        inputs[f"{HOST_IMAGE}{name}"] = item.host_image
    zeropoints = {item.host_image.content_hash: item.host_zeropoint_mag for item in searched}
    parameters = {
        "searched": searched_parameters(searched),
        "host_zeropoints_mag": zeropoints,
        "galaxies": catalogues_of(site, GALAXY_CATALOGUES),
    }
    return StepJob(night=night, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(ASSOCIATE)
def associate(job: StepJob) -> StepResult:
    """Associate the detections of a night into candidates, and match these to stars and galaxies."""
    settings = job.settings_as(CandidateSettings)
    detections, fakes = (
        read_tables([job.input_path(name) for name in sorted(job.inputs) if name.startswith(kind)], wanted)
        for kind, wanted in ((DETECTED, ASSOCIATED), (FAKED, CALIBRATING))
    )
    footprints = footprints_in(job)
    candidates = associate_detections(detections, job.night or 0, settings.associate, footprints, fakes)
    cones = cones_of(footprints)
    stars = _stars(job, cones)
    galaxies = galaxies_near(job.site, cones, job.parameters["galaxies"])
    hosts = add_distances(_hosts(job, settings.crossmatch), galaxies, settings.crossmatch)
    mjd = float(np.median(footprints.mjd)) if len(footprints) else 0.0
    candidates = match_reference_stars(candidates, stars, mjd, settings.crossmatch)
    candidates = match_point_sources(candidates, hosts, settings.crossmatch)
    candidates = match_hosts(candidates, hosts, settings.crossmatch)
    paths = job.product_paths(ASSOCIATE)
    write_candidates(paths["candidates"], candidates)
    quality = {"n_detections": detections.num_rows, "n_candidates": candidates.num_rows}
    return job.result(paths, quality=quality)


def footprints_in(job: StepJob) -> Footprints:
    """Return the footprints of the searched CCDs from the job parameter ``searched``."""
    rows = job.parameters["searched"]
    found = np.array([[np.nan if v is None else v for v in (*row[5:], None, None, None)[:4]] for row in rows])
    depth, width, highest, peaks = found.reshape(-1, 4).astype(float).T
    return Footprints(
        expnum=np.array([row[0] for row in rows], dtype=np.int64),
        ccd=np.array([row[1] for row in rows], dtype=np.int64),
        band=np.array([row[2] for row in rows], dtype=np.str_),
        mjd=np.array([row[3] for row in rows], dtype=float),
        corners=np.array([row[4] for row in rows], dtype=float).reshape(-1, 4, 2),
        m50_mag=depth,
        width_mag=width,
        efficiency_max=highest,
        noise_peaks=peaks,
    )


def _hosts(job: StepJob, settings: CrossmatchSettings) -> pa.Table:
    """Return possible host galaxies from the catalogues of the templates."""
    tables = []
    for digest, zeropoint_mag in sorted(job.parameters["host_zeropoints_mag"].items()):
        catalogue = read_table(job.input_path(f"{HOST_CATALOGUE}{digest}"))
        wcs = TpvWcs.from_header(read_header(job.input_path(f"{HOST_IMAGE}{digest}")))
        tables.append(hosts_of_catalogue(catalogue, wcs, zeropoint_mag, settings))
    return pa.concat_tables(tables) if tables else HOSTS.empty_table()


def _stars(job: StepJob, cones: Sequence[tuple[float, float, float]]) -> pa.Table:
    """Return the reference stars around all CCDs of the night, without duplicates."""
    parts = [read_reference_cone(job.site.reference / "gaia", *cone) for cone in cones]
    return distinct(pa.concat_tables([REFERENCE_STARS.empty_table(), *parts]))


def cones_of(footprints: Footprints) -> list[tuple[float, float, float]]:
    """Return (RA, Dec, radius), degrees, of cones that cover all CCD images.

    Images with centres in the same cell of a grid of :data:`CELL_DEG` share a cone around the first of them.
    """
    cones: dict[tuple[int, int], tuple[float, float, float]] = {}
    for corners in footprints.corners:
        ra, dec = polygon_centre(corners)
        row = round(dec / CELL_DEG)
        cell = (round(ra * math.cos(math.radians(row * CELL_DEG)) / CELL_DEG), row)
        ra, dec, radius = cones.get(cell, (ra, dec, 0.0))
        reach = float(separation_deg(ra, dec, corners[:, 0], corners[:, 1]).max()) + MARGIN_DEG
        cones[cell] = (ra, dec, max(radius, reach))
    return list(cones.values())
