"""Extinction by the dust of the Galaxy in a field at low latitude: patchy, and reddening.

The dust is that of the cirrus (``nebulosity.py``): its column density follows the brightness of the light that it
reflects. Stars are behind a share of it that grows with their distance, galaxies behind all of it. So stars are many,
faint and red, their density follows the dust, and the locus of the colours is not the one of the reference stars
elsewhere.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imaging.simulation.galaxies import Galaxies
from imaging.simulation.nebulosity import relative_brightness
from imaging.simulation.stars import Stars

FloatArray = NDArray[np.float64]

PER_VISUAL = {"u": 1.45, "g": 1.18, "r": 0.79, "i": 0.58, "z": 0.44, "Y": 0.39, "VR": 0.95}
"""Extinction in the bands of DECam in units of that in V (Schlafly and Finkbeiner 2011, ApJ 737, 103, R_V = 3.1)."""

GAIA_PER_VISUAL = {"g": 0.88, "bp": 1.09, "rp": 0.66}
"""The same in the bands of Gaia (Casagrande and VandenBerg 2018, MNRAS 479, L102)."""

DUST_KPC = 1.5
"""Distance within which 1 - 1/e of the dust is."""

CHUNK = 20_000
"""Places whose dust is computed at once, which takes 40 MB."""


def visual_extinction(seed: int, mean_mag: float, ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    """Return the extinction in V through all the dust at places of the sky: (n,) magnitudes."""
    parts = range(0, max(len(ra_deg), 1), CHUNK)
    pieces = [relative_brightness(seed, ra_deg[k : k + CHUNK], dec_deg[k : k + CHUNK]) for k in parts]
    return mean_mag * np.concatenate(pieces)


def redden(seed: int, mean_mag: float, stars: Stars, galaxies: Galaxies) -> tuple[Stars, Galaxies]:
    """Return stars and galaxies behind the dust.

    Parameters
    ----------
    seed
        Seed of the sky.
    mean_mag
        Mean extinction in V through all the dust.
    stars, galaxies
        As they would be without dust.
    """
    share = 1.0 - np.exp(-1.0 / (np.maximum(stars.parallax, 1e-3) * DUST_KPC))
    dimmed = share * visual_extinction(seed, mean_mag, stars.ra, stars.dec)
    gaia = {name: getattr(stars, name) + ratio * dimmed for name, ratio in GAIA_PER_VISUAL.items()}
    mags = {band: values + PER_VISUAL[band] * dimmed for band, values in stars.mags.items()}
    behind = visual_extinction(seed, mean_mag, galaxies.ra, galaxies.dec)
    dusty = {band: values + PER_VISUAL[band] * behind for band, values in galaxies.mags.items()}
    return replace(stars, mags=mags, **gaia), replace(galaxies, mags=dusty)
