"""Single-epoch figures on nights of the named skies: ``python -m bench.single_epoch --sky hard``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.calibrated_pixels import mean_zeropoint_mag
from bench.ideal_astrometry import ideal_errors_mas
from bench.measure_scores import FAINTEST_NEIGHBOUR, MILLIMAG, PLACES, Truth, counterparts, undisturbed
from bench.report import Row, at_least, at_most
from bench.sky_astrometry import (
    CcdCoordinates,
    guessed_colour_errors_mas,
    has_colour,
    reference_stars,
    rms_per_axis,
    solution_errors_mas,
)
from bench.sky_goals import GOALS, Family, Goals
from bench.sky_night import SkyNight, Stamp
from blocks.site import Site
from imaging.detector.ccds import FIELD_RADIUS_DEG
from imaging.io.psf import read_psf
from imaging.io.reference import read_reference_cone
from imaging.io.tables import read_table
from imaging.io.truth import source_truth_path
from imaging.numerics.robust import mad_sigma
from imaging.photometry.cascade import GAIA
from imaging.psf.model import PsfModel
from imaging.simulation.exposures import SimulatedExposure
from imaging.simulation.truth import read_exposure_truth
from imaging.tables import column
from imaging.wcs.tpv import sky_to_plane

FloatArray = NDArray[np.float64]

ASTROMETRY_SNR = 30.0
COLOUR_MAG = (16.0, 19.0)
"""Magnitudes of the stars that give the trend with colour."""

SCATTER_MAG = (16.0, 18.0)
HALF_WIDTH = 15
SHIFTS = 3
"""Steps to the shift between a model and the true PSF: the centroid of a donut with coma, in the window of its model,
is half a pixel from its centre of light."""

CALIBRATION = (
    "CCDs with",
    "trend with colour",
    "scatter of calibrated",
    "error of clouds",
    "zero point, rms",
    "zero points over",
)
"""What the names of the rows hold that are the calibration's."""

MINIMUM_SAMPLES = 3
"""Fewest independent samples whose scatter says how well a root mean square is known."""


@dataclass
class Measured:
    """What the CCDs of all exposures give.

    Attributes
    ----------
    wanted
        Number of CCDs that should have a catalogue.
    solution_mas, coloured_mas, other_mas
        Per CCD, rms error per axis of the coordinates without photon noise: of all stars, of those whose colour the
        reference lists, and of the others.
    ideal_mas, ideal_coloured_mas, guessing_mas
        Per exposure, the same of an ideal Gaussian process on its reference stars (:mod:`bench.ideal_astrometry`): of
        all stars and those of listed colour, and of all together with the best guesses of colours that are not known.
    psf_residual
        (20 per CCD) rms of the difference of model and true PSF over the rms of the latter.
    stars
        (n, 4) of single stars: magnitude, measured minus true magnitude less the median of the CCD, its stated error,
        colour g - i.
    magnitudes
        The same as ``stars`` for magnitudes, which contain the transparency of clouds and its error.
    zeropoint_mmag, zeropoint_pull
        Per CCD, adopted minus true zero point, and the same over its stated error.
    exposures, fields
        Number of the exposure of each of ``solution_mas``, and of the field of each of ``zeropoint_mmag``: what they
        share, turbulence or reference stars, is one sample.
    """

    wanted: int = 0
    solution_mas: list[float] = field(default_factory=list)
    coloured_mas: list[float] = field(default_factory=list)
    other_mas: list[float] = field(default_factory=list)
    ideal_mas: list[float] = field(default_factory=list)
    ideal_coloured_mas: list[float] = field(default_factory=list)
    guessing_mas: list[float] = field(default_factory=list)
    psf_residual: list[float] = field(default_factory=list)
    stars: list[FloatArray] = field(default_factory=list)
    magnitudes: list[FloatArray] = field(default_factory=list)
    zeropoint_mmag: list[float] = field(default_factory=list)
    zeropoint_pull: list[float] = field(default_factory=list)
    exposures: list[int] = field(default_factory=list)
    fields: list[int] = field(default_factory=list)


