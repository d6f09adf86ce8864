"""Simulate one CCD of one exposure, in one process."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.detector.ccds import CCDS, NX, Ccd
from imaging.detector.crosstalk import CrosstalkMatrix, observatory_crosstalk
from imaging.detector.status import dead_ccds
from imaging.io.calibrations import read_calibration_image
from imaging.io.raw_write import encode_extension
from imaging.io.tables import write_table
from imaging.io.truth import pixel_truth_path, read_array, source_truth_path, write_array, write_part, write_pixel_truth
from imaging.schemas.truth import TRUE_SOURCES
from imaging.simulation.background import sky_image
from imaging.simulation.brighter_fatter import redistribute
from imaging.simulation.calibrations import calibration_path, true_linearity
from imaging.simulation.camera import column_defects
from imaging.simulation.cosmic_rays import SparsePixels, add_cosmic_rays
from imaging.simulation.crosstalk import add_crosstalk
from imaging.simulation.detector import (
    add_column_offsets,
    bias_level,
    collect_light,
    digitise,
    overflow,
    read_out,
)
from imaging.simulation.exposures import SimulatedExposure
from imaging.simulation.raw_headers import extension_cards
from imaging.simulation.scene import SOURCE_KINDS, Painter, draw_scene
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.stray_charge import (
    add_afterglows,
    add_bump_glow,
    defer_charge,
    switch_columns,
    switching_columns,
)
from imaging.simulation.streaks import add_streaks
from imaging.simulation.streams import random_stream
from imaging.simulation.truth import read_sky, true_geometry
from imaging.tables import make_table

FloatImage = NDArray[np.float32]

WORK_FOLDER = ".work"


@dataclass(frozen=True)
class CcdJob:
    """One CCD of one exposure.

    Attributes
    ----------
    root
        Folder of the simulation.
    settings
        Its settings.
    exposure
        The exposure.
    ccdnum
        The CCD.
    painter
        Way to draw the sources; None for the simulator's own.
    """

    root: Path
    settings: SimulationSettings
    exposure: SimulatedExposure
    ccdnum: int
    painter: type[Painter] | None = None

    @property
    def ccd(self) -> Ccd:
        """The CCD."""
        return CCDS[self.ccdnum]

    def analog_path(self, ccdnum: int) -> Path:
        """Return the path of a CCD's analog image."""
        return self.root / WORK_FOLDER / f"{self.exposure.expnum:08d}" / f"analog_{ccdnum:02d}.npy"

    @property
    def part_path(self) -> Path:
        """Path of the encoded extension."""
        return self.root / WORK_FOLDER / f"{self.exposure.expnum:08d}" / f"extension_{self.ccdnum:02d}.fits"

    def random(self, purpose: str) -> np.random.Generator:
        """Return the random generator of a step for this CCD and exposure."""
        return random_stream(self.settings.seed, purpose, self.exposure.expnum, self.ccdnum)


@lru_cache(maxsize=1)
def _crosstalk() -> CrosstalkMatrix:
    return observatory_crosstalk()


def expected_electrons(job: CcdJob) -> FloatImage:
    """Return the image before noise and detector: sources (without streaks) and sky for unit response.

    Parameters
    ----------
    job
        The CCD.

    Returns
    -------
    expected
        (4096, 2048) float32, electrons: expectation of the detrended image, dome flat applied, with sources divided by
        the star flat, without streaks and cosmic rays.
    """
    geometry = true_geometry(job.settings, job.exposure, job.ccdnum)
    scene = draw_scene(job.exposure, job.ccdnum, geometry, read_sky(job.root), job.settings.effects, job.painter)
    return scene.light + sky_image(job.exposure, job.settings.camera_seed, job.ccdnum)


def simulate_analog(job: CcdJob) -> None:
    """Simulate a CCD up to the signal of its amplifiers, and write it with the truth (first pass).

    Parameters
    ----------
    job
        The CCD.
    """
    ccd, exposure, settings = job.ccd, job.exposure, job.settings
    if ccd.is_focus or job.ccdnum in dead_ccds(exposure.night):
        write_array(job.analog_path(job.ccdnum), _without_image(job))
        return
    band = exposure.band
    flat = read_calibration_image(calibration_path(job.root, "flat", job.ccdnum, band))
    star_flat = read_calibration_image(calibration_path(job.root, "star_flat", job.ccdnum, band))
    shifts = true_geometry(settings, exposure, job.ccdnum).misalignment.pixels
    if shifts is not None:
        star_flat = star_flat / shifts.area(ccd.ny)
    light, sources, streaks = _light(job)
    sky = sky_image(exposure, settings.camera_seed, job.ccdnum)
    electrons = collect_light(light, star_flat, flat, sky, job.random("photons"))
    repelled = settings.brighter_fatter and settings.effects.light_repels
    if repelled:
        electrons = redistribute(electrons)
    cosmic_rays = add_cosmic_rays(electrons, exposure.cosmic_rays_per_ccd, job.random("cosmic rays"))
    if settings.brighter_fatter and not repelled:
        electrons = redistribute(electrons)
    effects = settings.effects
    if effects.afterglows_per_ccd > 0.0 and exposure.is_on_sky:
        add_afterglows(electrons, effects.afterglows_per_ccd, job.random("afterglows"))
    if effects.bump_glow > 0.0 and exposure.is_on_sky:
        add_bump_glow(electrons, settings.camera_seed, ccd, effects.bump_glow, job.random("bump glow"))
    altered = overflow(electrons, ccd)
    if effects.deferred_charge > 0.0:
        defer_charge(electrons, ccd, effects.deferred_charge)
    bias = read_calibration_image(calibration_path(job.root, "bias", job.ccdnum))
    bias = add_column_offsets(bias, column_defects(settings.camera_seed, ccd), job.random("columns"))
    if effects.switching_columns_per_ccd > 0.0:
        hot = switching_columns(settings.camera_seed, ccd, effects.switching_columns_per_ccd)
        bias = switch_columns(bias, hot, job.random("switching columns"))
    analog = read_out(electrons, bias, true_linearity(settings, job.ccdnum), ccd, job.random("readout"))
    write_array(job.analog_path(job.ccdnum), analog)
    _write_truth(job, sources, cosmic_rays, streaks, altered)


