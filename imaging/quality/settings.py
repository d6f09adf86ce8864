"""Settings of verification and of the effective exposure."""

from pydantic import Field

from imaging.settings import Settings


class VerifySettings(Settings):
    """What a CCD's products must fulfil. Beyond a ``usable`` limit a CCD is usable, beyond a ``bad`` one bad."""

    corner_tolerance_arcsec: float = Field(default=10.0, gt=0)
    """Corners in the header may differ from the coordinates by this: 40 pixels, more than any convention of corners."""

    scale_tolerance: float = Field(default=0.02, gt=0)
    """The pixel scale may differ from the nominal one by this share; the distortion makes 0.6 %."""

    min_stars_usable: int = Field(default=50, ge=0)
    """Point sources that a good CCD has at least."""

    min_stars_bad: int = Field(default=10, ge=0)
    """With fewer point sources a CCD cannot be calibrated."""

    star_spread_model: float = Field(default=0.003, gt=0)
    """Largest modulus of spread_model of a point source."""

    star_min_snr: float = Field(default=10.0, gt=0)
    """Lowest flux over error of a point source that counts."""

    masked_usable: float = Field(default=0.15, gt=0, le=1)
    """Share of pixels without weight that a good CCD may have; some 3 % are usual."""

    masked_bad: float = Field(default=0.6, gt=0, le=1)
    """Share beyond which a CCD is useless; CCD 31 with one dead amplifier has a half."""

    noise_usable: float = Field(default=0.1, gt=0)
    """Departure from one of the measured over the predicted noise of a good CCD."""

    noise_bad: float = Field(default=0.3, gt=0)
    """Departure beyond which the weights are wrong."""

    noise_stride: int = Field(default=5, ge=1)
    """The noise is measured on every n-th row and column: enough for half a percent."""


class EffectiveExposureSettings(Settings):
    """What an exposure is worth."""

    minimum: dict[str, float] = Field(default={"u": 0.2, "g": 0.2, "r": 0.3, "i": 0.3, "z": 0.3, "Y": 0.2, "VR": 0.3})
    """Lowest effective-exposure factor of an accepted exposure, by band (DES)."""

    seeing_limit: float = Field(default=1.6, gt=0)
    """Largest seeing of an accepted exposure, in units of the band's reference."""


class VerificationSettings(Settings):
    """Settings of the verification stage."""

    verify: VerifySettings = VerifySettings()
    """What a CCD's products must fulfil."""
    effective_exposure: EffectiveExposureSettings = EffectiveExposureSettings()
    """What an exposure must be worth."""
