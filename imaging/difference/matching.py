"""Find a matching kernel that can be trusted, or say why there is none."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.difference.basis import KernelBasis
from imaging.difference.design import Stamps
from imaging.difference.kernel import MatchingKernel, fit_kernel
from imaging.difference.pair import Side
from imaging.difference.psf_kernel import kernel_from_psfs
from imaging.difference.registration import (
    ShiftField,
    fit_shift_field,
    image_slopes,
    measure_shifts,
    no_shift_field,
)
from imaging.difference.settings import KernelSettings, RegistrationSettings
from imaging.difference.sources import common_ratio, cut_stamps
from imaging.errors import CcdError
from imaging.image import FloatImage
from imaging.templates.stack import StackMakeup

FloatArray = NDArray[np.float64]

ENOUGH_FOR_SHIFTS = 20
"""With fewer stamps the sources' own shifts are left to the kernel."""

MAX_OWN_SHIFT = 0.5
"""A larger shift of one source is not turbulence, pixels."""


@dataclass(frozen=True, eq=False)
class KernelMatch:
    """A kernel with the stamps it was judged by.

    Attributes
    ----------
    kernel
        The kernel.
    stamps
        The stamps.
    fallback
        What was done because the first fit could not be trusted; empty if nothing.
    """

    kernel: MatchingKernel
    stamps: Stamps
    fallback: str


def find_kernel(
    target: Side,
    reference: Side,
    basis: KernelBasis,
    correlation: FloatArray,
    makeup: StackMakeup | None,
    settings: KernelSettings,
) -> KernelMatch:
    """Fit the kernel; if it cannot be trusted, fit a constant one, then take the one of the two PSF models.

    Parameters
    ----------
    target, reference
        The kernel turns the reference into the target.
    basis
        Kernel functions.
    correlation
        (6, 6) mean autocorrelation of the reference's noise.
    makeup
        Inputs of the template.
    settings
        Limits within which a kernel is trusted.

    Raises
    ------
    CcdError
        ``kernel_too_few_stamps`` or ``kernel_chi2`` of the first attempt; ``kernel_sum`` of any.
    """
    problem: CcdError | None = None
    relaxed = settings.with_values(max_order=0, stamp_snr=settings.stamp_snr / 2)
    for attempt, fallback in ((settings, ""), (relaxed, "constant kernel"), (None, "kernel of the PSF models")):
        try:
            if attempt is not None:
                match = _fit(target, reference, basis, correlation, makeup, attempt, fallback)
            else:
                _check_ratio(target, reference, settings)
                stamps = cut_stamps(target, reference, basis, relaxed, None)
                match = KernelMatch(
                    kernel_from_psfs(reference.psf, target.psf, basis, _shape(target), stamps), stamps, fallback
                )
            _check(match.kernel, settings)
        except CcdError as error:
            problem = error if problem is None or error.reason == "kernel_sum" else problem
        else:
            return match
    raise problem if problem is not None else AssertionError("unreachable")


def find_shifts(match: KernelMatch, shape: tuple[int, int], settings: RegistrationSettings) -> ShiftField:
    """Fit the field of shifts that the kernel has not taken up.

    Parameters
    ----------
    match
        Kernel and stamps.
    shape
        (ny, nx) of the image.
    settings
        Which sources count, and how the field is interpolated.
    """
    stamps, kernel = match.stamps, match.kernel
    if len(stamps.x) == 0:
        return no_shift_field(shape)
    model, residual = _residual(kernel, stamps)
    shifts = measure_shifts(model, residual, stamps.weight, stamps.x, stamps.y, stamps.side)
    snr = 1.0 / np.maximum(shifts.scale_error, 1e-9)
    chi2 = np.einsum("np,np->n", stamps.weight, residual**2) / np.maximum(stamps.n_pixels, 1.0)
    sound = chi2 < 3.0 * max(kernel.chi2, 1.0)
    return fit_shift_field(shifts.select((snr > settings.min_snr) & sound), shape, settings)


def _fit(
    target: Side,
    reference: Side,
    basis: KernelBasis,
    correlation: FloatArray,
    makeup: StackMakeup | None,
    settings: KernelSettings,
    fallback: str,
) -> KernelMatch:
    """Fit the kernel, take the sources' own shifts out of the stamps, and fit it again."""
    stamps = cut_stamps(target, reference, basis, settings, makeup)
    if len(stamps.x) < settings.min_stamps:
        raise _error("too few sources to match the two images", "kernel_too_few_stamps", len(stamps.x), settings)
    shape = _shape(target)
    many = len(stamps.x) >= ENOUGH_FOR_SHIFTS
    kernel, _ = fit_kernel(stamps, basis, correlation, shape, settings, choose=not many)
    if many:
        model, residual = _residual(kernel, stamps)
        shifts = measure_shifts(model, residual, stamps.weight, stamps.x, stamps.y, stamps.side)
        slope_x, slope_y = image_slopes(model, stamps.side)
        believed = np.hypot(shifts.dx, shifts.dy) < MAX_OWN_SHIFT
        dx, dy = (np.where(believed, d, 0.0).astype(np.float32)[:, None] for d in (shifts.dx, shifts.dy))
        moved = stamps.moved(dx * slope_x + dy * slope_y)
        kernel, _ = fit_kernel(moved, basis, correlation, shape, settings)
    if kernel.n_stamps < settings.min_stamps:
        raise _error("too few sources agree on a kernel", "kernel_too_few_stamps", kernel.n_stamps, settings)
    return KernelMatch(kernel, stamps, fallback)


def _residual(kernel: MatchingKernel, stamps: Stamps) -> tuple[FloatImage, FloatImage]:
    """Return (n, p) the matched reference in the stamps, and what it leaves of the target."""
    model = stamps.convolved(kernel.images(stamps.x, stamps.y))
    background = kernel.background_at(stamps.x, stamps.y).astype(np.float32)
    return model, stamps.data - model - background[:, None]


def _shape(side: Side) -> tuple[int, int]:
    return side.science.shape[0], side.science.shape[1]


def _check(kernel: MatchingKernel, settings: KernelSettings) -> None:
    total = float(kernel.coefficients[0, 0])
    if not abs(total - 1.0) <= settings.max_sum_error:
        raise _error("the kernel's sum disagrees with the zero points", "kernel_sum", f"{total:.3f}", settings)
    if kernel.n_stamps and not kernel.chi2 <= settings.max_chi2:
        raise _error("the kernel does not fit", "kernel_chi2", f"{kernel.chi2:.2f}", settings)


def _check_ratio(target: Side, reference: Side, settings: KernelSettings) -> None:
    """Refuse a kernel that is not measured where the sources tell that the zero points are wrong."""
    ratio = common_ratio(target, reference, settings)
    if abs(ratio - 1.0) > settings.max_sum_error:
        raise _error("the sources' fluxes disagree with the zero points", "kernel_sum", f"{ratio:.3g}", settings)


def _error(problem: str, reason: str, value: object, settings: KernelSettings) -> CcdError:
    limits = {
        "kernel_too_few_stamps": f"at least {settings.min_stamps}",
        "kernel_sum": f"1 within {settings.max_sum_error:g}",
        "kernel_chi2": f"at most {settings.max_chi2:g}",
    }
    remedies = {
        "kernel_too_few_stamps": "use deeper images or a larger overlap with the template",
        "kernel_sum": "check the zero points of search and template",
        "kernel_chi2": "check the astrometry, the masks and the weights of search and template",
    }
    return CcdError(problem, reason=reason, step="subtract", value=value, limit=limits[reason], remedy=remedies[reason])
