"""What a night searched of a sky map: one row per pixel of a HEALPix grid that some CCD saw."""

from imaging.bands import BANDS
from imaging.schemas.fields import F32, F64, I16, I64, field, schema

SEARCHED_PIXELS = schema(
    field("healpix", I64, "", "pixel number, nested, at the order that the settings of the coverage name"),
    field("ra", F64, "deg", "right ascension of its middle, ICRS"),
    field("dec", F64, "deg", "declination of its middle, ICRS"),
    field("probability", F64, "", "probability of the map inside it"),
    field("distance_mean_mpc", F32, "Mpc", "distance of the map there; null if it has none"),
    field("distance_sigma_mpc", F32, "Mpc", "its standard deviation"),
    field("n_images", I16, "", "CCD images that saw it"),
    *(field(f"m50_{band}", F32, "mag", f"deepest m50 of the fakes in {band}; null if unknown") for band in BANDS),
)
