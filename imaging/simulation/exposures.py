"""True parameters of a simulated exposure: pointing, PSF, clouds, turbulence, sky, satellites."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from imaging.bands import BANDS
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.exposure import Exposure

FloatArray = NDArray[np.float64]

Role = Literal["search", "template", "zero", "dome flat"]
Quadratic = tuple[float, float, float, float, float, float]
"""Coefficients of 1, u, v, u^2, uv, v^2 with u, v from -1 to 1 over the focal plane."""

FOCAL_PLANE_RADIUS_PIXELS = 14336.0
"""Length of u = 1."""


class TruthRecord(BaseModel):
    """Base class of true parameters, frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class PsfTruth(TruthRecord):
    """Variation of the point-spread function over the focal plane."""

    fwhm_arcsec: float
    """Full width at half maximum at the centre."""
    size: Quadratic = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    """Relative change of the width."""
    e1: Quadratic = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    """Ellipticity along x, (a^2 - b^2) / (a^2 + b^2)."""
    e2: Quadratic = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    """Ellipticity along the diagonal."""
    coma: tuple[float, float] = (0.0, 0.0)
    """Displacement of the widest relative to the narrowest components at u = v = 1, in units of the width."""
    ccd_scatter: float = 0.0
    """Rms of the additional terms of size and ellipticity of each CCD."""


class OpticsTruth(TruthRecord):
    """What the physical point-spread function adds to seeing and ellipticity (``optical_psf.py``)."""

    moffat: bool = False
    """Profile of the seeing: Moffat instead of Kolmogorov."""
    aberrations: tuple[Quadratic, ...] = ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0),) * 8
    """Ray displacement at the edge of the pupil, arcseconds: defocus, astigmatism, coma, trefoil, their second
    directions (not of defocus), spherical."""
    focus_step_arcsec: float = 0.0
    """Rms defocus of the CCDs."""
    camera_seed: int = 0
    """Seed of the heights of the CCDs."""
    vane_angle_deg: float | None = None
    """Direction of the first spike from the x axis of the CCDs towards y; None without spikes."""
    wide_aureole: bool = False
    chromatic: bool = False
    jump_share: float = 0.0
    """Share of the exposure after a jump of the telescope."""
    jump_pixels: tuple[float, float] = (0.0, 0.0)


class Wave(TruthRecord):
    """One plane wave of a smooth field over the sky."""

    amplitude: float
    kx: float
    """Radians per degree to the east."""
    ky: float
    """Radians per degree to the north."""
    phase: float

    def at(self, xi: FloatArray, eta: FloatArray) -> FloatArray:
        """Evaluate at positions of the tangent plane, degrees."""
        return self.amplitude * np.cos(self.kx * xi + self.ky * eta + self.phase)


class CloudTruth(TruthRecord):
    """Grey extinction over the field."""

    mean_mag: float = 0.0
    waves: tuple[Wave, ...] = ()

    def extinction_mag(self, xi: FloatArray, eta: FloatArray) -> FloatArray:
        """Return the extinction at positions of the tangent plane (degrees), never negative."""
        total = self.mean_mag + sum((wave.at(xi, eta) for wave in self.waves), start=np.zeros(np.shape(xi)))
        return np.maximum(total, 0.0)


class TurbulenceTruth(TruthRecord):
    """The displacement field of the atmosphere."""

    seed: tuple[int, int] = (0, 0)
    rms_mas: float = 0.0
    correlation_arcmin: float = 6.0
    wind_deg: float = 0.0


class StreakTruth(TruthRecord):
    """A satellite's trail on the tangent plane of the exposure."""

    xi_deg: float
    """A point of the line, to the east of the field's centre."""
    eta_deg: float
    """A point of the line, to the north."""
    angle_deg: float
    """Direction of the line, from east to north."""
    peak_electrons: float
    """Brightness at the ridge, electrons per pixel."""
    sigma_pixels: float
    """Gaussian width across; satellites are out of focus."""
    tumbling_amplitude: float = 0.0
    """Relative change of the brightness along the trail."""
    tumbling_period_deg: float = 1.0


class GlintTruth(TruthRecord):
    """A flash of a tumbling satellite, short against the exposure."""

    xi_deg: float
    """Middle, to the east of the field's centre on the tangent plane."""
    eta_deg: float
    """Middle, to the north."""
    angle_deg: float
    """Direction, from east to north."""
    length_arcsec: float
    electrons: float
    """Light in a clear sky."""


class MoonTruth(TruthRecord):
    """Scattered moonlight over the field."""

    electrons: float
    """Level at the field's centre, electrons per pixel."""
    separation_deg: float
    """Distance of the Moon from the field's centre."""
    direction_deg: float
    """Position angle of the Moon, from north to east."""


