"""Settings of the astrometric calibration."""

from pydantic import Field

from imaging.settings import Settings


class AstrometrySettings(Settings):
    """Matching of detections to the reference catalogue, and the fit of the world coordinates."""

    reference_mag_limit: float = Field(default=21.0)
    """Faintest reference star used, Gaia G magnitude; fainter stars have no proper motions."""
    reference_mag_bright: float = Field(default=10.0)
    """Brightest reference star used, Gaia G magnitude; brighter stars are saturated in every exposure."""
    maximum_ruwe: float = Field(default=1.4, gt=0.0)
    """Largest RUWE of a reference star; larger values indicate binaries or blends (Lindegren et al. 2021)."""
    isolation_arcsec: float = Field(default=2.5, ge=0.0)
    """Reference stars with a neighbour closer than this are not used, because the image blends them, arcsec."""
    isolation_mag: float = Field(default=3.0, ge=0.0)
    """A neighbour fainter than the star by more than this does not count, magnitudes."""
    unknown_motion_mas_per_year: float = Field(default=6.0, ge=0.0)
    """Proper-motion error of reference stars without a measured proper motion: the dispersion of faint stars."""
    search_radius_arcsec: float = Field(default=80.0, gt=0.0)
    """Largest pointing error of the header: 60 arcsec, plus the effect of a scale error of 0.3 % at the field edge."""
    search_stars: int = Field(default=250, ge=10)
    """Number of brightest stars and of brightest detections used to search for the offset."""
    search_rotations_deg: tuple[float, ...] = (0.0, -0.15, 0.15, -0.3, 0.3)
    """Rotations tried, in this order, until a match is significant, degrees."""
    search_scales: tuple[float, ...] = (0.0, -0.003, 0.003)
    """Relative scale changes tried with each rotation."""
    chance_probability: float = Field(default=1e-4, gt=0.0, lt=1.0)
    """Largest accepted probability that the match arises by chance anywhere in the search."""
    match_radius_arcsec: float = Field(default=1.0, gt=0.0)
    """Radius of the final match, arcsec; residuals after the fit are below 0.1 arcsec."""
    minimum_stars: int = Field(default=4, ge=3)
    """Fewest matched stars of a solution: two fix shift and rotation, two more confirm them."""
    stars_for_linear: int = Field(default=5, ge=3)
    """Fewest stars to fit scale, rotation and shear of the CCD; with fewer only its shift is fitted."""
    stars_for_quadratic: int = Field(default=20, ge=6)
    """Fewest stars to fit second-order terms."""
    stars_for_cubic: int = Field(default=60, ge=10)
    """Fewest stars to fit third-order terms."""
    clip_sigma: float = Field(default=3.5, gt=1.0)
    """Clipping limit: residual in units of its expected error beyond which a star is rejected."""
    scatter_floor_mas: float = Field(default=3.0, gt=0.0)
    """Lower limit of the scatter per axis that is added to the formal errors."""
    rms_snr: float = Field(default=30.0, gt=0.0)
    """Lowest signal to noise of the stars used for the quoted rms residual."""
    maximum_rms_mas: float = Field(default=120.0, gt=0.0)
    """Largest rms residual per axis of a solution; larger values indicate a wrong match or a bad image."""
    ccd_offset_prior_arcsec: float = Field(default=0.5, gt=0.0)
    """Joint solution of an exposure: expected offset of a CCD from its nominal position in the camera."""
    ccd_linear_prior_arcsec: float = Field(default=0.1, gt=0.0)
    """Joint solution of an exposure: expected displacement at a CCD's corners by stretch or rotation."""
    ccd_curved_prior_arcsec: float = Field(default=0.03, gt=0.0)
    """Joint solution of an exposure: expected second- and third-order distortion at a CCD's corners."""
    colour_prior_mas: float = Field(default=30.0, gt=0.0)
    """Joint solution of an exposure: expected differential refraction per magnitude of BP - RP."""
    turbulence_reach_arcmin: float = Field(default=3.0, gt=0.0)
    """Joint solution of an exposure: stars up to this distance outside a CCD are used to interpolate its turbulence."""
