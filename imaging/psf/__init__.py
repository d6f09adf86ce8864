"""The point-spread function (PSF) of a CCD: star selection, model fit, drawing."""
