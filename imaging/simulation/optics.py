"""True mapping from sky to pixels of a simulated CCD, with distortion, turbulence and refraction."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imaging.detector.ccds import CCDS, PIXEL_SCALE_ARCSEC
from imaging.detector.distortion import seed_wcs
from imaging.simulation.atmosphere import refraction_arcsec, turbulence_arcsec
from imaging.simulation.chromatic import refraction_shift_arcsec
from imaging.simulation.exposures import FOCAL_PLANE_RADIUS_PIXELS, SimulatedExposure, Wave
from imaging.simulation.streams import random_stream
from imaging.wcs.tpv import TpvWcs, plane_to_sky, sky_to_plane

if TYPE_CHECKING:
    from imaging.simulation.pixel_shifts import PixelShifts

FloatArray = NDArray[np.float64]

_OTHER_AXIS = (0, 2, 1, 3, 6, 5, 4, 10, 9, 8, 7)
"""TPV term of the other axis with the same monomial."""


def focal_plane(ccdnum: int, x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the position on the focal plane in units of its radius.

    Parameters
    ----------
    ccdnum
        CCD.
    x, y
        Pixels of the trimmed CCD, 0-based.
    """
    crpix = CCDS[ccdnum].crpix
    u = (np.asarray(x, dtype=float) + 1.0 - crpix[0]) / FOCAL_PLANE_RADIUS_PIXELS
    v = (np.asarray(y, dtype=float) + 1.0 - crpix[1]) / FOCAL_PLANE_RADIUS_PIXELS
    return u, v


@dataclass(frozen=True, slots=True)
class Misalignment:
    """Deviation of the camera from its header's polynomials.

    Attributes
    ----------
    shift_pixels
        Offset of the CCD's content, (x, y).
    waves
        Smooth distortion: two sets of plane waves, arcseconds to the east and to the north.
    pixels
        Displacement within the CCD by tree rings and edges; None without.
    """

    shift_pixels: tuple[float, float]
    waves: tuple[tuple[Wave, ...], tuple[Wave, ...]]
    pixels: "PixelShifts | None" = None


def camera_misalignment(camera_seed: int, ccdnum: int, offset_arcsec: float, distortion_mas: float) -> Misalignment:
    """Draw the small displacement of a CCD and the camera's additional smooth distortion."""
    shift = random_stream(camera_seed, "ccd offset", ccdnum).normal(0.0, offset_arcsec / PIXEL_SCALE_ARCSEC, 2)
    random = random_stream(camera_seed, "distortion")
    axes = []
    for _ in range(2):
        waves = []
        for _ in range(8):
            k, direction = 2 * np.pi / random.uniform(0.4, 2.0), random.uniform(0.0, 2 * np.pi)
            waves.append(
                Wave(
                    amplitude=distortion_mas / 1000.0 * np.sqrt(2.0 / 8.0),
                    kx=float(k * np.cos(direction)),
                    ky=float(k * np.sin(direction)),
                    phase=float(random.uniform(0.0, 2 * np.pi)),
                )
            )
        axes.append(tuple(waves))
    return Misalignment((float(shift[0]), float(shift[1])), (axes[0], axes[1]))


class TrueGeometry:
    """Mapping from the sky to the pixels of one CCD of one exposure.

    Parameters
    ----------
    exposure
        The exposure.
    ccdnum
        Science CCD.
    misalignment
        Misalignment of the camera.
    """

    def __init__(self, exposure: SimulatedExposure, ccdnum: int, misalignment: Misalignment) -> None:
        self.exposure = exposure
        self.ccdnum = ccdnum
        self.misalignment = misalignment
        self.wcs = true_wcs(exposure, ccdnum, misalignment)

    def plane(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Project positions on the tangent plane of the optical axis, degrees."""
        return sky_to_plane(ra_deg, dec_deg, *self.wcs.crval)

    def displacement_arcsec(self, xi: FloatArray, eta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the displacement beyond :attr:`wcs`, by turbulence and additional distortion, arcseconds."""
        east, north = turbulence_arcsec(self.exposure.turbulence, xi, eta)
        for wave_east, wave_north in zip(*self.misalignment.waves, strict=True):
            east, north = east + wave_east.at(xi, eta), north + wave_north.at(xi, eta)
        return east, north

    def sky_to_pixel(
        self, ra_deg: ArrayLike, dec_deg: ArrayLike, g_minus_i: ArrayLike | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Map positions to pixels.

        Parameters
        ----------
        ra_deg, dec_deg
            (n,) positions at the epoch of the exposure, ICRS.
        g_minus_i
            (n,) colours for the differential refraction; None ignores it.

        Returns
        -------
        x, y
            (n,) pixels of the trimmed CCD, 0-based.
        """
        xi, eta = self.plane(ra_deg, dec_deg)
        east, north = self.displacement_arcsec(xi, eta)
        if g_minus_i is not None:
            e = self.exposure
            colour = np.asarray(g_minus_i, dtype=float)
            refraction = refraction_shift_arcsec if e.optics is not None and e.optics.chromatic else refraction_arcsec
            de, dn = refraction(e.band, e.zenith_distance_deg, e.parallactic_deg, colour)
            east, north = east + de, north + dn
        x, y = self.wcs.plane_to_pixel(xi + east / 3600.0, eta + north / 3600.0)
        return (x, y) if self.misalignment.pixels is None else self.misalignment.pixels.apply(x, y)

    def pixel_to_sky(self, x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Invert :meth:`sky_to_pixel` for the reference colour: RA and Dec in degrees."""
        if self.misalignment.pixels is not None:
            x, y = self.misalignment.pixels.undo(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        xi, eta = self.wcs.pixel_to_plane(x, y)
        east, north = self.displacement_arcsec(xi, eta)
        for _ in range(2):
            east, north = self.displacement_arcsec(xi - east / 3600.0, eta - north / 3600.0)
        return plane_to_sky(xi - east / 3600.0, eta - north / 3600.0, *self.wcs.crval)


def true_wcs(exposure: SimulatedExposure, ccdnum: int, misalignment: Misalignment) -> TpvWcs:
    """Return the true coordinate system without turbulence and additional distortion, as an exact TPV.

    The camera's rotation, scale and shear multiply the plane of the nominal polynomials; since both axes have the same
    monomials, the product is a TPV again.
    """
    seed = seed_wcs(ccdnum)
    rotation, (s1, s2) = np.radians(exposure.rotation_deg), exposure.shear
    turn = np.array([[np.cos(rotation), np.sin(rotation)], [-np.sin(rotation), np.cos(rotation)]])
    matrix = exposure.scale * turn @ np.array([[1.0 + s1, s2], [s2, 1.0 - s1]])
    first, second = seed.pv[0], seed.pv[1]
    other = list(_OTHER_AXIS)
    pv = np.stack(
        [
            matrix[0, 0] * first + matrix[0, 1] * second[other],
            matrix[1, 0] * first[other] + matrix[1, 1] * second,
        ]
    )
    wcs = TpvWcs((exposure.true_ra_deg, exposure.true_dec_deg), seed.crpix, seed.cd, pv)
    return wcs.shifted(*misalignment.shift_pixels)
