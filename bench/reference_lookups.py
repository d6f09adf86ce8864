"""Cost and correctness of lookups in a large reference catalogue.

A catalogue of 1,000 square degrees around RA = 0, with a cap around the south pole, is built from source tables by the
importer, with Gaia's density at high galactic latitude. The stars of every CCD of exposures at random positions are
then read and moved to the epoch of the exposure, as in the step ``calibrate``.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench.report import Row, at_least, at_most
from blocks.site import Site
from imaging.astrometry.reference import reference_at_epoch
from imaging.astrometry.settings import AstrometrySettings
from imaging.detector.ccds import NX, NY, SCIENCE_CCDS
from imaging.detector.distortion import seed_wcs
from imaging.io.reference import read_reference_cone, read_reference_polygon
from imaging.reference.settings import ReferenceCatalogueSettings
from imaging.wcs.sphere import footprint, polygon_centre, separation_deg
from tasks.import_catalogue import CataloguePlan, assemble, import_source

FloatArray = NDArray[np.float64]

DENSITY_PER_DEG2 = 4000.0
"""Gaia's sources per square degree at galactic latitude 50 degrees."""
REGION_DEG = ((342.0, 18.0), (-16.0, 12.0))
"""RA and Dec of the region: 997 square degrees."""
CAP_DEG = 3.0
"""Radius of the cap around the south pole."""
ROWS_PER_FILE = 500_000
MJD = 60440.1
CHECKED = 40
"""Number of lookups that are compared with a search of all stars."""


def lookup_rows(folder: Path, seed: int, n_exposures: int, density_per_deg2: float = DENSITY_PER_DEG2) -> list[Row]:
    """Build the catalogue and look up the CCDs of ``n_exposures``, the last two of them at the pole."""
    random = np.random.default_rng(seed)
    ra, dec = draw_positions(random, density_per_deg2)
    site = Site.at(folder / "site")
    start = time.process_time()
    root = build(folder, site, ra, dec, random)
    build_s = time.process_time() - start
    pointings = [*_pointings(random, n_exposures - 2), (40.0, -88.9), (200.0, -89.8)]
    for pointing in pointings:  # fills the file cache
        look_up(root, pointing, SCIENCE_CCDS[:4])
    seconds, cpu_s, found = zip(*(item for p in pointings for item in look_up(root, p, SCIENCE_CCDS)), strict=True)
    right = [_is_right(root, random, ra, dec) for _ in range(CHECKED)]
    n, seeds = len(seconds), (seed,)
    where = f"{ra.size / 1e6:.1f} million stars in 1,000 deg2"
    return [
        at_most(f"lookup of a CCD, {where}, median", float(np.median(cpu_s)), "CPU s", 0.05, n=n, seeds=seeds),
        at_most("the same, 99th percentile", float(np.percentile(cpu_s, 99)), "CPU s", 0.05, n=n, seeds=seeds),
        at_most("the same, median of the wall clock", float(np.median(seconds)), "s", 0.05, n=n, seeds=seeds),
        Row("stars of a lookup, median", float(np.median(found)), "", n=n, seeds=seeds),
        at_least("cones and polygons that hold exactly the right stars", float(np.mean(right)), "", 1.0, n=CHECKED),
        Row("importer: stars from Parquet to partitions", ra.size / build_s / 1e6, "million per CPU s", n=ra.size),
    ]


def draw_positions(random: np.random.Generator, density_per_deg2: float) -> tuple[FloatArray, FloatArray]:
    """Draw positions in the region and in the cap, uniform on the sky; return RA and Dec, (n,), degrees."""
    (west, east), (south, north) = REGION_DEG
    low, high = (float(np.sin(np.radians(dec))) for dec in (south, north))
    area = (east - west) % 360.0 * np.degrees(high - low)
    n = random.poisson(area * density_per_deg2)
    ra = (west + random.random(n) * ((east - west) % 360.0)) % 360.0
    dec = np.degrees(np.arcsin(random.uniform(low, high, n)))
    n_cap = random.poisson(np.pi * CAP_DEG**2 * density_per_deg2)
    radius = np.degrees(np.arccos(random.uniform(np.cos(np.radians(CAP_DEG)), 1.0, n_cap)))
    return np.append(ra, random.uniform(0.0, 360.0, n_cap)), np.append(dec, radius - 90.0)