def rows_on_sky(nights: Iterable[SkyNight]) -> list[Row]:
    """Return the figures of all exposures of processed nights, with the goals as limits."""
    return SINGLE_EPOCHS.on_sky(nights)


def absent(night: SkyNight) -> Measured:
    """Return what a night without any catalogue gives."""
    settings = night.settings
    return Measured(wanted=len(night.ccds) * (settings.n_search_exposures + settings.n_template_epochs))


def collect(night: SkyNight) -> Measured:
    """Compare the exposures of a processed night with the truth; templates that no plan asks for have no products."""
    planned = night.planned()
    measured = Measured(wanted=len(night.ccds) * len(planned))
    for expnum in planned:
        exposure = read_exposure_truth(night.root, expnum)
        adopted = adopted_zeropoints(night, expnum)
        reference, compared, listed = [], {}, _listed(night, exposure)
        for ccd in night.ccds:
            names = ("fullcat.parquet", "psf.fits", "matches.parquet")
            catalogue, psf, matched = (night.product(expnum, ccd, name) for name in names)
            if catalogue is None or psf is None or matched is None:
                continue
            sources, matches = read_table(source_truth_path(night.root, expnum, ccd)), read_table(matched)
            found, centre = read_table(catalogue), (exposure.true_ra_deg, exposure.true_dec_deg)
            compared[ccd] = _compare(measured, sources, found, matches, listed)
            reference.append(reference_stars(matches, found, ccd, centre))
            measured.exposures.append(100_000_000 * night.seed + expnum)
            measured.psf_residual += psf_residuals(night.true_psf(exposure, ccd), read_psf(psf))
            if ccd in adopted:
                error = adopted[ccd][0] - mean_zeropoint_mag(Truth.of(sources))
                measured.zeropoint_mmag.append(1000.0 * error)
                measured.zeropoint_pull.append(error / adopted[ccd][1])
                measured.fields.append(100 * night.seed + ccd)
        if reference:
            _count_coordinates(measured, exposure, np.concatenate(reference, axis=1), compared)
    return measured


def _count_coordinates(
    measured: Measured, exposure: SimulatedExposure, stars: FloatArray, compared: dict[int, CcdCoordinates]
) -> None:
    """Count the coordinates of an exposure, and those of the ideal process on its (5, n) reference stars."""
    for part in compared.values():
        measured.solution_mas.append(rms_per_axis(part.errors_mas))
        measured.coloured_mas.append(rms_per_axis(part.errors_mas[:, part.coloured]))
        measured.other_mas.append(rms_per_axis(part.errors_mas[:, ~part.coloured]))
    names = ("ra", "dec", "coloured", "listed", "mag", "g_minus_i")
    ra, dec, coloured, *stars_of_field = (
        np.concatenate([getattr(part, name) for part in compared.values()]) for name in names
    )
    wanted = np.stack(sky_to_plane(ra, dec, exposure.true_ra_deg, exposure.true_dec_deg), axis=-1)
    ccds = np.repeat(list(compared), [part.ra.size for part in compared.values()])
    ideal = ideal_errors_mas(exposure.turbulence, stars[:2].T, stars[2], stars[3:].T, wanted, ccds)
    measured.ideal_mas.append(float(np.sqrt(np.mean(ideal**2))))
    measured.ideal_coloured_mas.append(float(np.sqrt(np.mean(ideal[coloured] ** 2))))
    guessed = guessed_colour_errors_mas(exposure, *stars_of_field)
    measured.guessing_mas.append(float(np.sqrt(np.mean(ideal**2 + guessed**2))))


def _listed(night: SkyNight, exposure: SimulatedExposure) -> NDArray[np.int64]:
    """Return the identifiers of the stars in the field that the reference catalogue lists."""
    folder = Site.at(night.root).reference / GAIA
    stars = read_reference_cone(folder, exposure.ra_deg, exposure.dec_deg, FIELD_RADIUS_DEG)
    return np.asarray(column(stars, "source_id"))


