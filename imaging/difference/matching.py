"""Fit and verify the matching kernel, with fallbacks to a constant kernel and to the PSF models."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from imaging.difference.basis import KernelBasis
from imaging.difference.coverage import StackParts, kernel_changes
from imaging.difference.design import Stamps, build_stamps
from imaging.difference.few_sources import match_sources, point_like
from imaging.difference.kernel import MatchingKernel, fit_kernel, noise_remaining
from imaging.difference.pair import Side
from imaging.difference.psf_kernel import unit_kernel
from imaging.difference.registration import (
    ShiftField,
    SourceShifts,
    fit_shift_field,
    image_slopes,
    measure_shifts,
    no_shift_field,
    without_motions,
)
from imaging.difference.settings import KernelSettings, RegistrationSettings
from imaging.difference.sources import choose_places, common_ratio, common_share, cut_stamps, steady_ratio
from imaging.difference.unknown_parts import PartChanges, measure_changes
from imaging.errors import CcdError
from imaging.image import FloatImage

FloatArray = NDArray[np.float64]

OF_MODELS = "kernel of the PSF models"
"""Fallback to a kernel that is not fitted."""

MAX_OF_MODELS, MAX_CHI2_OF_MODELS = 5, 1.3
"""Largest number of clean sources, and largest median of their reduced chi-squares, with which a kernel of the PSF
models is preferred to a fitted one: a free kernel of few stamps absorbs a transient in one of them."""

MODEL_ERROR = 0.005
"""Relative error of a PSF model: of stars with a lower signal to noise than its inverse it leaves nothing."""

ENOUGH_FOR_SHIFTS = 20
"""With fewer stamps the shifts of single sources are not removed before the fit."""

ENOUGH_STAMPS = 20
"""Number of stamps in the largest part of a stack above which the first kernel is fitted to these alone."""

LEAST_NOISE_SHARE = 0.01
"""Least fraction of the noise variance that remains after a convolution."""

MAX_SHARE_ERROR = 0.1
"""Relative error of that fraction, by a kernel of the PSF models, up to which the stamps keep their weights."""

WRONG_ZEROPOINTS = "the sources' fluxes disagree with the zero points"

MIN_COMMON = 5
"""With fewer bright sources nothing is said about their common places."""

PSF_HALF = 30
"""Half size of the stamp in which a PSF's flux is summed, pixels."""

MAX_OWN_SHIFT = 0.5
"""Largest shift of a single source by turbulence, pixels."""


