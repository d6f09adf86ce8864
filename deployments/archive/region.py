"""Cover the region of a sky map with circles, since the archive takes no sky maps."""

import numpy as np
from astropy import units as u
from astropy_healpix import lonlat_to_healpix, nside_to_pixel_resolution

from deployments.archive.search import Cone
from imaging.skymap.model import SkyMap
from imaging.wcs.sphere import separation_deg, unit_vectors

CELLS = 8
"""HEALPix nside of the cells, of 7 degrees, whose parts of the region have a circle each."""

CORNER = 0.8
"""Distance of a HEALPix pixel's farthest corner from its centre, in square roots of its area; at most 0.78."""


def cones_of(skymap: SkyMap, level: float) -> list[Cone]:
    """Return circles that contain the smallest region with a probability.

    Parameters
    ----------
    skymap
        The sky map.
    level
        Probability of the region.
    """
    inside = skymap.region(level)
    ra, dec = skymap.centres(inside)
    margin = CORNER * nside_to_pixel_resolution(2 ** skymap.order[inside]).to_value(u.deg)
    cells = lonlat_to_healpix(ra * u.deg, dec * u.deg, CELLS)
    cones = []
    for cell in np.unique(cells):
        own = cells == cell
        x, y, z = unit_vectors(ra[own], dec[own]).mean(axis=0)
        lon, lat = float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arctan2(z, np.hypot(x, y))))
        radius = float((separation_deg(lon, lat, ra[own], dec[own]) + margin[own]).max())
        cones.append(Cone(lon % 360.0, lat, min(radius, 180.0)))
    return cones
