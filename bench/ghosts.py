"""Ghosts of bright stars: the model of ``build-ghosts`` and what its subtraction leaves, against the drawn ones.

``python -m bench.ghosts [--json] [--band BAND] [--keep FOLDER]`` simulates and processes the dithered exposures of a
field with bright stars from which other benches have their model (``bench/ghost_models.py``), fits the model, takes the
ghosts out of every CCD as the step ``difference`` does, and compares radii, places and pixels with the simulator's.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.displacement_maps import process_exposures
from bench.ghost_models import EPOCH, KIND, SEED, build_model, ghost_settings
from bench.plain_night import PlainNight
from bench.report import Row, at_most, print_report
from imaging.difference.ghost_fit import without_ghosts
from imaging.difference.ghost_model import Ghost, GhostModel
from imaging.difference.settings import SearchSettings
from imaging.exposure import exposure_from_header
from imaging.identity import ExposureId
from imaging.io.ghosts import read_ghosts
from imaging.simulation.exposures import FOCAL_PLANE_RADIUS_PIXELS
from imaging.simulation.ghosts import (
    CHIEF_RAY_SLOPE,
    PIXEL_MM,
    REFLECTIONS,
    Reflection,
    add_ghosts,
    ghost_centres,
    ghost_radius_pixels,
)
from imaging.simulation.optical_psf import OBSCURATION
from imaging.simulation.scene import Painter, SceneSources
from imaging.simulation.truth import read_exposure_truth, read_sky, true_geometry
from tasks.calibration_files import master_path
from tasks.choose_templates import summaries_of
from tasks.difference import bright_stars, difference_job, read_calibrated, reference_around

FloatArray = NDArray[np.float64]

FAINTEST_MAG = 11.0
"""Faintest star whose ghosts are drawn for the comparison."""

SEEN_ELECTRONS = 5.0
"""Least drawn light of pixels that are compared, electrons; the noise of a pixel is 15 to 40."""

FAR_PIXELS = 5000.0
"""Distance from the axis at which displacements are compared."""

SAME_PIXELS = 15.0
"""Distance of a ghost from the drawn one that it is."""


@dataclass
class Compared:
    """Differences from the drawn ghosts: of rims (pixels) and levels (relative) per ghost, of light per CCD."""

    rims: list[float] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    n_predicted: int = 0
    cpu_s: list[float] = field(default_factory=list)


def family_rows(model: GhostModel, band: str) -> list[Row]:
    """Return the errors of the families of a model, each beside the drawn one of the nearest radius."""
    rows = []
    for family in model.families:
        true = min(REFLECTIONS, key=lambda r: abs(ghost_radius_pixels(r) - family.outer_pixels))
        radius, shift = ghost_radius_pixels(true), 2.0 * true.gap_mm * CHIEF_RAY_SLOPE / PIXEL_MM
        name = f"{band}: ghost of {radius:.0f} pixels"
        percent = 100.0 * abs(family.outer_pixels / radius - 1.0)
        hole = abs(family.inner_pixels - OBSCURATION * radius)
        place = FAR_PIXELS * abs(family.displacement - shift / FOCAL_PLANE_RADIUS_PIXELS)
        far = f"{name}, error of its place {FAR_PIXELS:.0f} pixels from the axis"
        rows.append(at_most(f"{name}, error of its radius", percent, "%", 1.0, seeds=(SEED,)))
        rows.append(at_most(f"{name}, error of its hole's radius", hole, "pixel", 4.0, seeds=(SEED,)))
        rows.append(at_most(far, place, "pixel", 4.0, seeds=(SEED,)))
    return rows


def drawn_stars(root: Path, expnum: int, ccd: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return positions (pixels of a CCD) and fluxes of all bright stars of the field, as they were drawn."""
    exposure, settings = read_exposure_truth(root, expnum), ghost_settings(read_exposure_truth(root, expnum).band)
    stars = read_sky(root).stars
    mag = stars.magnitude(exposure.band, exposure.mjd_mid)
    kind, colour = np.zeros(len(mag), np.int64), stars.mags["g"] - stars.mags["i"]
    sources = SceneSources(stars.source_id, kind, *stars.at_epoch(exposure.mjd_mid), mag, colour)
    painter = Painter(exposure, ccd, true_geometry(settings, exposure, ccd), settings.effects)
    x, y, flux, _ = painter.place(sources.take(np.flatnonzero(mag < FAINTEST_MAG)))
    return x, y, flux


