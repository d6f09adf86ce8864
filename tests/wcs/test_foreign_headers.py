"""Header after header: sky positions of the corners are those of astropy, in ICRS."""

import warnings

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_skycoord
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.errors import InputError
from imaging.wcs.foreign import AstropyWcs, image_header, is_exact, wcs_of_header
from imaging.wcs.tpv import TpvWcs

NY, NX = 2046, 1022
CORNERS = np.array([[0, 0], [NX - 1, 0], [NX - 1, NY - 1], [0, NY - 1], [NX / 2, NY / 2]], float).T
SCALE = 0.2637 / 3600


def by_astropy(header):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        return pixel_to_skycoord(*CORNERS, WCS(header)).icrs


def small(size):
    return st.floats(-size, size, allow_nan=False)


@st.composite
def headers(draw):  # noqa: C901 (one choice after the other)
    """Draw a header of any of the forms that telescopes and pipelines write."""
    projection = draw(st.sampled_from(["TAN", "TAN", "TPV", "SIN", "ZEA", "ARC", "STG", "TAN-SIP"]))
    header = fits.Header({"NAXIS": 2, "NAXIS1": NX, "NAXIS2": NY})
    suffix = projection if projection != "TAN-SIP" or draw(st.booleans()) else "TAN"
    header["CTYPE1"], header["CTYPE2"] = f"RA---{suffix}", f"DEC--{suffix}"
    header["CRVAL1"], header["CRVAL2"] = draw(st.floats(0, 359.99)), draw(st.floats(-88, 88))
    header["CRPIX1"], header["CRPIX2"] = draw(st.floats(-4000, 5000)), draw(st.floats(-4000, 5000))
    turn, flip = np.radians(draw(st.floats(-180, 180))), draw(st.sampled_from([-1, 1]))
    matrix = SCALE * np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * [[flip], [1]]
    form = draw(st.sampled_from(["CD", "PC", "CROTA"]))
    for i in (1, 2):
        for j in (1, 2):
            if form == "CD":
                header[f"CD{i}_{j}"] = matrix[i - 1, j - 1]
            elif form == "PC":
                header[f"PC{i}_{j}"] = matrix[i - 1, j - 1] / SCALE
        if form != "CD":
            header[f"CDELT{i}"] = SCALE * (-1 if form == "CROTA" and i == 1 else 1)
    if form == "CROTA":
        header["CROTA2"] = np.degrees(turn)
    if projection == "TPV":
        for axis in (1, 2):  # astropy has no default for the linear term
            for term in {1} | draw(st.sets(st.integers(0, 16), max_size=6)):
                size = {0: 1e-3, 1: 0.0}.get(term, 2e-3)
                header[f"PV{axis}_{term}"] = (1.0 if term == 1 else 0.0) + draw(small(size))
    if projection == "TAN-SIP":
        header["A_ORDER"] = header["B_ORDER"] = 3
        for name in ("A_2_0", "A_1_1", "B_0_2", "B_1_1"):
            header[name] = draw(small(1e-6))
        header["A_3_0"] = draw(small(1e-10))
    if draw(st.booleans()):
        header["LONPOLE"] = draw(st.sampled_from([180.0, 0.0, 150.0]))
    if draw(st.booleans()):
        header["CUNIT1"] = header["CUNIT2"] = "deg"
    system = draw(st.sampled_from([None, "ICRS", "FK5", "FK5", "FK4"]))
    if system:
        header["RADESYS"] = system
    equinox = draw(st.sampled_from([None, 2000.0, 2017.63, 1950.0]))
    if equinox:
        header["EQUINOX"] = equinox
    return header


@settings(max_examples=120, deadline=None)
@given(headers())
def test_corners_are_where_astropy_puts_them(header):
    try:
        found = wcs_of_header(dict(header), (NY, NX))
    except InputError as error:  # undefined or ambiguous on the image, by name
        assert "header" in str(error)
        return
    expected = by_astropy(header)
    ra, dec = found.pixel_to_sky(*CORNERS)
    distance = np.hypot((ra - expected.ra.deg + 180) % 360 - 180, 0) * np.cos(np.radians(dec))
    assert np.hypot(distance, dec - expected.dec.deg).max() * 3600 < 1e-4  # arcsec
    assert found.sky_to_pixel(expected.ra.deg, expected.dec.deg) == pytest.approx(CORNERS, abs=1e-3)


