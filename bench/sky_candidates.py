"""Rank of the kilonova on nights of the named skies, from raw pixels; ``python -m bench.candidates --sky hard``."""

import tempfile
from pathlib import Path

import numpy as np

from bench.demo import NOT_FOUND, run_demo_in
from bench.report import Row, at_most
from imaging.errors import InputError
from imaging.io.tables import read_table
from imaging.io.truth import source_truth_path
from imaging.simulation.settings import DEMO_CCDS
from imaging.tables import column
from imaging.wcs.sphere import separation_deg

SEED = 8400
FIRST, NEAR_ARCSEC = 20, 1.5
"""Number of best candidates compared with the truth, and largest distance from their sources."""

STEADY = ("star", "galaxy")


def rows_on_sky(sky: str, band: str, quick: bool) -> list[Row]:
    """Run the demonstration on a named sky; return the rank of its kilonova and the false ones among the first.

    Parameters
    ----------
    sky, band
        Sky; the demonstration is in i.
    quick
        Two CCDs instead of four.

    Raises
    ------
    InputError
        If another band is asked for.
    """
    if band != "i":
        raise InputError("the demonstration has one band", value=band, limit="i")
    ccds = DEMO_CCDS[: 2 if quick else 4]
    with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as folder:
        options = ["--sky", sky, "--seed", str(SEED), "--ccds", ",".join(map(str, ccds))]
        document = run_demo_in(Path(folder), options)
        first = document["candidates"][:FIRST]
        false = false_ones(Path(folder), {row["expnum"] for row in document["ccds"]}, ccds, first)
    common = {"seeds": (SEED,)}
    return [
        at_most(f"{sky}, {band}: rank of the kilonova", document["kilonova_rank"] or NOT_FOUND, "", 3, **common),
        at_most(f"{sky}, {band}: false ones among the first {FIRST}", false, "", 1, n=len(first), **common),
        Row(f"{sky}, {band}: candidates", document["n_candidates"], "", **common),
    ]


def false_ones(root: Path, expnums: set[int], ccds: tuple[int, ...], candidates: list[dict[str, float]]) -> int:
    """Return the number of candidates without a true source near them that changes in some exposure."""
    places = [np.zeros((0, 2))]
    for expnum in expnums:
        for ccd in ccds:
            path = source_truth_path(root, expnum, ccd)
            if path.is_file():
                truth = read_table(path)
                changing = ~np.isin(column(truth, "kind"), STEADY)
                places.append(np.stack([column(truth, name)[changing] for name in ("ra", "dec")], axis=1))
    ra, dec = np.concatenate(places).T
    distance = [separation_deg(row["ra"], row["dec"], ra, dec).min(initial=np.inf) * 3600 for row in candidates]
    return int(np.sum(np.array(distance) > NEAR_ARCSEC))
