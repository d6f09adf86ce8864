"""Single-epoch processing in one table: accuracy and cost of every step, compared with the programs that it replaces.

``python -m bench.single_epoch [--json] [--quick] [--keep FOLDER]`` runs the benches of detrending (12 CCDs, three
seeds, seeing 0.8, 1.1 and 1.4 arcsec, 60 clean fields), of measuring (the same CCDs and seeing; with SExtractor, PSFEx
and SCAMP on the same frames if installed), of real pixels and of the chain (cost and memory), one after the other. With
``--keep``, results of the same code are read from the folder, so that an interrupted run can be continued. The names of
the rows begin with that of their bench. With ``--sky hard`` (or another sky) instead the figures of a simulated night:
:mod:`bench.sky_single_epoch`.
"""

import argparse
import hashlib
import json
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench import chain, detrend, measure, real_pixels
from bench.report import Row, print_report
from bench.sky_night import add_options, processed_nights
from bench.sky_single_epoch import rows_on_sky

Bench = Callable[[bool], Sequence[Row]]


def measure_as_wide(quick: bool) -> Sequence[Row]:
    """Run the bench of measuring on the CCDs of the bench of detrending that have both amplifiers."""
    return measure.measure(quick, tuple(ccd for ccd in (*detrend.CCDS_FULL, 40) if ccd != 31))


PARTS: dict[str, Bench] = {
    "real pixels": real_pixels.measure,
    "chain": chain.measure,
    "detrend": detrend.measure,
    "measure": measure_as_wide,
}
"""Name of a bench to the function that runs it; each can be run alone as ``python -m bench.NAME``."""


def apart(run: Bench, quick: bool) -> Sequence[Row]:
    """Run a bench in a separate process, so that its peak memory does not include that of other benches."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run, quick).result()


def measure_all(
    quick: bool,
    keep: Path | None = None,
    parts: Mapping[str, Bench] = PARTS,
    start: Callable[[Bench, bool], Sequence[Row]] = apart,
) -> list[Row]:
    """Run the benches and return all rows.

    Parameters
    ----------
    quick
        Whether to run the quick versions.
    keep
        Folder for the rows of each bench; rows of the same code are not measured again.
    parts
        The benches.
    start
        Function that runs a bench.
    """
    rows = []
    for part, run in parts.items():
        found = None if keep is None else _kept(keep, part, quick)
        if found is None:
            sys.stderr.write(f"{part} ...\n")
            found = list(start(run, quick))
            if keep is not None:
                _keep(keep, part, quick, found)
        rows += [replace(row, name=f"{part}: {row.name}") for row in found]
    return rows


def code_hash() -> str:
    """Return a hash of the sources that the results depend on."""
    root = Path(__file__).parents[1]
    found = hashlib.sha256()
    for path in sorted(path for folder in ("imaging", "bench") for path in (root / folder).rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:16]


def _file(keep: Path, part: str) -> Path:
    return keep / f"{part.replace(' ', '_')}.json"


def _kept(keep: Path, part: str, quick: bool) -> list[Row] | None:
    """Return the kept rows of a bench; None if there are none of this code."""
    path = _file(keep, part)
    if not path.is_file():
        return None
    document: dict[str, Any] = json.loads(path.read_text())
    if (document["code"], document["quick"]) != (code_hash(), quick):
        return None
    return [Row(**{**row, "seeds": tuple(row["seeds"])}) for row in document["rows"]]


def _keep(keep: Path, part: str, quick: bool, rows: Sequence[Row]) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    document = {"code": code_hash(), "quick": quick, "rows": [asdict(row) for row in rows]}
    _file(keep, part).write_text(json.dumps(document))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Single-epoch processing")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="two CCDs and one seed: some minutes")
    add_options(parser)
    options = parser.parse_args(arguments)
    rows = rows_on_sky(processed_nights(options)) if options.sky else measure_all(options.quick, options.keep)
    print_report(rows, as_json=options.json, title="Single-epoch processing")


if __name__ == "__main__":
    main()
