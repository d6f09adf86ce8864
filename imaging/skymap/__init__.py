"""Sky maps of gravitational-wave and gamma-ray events, and their coverage by the night's exposures."""
