"""The files of a processed night, read by the tools that receive them.

``python -m bench.outputs [--json] [--quick]``: a simulated night is processed (four CCDs, quick two) and every kind of
file is read by astropy, fitsio, pandas, polars, DuckDB, SExtractor, STILTS and fitsverify where they are present;
a row without a value names the missing tool.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.outputs_images import image_rows, stamp_rows
from bench.outputs_night import ProcessedNight, process_night
from bench.outputs_photometry import export_rows, photometry_rows
from bench.outputs_reports import report_rows
from bench.outputs_tables import table_rows
from bench.report import Row, main
from imaging.simulation.settings import demo_settings

SECTIONS: tuple[Callable[[ProcessedNight], list[Row]], ...] = (
    image_rows,
    stamp_rows,
    table_rows,
    photometry_rows,
    export_rows,
    report_rows,
)
"""Functions of a processed night, one for each kind of output."""


def rows_of(night: ProcessedNight) -> list[Row]:
    """Return the rows of all sections for a night."""
    return [row for section in SECTIONS for row in section(night)]


def measure(quick: bool) -> Sequence[Row]:
    """Simulate and process a night, and check its files."""
    settings = demo_settings(ccds=(27, 34)) if quick else demo_settings()
    with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as folder:
        return rows_of(process_night(Path(folder), settings))


if __name__ == "__main__":
    main("Outputs in the tools that receive them", measure)
