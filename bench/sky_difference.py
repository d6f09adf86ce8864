"""Figures of the difference on nights of the named skies, from raw pixels; ``python -m bench.difference --sky hard``.

Every night has two search exposures and three template epochs in one band. A row counts only with enough objects.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.plain_night import PlainNight
from bench.report import Row, at_least, at_most
from imaging.candidates.settings import AssociateSettings
from imaging.difference.forced import measure_forced
from imaging.difference.settings import DetectionSettings
from imaging.image import CalibratedImage, CcdImage
from imaging.io.images import read_planes
from imaging.io.psf import read_psf
from imaging.io.tables import read_table
from imaging.io.truth import source_truth_path
from imaging.numerics.robust import mad_sigma
from imaging.simulation.night import simulate_night
from imaging.simulation.settings import DEMO_CCDS, SimulationSettings
from imaging.tables import column
from imaging.wcs.tpv import TpvWcs

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SEED = 8300
SUPERNOVAE_PER_CCD = 30.0
NEAR_PIXELS, ALONE_PIXELS = 4.0, 20.0
"""Distance of a detection from its source, and least distance of sources whose fluxes are compared."""

STEADY = ("star", "galaxy")
EXPLODING = ("kilonova", "supernova_ia", "supernova_ii")


@dataclass
class Collected:
    """What the CCDs of a night give, list entries per CCD.

    Attributes
    ----------
    quality
        Quality numbers of the difference.
    false, unflagged, used
        Numbers of false detections: all, without a flag, and those that make a candidate.
    scores
        Scores of the last.
    stars
        Residual fluxes of stars of 16 to 18 mag over their flux, and over the stated error: (n, 2).
    pulls
        Pull, flux over the true one, and true flux over its error of true transients: (n, 3).
    fakes
        Pull, expected signal to noise and whether unflagged of fakes on good pixels: (n, 3).
    """

    quality: list[dict[str, float]] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    unflagged: list[int] = field(default_factory=list)
    used: list[int] = field(default_factory=list)
    scores: list[FloatArray] = field(default_factory=list)
    stars: list[FloatArray] = field(default_factory=list)
    pulls: list[FloatArray] = field(default_factory=list)
    fakes: list[FloatArray] = field(default_factory=list)


def rows_on_sky(sky: str, band: str, quick: bool, root: Path | None = None) -> list[Row]:
    """Simulate and process a night of a named sky; return its figures with the goals as limits.

    Parameters
    ----------
    sky, band
        Sky and band.
    quick
        Two CCDs instead of four.
    root
        Folder that keeps the night, and whose night is used if it has one; None takes a temporary one.
    """
    if root is None:
        with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as folder:
            return rows_on_sky(sky, band, quick, Path(folder))
    settings = SimulationSettings.model_validate(
        {"sky": sky, "seed": SEED, "bands": (band,), "ccds": DEMO_CCDS[: 2 if quick else 4]}
        | {"focus_ccds": False, "supernovae_per_ccd": SUPERNOVAE_PER_CCD}
    )
    if not (root / "exposures.csv").is_file():
        simulate_night(root, settings, processes=1)
    return rows_of(process(PlainNight.at(root), settings.night), f"{sky}, {band}", SEED)


def process(night: PlainNight, number: int) -> Collected:
    """Process a simulated night to differences and compare them with the truth."""
    searches, templates = ([night.identity(i) for i in night.listed(number, search=s)] for s in (True, False))
    for who in [*templates, *searches]:
        night.single_epoch(who)
    collected = Collected()
    for who in searches:
        for ccd, result in night.difference(who, templates).items():
            collected.quality.append(result.quality)
            _compare(collected, night, who.expnum, ccd, [t.expnum for t in templates])
    return collected


def _compare(collected: Collected, night: PlainNight, expnum: int, ccd: int, templates: Sequence[int]) -> None:
    def product(suffix: str) -> Path:
        return next(night.site.store.glob(f"*/exp/*/{expnum}/**/*_{ccd:02d}_*_{suffix}"))

    truth = read_table(source_truth_path(night.site.root, expnum, ccd))
    kind, x, y = (column(truth, name) for name in ("kind", "x", "y"))
    changing = ~np.isin(kind, STEADY)
    found = read_table(product("detections.parquet"))
    flags, score = column(found, "flags"), column(found, "real_score").astype(float)
    false = ~_near(column(found, "x"), column(found, "y"), x[changing], y[changing], NEAR_PIXELS)
    settings = AssociateSettings()
    used = false & ((flags & settings.rejected_flags) == 0) & (score >= settings.min_real_score)
    for counts, which in zip(
        (collected.false, collected.unflagged, collected.used), (false, false & (flags == 0), used), strict=True
    ):
        counts.append(int(which.sum()))
    collected.scores.append(score[used])
    collected.fakes.append(_fakes(read_table(product("fakes.parquet"))))
    image, template_flux = _read(product("diff.fits"), product("diffpsf.fits"), product("template.fits"))
    flux, mag = column(truth, "flux_aperture_electrons"), column(truth, "mag")
    alone = _others(x, y, x[changing], y[changing]) > ALONE_PIXELS
    stars = (kind == "star") & (mag > 16) & (mag < 18) & ~column(truth, "is_saturated").astype(bool) & alone
    forced = measure_forced(image, x[stars], y[stars], DetectionSettings(), template_flux)
    good = ~forced.masked & np.isfinite(forced.flux)
    collected.stars.append(np.stack([forced.flux / flux[stars], forced.flux / forced.error], axis=1)[good])
    new = np.isin(kind, EXPLODING) & alone & ~_held(night.site.root, templates, ccd, truth)
    forced = measure_forced(image, x[new], y[new], DetectionSettings(), template_flux)
    good = ~forced.masked & np.isfinite(forced.flux) & (flux[new] > 5 * forced.error)
    pull, ratio = (forced.flux - flux[new]) / forced.error, forced.flux / flux[new]
    collected.pulls.append(np.stack([pull, ratio, flux[new] / forced.error], axis=1)[good])


def _read(path: Path, psf: Path, template: Path) -> tuple[CalibratedImage, NDArray[np.float32]]:
    """Read a difference as forced photometry does, and the subtracted template through its filter."""
    planes, header = read_planes(path)
    image = CalibratedImage(
        pixels=CcdImage(planes["SCI"], planes["MSK"], planes["WGT"], header),
        wcs=TpvWcs.from_header(header),
        psf=read_psf(psf),
        zeropoint_mag=float(header["MAGZERO"]),
        sky_electrons=float(header["SKYBRITE"]),
        saturation_electrons=float(header["SATURATE"]),
        label=path.name,
    )
    return image, read_planes(template, ["FLX"])[0]["FLX"]


def _fakes(table: pa.Table) -> FloatArray:
    found = column(table, "detected").astype(bool) & column(table, "on_good_pixels").astype(bool)
    names = ("flux_measured", "flux_error", "flux")
    measured, error, true = (column(table, name)[found].astype(float) for name in names)
    passed = column(table, "passed")[found].astype(float)
    return np.stack([(measured - true) / error, column(table, "snr_expected")[found].astype(float), passed], axis=1)


def _held(root: Path, templates: Sequence[int], ccd: int, truth: pa.Table) -> BoolArray:
    """Return which sources have more than half a per cent of their flux in a template of the same CCD."""
    flux = dict.fromkeys(column(truth, "source_id").tolist(), 0.0)
    for expnum in templates:
        table = read_table(source_truth_path(root, expnum, ccd))
        names = (column(table, name).tolist() for name in ("source_id", "flux_aperture_electrons"))
        for number, value in zip(*names, strict=True):
            flux[number] = max(flux.get(number, 0.0), value)
    theirs = np.array([flux[number] for number in column(truth, "source_id").tolist()])
    return theirs > 0.005 * column(truth, "flux_aperture_electrons")


def _near(x: FloatArray, y: FloatArray, other_x: FloatArray, other_y: FloatArray, limit: float) -> BoolArray:
    distance = np.hypot(x[:, None] - other_x, y[:, None] - other_y)
    return distance.min(axis=1, initial=np.inf) < limit


def _others(x: FloatArray, y: FloatArray, other_x: FloatArray, other_y: FloatArray) -> FloatArray:
    """Return the distance to the nearest changing source other than the source itself."""
    distance = np.hypot(x[:, None] - other_x, y[:, None] - other_y)
    return np.where(distance == 0.0, np.inf, distance).min(axis=1, initial=np.inf)


def rows_of(collected: Collected, label: str, seed: int) -> list[Row]:
    """Return the figures of a night, with the goals as limits.

    Parameters
    ----------
    collected
        What its CCDs give.
    label
        Sky and band, the beginning of every row's name.
    seed
        Seed of the night.
    """
    n, common = len(collected.false), {"seeds": (seed,)}
    scores = np.concatenate([np.zeros(0), *collected.scores])
    stars, pulls, fakes = (
        np.concatenate([np.zeros((0, width)), *parts])
        for width, parts in ((2, collected.stars), (3, collected.pulls), (3, collected.fakes))
    )

    def per_ccd(name: str, number: float, goal: float) -> Row:
        value = number / n if n else None
        return at_most(f"{label}: false detections per CCD, {name}", value, "", goal, n=n, **common)

    def off(name: str, value: float | None, goal: float, count: int, unit: str = "") -> Row:
        """Return a row without a value if its sampling error exceeds a third of the tolerance."""
        return at_most(f"{label}: {name}", value, unit, goal, n=count, **common)

    rows = [
        per_ccd("all", sum(collected.false), 5.0),
        per_ccd("without a flag", sum(collected.unflagged), 2.0),
        per_ccd("that make a candidate", sum(collected.used), 0.5),
        per_ccd("of these with a score above 0.5", int((scores > 0.5).sum()), 0.2),
        per_ccd("of these with a score above 0.9", int((scores > 0.9).sum()), 0.02),
    ]
    chi2 = [abs(q["kernel_chi2"] - 1.0) for q in collected.quality]
    rows.append(off("chi-square of the kernel fit, |median - 1|", float(np.median(chi2)) if chi2 else None, 0.05, n))
    if len(stars):
        rows.append(Row(f"{label}: residual of stars of 16 to 18 mag", 100 * mad_sigma(stars[:, 0]), "%", n=len(stars)))
        rows.append(off("the same over its stated error", mad_sigma(stars[:, 1]), 1.1, len(stars)))
    enough = partial(_enough, tolerance=0.05)
    for name, values in (("true transients", pulls[:, 0]), ("fakes above S/N 8", fakes[fakes[:, 1] > 8, 0])):
        width = abs(mad_sigma(values) - 1) if len(values) else None
        rows.append(off(f"pull of {name}, |width - 1|", width if enough(values) else None, 0.05, len(values)))
    rows.append(off("mean pull of true transients", _mean(pulls[:, 0], 0.1), 0.1, len(pulls)))
    bright = pulls[pulls[:, 2] > 20]
    rows.append(off("their flux over the true one, S/N above 20, |ratio - 1|", _ratio(bright), 0.2, len(bright), "%"))
    for low, high, goal in ((8.0, 12.0, 99.0), (50.0, np.inf, 99.9)):
        inside = fakes[(fakes[:, 1] >= low) & (fakes[:, 1] < high), 2]
        share = 100 * float(inside.mean()) if inside.size else None
        name = f"{label}: detected fakes of S/N {low:g} to {high:g} without a flag"
        rows.append(at_least(name, share, "%", goal, n=inside.size, **common))
    return rows


def _enough(values: FloatArray, tolerance: float) -> bool:
    """Return whether the sampling error of a robust width is at most a third of its tolerance."""
    return len(values) > 0 and 1.17 / np.sqrt(len(values)) <= tolerance / 3


def _mean(values: FloatArray, tolerance: float) -> float | None:
    """Return the absolute mean of pulls; None if its sampling error is above a third of the tolerance."""
    return abs(float(np.mean(values))) if len(values) and 1 / np.sqrt(len(values)) <= tolerance / 3 else None


def _ratio(bright: FloatArray) -> float | None:
    """Return the weighted mean ratio of fluxes minus one, per cent; None if it is not known to 0.07 %."""
    weight = bright[:, 2] ** 2
    if not len(bright) or 100 / np.sqrt(weight.sum()) > 0.07:
        return None
    return 100 * abs(float(np.sum(weight * bright[:, 1]) / weight.sum()) - 1)
