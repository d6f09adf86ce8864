"""Effective exposure-time factor t_eff of an exposure relative to good conditions.

t_eff = F B C (Neilsen et al. 2015, FERMILAB-TM-2610): F from the seeing, B from the sky, C from the transparency.
Differences from the original pipeline: the sky is a rate in electrons, independent of the header's gain; the zero point
is compared with that expected at the airmass, so that extinction counts once; clouds count from the first hundredth of
a magnitude instead of from 0.2.
"""

import math
from dataclasses import dataclass
from typing import Literal

from imaging.bands import Band, band_named
from imaging.quality.settings import EffectiveExposureSettings

ExposureGrade = Literal["good", "seeing", "depth", "unknown"]


@dataclass(frozen=True, slots=True)
class EffectiveExposure:
    """The factors of the effective exposure; NaN if unknown.

    Attributes
    ----------
    seeing
        F: (reference FWHM over FWHM) squared.
    sky
        B: dark sky over sky.
    transparency
        C: transmission of the clouds, squared.
    zeropoint_loss_mag
        Expected minus measured zero point.
    """

    seeing: float
    sky: float
    transparency: float
    zeropoint_loss_mag: float

    @property
    def total(self) -> float:
        """Effective exposure-time factor; times the exposure time it gives the time needed in good conditions."""
        return self.seeing * self.sky * self.transparency


def expected_zeropoint_mag(band: Band, exptime_s: float, airmass: float) -> float:
    """Return the expected zero point: AB magnitude of one electron in the whole exposure, in a clear sky."""
    return band.zeropoint_rate_mag + 2.5 * math.log10(exptime_s) - band.extinction_mag * (airmass - 1.0)


def effective_exposure(
    band_name: str,
    *,
    exptime_s: float,
    airmass: float,
    fwhm_arcsec: float,
    sky_electrons: float,
    zeropoint_mag: float,
) -> EffectiveExposure:
    """Compute the effective-exposure factors of an exposure.

    Parameters
    ----------
    band_name
        Band.
    exptime_s
        Exposure time.
    airmass
        Airmass; NaN makes the transparency unknown.
    fwhm_arcsec
        Median seeing over the CCDs.
    sky_electrons
        Median sky of the exposure over the CCDs, electrons per pixel.
    zeropoint_mag
        AB magnitude of one electron in the exposure.

    Raises
    ------
    InputError
        If the band is unknown.
    """
    band = band_named(band_name)
    loss = expected_zeropoint_mag(band, exptime_s, airmass) - zeropoint_mag if exptime_s > 0 else math.nan
    return EffectiveExposure(
        seeing=(band.reference_fwhm_arcsec / fwhm_arcsec) ** 2 if fwhm_arcsec > 0 else math.nan,
        sky=band.sky_rate_electrons * exptime_s / sky_electrons if sky_electrons > 0 else math.nan,
        transparency=10 ** (-0.8 * loss),
        zeropoint_loss_mag=loss,
    )


def judge_exposure(
    band_name: str, fwhm_arcsec: float, effective: EffectiveExposure, settings: EffectiveExposureSettings
) -> ExposureGrade:
    """Return whether an exposure is good, bad for its seeing or depth, or unknown."""
    band = band_named(band_name)
    if math.isnan(effective.total) or math.isnan(fwhm_arcsec):
        return "unknown"
    if fwhm_arcsec > settings.seeing_limit * band.reference_fwhm_arcsec:
        return "seeing"
    return "good" if effective.total >= settings.minimum.get(band_name, 0.3) else "depth"
