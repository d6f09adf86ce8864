"""Arrow schema of the index of raw files: one row per file."""

from imaging.schemas.fields import BOOL, F64, I32, I64, TEXT, field, schema

RAW_FILES = schema(
    field("path", TEXT, "", "name of the file, relative to the site's folders where it lies in one"),
    field("size", I64, "byte", "size of the file"),
    field("mtime_ns", I64, "ns", "time of its last change, which only tells whether it is the same file"),
    field("seen", F64, "s", "Unix time at which it was first seen with this size"),
    field("is_complete", BOOL, "", "whether its last extension ends where the file ends"),
    field("n_extensions", I32, "", "complete extensions"),
    field("n_stated", I32, "", "extensions that the primary header states, NEXTEND; 0 if it states none"),
    field("problem", TEXT, "", "why it is no raw exposure of the camera; empty if it is one"),
    field("expnum", I64, "", "exposure number; null with a problem, as all that follow"),
    field("night", I32, "", "local date at the beginning of the night, YYYYMMDD"),
    field("obstype", TEXT, "", "kind of exposure: object, zero, dome flat, ..."),
    field("band", TEXT, "", "band"),
    field("exptime_s", F64, "s", "exposure time"),
    field("mjd", F64, "d", "start of the exposure, MJD UTC"),
    field("ra_deg", F64, "deg", "right ascension of the pointing, ICRS; null if unknown"),
    field("dec_deg", F64, "deg", "declination of the pointing, ICRS; null if unknown"),
    field("airmass", F64, "", "airmass; null if unknown"),
    field("propid", TEXT, "", "observing proposal"),
    field("object_name", TEXT, "", "name given by the observer"),
)