def compare(night: PlainNight, who: ExposureId, ccd: int, model: GhostModel, found: Compared) -> None:
    """Take the ghosts out of a CCD and compare them with the drawn ones."""
    known = summaries_of([who], night.site)
    job = difference_job(who, ccd, [(who.expnum, ccd)], known, 0, night.site, SearchSettings())
    image = read_calibrated(job, "search")
    observed = exposure_from_header(image.pixels.header, image.label)
    stars = bright_stars(reference_around(job, image), image, observed.mjd_mid)
    before = time.process_time()
    left = without_ghosts(image, stars, model)
    found.cpu_s.append(time.process_time() - before)
    x, y, flux = drawn_stars(night.site.root, who.expnum, ccd)
    drawn = np.zeros(image.pixels.shape, np.float32)
    add_ghosts(drawn, ccd, x, y, flux)
    seen = (drawn > SEEN_ELECTRONS) & (image.pixels.weight > 0)
    if seen.any():
        rest = drawn - (image.pixels.science - left.pixels.science)
        found.left.append(float(np.sqrt(np.mean(rest[seen] ** 2) / np.mean(drawn[seen] ** 2))))
    for ghost in left.ghosts:
        found.n_predicted += 1
        if ghost.subtracted:
            _compare_one(ghost, ccd, (x, y, flux), found)


def _compare_one(ghost: Ghost, ccd: int, stars: tuple[FloatArray, FloatArray, FloatArray], found: Compared) -> None:
    """Compare a ghost with the drawn one of the same place and radius."""
    true: Reflection = min(REFLECTIONS, key=lambda r: abs(ghost_radius_pixels(r) - ghost.outer_pixels))
    x, y = ghost_centres(true, ccd, stars[0], stars[1])
    away = np.hypot(x - ghost.x, y - ghost.y)
    if away.min(initial=np.inf) < SAME_PIXELS:
        radius, star = ghost_radius_pixels(true), int(np.argmin(away))
        level = true.fraction * stars[2][star] / (np.pi * radius**2 * (1.0 - OBSCURATION**2))
        found.rims.append(float(np.hypot(away[star], ghost.outer_pixels - radius)))
        found.levels.append(ghost.level / level - 1.0)


def measure(band: str, keep: Path | None) -> list[Row]:
    """Return all rows."""
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gw-workflow-bench-")))
        settings = ghost_settings(band)
        night = process_exposures(folder / f"ghosts_{band}", settings)
        exposures = [night.identity(item) for item in night.listed(settings.night, search=False)]
        before = time.process_time()
        build_model(night, exposures)
        cost = time.process_time() - before
        model, found = read_ghosts(master_path(night.site, EPOCH, KIND, 0, band), band), Compared()
        for who in exposures:
            for ccd in settings.ccds:
                compare(night, who, ccd, model, found)
    return [
        *family_rows(model, band),
        *subtraction_rows(found, band),
        Row(f"{band}: bins and fit of the model", cost, "CPU s"),
    ]


def subtraction_rows(found: Compared, band: str) -> list[Row]:
    """Return what the subtraction leaves."""
    n, images = len(found.rims), len(found.cpu_s)
    rims, levels, left, cpu_s = (
        float(np.median(np.abs(values))) if values else None
        for values in (found.rims, found.levels, found.left, found.cpu_s)
    )
    percent = [None if value is None else 100.0 * value for value in (levels, left)]
    name = f"{band}: subtracted ghosts"
    return [
        Row(f"{band}: ghosts predicted", found.n_predicted, "", n=images),
        Row(name, n, "", n=images),
        at_most(f"{name}, median distance of the rim from the drawn one", rims, "pixel", 1.0, n=n, seeds=(SEED,)),
        at_most(f"{name}, median error of the level", percent[0], "%", 5.0, n=n, seeds=(SEED,)),
        at_most(f"{band}: light left, rms over that drawn, median CCD", percent[1], "%", 5.0, n=images, seeds=(SEED,)),
        Row(f"{band}: subtraction, per image", cpu_s, "CPU s", n=images),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Ghosts of bright stars against the drawn ones")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--band", default="g", help="band")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the exposures in this folder, and use them again"
    )
    options = parser.parse_args(arguments)
    rows = measure(options.band, options.keep)
    print_report(rows, as_json=options.json, title="Ghosts of bright stars")


if __name__ == "__main__":
    main()
