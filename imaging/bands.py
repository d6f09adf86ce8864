"""The bands of the Dark Energy Camera: filter names, zero points, sky brightness, extinction and seeing."""

from dataclasses import dataclass
from types import MappingProxyType

from imaging.errors import InputError


@dataclass(frozen=True, slots=True)
class Band:
    """One filter and its typical values.

    Attributes
    ----------
    name
        Name of the band in product names.
    filter_id
        FILTER string of the raw header.
    cassette
        FILTPOS string of the raw header.
    wavelength_nm
        Central wavelength.
    zeropoint_rate_mag
        AB magnitude of a source of 1 electron per second at airmass 1 in a clear sky.
    sky_rate_electrons
        Dark-sky brightness, electrons per second and pixel.
    extinction_mag
        First-order extinction, magnitudes per airmass.
    reference_fwhm_arcsec
        Seeing for which the effective-exposure factor is one.
    has_fringes
        Whether images have fringes from night-sky lines.
    """

    name: str
    filter_id: str
    cassette: str
    wavelength_nm: float
    zeropoint_rate_mag: float
    sky_rate_electrons: float
    extinction_mag: float
    reference_fwhm_arcsec: float
    has_fringes: bool = False


_ALL = (
    Band("u", "u DECam c0006 3500.0 1000.0", "cassette_7", 355.0, 25.30, 0.80, 0.436, 1.200),
    Band("g", "g DECam SDSS c0001 4720.0 1520.0", "cassette_2", 472.0, 26.86, 4.20, 0.192, 1.103),
    Band("r", "r DECam SDSS c0002 6415.0 1480.0", "cassette_1", 641.5, 26.91, 10.64, 0.097, 1.041),
    Band("i", "i DECam SDSS c0003 7835.0 1470.0", "cassette_4", 783.5, 26.88, 31.48, 0.071, 1.000),
    Band("z", "z DECam SDSS c0004 9260.0 1520.0", "cassette_3", 926.0, 26.58, 66.04, 0.083, 0.965, True),
    Band("Y", "Y DECam c0005 10095.0 1130.0", "cassette_6", 1009.5, 25.49, 58.24, 0.067, 0.950, True),
    Band("VR", "VR DECam c0007 6300.0 2600.0", "cassette_5", 630.0, 27.35, 14.84, 0.100, 1.040),
)

BANDS = MappingProxyType({band.name: band for band in _ALL})
"""Band by name. Zero points and sky: DECam's first-epoch values and the observers' dark-sky targets."""


def band_named(name: str) -> Band:
    """Return the band of this name.

    Raises
    ------
    InputError
        If there is no such band.
    """
    try:
        return BANDS[name]
    except KeyError:
        raise InputError(
            "unknown band", value=repr(name), limit=f"one of {', '.join(BANDS)}", remedy="give one of these bands"
        ) from None


def band_of_filter(filter_id: str) -> str:
    """Return the band name in a raw header's FILTER string: its first word (``'VR'``, ``'N964'``, ``'g'``)."""
    words = filter_id.split()
    return words[0] if words else ""
