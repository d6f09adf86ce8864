"""Settings of the photometric calibration."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from imaging.astrometry.settings import AstrometrySettings
from imaging.settings import Settings
from imaging.templates.settings import ResamplingInputSettings


class PhotometrySettings(Settings):
    """Selection of calibration stars, and the joint fit of the zero points of an exposure."""

    preference: tuple[str, ...] = (
        "des_y6",
        "des_dr2",
        "delve_dr3",
        "delve_dr2",
        "monster",
        "gaia_xp",
        "ps1_dr2",
        "refcat2",
        "skymapper_dr4",
        "skymapper_dr2",
        "gaia",
    )
    """Reference catalogues in the order in which a star's magnitude is searched: first those in the camera's system,
    then those close to it, then Gaia's broad bands by colour. Catalogues that a site lacks are skipped."""
    preference_by_band: dict[str, tuple[str, ...]] = Field(default={})
    """Order of the reference catalogues for single bands, instead of the general one."""
    match_radius_arcsec: float = Field(default=1.5, gt=0.0)
    """Search radius for pairs of detections and reference stars."""
    match_chi: float = Field(default=5.0, gt=0.0)
    """Largest separation of a pair in units of its error."""
    position_floor_mas: float = Field(default=40.0, gt=0.0)
    """Systematic error of a separation beyond the formal errors: turbulence and unknown proper motions."""
    minimum_snr: float = Field(default=25.0, gt=0.0)
    """Lowest signal to noise of a calibration star; fainter ones have a selection bias at the threshold."""
    spread_limit: float = Field(default=0.003, gt=0.0)
    """Largest absolute SPREAD_MODEL of a star (DES), or three times its error if that is larger."""
    reference_error_limit_mag: float = Field(default=0.1, gt=0.0)
    """Largest error of a reference magnitude."""
    clip_sigma: float = Field(default=3.5, gt=1.0)
    """Clipping limit: deviation of a star from the zero point in units of its error."""
    error_floor_mag: float = Field(default=0.0005, ge=0.0)
    """Systematic error of a CCD's zero point, independent of the number of stars: PSF normalisation and flat field."""
    common_error_mag: float = Field(default=0.0006, ge=0.0)
    """Systematic error common to all CCDs of an exposure, mostly from the colour transformation: a polynomial fits the
    stellar locus to a few millimagnitudes, which the stars of a field average down. Measured on simulated exposures,
    from pixels and from catalogues (``bench.calibration``); the scale of PSF fluxes contributes 0.3 mmag."""
    scale_error_mag: dict[str, float] = Field(
        default={"u": 0.03, "g": 0.02, "r": 0.033, "i": 0.024, "z": 0.028, "Y": 0.03, "VR": 0.033}
    )
    """Systematic error of the reference magnitude scale against AB, by band. All catalogues and the shipped colour
    terms are on the Pan-STARRS scale, for which Scolnic et al. (2015, ApJ 815, 117) find these offsets from AB in g, r,
    i and z; u, Y and VR are transformed to it. Reported separately from the zero point's error, because all exposures
    of a band share it."""
    minimum_stars: int = Field(default=4, ge=2)
    """Fewest stars for a CCD's own zero point (limit of the original pipeline)."""
    follow_clouds: bool = True
    """Correct fluxes for a transparency that varies within a CCD, where its stars show one."""
    cloud_scales_pixels: tuple[Annotated[float, Field(gt=0.0)], ...] = Field(
        default=(150.0, 300.0, 600.0, 1200.0, 2400.0), min_length=1
    )
    """Correlation lengths tried for the transparency within a CCD, pixels."""
    minimum_cloud_stars: int = Field(default=20, ge=5)
    """Fewest stars for a transparency that varies within a CCD."""
    maximum_error_mag: float = Field(default=0.3, gt=0.0)
    """Largest error of a CCD's own zero point (limit of the original pipeline)."""
    outlier_mag: float = Field(default=0.15, gt=0.0)
    """Deviation of a CCD's zero point from the exposure's that makes it an outlier (limit of the original pipeline)."""
    many_outliers_fraction: float = Field(default=0.2, gt=0.0, le=1.0)
    """Fraction of outliers, if two or more, above which the whole exposure is flagged MANY_OUTLIERS (limit of the
    original pipeline)."""
    minimum_ccds_for_outliers: int = Field(default=3, ge=3)
    """Fewest CCDs to identify outliers."""
    field_gain: float = Field(default=10.0, gt=0.0)
    """Lowest decrease of chi-square per term, with the scatter among CCDs in the errors, for which a smooth cloud
    extinction field over the focal plane is fitted."""
    maximum_field_degree: int = Field(default=2, ge=0, le=2)
    """Highest polynomial degree of the cloud extinction field."""

    def preferred(self, band: str) -> tuple[str, ...]:
        """Return the reference catalogues of a band, in order of preference."""
        return self.preference_by_band.get(band, self.preference)


class CalibrationSettings(Settings):
    """Settings of the photometric calibration stage."""

    OLD_NAMES: ClassVar[Mapping[str, str]] = {"groundwork": "resampling_inputs"}

    astrometry: AstrometrySettings = AstrometrySettings()
    """Epoch propagation and selection of reference stars."""
    photometry: PhotometrySettings = PhotometrySettings()
    """Zero points."""
    resampling_inputs: ResamplingInputSettings = ResamplingInputSettings()
    """Repair and mask growth of the final image, used by every later subtraction."""
