"""Constants of the Gaussian profile."""

from math import log, sqrt

FWHM_TO_SIGMA = 1.0 / sqrt(8.0 * log(2.0))
"""Standard deviation of a Gaussian over its full width at half maximum."""
