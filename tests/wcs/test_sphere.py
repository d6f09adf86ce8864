import numpy as np
import pytest

from imaging.detector.ccds import NX, NY, SCIENCE_CCDS
from imaging.detector.distortion import seed_wcs
from imaging.wcs.sphere import footprint, offset_position, overlap_fraction, separation_deg


def square(ra, dec, half_arcsec):
    east = np.array([-1, 1, 1, -1]) * half_arcsec
    north = np.array([-1, -1, 1, 1]) * half_arcsec
    return np.stack(offset_position(ra, dec, east, north), axis=-1)


@pytest.mark.parametrize(("ra", "dec"), [(150.0, -30.0), (0.0, 0.0), (359.999, 60.0), (77.0, -89.99), (0.0, 90.0)])
def test_overlap_of_shifted_squares(ra, dec):
    one = square(ra, dec, 500.0)
    for shift, share in ((0.0, 1.0), (250.0, 0.75), (500.0, 0.5), (999.0, 0.001), (1500.0, 0.0)):
        east = np.array([-1, 1, 1, -1]) * 500.0 + shift
        north = np.array([-1, -1, 1, 1]) * 500.0
        other = np.stack(offset_position(ra, dec, east, north), axis=-1)
        assert overlap_fraction(one, other) == pytest.approx(share, abs=1e-4)


def test_a_footprint_that_crosses_without_a_corner_inside_still_overlaps():
    tall = np.stack(
        offset_position(10.0, -20.0, np.array([-100, 100, 100, -100]), np.array([-900, -900, 900, 900])), -1
    )
    wide = np.stack(
        offset_position(10.0, -20.0, np.array([-900, 900, 900, -900]), np.array([-100, -100, 100, 100])), -1
    )
    assert overlap_fraction(tall, wide) == pytest.approx(1 / 9, rel=1e-3)


def test_science_ccds_do_not_overlap_each_other():
    footprints = [footprint(seed_wcs(c, 60.0, -50.0), NX, NY) for c in SCIENCE_CCDS]
    assert all(overlap_fraction(a, b) == 0 for i, a in enumerate(footprints) for b in footprints[:i])
    total = sum(abs(seed_wcs(c).pixel_area_arcsec2(1024, 2048)) * NX * NY for c in SCIENCE_CCDS) / 3600**2
    assert total == pytest.approx(2.77, abs=0.05)  # square degrees of live area


def test_separation_is_exact_from_microarcseconds_to_opposite():
    assert separation_deg(10, 80, 10, 80 + 1e-9) == pytest.approx(1e-9, rel=1e-4)
    assert separation_deg(0, 0, 180, 0) == pytest.approx(180)
    assert separation_deg(359.5, 0, 0.5, 0) == pytest.approx(1)
