"""Candidates of a night: one row each, every part of the rank a column."""

from enum import IntFlag

import pyarrow as pa

from imaging.schemas.fields import F32, F64, I16, I32, I64, TEXT, field, schema


class CandidateFlag(IntFlag):
    """What a person should know of a candidate before believing it."""

    MOVER = 1  # moves within the night: an asteroid
    KNOWN_VARIABLE = 2  # coincides with a star that is known to vary
    NEAR_STAR = 4  # within the halo of a bright star
    NUCLEAR = 8  # in the core of its host, where active nuclei and subtraction residuals live
    IN_HISTORY = 16  # something was there before the merger
    SINGLE_DETECTION = 32  # detected once
    NEGATIVE = 64  # fainter than in the template in some exposure
    ON_STAR = 128  # coincides with a reference star that has a parallax or proper motion
    ON_POINT_SOURCE = 256  # coincides with a point source that may be a star or a quasar
    OUTSIDE_MAP = 512  # outside the credible region of the sky map that the settings name
    BEFORE_EVENT = 1024  # first detected before the merger


CANDIDATES = schema(
    field("candidate_id", TEXT, "", "name made from the position: GWJhhmmss.ss+ddmmss.s"),
    field("rank", I32, "", "place in the list, 1 is best"),
    field("rank_score", F64, "", "logarithm of the product of the parts below, up to a constant"),
    field("ra", F64, "deg", "right ascension, ICRS"),
    field("dec", F64, "deg", "declination, ICRS"),
    field("position_error_arcsec", F32, "arcsec", "one-sigma error per axis"),
    field("night", I32, "", "night, YYYYMMDD"),
    field("n_detections", I16, "", "detections that passed the cuts"),
    field("n_exposures", I16, "", "exposures that cover the position"),
    field("bands", TEXT, "", "bands of the detections, comma separated"),
    field("mjd_first", F64, "d", "first detection"),
    field("mjd_last", F64, "d", "last detection"),
    field("snr_best", F32, "", "highest score"),
    field("mag_first", F32, "mag", "magnitude at the first detection"),
    field("mag_last", F32, "mag", "magnitude at the last detection"),
    field("real_score", F32, "", "highest probability to be real"),
    field("loglr_skymap", F32, "", "log of the relative sky-map probability density at the position"),
    field("loglr_distance", F32, "", "log agreement of the host's distance with the sky map's"),
    field("loglr_real", F32, "", "log of the real/bogus score"),
    field("loglr_lightcurve", F32, "", "log likelihood ratio of a kilonova-like light curve against contaminants"),
    field("loglr_host", F32, "", "log likelihood ratio from the association with a host"),
    field("loglr_time", F32, "", "log agreement with the time of the merger"),
    field("loglr_history", F32, "", "log likelihood ratio from earlier epochs: variables and nuclei lose"),
    field("loglr_motion", F32, "", "log likelihood ratio against movement within the night"),
    field("credible_level", F32, "", "smallest credible region of the sky map that contains it"),
    field("skymap_density", F32, "1/deg2", "probability density of the sky map"),
    field("distance_mean_mpc", F32, "Mpc", "distance of the sky map in this direction; null if it has none"),
    field("distance_sigma_mpc", F32, "Mpc", "its standard deviation"),
    field("lightcurve_class", TEXT, "", "kind of source whose light curve fits best; null if it was not judged"),
    field("motion_arcsec_per_hour", F32, "arcsec/h", "apparent motion; null for a single detection"),
    field("motion_error_arcsec_per_hour", F32, "arcsec/h", "its error per axis"),
    field("host_ra", F64, "deg", "host galaxy; null if none"),
    field("host_dec", F64, "deg", "host galaxy"),
    field("host_separation_arcsec", F32, "arcsec", "separation from the host"),
    field("host_dlr", F32, "", "separation in units of the host's directional light radius"),
    field("host_mag", F32, "mag", "host magnitude in the template"),
    field("host_distance_mpc", F32, "Mpc", "host distance; null if unknown"),
    field("host_distance_error_mpc", F32, "Mpc", "its error; null if unknown"),
    field("gaia_source_id", I64, "", "nearest reference star within 2 arcsec; null if none"),
    field("gaia_separation_arcsec", F32, "arcsec", "distance to it"),
    field("gaia_g_mag", F32, "mag", "its G magnitude"),
    field("flags", I32, "", "bits of CandidateFlag"),
    field("detection_ids", pa.list_(I64), "", "the detections, in order of time"),
    field("expnums", pa.list_(I64), "", "exposures in which it was measured; null before the rank"),
    field("templates", pa.list_(I64), "", "exposures that were subtracted from them"),
    field("code_version", TEXT, "", "hash of the code of all steps"),
    field("settings_hash", TEXT, "", "hash of the settings of all steps"),
    field("calibration_set", TEXT, "", "hash of the manifest of the calibrations"),
)