def plain(**cards):
    header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.2, "CRPIX1": 500.0}
    header |= {"CRPIX2": 900.0, "CD1_1": -SCALE, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": SCALE, "RADESYS": "ICRS"}
    return {k: v for k, v in (header | cards).items() if v is not None}


TPV = {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"}


@pytest.mark.parametrize(
    ("cards", "exact"),
    [
        ({}, True),
        (TPV | {"PV1_1": 1.0, "PV1_7": 0.008, "PV2_1": 1.0}, True),
        (TPV | {"PV1_3": 0.0, "PV1_17": 0.0, "CUNIT1": "deg", "LONPOLE": 180.0, "EQUINOX": 2000.0}, True),
        ({"RADESYS": None}, True),
        ({"RADESYS": None, "EQUINOX": 2000.0}, False),
        ({"RADESYS": "FK5", "EQUINOX": 2017.63}, False),
        ({"RADECSYS": "FK5"}, False),
        ({"PV1_1": 1.0, "PV1_7": 0.008}, False),
        ({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-6}, False),
        (TPV | {"PV1_13": 1e-3}, False),
        (TPV | {"PV1_3": 1e-3}, False),
        ({"LONPOLE": 150.0}, False),
        ({"CUNIT1": "arcsec"}, False),
        ({"PC1_1": 1.0}, False),
        ({"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN"}, False),
    ],
)
def test_only_what_the_fast_class_implements_goes_to_it(cards, exact):
    assert is_exact(plain(**cards)) is exact
    if exact:
        assert isinstance(wcs_of_header(plain(**cards), (NY, NX)), TpvWcs)


def test_tan_with_pv_terms_means_tpv():
    """Old SCAMP headers; read as TAN they are 12 arcsec off."""
    terms = {"PV1_1": 1.0, "PV1_7": 8e-3, "PV1_9": 8e-3, "PV2_1": 1.0, "PV2_7": 8e-3, "PV2_9": 8e-3, "CRPIX2": 9000.0}
    old, new = (wcs_of_header(plain(**terms, **kind), (NY, NX)) for kind in ({}, TPV))
    assert isinstance(old, AstropyWcs) and isinstance(new, TpvWcs)
    assert np.ravel(old.pixel_to_sky(*CORNERS)) == pytest.approx(np.ravel(new.pixel_to_sky(*CORNERS)), abs=1e-9)


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"RADESYS": "GAPPT"}, "reference system"),
        ({"CTYPE1": "RA---TNX", "CTYPE2": "DEC--TNX", "WAT1_001": "wtype=tnx"}, "distortion"),
        ({"WAT1_001": 'wtype=tnx axtype=ra lngcor = "3. 4. 4. 2."'}, "distortion.*WAT1_001"),
        ({"CPDIS1": "Lookup"}, "distortion"),
        ({"PCA1X2Y0": 1e-3, "PCA2X0Y2": 0.0, "NPLYTERM": 2}, "distortion.*PCA1X2Y0"),
        ({"CTYPE1": "ELON-TAN", "CTYPE2": "ELAT-TAN"}, "'ELON-TAN'"),
        ({"RADESYS": "FK5", "EQUINOX": "now"}, "EQUINOX of the header is no year"),
        ({"RADESYS": "FK5", "CRVAL1": "150,0"}, "CRVAL1 of the header is no number"),
        ({"RADESYS": "FK5", "CRVAL1": "10:00:00"}, "CRVAL1 of the header is no number"),
        ({"RADESYS": "FK5", "CRVAL2": np.nan}, "CRVAL2 of the header is no number"),
        ({"RADESYS": "FK5", "CRVAL2": None}, "no CRVAL2"),
        ({"RADESYS": "FK5", "CRPIX1": None}, "no CRPIX1"),
        ({f"CD{i}_{j}": None for i in (1, 2) for j in (1, 2)}, "no CD1_1"),
        ({"A_2_0": 1e-6, "B_0_2": 1e-6}, "no A_ORDER, B_ORDER"),
        ({"CUNIT1": "furlong"}, "CUNIT1"),
        ({"PC1_1": 0.9, "PC2_2": 1.0, "CDELT1": -SCALE, "CDELT2": SCALE}, "CD matrix and another PC matrix"),
        ({"CD1_1": 0.0, "CD2_2": 0.0, "CUNIT1": "deg", "LONPOLE": 150.0}, "not understood|singular"),
    ],
)
def test_what_astropy_would_read_wrongly_is_refused_by_name(cards, words):
    with pytest.raises(InputError, match=words):
        wcs_of_header(plain(**cards), (NY, NX))


