"""Settings of the measurement of a CCD."""

from pydantic import Field

from imaging.astrometry.settings import AstrometrySettings
from imaging.catalogue.settings import CatalogueSettings
from imaging.masks.settings import CosmicRaySettings, StreakSettings
from imaging.psf.settings import PsfSettings
from imaging.settings import Settings


class MeasureSettings(Settings):
    """How a CCD is cleaned and measured: seeing, cosmic rays, streaks, astrometry, PSF, catalogue."""

    seeing_peak_sigma: float = Field(default=20.0, gt=5.0)
    """Height of a peak above the sky, in sigma, from which the seeing is measured."""
    seeing_maximum_peaks: int = Field(default=600, ge=20)
    """The brightest unsaturated peaks are used; more would only be fainter."""
    seeing_minimum_stars: int = Field(default=5, ge=1)
    """Fewer stars than this do not tell the seeing."""
    seeing_range_pixels: tuple[float, float] = (2.0, 15.0)
    """Widths that a stellar image can have: 0.5 to 4 arcsec."""
    cosmic_rays: CosmicRaySettings = CosmicRaySettings()
    """Cosmic rays."""
    streaks: StreakSettings = StreakSettings()
    """Satellites and aircraft."""
    catalogue: CatalogueSettings = CatalogueSettings()
    """Detection and photometry."""
    astrometry: AstrometrySettings = AstrometrySettings()
    """Matching to reference stars and the coordinate fit."""
    psf: PsfSettings = PsfSettings()
    """The PSF model."""
