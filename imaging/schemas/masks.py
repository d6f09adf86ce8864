"""Arrow schemas of the cosmic rays and streaks of one CCD."""

from imaging.schemas.fields import BOOL, F32, I32, IDENTITY, field, schema

COSMIC_RAYS = schema(
    *IDENTITY,
    field("x", F32, "pixel", "flux-weighted centre, 0-based"),
    field("y", F32, "pixel", "flux-weighted centre, 0-based"),
    field("n_pixels", I32, "", "size"),
    field("flux", F32, "electron", "total signal of the cosmic ray"),
)

STREAKS = schema(
    *IDENTITY,
    field("x0", F32, "pixel", "first end point, 0-based"),
    field("y0", F32, "pixel", "first end point, 0-based"),
    field("x1", F32, "pixel", "second end point, 0-based"),
    field("y1", F32, "pixel", "second end point, 0-based"),
    field("sagitta_pixels", F32, "pixel", "distance of the streak's middle from its chord, positive to the left"),
    field("fwhm_pixels", F32, "pixel", "full width at half maximum across the streak"),
    field("half_width_pixels", F32, "pixel", "half width of the mask"),
    field("surface_electrons", F32, "electron", "peak surface brightness per pixel"),
    field("surface_sigma", F32, "", "peak surface brightness in units of the pixel noise"),
    field("significance", F32, "", "signal to noise of the whole streak; zero if predicted from other CCDs"),
    field("predicted", BOOL, "", "not detected on this CCD, predicted from a trail on other CCDs"),
)
