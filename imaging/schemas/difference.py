"""Arrow schemas of difference-image detections, fakes, efficiency, forced photometry and template choices."""

from enum import IntFlag

from imaging.schemas.fields import BOOL, F32, F64, I16, I32, I64, IDENTITY, TEXT, field, schema


class DetectionFlag(IntFlag):
    """Why a detection is probably not a transient. A detection without any of these has passed the cuts."""

    NEGATIVE = 1  # fainter than in the template
    DIPOLE = 2  # a positive and a negative side: misregistration or a galaxy core
    COSMIC_RAY = 4  # sharper than the PSF
    NOT_PSF = 8  # shape not that of a point source
    MASKED = 16  # too many masked pixels within one FWHM
    NEAR_STAR = 32  # within the veto radius of a bright star
    NEGATIVE_PIXELS = 64  # too many strongly negative pixels around it
    STREAK = 128  # trail of a satellite or of what moves during the exposure
    EDGE = 256  # too close to the image border


DETECTIONS = schema(
    field("detection_id", I64, "", "unique: exposure number, CCD and running number"),
    *IDENTITY,
    field("mjd", F64, "d", "MJD of the middle of the exposure, UTC"),
    field("x", F64, "pixel", "position, 0-based"),
    field("y", F64, "pixel", "position, 0-based"),
    field("ra", F64, "deg", "right ascension, ICRS"),
    field("dec", F64, "deg", "declination, ICRS"),
    field("position_error_arcsec", F32, "arcsec", "one-sigma error per axis, centroid and astrometry together"),
    field("flux", F32, "electron", "PSF flux in the difference; negative if fainter than in the template"),
    field("flux_error", F32, "electron", "error of flux"),
    field("snr", F32, "", "signal to noise: matched-filter score in units of its measured noise; signed"),
    field("mag", F32, "mag", "AB magnitude of the positive flux; null if negative"),
    field("mag_error", F32, "mag", "error of mag"),
    field("chi2_psf", F32, "", "reduced chi-square of the PSF fit"),
    field("a_image", F32, "pixel", "rms along the major axis"),
    field("b_image", F32, "pixel", "rms along the minor axis"),
    field("spread_model", F32, "", "shape statistic against the PSF: negative is sharper, positive is wider"),
    field("spread_error", F32, "", "error of spread_model"),
    field("dipole_fraction", F32, "", "flux of the weaker side of a dipole over that of the stronger one, 0 to 1"),
    field("negative_fraction", F32, "", "fraction of pixels in the stamp below minus two sigma"),
    field("masked_fraction", F32, "", "fraction of masked pixels within one FWHM"),
    field("template_flux", F32, "electron", "flux of the template at the position, aperture of one FWHM"),
    field("star_distance_arcsec", F32, "arcsec", "distance to the nearest bright reference star; null if none is near"),
    field(
        "trail_arcsec", F32, "arcsec", "length of the trail that flux, position and snr are of; null: a point source"
    ),
    field("trail_error_arcsec", F32, "arcsec", "error of trail_arcsec"),
    field("trail_angle_deg", F32, "deg", "position angle of the trail, north to east, 0 to 180; null: a point source"),
    field("trail_angle_error_deg", F32, "deg", "error of trail_angle_deg"),
    field("trail_arcsec_per_hour", F32, "arcsec/h", "motion: trail_arcsec over the exposure time; null if unknown"),
    field("pixel_excess", F32, "", "excess of the sharpest pixel of the search image over a point source's, sigma"),
    field("real_score", F32, "", "real/bogus score: probability to be real, 0 to 1"),
    field("flags", I32, "", "bits of DetectionFlag"),
)

