"""Detrending: overscan, crosstalk, bias, linearity, gain, brighter-fatter and flat-field corrections."""