def adopted_zeropoints(night: SkyNight, expnum: int) -> dict[int, tuple[float, float]]:
    """Return the adopted zero point of each CCD that has one, and its stated error, magnitudes."""
    paths = sorted(Site.at(night.root).store.glob(f"*/exp/*/{expnum}/**/*_zeropoints.parquet"))
    rows: list[dict[str, Any]] = [row for path in paths for row in read_table(path).to_pylist()]
    known = [row for row in rows if row["zeropoint_mag"] is not None]
    return {row["ccd"]: (row["zeropoint_mag"], row["zeropoint_error_mag"]) for row in known}


def _compare(
    measured: Measured, sources: pa.Table, catalogue: pa.Table, matches: pa.Table, listed: NDArray[np.int64]
) -> CcdCoordinates:
    """Compare the single stars of a catalogue with the truth; return their coordinates."""
    truth = Truth.of(sources)
    kept = column(sources, "flux_aperture_electrons").astype(float) > FAINTEST_NEIGHBOUR
    colour, identifier = column(sources, "g_minus_i").astype(float)[kept], column(sources, "source_id")[kept]
    x, y, x_error, y_error, ra, dec, flux, error, clear, cloud_error = (
        column(catalogue, name).astype(float)
        for name in (
            *("x", "y", "x_error", "y_error", "ra", "dec"),
            *("flux_psf", "flux_psf_error", "transparency", "transparency_error"),
        )
    )
    pairs = counterparts(truth, x, y)
    keep = pairs.same & pairs.alone & undisturbed(catalogue) & truth.is_star[pairs.index]
    keep &= flux > ASTROMETRY_SNR * error
    index = pairs.index[keep]
    errors_mas = solution_errors_mas(
        np.stack([x[keep], y[keep]]),
        np.stack([x_error[keep], y_error[keep]]),
        np.stack([truth.x[index], truth.y[index]]),
        np.stack([ra[keep], dec[keep]]),
        np.stack([truth.ra[index], truth.dec[index]]),
    )
    relative, mag, some = error[keep] / flux[keep], truth.mag[index], truth.mag[index] < COLOUR_MAG[1]
    for found, true, stated in (
        (measured.stars, truth.flux[index] / clear[keep], relative),
        (measured.magnitudes, 10 ** (-0.4 * mag), np.hypot(relative, cloud_error[keep] / clear[keep])),
    ):
        difference = -MILLIMAG * np.log(flux[keep] / true)
        difference -= np.median(difference[some])
        found.append(np.stack([mag, difference, MILLIMAG * stated, colour[index]], axis=1))
    return CcdCoordinates(
        ra=truth.ra[index],
        dec=truth.dec[index],
        coloured=has_colour(catalogue, matches)[keep],
        listed=np.isin(identifier[index], listed),
        mag=mag,
        g_minus_i=colour[index],
        errors_mas=errors_mas,
    )


def psf_residuals(stamp: Stamp, psf: PsfModel) -> list[float]:
    """Return the rms of model minus truth over the rms of the truth at nine places, up to a shift.

    Parameters
    ----------
    stamp
        The true function, of :meth:`bench.sky_night.SkyNight.true_psf`.
    psf
        The model.
    """
    found, h = [], 0.02
    for x, y in PLACES:
        model, shift = psf.stamp(x, y, HALF_WIDTH), np.zeros(2)
        for _ in range(SHIFTS):
            dx, dy = shift
            true = stamp(x, y, HALF_WIDTH, dx, dy)
            moved = stamp(x, y, HALF_WIDTH, dx + h, dy), stamp(x, y, HALF_WIDTH, dx, dy + h)
            slopes = np.stack([(other - true).ravel() / h for other in moved], axis=-1)
            step = np.linalg.lstsq(slopes, (model - true).ravel(), rcond=None)[0]
            shift = shift + step
        residual = (model - true).ravel() - slopes @ step
        found.append(float(np.sqrt(np.sum(residual**2) / np.sum(true**2))))
    return found


