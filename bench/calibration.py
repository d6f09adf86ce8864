"""Accuracy of zero points and their errors: ``python -m bench.calibration [--json] [--quick] [--pixels FOLDER]``.

All 62 CCDs of exposures in six bands through clouds, three seeds, as catalogues
(``imaging.simulation.calibrated_fields``); with ``--pixels`` also from raw pixels, 354 full-size CCDs
(``bench.calibrated_pixels``: half an hour on one core; results are kept in the folder). Residuals after star flats are
measured in ``bench.star_flat_uniformity``, lookups in a catalogue of 1,000 square degrees in
``bench.reference_lookups``; the importer reads a table in the format of Gaia DR3. With ``--sky hard`` (or another sky)
instead zero points, colour trend and scatter of magnitudes of simulated nights: :mod:`bench.sky_single_epoch`.
"""

import argparse
import gzip
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.calibrated_pixels import measure_pixels, pixel_rows
from bench.reference_lookups import lookup_rows
from bench.report import Row, at_least, at_most, print_report
from bench.sky_night import add_options, processed_nights
from bench.sky_single_epoch import CALIBRATION, rows_on_sky
from bench.star_flat_uniformity import uniformity_rows
from blocks.site import Site
from imaging.astrometry.reference import reference_at_epoch
from imaging.astrometry.settings import AstrometrySettings
from imaging.io.reference import read_reference_cone, write_reference_catalogue
from imaging.photometry.cascade import cascade_magnitudes
from imaging.photometry.colours import band_magnitudes
from imaging.photometry.match import match_reference
from imaging.photometry.settings import PhotometrySettings
from imaging.photometry.solve import solve_exposure_zeropoints
from imaging.photometry.zeropoint import CcdZeropoint, ccd_zeropoint
from imaging.reference.settings import ReferenceCatalogueSettings
from imaging.schemas.zeropoints import ZeropointFlag
from imaging.simulation.calibrated_fields import SimulatedCatalogues, SimulatedField, make_field, observe
from tasks.import_catalogue import CataloguePlan, assemble, import_source

FloatArray = NDArray[np.float64]

SEEDS = (1, 2, 3)
BANDS = ("u", "g", "r", "i", "z", "Y")
EXPOSURES = 2
SETTINGS = PhotometrySettings()
CCD_RADIUS_DEG = 0.17
SOURCE_ROWS = 150_000
SOURCE_COLUMNS = 152


class Scores:
    """Results of all exposures."""

    def __init__(self) -> None:
        self.error_mmag: dict[str, list[float]] = {band: [] for band in BANDS}
        self.pull: list[float] = []
        self.ccd_s: list[float] = []
        self.lookup_s: list[float] = []
        self.solution_s: list[float] = []


