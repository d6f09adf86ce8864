"""Photometric zero points, one row per CCD."""

from enum import IntFlag

from imaging.schemas.fields import F32, F64, I32, IDENTITY, field, schema


class ZeropointFlag(IntFlag):
    """Why a zero point deserves care."""

    TOO_FEW_STARS = 1  # the CCD's own value is missing or rests on too few stars: the exposure's was taken
    OUTLIER = 2  # the CCD's own value lies too far from the exposure's: the exposure's was taken
    MANY_OUTLIERS = 4  # too many CCDs of the exposure are outliers: all its zero points are in doubt
    UNCALIBRATED = 8  # no reference for this band or field: there is no zero point


ZEROPOINTS = schema(
    *IDENTITY,
    field("zeropoint_mag", F64, "mag", "adopted: AB magnitude of a source of one electron in the exposure"),
    field("zeropoint_error_mag", F64, "mag", "its standard error, floor included, on the reference's scale"),
    field("zeropoint_scale_error_mag", F64, "mag", "how far that scale may be from AB, for all of a band"),
    field("own_zeropoint_mag", F64, "mag", "from this CCD's stars alone; null if there are none"),
    field("own_zeropoint_error_mag", F64, "mag", "its standard error"),
    field("scatter_mag", F64, "mag", "scatter of the stars about the CCD's zero point"),
    field("exposure_zeropoint_mag", F64, "mag", "from all CCDs of the exposure"),
    field("n_matched", I32, "", "stars matched to the reference catalogue"),
    field("n_used", I32, "", "stars that the zero point rests on"),
    field("airmass", F32, "", "airmass"),
    field("exptime_s", F32, "s", "exposure time"),
    field("flags", I32, "", "bits of ZeropointFlag"),
)
