"""Where a pixel is on the sky: matching to reference stars, coordinates per CCD, and the tie over the exposure."""
