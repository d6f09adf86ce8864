"""Arrow schema of the source catalogue of one CCD."""

import pyarrow as pa

from imaging.schemas.fields import F32, F64, I16, I32, IDENTITY, field, schema

APERTURE_DIAMETERS_PIXELS = (1.85, 3.70, 5.55, 7.41, 11.11, 14.81, 18.52, 22.22, 25.93, 29.63, 44.44, 66.67)
"""Diameters of the twelve DES apertures."""

_APERTURES = pa.list_(F32, len(APERTURE_DIAMETERS_PIXELS))

CATALOGUE = schema(
    *IDENTITY,
    field("number", I32, "", "running number in the CCD, from 1"),
    field("x", F64, "pixel", "windowed centroid, 0-based"),
    field("y", F64, "pixel", "windowed centroid, 0-based"),
    field("x_error", F32, "pixel", "one-sigma error of x"),
    field("y_error", F32, "pixel", "one-sigma error of y"),
    field("ra", F64, "deg", "right ascension of the centroid, ICRS, epoch of the exposure"),
    field("dec", F64, "deg", "declination of the centroid, ICRS, epoch of the exposure"),
    field("flux_psf", F32, "electron", "PSF flux"),
    field("flux_psf_error", F32, "electron", "error of flux_psf"),
    field("chi2_psf", F32, "", "reduced chi-square of the PSF fit"),
    field("flux_auto", F32, "electron", "flux in the Kron ellipse"),
    field("flux_auto_error", F32, "electron", "error of flux_auto"),
    field("flux_aper", _APERTURES, "electron", "fluxes in the twelve DES apertures"),
    field("flux_aper_error", _APERTURES, "electron", "errors of flux_aper"),
    field("background", F32, "electron", "local background per pixel, subtracted before the PSF fit"),
    field("a_image", F32, "pixel", "rms along the major axis"),
    field("b_image", F32, "pixel", "rms along the minor axis"),
    field("theta_image", F32, "deg", "position angle of the major axis against x"),
    field("kron_radius", F32, "", "Kron radius in units of a_image"),
    field("flux_radius", F32, "pixel", "radius that encloses half of flux_auto"),
    field("fwhm_image", F32, "pixel", "full width at half maximum of a Gaussian core"),
    field("isoarea", I32, "pixel", "area of the isophote: pixels above the threshold"),
    field("peak", F32, "electron", "value of the brightest pixel"),
    field("spread_model", F32, "", "star/galaxy statistic: near 0 for stars, positive for galaxies"),
    field("spread_model_error", F32, "", "error of spread_model"),
    field(
        "flags",
        I16,
        "",
        "extraction flags: 1 neighbours, 2 deblended, 4 saturated, 8 truncated, 16 aperture incomplete",
    ),
    field("mask", I16, "", "image mask bits within the isophote"),
)

FINAL_CATALOGUE = schema(
    *CATALOGUE,
    field(
        "transparency",
        F32,
        "",
        "transparency at its place, relative to the mean of the CCD, by which all fluxes were divided; 1 if not",
    ),
    field("transparency_error", F32, "", "error of transparency, not contained in the errors of fluxes; 0 if not"),
)
"""The catalogue of the final image."""
