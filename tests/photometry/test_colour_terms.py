"""Colour terms: published values, ranges, errors, files."""

import json

import numpy as np
import pyarrow as pa
import pytest

from imaging.errors import InputError
from imaging.io.colour_terms import read_colour_terms, write_colour_terms
from imaging.photometry.colours import ColourTerm, ColourTerms, band_magnitudes, gaia_release, published_colour_terms
from imaging.schemas.reference import REFERENCE_STARS
from imaging.tables import make_table


def stars(g, bp, rp, variable=None):
    n = len(g)
    columns = {
        field.name: np.zeros(n) if pa.types.is_floating(field.type) else np.arange(n)
        for field in REFERENCE_STARS
        if field.name != "variable"
    }
    columns |= {
        "phot_g_mean_mag": pa.array(g, pa.float32()),
        "phot_bp_mean_mag": pa.array(bp, pa.float32()),
        "phot_rp_mean_mag": pa.array(rp, pa.float32()),
        "variable": variable or [False] * n,
    }
    return make_table(columns, REFERENCE_STARS)


@pytest.mark.parametrize(("band", "mag"), [("g", 15.36), ("r", 14.93), ("i", 14.82), ("z", 14.79)])
def test_the_sun_has_its_colours(band, mag):
    # A star of BP - RP = 0.82 is a G2 dwarf: g - r = 0.43, r - i = 0.11, i - z = 0.03 in DECam's system.
    table = stars([15.0], [15.50], [14.68])
    assert band_magnitudes(table, band, published_colour_terms()).mag[0] == pytest.approx(mag, abs=0.02)


@pytest.mark.parametrize(("epoch", "release"), [(2015.5, "dr2"), (2016.0, "dr3"), (None, "dr3")])
def test_the_release_is_known_by_the_epoch_of_the_positions(epoch, release):
    table = stars([15.0] if epoch else [], [15.5] if epoch else [], [14.7] if epoch else [])
    number = table.schema.get_field_index("ref_epoch")
    table = table.set_column(number, table.schema.field(number), pa.array([epoch] if epoch else [], pa.float64()))
    assert gaia_release(table) == release


@pytest.mark.parametrize(("band", "low", "high"), [("g", 15, 35), ("r", 10, 25), ("i", 0, 0), ("z", 3, 30)])
def test_each_release_has_terms_of_its_own(band, low, high):
    # Between the releases Gaia's G became 10 to 30 mmag brighter for stars of these colours.
    colour = np.linspace(0.5, 2.0, 30)
    second, third = (
        np.polynomial.Polynomial(published_colour_terms(release).bands[band].coefficients)(colour)
        for release in ("dr2", "dr3")
    )
    difference = 1000 * (third - second)
    assert difference.min() >= low - 1e-9
    assert difference.max() <= high + 1e-9


def test_bands_grow_redder_with_colour():
    table = stars([15.0, 15.0], [15.4, 15.9], [14.7, 14.2])
    terms = published_colour_terms()
    mags = {band: band_magnitudes(table, band, terms).mag for band in ("g", "r", "i", "z", "Y")}
    for first, second in (("g", "r"), ("r", "i"), ("i", "z"), ("z", "Y")):
        colour = mags[first] - mags[second]
        assert colour[1] > colour[0]


def test_stars_out_of_range_variable_or_without_colour_are_not_used():
    table = stars(
        [15.0, 15.0, 15.0, 15.0], [14.9, 18.5, None, 15.5], [14.8, 14.0, 14.7, 14.7], [False, False, False, True]
    )
    result = band_magnitudes(table, "i", published_colour_terms())
    assert not result.usable.any()
    assert np.isnan(result.mag).all()


@pytest.mark.parametrize(("band", "mag", "tolerance"), [("u", 16.42, 0.1), ("VR", 14.95, 0.03)])
def test_the_sun_in_the_bands_of_synthetic_terms(band, mag, tolerance):
    # Willmer (2018, ApJS 236, 47): the Sun has u - g = 1.0 to 1.1 in DECam's system; VR lies between g and r.
    table = stars([15.0], [15.50], [14.68])
    terms = published_colour_terms()
    assert band_magnitudes(table, band, terms).mag[0] == pytest.approx(mag, abs=tolerance)
    assert terms.bands[band].uncertain


@pytest.mark.parametrize("band", ["N964", "N708"])
def test_bands_without_terms_say_so(band):
    result = band_magnitudes(stars([15.0], [15.5], [14.7]), band, published_colour_terms())
    assert not result.usable.any()


def test_error_holds_the_scatter_and_the_slope():
    terms = ColourTerms(bands={"i": ColourTerm(coefficients=(0.0, -2.0), colour_min=0, colour_max=2, scatter_mag=0.03)})
    table = stars([15.0], [15.5], [14.7])
    for name, error in (("g", 0.004), ("bp", 0.01), ("rp", 0.02)):
        index = table.schema.get_field_index(f"phot_{name}_mean_mag_error")
        table = table.set_column(index, table.schema.field(index), pa.array([error], pa.float32()))
    expected = np.sqrt(0.004**2 + 4 * (0.01**2 + 0.02**2) + 0.03**2)
    assert band_magnitudes(table, "i", terms).mag_error[0] == pytest.approx(expected, rel=1e-3)


def test_file_round_trip_and_damage(tmp_path):
    path = tmp_path / "colour_terms.json"
    write_colour_terms(path, published_colour_terms())
    assert read_colour_terms(path) == published_colour_terms()
    document = json.loads(path.read_text())
    document["bands"]["g"]["scatter_mag"] = "much"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"bands\.g\.scatter_mag"):
        read_colour_terms(path)
    with pytest.raises(InputError, match="missing"):
        read_colour_terms(tmp_path / "absent.json")
