"""Arrow schema of quality metrics, one row per CCD and exposure; null where a stage has not run."""

from imaging.schemas.fields import F32, I32, IDENTITY, TEXT, field, schema

QUALITY = schema(
    *IDENTITY,
    field("status", TEXT, "", "good, usable or bad, from verification; missing if the CCD failed"),
    field("reason", TEXT, "", "why the status is not good; empty if it is good"),
    field("header_replaced", TEXT, "", "cards of the raw header replaced by the camera's known values; empty if none"),
    field("calibration_defaults", TEXT, "", "what was used in place of calibrations that the library lacks"),
    field("linearity_known", I32, "", "1 if response curves were applied, 0 if the CCD was taken as linear"),
    field("fwhm_arcsec", F32, "arcsec", "seeing"),
    field("ellipticity", F32, "", "median ellipticity of the stars"),
    field("sky_electrons", F32, "electron", "sky level"),
    field("sky_sigma_electrons", F32, "electron", "measured noise of blank sky"),
    field("noise_ratio", F32, "", "measured over predicted noise of blank sky"),
    field("masked_fraction", F32, "", "fraction of pixels without weight"),
    field("n_saturated", I32, "", "saturated pixels"),
    field("n_cosmic_rays", I32, "", "cosmic-ray tracks masked"),
    field("n_streaks", I32, "", "streaks masked"),
    field("n_sources", I32, "", "sources in the catalogue"),
    field("n_psf_stars", I32, "", "stars used in the PSF model"),
    field("psf_chi2", F32, "", "reduced chi-square of the PSF model"),
    field("n_astrometry", I32, "", "reference stars used in the astrometric solution"),
    field("astrometry_rms_mas", F32, "mas", "rms residual per axis of stars above S/N 30"),
    field("astrometry_chi2", F32, "", "reduced chi-square of the astrometric solution"),
    field("zeropoint_mag", F32, "mag", "adopted zero point"),
    field("zeropoint_error_mag", F32, "mag", "error of zeropoint_mag"),
    field("depth_mag", F32, "mag", "five-sigma point-source depth"),
    field("n_templates", I32, "", "template CCDs in the stack"),
    field("template_coverage", F32, "", "fraction of the CCD that the template covers"),
    field("kernel_stamps", I32, "", "stamps used to fit the matching kernel"),
    field(
        "kernel_origin", I32, "", "kernel: 0 fitted, 1 constant, 2 PSF models and sources, 3 PSF models, zero points"
    ),
    field("kernel_sum", F32, "", "sum of the matching kernel over the expected flux ratio"),
    field("registration_pixels", F32, "pixel", "rms shift between search and template"),
    field("difference_noise_width", F32, "", "width of the normalised difference in blank sky; 1 is right"),
    field("difference_lag1", F32, "", "lag-1 correlation of the difference noise"),
    field("n_detections", I32, "", "detections above the threshold"),
    field("n_passed", I32, "", "detections that passed the cuts"),
    field("m50_mag", F32, "mag", "magnitude at which half of the fakes are found"),
    field("snr50", F32, "", "signal to noise at which half of the fakes are found"),
)