def rows_of(measured: Measured, label: str, seeds: Sequence[int], goals: Goals = GOALS) -> list[Row]:
    """Return the rows; a figure whose sampling error exceeds a third of its tolerance has no value."""
    n, n_ccds = measured.wanted, len(measured.solution_mas)
    stars = np.concatenate([np.zeros((0, 4)), *measured.stars])
    residual, zeropoint = np.array(measured.psf_residual), np.array(measured.zeropoint_mmag)

    def row(name: str, value: float | None, unit: str, goal: float, count: int) -> Row:
        return at_most(f"{label}: {name}", value, unit, goal, n=count, seeds=seeds)

    def worst(values: FloatArray) -> float | None:
        return float(values.max()) if values.size else None

    places = np.arange(residual.size) // len(PLACES)
    psf = rms_of(residual, places, goals.psf_percent / 100.0)
    worst_place = None if psf is None else _percent(worst(residual))
    slope, contrast, n_coloured = colour_trend(stars, goals)
    scatter, n_bright = excess_scatter_mmag(stars)
    magnitudes = np.concatenate([np.zeros((0, 4)), *measured.magnitudes])
    calibrated, _ = excess_scatter_mmag(magnitudes)
    whole = float(np.std(magnitudes[_between(magnitudes, SCATTER_MAG), 1])) if n_bright else None
    adopted = rms_of(zeropoint, measured.fields, goals.zeropoint_mmag)
    pull = rms_of(np.array(measured.zeropoint_pull), measured.fields, goals.stated_error)
    return [
        at_least(f"{label}: CCDs with a catalogue", n_ccds, "", n, n=n, seeds=seeds),
        *_coordinate_rows(measured, label, seeds, goals.ideal_factor),
        row("PSF, rms residual", _percent(psf), "%", goals.psf_percent, residual.size),
        row("PSF, rms residual, worst place", worst_place, "%", goals.psf_worst_percent, residual.size),
        row(
            "PSF flux of the reddest third of stars against the bluest",
            contrast,
            "%",
            goals.red_blue_percent,
            n_coloured,
        ),
        row("trend with colour, per mag of g - i", slope, "mmag", goals.colour_mmag, n_coloured),
        row(
            "scatter of PSF magnitudes of 16 to 18 mag beyond the stated", scatter, "mmag", goals.scatter_mmag, n_bright
        ),
        Row(
            f"{label}: scatter of calibrated magnitudes of 16 to 18 mag", whole, "mmag", n=n_bright, seeds=tuple(seeds)
        ),
        row("the same beyond the stated, error of clouds included", calibrated, "mmag", goals.scatter_mmag, n_bright),
        row("zero point, rms", adopted, "mmag", goals.zeropoint_mmag, len(set(measured.fields))),
        row("errors of zero points over the stated ones, rms", pull, "", goals.stated_error, len(set(measured.fields))),
    ]


def _coordinate_rows(measured: Measured, label: str, seeds: Sequence[int], factor: float) -> list[Row]:
    """Return the rows of the coordinates of all stars, of those of listed colour, and of the others."""
    rows, n = [], len(measured.solution_mas)

    def add(name: str, value: float) -> None:
        rows.append(Row(f"{label}: {name}", value if np.isfinite(value) else None, "mas", n=n, seeds=tuple(seeds)))

    for stars, same, values, ideals in (
        ("", "the same", measured.solution_mas, measured.ideal_mas),
        (" of stars of listed colour", "of listed colour", measured.coloured_mas, measured.ideal_coloured_mas),
    ):
        ideal = _root_mean_square(ideals)
        goal = factor * ideal
        found = rms_of(np.array(values), measured.exposures, goal) if values else None
        name = f"{label}: coordinates{stars} without photon noise, rms per axis"
        rows.append(at_most(name, found, "mas", goal, n=n, seeds=seeds))
        add(f"{same}, ideal process on the same stars", ideal)
        if not stars:
            add("the same with the best guess of unknown colours", _root_mean_square(measured.guessing_mas))
        add(f"{same}, worst CCD", max(values, default=np.nan))
    add("coordinates of the other stars", _root_mean_square(measured.other_mas))
    return rows


