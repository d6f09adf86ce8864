"""Read and write maps of pixel displacements."""

from pathlib import Path

import numpy as np

from imaging.astrometry.displacement import EDGE_KNOTS_PIXELS, PixelDisplacement
from imaging.errors import InputError
from imaging.io.calibrations import calibration
from imaging.io.damage import DamagedError
from imaging.io.possible import require_possible
from imaging.io.sealed import read_sealed, write_sealed


def write_displacement(path: Path, displacement: PixelDisplacement) -> None:
    """Write the displacements of one CCD as sealed JSON."""
    write_sealed(path, displacement.model_dump_json(indent=1))


def read_displacement(path: Path, ccd: int, band: str) -> PixelDisplacement:
    """Read the displacements of a CCD and band.

    Raises
    ------
    InputError
        If the file is damaged, of another CCD or band, or holds what is no possible displacement.
    """
    with calibration(path):
        found = PixelDisplacement.model_validate_json(read_sealed(path))
        if (found.ccd, found.band) != (ccd, band):
            raise InputError(
                "calibration of another CCD or band",
                ccd=ccd,
                value=f"CCD {found.ccd}, band {found.band}",
                limit=f"CCD {ccd}, band {band}",
                remedy="correct the manifest, or copy the file of this CCD and band",
            )
        sizes = {len(profile) for profile in found.edges}
        if found.edges and (len(found.edges), sizes) != (4, {len(EDGE_KNOTS_PIXELS) - 1}):
            raise DamagedError(f"profiles of {len(found.edges)} edges; allowed: 4, each at the knots")
        if not found.radius_step > 0.0:
            raise DamagedError(f"radii in steps of {found.radius_step}; allowed: above 0")
        values = np.array([*found.ring, *(value for profile in found.edges for value in profile)])
        if not values.size:
            raise DamagedError("neither rings nor edges")
        require_possible(values, "pixel_displacement")
        return found
