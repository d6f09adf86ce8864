"""Settings of candidate association, cross-match, light-curve models and ranking."""

from typing import Any

from pydantic import Field, model_validator

from imaging.schemas.difference import DetectionFlag
from imaging.settings import Settings
from imaging.skymap.settings import CoverageSettings


class AssociateSettings(Settings):
    """Association of the detections of one night into candidates; the detection threshold is set in the search."""

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
    """Detections with any of these flags are not used. NEAR_STAR is not among them: it becomes a candidate flag. STREAK
    and NOT_PSF do not reject a trail of known length, which is used where another detection agrees with its motion."""

    min_real_score: float = Field(default=0.1, ge=0, le=1)
    """Lowest real/bogus score of a detection. Low, because the score also enters the rank."""

    chance_per_ccd: float = Field(default=0.1, gt=0)
    """Expected number of peaks of noise per CCD image among the candidates. A detection in one exposure only must have
    a signal to noise, alone or with the photometry of the night's other exposures, that noise exceeds as rarely."""

    lone_probability: float = Field(default=0.3, ge=0, le=1)
    """Lowest probability to be real of a candidate that is one detection in one exposure. On eight nights of four skies
    27 of 41 false lone candidates had less, and 5 of 67 true ones, all in crowded fields."""

    error_floor_arcsec: float = Field(default=0.05, gt=0)
    """Lower limit of the position error per axis, arcseconds: residual differential refraction and turbulence."""

    max_separation_arcsec: float = Field(default=1.5, gt=0)
    """Largest separation of two detections of the same stationary source, whatever their errors."""

    chi2_limit: float = Field(default=18.4, gt=0)
    """Largest chi-square of a separation (two degrees of freedom): one true pair in 10,000 exceeds it."""

    min_rate_arcsec_per_hour: float = Field(default=1.0, gt=0)
    """Slowest motion of a moving object; distant Kuiper-belt objects near opposition move at about one."""

    max_rate_arcsec_per_hour: float = Field(default=150.0, gt=0)
    """Fastest motion of a moving object that is a point source in some exposure; faster objects leave trails."""

    brief_minutes: float = Field(default=20.0, ge=0)
    """Sources whose detections span less than this may be part of the track of a slowly moving object."""

    max_link_hours: float = Field(default=3.0, gt=0)
    """Longest time between the first two detections of a track, hours."""

    link_partners: int = Field(default=5, ge=2)
    """Number of later exposures of the same field with which each exposure is paired to start tracks."""

    link_crowding: float = Field(default=10.0, gt=0)
    """Largest mean number of unrelated detections within the search radius; the radius is reduced to keep to it."""

    trail_floor_arcsec: float = Field(default=0.1, gt=0)
    """Lower limit of the errors of the length of a trail and of the place of its ends across it, arcseconds."""

    path_floor_arcsec: float = Field(default=0.3, gt=0)
    """Allowed deviation from uniform motion within a night, arcseconds: diurnal parallax."""

    pair_chance_limit: float = Field(default=0.01, gt=0)
    """Largest expected number of chance detections within the step of a moving object detected only twice."""

    pair_mag_limit: float = Field(default=0.7, gt=0)
    """Largest magnitude difference, beyond three sigma, of a moving object detected twice in the same band."""

    @model_validator(mode="before")
    @classmethod
    def _accept_version_0_1(cls, values: Any) -> Any:  # noqa: ANN401
        """Read settings of version 0.1, which had a second threshold."""
        if isinstance(values, dict) and "min_snr" in values:
            if values["min_snr"] != 5.0:
                raise ValueError(
                    "min_snr was removed; set detection.threshold_sigma, the threshold of the search, instead"
                )
            return {name: value for name, value in values.items() if name != "min_snr"}
        return values