def _root_mean_square(values: Sequence[float]) -> float:
    """Return the root mean square of the finite values; NaN without one."""
    finite = np.array(values)[np.isfinite(values)] if values else np.zeros(0)
    return float(np.sqrt(np.mean(finite**2))) if finite.size else np.nan


def rms_of(values: FloatArray, samples: Sequence[int] | NDArray[np.int64], goal: float) -> float | None:
    """Return a root mean square; None if it can neither meet nor miss its goal.

    Its sampling error, by the jackknife over independent samples, must be a third of the goal, or it must exceed the
    goal by three such errors.

    Parameters
    ----------
    values
        (n,) errors.
    samples
        (n,) number of the independent sample to which each value belongs.
    goal
        Goal of the root mean square.
    """
    numbers = np.unique(samples)
    if numbers.size < MINIMUM_SAMPLES:
        return None
    rms = float(np.sqrt(np.mean(values**2)))
    without = np.array([np.sqrt(np.mean(values[np.asarray(samples) != number] ** 2)) for number in numbers])
    error = float(np.sqrt((numbers.size - 1) * np.var(without)))
    return rms if error <= goal / 3.0 or rms > goal + 3.0 * error else None


def _percent(value: float | None) -> float | None:
    return None if value is None else 100.0 * value


def colour_trend(stars: FloatArray, goals: Goals = GOALS) -> tuple[float | None, float | None, int]:
    """Return the size of the trend of magnitudes with g - i (mmag per mag), of the ratio of red to blue (%), and n.

    Both are None if their sampling errors exceed a third of their goals.
    """
    mag, difference, error, colour = stars[_between(stars, COLOUR_MAG)].T
    if mag.size < 30:
        return None, None, mag.size
    good = np.abs(difference - np.median(difference)) < 5.0 * np.hypot(error, mad_sigma(difference))
    difference, colour = difference[good], colour[good]
    variance = np.hypot(error[good], 1.0) ** 2
    centred = colour - np.average(colour, weights=1.0 / variance)
    information = float(np.sum(centred**2 / variance))
    slope = float(np.sum(centred * difference / variance)) / information
    low, high = np.quantile(colour, [1 / 3, 2 / 3])
    red, blue = colour > high, colour < low
    means = [float(np.average(difference[part], weights=1.0 / variance[part])) for part in (red, blue)]
    noise = np.sqrt(sum(1.0 / float(np.sum(1.0 / variance[part])) for part in (red, blue)))
    return (
        abs(slope) if 1.0 / np.sqrt(information) <= goals.colour_mmag / 3 else None,
        abs(means[0] - means[1]) / 10.857 if noise / 10.857 <= goals.red_blue_percent / 3 else None,
        int(good.sum()),
    )


def excess_scatter_mmag(stars: FloatArray) -> tuple[float | None, int]:
    """Return the scatter beyond the stated errors, in quadrature (mmag), and the number of stars."""
    _, difference, error, _ = stars[_between(stars, SCATTER_MAG)].T
    if difference.size < 100:
        return None, difference.size
    pull = mad_sigma((difference - np.median(difference)) / error)
    return float(np.sqrt(max(pull**2 - 1.0, 0.0)) * np.median(error)), difference.size


def _between(stars: FloatArray, mag: tuple[float, float]) -> NDArray[np.bool_]:
    """Return which of (n, 4) stars are in a range of magnitudes."""
    return np.asarray((stars[:, 0] > mag[0]) & (stars[:, 0] < mag[1]))


SINGLE_EPOCHS = Family(Measured, collect, absent, rows_of)
