"""Settings of the source catalogue."""

from pydantic import Field

from imaging.settings import Settings


class CatalogueSettings(Settings):
    """How sources are found and measured."""

    detection_snr: float = Field(default=5.0, gt=2.0)
    """Threshold on the matched-filtered image, in units of its noise. DES's 1.5 sigma per pixel of an image smoothed
    with a 3-pixel Gaussian is about 7 in these units; 5 goes deeper and still lets less than one noise peak through."""
    minimum_area_pixels: int = Field(default=4, ge=1)
    """Connected pixels above the threshold (DES)."""
    deblend_levels: int = Field(default=32, ge=1)
    """Levels of the deblending tree (DES)."""
    deblend_contrast: float = Field(default=0.005, ge=0.0, le=1.0)
    """Share of the flux that makes a branch a source (DES)."""
    maximum_covered_fraction: float = Field(default=0.2, gt=0.0, le=1.0)
    """Share of the image above the threshold beyond which the background is taken off first: the core of a globular
    cluster covers less than a tenth of a CCD."""
    maximum_sources: int = Field(default=60_000, ge=1)
    """More than this is not a field of stars and galaxies but a failed sky or a noise estimate gone wrong: the crowded
    core of a globular cluster gives about 30,000 per CCD."""
    kron_factor: float = Field(default=2.5, gt=0.0)
    """Radius of the AUTO aperture in first-moment radii (DES)."""
    minimum_kron_radius: float = Field(default=3.5, gt=0.0)
    """Smallest radius of the AUTO aperture in units of the source's rms axes (DES)."""
    minimum_auto_diameter_pixels: float = Field(default=7.41, gt=0.0)
    """Smallest diameter of the AUTO aperture (DES)."""
    maximum_auto_radius_pixels: float = Field(default=150.0, gt=0.0)
    """Largest radius of the AUTO aperture, 40 arcsec: saturated stars with long trails would ask for the whole CCD."""
    psf_fit_radius_fwhm: float = Field(default=1.6, gt=0.5)
    """Radius of the PSF fit in FWHM: a matched filter loses less than 1 % of the signal beyond it, while neighbours
    and errors of the wings stay outside."""
    psf_sweeps: int = Field(default=3, ge=1)
    """Times that every source is fitted with the current models of its neighbours subtracted; crowded fields converge
    in three."""
    maximum_shift_pixels: float = Field(default=1.0, gt=0.0)
    """How far the PSF fit may move from the windowed centroid before it is held there."""
    background_inner_fwhm: float = Field(default=3.0, gt=0.0)
    """Inner radius of the ring in which the local background is measured, in FWHM."""
    background_outer_fwhm: float = Field(default=7.0, gt=0.0)
    """Outer radius of that ring: wide enough that the background adds only 2 % to the noise of a PSF flux."""
