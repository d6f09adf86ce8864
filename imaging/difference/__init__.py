"""Difference imaging: PSF matching, subtraction, noise, detection, fakes, real/bogus score, forced photometry."""
