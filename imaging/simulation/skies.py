"""The named skies, and the switches of all effects that make a sky hard.

``easy`` has none of them: it is the sky of the first version and stays byte for byte what it was. Every effect has one
switch here and one function that draws it; the module of that function names the physical source.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from imaging.settings import Settings

SkyName = Literal["easy", "typical", "hard", "crowded", "bright"]


class SkyEffects(Settings):
    """Switches of the effects beyond the easy sky; all are off by default."""

    kolmogorov: bool = False
    """Atmosphere with the wings of Kolmogorov turbulence instead of a Moffat profile."""
    aberrations_arcsec: float = Field(0.0, ge=0)
    """Rms ray displacement at the edge of the pupil of each low-order aberration over the focal plane."""
    focus_steps_arcsec: float = Field(0.0, ge=0)
    """Rms defocus of the CCDs, by their height differences; the same in every exposure."""
    vanes: bool = False
    """Diffraction spikes of the vanes that hold the prime-focus cage."""
    wide_aureole: bool = False
    """Aureole that falls with the square of the radius out to several arcminutes."""
    passband_steps_mmag: float = Field(0.0, ge=0)
    """Rms change of a CCD's zero point per magnitude of g - i: the passbands differ, by some millimagnitudes for DECam
    (Li et al. 2016, AJ 151, 157). No named sky has it: star flats of five CCDs and several exposures are needed to tell
    the CCDs' slopes from the colour term of the band, and nights of two CCDs would show it as a colour trend."""
    chromatic: bool = False
    """Width, position and elongation of a source depend on its colour and on the airmass, in every band."""
    guiding_jumps: float = Field(0.0, ge=0, le=1)
    """Share of the exposures during which the telescope jumped, so that every source is double."""
    bad_focus: float = Field(0.0, ge=0, le=1)
    """Share of the exposures that are clearly out of focus."""
    ghosts: bool = False
    """Reflections of bright stars: donuts displaced along the radius, and the halo."""
    bright_stars: tuple[float, ...] = ()
    """Gaia G of additional bright stars at random places on the CCDs."""
    moonlight: float = Field(0.0, ge=0)
    """Scattered moonlight at the field's centre in units of the dark sky; it decreases away from the Moon."""
    twilight: float = Field(0.0, ge=0, le=1)
    """Share of the exposures in the first or last light, with a steep gradient away from the Sun."""
    nebulosity_mag: float | None = None
    """Mean surface brightness of cirrus in i, magnitudes per square arcsecond; None for none."""
    extinction_mag: float = Field(0.0, ge=0)
    """Mean extinction in V by patchy dust in front of stars and galaxies; transients are drawn as they are seen."""
    fringe_change: float = Field(0.0, ge=0)
    """Rms amplitude of a second fringe pattern relative to the first, by changing ratios of the airglow lines."""
    cloud_structure: float = Field(0.0, ge=0)
    """Rms of the cloud extinction on scales of 3 to 30 arcmin, in units of its mean."""
    glints_per_exposure: float = Field(0.0, ge=0)
    """Mean number of glints of tumbling satellites in the field, 1 to 5 arcsec long."""
    wide_trails: float = Field(0.0, ge=0, le=1)
    """Share of the trails that are out of focus and wide: low satellites."""
    tumbling: float = Field(0.0, ge=0, le=1)
    """Share of the satellites that tumble, so that their trails break into pieces."""
    aircraft_per_exposure: float = Field(0.0, ge=0)
    """Mean number of aircraft: two wide trails each, the lights of the wings, that flash."""
    tree_rings: bool = False
    """Displacement of sources by the rings of the silicon's impurities."""
    edge_fields: bool = False
    """Displacement of sources by the fields at the long edges of the CCDs."""
    light_repels: bool = False
    """The brighter-fatter effect acts on light only; cosmic rays arrive in an instant and keep their shape."""
    galaxy_structure: bool = False
    """Bulges rounder than their discs, and knots of star formation along spiral arms."""
    dust_lanes: bool = False
    """Dust along the inner edges of the spiral arms of resolved galaxies; the fluxes of the truth are without it."""
    large_galaxies_per_ccd: float = Field(0.0, ge=0)
    """Mean number of nearby galaxies of 0.5 to 3 arcmin."""
    hosts_by_profile: bool = False
    """Supernovae follow the light of their hosts, cores included."""
    small_variables: float = Field(0.0, ge=0, le=1)
    """Share of the stars brighter than G = 21 that vary by 0.01 to 0.3 mag."""
    deferred_charge: float = Field(0.0, ge=0, lt=1e-4)
    """Share of the charge that is left behind at each transfer of a row."""
    afterglows_per_ccd: float = Field(0.0, ge=0)
    """Mean number of places that glow because a star saturated there in a preceding exposure of another field."""
    switching_columns_per_ccd: float = Field(0.0, ge=0)
    """Mean number of columns that no map of bad pixels has, since they are hot in half of the exposures only."""
    bump_glow: float = Field(0.0, ge=0, lt=0.5)
    """Rms glow of the tape bumps in the middle, as a share of the sky; other in every exposure."""
    low_light_loss: float = Field(0.0, ge=0, lt=0.1)
    """Share of a faint signal that is lost beyond what the linearity table says."""
    movers_of_all_rates: bool = False
    """Moving objects from those beyond Neptune, 1 arcsec per hour, to near-Earth objects, 2000 arcsec per hour."""


