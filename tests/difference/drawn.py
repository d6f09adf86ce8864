"""Sources that GalSim draws on white noise, and differences that are put together without a subtraction."""

import galsim
import numpy as np
from scipy.signal import fftconvolve

from imaging.detector.distortion import seed_wcs
from imaging.difference.detect import BrightStars, DifferenceDetections
from imaging.difference.filter import FilteredDifference
from imaging.difference.measure import Measurements
from imaging.difference.noise import HALF, TileNoise
from imaging.difference.records import Difference, Identity, KernelSummary
from imaging.difference.tiles import Tiling
from imaging.image import CalibratedImage, CcdImage
from imaging.psf.model import PsfModel

SIGMA, FWHM, ZEROPOINT = 10.0, 4.0, 31.4
ROUND = galsim.Gaussian(fwhm=FWHM)
"""A Gaussian has all of its flux in the reference aperture, so that PSF flux is flux."""
ALONG_X, ALONG_Y = (galsim.Gaussian(fwhm=FWHM).shear(g1=g, g2=0.1) for g in (0.15, -0.15))
IDENTITY = Identity(41, "r", 20260101, 10, 61041.1)


def sampled(profile, step=0.5, half=40):
    """Return a profile, seen through square pixels, at steps of half a pixel: flux per pixel."""
    seen = galsim.Convolve(profile, galsim.Pixel(1.0))
    return seen.drawImage(nx=2 * half + 1, ny=2 * half + 1, scale=step, method="no_pixel").array / step**2


def model_of(profile):
    """Return a PSF model that is the same everywhere."""
    return PsfModel(sampled(profile)[None].astype(np.float32), 0, 0.5, (0.0, 0.0), (1.0, 1.0), FWHM)


def varying_model(origin, scale):
    """Return the model of :func:`varying_profile`."""
    first = sampled(ROUND)
    coefficients = [first, sampled(ALONG_X) - first, sampled(ALONG_Y) - first]
    return PsfModel(np.array(coefficients, np.float32), 1, 0.5, origin, scale, FWHM)


def varying_profile(x, y, origin, scale):
    """Mix three profiles: one is wider along x and gains with x, one is wider along y and gains with y."""
    u, v = (x - origin[0]) / scale[0], (y - origin[1]) / scale[1]
    return (1.0 - u - v) * ROUND + u * ALONG_X + v * ALONG_Y


def draw(shape, x, y, flux, profile=ROUND, reach=26):
    """Draw sources of one profile, or of one each, at 0-based positions."""
    image = galsim.ImageD(shape[1], shape[0], xmin=0, ymin=0, scale=1.0)
    profiles = profile if isinstance(profile, list) else [profile] * len(x)
    for a, b, electrons, shape_of_it in zip(x, y, flux, profiles, strict=True):
        i, j = round(a), round(b)
        window = image.bounds & galsim.BoundsI(i - reach, i + reach, j - reach, j + reach)
        source = shape_of_it.withFlux(electrons * shape_of_it.flux)
        source.drawImage(image=image[window], add_to_image=True, center=galsim.PositionD(a, b))
    return image.array


def grid_places(n, spacing, rng, margin=30):
    """Return n x n places with random sub-pixel offsets and the shape of an image that holds them."""
    j, i = np.mgrid[:n, :n]
    x, y = (margin + spacing * k.ravel() + rng.uniform(-0.5, 0.5, n * n) for k in (i, j))
    side = 2 * margin + spacing * (n - 1) + 1
    return x, y, (side, side)


def difference_of(image, *, model=None, weight=None, mask=None, psf=None, tile=128, search=None, **values):
    """Put a difference together from its pixels; filtered with SciPy, with unit response and white noise."""
    image = image.astype(np.float32)
    model = np.zeros_like(image) if model is None else model.astype(np.float32)
    weight = np.full(image.shape, 1 / SIGMA**2, np.float32) if weight is None else weight
    mask = np.zeros(image.shape, np.int16) if mask is None else mask
    psf = psf or model_of(ROUND)
    tiling = Tiling(image.shape, tile, 20)
    stamp = psf.stamp(float(image.shape[1] // 2), float(image.shape[0] // 2), 20)
    numerator, norm, template = (
        fftconvolve(plane.astype(float), kernel[::-1, ::-1], mode="same")
        for plane, kernel in ((image * weight, stamp), (weight, stamp**2), (model * weight, stamp))
    )
    score = numerator / np.sqrt(norm)
    point = np.zeros((*tiling.grid, 2 * HALF + 1, 2 * HALF + 1), np.float32)
    point[..., HALF, HALF] = 1.0
    one = np.ones(tiling.grid)
    pixels = CcdImage(image + model if search is None else search.astype(np.float32), mask, weight, {"GAIN": 1.0})
    planes = (p.astype(np.float32) for p in (numerator, norm, template / norm))
    fields = {
        "search": CalibratedImage(pixels, seed_wcs(10, 150.0, -20.0), psf, ZEROPOINT, 0.0, 1e6, "drawn"),
        "image": image,
        "mask": mask,
        "weight": weight,
        "score": score.astype(np.float32),
        "psf": psf,
        "model": model,
        "filtered": FilteredDifference(*planes, np.broadcast_to(stamp, (*tiling.grid, *stamp.shape))),
        "widths": one,
        "scale_error": 0.0,
        "shift_error": 0.0,
        "photon_gain": 1.0,
        "noise": TileNoise(point, point, one, one),
        "tiling": tiling,
        "kernel": KernelSummary("template", 1.01, 0.01, 20, 1, 1.0, 0, 1, 7),
        "method": "alard_lupton",
        "quality": {},
    }
    return Difference(**(fields | values))


def measurements(n, **columns):
    """Return measurements of n sources, zero where nothing is given."""
    names = Measurements.__dataclass_fields__
    return Measurements(**{k: np.broadcast_to(np.asarray(columns.get(k, 0.0), float), n).copy() for k in names})


NO_STARS = BrightStars(np.zeros(0), np.zeros(0), np.zeros(0))
NO_DETECTIONS = DifferenceDetections(measurements(0), *[np.zeros(0)] * 5, np.zeros(0, np.int32))
