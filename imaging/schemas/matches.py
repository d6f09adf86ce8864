"""Pairs of detections and reference stars: what the whole-exposure steps look at."""

from imaging.schemas.fields import BOOL, F32, F64, I32, I64, IDENTITY, TEXT, field, schema

ASTROMETRY_MATCHES = schema(
    *IDENTITY,
    field("source_id", I64, "", "reference star"),
    field("number", I32, "", "detection: running number in the CCD, from 1"),
    field("x", F64, "pixel", "windowed centroid, 0-based"),
    field("y", F64, "pixel", "windowed centroid, 0-based"),
    field("x_error", F32, "pixel", "its error"),
    field("y_error", F32, "pixel", "its error"),
    field("ra", F64, "deg", "reference position at the epoch, ICRS"),
    field("dec", F64, "deg", "reference position at the epoch, ICRS"),
    field("ra_error_mas", F32, "mas", "its error, times cos(dec)"),
    field("dec_error_mas", F32, "mas", "its error"),
    field("snr", F32, "", "signal to noise of the detection"),
    field("colour_mag", F32, "mag", "BP - RP of the star; null if unknown"),
    field("used", BOOL, "", "survived the clipping of the CCD's own fit"),
)

ZEROPOINT_MATCHES = schema(
    *IDENTITY,
    field("source_id", I64, "", "reference star"),
    field("number", I32, "", "source in the catalogue"),
    field("x", F64, "pixel", "windowed centroid, 0-based"),
    field("y", F64, "pixel", "windowed centroid, 0-based"),
    field("flux", F32, "e-", "PSF flux"),
    field("flux_error", F32, "e-", "its error"),
    field("reference_mag", F32, "mag", "AB magnitude of the star in the band of the exposure"),
    field("reference_mag_error", F32, "mag", "its error, scatter of the colour transformation included"),
    field("reference", TEXT, "", "catalogue that the magnitude was taken from"),
    field("colour_mag", F32, "mag", "BP - RP of the star; null if unknown"),
    field("separation_arcsec", F32, "arcsec", "distance between the pair"),
    field("zeropoint_mag", F64, "mag", "zero point that the star gives"),
    field("zeropoint_error_mag", F32, "mag", "its error"),
    field("used", BOOL, "", "survived the cuts and the clipping"),
)
