"""Settings of association, cross-match, light curves and rank."""

from typing import Any

from pydantic import Field, model_validator

from imaging.schemas.difference import DetectionFlag
from imaging.settings import Settings
from imaging.skymap.settings import CoverageSettings


class AssociateSettings(Settings):
    """How detections of one night become candidates; their threshold is that of the search."""

    rejected_flags: int = int(
        DetectionFlag.NEGATIVE
        | DetectionFlag.DIPOLE
        | DetectionFlag.COSMIC_RAY
        | DetectionFlag.NOT_PSF
        | DetectionFlag.MASKED
        | DetectionFlag.NEGATIVE_PIXELS
        | DetectionFlag.STREAK
        | DetectionFlag.EDGE
    )
    """Detection flags that keep a detection from making a candidate. NEAR_STAR is not among them: it becomes a flag."""

    min_real_score: float = Field(default=0.1, ge=0, le=1)
    """Lowest real/bogus score that counts. Low, because the score is a part of the rank."""

    error_floor_arcsec: float = Field(default=0.05, gt=0)
    """Floor on the position error per axis, arcseconds: differential refraction and turbulence that the fit left."""

    max_separation_arcsec: float = Field(default=1.5, gt=0)
    """Two detections farther apart are never the same standing source, whatever their errors."""

    chi2_limit: float = Field(default=18.4, gt=0)
    """Largest chi-square of a separation (two axes): a true pair exceeds it once in 10,000."""

    min_rate_arcsec_per_hour: float = Field(default=1.0, gt=0)
    """Slowest motion that makes a mover; distant Kuiper-belt objects near opposition move at about one."""

    max_rate_arcsec_per_hour: float = Field(default=150.0, gt=0)
    """Fastest motion that is linked; faster objects leave trails."""

    brief_minutes: float = Field(default=20.0, ge=0)
    """A source whose detections span less than this may be a piece of a slow mover's track."""

    max_link_hours: float = Field(default=3.0, gt=0)
    """Longest time between the two detections from which a track is started, hours."""

    link_partners: int = Field(default=5, ge=2)
    """A track is started from pairs of an exposure and this many later ones of the same sky."""

    link_crowding: float = Field(default=10.0, gt=0)
    """Where more unrelated detections than this, on average, lie within reach, the reach is shortened."""

    path_floor_arcsec: float = Field(default=0.3, gt=0)
    """Departure of a track from uniform motion within a night, arcseconds: parallax of the turning Earth."""

    pair_chance_limit: float = Field(default=0.01, gt=0)
    """A mover seen only twice is believed if fewer unrelated detections than this are expected within its step."""

    pair_mag_limit: float = Field(default=0.7, gt=0)
    """A mover seen only twice must keep its magnitude within this, plus three sigma, in the same band."""

    @model_validator(mode="before")
    @classmethod
    def _accept_version_0_1(cls, values: Any) -> Any:  # noqa: ANN401
        """Read settings of version 0.1, which had a second threshold."""
        if isinstance(values, dict) and "min_snr" in values:
            if values["min_snr"] != 5.0:
                raise ValueError("min_snr is gone; set the threshold of the search: detection.threshold_sigma")
            return {name: value for name, value in values.items() if name != "min_snr"}
        return values


class CrossmatchSettings(Settings):
    """How candidates are compared with stars and galaxies."""

    star_radius_arcsec: float = Field(default=2.0, gt=0)
    """The nearest reference star within this is reported."""

    same_place_arcsec: float = Field(default=0.6, gt=0)
    """A star or point source within this, plus three position errors, is the candidate's own counterpart."""

    motion_significance: float = Field(default=5.0, gt=0)
    """Parallax or proper motion over its error that makes a reference source a star rather than a nucleus."""

    halo_radius_arcsec: float = Field(default=30.0, ge=0)
    """Radius of a bright star's halo at magnitude 15."""

    halo_slope_arcsec_per_mag: float = Field(default=2.0, ge=0)
    """How the radius shrinks per magnitude, as in the DES veto list; zero at magnitude 30."""

    halo_limit_mag: float = Field(default=16.0)
    """Fainter stars have no halo worth a flag."""

    host_max_dlr: float = Field(default=5.0, gt=0)
    """A galaxy whose directional light radius fits more often than this into the separation is not the host."""

    host_max_separation_arcsec: float = Field(default=120.0, gt=0)
    """Galaxies are looked for within this: 25 kpc at 40 Mpc."""

    host_min_radius_arcsec: float = Field(default=0.4, gt=0)
    """Floor of a galaxy's axes: half the seeing, rms."""

    default_host_radius_kpc: float = Field(default=2.5, gt=0)
    """Axis, rms, of a catalogued galaxy whose shape was not measured."""

    galaxy_spread_model: float = Field(default=0.004)
    """Sources of the template with a larger spread_model are galaxies."""

    nuclear_arcsec: float = Field(default=0.4, gt=0)
    """Within this of the host's centre, plus two position errors, a candidate is nuclear."""

    catalogue_match_arcsec: float = Field(default=3.0, gt=0)
    """A galaxy with a distance and one with a shape are the same within this, or within the larger one's axis."""


