"""Simulate pairs of images of one sky with known truth, to test difference imaging.

Simpler than a simulated night: no detector, no raw format. Included are the effects relevant to subtraction: varying
and different point-spread functions, turbulence not in the WCS, dithers, saturation and bleed trails, cosmic rays of
which some are unmasked, bad columns, transients on blank sky and on galaxies.
"""

import math
from dataclasses import dataclass, field

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.optimize import nnls

from imaging.bits import MaskBit
from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.detector.distortion import seed_wcs
from imaging.image import CalibratedImage, CcdImage
from imaging.psf.model import PsfModel
from imaging.wcs.tpv import TpvWcs

FloatArray = NDArray[np.float64]

CCD = 10
POINTING = (150.0, -20.0)
PIXEL_ARCSEC = 0.263
FWHM_TO_SIGMA = 1.0 / 2.354820045
EXPONENTIAL = ((0.00077, 0.02393), (0.01017, 0.06490), (0.07313, 0.13580), (0.37188, 0.25096), (1.39727, 0.42942))
"""(amplitude, sigma over half-light radius) of an exponential disc as a sum of Gaussians (Hogg and Lang 2013)."""


@dataclass(frozen=True)
class PairSky:
    """Simulated sky: positions in pixels of the search CCD before turbulence, magnitudes, shapes."""

    star_x: FloatArray
    star_y: FloatArray
    star_mag: FloatArray
    galaxy_x: FloatArray
    galaxy_y: FloatArray
    galaxy_mag: FloatArray
    galaxy_radius: FloatArray
    galaxy_e1: FloatArray
    galaxy_e2: FloatArray
    transient_x: FloatArray
    transient_y: FloatArray
    transient_mag: FloatArray


@dataclass(frozen=True)
class ExposureSpec:
    """Observing conditions of one image."""

    fwhm_arcsec: float
    seed: int
    turbulence_mas: float = 10.0
    zeropoint_mag: float = 31.4
    sky_electrons: float = 2500.0
    read_noise: float = 7.0
    dither_pixels: tuple[float, float] = (0.0, 0.0)
    transients: bool = False
    cosmic_rays: int = 120
    missed_cosmic_rays: int = 0
    astrometry_error_mas: float = 3.0
    saturation_electrons: float = 150000.0


@dataclass(frozen=True)
class Frame:
    """One image with its truth."""

    image: CalibratedImage
    model: NDArray[np.float32]
    true_x: FloatArray
    true_y: FloatArray
    missed: list[tuple[float, float]] = field(default_factory=list)


