"""Results of the demonstration, from raw files to the rank of the kilonova, compared with the simulated truth.

``python -m bench.demo [--json] [--quick]`` runs ``gw-workflow demo --json`` in a temporary folder, for one seed (quick,
with 2 CCDs) or three, and compares its results with the limits.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.report import Row, at_least, at_most, main

SEEDS = (1, 2, 3)

NOT_FOUND = 9999
"""Rank of a kilonova that is not in the list."""


def measure(quick: bool) -> list[Row]:
    """Run the demonstration and compare its results with the limits."""
    seeds = SEEDS[:1] if quick else SEEDS
    ccds = ["--ccds", "26,27"] if quick else []
    documents, minutes = [], []
    for seed in seeds:
        began = time.monotonic()
        documents.append(run_demo(["--seed", str(seed), *ccds]))
        minutes.append((time.monotonic() - began) / 60.0)
    return [*grade(documents, seeds), at_most("wall time", max(minutes), "min", 10.0, seeds=seeds)]


def run_demo(options: Sequence[str]) -> dict[str, Any]:
    """Run the demonstration in a temporary folder and return its JSON document."""
    with tempfile.TemporaryDirectory(prefix="gw-workflow-demo-") as folder:
        command = [sys.executable, "-m", "deployments.cli.main", "demo", "--json", "--root", folder, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.stdout.strip():
            raise RuntimeError(f"the demonstration printed nothing: {done.stderr[-2000:]}")
        return json.loads(done.stdout)


def grade(documents: Sequence[dict[str, Any]], seeds: Sequence[int]) -> list[Row]:
    """Return the rows with limits for the documents of demonstrations."""
    ccds = [row for document in documents for row in document["ccds"]]
    searched = [row for row in ccds if row["difference_noise_width"] is not None]
    fakes = [found_share(document["completeness"], 10.0) for document in documents]
    ranks = [document["kilonova_rank"] or NOT_FOUND for document in documents]

    def worst(name: str, rows: list[dict[str, Any]], centre: float = 0.0) -> float:
        return float(np.max(np.abs(np.array([row[name] for row in rows], dtype=float) - centre)))

    n, m = len(ccds), len(searched)
    share, n_fakes = min(share for share, _ in fakes), sum(count for _, count in fakes)
    common = {"seeds": seeds}
    return [
        at_most(
            "astrometry against the truth, worst CCD", worst("astrometry_rms_mas", ccds), "mas", 20.0, n=n, **common
        ),
        at_most(
            "zero point against the truth, worst CCD", worst("zeropoint_error_mmag", ccds), "mmag", 10.0, n=n, **common
        ),
        at_most(
            "noise width minus one, worst CCD", worst("difference_noise_width", searched, 1.0), "", 0.05, n=m, **common
        ),
        at_least("fakes above S/N 10 on good pixels found", 100 * share, "%", 95.0, n=n_fakes, **common),
        at_most("rank of the kilonova, worst seed", float(max(ranks)), "", 3.0, n=len(ranks), **common),
    ]


def found_share(completeness: Sequence[dict[str, Any]], snr_min: float) -> tuple[float, int]:
    """Return the share of injected transients above a signal to noise that were recovered, and their number."""
    bins = [row for row in completeness if row["snr_min"] >= snr_min and row["n"]]
    number = sum(row["n"] for row in bins)
    return sum(row["passed"] * row["n"] for row in bins) / number, number


if __name__ == "__main__":
    main("The demonstration", measure)
