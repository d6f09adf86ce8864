"""Settings of the sky-map coverage computation."""

from pydantic import Field

from imaging.settings import Settings


class CoverageSettings(Settings):
    """Coverage of a sky map: grid and detection efficiency."""

    order: int = Field(default=12, ge=6, le=16)
    """HEALPix order of the footprint grid; 12 is 0.86 arcmin, a tenth of the width of a CCD."""

    efficiency_width_mag: float = Field(default=0.27, gt=0)
    """Width of the Gaussian-integral efficiency curve about m50, magnitudes, for CCDs without a value from fakes."""

    efficiency_plateau: float = Field(default=0.98, gt=0, le=1)
    """Efficiency for bright sources (losses to masks and neighbours), for CCDs without a value from fakes."""

    detections_required: int = Field(default=1, ge=1, le=5)
    """Number of exposures in which a source must be detected; 1, because single detections become candidates."""
