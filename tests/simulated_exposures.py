"""A simulated exposure made by hand."""

from imaging.simulation.exposures import PsfTruth, SimulatedExposure

MJD = 60441.1
"""Its start."""


def an_exposure(**changes: object) -> SimulatedExposure:
    """Return a search exposure in i without clouds, turbulence and refraction, some values changed.

    It points where its header says; the seeing is 1.052 arcsec.
    """
    values = {
        "expnum": 7,
        "role": "search",
        "band": "i",
        "night": 20240510,
        "mjd": MJD,
        "exptime_s": 90.0,
        "ra_deg": 190.0,
        "dec_deg": -10.0,
        "true_ra_deg": 190.0,
        "true_dec_deg": -10.0,
        "zeropoint_mag": 31.7,
        "sky_electrons": 3000.0,
        "sky_modes": (1.0, 0.0, 0.0, 0.0, 0.0),
        "psf": PsfTruth(fwhm_arcsec=1.052),
    }
    return SimulatedExposure(**(values | changes))
