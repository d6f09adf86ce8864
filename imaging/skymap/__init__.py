"""Sky maps of gravitational-wave and gamma-ray events, and how much of one the night's exposures cover."""
