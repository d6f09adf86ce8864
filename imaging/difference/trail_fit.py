"""Fit a trail, the image of a source that moves evenly during the exposure, and point sources to the same pixels.

A trail is the PSF convolved with a line. In Fourier space that is a product, with derivatives in closed form, so that
place, length and direction are fitted like the place of a point source (Veres et al. 2012, PASP 124, 1197).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.optimize import least_squares

from imaging.image import FloatImage
from imaging.psf.model import PsfModel

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Drawn = tuple[FloatArray, FloatArray]

MARGIN_FWHM = 2.0
"""How far around a line its pixels are fitted, widths of the PSF."""

ROUNDS, SETTLED = 12, 0.01
"""Fits, each to the pixels around the line of the one before, and the change, pixels, that ends them."""

LONGEST_FWHM = 40.0
"""Longest trail that is fitted, widths of the PSF: longer ones are streaks, which have their own search."""

DIRECTIONS = 6
"""Directions from which the fit of a single peak starts."""


@dataclass(frozen=True, slots=True)
class FittedTrail:
    """A fitted trail.

    Attributes
    ----------
    x, y
        Its middle, pixels.
    x_error, y_error
        Errors of that, pixels.
    flux, flux_error, sky_error
        Light of the whole trail, electrons, signed; its error, and that without the photon noise of the trail itself.
    along
        x and y from one end to the other, pixels.
    trail_length_error, trail_angle_error
        Errors of length and direction of that, pixels and degrees.
    chi2
        Reduced chi-square.
    gain_on_points, gain_on_ellipse
        Chi-square of as many point sources as there are peaks minus that of the trail, and that of a Gaussian which is
        wider than the PSF in any direction, a galaxy for example.
    """

    x: float
    y: float
    x_error: float
    y_error: float
    flux: float
    flux_error: float
    sky_error: float
    along: tuple[float, float]
    trail_length_error: float
    trail_angle_error: float
    chi2: float
    gain_on_points: float
    gain_on_ellipse: float

    @property
    def trail_length(self) -> float:
        """Distance of the ends, pixels."""
        return float(np.hypot(*self.along))

    @property
    def trail_angle(self) -> float:
        """Direction from x to y, degrees, 0 to 180."""
        return float(np.degrees(np.arctan2(self.along[1], self.along[0]))) % 180.0


@dataclass(frozen=True, eq=False)
class _Window:
    """Pixels around a trail: data (h, w), square root of the weight, first column and row, transformed PSF."""

    data: FloatArray
    root: FloatArray
    left: int
    top: int
    spectrum: NDArray[np.complex128]
    kx: FloatArray
    ky: FloatArray
    size: tuple[int, int]

    def images(self, spectra: list[NDArray[np.complex128]]) -> FloatArray:
        """Return (k, pixels) images of spectra."""
        h, w = self.data.shape
        planes = fft.irfft2(np.array(spectra), s=self.size)[:, :h, :w]
        return planes.reshape(len(spectra), -1)

    def moved(self, x: float, y: float) -> NDArray[np.complex128]:
        """Return the spectrum of the PSF at a place: a phase along columns times one along rows."""
        return self.spectrum * np.exp(-1j * self.ky * (y - self.top)) * np.exp(-1j * self.kx * (x - self.left))

    def line(self, p: FloatArray) -> Drawn:
        """Return (pixels,) model and (5, pixels) derivatives of a trail: flux, x, y, and the two of its length."""
        flux, x, y, u, v = p
        half = 0.5 * (self.kx * u + self.ky * v)
        turn = np.exp(0.5j * self.ky * v) * np.exp(0.5j * self.kx * u)  # cosine and sine of half
        near = np.abs(half) < 1e-3
        divisor = np.where(near, 1.0, half)
        sinc = np.where(near, 1.0 - half**2 / 6.0, turn.imag / divisor)
        slope = np.where(near, -half / 3.0, (turn.real - sinc) / divisor)  # of the sinc by half
        moved = self.moved(x, y)
        unit = moved * sinc
        by_length = 0.5 * flux * moved * slope
        spectra = [unit, -1j * flux * self.kx * unit, -1j * flux * self.ky * unit]
        planes = self.images([*spectra, self.kx * by_length, self.ky * by_length])
        return flux * planes[0], planes

    def ellipse(self, p: FloatArray) -> Drawn:
        """Return (pixels,) model and (6, pixels) derivatives of a Gaussian: flux, x, y, its second moments."""
        flux, x, y, xx, yy, xy = p
        exponent = -0.5 * (self.kx**2 * xx + self.ky**2 * yy) - self.kx * self.ky * xy
        unit = self.moved(x, y) * np.exp(np.minimum(exponent, 1.0))
        factors = (1.0, -1j * flux * self.kx, -1j * flux * self.ky)
        widths = (-0.5 * flux * self.kx**2, -0.5 * flux * self.ky**2, -flux * self.kx * self.ky)
        planes = self.images([factor * unit for factor in (*factors, *widths)])
        return flux * planes[0], planes

    def points(self, p: FloatArray) -> Drawn:
        """Return (pixels,) model and (3 n, pixels) derivatives of point sources: flux, x, y of each."""
        spectra = []
        for flux, x, y in p.reshape(-1, 3):
            unit = self.moved(x, y)
            spectra += [unit, -1j * flux * self.kx * unit, -1j * flux * self.ky * unit]
        planes = self.images(spectra)
        return p[::3] @ planes[::3], planes


def fit_trail(
    image: FloatImage, weight: FloatImage, psf: PsfModel, peaks: FloatArray, gain: float, psf_error: float
) -> FittedTrail | None:
    """Fit a trail to the pixels around peaks.

    Parameters
    ----------
    image, weight
        (ny, nx) float32, whitened difference and inverse variance; zero weight for bad pixels.
    psf
        PSF of the difference.
    peaks
        (n, 2) x and y of the peaks of one source, pixels, ordered along it.
    gain
        Photo-electrons per unit of flux.
    psf_error
        Relative error of the PSF model.

    Returns
    -------
    trail
        The trail that fits best; None if none does near the peaks.
    """
    fwhm = psf.fwhm_pixels
    p = np.array([1.0, *(0.5 * (peaks[0] + peaks[-1])), *(peaks[-1] - peaks[0])])
    window, used = _around(image, weight, psf, p)
    p = _start(window, used, p, fwhm)
    for _ in range(ROUNDS):
        before, p = p, _fit(window.line, p, window, used)
        if np.hypot(*p[3:]) > LONGEST_FWHM * fwhm or np.hypot(*(p[1:3] - before[1:3])) > np.hypot(*p[3:]) + fwhm:
            return None
        if not (0.0 <= p[1] <= image.shape[1] - 1 and 0.0 <= p[2] <= image.shape[0] - 1):
            return None
        window, used = _around(image, weight, psf, p)
        if np.abs(p[1:] - before[1:]).max() < SETTLED:
            break
    return _judged(p, window, used, peaks, gain, psf_error)


def _judged(
    p: FloatArray, window: _Window, used: BoolArray, peaks: FloatArray, gain: float, psf_error: float
) -> FittedTrail | None:
    """Return a fitted trail with its errors, and how well others fit the same pixels; None if degenerate."""
    model, slopes = window.line(p)
    weights = np.where(used, window.root.ravel() ** 2, 0.0)
    normal, n_used = (slopes * weights) @ slopes.T, np.count_nonzero(weights)
    if n_used <= p.size or np.linalg.cond(normal) > 1e15:
        return None
    inverse = np.linalg.inv(normal)
    photons = np.maximum(np.sign(p[0]) * model, 0.0) / gain
    by_photons = inverse @ ((slopes * (weights**2 * photons)) @ slopes.T) @ inverse
    covariance = inverse + by_photons
    errors, direction = np.sqrt(np.diag(covariance)), p[3:] / np.hypot(*p[3:])
    along, across = (np.sqrt(d @ covariance[3:, 3:] @ d) for d in (direction, direction[::-1] * (1.0, -1.0)))
    usable = weights > 0
    variance = 1.0 / np.where(usable, weights, 1.0) + photons + (psf_error * model) ** 2
    variance = np.where(usable, variance, np.inf)
    chi2 = float(np.sum((window.data.ravel() - model) ** 2 / variance))
    points = np.column_stack([np.full(len(peaks), p[0] / len(peaks)), peaks]).ravel()
    ellipse = np.array([*p[:3], p[3] ** 2 / 12.0, p[4] ** 2 / 12.0, p[3] * p[4] / 12.0])
    gains = []
    for draw, start in ((window.points, points), (window.ellipse, ellipse)):
        other, _ = draw(_fit(draw, start, window, used))
        gains.append(float(np.sum((window.data.ravel() - other) ** 2 / variance)) - chi2)
    return FittedTrail(
        *(float(p[1]), float(p[2]), float(errors[1]), float(errors[2])),
        *(float(p[0]), float(errors[0]), float(np.sqrt(inverse[0, 0]))),
        (float(p[3]), float(p[4])),
        *(float(along), float(np.degrees(across / np.hypot(*p[3:])))),
        *(chi2 / (n_used - p.size), *gains),
    )


def _around(image: FloatImage, weight: FloatImage, psf: PsfModel, p: FloatArray) -> tuple[_Window, BoolArray]:
    """Cut the window of a trail of some parameters; return it and which of its pixels are near the trail's line."""
    (ny, nx), (_, x, y, u, v), margin = image.shape, (float(value) for value in p), MARGIN_FWHM * psf.fwhm_pixels
    right, up = 0.5 * abs(u) + margin, 0.5 * abs(v) + margin
    rows = slice(min(max(int(y - up), 0), ny - 1), max(min(int(y + up) + 2, ny), 1))
    columns = slice(min(max(int(x - right), 0), nx - 1), max(min(int(x + right) + 2, nx), 1))
    data, inverse = image[rows, columns].astype(float), weight[rows, columns].astype(float)
    half = int(np.ceil(3.0 * psf.fwhm_pixels))
    size = tuple(fft.next_fast_len(n + half, real=True) for n in data.shape)
    stamp, offsets = np.zeros(size), np.arange(-half, half + 1.0)
    seen = psf.at_offsets(x, y, offsets, offsets)
    np.add.at(stamp, np.ix_(*(offsets.astype(int) % n for n in size)), seen)
    kx, ky = 2 * np.pi * fft.rfftfreq(size[1])[None, :], 2 * np.pi * fft.fftfreq(size[0])[:, None]
    window = _Window(data, np.sqrt(inverse), columns.start, rows.start, fft.rfft2(stamp), kx, ky, size)
    dy, dx = (
        values - middle
        for values, middle in zip(np.indices(data.shape), (y - rows.start, x - columns.start), strict=True)
    )
    share = np.clip((dx * u + dy * v) / max(u * u + v * v, 1e-12), -0.5, 0.5)
    return window, (np.hypot(dx - share * u, dy - share * v) < margin).ravel()


