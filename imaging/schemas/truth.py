"""Arrow schemas of the truth tables of a simulated night; only tests and benchmarks read them."""

from imaging.bands import BANDS
from imaging.schemas.fields import BOOL, F64, I8, I32, I64, TEXT, field, schema

_MAGNITUDES = tuple(field(f"mag_{band}", F64, "mag", f"AB magnitude in {band}") for band in BANDS)

TRUE_STARS = schema(
    field("source_id", I64, "", "identifier"),
    field("ra", F64, "deg", "right ascension at epoch 2016.0, ICRS"),
    field("dec", F64, "deg", "declination at epoch 2016.0, ICRS"),
    field("pmra", F64, "mas/yr", "proper motion in ra times cos(dec)"),
    field("pmdec", F64, "mas/yr", "proper motion in dec"),
    field("parallax", F64, "mas", "parallax"),
    field("g", F64, "mag", "Gaia G, Vega"),
    field("bp", F64, "mag", "Gaia BP, Vega"),
    field("rp", F64, "mag", "Gaia RP, Vega"),
    *_MAGNITUDES,
    field("variability", I8, "", "0 none, 1 RR Lyrae, 2 eclipsing binary, 3 flare star"),
    field("amplitude_mag", F64, "mag", "amplitude of the variability"),
    field("period_d", F64, "d", "period, or decay time of a flare"),
    field("phase", F64, "d", "MJD of phase zero, or of the flare"),
)

TRUE_GALAXIES = schema(
    field("source_id", I64, "", "identifier"),
    field("ra", F64, "deg", "right ascension, ICRS"),
    field("dec", F64, "deg", "declination, ICRS"),
    field("redshift", F64, "", "redshift"),
    *_MAGNITUDES,
    field("radius_arcsec", F64, "arcsec", "half-light radius along the major axis"),
    field("axis_ratio", F64, "", "minor over major axis length"),
    field("position_angle_deg", F64, "deg", "position angle of the major axis, from north to east"),
    field("bulge", F64, "", "fraction of the light in a de Vaucouleurs profile"),
)

TRUE_TRANSIENTS = schema(
    field("source_id", I64, "", "identifier"),
    field("kind", I8, "", "0 kilonova, 1 supernova of type Ia, 2 of type II, 3 active nucleus"),
    field("ra", F64, "deg", "right ascension, ICRS"),
    field("dec", F64, "deg", "declination, ICRS"),
    field("host_id", I64, "", "galaxy"),
    field("start_mjd", F64, "d", "MJD of the merger or explosion"),
    field("peak_mag", F64, "mag", "AB magnitude in i at maximum light; mean magnitude of an active nucleus"),
    field("stretch", F64, "", "stretch factor of the light curve; rms variability in magnitudes of an active nucleus"),
    field("distance_mpc", F64, "Mpc", "luminosity distance"),
)

TRUE_ASTEROIDS = schema(
    field("source_id", I64, "", "identifier"),
    field("night", I32, "", "night, YYYYMMDD"),
    field("field_ra", F64, "deg", "right ascension of the tangent point of xi and eta"),
    field("field_dec", F64, "deg", "declination of the tangent point of xi and eta"),
    field("mjd", F64, "d", "MJD of the position, UTC"),
    field("xi", F64, "deg", "position to the east of the tangent point"),
    field("eta", F64, "deg", "position to the north of the tangent point"),
    field("rate_east", F64, "arcsec/h", "motion to the east"),
    field("rate_north", F64, "arcsec/h", "motion to the north"),
    field("mag_i", F64, "mag", "AB magnitude in i"),
)

TRUE_SOURCES = schema(
    field("source_id", I64, "", "identifier, as in the true-sky tables"),
    field(
        "kind",
        TEXT,
        "",
        "star, variable_star, galaxy, kilonova, supernova_ia, supernova_ii, active_nucleus, asteroid or glint",
    ),
    field("x", F64, "pixel", "true position on the trimmed CCD, 0-based, with turbulence and refraction"),
    field("y", F64, "pixel", "true position on the trimmed CCD, 0-based, with turbulence and refraction"),
    field("ra", F64, "deg", "true right ascension at the epoch of the exposure, ICRS"),
    field("dec", F64, "deg", "true declination at the epoch of the exposure, ICRS"),
    field("mag", F64, "mag", "AB magnitude in the exposure's band at its time"),
    field("flux_electrons", F64, "electron", "total flux for unit response, clouds included"),
    field("flux_aperture_electrons", F64, "electron", "flux in the reference aperture if it were a point source"),
    field("g_minus_i", F64, "mag", "colour"),
    field("is_saturated", BOOL, "", "its brightest pixel or a neighbour is saturated or holds bled charge"),
)
"""One row per source on a CCD of an exposure, or within 20 pixels of it."""
