"""Scale and shift of two images with few sources, where a transient may be among the sources.

In a cut-out the transient and its host are often the only source, and a free kernel would absorb it. The kernel's
shape is therefore that of the two PSF models; its sum and shift are fitted to the sources with priors from the zero
points and the coordinates, together with the point sources that are in one image only. These are found one after the
other by the gain in chi-square that remains after the sum, the shift and the background have adapted to each of them
(orthogonal matching pursuit). A source with such a companion is no stamp of a kernel fit.

Zero points refer to total fluxes (kernel sum of one) or to fluxes in the reference aperture (sum of the PSFs' fluxes
beyond it too). The more probable of the two is taken, and the other counts in the error of the sum.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imaging.difference.basis import KernelBasis
from imaging.difference.design import Stamps
from imaging.difference.psf_kernel import unit_kernel
from imaging.difference.registration import image_slopes
from imaging.difference.settings import FewSourceSettings
from imaging.image import FloatImage
from imaging.psf.model import PsfModel

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

ITERATIONS = 3
"""Linear steps of the shift."""

MARGIN = 3
"""Distance of a companion from the edge of its stamp, pixels."""

MIN_AGREEING = 3
"""Clean sources from which on these can replace the zero points and the level of the sky."""

PAIR_COST = 0.5
"""Gain in twice the logarithm of the probability from which on two sources, both stars, can do so: the noise of faint
ones reaches 0.1, an offset of 7 percent gives 0.8 to 2."""

ZEROPOINT_SCATTER = 0.03
"""Scatter of zero points that are wrong: those of real surveys disagree by up to 7 percent."""

STAR_EXCESS = 0.15
"""Largest excess of a star's second moments, relative to those of the PSF."""

LOOSE = 100.0
"""Growth of the errors that are then assumed."""

APERTURE_COST = 8.0
"""Twice the logarithm of the odds that zero points refer to total fluxes, not to those in the reference aperture; two
sources are needed to show the opposite."""

N_COMMON, N_OWN = 6, 4
"""Common unknowns: sum, shift along x and y, half the excess of the second moments (xx, yy, xy) of the PSF; those of
each stamp: background, deviations of its brightness and shift."""


@dataclass(frozen=True, eq=False)
class SourceMatch:
    """Sum and shift of the kernel, and what the sources say about them.

    Attributes
    ----------
    sum, sum_error
        Kernel sum over the ratio of the zero points, and its error.
    dx, dy, shift_error
        Shift of the target relative to the reference and its error per axis, pixels.
    background
        Level of the target above the matched reference.
    coefficients
        (m,) coefficients of the kernel of unit sum.
    clean
        (n,) stamps that agree: no source is in one image only.
    varied
        (n,) stamps with a source in one image only that is too significant for an error of PSF and zero point.
    chi2
        Median reduced chi-square of the clean stamps; NaN without any.
    """

    sum: float
    sum_error: float
    dx: float
    dy: float
    shift_error: float
    background: float
    coefficients: FloatArray
    clean: BoolArray
    varied: BoolArray
    chi2: float


