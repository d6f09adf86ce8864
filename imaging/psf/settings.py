"""Settings of the PSF model."""

from pydantic import Field

from imaging.settings import Settings


class PsfSettings(Settings):
    """How PSF stars are chosen and the model is fitted."""

    minimum_snr: float = Field(default=40.0, gt=0.0)
    """Signal to noise of a PSF star: fainter ones cost time and add nothing to the sum of the squared signals."""
    maximum_stars: int = Field(default=250, ge=10)
    """The brightest ones are taken."""
    minimum_stars: int = Field(default=5, ge=1)
    """Fewer stars than this make no model, not even a constant one."""
    enough_stars: int = Field(default=40, ge=5)
    """With fewer stars than this, stars with more of their surroundings lost to neighbours are admitted."""
    neighbour_limits: tuple[float, ...] = (0.02, 0.1, 0.3)
    """Shares of a star's surroundings that neighbours may occupy, tried in this order."""
    size_range_pixels: tuple[float, float] = (2.0, 15.0)
    """Full widths at half maximum that a stellar image can have: 0.5 to 4 arcsec."""
    locus_half_width: float = Field(default=0.12, gt=0.0)
    """First cut about the size of the stars, relative: wider than the variation of the seeing over a CCD."""
    locus_sigma: float = Field(default=3.5, gt=0.0)
    """Clipping of size and concentration about their smooth variation over the CCD."""
    maximum_ellipticity: float = Field(default=0.6, gt=0.0, le=1.0)
    """1 - b/a; high enough for trailed exposures, low enough to refuse streaks."""
    maximum_degree: int = Field(default=3, ge=0, le=4)
    """Highest degree of the polynomial in position that cross-validation may choose."""
    stars_per_term: int = Field(default=6, ge=1)
    """Stars needed for each term of that polynomial."""
    fit_radius_fwhm: float = Field(default=4.0, gt=1.0)
    """Radius of the fit in FWHM. The reference aperture always lies inside."""
    maximum_radius_pixels: float = Field(default=25.0, gt=11.2)
    """Radius of the model; beyond the fit it follows the power law of the wings."""
    error_floor: float = Field(default=0.01, ge=0.0)
    """Error of the model, as a share of the local value, that is added to the noise of a star: it keeps the few
    brightest stars, whose images brighter-fatter has changed, from fixing the model alone."""
    pixel_clip_sigma: float = Field(default=6.0, gt=0.0)
    """Pixels farther than this from the model are left out: faint neighbours and cosmic rays."""
    star_clip_sigma: float = Field(default=5.0, gt=0.0)
    """Stars whose chi-square is this far above that of the others are left out: galaxies and blends."""
    iterations: int = Field(default=3, ge=1)
    """Rounds of fluxes and centroids, clipping, and the model."""
    constant_prior: float = Field(default=0.3, gt=0.0)
    """Expected deviation of the profile from a Moffat one, relative, at the centre of the CCD."""
    variation_priors: tuple[float, ...] = (0.008, 0.025, 0.08)
    """Relative changes of the profile from the centre to the edge of the CCD among which cross-validation chooses."""
    background_inner_fwhm: float = Field(default=7.0, gt=1.0)
    """Inner radius of the ring in which a star's background is measured, in FWHM: outside of the star's own wings."""
    background_outer_fwhm: float = Field(default=14.0, gt=1.0)
    """Outer radius of that ring; its 8,000 pixels tell the background to half an electron."""
