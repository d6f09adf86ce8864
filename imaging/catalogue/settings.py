"""Settings of the source catalogue."""

from pydantic import Field

from imaging.settings import Settings


class CatalogueSettings(Settings):
    """Detection, deblending and photometry of sources."""

    detection_snr: float = Field(default=5.0, gt=2.0)
    """Detection threshold on the matched-filtered image, in units of its noise. DES's 1.5 sigma per pixel of an image
    smoothed with a 3-pixel Gaussian is about 7 in these units; 5 is deeper, with less than one noise peak."""
    minimum_area_pixels: int = Field(default=4, ge=1)
    """Fewest connected pixels above the threshold (DES)."""
    deblend_levels: int = Field(default=32, ge=1)
    """Levels of the deblending tree (DES)."""
    deblend_contrast: float = Field(default=0.005, ge=0.0, le=1.0)
    """Deblending contrast: fraction of the flux above which a branch becomes a source (DES)."""
    maximum_covered_fraction: float = Field(default=0.2, gt=0.0, le=1.0)
    """Fraction of the image above the threshold beyond which a background mesh is subtracted before detection: the core
    of a globular cluster covers less than a tenth of a CCD."""
    maximum_sources: int = Field(default=60_000, ge=1)
    """Largest number of sources per CCD; more indicate a failed sky subtraction or a wrong noise estimate. The crowded
    core of a globular cluster gives about 30,000."""
    kron_factor: float = Field(default=2.5, gt=0.0)
    """Radius of the AUTO aperture in first-moment radii (DES)."""
    minimum_kron_radius: float = Field(default=3.5, gt=0.0)
    """Smallest radius of the AUTO aperture in units of the source's rms axes (DES)."""
    minimum_auto_diameter_pixels: float = Field(default=7.41, gt=0.0)
    """Smallest diameter of the AUTO aperture (DES)."""
    maximum_auto_radius_pixels: float = Field(default=150.0, gt=0.0)
    """Largest radius of the AUTO aperture, 40 arcsec: limits saturated stars with long bleed trails."""
    psf_fit_radius_fwhm: float = Field(default=1.6, gt=0.5)
    """Radius of the PSF fit in FWHM: a matched filter loses less than 1 % of the signal beyond it, while most
    neighbours and errors of the wings are excluded."""
    psf_sweeps: int = Field(default=3, ge=1)
    """Number of sweeps in which every source is fitted with its neighbours' current models subtracted; crowded fields
    converge in three."""
    maximum_shift_pixels: float = Field(default=1.0, gt=0.0)
    """Largest shift of the PSF fit from the windowed centroid; beyond, the position is fixed at the centroid."""
    background_inner_fwhm: float = Field(default=3.0, gt=0.0)
    """Inner radius of the annulus in which the local background is measured, in FWHM."""
    background_outer_fwhm: float = Field(default=7.0, gt=0.0)
    """Outer radius of that annulus, in FWHM: the background adds only 2 % to the noise of a PSF flux."""
