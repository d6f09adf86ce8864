"""Measuring a CCD: seeing, astrometry, PSF and catalogue in one chain."""
