"""Source catalogues: detection, shapes, aperture and PSF photometry, star/galaxy separation."""
