"""Arrow schema of the candidates of a night: one row per candidate, one column per part of the rank score."""

from enum import IntFlag

import pyarrow as pa

from imaging.schemas.fields import F32, F64, I16, I32, I64, NO_ID, TEXT, field, schema

PROBABILITY = "probability, by the light curve and equal odds of a kilonova and all contaminants, of"


class CandidateFlag(IntFlag):
    """Warnings about a candidate: reasons why it may not be a kilonova."""

    MOVER = 1  # moves within the night: an asteroid; a fast one leaves trails
    KNOWN_VARIABLE = 2  # coincides with a star that is known to vary
    NEAR_STAR = 4  # within the halo of a bright star
    NUCLEAR = 8  # in the core of its host, as active nuclei and subtraction residuals are
    IN_HISTORY = 16  # significant flux or variability before the merger
    SINGLE_DETECTION = 32  # detected once
    NEGATIVE = 64  # fainter than in the template in some exposure
    ON_STAR = 128  # coincides with a reference star that has a parallax or proper motion
    ON_POINT_SOURCE = 256  # coincides with a point source that may be a star or a quasar
    OUTSIDE_MAP = 512  # outside the credible region of the sky map set by outside_level
    BEFORE_EVENT = 1024  # first detected before the merger
    MINOR_PLANET = 2048  # coincides with a known minor planet
    ACTIVE_NUCLEUS = 4096  # coincides with a known active nucleus or quasar
    REPORTED_EARLIER = 8192  # reported as a transient that was discovered before the merger
    FLASH = 16384  # half of its flux is gone in another exposure of the same hours and band: a glint, a flare


