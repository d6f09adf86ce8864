"""Conventions that the processing and the simulator share; neither imports them from the other."""

REFERENCE_APERTURE_PIXELS = 22.22
"""Diameter of the reference aperture for fluxes: 5.84 arcsec, the eighth of the DES apertures."""