def make_pair_sky(seed: int, shape: tuple[int, int] = (4096, 2048), n_transients: int = 200) -> PairSky:
    """Draw stars, galaxies and transients at high galactic latitude for an image of this shape."""
    rng = np.random.default_rng((seed, 1))
    ny, nx = shape
    area = (ny + 160) * (nx + 160) / (4096 * 2048)

    def places(n: int) -> tuple[FloatArray, FloatArray]:
        return rng.uniform(-80, nx + 80, n), rng.uniform(-80, ny + 80, n)

    n_stars, n_galaxies = rng.poisson(2300 * area), rng.poisson(14000 * area)
    star_x, star_y = places(n_stars)
    star_mag = 12.5 + 11.5 * rng.beta(2.6, 1.0, n_stars)
    galaxy_x, galaxy_y = places(n_galaxies)
    galaxy_mag = np.clip(25.5 - rng.exponential(1.25, n_galaxies), 16.0, None)
    radius = np.clip(0.35 * 10 ** (-0.12 * (galaxy_mag - 23.0)) * rng.lognormal(0.0, 0.35, n_galaxies), 0.1, 6.0)
    e1, e2 = rng.normal(0.0, 0.22, (2, n_galaxies))
    shrink = 1.0 / np.maximum(1.0, np.hypot(e1, e2) / 0.7)
    mag = rng.uniform(18.0, 24.3, n_transients)
    x, y = rng.uniform(30, nx - 30, n_transients), rng.uniform(30, ny - 30, n_transients)
    inside = (galaxy_x > 30) & (galaxy_x < nx - 30) & (galaxy_y > 30) & (galaxy_y < ny - 30) & (galaxy_mag < 22.5)
    hosts = rng.permutation(np.flatnonzero(inside))[: n_transients // 2]
    offset = rng.normal(0.0, 1.0, (2, hosts.size)) * radius[hosts] / PIXEL_ARCSEC
    x[: hosts.size] = np.clip(galaxy_x[hosts] + offset[0], 20, nx - 20)
    y[: hosts.size] = np.clip(galaxy_y[hosts] + offset[1], 20, ny - 20)
    return PairSky(
        *(star_x, star_y, star_mag, galaxy_x, galaxy_y, galaxy_mag, radius, e1 * shrink, e2 * shrink, x, y, mag)
    )


def expose(sky: PairSky, spec: ExposureSpec, shape: tuple[int, int] = (4096, 2048), label: str = "frame") -> Frame:
    """Simulate an image of a sky; return the calibrated image and its truth."""
    rng = np.random.default_rng((spec.seed, 2))
    nx = shape[1]
    centre = seed_wcs(CCD, *POINTING)
    ra0, dec0 = POINTING
    scale = PIXEL_ARCSEC / 3600.0
    wcs = seed_wcs(
        CCD, ra0 + spec.dither_pixels[1] * scale / math.cos(math.radians(dec0)), dec0 + spec.dither_pixels[0] * scale
    )
    shift = _turbulence(rng, shape, spec.turbulence_mas / 1000.0 / PIXEL_ARCSEC)
    psf = _VaryingPsf(rng, spec.fwhm_arcsec / PIXEL_ARCSEC, shape)
    model = np.zeros(shape, dtype=np.float32)
    flux_of = lambda mag: 10 ** (-0.4 * (mag - spec.zeropoint_mag))  # noqa: E731

    def on_frame(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        x, y = wcs.sky_to_pixel(*centre.pixel_to_sky(x, y))
        nodes = [(y + 128.0) / 64.0, (x + 128.0) / 64.0]
        return x + map_coordinates(shift[0], nodes, order=3, mode="nearest"), y + map_coordinates(
            shift[1], nodes, order=3, mode="nearest"
        )

    x, y = on_frame(sky.star_x, sky.star_y)
    zero = np.zeros(x.size)
    psf.draw(model, x, y, flux_of(sky.star_mag), zero, zero, zero)
    x, y = on_frame(sky.galaxy_x, sky.galaxy_y)
    psf.draw(
        model,
        *(x, y, flux_of(sky.galaxy_mag), sky.galaxy_radius / PIXEL_ARCSEC, sky.galaxy_e1, sky.galaxy_e2),
    )
    x, y = on_frame(sky.transient_x, sky.transient_y)
    if spec.transients:
        psf.draw(model, x, y, flux_of(sky.transient_mag), np.zeros(x.size), np.zeros(x.size), np.zeros(x.size))
    variance = np.full(shape, spec.sky_electrons + spec.read_noise**2, dtype=np.float32)
    variance[:, nx // 2 :] *= 1.08
    noise = rng.standard_normal(shape, dtype=np.float32) * np.sqrt(variance + model)
    science, mask = model + noise, np.zeros(shape, dtype=np.int16)
    _saturate(science, mask, spec.saturation_electrons)
    missed = _cosmic_rays(rng, science, mask, spec.cosmic_rays, spec.missed_cosmic_rays)
    for column in rng.integers(10, nx - 10, 4):
        mask[:, column] |= MaskBit.BPM
        science[:, column] += 400.0
    weight = np.where(mask & ~np.int16(MaskBit.SUSPECT), 0.0, 1.0 / variance).astype(np.float32)
    error = rng.normal(0.0, spec.astrometry_error_mas / 1000.0 / PIXEL_ARCSEC, 2)
    image = CalibratedImage(
        pixels=CcdImage(science.astype(np.float32), mask, weight, {"EXPNUM": spec.seed, "CCDNUM": CCD, "BAND": "r"}),
        wcs=TpvWcs(wcs.crval, (wcs.crpix[0] + error[0], wcs.crpix[1] + error[1]), wcs.cd, wcs.pv),
        psf=psf.model(),
        zeropoint_mag=spec.zeropoint_mag,
        sky_electrons=spec.sky_electrons,
        saturation_electrons=spec.saturation_electrons,
        label=label,
    )
    return Frame(image, model, x, y, missed)


class _VaryingPsf:
    """A Moffat function of beta 3 as a sum of Gaussians whose width and ellipticity vary over the image."""

    def __init__(self, rng: np.random.Generator, fwhm_pixels: float, shape: tuple[int, int]) -> None:
        self.fwhm = fwhm_pixels
        self.shape = shape
        self.amplitude, self.sigma = _moffat_gaussians(fwhm_pixels)
        self.variation = rng.normal(0.0, [[0.010], [0.010], [0.010]], (3, 6))
        self.variation[1:, 0] += rng.normal(0.0, 0.02, 2)

    def parameters(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        u, v = 2.0 * x / self.shape[1] - 1.0, 2.0 * y / self.shape[0] - 1.0
        terms = np.stack([np.ones_like(u), u, v, u * u - 0.4, u * v, v * v - 0.4])
        size, e1, e2 = self.variation @ terms
        return self.fwhm * (1.0 + size), e1, e2

    def draw(
        self,
        image: NDArray[np.float32],
        x: FloatArray,
        y: FloatArray,
        flux: FloatArray,
        radius: FloatArray,
        e1: FloatArray,
        e2: FloatArray,
    ) -> None:
        fwhm, p1, p2 = self.parameters(x, y)
        galaxy = np.array(EXPONENTIAL)
        galaxy[:, 0] /= galaxy[:, 0].sum()
        _draw(image, x, y, flux, radius, e1, e2, fwhm, p1, p2, self.amplitude, self.sigma, galaxy)

    def model(self, degree: int = 3, half: int = 42, step: float = 0.5) -> PsfModel:
        """Return the same function as a PSF model."""
        ny, nx = self.shape
        gy, gx = (g.ravel() for g in np.meshgrid(np.linspace(0, ny, 7), np.linspace(0, nx, 7), indexing="ij"))
        fwhm, p1, p2 = self.parameters(gx, gy)
        axis = np.arange(-float(half), half + 1) * step
        stamps = np.array(
            [_moffat_image(axis, f, a, b, self.amplitude, self.sigma) for f, a, b in zip(fwhm, p1, p2, strict=True)]
        )
        origin, scale = (nx / 2, ny / 2), (nx / 2, ny / 2)
        u, v = (gx - origin[0]) / scale[0], (gy - origin[1]) / scale[1]
        basis = np.stack([u**i * v**j for j in range(degree + 1) for i in range(degree + 1 - j)], axis=1)
        coefficients = np.linalg.lstsq(basis, stamps.reshape(len(gx), -1), rcond=None)[0]
        n = 2 * half + 1
        return PsfModel(
            coefficients.reshape(-1, n, n).astype(np.float32), degree, step, origin, scale, self.fwhm, 100, 1.0
        )


def _moffat_gaussians(fwhm_pixels: float, beta: float = 3.0) -> tuple[FloatArray, FloatArray]:
    """Return fluxes and sigmas (of a FWHM of one) of the Gaussians; unit flux inside the reference aperture."""
    alpha = 0.5 / math.sqrt(2 ** (1 / beta) - 1)
    r = np.geomspace(0.02, 15.0, 400)
    target = (1 + (r / alpha) ** 2) ** -beta
    sigma = np.geomspace(0.28, 6.0, 8)
    design = np.exp(-0.5 * (r[:, None] / sigma) ** 2)
    weight = 1.0 / (target + 1e-6)
    peak, _ = nnls(design * weight[:, None], target * weight, maxiter=1000)
    keep = peak > 0
    flux = 2 * np.pi * sigma[keep] ** 2 * peak[keep]
    radius = REFERENCE_APERTURE_PIXELS / 2 / fwhm_pixels
    inside = np.sum(flux * (1 - np.exp(-0.5 * (radius / sigma[keep]) ** 2)))
    return flux / inside, sigma[keep]


def _moffat_image(
    axis: FloatArray, fwhm: float, e1: float, e2: float, amplitude: FloatArray, sigma: FloatArray
) -> FloatArray:
    dx, dy = axis[None, :], axis[:, None]
    image = np.zeros((axis.size, axis.size))
    for a, s in zip(amplitude, sigma, strict=True):
        size = (s * fwhm) ** 2
        cxx, cyy, cxy = size * (1 + e1), size * (1 - e1), size * e2
        det = cxx * cyy - cxy**2
        image += a / (2 * np.pi * np.sqrt(det)) * np.exp(-0.5 * (cyy * dx**2 - 2 * cxy * dx * dy + cxx * dy**2) / det)
    return image


@numba.njit(cache=True)
def _draw(
    image: NDArray[np.float32],
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    radius: FloatArray,
    e1: FloatArray,
    e2: FloatArray,
    fwhm: FloatArray,
    p1: FloatArray,
    p2: FloatArray,
    amplitude: FloatArray,
    sigma: FloatArray,
    galaxy: FloatArray,
) -> None:
    ny, nx = image.shape
    for n in range(x.size):
        components = 1 if radius[n] == 0.0 else galaxy.shape[0]
        for k in range(components):
            share = 1.0 if radius[n] == 0.0 else galaxy[k, 0]
            size = 0.0 if radius[n] == 0.0 else (galaxy[k, 1] * radius[n] * 1.18) ** 2
            for m in range(amplitude.size):
                s2 = (sigma[m] * fwhm[n]) ** 2
                cxx = s2 * (1 + p1[n]) + size * (1 + e1[n])
                cyy = s2 * (1 - p1[n]) + size * (1 - e1[n])
                cxy = s2 * p2[n] + size * e2[n]
                det = cxx * cyy - cxy * cxy
                peak = flux[n] * share * amplitude[m] / (2 * np.pi * np.sqrt(det))
                reach = math.sqrt(2.0 * math.log(max(peak / 0.02, 1.0001)))
                rx, ry = reach * math.sqrt(cxx), reach * math.sqrt(cyy)
                y0, y1 = max(0, math.ceil(y[n] - ry)), min(ny - 1, math.floor(y[n] + ry))
                x0, x1 = max(0, math.ceil(x[n] - rx)), min(nx - 1, math.floor(x[n] + rx))
                for j in range(y0, y1 + 1):
                    dy = j - y[n]
                    for i in range(x0, x1 + 1):
                        dx = i - x[n]
                        image[j, i] += peak * math.exp(-0.5 * (cyy * dx * dx - 2 * cxy * dx * dy + cxx * dy * dy) / det)


def _turbulence(rng: np.random.Generator, shape: tuple[int, int], rms_pixels: float) -> FloatArray:
    """Draw (2, n, m) shifts in pixels at every 64th pixel, correlated over 90 arcsec."""
    n, m = shape[0] // 64 + 6, shape[1] // 64 + 6
    size = 256
    distance = np.minimum(np.arange(size), size - np.arange(size)) * 64 * PIXEL_ARCSEC
    r = np.hypot(distance[:, None], distance[None, :])
    power = np.maximum(np.fft.fft2(np.exp(-((r / 90.0) ** 1.5))).real, 0.0)
    white = rng.standard_normal((2, size, size))
    full = np.fft.ifft2(np.fft.fft2(white) * np.sqrt(power)).real
    return rms_pixels * full[:, :n, :m]


def _saturate(science: NDArray[np.float32], mask: NDArray[np.int16], limit: float) -> None:
    """Clip at the full well, bleed the excess along the columns and flag both."""
    full = science > limit
    excess = np.where(full, science - limit, 0.0).sum(axis=0)
    for column in np.flatnonzero(excess > 0):
        rows = np.flatnonzero(full[:, column])
        groups = np.split(rows, np.flatnonzero(np.diff(rows) > 40) + 1)
        for group in groups:
            length = int(min((science[group, column] - limit).sum() / limit / 2, 600))
            y0, y1 = max(group[0] - length, 0), min(group[-1] + length + 1, science.shape[0])
            if length:
                science[y0:y1, column] = limit
                mask[y0:y1, column] |= np.int16(MaskBit.TRAIL)
    mask[full] |= np.int16(MaskBit.SATURATE)
    science[full] = limit


def _cosmic_rays(
    rng: np.random.Generator, science: NDArray[np.float32], mask: NDArray[np.int16], n: int, n_missed: int
) -> list[tuple[float, float]]:
    """Add tracks, flag all but ``n_missed``, and return the positions of the unflagged ones."""
    ny, nx = science.shape
    missed = []
    for k in range(n + n_missed):
        x, y = rng.uniform(20, nx - 20), rng.uniform(20, ny - 20)
        angle, length = rng.uniform(0, 2 * np.pi), rng.exponential(8.0) if k >= n_missed else 1.5
        charge = rng.lognormal(7.0, 0.7)
        steps = np.arange(0, max(length, 1.0), 0.3)
        px = np.clip((x + steps * np.cos(angle) + 0.5).astype(int), 0, nx - 1)
        py = np.clip((y + steps * np.sin(angle) + 0.5).astype(int), 0, ny - 1)
        np.add.at(science, (py, px), np.float32(charge * 0.5))
        if k < n_missed:
            missed.append((float(px.mean()), float(py.mean())))
        else:
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    mask[np.clip(py + dy, 0, ny - 1), np.clip(px + dx, 0, nx - 1)] |= np.int16(MaskBit.CRAY)
    return missed