CANDIDATES = schema(
    field("candidate_id", TEXT, "", "name made from the position: GWJhhmmss.ss+ddmmss.s"),
    field("rank", I32, "", "rank in the list, 1 is best"),
    field("rank_score", F64, "", "weighted sum of the loglr columns, up to a constant"),
    field("ra", F64, "deg", "right ascension, ICRS"),
    field("dec", F64, "deg", "declination, ICRS"),
    field("position_error_arcsec", F32, "arcsec", "one-sigma position error per axis"),
    field("night", I32, "", "night, YYYYMMDD"),
    field("n_detections", I16, "", "detections that passed the cuts"),
    field("n_exposures", I16, "", "exposures that cover the position"),
    field("bands", TEXT, "", "bands of the detections, comma separated"),
    field("mjd_first", F64, "d", "MJD of the middle of the exposure of the first detection, UTC"),
    field("mjd_last", F64, "d", "MJD of the middle of the exposure of the last detection, UTC"),
    field("snr_best", F32, "", "highest signal to noise of its detections"),
    field("mag_first", F32, "mag", "magnitude at the first detection"),
    field("mag_last", F32, "mag", "magnitude at the last detection"),
    field("real_score", F32, "", "highest real/bogus score of its detections, 0 to 1"),
    field(
        "probability_real",
        F32,
        "",
        "highest probability of its detections to be real, by the scores of the night's fakes; null without fakes",
    ),
    field("loglr_skymap", F32, "", "log of the relative sky-map probability density at the position"),
    field("loglr_distance", F32, "", "log likelihood ratio of the host's distance, given the sky map's distance"),
    field("loglr_real", F32, "", "log of the probability to be real, or of the real/bogus score"),
    field("loglr_lightcurve", F32, "", "log likelihood ratio of a kilonova-like light curve against contaminants"),
    field("loglr_host", F32, "", "log likelihood ratio from the association with a host"),
    field("loglr_time", F32, "", "logarithmic penalty for a first detection late after the merger, or before it"),
    field(
        "loglr_history",
        F32,
        "",
        "log likelihood ratio from earlier epochs and catalogues; negative for variables and nuclei",
    ),
    field("loglr_motion", F32, "", "log likelihood ratio of no motion within the night"),
    field(
        "loglr_reported", F32, "", "logarithmic penalty for a transient reported before the merger, or of another type"
    ),
    field(
        "credible_level",
        F32,
        "",
        "level of the smallest credible region of the sky map that contains the position, 0 to 1",
    ),
    field("skymap_density", F32, "deg-2", "probability density of the sky map at the position"),
    field(
        "distance_mean_mpc",
        F32,
        "Mpc",
        "mean distance of the sky map in this direction; null if the map has no distances",
    ),
    field("distance_sigma_mpc", F32, "Mpc", "standard deviation of that distance"),
    field(
        "lightcurve_class",
        TEXT,
        "",
        "class of the light curve, or undecided; null without usable photometry after the merger",
    ),
    field("undecided_because", TEXT, "", "why no class is named; null if one is, or without usable photometry"),
    field("probability_kilonova", F32, "", f"{PROBABILITY} a kilonova at the distance of the sky map"),
    field("probability_supernova", F32, "", f"{PROBABILITY} a supernova"),
    field("probability_slow_variable", F32, "", f"{PROBABILITY} a source constant over days, of either sign"),
    field("probability_fast_variable", F32, "", f"{PROBABILITY} a source that varies between exposures"),
    field("probability_flash", F32, "", f"{PROBABILITY} a source visible in one exposure"),
    field("motion_arcsec_per_hour", F32, "arcsec/h", "apparent motion; null for a single detection"),
    field("motion_error_arcsec_per_hour", F32, "arcsec/h", "error per axis of the motion"),
    field("trail_arcsec", F32, "arcsec", "longest trail of a mover in an exposure; null if no detection is a trail"),
    field("host_ra", F64, "deg", "right ascension of the host galaxy, ICRS; null if none"),
    field("host_dec", F64, "deg", "declination of the host galaxy, ICRS"),
    field("host_separation_arcsec", F32, "arcsec", "separation from the host"),
    field("host_dlr", F32, "", "separation in units of the host's directional light radius"),
    field("host_mag", F32, "mag", "host magnitude in the template"),
    field("host_distance_mpc", F32, "Mpc", "host distance; null if unknown"),
    field("host_distance_error_mpc", F32, "Mpc", "error of the host distance; null if unknown"),
    field("host_distance_source", TEXT, "", "catalogue and method of the host distance; null if unknown"),
    field("gaia_source_id", I64, "", f"nearest reference star within 2 arcsec; {NO_ID} if none"),
    field("gaia_separation_arcsec", F32, "arcsec", "separation from that star"),
    field("gaia_g_mag", F32, "mag", "G magnitude of that star"),
    field("reported_as", TEXT, "", "name of a known transient at the position; null if none"),
    field("reported_type", TEXT, "", "its classification; null if unknown"),
    field("reported_in", TEXT, "", "catalogue of that transient"),
    field("reported_mjd", F64, "d", "MJD of its discovery, UTC; null if unknown"),
    field("reported_separation_arcsec", F32, "arcsec", "separation from it"),
    field("known_as", TEXT, "", "name of a known variable star or active nucleus at the position; null if none"),
    field("known_type", TEXT, "", "its classification; null if unknown"),
    field("known_in", TEXT, "", "catalogue of that source"),
    field("known_separation_arcsec", F32, "arcsec", "separation from it"),
    field("minor_planet", TEXT, "", "known minor planet at the position; null if none"),
    field("minor_planet_separation_arcsec", F32, "arcsec", "separation from its predicted position"),
    field("minor_planet_mag", F32, "mag", "its predicted V magnitude"),
    field("flags", I32, "", "bits of CandidateFlag"),
    field("detection_ids", pa.list_(I64), "", "identifiers of the detections, in order of time"),
    field("expnums", pa.list_(I64), "", "exposures with forced photometry of the candidate; null before ranking"),
    field("templates", pa.list_(I64), "", "exposures used as templates in those differences"),
    field("code_version", TEXT, "", "hash of the code of all processing steps"),
    field("settings_hash", TEXT, "", "hash of the settings of all processing steps"),
    field("calibration_set", TEXT, "", "hash of the calibration manifest"),
)
