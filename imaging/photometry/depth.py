"""Limiting magnitude (point-source depth) of an image."""

import math

from imaging.psf.model import PsfModel


def point_source_depth_mag(
    psf: PsfModel,
    sky_sigma_electrons: float,
    zeropoint_mag: float,
    place: tuple[float, float],
    n_sigma: float = 5.0,
) -> float:
    """Return the magnitude of a point source with a given signal to noise for sky noise.

    Parameters
    ----------
    psf
        Point-spread function.
    sky_sigma_electrons
        Noise of a pixel of blank sky, electrons.
    zeropoint_mag
        AB magnitude of a source of one electron.
    place
        Position on the CCD: x, y, pixels, 0-based.
    n_sigma
        Signal to noise at the limit.
    """
    noise = sky_sigma_electrons * math.sqrt(psf.noise_pixels(*place))
    return zeropoint_mag - 2.5 * math.log10(n_sigma * noise)
