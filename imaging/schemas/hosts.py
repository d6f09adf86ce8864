"""Arrow schemas of possible host galaxies and point-source counterparts, and of galaxies with distances."""

from imaging.schemas.fields import BOOL, F32, F64, I16, TEXT, field, schema

HOSTS = schema(
    field("ra", F64, "deg", "right ascension, ICRS"),
    field("dec", F64, "deg", "declination, ICRS"),
    field("a_arcsec", F32, "arcsec", "rms along the major axis; null if unknown"),
    field("b_arcsec", F32, "arcsec", "rms along the minor axis; null if unknown"),
    field("position_angle_deg", F32, "deg", "position angle of the major axis, from north to east; null if unknown"),
    field("mag", F32, "mag", "AB magnitude; null if unknown"),
    field("point_like", BOOL, "", "not resolved: a star or a quasar"),
    field("distance_mpc", F32, "Mpc", "luminosity distance; null if unknown"),
    field("distance_error_mpc", F32, "Mpc", "error of distance_mpc; null if unknown"),
    field("distance_source", TEXT, "", "catalogue and method of the distance; null if unknown"),
)

GALAXIES = schema(
    field("ra", F64, "deg", "right ascension, ICRS"),
    field("dec", F64, "deg", "declination, ICRS"),
    field("distance_mpc", F32, "Mpc", "luminosity distance"),
    field("distance_error_mpc", F32, "Mpc", "error of distance_mpc; null if unknown"),
    field("mag", F32, "mag", "magnitude; null if unknown"),
    field("radius_arcsec", F32, "arcsec", "half-light radius; null if unknown"),
    field("distance_method", I16, "", "how the distance is known, DistanceMethod"),
    field("catalogue", TEXT, "", "catalogue of the galaxy"),
)
