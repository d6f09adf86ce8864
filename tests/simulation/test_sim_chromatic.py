"""Refraction and seeing by colour, against ERFA's refraction and the dispersions that DES measured."""

import erfa
import numpy as np
import pytest

from imaging.bands import BANDS
from imaging.simulation.atmosphere import DISPERSION_ARCSEC
from imaging.simulation.chromatic import (
    PRESSURE_HPA,
    REFERENCE_COLOUR,
    TEMPERATURE_C,
    bandwidth_nm,
    dispersion_arcsec,
    effective_wavelength_nm,
    refraction_shift_arcsec,
    refractivity,
    seeing_factor,
)

ARCSEC = 206264.806


def erfa_refraction_arcsec(wavelength_nm: float, zenith_distance_deg: float) -> float:
    a, b = erfa.refco(PRESSURE_HPA, TEMPERATURE_C, 0.0, wavelength_nm / 1000.0)
    tangent = np.tan(np.radians(zenith_distance_deg))
    return (a * tangent + b * tangent**3) * ARCSEC


@pytest.mark.parametrize("band", ["u", "g", "r", "i", "z", "Y"])
def test_the_refraction_of_air_is_that_of_erfa(band):
    wavelength = BANDS[band].wavelength_nm
    # 0.5 %: the two formulae for the refractive index of air differ
    assert float(refractivity(wavelength)) * ARCSEC == pytest.approx(erfa_refraction_arcsec(wavelength, 45.0), rel=5e-3)
    slope = (erfa_refraction_arcsec(wavelength + 5, 45.0) - erfa_refraction_arcsec(wavelength - 5, 45.0)) / 10
    ours = float(refractivity(wavelength + 5) - refractivity(wavelength - 5)) / 10 * ARCSEC
    assert ours == pytest.approx(slope, rel=0.03)


@pytest.mark.parametrize("band", ["g", "r", "i", "z"])
def test_the_dispersion_is_within_a_quarter_of_what_des_measured(band):
    east, north = refraction_shift_arcsec(band, 45.0, 0.0, np.array([REFERENCE_COLOUR, REFERENCE_COLOUR + 1.0]))
    assert east == pytest.approx([0.0, 0.0], abs=1e-12)
    assert north[0] == 0.0
    # away from the zenith for a red star (Bernstein et al. 2017)
    assert north[1] == pytest.approx(-DISPERSION_ARCSEC[band], rel=0.25)


def test_the_displacement_points_to_the_zenith_and_grows_with_the_tangent():
    blue = np.array([0.0])
    e1, n1 = refraction_shift_arcsec("g", 30.0, 70.0, blue)
    e2, n2 = refraction_shift_arcsec("g", 60.0, 70.0, blue)
    assert np.degrees(np.arctan2(e1, n1)) == pytest.approx([70.0])
    assert e2 / e1 == pytest.approx([3.0])
    assert n2 / n1 == pytest.approx([3.0])


def test_the_spectrum_of_a_source_is_as_long_as_erfa_says():
    band, half = BANDS["g"], bandwidth_nm("g")
    ends = [erfa_refraction_arcsec(band.wavelength_nm + side * half, 60.0) for side in (-1, 1)]
    assert dispersion_arcsec("g", 60.0) == pytest.approx((ends[0] - ends[1]) / 2, rel=0.03)
    # without a corrector, g at airmass 2 is drawn out by a third of an arcsecond (rms)
    assert dispersion_arcsec("g", 60.0) == pytest.approx(0.38, abs=0.05)
    assert dispersion_arcsec("z", 60.0) < 0.06


def test_blue_stars_have_wider_images_by_the_fifth_root_of_the_wavelength():
    colours = np.array([-0.3, REFERENCE_COLOUR, 2.5])
    wavelength = effective_wavelength_nm("g", colours)
    assert wavelength[1] == BANDS["g"].wavelength_nm
    # a Wien spectrum of 1.89 mag redder g - i: photons weighted by exp(wien * (1/l - 1/l0)) over the box of the filter
    box = np.linspace(-1, 1, 2001) * bandwidth_nm("g") * np.sqrt(3.0) + BANDS["g"].wavelength_nm
    wien = 0.4 * np.log(10) * (2.5 - REFERENCE_COLOUR) / (1 / BANDS["g"].wavelength_nm - 1 / BANDS["i"].wavelength_nm)
    weight = np.exp(-wien * (1 / box - 1 / BANDS["g"].wavelength_nm))
    assert wavelength[2] == pytest.approx(np.average(box, weights=weight), abs=3.0)
    assert seeing_factor("g", colours) == pytest.approx((wavelength / BANDS["g"].wavelength_nm) ** -0.2)
    assert seeing_factor("g", colours)[0] > 1.0 > seeing_factor("g", colours)[2]
