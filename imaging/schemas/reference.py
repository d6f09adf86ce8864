"""Arrow schemas of reference catalogues: stars (Gaia, surveys), galaxies, known sources, orbits of minor planets."""

from enum import IntEnum

from imaging.schemas.fields import BOOL, F32, F64, I16, I64, TEXT, field, schema


class DistanceMethod(IntEnum):
    """How the distance of a galaxy is known; a higher value is preferred."""

    UNKNOWN = 0
    PHOTOMETRIC = 1  # photometric redshift
    SPECTROSCOPIC = 2  # spectroscopic redshift
    MEASURED = 3  # independent of the redshift: Cepheids, supernovae, ...


class KnownKind(IntEnum):
    """What a known source is."""

    TRANSIENT = 1
    VARIABLE = 2  # a variable star
    NUCLEUS = 3  # an active galactic nucleus or quasar


REFERENCE_STARS = schema(
    field("source_id", I64, "", "identifier in the source catalogue"),
    field("ra", F64, "deg", "right ascension at ref_epoch, ICRS"),
    field("dec", F64, "deg", "declination at ref_epoch, ICRS"),
    field("ra_error", F32, "mas", "standard error of ra times cos(dec)"),
    field("dec_error", F32, "mas", "standard error of dec"),
    field("ref_epoch", F64, "yr", "epoch of the position, Julian year"),
    field("pmra", F32, "mas/yr", "proper motion in ra times cos(dec); null if unknown"),
    field("pmdec", F32, "mas/yr", "proper motion in dec; null if unknown"),
    field("pmra_error", F32, "mas/yr", "standard error of pmra"),
    field("pmdec_error", F32, "mas/yr", "standard error of pmdec"),
    field("parallax", F32, "mas", "parallax; null if unknown"),
    field("parallax_error", F32, "mas", "standard error of parallax"),
    field("phot_g_mean_mag", F32, "mag", "G magnitude, Vega"),
    field("phot_g_mean_mag_error", F32, "mag", "error of phot_g_mean_mag"),
    field("phot_bp_mean_mag", F32, "mag", "BP magnitude, Vega; null if unknown"),
    field("phot_bp_mean_mag_error", F32, "mag", "error of phot_bp_mean_mag"),
    field("phot_rp_mean_mag", F32, "mag", "RP magnitude, Vega; null if unknown"),
    field("phot_rp_mean_mag_error", F32, "mag", "error of phot_rp_mean_mag"),
    field("ruwe", F32, "", "renormalised unit weight error of the astrometry"),
    field("variable", BOOL, "", "known photometric variable"),
)

REFERENCE_GALAXIES = schema(
    field("source_id", I64, "", "identifier in the source catalogue"),
    field("ra", F64, "deg", "right ascension, ICRS"),
    field("dec", F64, "deg", "declination, ICRS"),
    field("redshift", F32, "", "heliocentric redshift; null if unknown"),
    field("distance_mpc", F32, "Mpc", "luminosity distance; null if unknown"),
    field("distance_error_mpc", F32, "Mpc", "standard error of distance_mpc"),
    field("mag_b", F32, "mag", "apparent B magnitude; null if unknown"),
    field("mag_i", F32, "mag", "apparent i magnitude, AB; null if unknown"),
    field("half_light_radius_arcsec", F32, "arcsec", "half-light radius along the major axis; null if unknown"),
    field("distance_method", I16, "", "how the distance is known, DistanceMethod; null in catalogues before 0.3"),
)

KNOWN_SOURCES = schema(
    field("source_id", I64, "", "identifier in the source catalogue, or a hash of its name"),
    field("ra", F64, "deg", "right ascension, ICRS"),
    field("dec", F64, "deg", "declination, ICRS"),
    field("name", TEXT, "", "name in the source catalogue"),
    field("kind", I16, "", "KnownKind"),
    field("type", TEXT, "", "classification in the source catalogue; null if none"),
    field("mjd", F64, "d", "MJD of the discovery, UTC; null if unknown"),
    field("mag", F32, "mag", "magnitude at the discovery or maximum; null if unknown"),
    field("redshift", F32, "", "redshift; null if unknown"),
)
"""Known transients, variable stars and active nuclei."""

ORBITS = schema(
    field("designation", TEXT, "", "number or provisional designation, packed as by the Minor Planet Center"),
    field("name", TEXT, "", "readable designation: (1) Ceres"),
    field("epoch_mjd", F64, "d", "epoch of the elements, MJD TT"),
    field("mean_anomaly_deg", F64, "deg", "mean anomaly at the epoch"),
    field("perihelion_deg", F64, "deg", "argument of perihelion, ecliptic of J2000"),
    field("node_deg", F64, "deg", "longitude of the ascending node, ecliptic of J2000"),
    field("inclination_deg", F64, "deg", "inclination, ecliptic of J2000"),
    field("eccentricity", F64, "", "eccentricity"),
    field("semimajor_axis_au", F64, "AU", "semimajor axis"),
    field("absolute_mag", F32, "mag", "absolute magnitude H, V; null if unknown"),
    field("slope", F32, "", "slope parameter G"),
)
"""Osculating heliocentric orbits of minor planets."""

CALIBRATED_BANDS = ("u", "g", "r", "i", "z", "Y", "VR")

CALIBRATED_STARS = schema(
    field("source_id", I64, "", "identifier in the source catalogue"),
    field("ra", F64, "deg", "right ascension at ref_epoch, ICRS"),
    field("dec", F64, "deg", "declination at ref_epoch, ICRS"),
    field("ref_epoch", F64, "yr", "mean epoch of the positions, Julian year"),
    *(
        column
        for band in CALIBRATED_BANDS
        for column in (
            field(f"mag_{band}", F32, "mag", f"{band} magnitude in the camera's system, AB; null if unknown"),
            field(
                f"mag_{band}_error", F32, "mag", "error of the magnitude, scatter of the colour transformation included"
            ),
        )
    ),
)
"""Photometric survey catalogue with magnitudes transformed to the camera's bands."""