def match_sources(
    reference: PsfModel,
    target: PsfModel,
    basis: KernelBasis,
    place: tuple[float, float],
    stamps: Stamps,
    settings: FewSourceSettings,
) -> SourceMatch:
    """Fit the sum and the shift of the kernel of two PSF models to all stamps, told apart from transients.

    Parameters
    ----------
    reference, target
        PSF models of the convolved image and of the other one.
    basis
        Kernel functions.
    place
        Position at which the PSFs are compared, pixels.
    stamps
        Stamps of the sources, possibly none.
    settings
        Errors of zero points, coordinates and PSFs; significance of a companion.
    """
    moment = settings.width_error * (target.fwhm_pixels / 2.3548) ** 2
    shapes = _companion_shapes(target, place, stamps.side)

    def kernel_of(common: FloatArray) -> tuple[FloatArray, float]:
        x, y, xx, yy, xy = common[1:].tolist()
        return unit_kernel(reference, target, basis, place, (x, y), (xx, yy, xy))

    def fit(expected: float) -> tuple[_Fit, FloatArray, FloatArray]:
        """Return the fit about an expected sum less one, the common unknowns and the kernel."""
        found, common = _Fit(stamps, settings, moment, shapes, expected), np.append(expected, np.zeros(N_COMMON - 1))
        coefficients, _ = kernel_of(common)
        for _ in range(ITERATIONS):
            image = np.tensordot(coefficients, basis.images, axes=1)
            found.start(stamps.convolved(np.repeat(image[None], len(stamps.x), axis=0)), common)
            found.find_companions()
            clean = found.clean()
            if clean.sum() >= MIN_AGREEING:
                found.prefer_sources(0.0)
            elif clean.sum() == 2 and point_like(stamps, target, place)[clean].all():
                found.prefer_sources(PAIR_COST)
            common = np.append(0.0, common[1:]) + found.solution[:N_COMMON]
            coefficients, _ = kernel_of(common)
        return found, common, coefficients

    beyond = kernel_of(np.zeros(N_COMMON))[1] - 1.0
    fits = [fit(expected) for expected in ((0.0, beyond) if abs(beyond) > settings.zeropoint_error else (0.0,))]
    costs = np.array([found.cost() + k * APERTURE_COST for k, (found, _, _) in enumerate(fits)])
    best, common, coefficients = fits[int(np.argmin(costs))]
    others = np.array([*(one[0] for _, one, _ in fits), best.overruled[0]]) - common[0]
    weights = np.exp(0.5 * (costs.min() - np.append(costs, costs.min() + best.overruled[1])))
    other = float(np.sqrt(np.average(others**2, weights=weights)))
    return _source_match(best, common, coefficients, other)


def _source_match(fit: "_Fit", common: FloatArray, coefficients: FloatArray, other: float) -> SourceMatch:
    """Return what a fit says; ``other`` is the error of the sum by less probable meanings of the zero points."""
    sigma = np.sqrt(np.diag(fit.covariance))
    return SourceMatch(
        sum=1.0 + float(common[0]),
        sum_error=math.hypot(sigma[0], other),
        dx=float(common[1]),
        dy=float(common[2]),
        shift_error=float(np.hypot(sigma[1], sigma[2]) / np.sqrt(2.0)),
        background=fit.background(),
        coefficients=coefficients,
        clean=fit.clean(),
        varied=fit.gains > fit.settings.varied_sigma**2,
        chi2=fit.chi2(),
    )


def point_like(stamps: Stamps, psf: PsfModel, place: tuple[float, float]) -> BoolArray:
    """Return which stamps (n,) of the target show no excess of second moments over its PSF.

    Parameters
    ----------
    stamps
        Stamps of sources.
    psf, place
        PSF of the target, and the position at which it is taken, pixels.
    """
    side, half, fwhm = stamps.side, stamps.side // 2, psf.fwhm_pixels
    axis = np.arange(-half, half + 1.0)
    star = psf.at_offsets(*place, axis, axis).ravel()
    along_x, along_y = (s[0] for s in image_slopes(star[None].astype(np.float32), side))
    wider = 0.5 * (image_slopes(along_x[None], side)[0][0] + image_slopes(along_y[None], side)[1][0])
    columns = np.stack([star, wider, along_x, along_y, np.ones_like(star)], axis=1).astype(float)
    radius = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1]).ravel()
    found = np.zeros(len(stamps.x), dtype=bool)
    for k, (data, weight) in enumerate(zip(stamps.data, stamps.weight, strict=True)):
        weighted = columns * np.where(radius < 1.5 * fwhm, weight, 0.0)[:, None]
        covariance = np.linalg.pinv(weighted.T @ columns, hermitian=True)
        flux, excess, *_ = covariance @ (weighted.T @ data)
        limit = STAR_EXCESS * (fwhm / 2.3548) ** 2 * flux
        found[k] = flux > 0 and excess + np.sqrt(max(covariance[1, 1], 0.0)) < limit
    return found


def _companion_shapes(psf: PsfModel, place: tuple[float, float], side: int) -> tuple[FloatArray, FloatArray]:
    """Return (k, p) point sources on the inner pixels of a stamp, and (k, 2) their offsets from its centre."""
    half, reach = side // 2, side // 2 - MARGIN
    axis = np.arange(-half - reach, half + reach + 1.0)
    wide = psf.at_offsets(*place, axis, axis)
    offsets = np.array([(i, j) for j in range(-reach, reach + 1) for i in range(-reach, reach + 1)])
    shapes = [wide[reach - j : reach - j + side, reach - i : reach - i + side].ravel() for i, j in offsets]
    return np.array(shapes), offsets