@dataclass(frozen=True, eq=False)
class KernelMatch:
    """A kernel with the stamps used to verify it.

    Attributes
    ----------
    kernel
        The kernel.
    stamps
        The stamps.
    fallback
        Fallback used because the first fit was rejected; empty if none.
    shift_error
        Error per axis of the shift of a kernel of the PSF models, pixels; None for a fitted kernel.
    coverage
        Parts of the stack with different inputs; None if there is one.
    measured
        Changes of the kernel in parts whose PSF is not known; None without such parts.
    few
        Stamps of all sources if they are few, variable and moving ones too, else None.
    stars
        (n,) which of these are point sources.
    """

    kernel: MatchingKernel
    stamps: Stamps
    fallback: str
    shift_error: float | None = None
    coverage: StackParts | None = None
    measured: PartChanges | None = None
    few: Stamps | None = None
    stars: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @cached_property
    def changes(self) -> FloatArray:
        """(c, k, k) by how much the kernel of every part of the stack differs from the one of the largest part."""
        size = self.kernel.basis.images.shape[1]
        if self.coverage is None:
            return np.zeros((1, size, size))
        changes = kernel_changes(self.kernel, self.coverage)
        return changes if self.measured is None else changes + self.measured.images

    def images(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return (n, k, k) kernels at n positions, those of the part of the stack there."""
        images = self.kernel.images(x, y)
        return images if self.coverage is None else images + self.changes[self.coverage.part_at(x, y)]


def find_kernel(
    target: Side,
    reference: Side,
    basis: KernelBasis,
    correlation: FloatArray,
    coverage: StackParts | None,
    settings: KernelSettings,
) -> KernelMatch:
    """Fit the kernel; if it is rejected, fit a constant kernel, then use the kernel of the two PSF models.

    Parameters
    ----------
    target, reference
        The kernel matches the reference to the target.
    basis
        Kernel functions.
    correlation
        (k, k) mean autocorrelation of the reference's noise.
    coverage
        Parts of the template with different inputs; None if there is one.
    settings
        Acceptance limits of a kernel.

    Raises
    ------
    CcdError
        ``kernel_too_few_stamps`` or ``kernel_chi2`` of the first attempt; ``kernel_sum`` of any.
    """
    problem: CcdError | None = None
    if settings.template_noise_share is None:
        settings = settings.with_values(template_noise_share=noise_share(target, reference, basis, correlation))
    relaxed = settings.with_values(max_order=0, stamp_snr=settings.stamp_snr / 2)
    x, y = choose_places(target, reference, relaxed, steady=False)
    few = build_stamps(target, reference, x, y, basis, relaxed) if x.size <= settings.few.max_sources else None
    of_models = _match_models(target, reference, basis, few, relaxed) if few is not None else None
    varied = of_models[1] if of_models is not None else None
    first = [(None, OF_MODELS)] if of_models is not None and _is_enough(of_models[0], target) else []
    for attempt, fallback in (*first, (settings, ""), (relaxed, "constant kernel"), (None, OF_MODELS)):
        try:
            if attempt is not None:
                match = _fit(target, reference, basis, correlation, coverage, attempt, fallback, varied)
            else:
                _check_ratio(target, reference, settings)
                if of_models is None:
                    many = cut_stamps(target, reference, basis, relaxed).take(slice(settings.few.max_sources))
                    of_models = _match_models(target, reference, basis, many, relaxed)
                match = replace(of_models[0], fallback=fallback, coverage=coverage)
            _check(match.kernel, _flux_of_psf(target) / _flux_of_psf(reference), settings)
            if match.fallback or match.kernel.n_stamps < ENOUGH_FOR_SHIFTS:
                _check_common(target, reference, settings)
        except CcdError as error:
            problem = error if problem is None or error.reason in ("kernel_sum", "kernel_stars") else problem
        else:
            if few is None:
                return match
            ny, nx = _shape(target)
            return replace(match, few=few, stars=point_like(few, target.psf, (nx / 2, ny / 2)))
    _check_common(target, reference, settings)  # stars elsewhere have no right kernel either
    raise problem if problem is not None else AssertionError("unreachable")


def _is_enough(models: KernelMatch, target: Side) -> bool:
    """Return whether a fit to few faint sources could improve the kernel of the PSF models by a transient alone.

    A wrong width of a PSF leaves its curvature: of a galaxy less than of a star with the same signal to noise.
    """
    kernel, stamps, (ny, nx) = models.kernel, models.stamps, _shape(target)
    if kernel.n_stamps > MAX_OF_MODELS or not kernel.chi2 <= MAX_CHI2_OF_MODELS:
        return False
    star = target.psf.stamp(nx / 2, ny / 2, stamps.side // 2).astype(np.float32).reshape(1, -1)
    of_star = float(np.linalg.norm(star) / np.linalg.norm(_curvature(star, stamps.side)))
    curved = _curvature(stamps.convolved(kernel.images(stamps.x, stamps.y)), stamps.side)
    return bool(of_star * np.sqrt(np.einsum("np,np->n", stamps.weight, curved**2)).max(initial=0.0) < 1.0 / MODEL_ERROR)


def _curvature(model: FloatImage, side: int) -> FloatImage:
    """Return the Laplacian of (n, p) stamps of ``side`` pixels squared."""
    along_x, along_y = image_slopes(model, side)
    return image_slopes(along_x, side)[0] + image_slopes(along_y, side)[1]


def noise_share(target: Side, reference: Side, basis: KernelBasis, correlation: FloatArray) -> float:
    """Return the fraction of the reference's noise variance that remains after the kernel of the two PSF models.

    Parameters
    ----------
    target, reference, basis, correlation
        See :func:`find_kernel`.
    """
    ny, nx = _shape(target)
    kernel, _ = unit_kernel(reference.psf, target.psf, basis, (nx / 2, ny / 2))
    left = noise_remaining(np.tensordot(kernel, basis.images, axes=1)[None], correlation)
    return float(np.clip(left[0], LEAST_NOISE_SHARE, 1.0))


def find_shifts(match: KernelMatch, shape: tuple[int, int], settings: RegistrationSettings) -> ShiftField:
    """Fit the shift field that the kernel has not absorbed.

    Parameters
    ----------
    match
        Kernel and stamps.
    shape
        (ny, nx) of the image.
    settings
        Selection of sources, and interpolation.
    """
    stamps, kernel = match.stamps, match.kernel
    if match.shift_error is not None:
        found = no_shift_field(shape, match.shift_error, kernel.n_stamps)
    elif len(stamps.x) == 0:
        return no_shift_field(shape)
    else:
        shifts, chi2 = _measured_shifts(match, stamps)
        snr = 1.0 / np.maximum(shifts.scale_error, 1e-9)
        sound = chi2 < 3.0 * max(kernel.chi2, 1.0)
        found = fit_shift_field(shifts.select((snr > settings.min_snr) & sound), shape, settings)
    if match.few is None or len(match.few.x) == 0:
        return found
    shifts, _ = _measured_shifts(match, match.few)
    return without_motions(found, shifts, match.stars, is_scatter=match.shift_error is None)


def _measured_shifts(match: KernelMatch, stamps: Stamps) -> tuple[SourceShifts, FloatArray]:
    """Return the shifts of sources, and (n,) their reduced chi-squares without them."""
    model, residual = _residual(match, stamps)
    shifts = measure_shifts(model, residual, stamps.weight, stamps.x, stamps.y, stamps.side)
    return shifts, np.einsum("np,np->n", stamps.weight, residual**2) / np.maximum(stamps.n_pixels, 1.0)


def _match_models(
    target: Side, reference: Side, basis: KernelBasis, stamps: Stamps, settings: KernelSettings
) -> tuple[KernelMatch, FloatArray]:
    """Match the PSF models, with sum and shift from the sources that are equal in both images.

    Returns
    -------
    match
        The kernel.
    varied
        (k, 2) places of sources that are not equal.
    """
    ny, nx = _shape(target)
    place = (nx / 2, ny / 2)
    found = match_sources(reference.psf, target.psf, basis, place, stamps, settings.few)
    kernel = MatchingKernel(
        *(basis, found.sum * found.coefficients[:, None], np.array([found.background]), place, place),
        order=0,
        level=int(basis.levels.max()),
        n_stamps=int(found.clean.sum()),
        n_rejected=int((~found.clean).sum()),
        chi2=found.chi2,
        sum_error=found.sum_error,
    )
    match = KernelMatch(kernel, stamps, "", found.shift_error)
    return match, np.stack([stamps.x, stamps.y], axis=1)[found.varied]


def _fit(
    target: Side,
    reference: Side,
    basis: KernelBasis,
    correlation: FloatArray,
    coverage: StackParts | None,
    settings: KernelSettings,
    fallback: str,
    varied: FloatArray | None,
) -> KernelMatch:
    """Fit the kernel, remove the shifts of single sources from the stamps, and fit again.

    The first fit takes the stamps of the largest part of the stack. Its kernel tells by how much the kernels of the
    other parts differ, so that the second fit can take all stamps but those in parts whose PSF is not known; the
    changes of the kernel there are measured afterwards. The first kernel is the same everywhere if there are other
    parts: a polynomial of one part is wrong in the others, and so are the shifts that are measured with it. ``varied``
    are the places (k, 2) of sources that are no stamps; None if deviating ones are clipped instead.
    """
    stamps = cut_stamps(target, reference, basis, settings, varied)
    usable = int(np.count_nonzero(stamps.n_pixels > 0.5 * stamps.data.shape[1]))
    if usable < settings.min_stamps:
        raise _error("too few sources to match the two images", "kernel_too_few_stamps", usable, settings)
    shape = _shape(target)
    many = len(stamps.x) >= ENOUGH_FOR_SHIFTS
    part = np.zeros(len(stamps.x), dtype=int) if coverage is None else coverage.part_at(stamps.x, stamps.y)
    first, simple = stamps, settings
    if part.any() and np.count_nonzero(part == 0) >= ENOUGH_STAMPS:
        first, simple = stamps.take(part == 0), settings.with_values(max_order=0)
    kernel, _ = fit_kernel(first, basis, correlation, shape, simple, choose=not many)
    if many:
        match = KernelMatch(kernel, stamps, fallback, coverage=coverage)
        left = np.clip(noise_remaining(match.images(stamps.x, stamps.y), correlation), LEAST_NOISE_SHARE, 1.0)
        if np.median(np.abs(left - (settings.template_noise_share or left)) / left) > MAX_SHARE_ERROR:
            stamps = build_stamps(target, reference, stamps.x, stamps.y, basis, settings, left)
            match = replace(match, stamps=stamps)
        model, residual = _residual(match, stamps)
        shifts = measure_shifts(model, residual, stamps.weight, stamps.x, stamps.y, stamps.side)
        slope_x, slope_y = image_slopes(model, stamps.side)
        believed = np.hypot(shifts.dx, shifts.dy) < MAX_OWN_SHIFT
        dx, dy = (np.where(believed, d, 0.0).astype(np.float32)[:, None] for d in (shifts.dx, shifts.dy))
        change = dx * slope_x + dy * slope_y
        others = part > 0
        if others.any():
            change[others] -= stamps.take(others).convolved(match.changes[part[others]])
        still = stamps.moved(change)
        known = np.ones(len(part), dtype=bool) if coverage is None else ~coverage.unknown[part]
        fitted = still.take(known) if np.count_nonzero(known) >= ENOUGH_STAMPS else still
        kernel, _ = fit_kernel(fitted, basis, correlation, shape, settings)
    if kernel.n_stamps < settings.min_stamps:
        raise _error("too few sources agree on a kernel", "kernel_too_few_stamps", kernel.n_stamps, settings)
    match = KernelMatch(kernel, stamps, fallback, coverage=coverage)
    if coverage is None or not coverage.unknown.any():
        return match
    return replace(match, measured=_measured_changes(match, still if many else stamps, coverage))


def _measured_changes(match: KernelMatch, stamps: Stamps, coverage: StackParts) -> PartChanges:
    """Measure the changes of the kernel in parts whose PSF is not known, from stamps that are ``moved``."""
    inside = stamps.take(coverage.unknown[coverage.part_at(stamps.x, stamps.y)])
    images = match.kernel.images(inside.x, inside.y)
    background = match.kernel.background_at(inside.x, inside.y).astype(np.float32)
    model = inside.convolved(images)
    signal = np.einsum("np,np->n", inside.weight, model**2, dtype=float)
    return measure_changes(inside.moved(-model - background[:, None]), signal, match.kernel.chi2, coverage)


def _residual(match: KernelMatch, stamps: Stamps) -> tuple[FloatImage, FloatImage]:
    """Return (n, p) the matched reference in stamps, and the residual of the target."""
    model = stamps.convolved(match.images(stamps.x, stamps.y))
    background = match.kernel.background_at(stamps.x, stamps.y).astype(np.float32)
    return model, stamps.data - model - background[:, None]


def _shape(side: Side) -> tuple[int, int]:
    return side.science.shape[0], side.science.shape[1]


def _flux_of_psf(side: Side) -> float:
    """Return a PSF's flux in units of that in the reference aperture, which the zero points refer to."""
    ny, nx = side.science.shape
    return float(side.psf.stamp(nx / 2, ny / 2, PSF_HALF).sum())


def _check(kernel: MatchingKernel, expected: float, settings: KernelSettings) -> None:
    """Raise if a kernel does not fit, or if its sum is neither one nor the ratio of the PSFs' fluxes."""
    total = float(kernel.coefficients[0, 0])
    if not min(abs(total - 1.0), abs(total / expected - 1.0)) <= settings.max_sum_error:
        raise _error("the kernel sum disagrees with the zero points", "kernel_sum", f"{total:.3f}", settings)
    none_fits = kernel.n_stamps == 0 and kernel.n_rejected >= MIN_COMMON
    if none_fits or (kernel.n_stamps and not kernel.chi2 <= settings.max_chi2):
        raise _error("the kernel fit is poor", "kernel_chi2", f"{kernel.chi2:.2f}", settings)


def _check_common(target: Side, reference: Side, settings: KernelSettings) -> None:
    """Raise if few sources of the reference are at their place in the target, or all with another flux."""
    share, number = common_share(target, reference, settings)
    if number >= MIN_COMMON and share < settings.min_common_share:
        ratio = steady_ratio(target, reference, settings)
        if ratio is not None and abs(ratio - 1.0) > settings.max_sum_error:
            raise _error(WRONG_ZEROPOINTS, "kernel_sum", f"{ratio:.3g}", settings)
        raise _error("the stars of the two images are not at the same places", "kernel_stars", f"{share:.0%}", settings)


def _check_ratio(target: Side, reference: Side, settings: KernelSettings) -> None:
    """Raise if the kernel is not fitted and the source fluxes show that the zero points are wrong."""
    ratio = common_ratio(target, reference, settings)
    if abs(ratio - 1.0) > settings.max_sum_error:
        raise _error(WRONG_ZEROPOINTS, "kernel_sum", f"{ratio:.3g}", settings)


def _error(problem: str, reason: str, value: object, settings: KernelSettings) -> CcdError:
    limits = {
        "kernel_too_few_stamps": f"at least {settings.min_stamps}",
        "kernel_sum": f"1 within {settings.max_sum_error:g}",
        "kernel_chi2": f"at most {settings.max_chi2:g}",
        "kernel_stars": f"at least {settings.min_common_share:.0%} of {MIN_COMMON} or more",
    }
    remedies = {
        "kernel_too_few_stamps": "use deeper images or a larger overlap with the template",
        "kernel_sum": "check the zero points of search and template",
        "kernel_stars": "check the coordinates of search and template",
        "kernel_chi2": "check the astrometry, the masks and the weights of search and template",
    }
    return CcdError(problem, reason=reason, step="subtract", value=value, limit=limits[reason], remedy=remedies[reason])
