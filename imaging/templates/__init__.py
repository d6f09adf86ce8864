"""Templates: selection of exposures, resampling to the search CCD's pixel grid, stacking."""
