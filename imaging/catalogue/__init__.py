"""From pixels to a catalogue: detection, shapes, apertures, PSF fluxes, stars against galaxies."""
