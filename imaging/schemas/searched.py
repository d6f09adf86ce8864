"""Arrow schema of the searched part of a sky map: one row per HEALPix pixel covered by at least one CCD image."""

from imaging.bands import BANDS
from imaging.schemas.fields import F32, F64, I16, I64, field, schema

SEARCHED_PIXELS = schema(
    field("healpix", I64, "", "HEALPix pixel number, nested scheme, at the ORDER in the table's metadata"),
    field("ra", F64, "deg", "right ascension of the pixel centre, ICRS"),
    field("dec", F64, "deg", "declination of the pixel centre, ICRS"),
    field("probability", F64, "", "probability of the sky map in the pixel"),
    field(
        "distance_mean_mpc", F32, "Mpc", "mean distance of the sky map in the pixel; null if the map has no distances"
    ),
    field("distance_sigma_mpc", F32, "Mpc", "standard deviation of that distance"),
    field("n_images", I16, "", "CCD images that cover the pixel"),
    *(field(f"m50_{band}", F32, "mag", f"faintest m50 of the fakes in {band}; null if unknown") for band in BANDS),
)