@dataclass(eq=False)
class _Fit:
    """Least squares with priors of all stamps at once, for one kernel and an expected sum less one."""

    stamps: Stamps
    settings: FewSourceSettings
    moment: float
    shapes: tuple[FloatArray, FloatArray]
    expected: float
    columns: list[FloatArray] = field(default_factory=list)
    weight: FloatArray = field(default_factory=lambda: np.zeros(0))
    data: FloatArray = field(default_factory=lambda: np.zeros(0))
    companions: list[int] = field(default_factory=list)
    solution: FloatArray = field(default_factory=lambda: np.zeros(0))
    prior_mean: FloatArray = field(default_factory=lambda: np.zeros(0))
    prior_sigma: FloatArray = field(default_factory=lambda: np.zeros(0))
    gains: FloatArray = field(default_factory=lambda: np.zeros(0))
    unclear: BoolArray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    covariance: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    overruled: tuple[float, float] = (0.0, math.inf)

    def start(self, model: FloatImage, common: FloatArray) -> None:
        """Linearise about a matched reference (n, p) of unit sum at the values of the common unknowns."""
        settings, stamps, total = self.settings, self.stamps, 1.0 + common[0]
        along_x, along_y = image_slopes(model, stamps.side)
        curved = (image_slopes(along_x, stamps.side), image_slopes(along_y, stamps.side))
        moments = (0.5 * curved[0][0], 0.5 * curved[1][1], 0.5 * (curved[0][1] + curved[1][0]))
        variance = np.divide(1.0, stamps.weight, out=np.full(model.shape, np.inf), where=stamps.weight > 0)
        variance = variance + (settings.psf_error * total * model) ** 2
        self.weight = np.where(stamps.weight > 0, 1.0 / variance, 0.0)
        self.data = (stamps.data - model).astype(float)
        shared = [model, -total * along_x, -total * along_y, *(total * m for m in moments)]
        columns = [*shared, np.ones_like(model), *shared[:3]]
        self.columns = list(np.stack(columns, axis=2).astype(float))
        own = (settings.source_scale, settings.source_shift_pixels, settings.source_shift_pixels)
        sigma = [settings.zeropoint_error, settings.shift_pixels, settings.shift_pixels, *[self.moment] * 3]
        for weight in stamps.weight:
            sigma += [settings.sky_error / np.sqrt(max(float(np.max(weight)), 1e-30)), *own]
        self.prior_sigma = np.array([float(value) for value in sigma])
        self.prior_mean = np.zeros(self.prior_sigma.size)
        self.prior_mean[:N_COMMON] = np.append(self.expected, -common[1:])
        self.gains = np.zeros(len(self.data))
        self.unclear = np.zeros(len(self.data), dtype=bool)
        self.companions, self.overruled = [], (0.0, math.inf)
        self._solve()

    def _index(self, k: int) -> NDArray[np.int64]:
        """Return the unknowns of a stamp, in the order of its columns."""
        first = N_COMMON + N_OWN * k
        own = [range(3 * c, 3 * c + 3) for c, stamp in enumerate(self.companions) if stamp == k]
        extra = [N_COMMON + N_OWN * len(self.data) + i for columns in own for i in columns]
        return np.array([*range(N_COMMON), *range(first, first + N_OWN), *extra])

    def _solve(self) -> None:
        size = N_COMMON + N_OWN * len(self.data) + 3 * len(self.companions)
        precision = np.zeros(size)
        precision[: self.prior_sigma.size] = self.prior_sigma**-2.0
        normal, right = np.diag(precision + 1e-30), np.zeros(size)
        right[: self.prior_sigma.size] = self.prior_mean * self.prior_sigma**-2.0
        for k, columns in enumerate(self.columns):
            index, weighted = self._index(k), columns * self.weight[k][:, None]
            normal[np.ix_(index, index)] += columns.T @ weighted
            right[index] += weighted.T @ self.data[k]
        self.covariance = np.asarray(np.linalg.pinv(normal, hermitian=True), dtype=np.float64)
        self.solution = self.covariance @ right

    def _residual(self, k: int) -> FloatArray:
        return self.data[k] - self.columns[k] @ self.solution[self._index(k)]

    def find_companions(self) -> None:
        """Add the point source of the largest gain, until the gain is insignificant."""
        shapes, _ = self.shapes
        for _ in range((self.settings.max_companions + 1) * len(self.data)):
            gains = np.zeros((len(self.data), len(shapes)))
            for k in range(len(self.data)):
                weight, index = self.weight[k], self._index(k)
                products = shapes @ (self.columns[k] * weight[:, None])
                norm = (shapes**2) @ weight
                left = norm - np.einsum("ki,ij,kj->k", products, self.covariance[np.ix_(index, index)], products)
                sound = left > 1e-3 * max(float(np.max(norm)), 1e-30)
                seen = shapes @ (weight * self._residual(k))
                gains[k] = np.where(sound, seen**2 / np.where(sound, left, 1.0), 0.0)
            k, best = divmod(int(np.argmax(gains)), len(shapes))
            if gains[k, best] < self.settings.companion_sigma**2:
                return
            self.gains[k] = max(self.gains[k], gains[k, best])
            if self.companions.count(k) < self.settings.max_companions:
                self._add(k, shapes[best])
            elif self.unclear.sum() + 1 == len(self.data):
                return
            else:  # not understood: without it
                self.unclear[k], self.weight[k] = True, 0.0
                self._solve()

    def _add(self, k: int, shape: FloatArray) -> None:
        slopes = (s[0].astype(float) for s in image_slopes(shape[None].astype(np.float32), self.stamps.side))
        self.columns[k] = np.concatenate([self.columns[k], np.stack([shape, *slopes], axis=1)], axis=1)
        self.companions.append(k)
        self._solve()

    def prefer_sources(self, cost: float) -> None:
        """Solve again with sum and backgrounds from the sources alone, and keep that if it is more probable.

        Deviations of single sources and of the zero points have a Cauchy distribution here: one variable source does
        not count against sources that agree with the zero points, nor wrong zero points against sources that agree.
        Two stars that both vary by the same amount are possible too: ``overruled`` keeps the sum by the zero points and
        twice the logarithm of the odds against it.
        """
        stated, deviation = self.prior_sigma.copy(), self._deviation(self.clean())
        total = float(self.solution[0])
        self.prior_sigma[0] = 1.0
        self.prior_sigma[N_COMMON::N_OWN] *= LOOSE
        self._solve()
        self.overruled = (total, deviation - self._deviation(self.clean()))
        if self.overruled[1] <= cost:
            self.overruled = (0.0, math.inf)
            self.prior_sigma = stated
            self._solve()

    def _deviation(self, among: BoolArray) -> float:
        """Return minus twice the logarithm of the probability of the sum and of some sources' flux ratios."""
        scales = self.solution[N_COMMON + 1 : N_COMMON + N_OWN * len(self.data) : N_OWN][among]
        wrong = np.append(scales / self.settings.source_scale, (self.solution[0] - self.expected) / ZEROPOINT_SCATTER)
        return float(2.0 * np.log1p(wrong**2).sum())

    def cost(self) -> float:
        """Return minus twice the logarithm of the probability of the sum, all flux ratios and companions."""
        gains = np.log1p(self.gains / self.settings.companion_sigma**2)
        return self._deviation(np.ones(len(self.data), dtype=bool)) + float(2.0 * gains.sum())

    def clean(self) -> BoolArray:
        """Return the stamps without a companion."""
        enough = self.stamps.n_pixels > 0.5 * self.data.shape[1]
        return np.array([k not in self.companions for k in range(len(self.data))], dtype=bool) & ~self.unclear & enough

    def background(self) -> float:
        """Return the median background of the stamps; zero without any."""
        if not self.columns:
            return 0.0
        return float(np.median(self.solution[N_COMMON : N_COMMON + N_OWN * len(self.data) : N_OWN]))

    def chi2(self) -> float:
        """Return the median reduced chi-square of the clean stamps."""
        values = [
            float(self.stamps.weight[k] @ self._residual(k) ** 2) / self.stamps.n_pixels[k]
            for k in np.flatnonzero(self.clean()).tolist()
        ]
        return float(np.median(values)) if values else float("nan")
