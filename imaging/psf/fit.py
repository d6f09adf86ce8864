"""Fit a spatially varying PSF model to the stars of a CCD.

The unknowns are the coefficients of :class:`imaging.psf.profile.ProfileBasis`, each a polynomial in position. They are
fitted by linear least squares to the stars' pixels, without resampling, under two exact constraints at every position:
unit flux in the reference aperture and windowed centroid at the origin. The stars' fluxes are free in the same fit: if
they were those of an earlier model, its error in the core would remain, with wings that make up for it. Their centroids
are fitted in alternation with the model. A Gaussian prior keeps unconstrained coefficients small. Its width, and the
degree of the polynomial, are chosen by five-fold cross-validation.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, null_space

from imaging.errors import CcdError
from imaging.image import FloatImage
from imaging.numerics.rings import ring_medians
from imaging.numerics.robust import mad_sigma
from imaging.psf.brightness import width_by_peak
from imaging.psf.colour import width_by_colour, width_direction
from imaging.psf.model import PsfModel, polynomial_terms
from imaging.psf.profile import ProfileBasis
from imaging.psf.settings import PsfSettings
from imaging.psf.shape import model_fwhm
from imaging.psf.stars import StarStamps, cut_out_stars, fit_envelope, fit_radius, mean_frame

FloatArray = NDArray[np.float64]

FOLDS = 5
"""Number of folds of the cross-validation."""

CHI2_NOISE = 0.05
"""Lower limit of the scatter of the reduced chi-square among stars: that of 800 pixels of pure noise."""

GAIN = 4.0
"""Smallest decrease of the cross-validated chi-square to accept a more complex variation."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """Freedom of the PSF: deviation from the Moffat profile, degree of the polynomial, relative change over the CCD."""

    deviation: float
    degree: int = 0
    variation: float = 0.0


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
    """

    model: PsfModel
    used: NDArray[np.bool_]
    star_chi2: FloatArray
    variation: float
    peak_trend: float = float("nan")
    peak_trend_error: float = float("nan")


@dataclass(frozen=True, eq=False)
class _Problem:
    """Fixed quantities of the fit: basis, constraints, and geometry of the CCD."""

    basis: ProfileBasis
    base: FloatArray
    free: FloatArray
    prior_scale: FloatArray
    origin: tuple[float, float]
    scale: tuple[float, float]
    settings: PsfSettings

    def position_terms(self, x: FloatArray, y: FloatArray, degree: int) -> FloatArray:
        u, v = (x - self.origin[0]) / self.scale[0], (y - self.origin[1]) / self.scale[1]
        return np.stack([u**i * v**j for i, j in polynomial_terms(degree)], axis=-1)

    def coefficients(self, solution: FloatArray) -> FloatArray:
        """Return the (n_terms, N_BASIS) coefficients of a (n_terms, n_free) solution."""
        full = solution @ self.free.T
        full[0] += self.base
        return full


@dataclass(frozen=True, eq=False)
class _Normals:
    """Normal equations of every star, in the free directions: (n, n_free, n_free), (n, n_free), (n,) and pixels.

    The star's flux is eliminated from them.
    """

    matrix: FloatArray
    vector: FloatArray
    chi2: FloatArray
    pixels: NDArray[np.int64]


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
    problem = _set_up(stamps, fwhm_pixels, radius, science.shape, settings)
    used = np.ones(len(stamps), bool)
    solution = np.zeros((1, problem.free.shape[1]))
    choice = _Choice(settings.deviation_priors[0])
    for iteration in range(settings.iterations):
        stamps = _refine_stars(stamps, problem, solution)
        normals = _normal_equations(stamps, problem, solution, clip=iteration > 0)
        if iteration > 0:
            used = _clip_stars(_star_chi2(normals, problem, solution, stamps), settings)
        if used.sum() < settings.minimum_stars:
            raise _too_few(int(used.sum()), settings)
        if iteration == 1:
            choice = _choose(normals, stamps, problem, used)
        solution = _solve(normals, stamps, problem, used, choice)
    final = _star_chi2(normals, problem, solution, stamps)
    if colour_mag is None:
        colour_mag, band = np.full(len(stamps), np.nan), ""
    slope, trend = _width_trends(normals, problem, solution, stamps, used, choice, colour_mag, band)
    model = _tabulate(problem, solution, int(used.sum()), float(np.median(final[used])))
    return PsfFit(replace(model, width_per_mag=slope), used, final, choice.variation, *trend)


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
    stamps: StarStamps, fwhm_pixels: float, radius: float, shape: tuple[int, ...], settings: PsfSettings
) -> _Problem:
    basis = fit_envelope(stamps, mean_frame(stamps, fwhm_pixels), fwhm_pixels, radius)
    ny, nx = shape
    return _Problem(
        basis=basis,
        base=basis.round_profile(),
        free=null_space(basis.functionals()),
        prior_scale=basis.prior_scale(),
        origin=((nx - 1) / 2, (ny - 1) / 2),
        scale=(nx / 2, ny / 2),
        settings=settings,
    )