class TwilightTruth(TruthRecord):
    """The light of the Sun below the horizon."""

    electrons: float
    """Level at the field's centre, electrons per pixel."""
    per_radius: float
    """Growth of its logarithm over the radius of the focal plane."""
    direction_deg: float
    """Position angle of the Sun, from north to east."""


class SimulatedExposure(TruthRecord):
    """A simulated exposure with all true parameters."""

    seed: int = 0
    """Seed of the simulation."""
    expnum: int
    role: Role
    band: str
    night: int
    mjd: float
    """Start of the exposure, MJD UTC."""
    exptime_s: float
    object_name: str = ""
    ra_deg: float
    """Pointing in the header."""
    dec_deg: float
    true_ra_deg: float
    """True pointing of the optical axis."""
    true_dec_deg: float
    rotation_deg: float = 0.0
    """Rotation of the camera, from north to east."""
    scale: float = 1.0
    """Ratio of true to nominal pixel scale."""
    shear: tuple[float, float] = (0.0, 0.0)
    """Compression of the field by refraction, along and across the diagonals of east and north."""
    hour_angle_deg: float = 0.0
    zenith_distance_deg: float = 0.0
    azimuth_deg: float = 0.0
    parallactic_deg: float = 0.0
    airmass: float = 1.0
    zeropoint_mag: float
    """AB magnitude of a source of one electron in total, clear sky, at this airmass, for unit response."""
    sky_electrons: float
    """Sky level for unit response, electrons per pixel."""
    sky_modes: tuple[float, ...] = ()
    """Amplitudes of the sky's modes relative to the level."""
    psf: PsfTruth = PsfTruth(fwhm_arcsec=1.0)
    optics: OpticsTruth | None = None
    """Telescope and atmosphere; None for the simple point-spread function."""
    clouds: CloudTruth = CloudTruth()
    turbulence: TurbulenceTruth = TurbulenceTruth()
    streaks: tuple[StreakTruth, ...] = ()
    glints: tuple[GlintTruth, ...] = ()
    moon: MoonTruth | None = None
    twilight: TwilightTruth | None = None
    second_fringes: float = 0.0
    """Amplitude of the fringes of other airglow lines relative to the sky level."""
    cosmic_rays_per_ccd: float = 0.0
    t_eff: float = 0.0
    """Effective exposure-time factor; zero if it is not a sky exposure."""

    @property
    def mjd_mid(self) -> float:
        """Middle of the exposure."""
        return self.mjd + self.exptime_s / 2 / 86400.0

    @property
    def is_on_sky(self) -> bool:
        """Whether it is a sky exposure."""
        return self.role in ("search", "template")

    @property
    def fwhm_pixels(self) -> float:
        """Seeing in pixels."""
        return self.psf.fwhm_arcsec / PIXEL_SCALE_ARCSEC

    @property
    def obstype(self) -> str:
        """Kind of exposure in the header (OBSTYPE)."""
        return "object" if self.is_on_sky else self.role

    def listed(self) -> Exposure:
        """Return the exposure record of the processing."""
        return Exposure(
            expnum=self.expnum,
            band=self.band,
            night=self.night,
            mjd=self.mjd,
            exptime_s=self.exptime_s,
            ra_deg=self.ra_deg,
            dec_deg=self.dec_deg,
            airmass=self.airmass,
            obstype=self.obstype,
            object_name=self.object_name,
            propid=PROPID,
        )


PROPID = "2024A-999999"
"""Fictitious proposal number."""

_GOOD_SKY_ADU_PER_S = {"u": 0.2, "g": 1.05, "r": 2.66, "i": 7.87, "z": 16.51, "Y": 14.56, "VR": 3.71}


def effective_time_factor(band: str, fwhm_arcsec: float, sky_electrons_per_s: float, transparency: float) -> float:
    """Return the effective exposure-time factor t_eff (Neilsen et al. 2016).

    Parameters
    ----------
    band
        Band.
    fwhm_arcsec
        Delivered seeing.
    sky_electrons_per_s
        Sky brightness, electrons per second and pixel.
    transparency
        Fraction of the light transmitted by clouds.
    """
    seeing = (BANDS[band].reference_fwhm_arcsec / fwhm_arcsec) ** 2
    return float(seeing * _GOOD_SKY_ADU_PER_S[band] / (sky_electrons_per_s / 4.0) * transparency**2)


def quadratic(coefficients: Quadratic, u: FloatArray, v: FloatArray) -> FloatArray:
    """Evaluate a quadratic over the focal plane."""
    c = coefficients
    return c[0] + c[1] * u + c[2] * v + c[3] * u * u + c[4] * u * v + c[5] * v * v
