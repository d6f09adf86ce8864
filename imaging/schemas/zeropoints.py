"""Arrow schema of photometric zero points, one row per CCD."""

from enum import IntFlag

from imaging.schemas.fields import F32, F64, I32, IDENTITY, field, schema


class ZeropointFlag(IntFlag):
    """Problems of a zero point."""

    TOO_FEW_STARS = 1  # the CCD's own zero point is missing or has too few stars: the exposure's is adopted
    OUTLIER = 2  # the CCD's own zero point deviates too much from the exposure's: the exposure's is adopted
    MANY_OUTLIERS = 4  # too many CCDs of the exposure are outliers: all its zero points are doubtful
    UNCALIBRATED = 8  # no reference stars for this band or field: no zero point


ZEROPOINTS = schema(
    *IDENTITY,
    field("zeropoint_mag", F64, "mag", "adopted zero point: AB magnitude of a source of one electron in the exposure"),
    field(
        "zeropoint_error_mag",
        F64,
        "mag",
        "standard error of zeropoint_mag on the scale of the reference magnitudes, floor included",
    ),
    field(
        "zeropoint_scale_error_mag",
        F64,
        "mag",
        "systematic error of the reference magnitude scale against AB, common to all exposures of a band",
    ),
    field("own_zeropoint_mag", F64, "mag", "zero point from this CCD's stars alone; null if there are none"),
    field("own_zeropoint_error_mag", F64, "mag", "standard error of own_zeropoint_mag"),
    field("scatter_mag", F64, "mag", "scatter of the stars about the CCD's zero point"),
    field("exposure_zeropoint_mag", F64, "mag", "zero point from all CCDs of the exposure"),
    field("n_matched", I32, "", "stars matched to the reference catalogue"),
    field("n_used", I32, "", "stars used for the zero point"),
    field("airmass", F32, "", "airmass"),
    field("exptime_s", F32, "s", "exposure time"),
    field("flags", I32, "", "bits of ZeropointFlag"),
)
