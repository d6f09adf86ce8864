"""Settings of a simulated night."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from imaging.bands import band_named
from imaging.detector.ccds import SCIENCE_CCDS, format_ccd_list, science_ccd
from imaging.errors import InputError
from imaging.identity import check_night
from imaging.settings import Settings
from imaging.simulation.skies import NO_EFFECTS, SkyEffects, SkyName, named_sky


class SimulationSettings(Settings):
    """A night of search exposures, template epochs of the same field, and the simulated sky."""

    sky: SkyName = "easy"
    """Name of the sky: it sets the effects and the settings that are not given (``imaging/simulation/skies.py``)."""
    low_latitude: bool = False
    """Put patchy dust in front of the field, unless the effects are given; with ``crowded`` a field near the plane of
    the Galaxy."""
    effects: SkyEffects = NO_EFFECTS
    """The effects beyond the easy sky, each with its switch."""
    seed: int = Field(1, ge=0)
    """Seed of the sky, the weather and the noise."""
    camera_seed: int = Field(61, ge=0)
    """Seed of the camera's bias, flat, defects and small misalignments, independent of the seed of the night."""
    event: str = "MS240510a"
    """Name of the gravitational-wave event; MS marks a mock superevent."""
    night: int = 20240510
    """Night of the search exposures, YYYYMMDD; the default is dark (two days after new moon)."""
    ccds: tuple[int, ...] = SCIENCE_CCDS
    """Science CCDs to write."""
    focus_ccds: bool | None = None
    """Write the eight focus CCDs; None writes them if all 62 science CCDs are written."""
    bands: tuple[str, ...] = ("i",)
    """Bands; every visit takes one exposure in each."""
    n_search_exposures: int = Field(2, ge=0)
    """Number of search exposures per band."""
    n_template_epochs: int = Field(3, ge=0)
    """Number of earlier nights with exposures of the same field in every band."""
    exptime_s: float = Field(90.0, gt=0)
    """Exposure time of search and template exposures, seconds; the default is that of the DES wide survey."""
    first_expnum: int = Field(1300001, ge=1)
    """Exposure number of the first search exposure; seven digits, as in 2024."""
    search_interval_h: float = Field(2.5, ge=0)
    """Hours between the search visits; enough to recognise moving objects and a fast decline."""
    template_ages_days: tuple[float, float] = (40.0, 110.0)
    """Smallest and largest age of the templates, days before the search; the field is observable on those nights."""
    field_ra_deg: float | None = None
    """Right ascension of the pointing; None chooses a field at high galactic latitude that culminates at night."""
    field_dec_deg: float | None = None
    """Declination of the pointing; None as for field_ra_deg."""
    search_dither_arcsec: float = Field(30.0, ge=0)
    """Rms offset of the search pointings."""
    template_dither_arcsec: float = Field(60.0, ge=0)
    """Rms offset of the template pointings, larger because they come from other programmes."""
    rotation_deg: float = Field(0.05, ge=0)
    """Rms rotation of the camera relative to the header."""
    pointing_error_arcsec: float = Field(20.0, ge=0)
    """Largest error of the telescope coordinates in the header."""

    search_seeing_arcsec: tuple[float, float] = (0.9, 1.2)
    """Range of the delivered seeing in i at airmass 1, full width at half maximum; DECam's median is about 0.95."""
    template_seeing_arcsec: tuple[float, float] = (0.8, 1.0)
    """Range of the delivered seeing of the templates, which are selected for good seeing."""
    sky_brightness: float = Field(1.0, gt=0)
    """Sky brightness relative to a dark night."""
    cloud_mag: float = Field(0.01, ge=0)
    """Mean grey extinction by clouds, magnitudes; 0.01 is a photometric night."""
    cloud_patchiness: float = Field(0.3, ge=0)
    """Rms variation of the cloud extinction over the field in units of its mean."""
    turbulence_mas: float = Field(10.0, ge=0)
    """Rms displacement per axis by atmospheric turbulence in 90 s; DES measured 7 to 12 mas."""
    turbulence_arcmin: float = Field(6.0, gt=0)
    """Correlation length of the turbulence."""
    distortion_mas: float = Field(10.0, ge=0)
    """Rms of the camera's smooth distortion that the header's polynomials do not include."""
    ccd_offset_arcsec: float = Field(0.1, ge=0)
    """Rms offset of a CCD from the header's reference pixel."""

    distance_mpc: float = Field(165.0, gt=0)
    """Distance of the kilonova; at the default it has i = 20.5 half a day after the merger."""
    merger_age_h: float = Field(16.0, ge=0)
    """Hours from the merger to the first search exposure."""
    host_ccd: int | None = None
    """CCD of the kilonova; None takes the working CCD nearest to the camera's centre."""
    star_density: float = Field(1.0, ge=0)
    """Star density relative to a field at 45 degrees galactic latitude."""
    galaxy_density: float = Field(1.0, ge=0)
    """Galaxy density relative to the cosmic mean."""
    supernovae_per_ccd: float = Field(6.0, ge=0)
    """Number of supernovae of all phases, a third of them visible; far more than in nature, for better statistics."""
    active_nuclei_per_ccd: float = Field(2.0, ge=0)
    """Number of galaxies with a variable nucleus."""
    variable_stars_per_ccd: float = Field(5.0, ge=0)
    """Number of RR Lyrae stars, eclipsing binaries and flare stars together."""
    asteroids_per_ccd: float = Field(2.0, ge=0)
    """Number of asteroids brighter than 23.5 mag; the default is typical at 15 degrees from the ecliptic."""
    extra_star_mag: float | None = None
    """Gaia G of one very bright star in one quarter of the kilonova's CCD; None for none."""

    cosmic_rays_per_minute: float = Field(55.0, ge=0)
    """Cosmic-ray tracks per science CCD and minute; the default gives about 80 in 90 s."""
    streaks_per_exposure: float = Field(1.0, ge=0)
    """Mean number of satellite streaks through the field."""
    brighter_fatter: bool = False
    """Simulate the brighter-fatter effect: collected charge repels further charge."""
    n_bias_exposures: int = Field(0, ge=0)
    """Number of raw bias exposures to write for the night."""
    n_flat_exposures: int = Field(0, ge=0)
    """Number of raw dome-flat exposures per band to write for the night."""
    ramp_exptimes_s: tuple[float, ...] = ()
    """Exposure times of a ramp of raw dome flats in every band, in order; the lamp is ten times dimmer in every band
    after the first, drifts, and the shutter is open longer than the header says."""

    @model_validator(mode="before")
    @classmethod
    def _of_the_named_sky(cls, values: Any) -> Any:  # noqa: ANN401
        """Fill in what the named sky sets and the caller does not; an unknown name is refused by its field."""
        if isinstance(values, dict):
            low = values.get("low_latitude") is True
            return {**named_sky(values.get("sky", "easy"), low_latitude=low), **values}
        return values

    def with_values(self, **changes: Any) -> Self:  # noqa: ANN401
        """Return a copy with some values changed; another sky replaces what the present one has set."""
        kept = self.model_dump()
        if (changes.get("sky", self.sky), changes.get("low_latitude", self.low_latitude)) != (
            self.sky,
            self.low_latitude,
        ):
            set_by_sky = {
                name
                for name, value in named_sky(self.sky, low_latitude=self.low_latitude).items()
                if getattr(self, name) == value
            }
            unset = set(kept) - self.model_fields_set
            kept = {name: value for name, value in kept.items() if name not in set_by_sky | unset}
        return type(self).model_validate(kept | changes)

    @field_validator("bands")
    @classmethod
    def _known_bands(cls, bands: tuple[str, ...]) -> tuple[str, ...]:
        for band in bands:
            band_named(band)
        return bands

    @field_validator("ccds")
    @classmethod
    def _science_ccds(cls, ccds: tuple[int, ...]) -> tuple[int, ...]:
        for ccd in ccds:
            science_ccd(ccd)
        if not ccds:
            raise InputError("no CCD to simulate", value="()", limit="at least one")
        return tuple(sorted(set(ccds)))

    @model_validator(mode="after")
    def _host_is_simulated(self) -> Self:
        if self.host_ccd is not None and self.host_ccd not in self.ccds:
            raise InputError(
                "the kilonova's CCD is not simulated", value=self.host_ccd, limit=format_ccd_list(self.ccds)
            )
        return self

    @field_validator("night")
    @classmethod
    def _is_night(cls, night: int) -> int:
        check_night(night)
        return night

    @property
    def writes_focus_ccds(self) -> bool:
        """Whether the focus CCDs are written."""
        return self.ccds == SCIENCE_CCDS if self.focus_ccds is None else self.focus_ccds


DEMO_CCDS = (26, 27, 33, 34)
"""Two by two neighbouring CCDs, linked by crosstalk, near the camera's centre and free of defects."""


def demo_settings(**changes: object) -> SimulationSettings:
    """Return the settings of the demonstration night: 4 CCDs, one band, 2 search exposures and 3 template epochs.

    Parameters
    ----------
    changes
        Settings that override the defaults.
    """
    return SimulationSettings.model_validate({"ccds": DEMO_CCDS} | changes)
