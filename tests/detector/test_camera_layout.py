"""The layout of the camera, its distortion by astropy, and response curves by numpy."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from imaging.detector.ccds import CCDS, NX, NY, PIXEL_SCALE_ARCSEC, SCIENCE_CCDS, science_ccd
from imaging.detector.crosstalk import CrosstalkMatrix, observatory_crosstalk, parse_crosstalk
from imaging.detector.distortion import seed_wcs
from imaging.detector.linearity import LinearityTable
from imaging.detector.sections import RAW_NX, parse_section, raw_sections
from imaging.detector.status import FAULTS, bad_amplifiers, dead_ccds, faults_on, working_ccds
from imaging.errors import InputError


def sky(ccd, x, y, ra=100.0, dec=-30.0):
    """Return where astropy puts a pixel (0-based) of a CCD."""
    header = fits.Header(seed_wcs(ccd, ra, dec).to_header())
    header["NAXIS"] = 2
    return SkyCoord(*WCS(header).all_pix2world(x, y, 0), unit="deg")


@pytest.mark.parametrize("ccd", [1, 7, 28, 31, 35, 44, 60, 62])
def test_a_ccd_lies_on_the_sky_where_its_place_on_the_focal_plane_says(ccd):
    """x runs to the south and y to the east; the gaps between the CCDs, left out there, are up to a tenth."""
    centre = SkyCoord(100.0 * u.deg, -30.0 * u.deg)
    middle = sky(ccd, (NX - 1) / 2, (NY - 1) / 2)
    x, y = science_ccd(ccd).focal_plane_centre
    east, north = (v.arcsec for v in centre.spherical_offsets_to(middle))
    gap = 0.1 * np.hypot(x, y) * PIXEL_SCALE_ARCSEC + 30.0
    assert (east, north) == pytest.approx((y * PIXEL_SCALE_ARCSEC, -x * PIXEL_SCALE_ARCSEC), abs=gap)


def test_ccds_of_the_north_lie_on_the_other_side_of_those_of_the_south():
    for number in SCIENCE_CCDS:
        x, y = science_ccd(number).focal_plane_centre
        mirrored = science_ccd(63 - number).focal_plane_centre
        assert (x, y) == pytest.approx((-mirrored[0], -mirrored[1]), abs=1.0)
    sides = {CCDS[n].detpos[0]: np.sign(CCDS[n].focal_plane_centre[0]) for n in (20, 45)}
    assert sides["N"] == -sides["S"]
    assert all((CCDS[n].detpos[0] == "S") == (n <= 31) for n in SCIENCE_CCDS)


def test_pixels_measure_a_quarter_of_an_arcsecond_everywhere():
    for ccd in SCIENCE_CCDS[::6]:
        here, right, above = sky(ccd, 1000, 2000), sky(ccd, 1001, 2000), sky(ccd, 1000, 2001)
        assert here.separation(right).arcsec == pytest.approx(PIXEL_SCALE_ARCSEC, rel=0.01)
        assert here.separation(above).arcsec == pytest.approx(PIXEL_SCALE_ARCSEC, rel=0.01)
        # x to the south, y to the east.
        assert right.dec < here.dec
        assert above.ra > here.ra


def test_the_tangent_point_is_the_same_place_on_the_sky_for_all_ccds():
    places = [sky(ccd, CCDS[ccd].crpix[0] - 1, CCDS[ccd].crpix[1] - 1) for ccd in SCIENCE_CCDS]
    offsets = [place.separation(SkyCoord(100.0 * u.deg, -30.0 * u.deg)).arcsec for place in places]
    assert max(offsets) < 60.0


@pytest.mark.parametrize("ccd", [3, 33, 62])
def test_the_parts_of_a_raw_extension_tile_it_without_overlap(ccd):
    sections = raw_sections(CCDS[ccd])
    hits = np.zeros((NY + 50, RAW_NX), int)
    for name in "AB":
        for part in ("DATASEC", "BIASSEC", "PRESEC", "POSTSEC"):
            hits[sections[part + name].slices] += 1
    assert hits.max() == 1
    # What no keyword names are the corners beside the post-scan rows.
    assert (hits == 0).sum() == 50 * 2 * (6 + 50)
    assert hits[sections["TRIMSEC"].slices].all()
    assert sections["TRIMSEC"].shape == (NY, NX)
    left = sections["DATASECA" if CCDS[ccd].a_is_left else "DATASECB"]
    assert left.slices[1] == slice(56, 56 + 1024)
    for name in "AB":
        columns = CCDS[ccd].amplifier(name).columns
        assert sections[f"CCDSEC{name}"].slices[1] == columns
        assert sections[f"DETSEC{name}"].x0 - sections["DETSEC"].x0 == columns.start


@pytest.mark.parametrize(
    ("text", "slices"),
    [
        ("[57:2104,51:4146]", (slice(50, 4146), slice(56, 2104))),
        ("[2048:1025,4096:1]", (slice(0, 4096), slice(1024, 2048))),
        (" [3:3, 9:9] ", (slice(8, 9), slice(2, 3))),
    ],
)
def test_sections_are_read_as_astropy_cuts_them(text, slices):
    section = parse_section(text)
    assert section.slices == slices
    assert str(section) == text.replace(" ", "")
    image = np.arange(4200 * 2200).reshape(4200, 2200)
    assert image[section.slices].shape == section.shape


@pytest.mark.parametrize("text", ["", "[1:2]", "[1:2,3:4", "[a:2,3:4]", "1:2,3:4"])
def test_what_is_no_section_is_refused(text):
    with pytest.raises(InputError, match="section"):
        parse_section(text)


def test_corrections_bring_the_signal_to_the_linear_scale():
    adu = np.array([10.5, 100.0, 1000.0, 30000.25])
    table = LinearityTable(adu, {"A": adu * 1.02, "B": adu + 5.0})
    first, corrections = table.corrections("A")
    assert first == 11
    assert corrections.size == 30000 - 11 + 1
    grid = first + np.arange(corrections.size)
    assert corrections == pytest.approx(0.02 * grid, rel=1e-4)
    assert table.corrections("B")[1] == pytest.approx(np.full(corrections.size, 5.0), abs=2e-3)


@pytest.mark.parametrize("adu", [[1.0], [1.0, 1.0], [3.0, 2.0, 5.0]])
def test_a_table_that_does_not_rise_is_refused(adu):
    with pytest.raises(InputError, match="not increasing"):
        LinearityTable(np.array(adu), {})


def test_crosstalk_is_read_word_by_word():
    matrix = parse_crosstalk(
        "# victim source x x_err src_nl poly\n\nccd25B ccd25A 1.34e-04 1.13e-05 4.078e+04 1.5e-04 -7e-08 6e-12 # own\n"
        "ccd25A ccd26B -2e-6 0 5e4\nccd03A ccd02B 1e-6 0 5e4\nccd03A ccd02A 0.99e-6 0 5e4\n"
    )
    first, second, third = matrix.terms
    assert (first.victim, first.source) == ((25, "B"), (25, "A"))
    assert (first.coefficient, first.onset_adu) == (1.34e-4, 4.078e4)
    assert first.polynomial == (1.5e-4, -7e-8, 6e-12)
    assert (second.coefficient, second.polynomial, third.coefficient) == (-2e-6, (), 1e-6)
    assert matrix.sources_of(25) == (26,)
    assert matrix.into(25) == (first, second)
    assert CrosstalkMatrix(()).sources_of(25) == ()
    # The published victims receive a few times 1e-4 from the other half of their own CCD.
    own = [abs(t.coefficient) for t in observatory_crosstalk().terms if t.victim[0] == t.source[0]]
    assert 5e-5 < np.median(own) < 1e-3


@pytest.mark.parametrize(
    ("night", "dead"),
    [(20121106, set()), (20121107, {61}), (20131129, {61}), (20131130, {2, 61}), (20161230, {2, 61}), (20161231, {61})],
)
def test_faults_hold_on_their_first_and_last_nights(night, dead):
    assert dead_ccds(night) == dead
    assert set(working_ccds(night)) == set(SCIENCE_CCDS) - dead
    assert {f.ccdnum for f in faults_on(night) if f.amplifier is None} == dead
    assert bad_amplifiers(night, 31) == ("A",)
    assert all(fault.reason for fault in FAULTS)


def test_amplifiers_have_the_figures_of_decam():
    amplifiers = [a for n in SCIENCE_CCDS for a in CCDS[n].amplifiers]
    assert len(amplifiers) == 124
    assert np.median([a.gain for a in amplifiers]) == pytest.approx(4.0, abs=0.5)
    assert all(3.0 < a.read_noise_electrons < 15.0 for a in amplifiers)
    assert all(2e4 < a.saturation_adu < 7e4 for a in amplifiers)
    assert [CCDS[n].ny for n in (1, 63)] == [4096, 2048]
    with pytest.raises(InputError, match="out of range"):
        science_ccd(63)
