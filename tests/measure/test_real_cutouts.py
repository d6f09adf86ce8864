"""Real DECam pixels: what is known of the Legacy Surveys' cut-outs is reproduced."""

import numpy as np
import pytest

from bench.real_pixels import CONSTANT_STAR_MAG, read_cut_outs
from imaging.photometry.colours import band_magnitudes, published_colour_terms

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def cut_outs(real_data):
    found = read_cut_outs(real_data / "decam_epochs")
    assert len(found) == 9
    return found


def test_offsets_from_gaia_are_those_of_the_survey(cut_outs):
    for cut_out in cut_outs:
        assert cut_out.stars_inside().size == 3
        east, north = cut_out.offset_arcsec()
        assert east == pytest.approx(-cut_out.row["ccdraoff"], abs=0.020)
        # Differential refraction moves the blue band along declination.
        assert north == pytest.approx(-cut_out.row["ccddecoff"], abs=0.042 if cut_out.band == "g" else 0.021)


def test_the_constant_star_keeps_its_magnitude(cut_outs):
    for cut_out in cut_outs:
        assert cut_out.constant_star_mag() == pytest.approx(CONSTANT_STAR_MAG[cut_out.expnum], abs=0.02)


def test_weights_state_the_noise_of_the_sky(cut_outs):
    for cut_out in cut_outs:
        assert cut_out.noise_over_stated() == pytest.approx(1.0, abs=0.04)


def test_masks_are_those_of_the_codes(cut_outs):
    assert all(cut_out.masks_agree() for cut_out in cut_outs)
    assert sum(int((cut_out.image.mask != 0).sum()) for cut_out in cut_outs) > 500
    spoilt = cut_outs[0].image.mask
    kept = spoilt[0, 0]
    spoilt[0, 0] ^= np.int16(4)
    assert not cut_outs[0].masks_agree()
    spoilt[0, 0] = kept


def test_zero_points_agree_with_gaia_within_the_stated_error(cut_outs):
    """In z the constant star, an M dwarf, reproduces the survey's zero points; in r the colour term is steep there."""
    terms = published_colour_terms("dr2")
    for cut_out in cut_outs:
        if cut_out.band == "g":
            continue
        star = cut_out.constant_star()
        magnitudes = band_magnitudes(cut_out.gaia, cut_out.band, terms)
        assert magnitudes.usable[star]
        difference = CONSTANT_STAR_MAG[cut_out.expnum] - magnitudes.mag[star]
        assert abs(difference) < {"z": 0.04, "r": 0.12}[cut_out.band]
