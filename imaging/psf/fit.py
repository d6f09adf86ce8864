"""Fit a spatially varying PSF model to the stars of a CCD.

The unknowns are the coefficients of :class:`imaging.psf.profile.ProfileBasis`, each a polynomial in position. They are
fitted by linear least squares to the stars' pixels, without resampling, under two exact constraints at every position:
unit flux in the reference aperture and windowed centroid at the origin. The stars' fluxes and positions, and the error
that their backgrounds have in common, are free in the same fit. Neighbours too faint for the catalogue are masked where
they stand out of the residuals. A Gaussian prior keeps unconstrained coefficients small. Its width, the degree of the
polynomial and, where bright stars do not fit, the number of basis functions are chosen by five-fold cross-validation.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import null_space

from imaging.errors import CcdError
from imaging.image import FloatImage
from imaging.numerics.rings import ring_medians
from imaging.numerics.robust import mad_sigma
from imaging.psf.brightness import width_by_peak
from imaging.psf.colour import width_by_colour, width_direction
from imaging.psf.equations import (
    Choice,
    Normals,
    Problem,
    Solution,
    normal_equations,
    prior,
    refine_stars,
    solve,
    star_chi2,
    whole_matrix,
)
from imaging.psf.model import PsfModel, polynomial_terms
from imaging.psf.profile import RICHER, SEEING, Richness
from imaging.psf.settings import PsfSettings
from imaging.psf.shape import model_fwhm
from imaging.psf.stars import StarStamps, cut_out_stars, fit_envelope, fit_radius, mean_frame, without_faint_neighbours

FloatArray = NDArray[np.float64]

FOLDS = 5
"""Number of folds of the cross-validation."""

CHI2_NOISE = 0.05
"""Lower limit of the scatter of the reduced chi-square among stars: that of 800 pixels of pure noise."""

EXCESS = 0.06
"""Relative excess of the chi-square of the brightest quarter of the stars over that of the fainter half from which more
basis functions are tried; they cost five times the CPU."""

GAIN = 4.0
"""Smallest decrease of the cross-validated chi-square to accept a more complex variation."""


@dataclass(frozen=True, eq=False)
class PsfFit:
    """A fitted PSF and its stars.

    Attributes
    ----------
    model
        The PSF.
    used
        (n,) bool, stars used in the final model.
    star_chi2
        (n,) float64, reduced chi-square of each star.
    variation
        Relative change of the profile over the CCD chosen by cross-validation.
    peak_trend, peak_trend_error
        Relative change of the width of the stars per electron at the peak, and its error; NaN if not measured.
    n_basis
        Number of basis functions chosen by cross-validation; 0 if the PSF was not fitted.
    """

    model: PsfModel
    used: NDArray[np.bool_]
    star_chi2: FloatArray
    variation: float
    peak_trend: float = float("nan")
    peak_trend_error: float = float("nan")
    n_basis: int = 0


@dataclass(frozen=True, eq=False)
class _Fitted:
    """The fit of one basis.

    Attributes
    ----------
    problem, stamps, normals, solution, choice
        The problem, its stars and their equations, the solution and its freedom.
    used
        (n,) bool, stars used.
    star_chi2
        (n,) reduced chi-square of each star.
    score
        Cross-validated chi-square per pixel.
    """

    problem: Problem
    stamps: StarStamps
    normals: Normals
    solution: Solution
    used: NDArray[np.bool_]
    choice: Choice
    star_chi2: FloatArray
    score: float

    @property
    def is_insufficient(self) -> bool:
        """Whether bright stars fit worse than faint ones, as where the basis cannot describe the profile."""
        order = np.flatnonzero(self.used)[np.argsort(-self.stamps.flux[self.used], kind="stable")]
        bright, faint = order[: len(order) // 4], order[len(order) // 2 :]
        if not bright.size:
            return False
        pixels = self.normals.pixels
        levels = [np.average(self.star_chi2[some], weights=pixels[some]) for some in (bright, faint)]
        return bool(levels[0] > (1.0 + EXCESS) * levels[1])


def fit_psf(
    science: FloatImage,
    weight: FloatImage,
    segmentation: NDArray[np.int32],
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    fwhm_pixels: float,
    settings: PsfSettings,
    colour_mag: FloatArray | None = None,
    band: str = "",
) -> PsfFit:
    """Fit the PSF of a CCD, for sources of the reference colour where the colours of the stars are known.

    Parameters
    ----------
    science, weight
        (ny, nx) planes; the sky is subtracted.
    segmentation
        (ny, nx) isophotes, to ignore neighbours' pixels.
    x, y, flux
        (n,) centroids and reference-aperture fluxes of the stars.
    fwhm_pixels
        Seeing.
    settings
        Settings.
    colour_mag
        (n,) BP - RP of the stars, NaN if unknown; None if all are.
    band
        Band, for the expected change of the width with colour.

    Raises
    ------
    CcdError
        If too few stars survive the clipping.
    """
    radius = fit_radius(fwhm_pixels, settings)
    planes = (science, weight, segmentation)
    stamps = cut_out_stars(*planes, x, y, flux, int(np.ceil(radius)))
    stamps = _without_background(planes, stamps, fwhm_pixels, settings)
    fitted = _fit(stamps, _set_up(stamps, fwhm_pixels, radius, science.shape, settings, SEEING))
    if fitted.is_insufficient:
        for richness in RICHER:
            other = _fit(stamps, _set_up(stamps, fwhm_pixels, radius, science.shape, settings, richness))
            if other.score < fitted.score - GAIN / other.normals.pixels.sum():
                fitted = other
    if colour_mag is None:
        colour_mag, band = np.full(len(stamps), np.nan), ""
    solution, slope, trend = _width_trends(fitted, colour_mag, band)
    used, chi2 = fitted.used, fitted.star_chi2
    model = _tabulate(fitted.problem, solution, int(used.sum()), float(np.median(chi2[used])))
    return PsfFit(
        replace(model, width_per_mag=slope),
        used,
        chi2,
        fitted.choice.variation,
        *trend,
        fitted.problem.basis.richness.size,
    )


def _fit(stamps: StarStamps, problem: Problem) -> _Fitted:
    """Fit the coefficients of one basis."""
    settings = problem.settings
    used = np.ones(len(stamps), bool)
    solution = Solution(np.zeros((1, problem.free.shape[1])))
    few = problem.basis.richness == SEEING
    choice, score = Choice(settings.deviation_priors[0 if few else -1]), np.inf
    for iteration in range(settings.iterations):
        stamps, normals = _linearised(stamps, problem, solution, clip=iteration > 0)
        if iteration > 0:
            used = _clip_stars(star_chi2(normals, problem, solution, stamps), settings)
        if used.sum() < settings.minimum_stars:
            raise _too_few(int(used.sum()), settings)
        if iteration == 1:
            choice, score = _choose(normals, stamps, problem, used)
        solution = solve(normals, stamps, problem, used, choice)
    final = star_chi2(normals, problem, solution, stamps)
    return _Fitted(problem, stamps, normals, solution, used, choice, final, score)


def _without_background(
    planes: tuple[FloatImage, FloatImage, NDArray[np.int32]],
    stamps: StarStamps,
    fwhm_pixels: float,
    settings: PsfSettings,
) -> StarStamps:
    """Subtract the background of each star, measured in a ring around it."""
    science, weight, segmentation = planes
    ring = (settings.background_inner_fwhm * fwhm_pixels, settings.background_outer_fwhm * fwhm_pixels)
    background = ring_medians(science, (weight > 0) & (segmentation == 0), stamps.x, stamps.y, *ring)
    return replace(stamps, data=stamps.data - background[:, None, None])


def _set_up(
    stamps: StarStamps,
    fwhm_pixels: float,
    radius: float,
    shape: tuple[int, ...],
    settings: PsfSettings,
    richness: Richness,
) -> Problem:
    basis = fit_envelope(stamps, mean_frame(stamps, fwhm_pixels), fwhm_pixels, radius, richness)
    ny, nx = shape
    return Problem(
        basis=basis,
        base=basis.round_profile(),
        free=null_space(basis.functionals()),
        prior_scale=basis.prior_scale(),
        origin=((nx - 1) / 2, (ny - 1) / 2),
        scale=(nx / 2, ny / 2),
        settings=settings,
    )


def _linearised(stamps: StarStamps, problem: Problem, solution: Solution, *, clip: bool) -> tuple[StarStamps, Normals]:
    """Fit the stars with a solution and set up their equations; ``clip`` leaves out what is not of the stars."""
    stamps, images = refine_stars(stamps, problem, solution)
    if clip:
        seeing, error = problem.basis.fwhm_pixels, problem.settings.error_floor
        stamps = without_faint_neighbours(stamps, images[:, 0], solution.background, seeing, error)
    return stamps, normal_equations(stamps, images, problem, solution, clip=clip)


def _width_trends(fitted: _Fitted, colour_mag: FloatArray, band: str) -> tuple[Solution, float, tuple[float, float]]:
    """Return a solution for the reference colour, and the slopes of the width with colour and with the peak."""
    problem, stamps, normals, solution = fitted.problem, fitted.stamps, fitted.normals, fitted.solution
    used, choice = fitted.used, fitted.choice
    terms = problem.position_terms(stamps.x, stamps.y, choice.degree)[used]
    matrix, vector, local = normals.matrix[used], normals.vector(solution.background)[used], terms @ solution.free
    direction = width_direction(problem.basis, problem.free, problem.coefficients(solution)[0])
    slope, mean, explained = width_by_colour(matrix, vector, local, direction, colour_mag[used], band)
    central = problem.basis.evaluate(np.zeros(1), np.zeros(1))[0]
    peak = (stamps.flux * (problem.local_profile(solution, stamps) @ central))[used]
    whole = whole_matrix(normals, terms, used, prior(problem, choice))
    local += np.outer(explained, direction)
    trend = width_by_peak(matrix, vector, local, np.outer(peak, direction), terms, whole)
    free = solution.free.copy()
    free[0] -= slope * mean * direction
    return replace(solution, free=free), slope, trend


def _clip_stars(star_chi2: FloatArray, settings: PsfSettings) -> NDArray[np.bool_]:
    """Return which stars fit as well as the others; the best few stars are always kept."""
    centre = float(np.median(star_chi2))
    good = star_chi2 <= centre + settings.star_clip_sigma * max(mad_sigma(star_chi2), CHI2_NOISE * centre)
    good[np.argsort(star_chi2, kind="stable")[: settings.minimum_stars]] = True
    return good


def _variations(start: Choice, n_stars: int, settings: PsfSettings) -> list[Choice]:
    """Return the variations over the CCD to try for a number of stars, simplest first."""
    choices = [start]
    for degree in range(1, settings.maximum_degree + 1):
        if n_stars >= settings.stars_per_term * len(polynomial_terms(degree)):
            choices += [replace(start, degree=degree, variation=prior) for prior in settings.variation_priors]
    return choices


def _choose(normals: Normals, stamps: StarStamps, problem: Problem, used: NDArray[np.bool_]) -> tuple[Choice, float]:
    """Return the deviation from the Moffat profile, then the variation, that best predict held-out stars.

    The second result is the chi-square per pixel of held-out stars.
    """
    fold = np.arange(len(stamps)) % FOLDS

    def best_of(choices: list[Choice]) -> tuple[Choice, float]:
        best, best_score = choices[0], np.inf
        for choice in choices:
            score = 0.0
            for part in range(FOLDS):
                held, kept = used & (fold == part), used & (fold != part)
                if held.any() and kept.any():
                    solution = solve(normals, stamps, problem, kept, choice)
                    score += float((star_chi2(normals, problem, solution, stamps) * normals.pixels)[held].sum())
            if score < best_score - GAIN:
                best, best_score = choice, score
        return best, best_score

    settings = problem.settings
    profile, _ = best_of([Choice(prior) for prior in settings.deviation_priors])
    best, score = best_of(_variations(profile, int(used.sum()), settings))
    return best, score / float(normals.pixels[used].sum())


def _tabulate(problem: Problem, solution: Solution, n_stars: int, chi2: float) -> PsfModel:
    """Draw the coefficient images of the fitted profile."""
    settings = problem.settings
    step = float(np.clip(problem.basis.fwhm_pixels / 7.0, 0.35, 0.75))
    reach = int(np.ceil(settings.maximum_radius_pixels / step))
    offsets = np.arange(-reach, reach + 1) * step
    dx, dy = np.meshgrid(offsets, offsets)
    images = problem.basis.evaluate(dx, dy) @ problem.coefficients(solution).T
    size = offsets.size
    model = PsfModel(
        coefficients=np.ascontiguousarray(images.T.reshape(-1, size, size), dtype=np.float32),
        degree=solution.degree,
        step=step,
        origin=problem.origin,
        scale=problem.scale,
        fwhm_pixels=problem.basis.fwhm_pixels,
        n_stars=n_stars,
        chi2=chi2,
    )
    return replace(model, fwhm_pixels=model_fwhm(model))


def _too_few(found: int, settings: PsfSettings) -> CcdError:
    return CcdError(
        "too few stars are left for a PSF model after clipping",
        reason="too_few_psf_stars",
        step="psf",
        value=found,
        limit=f"at least {settings.minimum_stars}",
        remedy="check the focus and the masks of this CCD; it is skipped",
    )
