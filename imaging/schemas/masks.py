"""Cosmic rays and streaks of one CCD."""

from imaging.schemas.fields import BOOL, F32, I32, IDENTITY, field, schema

COSMIC_RAYS = schema(
    *IDENTITY,
    field("x", F32, "pixel", "centre weighted by signal, 0-based"),
    field("y", F32, "pixel", "centre weighted by signal, 0-based"),
    field("n_pixels", I32, "", "size"),
    field("flux", F32, "e-", "signal in it"),
)

STREAKS = schema(
    *IDENTITY,
    field("x0", F32, "pixel", "first end point, 0-based"),
    field("y0", F32, "pixel", "first end point, 0-based"),
    field("x1", F32, "pixel", "second end point, 0-based"),
    field("y1", F32, "pixel", "second end point, 0-based"),
    field("sagitta_pixels", F32, "pixel", "distance of its middle from the chord, positive to the left"),
    field("fwhm_pixels", F32, "pixel", "full width at half maximum across"),
    field("half_width_pixels", F32, "pixel", "half width of the mask"),
    field("surface_electrons", F32, "e-", "peak surface brightness per pixel"),
    field("surface_sigma", F32, "", "the same in units of the pixel noise"),
    field("significance", F32, "", "signal to noise of the whole; zero if predicted from other CCDs"),
    field("predicted", BOOL, "", "not seen on this CCD, but on others in line with it"),
)