def measure(quick: bool) -> Sequence[Row]:
    """Measure; ``quick`` takes one seed, two bands and one exposure each."""
    seeds = SEEDS[:1] if quick else SEEDS
    bands = ("i", "z") if quick else BANDS
    scores, nets = Scores(), []
    with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as folder:
        for seed in seeds:
            field = make_field(seed)
            root = Path(folder) / str(seed)
            write_reference_catalogue(root, field.gaia, name="simulated Gaia")
            for band in bands:
                for number in range(1 if quick else EXPOSURES):
                    observed = observe(field, band, number)
                    own = own_zeropoints(observed, field, root, scores)
                    _score(observed, own, scores)
            nets.append(safety_nets(own, observed))
        rows = [*zeropoint_rows(scores, seeds), *safety_rows(nets, seeds), *cost_rows(scores, seeds)]
        rows += uniformity_rows(seeds, (5,) if quick else (5, 10, 20))
        rows += lookup_rows(Path(folder) / "lookups", seeds[0], 3 if quick else 10, 200.0 if quick else 4000.0)
        return rows + importer_rows(Path(folder), SOURCE_ROWS // (5 if quick else 1))


def own_zeropoints(
    observed: SimulatedCatalogues, field: SimulatedField, root: Path, scores: Scores
) -> dict[int, CcdZeropoint]:
    """Return the zero point of every CCD of an exposure alone, as computed by the step ``calibrate``."""
    exposure, own = observed.exposure, {}
    for ccd, catalogue in observed.catalogues.items():
        start = time.process_time()
        ra, dec = catalogue.column("ra").to_numpy(), catalogue.column("dec").to_numpy()
        stars = read_reference_cone(root, float(ra.mean()), float(dec.mean()), CCD_RADIUS_DEG)
        scores.lookup_s.append(time.process_time() - start)
        reference = reference_at_epoch(stars, exposure.mjd_mid, AstrometrySettings())
        gaia = band_magnitudes(stars, exposure.band, field.colour_terms)
        magnitudes = cascade_magnitudes(stars, gaia, {}, SETTINGS.preferred(exposure.band), exposure.band)
        own[ccd], _ = ccd_zeropoint(match_reference(catalogue, reference, magnitudes, SETTINGS), SETTINGS)
        scores.ccd_s.append(time.process_time() - start)
    return own


def _score(observed: SimulatedCatalogues, own: Mapping[int, CcdZeropoint], scores: Scores) -> None:
    start = time.process_time()
    rows = solve_exposure_zeropoints(own, observed.exposure, SETTINGS).to_pylist()
    scores.solution_s.append(time.process_time() - start)
    for row in rows:
        if row["zeropoint_mag"] is None:
            continue
        error = row["zeropoint_mag"] - observed.true_zeropoint_mag[row["ccd"]]
        scores.error_mmag[row["band"]].append(1000.0 * error)
        scores.pull.append(error / row["zeropoint_error_mag"])


def zeropoint_rows(scores: Scores, seeds: Sequence[int]) -> list[Row]:
    """Return bias and rms by band, and the width of the pull."""
    rows = []
    for band, values in scores.error_mmag.items():
        if values:
            errors, limit = np.array(values), 8.0 if band in ("u", "Y") else 3.0
            n = errors.size
            rows.append(
                at_most(f"{band}: zero point of a CCD, bias", abs(errors.mean()), "mmag", 2.0, n=n, seeds=seeds)
            )
            rms = float(np.sqrt(np.mean(errors**2)))
            rows.append(at_most(f"{band}: zero point of a CCD, rms", rms, "mmag", limit, n=n, seeds=seeds))
    pull = np.array(scores.pull)
    width = float(np.sqrt(np.mean(pull**2)))
    ok = bool(abs(width - 1.0) <= 0.05)
    rows.append(Row("stated error, width of the pull (1.00 +- 0.05)", width, "", 1.05, ok, pull.size, tuple(seeds)))
    return rows


def safety_nets(own: dict[int, CcdZeropoint], observed: SimulatedCatalogues) -> dict[str, bool]:
    """Check the handling of a CCD offset by 0.2 mag, one with two stars, no reference, other subsets and orders."""
    exposure, truth = observed.exposure, observed.true_zeropoint_mag

    def solved(given: Mapping[int, CcdZeropoint]) -> dict[int, dict[str, float]]:
        return {row["ccd"]: row for row in solve_exposure_zeropoints(given, exposure, SETTINGS).to_pylist()}

    value, error = own[28].zeropoint_mag or 0.0, own[28].zeropoint_error_mag
    moved = solved(own | {28: CcdZeropoint(value + 0.2, error, own[28].scatter_mag, 200, 150)})[28]
    few = solved(own | {28: CcdZeropoint(None, None, None, 2, 2)})[28]
    none = solved({ccd: CcdZeropoint(None, None, None, 0, 0) for ccd in own})
    usual = solved(own)
    backwards = solved(dict(reversed(own.items())))
    subsets = [tuple(list(own)[:10]), (26, 27, 33, 34), (40,)]
    near = [abs(solved({c: own[c] for c in s})[c]["zeropoint_mag"] - truth[c]) < 0.02 for s in subsets for c in s]

    def takes_the_exposure(row: Mapping[str, float], flag: ZeropointFlag) -> bool:
        close = abs(row["zeropoint_mag"] - truth[28]) < 3 * row["zeropoint_error_mag"]
        return int(row["flags"]) == flag and close and row["zeropoint_error_mag"] > usual[28]["zeropoint_error_mag"]

    return {
        "a CCD offset by 0.2 mag is an outlier and takes the exposure's value": takes_the_exposure(
            moved, ZeropointFlag.OUTLIER
        ),
        "a CCD with two stars takes the exposure's value": takes_the_exposure(few, ZeropointFlag.TOO_FEW_STARS),
        "a band without reference is uncalibrated, no value": all(
            row["zeropoint_mag"] is None and int(row["flags"]) & ZeropointFlag.UNCALIBRATED for row in none.values()
        ),
        "62, 10, 4 and 1 CCDs give the same within 20 mmag": all(near),
        "any order gives the same": backwards == usual,
    }


def safety_rows(nets: Sequence[dict[str, bool]], seeds: Sequence[int]) -> list[Row]:
    """Return the share of exposures that passed each check."""
    held = {name: float(np.mean([net[name] for net in nets])) for name in nets[0]}
    return [at_least(name, share, "", 1.0, n=len(nets), seeds=seeds) for name, share in held.items()]


def cost_rows(scores: Scores, seeds: Sequence[int]) -> list[Row]:
    """Return CPU seconds of a CCD's zero point, of its catalogue lookup, and of an exposure's solution."""
    n, n_solved = len(scores.ccd_s), len(scores.solution_s)
    ccd_s, lookup_s = float(np.median(scores.ccd_s)), float(np.median(scores.lookup_s))
    return [
        at_most("cost: zero point of a CCD, images not counted", ccd_s, "CPU s", 0.3, n=n, seeds=seeds),
        at_most("of it, reference stars looked up", lookup_s, "CPU s", 0.05, n=n, seeds=seeds),
        at_most("cost: solution of an exposure", max(scores.solution_s), "CPU s", 2.0, n=n_solved, seeds=seeds),
    ]


def importer_rows(folder: Path, n: int) -> list[Row]:
    """Import a table in the format of Gaia DR3, in a separate process; return speed, memory and size."""
    path = folder / "GaiaSource_000000-003111.csv.gz"
    text_mb = write_gaia_like_source(path, n)
    compressed_mb = path.stat().st_size / 1e6
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        read_s, total_s, size_mb, memory_gb = pool.submit(import_once, path, folder / "site").result()
    return [
        at_least("importer: text in csv.gz, read and kept", text_mb / read_s, "MB/s per core", 100.0, n=n),
        at_least("importer: the same, compressed bytes", compressed_mb / read_s, "MB/s per core", 100.0, n=n),
        Row("importer: text, partitions included", text_mb / total_s, "MB/s per core", n=n),
        at_most("importer: memory", memory_gb, "GB", 1.0, n=1),
        at_least("importer: size of the text over the catalogue's", text_mb / size_mb, "", 12.0, n=n),
        at_least("importer: size of the csv.gz over the catalogue's", compressed_mb / size_mb, "", 12.0, n=n),
    ]


def import_once(path: Path, root: Path) -> tuple[float, float, float, float]:
    """Import a source file; return CPU seconds to the pieces and to the partitions, megabytes, peak memory in GB."""
    pa.set_cpu_count(1)
    site = Site.at(root)
    import_source(CataloguePlan("warm", [path], site, ReferenceCatalogueSettings()).import_jobs()[0])
    plan = CataloguePlan("gaia", [path], site, ReferenceCatalogueSettings())
    start = time.process_time()
    imported = [import_source(job) for job in plan.import_jobs()]
    read_s = time.process_time() - start
    assembled = [assemble(job) for job in plan.assemble_jobs(imported)]
    total_s = time.process_time() - start
    size_mb = sum(file.size for result in assembled for file in result.products.values()) / 1e6
    return read_s, total_s, size_mb, peak_memory_gb()


def peak_memory_gb() -> float:
    """Return the peak resident memory of this process, GB; ``getrusage`` would include that of its parent."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1e6


def write_gaia_like_source(path: Path, n: int) -> float:
    """Write n sources in the format of the archive, 152 columns; return the megabytes of text.

    Values have as many digits as in the archive; a third of the columns that are not imported are null.
    """
    random = np.random.default_rng(5)
    pixel = np.sort(random.integers(0, 4**7, n))
    known = {
        "source_id": [str(v) for v in (pixel.astype(np.int64) << 45) + (np.arange(n) << 7)],
        "ref_epoch": ["2016.0"] * n,
        "ra": [f"{v:.14f}" for v in 45.0 + 5.0 * random.random(n)],
        "dec": [f"{v:.14f}" for v in 5.0 * random.random(n)],
        "phot_variable_flag": ['"NOT_AVAILABLE"'] * n,
    }
    for name in ("pmra", "pmdec", "parallax"):
        known[name] = [f"{v:.15f}" for v in random.normal(0.0, 3.0, n)]
        known[f"{name}_error"] = [f"{v:.8f}" for v in random.uniform(0.02, 1.0, n)]
    for name in ("ra_error", "dec_error", "ruwe"):
        known[name] = [f"{v:.8f}" for v in random.uniform(0.02, 1.0, n)]
    for name in ("g", "bp", "rp"):
        known[f"phot_{name}_mean_mag"] = [f"{v:.6f}" for v in random.uniform(14.0, 21.0, n)]
        known[f"phot_{name}_mean_flux_over_error"] = [f"{v:.4f}" for v in random.uniform(10.0, 2000.0, n)]
    for number in range(SOURCE_COLUMNS - len(known)):
        name = f"column_{number}"
        if number % 3 == 0:
            known[name] = ["null"] * n
        else:
            known[name] = [f"{v:.7g}" for v in random.normal(0.0, 10.0, n)]
    head = "# %ECSV 1.0\n# ---\n# delimiter: ','\n" + "# - {name: column, datatype: float64}\n" * 900
    body = "\n".join([",".join(known), *map(",".join, zip(*known.values(), strict=True))])
    text = (head + body + "\n").encode()
    with gzip.open(path, "wb", compresslevel=6) as stream:
        stream.write(text)
    return len(text) / 1e6


def main() -> None:
    """Run the bench from the command line."""
    parser = argparse.ArgumentParser(description="photometric calibration")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="take about a minute")
    parser.add_argument("--pixels", type=Path, help="also measure from raw pixels; keep results in this folder")
    add_options(parser)
    options = parser.parse_args()
    if options.sky:
        measured = rows_on_sky(processed_nights(options))
        rows = [row for row in measured if any(name in row.name for name in CALIBRATION)]
    else:
        rows = list(measure(options.quick))
    if options.pixels is not None:
        options.pixels.mkdir(parents=True, exist_ok=True)
        rows += pixel_rows(measure_pixels(options.pixels, say=lambda text: print(text, file=sys.stderr)))
    print_report(rows, as_json=options.json, title="Photometric calibration and reference catalogues")


if __name__ == "__main__":
    main()
