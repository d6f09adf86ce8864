"""The point-spread function of a CCD: selecting stars, modelling, exchanging."""
