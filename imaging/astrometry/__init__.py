"""Astrometric calibration: match to reference stars, WCS fit per CCD, joint solution of the exposure."""
