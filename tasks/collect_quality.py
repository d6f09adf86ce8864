"""Collect the quality numbers and the search efficiency of an exposure's difference images."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from blocks.site import Site
from imaging.difference.efficiency import efficiency_by_place
from imaging.identity import ExposureId
from imaging.io.tables import read_table, write_table
from imaging.numerics.robust import finite_median
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.products import quality_table, read_quality
from tasks.steps import COLLECT_QUALITY

ROW, FAKES = "row_", "fakes_"

BIN_MAG = 0.5
"""Bin width of the exposure's efficiency, magnitudes."""

KEPT = ("zeropoint_mag", "zeropoint_error_mag")
"""Columns that keep their values of the single epoch."""


def collect_quality_job(searched: Mapping[int, StepResult], exposure: ExposureId, season: int, site: Site) -> StepJob:
    """Plan the collection of an exposure's quality numbers.

    Parameters
    ----------
    searched
        CCD number to the result of its search.
    exposure, season, site
        Exposure, season of the products, site.
    """
    inputs = {f"{ROW}{ccd:02d}": result.products["quality"] for ccd, result in sorted(searched.items())}
    inputs |= {f"{FAKES}{ccd:02d}": result.products["fakes"] for ccd, result in sorted(searched.items())}
    inputs["quality"] = fingerprint(site, StepJob(exposure=exposure, site=site).product_path("quality.parquet"))
    return StepJob(exposure=exposure, season=season, site=site, inputs=inputs)


@step(COLLECT_QUALITY)
def collect_quality(job: StepJob) -> StepResult:
    """Add the numbers of the differences to the exposure's quality table, and compute the efficiency from all fakes."""
    found = {int(n.removeprefix(ROW)): read_quality(job.input_path(n)) for n in job.inputs if n.startswith(ROW)}
    rows: list[dict[str, Any]] = []
    for row in read_table(job.input_path("quality")).to_pylist():
        new = found.get(row["ccd"], {})
        rows.append(row | {name: value for name, value in new.items() if name not in KEPT})
    paths = job.product_paths(COLLECT_QUALITY)
    write_table(paths["quality"], quality_table(rows))
    numbers = list(found.values())
    quality: dict[str, float] = {
        "n_ccds": len(numbers),
        "n_detections": sum(int(row["n_detections"] or 0) for row in numbers),
        "n_passed": sum(int(row["n_passed"] or 0) for row in numbers),
    }
    for name in ("m50_mag", "snr50", "difference_noise_width", "registration_pixels"):
        quality[name] = finite_median([None if row.get(name) is None else float(row[name] or 0) for row in numbers])
    fakes = [read_table(job.input_path(name)) for name in sorted(job.inputs) if name.startswith(FAKES)]
    write_table(paths["efficiency"], efficiency_by_place(pa.concat_tables(fakes), BIN_MAG))
    return job.result(paths, quality=quality)
