"""The processing on a sky that GalSim draws, beside the simulator's own ``typical`` sky with the same truth.

``python -m bench.hard_sky [--json] [--quick]``: a night of four CCDs (one quick) in i, one search exposure and two
templates, processed to detections. Where the two columns differ, one of the skies is wrong or the processing depends on
what it should not; the figures have no limits of their own. With the options of :mod:`bench.sky_night`, such as
``--sky hard --band g --sharp``, it gives the figures of :mod:`bench.single_epoch` and :mod:`bench.difference` on nights
that GalSim draws.
"""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bench.galsim_painter import FourCorners, GalsimPainter
from bench.plain_night import PlainNight
from bench.report import Row, main
from bench.sky_difference import DIFFERENCES
from bench.sky_goals import rows_of_families
from bench.sky_night import SkyNight, Stamp
from bench.sky_single_epoch import SINGLE_EPOCHS
from deployments.products.compare_with_truth import Row as Figures
from deployments.products.compare_with_truth import ccd_figures, completeness
from imaging.simulation.exposures import SimulatedExposure
from imaging.simulation.night import simulate_night
from imaging.simulation.scene import Painter
from imaging.simulation.settings import DEMO_CCDS, SimulationSettings

SKIES: dict[str, type[Painter]] = {"own": Painter, "GalSim": GalsimPainter}

UNITS = {
    "astrometry_rms_mas": "mas",
    "zeropoint_error_mmag": "mmag",
    "difference_noise_width": "",
    "n_detections": "per CCD",
    "n_candidates": "per CCD",
    "fwhm_arcsec": "arcsec",
}
"""Figures per CCD, as ``compare_with_truth`` names them, and their units."""


class GalsimNight(SkyNight):
    """A night of a named sky whose stars and galaxies GalSim draws."""

    @property
    def label(self) -> str:
        """Beginning of the names of its rows."""
        return f"GalSim, {super().label}"

    @property
    def painter(self) -> type[Painter]:
        """What draws its sources."""
        return GalsimPainter

    def true_psf(self, exposure: SimulatedExposure, ccd: int) -> Stamp:
        """Return the point-spread function that GalSim draws."""
        return FourCorners(exposure, ccd).stamp


def rows_on_sky(nights: Iterable[SkyNight]) -> list[Row]:
    """Return the figures of the single epochs and of the differences of processed nights."""
    return rows_of_families((SINGLE_EPOCHS, DIFFERENCES), nights)


def settings_of(ccds: tuple[int, ...], seed: int) -> SimulationSettings:
    """Return the settings of both nights."""
    return SimulationSettings(
        sky="typical", seed=seed, ccds=ccds, focus_ccds=False, n_search_exposures=1, n_template_epochs=2
    )


def process(root: Path, settings: SimulationSettings, painter: type[Painter]) -> tuple[list[Figures], list[Figures]]:
    """Simulate a night, process it to detections; return the figures of its CCDs and the completeness of its fakes."""
    simulate_night(root, settings, processes=1, painter=painter)
    night = PlainNight.at(root)
    searches = [night.identity(item) for item in night.listed(settings.night, search=True)]
    templates = [night.identity(item) for item in night.listed(settings.night, search=False)]
    for who in [*templates, *searches]:
        night.single_epoch(who)
    for who in searches:
        night.difference(who, templates)
    expnums = [who.expnum for who in searches]
    return ccd_figures(night.site, expnums), completeness(night.site, expnums)


def rows_of(sky: str, figures: Sequence[Figures], found: Sequence[Figures], seed: int) -> list[Row]:
    """Return the rows of one sky: medians over its CCDs, and completeness where there are fakes."""
    rows = []
    for name, unit in UNITS.items():
        values = [float(row[name]) for row in figures if row.get(name) is not None]
        middle = float(np.median(values)) if values else None
        rows.append(Row(f"{sky}: {name}, median", middle, unit, n=len(values), seeds=(seed,)))
    for row in found:
        if row["n"]:
            name = f"{sky}: fakes from S/N {row['snr_min']:g} that pass"
            rows.append(Row(name, 100.0 * row["passed"], "%", n=row["n"], seeds=(seed,)))
    return rows


def measure(quick: bool) -> list[Row]:
    """Process both nights."""
    ccds, seed = (DEMO_CCDS[:1], 8101) if quick else (DEMO_CCDS, 8102)
    rows = []
    for sky, painter in SKIES.items():
        with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as folder:
            figures, found = process(Path(folder), settings_of(ccds, seed), painter)
            rows += rows_of(sky, figures, found, seed)
    return rows


if __name__ == "__main__":
    main("A sky drawn by GalSim", measure, rows_on_sky, GalsimNight)
