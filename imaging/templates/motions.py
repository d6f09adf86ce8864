"""Move the stars of a template to where the search image shows them.

Between a template and a search image a star of the catalogue moves by a known amount: by its proper motion, and by
refraction, which displaces stars by their colours towards the zenith, elsewhere at another hour angle and more at a
higher airmass. The subtraction leaves a dipole where this changes a pixel by more than its noise hides. The star is
taken from its place and put to the other one, with the PSF of the template.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.astrometry.fit import MAS_PER_DEGREE
from imaging.astrometry.reference import ReferenceStars, reference_at_epoch
from imaging.astrometry.settings import AstrometrySettings
from imaging.astrometry.solution import Chromatic
from imaging.exposure import exposure_from_header
from imaging.image import CalibratedImage
from imaging.psf.draw import draw_stamp, local_samples, position_terms
from imaging.tables import column
from imaging.wcs.foreign import ImageWcs
from imaging.wcs.tpv import TpvWcs, sky_to_plane

FloatArray = NDArray[np.float64]

LEAST_CHANGE = 0.25
"""Largest change of a pixel, in units of its noise, by motions that are left out: a dipole of half a sigma."""

STEEPEST = 1.43
"""Steepest slope of a Gaussian of unit height and unit full width at half maximum."""

CORE, REACH_FWHM = 3, 3.0
"""Half size of the square in which a star's flux is measured, pixels, and of the one that is changed, in FWHM."""


@dataclass
class ShownStars:
    """Stars of the reference catalogue, which templates are made to show as the search image shows them.

    Attributes
    ----------
    reference
        The stars.
    mjd
        Epoch of the search image.
    chromatic
        Displacement by the colour in the search image; None if it is not known.
    n_moved
        Stars moved so far, in all templates together.
    colour_shift_mas
        Largest displacement between a template and the search image so far, per magnitude of BP - RP.
    """

    reference: pa.Table
    mjd: float
    chromatic: Chromatic | None = None
    n_moved: int = 0
    colour_shift_mas: float = 0.0

    def as_in_search(self, template: CalibratedImage, chromatic: Chromatic | None = None) -> CalibratedImage:
        """Move the stars of a template, in place, to where the search image has them; return the template.

        Parameters
        ----------
        template
            The template.
        chromatic
            Displacement by the colour in it; None if it is not known.
        """
        (ny, nx), wcs = template.pixels.shape, template.wcs
        x, y = wcs.sky_to_pixel(column(self.reference, "ra"), column(self.reference, "dec"))
        stars = self.reference.filter(pa.array((x > 0) & (y > 0) & (x < nx) & (y < ny)))
        own = exposure_from_header(template.pixels.header, template.label).mjd_mid
        before, after = (reference_at_epoch(stars, epoch, AstrometrySettings()) for epoch in (own, self.mjd))
        if chromatic is None or self.chromatic is None:
            old, new = places(wcs, before), places(wcs, after)
        else:
            old, new = places(wcs, before, chromatic), places(wcs, after, self.chromatic)
            self.colour_shift_mas = max(self.colour_shift_mas, colour_shift_mas(chromatic, self.chromatic))
        self.n_moved += move_stars(template, *old, *new)
        return template


def places(wcs: ImageWcs, stars: ReferenceStars, chromatic: Chromatic | None = None) -> tuple[FloatArray, FloatArray]:
    """Return the (n,) pixels x and y where an image shows stars of the catalogue.

    Parameters
    ----------
    wcs
        Coordinates of the pixels for sources of typical colour.
    stars
        The stars at the image's epoch.
    chromatic
        Displacement by the colour in the image that is asked for; None if it is not known.
    """
    if chromatic is None or not isinstance(wcs, TpvWcs):
        return wcs.sky_to_pixel(stars.ra, stars.dec)
    xi, eta = sky_to_plane(stars.ra, stars.dec, *wcs.crval)
    shift = chromatic.shift_mas(stars.colour_mag) / MAS_PER_DEGREE
    return wcs.plane_to_pixel(xi - shift[:, 0], eta - shift[:, 1])


def colour_shift_mas(template: Chromatic, search: Chromatic) -> float:
    """Return how far a star moves from a template to the search image per magnitude of BP - RP, milliarcseconds."""
    ends = np.array(search.typical_mag) + np.array([-0.5, 0.5])
    low, high = search.shift_mas(ends) - template.shift_mas(ends)
    return float(np.hypot(*(high - low)))


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
