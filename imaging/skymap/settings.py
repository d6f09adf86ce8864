"""Settings of the coverage of a sky map."""

from pydantic import Field

from imaging.settings import Settings


class CoverageSettings(Settings):
    """How the searched part of a sky map is counted."""

    order: int = Field(default=12, ge=6, le=16)
    """HEALPix order of the grid on which footprints are laid; 12 is 0.86 arcmin, a tenth of the width of a CCD."""

    efficiency_width_mag: float = Field(default=0.27, gt=0)
    """Width of the Gaussian integral around m50, magnitudes, where a CCD's fakes have not measured it."""

    efficiency_plateau: float = Field(default=0.98, gt=0, le=1)
    """Efficiency far above m50, what masks and neighbours cost, where a CCD's fakes have not measured it."""

    detections_required: int = Field(default=1, ge=1, le=5)
    """Exposures in which a source must be found to count as found; 1 because single detections become candidates."""