def _star_pixels(
    stamps: StarStamps, k: int, problem: _Problem
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return offsets, values and variance of the usable pixels of one star."""
    use = np.isfinite(stamps.variance[k]) & (np.hypot(stamps.dx[k], stamps.dy[k]) < problem.basis.radius)
    return stamps.dx[k][use], stamps.dy[k][use], stamps.data[k][use], stamps.variance[k][use]


def _local_profile(problem: _Problem, solution: FloatArray, stamps: StarStamps) -> FloatArray:
    """Return the (n, N_BASIS) coefficients of the PSF at each star."""
    degree = _degree_of(solution)
    return problem.position_terms(stamps.x, stamps.y, degree) @ problem.coefficients(solution)


def _degree_of(solution: FloatArray) -> int:
    return int(np.sqrt(2 * len(solution) + 0.25) - 1.5 + 1e-9)


def _refine_stars(stamps: StarStamps, problem: _Problem, solution: FloatArray) -> StarStamps:
    """Fit flux and centroid of every star with the current model fixed."""
    profile = _local_profile(problem, solution, stamps)
    h = 0.05
    flux, shift = stamps.flux.copy(), np.zeros((len(stamps), 2))
    for k in range(len(stamps)):
        dx, dy, data, variance = _star_pixels(stamps, k, problem)
        here, along_x, along_y = (
            problem.basis.evaluate(dx + a, dy + b) @ profile[k] for a, b in ((0.0, 0.0), (h, 0.0), (0.0, h))
        )
        design = np.stack([here, (here - along_x) / h, (here - along_y) / h], axis=-1)
        total = variance + flux[k] * np.maximum(here, 0.0) + (problem.settings.error_floor * flux[k] * here) ** 2
        weighted = design / total[:, None]
        normal = weighted.T @ design
        if np.linalg.cond(normal) > 1e14:
            continue
        amplitude, *moments = np.linalg.solve(normal, weighted.T @ data)
        if amplitude > 0:
            flux[k] = amplitude
            shift[k] = np.clip(np.array(moments) / amplitude, -0.3, 0.3)
    dx, dy = (stamps.dx - shift[:, 0, None, None], stamps.dy - shift[:, 1, None, None])
    return replace(stamps, flux=flux, x=stamps.x + shift[:, 0], y=stamps.y + shift[:, 1], dx=dx, dy=dy)


def _normal_equations(stamps: StarStamps, problem: _Problem, solution: FloatArray, *, clip: bool) -> _Normals:
    n, n_free = len(stamps), problem.free.shape[1]
    matrix, vector = np.empty((n, n_free, n_free)), np.empty((n, n_free))
    chi2, pixels = np.empty(n), np.empty(n, np.int64)
    profile = _local_profile(problem, solution, stamps)
    settings = problem.settings
    for k in range(n):
        dx, dy, data, variance = _star_pixels(stamps, k, problem)
        basis = problem.basis.evaluate(dx, dy) * stamps.flux[k]
        model = basis @ profile[k]
        total = variance + np.maximum(model, 0.0) + (settings.error_floor * model) ** 2
        weight = 1.0 / total
        if clip:
            weight[(data - model) ** 2 > settings.pixel_clip_sigma**2 * total] = 0.0
        design = basis @ problem.free
        rest = data - basis @ problem.base
        weighted = design * weight[:, None]
        unit = model / np.sqrt(max(float(weight @ model**2), 1e-30))
        along, known = weighted.T @ unit, float((weight * unit) @ rest)
        matrix[k] = weighted.T @ design - np.outer(along, along)
        vector[k] = weighted.T @ rest - known * along
        chi2[k], pixels[k] = float(weight @ rest**2) - known**2, int((weight > 0).sum())
    return _Normals(matrix, vector, chi2, pixels)


def _prior(problem: _Problem, choice: _Choice) -> FloatArray:
    """Return the (n_terms, n_free, n_free) inverse covariance of the prior."""
    widths = [choice.deviation if i + j == 0 else choice.variation for i, j in polynomial_terms(choice.degree)]
    unit = (problem.free / problem.prior_scale[:, None] ** 2).T @ problem.free
    return np.stack([unit / width**2 for width in widths])


def _solve(
    normals: _Normals, stamps: StarStamps, problem: _Problem, used: NDArray[np.bool_], choice: _Choice
) -> FloatArray:
    """Solve for the (n_terms, n_free) free coefficients from the stars used."""
    terms = problem.position_terms(stamps.x[used], stamps.y[used], choice.degree)
    matrix = _matrix(normals, terms, used, _prior(problem, choice))
    vector = (terms.T @ normals.vector[used]).ravel()
    return cho_solve(cho_factor(matrix, lower=True), vector).reshape(terms.shape[1], -1)


def _matrix(normals: _Normals, terms: FloatArray, used: NDArray[np.bool_], prior: FloatArray) -> FloatArray:
    """Return the matrix of the normal equations of all free coefficients, from the stars used and their terms."""
    n_terms, n_free = prior.shape[:2]
    outer = (terms[:, :, None] * terms[:, None, :]).reshape(len(terms), -1)
    blocks = outer.T @ normals.matrix[used].reshape(len(terms), -1)
    matrix = blocks.reshape(n_terms, n_terms, n_free, n_free).transpose(0, 2, 1, 3).reshape(n_terms * n_free, -1)
    for k, block in enumerate(prior):
        matrix[k * n_free : (k + 1) * n_free, k * n_free : (k + 1) * n_free] += block
    return matrix


def _star_chi2(normals: _Normals, problem: _Problem, solution: FloatArray, stamps: StarStamps) -> FloatArray:
    """Return the reduced chi-square of every star under a solution."""
    local = problem.position_terms(stamps.x, stamps.y, _degree_of(solution)) @ solution
    quadratic = np.einsum("nij,ni,nj->n", normals.matrix, local, local)
    chi2 = normals.chi2 - 2 * np.einsum("ni,ni->n", normals.vector, local) + quadratic
    return chi2 / np.maximum(normals.pixels, 1)


def _width_trends(
    normals: _Normals,
    problem: _Problem,
    solution: FloatArray,
    stamps: StarStamps,
    used: NDArray[np.bool_],
    choice: _Choice,
    colour_mag: FloatArray,
    band: str,
) -> tuple[float, tuple[float, float]]:
    """Refer a solution to the reference colour; return the slopes of the width with colour and with the peak."""
    terms = problem.position_terms(stamps.x, stamps.y, choice.degree)[used]
    matrix, vector, local = normals.matrix[used], normals.vector[used], terms @ solution
    direction = width_direction(problem.basis, problem.free, problem.coefficients(solution)[0])
    slope, mean, explained = width_by_colour(matrix, vector, local, direction, colour_mag[used], band)
    central = problem.basis.evaluate(np.zeros(1), np.zeros(1))[0]
    peak = (stamps.flux * (_local_profile(problem, solution, stamps) @ central))[used]
    whole = _matrix(normals, terms, used, _prior(problem, choice))
    local += np.outer(explained, direction)
    trend = width_by_peak(matrix, vector, local, np.outer(peak, direction), terms, whole)
    solution[0] -= slope * mean * direction
    return slope, trend


def _clip_stars(star_chi2: FloatArray, settings: PsfSettings) -> NDArray[np.bool_]:
    """Return which stars fit as well as the others; the best few stars are always kept."""
    centre = float(np.median(star_chi2))
    good = star_chi2 <= centre + settings.star_clip_sigma * max(mad_sigma(star_chi2), CHI2_NOISE * centre)
    good[np.argsort(star_chi2, kind="stable")[: settings.minimum_stars]] = True
    return good


def _variations(start: _Choice, n_stars: int, settings: PsfSettings) -> list[_Choice]:
    """Return the variations over the CCD to try for a number of stars, simplest first."""
    choices = [start]
    for degree in range(1, settings.maximum_degree + 1):
        if n_stars >= settings.stars_per_term * len(polynomial_terms(degree)):
            choices += [replace(start, degree=degree, variation=prior) for prior in settings.variation_priors]
    return choices


def _choose(normals: _Normals, stamps: StarStamps, problem: _Problem, used: NDArray[np.bool_]) -> _Choice:
    """Return the deviation from the Moffat profile, then the variation, that best predict held-out stars."""
    fold = np.arange(len(stamps)) % FOLDS

    def best_of(choices: list[_Choice]) -> _Choice:
        best, best_score = choices[0], np.inf
        for choice in choices:
            score = 0.0
            for part in range(FOLDS):
                held, kept = used & (fold == part), used & (fold != part)
                if held.any() and kept.any():
                    solution = _solve(normals, stamps, problem, kept, choice)
                    score += float((_star_chi2(normals, problem, solution, stamps) * normals.pixels)[held].sum())
            if score < best_score - GAIN:
                best, best_score = choice, score
        return best

    settings = problem.settings
    profile = best_of([_Choice(prior) for prior in settings.deviation_priors])
    return best_of(_variations(profile, int(used.sum()), settings))


def _tabulate(problem: _Problem, solution: FloatArray, n_stars: int, chi2: float) -> PsfModel:
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
        degree=_degree_of(solution),
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
