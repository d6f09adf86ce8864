"""Settings of the per-CCD measurement: seeing, masks, astrometry, PSF and catalogue."""

from pydantic import Field

from imaging.astrometry.settings import AstrometrySettings
from imaging.catalogue.settings import CatalogueSettings
from imaging.masks.settings import CosmicRaySettings, StreakSettings
from imaging.psf.settings import PsfSettings
from imaging.settings import Settings


class MeasureSettings(Settings):
    """Cleaning and measurement of a CCD: seeing, cosmic rays, streaks, astrometry, PSF, catalogue."""

    seeing_peak_sigma: float = Field(default=20.0, gt=5.0)
    """Lowest peak above the sky, in sigma, of the sources used to measure the seeing."""
    seeing_maximum_peaks: int = Field(default=600, ge=20)
    """Number of brightest unsaturated peaks used to measure the seeing."""
    seeing_minimum_stars: int = Field(default=5, ge=1)
    """Fewest stars to measure the seeing."""
    seeing_range_pixels: tuple[float, float] = (2.0, 15.0)
    """Accepted range of stellar FWHM: 0.5 to 4 arcsec."""
    cosmic_rays: CosmicRaySettings = CosmicRaySettings()
    """Cosmic-ray masks."""
    streaks: StreakSettings = StreakSettings()
    """Streak masks (satellites and aircraft)."""
    catalogue: CatalogueSettings = CatalogueSettings()
    """Detection and photometry."""
    astrometry: AstrometrySettings = AstrometrySettings()
    """Astrometric calibration."""
    psf: PsfSettings = PsfSettings()
    """PSF model."""