class CrossmatchSettings(Settings):
    """Cross-match of candidates with stars and galaxies."""

    star_radius_arcsec: float = Field(default=2.0, gt=0)
    """Radius within which the nearest reference star is reported, arcseconds."""

    same_place_arcsec: float = Field(default=0.6, gt=0)
    """A star or point source within this, plus three position errors, counts as the candidate's counterpart."""

    motion_significance: float = Field(default=5.0, gt=0)
    """Significance of parallax or proper motion above which a reference source is a star, not a galaxy nucleus."""

    halo_radius_arcsec: float = Field(default=30.0, ge=0)
    """Radius of a bright star's halo at magnitude 15."""

    halo_slope_arcsec_per_mag: float = Field(default=2.0, ge=0)
    """Decrease of the halo radius per magnitude, as in the DES veto list; zero radius at magnitude 30."""

    halo_limit_mag: float = Field(default=16.0)
    """Faintest star whose halo is flagged."""

    host_max_dlr: float = Field(default=5.0, gt=0)
    """Largest separation from a host, in units of its directional light radius (DLR)."""

    host_max_separation_arcsec: float = Field(default=120.0, gt=0)
    """Search radius for hosts: 25 kpc at 40 Mpc."""

    host_min_radius_arcsec: float = Field(default=0.4, gt=0)
    """Lower limit of a galaxy's rms axes: half the seeing."""

    default_host_radius_kpc: float = Field(default=2.5, gt=0)
    """Rms axis assumed for a catalogued galaxy without a measured shape."""

    galaxy_spread_model: float = Field(default=0.004)
    """Template sources with a larger spread_model are galaxies."""

    nuclear_arcsec: float = Field(default=0.4, gt=0)
    """Candidates within this of the host's centre, plus two position errors, are nuclear."""

    catalogue_match_arcsec: float = Field(default=3.0, gt=0)
    """Match radius between the catalogue of distances and the template's galaxies, or the galaxy's axis if larger."""

    unknown_distance_error: float = Field(default=0.2, gt=0)
    """Relative error assumed for a catalogued distance without one when the best of several entries is chosen."""

    known_radius_arcsec: float = Field(default=1.5, gt=0)
    """A known transient or active nucleus within this, plus three position errors, is the candidate's counterpart."""

    minor_planet_radius_arcsec: float = Field(default=3.0, gt=0)
    """A known minor planet predicted within this, plus three position errors, is the candidate."""

    minor_planet_faint_mag: float = 25.0
    """Faintest predicted V magnitude of minor planets."""

    orbit_max_days: float = Field(default=500.0, gt=0)
    """Orbits whose epoch is farther from the night are not used."""


class LightcurveSettings(Settings):
    """Light-curve models of kilonovae and of contaminants, with their priors."""

    max_days: float = Field(default=21.0, gt=0)
    """Photometry later than this after the merger is ignored."""

    flux_error_fraction: float = Field(default=0.2, ge=0)
    """Model error of the light-curve templates as a fraction of the flux, added in quadrature."""

    faster: tuple[float, ...] = (0.5, 0.75, 1.0, 1.4)
    """Time scales of the kilonova templates relative to AT2017gfo."""

    redder_mag: tuple[float, ...] = (-0.4, 0.0, 0.5, 1.2)
    """Reddening of the templates between g and z, magnitudes: opacity, viewing angle, dust."""

    luminosity_offset_mag: float = 0.4
    """Typical difference in magnitude between kilonovae and AT2017gfo; positive is fainter."""

    luminosity_scatter_mag: float = Field(default=1.0, gt=0)
    """Scatter of kilonova luminosities, magnitudes."""

    modulus_first: float = 27.0
    """First distance modulus of the grid; 27 is 2.5 Mpc."""

    modulus_step: float = Field(default=0.25, gt=0)
    """Step of the grid of distance moduli."""

    modulus_count: int = Field(default=60, ge=2)
    """Number of distance moduli; the grid ends beyond 2 Gpc."""

    contaminant_bright_mag: float = 10.0
    """Bright end of the contaminants' magnitude distribution."""

    contaminant_faint_mag: float = 25.0
    """Faint end of the contaminants' magnitude distribution."""

    contaminant_slope: float = Field(default=0.6, ge=0)
    """Slope of the contaminants' number counts, d ln N / d mag: half that of a Euclidean universe, as measured for
    supernovae and variables."""

    supernova_ages_days: tuple[float, ...] = (-4.0, -1.5, 0.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0)
    """Ages of the supernova templates at the merger; negative for explosions after it."""

    share_supernova: float = Field(default=0.35, gt=0)
    """Fraction of supernovae among contaminants that pass the real/bogus cut."""

    share_slow_variable: float = Field(default=0.25, gt=0)
    """Fraction of contaminants with a constant flux difference of either sign: active nuclei, long-period stars."""

    share_fast_variable: float = Field(default=0.2, gt=0)
    """Fraction of contaminants that vary between exposures: pulsating stars, eclipses."""

    share_flash: float = Field(default=0.2, gt=0)
    """Fraction of contaminants visible in one exposure only: asteroids, flares, artefacts."""

    history_share: float = Field(default=0.5, gt=0, lt=1)
    """Fraction of contaminants that are active before the merger."""

    history_host_fraction: float = Field(default=0.2, ge=0)
    """Systematic error of a template's flux as a fraction of the mean flux: PSF fluxes of galaxies vary with seeing."""


