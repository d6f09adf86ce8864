"""Pairs of images drawn by galsim, with every number known."""

import galsim
import numpy as np
from numpy.typing import NDArray

from imaging.detector.distortion import seed_wcs
from imaging.difference.pair import Pair, Side
from imaging.image import CalibratedImage, CcdImage
from imaging.psf.model import PsfModel

SHAPE = (320, 300)
TO_SIGMA = 1.0 / 2.354820045

WHITE = np.zeros((6, 6))
WHITE[0, 0] = 1.0


def profile(fwhm: float, e1: float = 0.0, e2: float = 0.0) -> galsim.GSObject:
    """A Gaussian whose light all falls into the reference aperture."""
    return galsim.Gaussian(fwhm=fwhm).shear(e1=e1, e2=e2)


def psf_model(psf: galsim.GSObject, step: float = 0.5, half: int = 56) -> PsfModel:
    """The profile as a constant model of half-pixel samples."""
    n = 2 * half + 1
    samples = psf.drawImage(nx=n, ny=n, scale=step, method="no_pixel").array / step**2
    return PsfModel(samples[None].astype(np.float32), 0, step, (0.0, 0.0), (1.0, 1.0), psf.calculateFWHM(), 50)


def draw(psf: galsim.GSObject, x, y, flux, shape: tuple[int, int] = SHAPE, size: int = 61) -> NDArray[np.float64]:
    """Stars at 0-based positions between pixels."""
    image = galsim.ImageD(galsim.BoundsI(0, shape[1] - 1, 0, shape[0] - 1), scale=1.0)
    for a, b, f in zip(x, y, flux, strict=True):
        i, j = round(float(a)), round(float(b))
        stamp = psf.withFlux(float(f)).drawImage(
            nx=size, ny=size, scale=1.0, method="no_pixel", offset=(a - i, b - j), dtype=float
        )
        stamp.setCenter(i, j)
        bounds = stamp.bounds & image.bounds
        image[bounds] += stamp[bounds]
    return image.array


def lattice(n: int, shape: tuple[int, int] = SHAPE, seed: int = 3, margin: int = 26) -> tuple[NDArray, NDArray]:
    """n places that do not crowd each other, away from pixel centres and in no order."""
    rng = np.random.default_rng(seed)
    columns = int(np.ceil(np.sqrt(n * shape[1] / shape[0])))
    rows = -(-n // columns)
    gy, gx = np.meshgrid(
        np.linspace(margin, shape[0] - margin, rows), np.linspace(margin, shape[1] - margin, columns), indexing="ij"
    )
    keep = rng.permutation(gx.size)[:n]
    return gx.ravel()[keep] + rng.uniform(-3, 3, n), gy.ravel()[keep] + rng.uniform(-3, 3, n)


def side(science, sigma: float, psf: galsim.GSObject | None = None, gain: float = 1e9) -> Side:
    """An image of constant noise; by default its sources bring no photon noise."""
    weight = np.full(science.shape, sigma**-2, np.float32)
    model = psf_model(profile(4.0) if psf is None else psf)
    return Side(science.astype(np.float32), np.zeros(science.shape, np.int16), weight, gain, 1e7, model)


def pair_of(search: Side, template: Side) -> Pair:
    """Two sides of white noise."""
    return Pair(search, template, WHITE[None, None].astype(np.float32), max(search.science.shape), None)


def calibrated(science, sigma: float, psf: galsim.GSObject, zeropoint: float = 31.0) -> CalibratedImage:
    """An image of constant noise with coordinates."""
    weight = np.full(science.shape, sigma**-2, np.float32)
    pixels = CcdImage(science.astype(np.float32), np.zeros(science.shape, np.int16), weight, {"GAIN": 1.0})
    return CalibratedImage(pixels, seed_wcs(10, 150.0, -20.0), psf_model(psf), zeropoint, sigma**2, 1e7, "known")


def moments(kernel: NDArray) -> tuple[float, float, float, float, float]:
    """Sum, centroid in x and y, variance along x and y of a kernel."""
    half = kernel.shape[0] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    total = kernel.sum()
    mx, my = (kernel * x).sum() / total, (kernel * y).sum() / total
    return (
        *(float(total), float(mx), float(my)),
        *(float((kernel * (x - mx) ** 2).sum() / total), float((kernel * (y - my) ** 2).sum() / total)),
    )


def detectability(search_fwhm: float, template_fwhm: float, search_sigma: float, template_sigma: float) -> float:
    """Signal to noise per electron that two Gaussian PSFs allow (Zackay et al. 2016, equation 24), by integration."""
    k = np.fft.fftfreq(512) * 2 * np.pi
    square = k[:, None] ** 2 + k[None, :] ** 2
    new, ref = (np.exp(-square * (fwhm * TO_SIGMA) ** 2) for fwhm in (search_fwhm, template_fwhm))
    return float(np.sqrt(np.mean(new * ref / (search_sigma**2 * ref + template_sigma**2 * new + 1e-300))))