def build(folder: Path, site: Site, ra: FloatArray, dec: FloatArray, random: np.random.Generator) -> Path:
    """Write source tables with Gaia's columns and import them; return the catalogue's folder."""
    sources = folder / "sources"
    sources.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, first in enumerate(range(0, ra.size, ROWS_PER_FILE)):
        part = slice(first, first + ROWS_PER_FILE)
        paths.append(sources / f"GaiaSource_{number:04d}.parquet")
        pq.write_table(_source(first, ra[part], dec[part], random), paths[-1])
    plan = CataloguePlan("gaia", paths, site, ReferenceCatalogueSettings())
    imported = [import_source(job) for job in plan.import_jobs()]
    plan.finish([assemble(job) for job in plan.assemble_jobs(imported)])
    return plan.folder


def _source(first: int, ra: FloatArray, dec: FloatArray, random: np.random.Generator) -> pa.Table:
    n = ra.size
    columns: dict[str, object] = {"source_id": np.arange(first, first + n), "ra": ra, "dec": dec}
    columns |= {"ref_epoch": np.full(n, 2016.0), "phot_variable_flag": ["NOT_AVAILABLE"] * n}
    for name, width in (("pmra", 10.0), ("pmdec", 10.0), ("parallax", 1.0)):
        columns |= {name: random.normal(0.0, width, n), f"{name}_error": random.uniform(0.02, 1.0, n)}
    for name in ("ra_error", "dec_error", "ruwe"):
        columns[name] = random.uniform(0.02, 1.0, n)
    for name in ("g", "bp", "rp"):
        columns[f"phot_{name}_mean_mag"] = random.uniform(14.0, 21.0, n)
        columns[f"phot_{name}_mean_flux_over_error"] = random.uniform(10.0, 2000.0, n)
    return pa.table(columns)


def _pointings(random: np.random.Generator, n: int) -> list[tuple[float, float]]:
    """Draw pointings well inside the region, the first of them on RA = 0."""
    ra = np.append(0.0, random.uniform(-16.0, 16.0, n - 1)) % 360.0
    return list(zip(ra.tolist(), random.uniform(-14.0, 10.0, n).tolist(), strict=True))


def look_up(root: Path, pointing: tuple[float, float], ccds: Sequence[int]) -> list[tuple[float, float, int]]:
    """Look up the stars of CCDs and move them to the epoch; return seconds, CPU seconds and number of each."""
    found = []
    for ccd in ccds:
        wcs = seed_wcs(ccd, *pointing)
        clock, cpu = time.perf_counter(), time.process_time()
        corners = footprint(wcs, NX, NY)
        centre = polygon_centre(corners)
        radius = float(separation_deg(*centre, corners[:, 0], corners[:, 1]).max())
        stars = read_reference_cone(root, *centre, radius)
        reference_at_epoch(stars, MJD, AstrometrySettings())
        found.append((time.perf_counter() - clock, time.process_time() - cpu, stars.num_rows))
    return found


def _is_right(root: Path, random: np.random.Generator, ra: FloatArray, dec: FloatArray) -> bool:
    """Compare a cone and a polygon at a random place, or on RA = 0 or the pole, with a search through all stars."""
    anywhere = float(random.uniform(-17.0, 17.0)) % 360.0, float(random.uniform(-15.0, 11.0))
    where = (anywhere, (0.0, 1.0), (77.0, -90.0))[int(random.integers(3))]
    near = np.flatnonzero(separation_deg(*where, ra, dec) <= 0.2)
    cone = read_reference_cone(root, *where, 0.2).column("source_id").to_numpy()
    wcs = seed_wcs(28, *where)
    corners = footprint(wcs, NX, NY)
    close = np.flatnonzero(separation_deg(*where, ra, dec) < 0.6)
    x, y = wcs.sky_to_pixel(ra[close], dec[close])
    margin = 3.0  # pixels by which the sides of the polygon, great circles, may deviate from the CCD's border
    inside = (x > margin) & (x < NX - margin) & (y > margin) & (y < NY - margin)
    polygon = set(read_reference_polygon(root, corners).column("source_id").to_numpy().tolist())
    return bool(np.array_equal(cone, near)) and set(close[inside].tolist()) <= polygon
