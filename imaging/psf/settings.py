"""Settings of the PSF model."""

from pydantic import Field

from imaging.settings import Settings


class PsfSettings(Settings):
    """Selection of PSF stars and fit of the PSF model."""

    minimum_snr: float = Field(default=40.0, gt=0.0)
    """Lowest signal to noise of a PSF star; fainter ones cost time and add little information."""
    maximum_stars: int = Field(default=250, ge=10)
    """Largest number of PSF stars; the brightest are used."""
    minimum_stars: int = Field(default=5, ge=1)
    """Fewest stars for a PSF model, even a constant one."""
    enough_stars: int = Field(default=40, ge=5)
    """With fewer stars than this, stars with more contamination by neighbours are accepted."""
    neighbour_limits: tuple[float, ...] = (0.02, 0.1, 0.3)
    """Largest fractions of a star's surroundings that neighbours may occupy, tried in this order."""
    size_range_pixels: tuple[float, float] = (2.0, 15.0)
    """Accepted range of stellar FWHM: 0.5 to 4 arcsec."""
    locus_half_width: float = Field(default=0.12, gt=0.0)
    """Relative half width of the first cut in size: wider than the variation of the seeing over a CCD."""
    locus_sigma: float = Field(default=3.5, gt=0.0)
    """Clipping limit in sigma of size and concentration about their smooth variation over the CCD."""
    maximum_ellipticity: float = Field(default=0.6, gt=0.0, le=1.0)
    """Largest ellipticity 1 - b/a: high enough for trailed exposures, low enough to reject streaks."""
    maximum_degree: int = Field(default=3, ge=0, le=4)
    """Highest degree of the spatial polynomial from which cross-validation chooses."""
    stars_per_term: int = Field(default=6, ge=1)
    """Fewest stars per term of that polynomial."""
    fit_radius_fwhm: float = Field(default=4.0, gt=1.0)
    """Radius of the fit in FWHM. It always includes the reference aperture."""
    maximum_radius_pixels: float = Field(default=25.0, gt=11.2)
    """Radius of the model; beyond the fit it follows a power law (wings)."""
    error_floor: float = Field(default=0.01, ge=0.0)
    """Relative model error added to the noise of a star, so that the few brightest stars, which the brighter-fatter
    effect changes, do not dominate the fit."""
    pixel_clip_sigma: float = Field(default=6.0, gt=0.0)
    """Clipping limit of pixels about the model; rejects faint neighbours and cosmic rays."""
    star_clip_sigma: float = Field(default=5.0, gt=0.0)
    """Clipping limit of a star's chi-square above that of the others; rejects galaxies and blends."""
    iterations: int = Field(default=3, ge=1)
    """Number of iterations of fluxes and centroids, clipping, and model."""
    deviation_priors: tuple[float, ...] = Field(default=(0.3, 1.0, 3.0), min_length=1)
    """Prior: expected relative deviations of the profile from a Moffat profile at the centre of the CCD from which
    cross-validation chooses. The core of seeing by Kolmogorov turbulence deviates more than a small prior allows."""
    variation_priors: tuple[float, ...] = (0.008, 0.025, 0.08)
    """Prior: relative changes of the profile from centre to edge of the CCD from which cross-validation chooses."""
    background_inner_fwhm: float = Field(default=7.0, gt=1.0)
    """Inner radius of the annulus in which a star's background is measured, in FWHM: outside the star's wings."""
    background_outer_fwhm: float = Field(default=14.0, gt=1.0)
    """Outer radius of that annulus; its 8,000 pixels give the background to half an electron."""
