"""The corners of an image under the survey's names, where right ascension does not behave."""

import numpy as np
import pytest

from imaging.detector.distortion import seed_wcs
from imaging.wcs.header import corner_keywords

SHAPE = (4096, 2048)


def test_an_image_across_ra_zero_has_its_lower_edge_in_the_west():
    keywords = corner_keywords(seed_wcs(28, 0.0, -30.0), SHAPE)
    corners = np.array([keywords[f"RAC{n}"] for n in range(1, 5)])
    if np.ptp(corners) < 180.0:
        keywords = corner_keywords(seed_wcs(28, -float(np.median(corners)) % 360.0, -30.0), SHAPE)
    assert keywords["CROSSRA0"] == "Y"
    assert 359.0 < keywords["RACMIN"] < 360.0
    assert 0.0 < keywords["RACMAX"] < 1.0


@pytest.mark.parametrize("dec", [-30.0, 60.0])
def test_elsewhere_the_extremes_are_those_of_the_corners(dec):
    wcs = seed_wcs(12, 150.0, dec)
    keywords = corner_keywords(wcs, SHAPE)
    ra, found_dec = wcs.pixel_to_sky([0, 2047, 2047, 0], [0, 0, 4095, 4095])
    assert keywords["CROSSRA0"] == "N"
    assert (keywords["RACMIN"], keywords["RACMAX"]) == pytest.approx((ra.min(), ra.max()), abs=1e-7)
    assert keywords["DECC3"] == pytest.approx(found_dec[2], abs=1e-7)
