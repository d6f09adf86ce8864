"""Master calibrations from raw bias and dome-flat exposures."""
