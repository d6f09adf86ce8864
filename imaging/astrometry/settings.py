"""Settings of the astrometric calibration."""

from pydantic import Field

from imaging.settings import Settings


class AstrometrySettings(Settings):
    """How stars are matched to the reference catalogue and coordinates are fitted."""

    reference_mag_limit: float = Field(default=21.0)
    """Faintest reference star, Gaia G; fainter ones have no proper motion."""
    reference_mag_bright: float = Field(default=10.0)
    """Brightest reference star: brighter ones are saturated in any exposure."""
    maximum_ruwe: float = Field(default=1.4, gt=0.0)
    """Reference stars whose own astrometry fits worse are binaries or blends (Lindegren et al. 2021)."""
    isolation_arcsec: float = Field(default=2.5, ge=0.0)
    """A reference star with another one closer than this is not used: the image blends them."""
    isolation_mag: float = Field(default=3.0, ge=0.0)
    """Unless the other one is fainter by this much."""
    unknown_motion_mas_per_year: float = Field(default=6.0, ge=0.0)
    """Proper-motion error of a reference star without a measured one: the dispersion of faint stars."""
    search_radius_arcsec: float = Field(default=80.0, gt=0.0)
    """Largest offset of the header's pointing: 60 arcsec, and what 0.3 % of scale adds at the edge of the field."""
    search_stars: int = Field(default=250, ge=10)
    """Brightest stars and detections that enter the search for the offset."""
    search_rotations_deg: tuple[float, ...] = (0.0, -0.15, 0.15, -0.3, 0.3)
    """Rotations that are tried, in this order, until a match is significant."""
    search_scales: tuple[float, ...] = (0.0, -0.003, 0.003)
    """Relative changes of scale that are tried with each rotation."""
    chance_probability: float = Field(default=1e-4, gt=0.0, lt=1.0)
    """Largest probability that a match of this size arises by chance anywhere in the search."""
    match_radius_arcsec: float = Field(default=1.0, gt=0.0)
    """Radius of the final match; the residuals after it are below 0.1 arcsec."""
    minimum_stars: int = Field(default=4, ge=3)
    """Fewer matched stars than this are no solution: a shift and a rotation need two, and two have to agree."""
    stars_for_linear: int = Field(default=5, ge=3)
    """Stars needed before scale, rotation and shear of the CCD are fitted and not only its shift."""
    stars_for_quadratic: int = Field(default=20, ge=6)
    """Stars needed before second-order terms are fitted."""
    stars_for_cubic: int = Field(default=60, ge=10)
    """Stars needed before third-order terms are fitted."""
    clip_sigma: float = Field(default=3.5, gt=1.0)
    """Residual in units of its expected error beyond which a star is left out."""
    scatter_floor_mas: float = Field(default=3.0, gt=0.0)
    """Error of a reference position in the image that no formal error knows of, at the least."""
    rms_snr: float = Field(default=30.0, gt=0.0)
    """Signal to noise of the stars whose residuals are quoted."""
    maximum_rms_mas: float = Field(default=120.0, gt=0.0)
    """A larger scatter per axis is a wrong match or a bad image, not a solution."""
    ccd_offset_prior_arcsec: float = Field(default=0.5, gt=0.0)
    """In the tie: expected offset of a CCD from its place in the camera."""
    ccd_linear_prior_arcsec: float = Field(default=0.1, gt=0.0)
    """In the tie: expected stretch or rotation of a CCD, at its corners."""
    ccd_curved_prior_arcsec: float = Field(default=0.03, gt=0.0)
    """In the tie: expected second- and third-order distortion of a CCD, at its corners."""
    colour_prior_mas: float = Field(default=30.0, gt=0.0)
    """In the tie: expected differential refraction per magnitude of BP - RP."""
    turbulence_reach_arcmin: float = Field(default=6.0, gt=0.0)
    """In the tie: stars this far outside a CCD still help to interpolate the turbulence on it."""
