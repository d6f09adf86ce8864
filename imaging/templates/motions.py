"""Move the stars of a template to where their proper motions have taken them at the time of the search image.

Between a template and a search image a star of the catalogue moves by a known amount. The subtraction leaves a dipole
where this changes a pixel by more than its noise hides. The star is taken from its place and put to the other one, with
the PSF of the template.
"""

import numpy as np
from numpy.typing import NDArray

from imaging.image import CalibratedImage
from imaging.psf.draw import draw_stamp, local_samples, position_terms

FloatArray = NDArray[np.float64]

LEAST_CHANGE = 0.25
"""Largest change of a pixel, in units of its noise, by motions that are left out: a dipole of half a sigma."""

STEEPEST = 1.43
"""Steepest slope of a Gaussian of unit height and unit full width at half maximum."""

CORE, REACH_FWHM = 3, 3.0
"""Half size of the square in which a star's flux is measured, pixels, and of the one that is changed, in FWHM."""


def move_stars(image: CalibratedImage, x: FloatArray, y: FloatArray, new_x: FloatArray, new_y: FloatArray) -> int:
    """Move stars of an image, in place.

    Stars with a bad pixel in their core, as saturated ones, stay.

    Parameters
    ----------
    image
        The image, sky subtracted.
    x, y
        (n,) places of the stars, pixels; those off the image stay.
    new_x, new_y
        (n,) places to which they move, pixels.

    Returns
    -------
    moved
        Number of stars that were moved.
    """
    science, weight, psf = image.pixels.science, image.pixels.weight, image.psf
    (ny, nx), reach, moved = science.shape, round(REACH_FWHM * psf.fwhm_pixels), 0
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (column >= CORE) & (row >= CORE) & (column < nx - CORE) & (row < ny - CORE)
    i, j = column[inside], row[inside]
    motion = np.hypot(new_x - x, new_y - y)
    change = np.zeros(x.size)
    change[inside] = STEEPEST / psf.fwhm_pixels * motion[inside] * science[j, i] * np.sqrt(weight[j, i])
    for k in np.flatnonzero((change > LEAST_CHANGE) & (motion < reach)):
        a, b = int(column[k]), int(row[k])
        core = (slice(b - CORE, b + CORE + 1), slice(a - CORE, a + CORE + 1))
        if not (weight[core] > 0).all():
            continue
        terms = position_terms(a, b, psf.degree, psf.origin, psf.scale)
        samples = local_samples(psf.coefficients, terms, psf.coefficients.shape[1])
        old = draw_stamp(samples, psf.step, x[k] - a, y[k] - b, reach)
        new = draw_stamp(samples, psf.step, new_x[k] - a, new_y[k] - b, reach)
        shape = old[reach - CORE : reach + CORE + 1, reach - CORE : reach + CORE + 1]
        shape = shape - shape.mean()  # so that a constant, as of neighbours, has no effect
        flux = float((shape * science[core]).sum() / (shape**2).sum())
        top, left = max(b - reach, 0), max(a - reach, 0)
        around = science[top : b + reach + 1, left : a + reach + 1]
        ny_in, nx_in = around.shape
        inner = slice(top - b + reach, top - b + reach + ny_in), slice(left - a + reach, left - a + reach + nx_in)
        around += flux * (new - old)[inner]
        moved += 1
    return moved