@pytest.mark.parametrize(
    ("cards", "same"),
    [
        ({"RADESYS": "FK5", "EQUINOX": "2017.5"}, {"RADESYS": "FK5", "EQUINOX": 2017.5}),
        ({"RADESYS": "fk5", "EQUINOX": "J2017.5"}, {"RADESYS": "FK5", "EQUINOX": 2017.5}),
        ({"RADESYS": None, "EQUINOX": "B1950.0"}, {"RADESYS": "FK4", "EQUINOX": 1950.0}),
        ({"RADESYS": None, "EQUINOX": "J2000"}, {"RADESYS": "FK5", "EQUINOX": 2000.0}),
        ({"RADESYS": "J2000"}, {"RADESYS": "FK5", "EQUINOX": 2000.0}),
        ({"RADESYS": "icrs", "EQUINOX": "unknown"}, {"RADESYS": "ICRS"}),
        ({"RADESYS": "FK5", "CRVAL1": "150.0", "CD1_1": f"{-SCALE}"}, {"RADESYS": "FK5"}),
        (TPV | {"PV1_5": 0.01, "PV1_17": 1e-3}, TPV | {"PV1_1": 1.0, "PV2_1": 1.0, "PV1_5": 0.01, "PV1_17": 1e-3}),
        (
            TPV | {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "PV1_5": 0.01},
            TPV | {"PV1_1": 1.0, "PV2_1": 1.0, "PV1_5": 0.01},
        ),
        ({"CRVAL2": 90.0, "CRPIX2": 500.0}, {"CRVAL2": 90.0, "CRPIX2": 500.0, "LONPOLE": 0.0}),
    ],
)
def test_what_is_written_in_another_way_means_the_same(cards, same):
    """Numbers as texts, names of systems, defaults of TPV (its linear terms are one) and of LONPOLE at the pole."""
    expected = by_astropy(fits.Header(plain(**same)))
    ra, dec = wcs_of_header(plain(**cards), (NY, NX)).pixel_to_sky(*CORNERS)
    assert SkyCoord(ra, dec, unit="deg").separation(expected).arcsec.max() < 1e-6


@pytest.mark.parametrize("axes", [("GLON", "GLAT"), ("GLAT", "GLON"), ("DEC-", "RA--")])
def test_other_axes_are_those_of_a_tangent_plane_by_hand(axes):
    """astropy's pixel_to_skycoord exchanges the pixels of such headers; its frames are right."""
    longitude = axes.index(next(a for a in axes if a in ("GLON", "RA--")))
    kinds = {f"CTYPE{k + 1}": f"{axis}-TAN" for k, axis in enumerate(axes)}
    centre = {"CRVAL1": 60.0, "CRVAL2": -20.0} if longitude == 0 else {"CRVAL1": -20.0, "CRVAL2": 60.0}
    wcs = wcs_of_header(plain(**kinds, **centre, CD1_2=1e-5), (NY, NX))
    offsets = np.radians([[-SCALE, 1e-5], [0.0, SCALE]]) @ (CORNERS + 1 - [[500.0], [900.0]])
    xi, eta = offsets if longitude == 0 else offsets[::-1]
    dec0 = np.radians(-20.0)
    down = np.cos(dec0) - eta * np.sin(dec0)
    lon, lat = (
        60.0 + np.degrees(np.arctan2(xi, down)),
        np.degrees(np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(down, xi))),
    )
    expected = SkyCoord(lon, lat, unit="deg", frame="icrs" if "RA--" in axes else "galactic").icrs
    ra, dec = wcs.pixel_to_sky(*CORNERS)
    assert SkyCoord(ra, dec, unit="deg").separation(expected).arcsec.max() < 1e-6
    assert wcs.sky_to_pixel(ra, dec) == pytest.approx(CORNERS, abs=1e-6)


def test_coordinates_are_those_of_the_primary_or_of_the_extension_never_of_both():
    primary = {"CD1_1": 1e-4, "CD1_2": 3e-5, "CD2_1": -2e-5, "CD2_2": 1e-4, "GAIN": 4.0, "RADESYS": "FK5"}
    extension = {k: v for k, v in plain(RADESYS=None).items() if not k.startswith("CD")}
    extension |= {"PC1_1": -1.0, "PC2_2": 1.0, "CDELT1": SCALE, "CDELT2": SCALE}
    joined = image_header(primary, extension)
    assert joined["GAIN"] == 4.0 and "CD1_1" not in joined and "RADESYS" not in joined
    ra, dec = wcs_of_header(joined, (NY, NX)).pixel_to_sky(*CORNERS)
    expected = by_astropy(fits.Header(extension))
    assert ra == pytest.approx(expected.ra.deg, abs=1e-8) and dec == pytest.approx(expected.dec.deg, abs=1e-8)
    assert image_header(primary, extension | {"INHERIT": True})["RADESYS"] == "FK5"
    assert image_header(plain(), {"GAIN": 2.0})["CD1_1"] == -SCALE


def test_a_shift_moves_the_content_and_cards_are_kept():
    wcs = wcs_of_header(plain(RADESYS="FK5", EQUINOX=1975.0), (NY, NX))
    moved = wcs.shifted(3.0, -2.0)
    there = moved.pixel_to_sky(CORNERS[0] + 3.0, CORNERS[1] - 2.0)
    assert np.ravel(there) == pytest.approx(np.ravel(wcs.pixel_to_sky(*CORNERS)), abs=1e-10)
    assert wcs.to_header()["RADESYS"] == "FK5" and wcs.to_header()["CRPIX1"] == 500.0
    area = float(wcs.pixel_area_arcsec2(500.0, 900.0))
    assert area == pytest.approx(0.2637**2, rel=1e-6)