class RankSettings(Settings):
    """Parts of the rank score and their weights. Each part is the natural logarithm of a likelihood ratio."""

    weight_skymap: float = 1.0
    """Weight of the sky-map part."""

    weight_distance: float = 1.0
    """Weight of the host-distance part."""

    weight_real: float = 1.0
    """Weight of the real/bogus part."""

    weight_lightcurve: float = 1.0
    """Weight of the light-curve part."""

    weight_host: float = 1.0
    """Weight of the host-position part."""

    weight_time: float = 1.0
    """Weight of the part for the time of the first detection."""

    weight_history: float = 1.0
    """Weight of the history part (earlier epochs and catalogues)."""

    weight_motion: float = 1.0
    """Weight of the motion part."""

    weight_reported: float = 1.0
    """Weight of the part for transients that have been reported."""

    class_log_odds: float = Field(default=2.3, ge=0)
    """Natural logarithm of the odds of a light-curve class against all others together from which on it is named; 2.3
    is ten to one. Below it the class is undecided."""

    floor: float = Field(default=-15.0, lt=0)
    """Lower limit of each part, so that one wrong value cannot exclude a source."""

    ceiling: float = Field(default=12.0, gt=0)
    """Upper limit of each part."""

    outside_level: float = Field(default=0.99, gt=0, lt=1)
    """Credible level beyond which candidates get the flag OUTSIDE_MAP."""

    real_score_floor: float = Field(default=0.02, gt=0, lt=1)
    """Lower limit of the probability to be real in the real/bogus part."""

    time_scale_days: float = Field(default=10.0, gt=0)
    """Delay of the first detection after the merger that lowers the time part by one."""

    early_tolerance_days: float = Field(default=0.01, ge=0)
    """Detections up to this long before the merger do not count as early: the length of an exposure."""

    early_penalty: float = Field(default=-12.0, lt=0)
    """Time part of a source detected before the merger."""

    hosted_share: float = Field(default=0.8, gt=0, lt=1)
    """Fraction of kilonovae whose host is in the template's catalogue."""

    hosted_share_contaminants: float = Field(default=0.5, gt=0, lt=1)
    """Fraction of contaminants with a host in the template's catalogue: supernovae, nuclei, residuals on galaxies."""

    nuclear_share_contaminants: float = Field(default=0.5, gt=0, lt=1)
    """Fraction of the contaminants with a host that are in its core."""

    host_scale_dlr: float = Field(default=1.5, gt=0)
    """Scale of the separations of transients from their hosts, in DLR (gamma distribution of order two)."""

    host_chance_share: float = Field(default=0.2, gt=0, lt=1)
    """Fraction of random positions with an unrelated galaxy within host_reach_dlr."""

    host_reach_dlr: float = Field(default=5.0, gt=0)
    """Largest separation from a host, in DLR; the same as host_max_dlr of the cross-match."""

    host_completeness: float = Field(default=0.7, gt=0, lt=1)
    """Probability that the associated galaxy is the kilonova's host and that its distance or magnitude is right."""

    host_absolute_mag: float = -20.0
    """Typical absolute magnitude of kilonova hosts, if kilonovae trace stellar mass."""

    host_absolute_scatter_mag: float = Field(default=1.7, gt=0)
    """Scatter of the absolute magnitude of kilonova hosts."""

    contaminant_host_limit_mag: float = 24.0
    """Magnitude limit of hosts in the template, for contaminants' hosts without a distance."""

    contaminant_host_slope: float = Field(default=0.6, gt=0)
    """Slope of the number counts of contaminants' hosts without a distance, d ln N / d mag."""

    distance_range_mpc: float = Field(default=1500.0, gt=0)
    """Largest distance of contaminants' hosts, which are uniform in volume; hosts of nuclear contaminants are weighted
    by apparent brightness, hence uniform in distance."""

    nuclear_host_bright_mag: float = 14.0
    """Bright end of the hosts of nuclear contaminants without a distance, uniform in magnitude down to the limit."""

    default_distance_mpc: float = Field(default=150.0, gt=0)
    """Distance of the kilonova if the sky map has no distances."""

    default_distance_sigma_mpc: float = Field(default=100.0, gt=0)
    """Standard deviation of default_distance_mpc."""

    star_penalty: float = Field(default=-6.0, le=0)
    """History part of a candidate on a star."""

    variable_penalty: float = Field(default=-10.0, le=0)
    """History part of a candidate on a star known to vary."""

    point_source_penalty: float = Field(default=-3.0, le=0)
    """History part of a candidate on a point source of unknown nature."""

    negative_penalty: float = Field(default=-4.0, le=0)
    """History part of a candidate that is fainter than in the template in some exposure."""

    nucleus_penalty: float = Field(default=-5.0, le=0)
    """History part of a candidate on a known active nucleus."""

    reported_early_penalty: float = Field(default=-10.0, le=0)
    """Reported part of a candidate that was discovered before the merger."""

    reported_type_penalty: float = Field(default=-6.0, le=0)
    """Reported part of a candidate classified as something else than a kilonova."""

    near_star_penalty: float = Field(default=-2.0, le=0)
    """Real/bogus part of a candidate in the halo of a bright star."""

    mover_penalty: float = Field(default=-12.0, le=0)
    """Motion part of a moving object."""

    typical_rate_arcsec_per_hour: float = Field(default=30.0, gt=0)
    """Width per axis of the distribution of asteroid rates; the main belt at opposition."""

    asteroid_share: float = Field(default=0.85, gt=0, lt=1)
    """Fraction of asteroids among single detections in the ecliptic."""

    ecliptic_width_deg: float = Field(default=12.0, gt=0)
    """Exponential scale of the asteroid density in ecliptic latitude."""

    history_significance: float = Field(default=4.0, gt=0)
    """Significance of forced photometry before the merger that sets the flag IN_HISTORY, sigma."""


class CandidateSettings(Settings):
    """All settings of candidate association, cross-match, light curves, ranking and coverage."""

    associate: AssociateSettings = AssociateSettings()
    """Association of detections into candidates."""

    crossmatch: CrossmatchSettings = CrossmatchSettings()
    """Cross-match with stars and galaxies."""

    lightcurve: LightcurveSettings = LightcurveSettings()
    """Light-curve models."""

    rank: RankSettings = RankSettings()
    """Rank score."""

    coverage: CoverageSettings = CoverageSettings()
    """Coverage of the sky map."""