NO_EFFECTS = SkyEffects()

_TYPICAL = SkyEffects(
    kolmogorov=True,
    aberrations_arcsec=0.12,
    focus_steps_arcsec=0.06,
    vanes=True,
    wide_aureole=True,
    chromatic=True,
    ghosts=True,
    moonlight=0.1,
    fringe_change=0.15,
    cloud_structure=0.2,
    glints_per_exposure=2.0,
    wide_trails=0.1,
    tree_rings=True,
    edge_fields=True,
    light_repels=True,
    galaxy_structure=True,
    large_galaxies_per_ccd=0.1,
    hosts_by_profile=True,
    small_variables=0.01,
    movers_of_all_rates=True,
)

_HARD = _TYPICAL.with_values(
    aberrations_arcsec=0.2,
    focus_steps_arcsec=0.12,
    guiding_jumps=0.25,
    bad_focus=0.15,
    bright_stars=(10.0, 9.0),
    moonlight=1.0,
    fringe_change=0.4,
    cloud_structure=0.6,
    glints_per_exposure=20.0,
    wide_trails=0.3,
    tumbling=0.2,
    aircraft_per_exposure=0.1,
    twilight=0.15,
    nebulosity_mag=25.5,
    dust_lanes=True,
    deferred_charge=5e-7,
    afterglows_per_ccd=1.0,
    switching_columns_per_ccd=2.0,
    low_light_loss=0.002,
    bump_glow=0.03,
    large_galaxies_per_ccd=0.5,
    small_variables=0.03,
)

SKIES: Mapping[SkyName, Mapping[str, Any]] = {
    "easy": {},
    "typical": {"effects": _TYPICAL, "brighter_fatter": True, "streaks_per_exposure": 3.0},
    "hard": {
        "effects": _HARD,
        "brighter_fatter": True,
        "streaks_per_exposure": 8.0,
        "search_seeing_arcsec": (0.8, 2.5),
        "template_seeing_arcsec": (0.75, 1.4),
        "cloud_mag": 0.15,
        "turbulence_mas": 14.0,
    },
    "crowded": {
        "effects": _TYPICAL.with_values(large_galaxies_per_ccd=0.0),
        "brighter_fatter": True,
        "streaks_per_exposure": 3.0,
        "star_density": 44.0,
    },
    "bright": {
        "effects": _TYPICAL.with_values(bright_stars=(4.0, 5.5, 7.0, 8.0), moonlight=2.0),
        "brighter_fatter": True,
        "streaks_per_exposure": 3.0,
    },
}
"""Settings that a named sky changes. ``crowded`` has 50,000 stars per CCD down to the detection limit, and
fewer bright ones than that ratio (``stars.py``)."""

LOW_LATITUDE_MAG = 1.5
"""Mean extinction in V of a field some degrees from the plane of the Galaxy."""


def named_sky(name: str, *, low_latitude: bool = False) -> dict[str, Any]:
    """Return the settings that a named sky changes, with dust in front of it at low latitude; none of unknown ones."""
    named = dict({str(sky): values for sky, values in SKIES.items()}.get(name, {}))
    if low_latitude:
        named["effects"] = named.get("effects", NO_EFFECTS).with_values(extinction_mag=LOW_LATITUDE_MAG)
    return named
