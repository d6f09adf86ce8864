"""Settings of the verification of CCD products and of the effective-exposure limits."""

from pydantic import Field

from imaging.settings import Settings


class VerifySettings(Settings):
    """Requirements on a CCD's products. Beyond a ``usable`` limit a CCD is usable, beyond a ``bad`` limit bad."""

    corner_tolerance_arcsec: float = Field(default=10.0, gt=0)
    """Largest difference between the corners in the header and those from the WCS: 40 pixels, more than any difference
    of conventions."""

    scale_tolerance: float = Field(default=0.02, gt=0)
    """Largest relative deviation of the pixel scale from nominal; distortion causes 0.6 %."""

    min_stars_usable: int = Field(default=50, ge=0)
    """Fewest point sources of a good CCD."""

    min_stars_bad: int = Field(default=10, ge=0)
    """Fewest point sources of a usable CCD; with fewer it cannot be calibrated."""

    star_spread_model: float = Field(default=0.003, gt=0)
    """Largest absolute spread_model of a point source."""

    star_min_snr: float = Field(default=10.0, gt=0)
    """Lowest signal to noise of a point source that counts."""

    masked_usable: float = Field(default=0.15, gt=0, le=1)
    """Largest fraction of pixels without weight of a good CCD; some 3 % are usual."""

    masked_bad: float = Field(default=0.6, gt=0, le=1)
    """Fraction of pixels without weight above which a CCD is bad; CCD 31 with one dead amplifier has a half."""

    noise_usable: float = Field(default=0.1, gt=0)
    """Largest deviation from one of the measured over the predicted noise of blank sky in a good CCD."""

    noise_bad: float = Field(default=0.3, gt=0)
    """Deviation of the noise ratio from one above which the weights are wrong."""


class EffectiveExposureSettings(Settings):
    """Limits on the effective exposure and seeing of accepted exposures."""

    minimum: dict[str, float] = Field(default={"u": 0.2, "g": 0.2, "r": 0.3, "i": 0.3, "z": 0.3, "Y": 0.2, "VR": 0.3})
    """Lowest effective-exposure factor of an accepted exposure, by band (DES)."""

    seeing_limit: float = Field(default=1.6, gt=0)
    """Largest seeing of an accepted exposure, in units of the band's reference."""


class VerificationSettings(Settings):
    """Settings of the verification stage."""

    verify: VerifySettings = VerifySettings()
    """Requirements on a CCD's products."""
    effective_exposure: EffectiveExposureSettings = EffectiveExposureSettings()
    """Limits on accepted exposures."""