class LightcurveSettings(Settings):
    """What a kilonova's light curve may look like, and its rivals'."""

    max_days: float = Field(default=21.0, gt=0)
    """Photometry later than this after the merger says nothing."""

    flux_error_fraction: float = Field(default=0.2, ge=0)
    """Error of the templates as a fraction of the measured flux, added in quadrature."""

    faster: tuple[float, ...] = (0.5, 0.75, 1.0, 1.4)
    """Time scales of the kilonova templates against AT2017gfo's."""

    redder_mag: tuple[float, ...] = (-0.4, 0.0, 0.5, 1.2)
    """Reddening of the templates between g and z, magnitudes: opacity, viewing angle, dust."""

    luminosity_offset_mag: float = 0.4
    """Kilonovae are typically fainter than AT2017gfo by this."""

    luminosity_scatter_mag: float = Field(default=1.0, gt=0)
    """Scatter of their luminosity."""

    modulus_first: float = 27.0
    """First distance modulus of the grid; 2.5 Mpc."""

    modulus_step: float = Field(default=0.25, gt=0)
    """Step of the grid."""

    modulus_count: int = Field(default=60, ge=2)
    """Number of moduli; the grid ends beyond 2 Gpc."""

    contaminant_bright_mag: float = 10.0
    """Brightest magnitude of contaminants; they grow more frequent from here ..."""

    contaminant_faint_mag: float = 25.0
    """... to here, ..."""

    contaminant_slope: float = Field(default=0.6, ge=0)
    """... by this factor of e per magnitude: half the slope of a Euclidean universe, as supernovae and variables do."""

    supernova_ages_days: tuple[float, ...] = (-4.0, -1.5, 0.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0)
    """Age of supernovae at the merger; negative if they explode after it."""

    share_supernova: float = Field(default=0.35, gt=0)
    """Share of supernovae among the contaminants that pass for real."""

    share_slow_variable: float = Field(default=0.25, gt=0)
    """Share of sources that differ from the template by a constant of either sign: active nuclei, long-period stars."""

    share_fast_variable: float = Field(default=0.2, gt=0)
    """Share of sources that differ by another amount in every exposure: pulsating stars, eclipses."""

    share_flash: float = Field(default=0.2, gt=0)
    """Share of sources that are there in one exposure only: asteroids, flares, artefacts."""

    history_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of contaminants that show something before the merger."""

    history_host_fraction: float = Field(default=0.2, ge=0)
    """Error of a template's flux as a fraction of the mean of all: a galaxy's grows so much with the seeing."""


class RankSettings(Settings):
    """How the parts of the rank are made and weighed. Parts are natural logarithms of likelihood ratios."""

    weight_skymap: float = 1.0
    """Weight of the position on the sky map."""

    weight_distance: float = 1.0
    """Weight of the host's distance."""

    weight_real: float = 1.0
    """Weight of the real/bogus score."""

    weight_lightcurve: float = 1.0
    """Weight of the light curve."""

    weight_host: float = 1.0
    """Weight of the place in the host."""

    weight_time: float = 1.0
    """Weight of the time of the first detection."""

    weight_history: float = 1.0
    """Weight of earlier epochs and catalogues."""

    weight_motion: float = 1.0
    """Weight of the motion."""

    floor: float = Field(default=-15.0, lt=0)
    """No part may fall lower: one wrong number must not bury a source for ever."""

    ceiling: float = Field(default=12.0, gt=0)
    """No part may rise higher."""

    outside_level: float = Field(default=0.99, gt=0, lt=1)
    """Candidates outside this credible region carry the flag OUTSIDE_MAP."""

    real_score_floor: float = Field(default=0.02, gt=0, lt=1)
    """Lowest probability to be real that the part takes seriously."""

    time_scale_days: float = Field(default=10.0, gt=0)
    """A source first seen later after the merger loses one unit per this."""

    early_tolerance_days: float = Field(default=0.01, ge=0)
    """Detections up to this before the merger do not count as early: the length of an exposure."""

    early_penalty: float = Field(default=-12.0, lt=0)
    """Part of a source that was detected before the merger."""

    hosted_share: float = Field(default=0.8, gt=0, lt=1)
    """Share of kilonovae whose host is in the template's catalogue."""

    hosted_share_contaminants: float = Field(default=0.5, gt=0, lt=1)
    """Share of contaminants with a host there: supernovae, nuclei, residuals on galaxies."""

    nuclear_share_contaminants: float = Field(default=0.5, gt=0, lt=1)
    """Share of the hosted contaminants that sit in the core."""

    host_scale_dlr: float = Field(default=1.5, gt=0)
    """Scale of transients' separations, directional light radii (gamma distribution of order two)."""

    host_chance_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of random places that have an unrelated galaxy within reach."""

    host_reach_dlr: float = Field(default=5.0, gt=0)
    """That reach, directional light radii; what the cross-match was made with."""

    host_completeness: float = Field(default=0.7, gt=0, lt=1)
    """Chance that the associated galaxy is the kilonova's and its distance or magnitude right."""

    host_absolute_mag: float = -20.0
    """Typical absolute magnitude of kilonova hosts: they follow stellar mass."""

    host_absolute_scatter_mag: float = Field(default=1.7, gt=0)
    """Its scatter."""

    contaminant_host_limit_mag: float = 24.0
    """Faintest hosts in the template; contaminants' hosts without a distance grow more frequent towards it ..."""

    contaminant_host_slope: float = Field(default=0.6, gt=0)
    """... by this factor of e per magnitude."""

    distance_range_mpc: float = Field(default=1500.0, gt=0)
    """Contaminants' hosts fill the volume to this distance evenly; those of nuclear ones go with the light that we
    receive of galaxies, which is as much from every shell of distance."""

    nuclear_host_bright_mag: float = 14.0
    """Hosts of nuclear contaminants without a distance are as frequent in every magnitude from here to the limit."""

    default_distance_mpc: float = Field(default=150.0, gt=0)
    """Distance of the kilonova if the map has none."""

    default_distance_sigma_mpc: float = Field(default=100.0, gt=0)
    """Its scatter."""

    star_penalty: float = Field(default=-6.0, le=0)
    """History part of a candidate on a star."""

    variable_penalty: float = Field(default=-10.0, le=0)
    """History part of a candidate on a star known to vary."""

    point_source_penalty: float = Field(default=-3.0, le=0)
    """History part of a candidate on a point source of unknown nature."""

    negative_penalty: float = Field(default=-4.0, le=0)
    """History part of a candidate that was also seen fainter than in the template."""

    near_star_penalty: float = Field(default=-2.0, le=0)
    """Real part of a candidate in the halo of a bright star."""

    mover_penalty: float = Field(default=-12.0, le=0)
    """Motion part of a mover."""

    typical_rate_arcsec_per_hour: float = Field(default=30.0, gt=0)
    """Width of the distribution of asteroids' rates per axis; the main belt at opposition."""

    asteroid_share: float = Field(default=0.85, gt=0, lt=1)
    """Share of asteroids among single detections in the ecliptic."""

    ecliptic_width_deg: float = Field(default=12.0, gt=0)
    """Scale of the asteroids' density in ecliptic latitude."""

    history_significance: float = Field(default=4.0, gt=0)
    """Forced photometry before the merger above this many sigma sets the flag IN_HISTORY."""


class CandidateSettings(Settings):
    """Settings of everything that turns detections of a night into a ranked list."""

    associate: AssociateSettings = AssociateSettings()
    """How detections become candidates."""

    crossmatch: CrossmatchSettings = CrossmatchSettings()
    """How they are compared with stars and galaxies."""

    lightcurve: LightcurveSettings = LightcurveSettings()
    """What light curves may look like."""

    rank: RankSettings = RankSettings()
    """How the parts are weighed."""

    coverage: CoverageSettings = CoverageSettings()
    """How the searched part of the sky map is counted."""
