"""Measurement of a CCD: sky subtraction, masks, seeing, astrometry, PSF and catalogue in one chain."""