FAKES = schema(
    *IDENTITY,
    field("fake_id", I32, "", "running number in the CCD"),
    field("x", F64, "pixel", "position, 0-based"),
    field("y", F64, "pixel", "position, 0-based"),
    field("ra", F64, "deg", "right ascension, ICRS"),
    field("dec", F64, "deg", "declination, ICRS"),
    field("mag", F32, "mag", "AB magnitude injected"),
    field("flux", F32, "electron", "flux injected"),
    field("snr_expected", F32, "", "expected signal to noise of the injected flux at this position"),
    field("on_host", BOOL, "", "injected on a galaxy"),
    field(
        "host_surface_brightness",
        F32,
        "mag/arcsec2",
        "surface brightness of the template at the position; null on blank sky",
    ),
    field("on_good_pixels", BOOL, "", "no masked pixel within one FWHM"),
    field("detected", BOOL, "", "detected above the threshold"),
    field("passed", BOOL, "", "detected and passed all cuts"),
    field("snr", F32, "", "signal to noise of the detection; null if not detected"),
    field("flux_measured", F32, "electron", "PSF flux of the detection; null if not detected"),
    field("flux_error", F32, "electron", "error of flux_measured; null if not detected"),
    field("real_score", F32, "", "real/bogus score of the detection; null if not detected"),
    field("flags", I32, "", "bits of DetectionFlag of the detection; null if not detected"),
)

EFFICIENCY = schema(
    field("place", TEXT, "", "blank sky, or range of host surface brightness in mag/arcsec2"),
    field("mag_low", F32, "mag", "bright edge of the bin in injected magnitude"),
    field("mag_high", F32, "mag", "faint edge of the bin in injected magnitude"),
    field("n_injected", I32, "", "fakes injected"),
    field("n_detected", I32, "", "fakes detected above the threshold"),
    field("n_passed", I32, "", "fakes detected that passed all cuts"),
    field("share_passed", F32, "", "fraction of fakes that passed all cuts"),
    field("share_low", F32, "", "lower bound of the 68 % interval of share_passed"),
    field("share_high", F32, "", "upper bound of the 68 % interval of share_passed"),
    field(
        "m50_mag", F32, "mag", "magnitude at which half of the fakes of this place pass; null if it cannot be fitted"
    ),
    field("m50_error_mag", F32, "mag", "error of m50_mag"),
)

FORCED_PHOTOMETRY = schema(
    field("candidate_id", TEXT, "", "name of the candidate"),
    *IDENTITY,
    field("mjd", F64, "d", "MJD of the middle of the exposure, UTC"),
    field("flux", F32, "nJy", "PSF flux in the difference"),
    field("flux_error", F32, "nJy", "error of flux"),
    field("snr", F32, "", "flux over flux_error"),
    field("mag", F32, "mag", "AB magnitude; null below two sigma"),
    field("mag_error", F32, "mag", "error of mag"),
    field("limit_mag", F32, "mag", "five-sigma limiting magnitude at this position"),
    field("masked", BOOL, "", "the position falls on masked pixels"),
)

DIRECT_PHOTOMETRY = schema(
    *(FORCED_PHOTOMETRY.field(name) for name in ("candidate_id", "expnum", "band", "night", "ccd", "mjd")),
    field("side", TEXT, "", "search for a search exposure, template for a template exposure"),
    field("flux", F32, "nJy", "PSF flux on the unsubtracted image above the local background, host light included"),
    *(FORCED_PHOTOMETRY.field(n) for n in ("flux_error", "snr", "mag", "mag_error", "limit_mag", "masked")),
)

TEMPLATE_CHOICES = schema(
    *IDENTITY,
    field("template_expnum", I64, "", "exposure number of the possible template"),
    field("template_ccd", I16, "", "CCD number of the possible template"),
    field("overlap_fraction", F32, "", "fraction of the search CCD that the template covers"),
    field("delta_days", F32, "d", "template minus search, MJD"),
    field("limit_mag", F32, "mag", "five-sigma depth; null if unknown"),
    field("fwhm_arcsec", F32, "arcsec", "seeing; null if unknown"),
    field("rank", I32, "", "order of preference, 1 is best; null if rejected"),
    field("reason", TEXT, "", "reason why it was chosen or rejected"),
    field("source", TEXT, "", "pipeline and file of an imported image; empty if this pipeline calibrated it"),
)
