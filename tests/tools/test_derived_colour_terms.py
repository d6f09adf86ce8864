"""Synthetic photometry for the colour terms."""

import numpy as np
import pytest

from imaging.photometry.colours import RELEASES, ColourTerm, published_colour_terms
from tools.derive_colour_terms import GRID_ANGSTROM, RANGES, Synthetic, ab_magnitude, composed_y, differences, fit_term
from tools.derive_survey_terms import Rule, fit_rule


def box(low, high):
    return ((low <= GRID_ANGSTROM) & (high >= GRID_ANGSTROM)).astype(float)


def test_a_flat_spectrum_has_the_same_ab_magnitude_in_every_band():
    flat_in_frequency = 1.0 / GRID_ANGSTROM**2
    mags = [ab_magnitude(flat_in_frequency, box(*edges)) for edges in ((4000, 5500), (5700, 7100), (8500, 10000))]
    assert mags == pytest.approx([mags[0]] * 3, abs=1e-3)
    assert ab_magnitude(10.0 * flat_in_frequency, box(4000, 5500)) == pytest.approx(mags[0] - 2.5)


def test_a_red_spectrum_is_brighter_in_the_red_and_throughput_scale_does_not_matter():
    red = GRID_ANGSTROM**2 * 1e-12
    blue_mag, red_mag = ab_magnitude(red, box(4000, 5500)), ab_magnitude(red, box(8500, 10000))
    assert blue_mag - red_mag == pytest.approx(2.5 * 4 * np.log10(9250 / 4750), abs=0.1)
    assert ab_magnitude(red, 0.3 * box(4000, 5500)) == pytest.approx(blue_mag)


def synthetic(offset, scatter=0.0):
    random = np.random.default_rng(1)
    colour = np.linspace(0.2, 2.2, 60)
    gaia = {"G": np.full(60, 15.0), "BP": 15.0 + 0.6 * colour, "RP": 15.0 - 0.4 * colour}
    camera = {band: 15.0 + offset(colour) + random.normal(0, scatter, 60) for band in RANGES}
    return Synthetic(tuple("x" * 60), gaia, camera)


def test_a_known_relation_is_found_again():
    term, n = fit_term(synthetic(lambda c: 0.3 - 0.6 * c + 0.1 * c**2), "i")
    colour = np.linspace(0.4, 1.9, 20)
    expected = 0.3 - 0.6 * colour + 0.1 * colour**2
    assert np.polynomial.Polynomial(term.coefficients)(colour) == pytest.approx(expected, abs=1e-3)
    assert n > 40
    assert term.scatter_mag < 0.001


def test_the_scatter_is_that_of_the_stars():
    term, _ = fit_term(synthetic(lambda c: 0.2 * c, scatter=0.02), "r")
    assert term.scatter_mag == pytest.approx(0.02, rel=0.3)


def test_terms_are_compared_where_both_hold():
    one = ColourTerm(coefficients=(0.1, 1.0), colour_min=0.0, colour_max=1.0, scatter_mag=0.0)
    other = ColourTerm(coefficients=(0.0, 1.0), colour_min=0.5, colour_max=3.0, scatter_mag=0.0)
    assert differences(one, other) == pytest.approx((100.0, 0.0), abs=1e-6)


@pytest.mark.parametrize("release", RELEASES)
def test_the_shipped_terms_hold_for_all_bands_of_the_camera(release):
    terms = published_colour_terms(release).bands
    assert set(terms) == {"u", "g", "r", "i", "z", "Y", "VR"}
    assert {band for band, term in terms.items() if term.uncertain} == {"u", "Y", "VR"}
    for band, term in terms.items():
        steps = np.diff(np.polynomial.Polynomial(term.coefficients)(np.linspace(term.colour_min, term.colour_max, 50)))
        assert np.abs(steps).max() < 0.2, band  # no polynomial runs away inside its range


@pytest.mark.parametrize("release", RELEASES)
def test_the_shipped_y_is_what_the_relations_of_i_and_z_give(release):
    terms = published_colour_terms(release).bands
    assert composed_y(terms["i"], terms["z"]) == pytest.approx(terms["Y"].coefficients, abs=2e-6)


def test_a_star_without_colour_has_the_intercepts_of_the_relations_to_y():
    # i - z = 0 in Pan-STARRS' system means i = +0.0026, z = -0.0074 and Y = +0.0185 in the camera's, relative to it.
    flat = [ColourTerm(coefficients=(c,), colour_min=0.0, colour_max=2.0, scatter_mag=0.0) for c in (0.0026, -0.0074)]
    assert composed_y(*flat) == pytest.approx((0.0185, 0, 0, 0, 0, 0), abs=1e-9)


def test_the_transformation_of_a_survey_is_found_again():
    random = np.random.default_rng(2)
    colour = np.linspace(-0.5, 1.5, 80)
    survey = {"g": 15.0 + colour, "r": np.full(80, 15.0)}
    camera = survey["g"] + 0.01 + 0.3 * colour + random.normal(0.0, 0.005, 80)
    camera[colour > 1.0] += 1.0  # giants leave the relation
    coefficients, scatter, n = fit_rule(survey, camera, Rule("g", ("g", "r"), (0.0, 0.9)))
    assert coefficients == pytest.approx((0.01, 0.3), abs=0.006)
    assert scatter == pytest.approx(0.005, rel=0.3)
    assert n == 40


@pytest.mark.real_data
def test_the_cameras_throughputs_are_read(real_data, tmp_path):
    from astropy.table import QTable

    from tools.derive_colour_terms import read_throughputs

    wavelength = np.arange(3000.0, 4200.0, 10.0)
    table = {"wavelength": wavelength, "response": np.exp(-0.5 * ((wavelength - 3600) / 150) ** 2)}
    passband = QTable(table, units={"wavelength": "Angstrom"})
    passband.write(tmp_path / "decam2014-u.ecsv", format="ascii.ecsv")
    bands = read_throughputs(real_data / "instrument", tmp_path)
    centres = {name: np.average(GRID_ANGSTROM, weights=curve) for name, curve in bands.items()}
    for band, centre in (("u", 3600), ("g", 4800), ("r", 6420), ("i", 7810), ("z", 9170), ("Y", 9890), ("VR", 6300)):
        assert centres[band] == pytest.approx(centre, abs=110), band