def _without_image(job: CcdJob) -> FloatImage:
    """Return the analog image of a dead CCD (noise), or of a focus CCD (sky out of focus)."""
    ccd, random = job.ccd, job.random("readout")
    blank = np.zeros((ccd.ny, NX), dtype=np.float32)
    electrons = None
    if ccd.is_focus:
        sky = job.exposure.sky_electrons
        electrons = (sky + np.sqrt(sky) * random.standard_normal(blank.shape)).astype(np.float32)
    return read_out(electrons, blank, true_linearity(job.settings, job.ccdnum), ccd, random)


def _light(job: CcdJob) -> tuple[FloatImage, dict[str, NDArray[Any]] | None, SparsePixels | None]:
    """Return the light of all sources, their table, and the streaks' pixels."""
    if not job.exposure.is_on_sky:
        return np.zeros((job.ccd.ny, NX), dtype=np.float32), None, None
    geometry = true_geometry(job.settings, job.exposure, job.ccdnum)
    scene = draw_scene(job.exposure, job.ccdnum, geometry, read_sky(job.root), job.settings.effects, job.painter)
    return scene.light, scene.sources, add_streaks(scene.light, job.exposure, geometry)


def _write_truth(
    job: CcdJob,
    sources: dict[str, NDArray[Any]] | None,
    cosmic_rays: SparsePixels,
    streaks: SparsePixels | None,
    altered: NDArray[np.bool_],
) -> None:
    expnum = job.exposure.expnum
    arrays: dict[str, NDArray[Any]] = {
        "cosmic_ray_index": cosmic_rays.index,
        "cosmic_ray_electrons": cosmic_rays.electrons,
        "cosmic_ray_track": cosmic_rays.label,
        "full_index": np.flatnonzero(altered.ravel()).astype(np.int32),
        "shape": np.array(altered.shape, dtype=np.int32),
    }
    if streaks is not None:
        arrays |= {"streak_index": streaks.index, "streak_electrons": streaks.electrons, "streak": streaks.label}
    write_pixel_truth(pixel_truth_path(job.root, expnum, job.ccdnum), arrays)
    if sources is None:
        return
    x, y = np.round(sources["x"]).astype(int), np.round(sources["y"]).astype(int)
    saturated = np.zeros(len(x), dtype=bool)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            inside = (x + dx >= 0) & (x + dx < altered.shape[1]) & (y + dy >= 0) & (y + dy < altered.shape[0])
            saturated[inside] |= altered[(y + dy)[inside], (x + dx)[inside]]
    kinds = [SOURCE_KINDS[kind] for kind in sources["kind"]]
    table = make_table(sources | {"kind": kinds, "is_saturated": saturated}, TRUE_SOURCES)
    write_table(source_truth_path(job.root, expnum, job.ccdnum), table)


def finish_ccd(job: CcdJob) -> None:
    """Add crosstalk and bias level to a CCD, digitise and encode it (second pass, after all neighbours).

    Parameters
    ----------
    job
        The CCD.
    """
    ccd = job.ccd
    analog = np.array(read_array(job.analog_path(job.ccdnum)))
    terms = () if ccd.is_focus else _crosstalk().into(job.ccdnum)
    wanted = {term.source[0] for term in terms} & set(job.settings.ccds)
    sources = {n: analog if n == job.ccdnum else np.asarray(read_array(job.analog_path(n))) for n in wanted}
    analog = add_crosstalk(analog, job.ccdnum, terms, sources)
    levels = {a.is_left: bias_level(ccd, a.name, job.random(f"bias level {a.name}")) for a in ccd.amplifiers}
    pixels = digitise(analog, levels[True], levels[False])
    write_part(job.part_path, encode_extension(extension_cards(job.exposure, ccd), pixels, header_date(job.exposure)))


def header_date(exposure: SimulatedExposure) -> str:
    """Return the date in the checksum comments: that of the exposure, so that files are reproducible."""
    night = str(exposure.night)
    return f"{night[:4]}-{night[4:6]}-{night[6:]}T00:00:00"
