"""Which detections on a cut-out are the candidate's, by the width of the broader image."""

import numpy as np
import pytest

from bench.real_stamps import StampPair, _loaded, is_elsewhere
from imaging.difference.engine import UserImage
from imaging.difference.prepare import moffat_psf

AWAY = np.array([2.0, 7.9, 9.0, 12.0, 46.0])


@pytest.mark.parametrize(
    ("science", "template", "elsewhere"),
    [(12.7, 6.5, [0, 0, 0, 0, 1]), (4.3, 9.2, [0, 0, 0, 1, 1]), (4.3, 4.7, [0, 0, 1, 1, 1])],
)
def test_a_detection_is_another_source_beyond_the_broader_fwhm_and_eight_pixels(science, template, elsewhere):
    z = {"ra": 1.0, "dec": 2.0, "band": ["i"], "mjd": [60000.0]}
    loaded = _loaded(np.zeros((121, 121), np.float32), z, 0, 30.0)
    images = [UserImage(loaded, moffat_psf(fwhm)) for fwhm in (science, template)]
    assert is_elsewhere(AWAY, StampPair("C1", 0, *images, 60.0, 60.0, True)).tolist() == elsewhere