def _start(window: _Window, used: BoolArray, p: FloatArray, fwhm: float) -> FloatArray:
    """Return the parameters from which the fit starts: between the outer peaks or, of one peak, the best direction."""
    length, (u, v) = float(np.hypot(*p[3:])), p[3:]
    angles = np.pi * np.arange(DIRECTIONS) / DIRECTIONS if length < fwhm else [np.arctan2(v, u)]
    best, least = p, np.inf
    for angle in angles:
        line = max(length, 2.0 * fwhm) * np.array([np.cos(angle), np.sin(angle)])
        model = (window.line(np.array([1.0, p[1], p[2], *line]))[0] * window.root.ravel())[used]
        data = (window.data * window.root).ravel()[used]
        flux = (model @ data) / max(float(model @ model), 1e-30)
        chi2 = float(np.sum((data - flux * model) ** 2))
        if chi2 < least:
            best, least = np.array([flux, p[1], p[2], *line]), chi2
    return best


def _fit(draw: Callable[[FloatArray], Drawn], start: FloatArray, window: _Window, used: BoolArray) -> FloatArray:
    """Return the parameters of least chi-square."""
    root, data = window.root.ravel()[used], window.data.ravel()[used]
    scale = np.ones(start.size)
    scale[:: 3 if draw == window.points else start.size] = max(abs(start[0]), 1e-30)  # fluxes; all else in pixels

    @lru_cache(maxsize=1)  # the slopes are wanted where the residuals just were
    def drawn(p: bytes) -> Drawn:
        return draw(np.frombuffer(p) * scale)

    def residual(p: FloatArray) -> FloatArray:
        return (drawn(p.tobytes())[0][used] - data) * root

    def slopes(p: FloatArray) -> FloatArray:
        return (drawn(p.tobytes())[1][:, used] * root).T * scale

    return np.asarray(least_squares(residual, start / scale, slopes, method="lm", xtol=1e-5, max_nfev=40).x * scale)
