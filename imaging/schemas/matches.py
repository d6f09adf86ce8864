"""Arrow schemas of detections matched to reference stars, the input of the whole-exposure fits."""

from imaging.schemas.fields import BOOL, F32, F64, I32, I64, IDENTITY, TEXT, field, schema

ASTROMETRY_MATCHES = schema(
    *IDENTITY,
    field("source_id", I64, "", "identifier of the reference star"),
    field("number", I32, "", "running number of the detection in the CCD, from 1"),
    field("x", F64, "pixel", "windowed centroid, 0-based"),
    field("y", F64, "pixel", "windowed centroid, 0-based"),
    field("x_error", F32, "pixel", "one-sigma error of x, larger where the PSF does not fit"),
    field("y_error", F32, "pixel", "one-sigma error of y, larger where the PSF does not fit"),
    field("ra", F64, "deg", "right ascension of the reference star at the epoch of the exposure, ICRS"),
    field("dec", F64, "deg", "declination of the reference star at the epoch of the exposure, ICRS"),
    field("ra_error_mas", F32, "mas", "error of ra times cos(dec)"),
    field("dec_error_mas", F32, "mas", "error of dec"),
    field("snr", F32, "", "signal to noise of the detection"),
    field("colour_mag", F32, "mag", "BP - RP of the star; null if unknown"),
    field("used", BOOL, "", "survived the clipping of the CCD's own fit"),
)

ZEROPOINT_MATCHES = schema(
    *IDENTITY,
    field("source_id", I64, "", "identifier of the reference star"),
    field("number", I32, "", "running number of the source in the catalogue of the CCD"),
    field("x", F64, "pixel", "windowed centroid, 0-based"),
    field("y", F64, "pixel", "windowed centroid, 0-based"),
    field("flux", F32, "electron", "PSF flux"),
    field("flux_error", F32, "electron", "error of flux"),
    field("reference_mag", F32, "mag", "AB magnitude of the star in the band of the exposure"),
    field("reference_mag_error", F32, "mag", "error of reference_mag, scatter of the colour transformation included"),
    field("reference", TEXT, "", "catalogue that reference_mag was taken from"),
    field("colour_mag", F32, "mag", "BP - RP of the star; null if unknown"),
    field("colour_error_mag", F32, "mag", "error of colour_mag; null if unknown"),
    field("separation_arcsec", F32, "arcsec", "separation of detection and reference star"),
    field("zeropoint_mag", F64, "mag", "zero point from this star, its flux not corrected for clouds"),
    field("zeropoint_error_mag", F32, "mag", "error of zeropoint_mag"),
    field("blend_error_mag", F32, "mag", "part of zeropoint_error_mag: neighbours too close to be detected"),
    field("used", BOOL, "", "survived the cuts and the clipping"),
    field("transparency", F32, "", "transparency at its place, relative to the mean of the CCD; 1 without clouds"),
)
