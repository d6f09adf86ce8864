"""Settings of the photometric calibration."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from imaging.astrometry.settings import AstrometrySettings
from imaging.settings import Settings
from imaging.templates.settings import ResamplingInputSettings


class PhotometrySettings(Settings):
    """How stars are chosen for the zero point, and how the zero points of an exposure are tied together."""

    preference: tuple[str, ...] = (
        "des_dr2",
        "delve_dr2",
        "ps1_dr2",
        "refcat2",
        "skymapper_dr4",
        "skymapper_dr2",
        "gaia",
    )
    """Reference catalogues in the order in which a star's magnitude is looked for. Those in the camera's own system
    come first, then those that are close to it, then Gaia's broad bands by colour; one that a site lacks is passed
    over."""
    preference_by_band: dict[str, tuple[str, ...]] = Field(default={})
    """Another order for single bands."""
    match_radius_arcsec: float = Field(default=1.5, gt=0.0)
    """Pairs farther apart are not looked at."""
    match_chi: float = Field(default=5.0, gt=0.0)
    """Largest separation of a pair in units of its error."""
    position_floor_mas: float = Field(default=40.0, gt=0.0)
    """Error of a separation beyond the formal ones: turbulence and unknown proper motions."""
    minimum_snr: float = Field(default=25.0, gt=0.0)
    """Signal to noise of a calibrating star: fainter ones are biased towards the bright side of the threshold."""
    spread_limit: float = Field(default=0.003, gt=0.0)
    """Largest absolute SPREAD_MODEL of a star (DES); three errors are allowed if that is more."""
    reference_error_limit_mag: float = Field(default=0.1, gt=0.0)
    """Reference magnitudes with larger errors are not used."""
    clip_sigma: float = Field(default=3.5, gt=1.0)
    """Deviation of a star from the zero point, in its error, beyond which it is left out."""
    error_floor_mag: float = Field(default=0.0005, ge=0.0)
    """Systematic error of a CCD's zero point that more stars do not reduce: normalisation of PSF and flat field."""
    common_error_mag: float = Field(default=0.0006, ge=0.0)
    """Error that all CCDs of an exposure share, of the colour transformation mostly: a polynomial follows the stellar
    locus to a few millimagnitudes, and the stars of a field average that down. Measured on simulated exposures, from
    pixels and from catalogues (``bench.calibration``); the scale of PSF fluxes contributes 0.3 mmag."""
    scale_error_mag: dict[str, float] = Field(
        default={"u": 0.03, "g": 0.02, "r": 0.033, "i": 0.024, "z": 0.028, "Y": 0.03, "VR": 0.033}
    )
    """How far the scale of the reference magnitudes may be from AB, by band. All catalogues and the shipped colour
    terms are on the scale of Pan-STARRS, which Scolnic et al. (2015, ApJ 815, 117) find this far from AB in g, r, i
    and z; u, Y and VR are moved to it. Stated beside the zero point's own error, because exposures of a band share
    it."""
    minimum_stars: int = Field(default=4, ge=2)
    """Fewer stars than this make no zero point of a CCD's own (the original's limit)."""
    maximum_error_mag: float = Field(default=0.3, gt=0.0)
    """A zero point with a larger error is none (the original's limit)."""
    outlier_mag: float = Field(default=0.15, gt=0.0)
    """Deviation of a CCD from the exposure that makes it an outlier (the original's limit)."""
    many_outliers_fraction: float = Field(default=0.2, gt=0.0, le=1.0)
    """Share of outliers, if there are two or more, that casts doubt on the whole exposure (the original's limit)."""
    minimum_ccds_for_outliers: int = Field(default=3, ge=3)
    """With fewer CCDs nobody can say which one is the outlier."""
    field_gain: float = Field(default=10.0, gt=0.0)
    """Drop of chi-square per term, with the scatter among CCDs in the errors, that a smooth field of clouds over the
    focal plane must bring before it is used."""
    maximum_field_degree: int = Field(default=2, ge=0, le=2)
    """Highest degree of that field."""

    def preferred(self, band: str) -> tuple[str, ...]:
        """Return the catalogues that are asked in a band, in order."""
        return self.preference_by_band.get(band, self.preference)


class CalibrationSettings(Settings):
    """Settings of the calibration stage."""

    OLD_NAMES: ClassVar[Mapping[str, str]] = {"groundwork": "resampling_inputs"}

    astrometry: AstrometrySettings = AstrometrySettings()
    """How reference stars are moved to the epoch and chosen."""
    photometry: PhotometrySettings = PhotometrySettings()
    """Zero points."""
    resampling_inputs: ResamplingInputSettings = ResamplingInputSettings()
    """What every difference needs of the final image, as search image or as template."""
