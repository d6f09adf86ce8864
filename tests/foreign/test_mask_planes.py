"""Mask planes of other pipelines: defects stay, what only describes a pixel does not."""

import numpy as np
import pytest

from imaging.bits import NO_WEIGHT, MaskBit
from imaging.errors import InputError
from imaging.foreign.mask_planes import HeaderCard, mask_of_codes, mask_of_plane

LSST = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "DETECTED_NEGATIVE": 6, "NO_DATA": 8}
LSST |= {"NOT_DEBLENDED": 10, "UNMASKEDNAN": 11, "INEXACT_PSF": 14, "REJECTED": 15, "SENSOR_EDGE": 16}
ZTF = ["AIRCRAFT/SATELLITE TRACK", "CONTAINS SEXTRACTOR DETECTION", "LOW RESPONSIVITY", "HIGH RESPONSIVITY", "NOISY"]
ZTF += ["GHOST FROM BRIGHT SOURCE", "RESERVED", "PIXEL SPIKE (POSSIBLE RAD HIT)", "SATURATED", "DEAD (UNRESPONSIVE)"]
ZTF += ["NAN (not a number)", "CONTAINS PSF-EXTRACTED SOURCE POSITION", "HALO FROM BRIGHT SOURCE"]
LEGACY = {
    "NPRIMARY": 1,
    "BRIGHT": 2,
    "SATUR_G": 4,
    "SATUR_R": 8,
    "SATUR_Z": 16,
    "ALLMASK_G": 32,
    "ALLMASK_R": 64,
    "MEDIUM": 2048,
}


def cards(**values):
    return tuple(HeaderCard(key, value, "") for key, value in values.items())


def bad_bits(cards_, header, n_bits, **options):
    """Return the bits whose pixels lose their weight."""
    plane = np.array([[1 << k for k in range(n_bits)]], np.int32)
    mask = mask_of_plane(plane, cards_, header, name="mask.fits", **options)
    return {k for k in range(n_bits) if mask[0, k] & int(NO_WEIGHT)}


def test_planes_of_lsst_are_known_by_their_names():
    named = cards(**{f"MP_{name}": bit for name, bit in LSST.items()})
    plane = np.array([[0, *(1 << bit for bit in LSST.values()), (1 << 5) | (1 << 1)]], np.int32)
    mask = mask_of_plane(plane, named, {}, name="calexp[MASK]")[0]
    bad = {name for name, value in zip(LSST, mask[1:], strict=False) if value & int(NO_WEIGHT)}
    assert bad == {"BAD", "SAT", "INTRP", "CR", "EDGE", "NO_DATA", "UNMASKEDNAN", "SENSOR_EDGE"}
    assert mask[0] == 0 and mask[-1] == int(MaskBit.SATURATE)
    with pytest.raises(InputError, match=r"MASK\] have no known meaning") as caught:
        mask_of_plane(np.array([[1 << 20]]), named, {}, name="calexp[MASK]")
    assert str(1 << 20) in str(caught.value) and "--mask-bits" in str(caught.value)


def test_masks_of_ztf_are_known_by_their_comments():
    named = tuple(HeaderCard(f"BIT{k:02d}", k, words) for k, words in enumerate(ZTF))
    # the bits that ZTF's own tools take for bad, but the ghost, which only loses its trust
    assert bad_bits(named, {}, len(ZTF)) == {0, 2, 3, 4, 7, 8, 9, 10}


@pytest.mark.parametrize(("band", "bad"), [("g", {4, 32}), ("r DECam SDSS", {8, 64}), ("", {4, 8, 16, 32, 64})])
def test_maskbits_of_the_legacy_surveys_concern_one_band(band, bad):
    header = {"FILTER": band} if band else {}
    assert {1 << k for k in bad_bits(cards(**LEGACY), header, 7)} == bad
    assert mask_of_plane(np.array([[2048 | 1 | 2]]), cards(**LEGACY), header, name="m")[0, 0] == 0


def test_masks_of_pan_starrs_are_known_by_their_names():
    names = {"DETECTOR": 1, "FLAT": 2, "SAT": 32, "SUSPECT": 128, "BURNTOOL": 256, "CR": 512, "STARCORE": 1024}
    words = {f"MSKNAM{k:02d}": name for k, name in enumerate(names)}
    values = {f"MSKVAL{k:02d}": value for k, value in enumerate(names.values())}
    plane = np.array([list(names.values())], np.int32)
    mask = mask_of_plane(plane, cards(**words, **values), {}, name="m")[0]
    assert [bool(v & int(NO_WEIGHT)) for v in mask] == [True, True, True, False, False, True, False]


@pytest.mark.parametrize("version", ["V4.8.2", "V3.5", "V3.5.0", "5.0", None])
def test_the_community_pipeline_writes_codes_since_version_3_5(version):
    header = {"PLVER": version} if version else {}
    meaning = {0: "", 1: "BPM", 2: "BPM", 3: "SATURATE", 4: "TRAIL", 5: "CRAY", 6: "BPM", 7: "SUSPECT", 8: "STREAK"}
    plane = np.array([list(meaning)], np.int32)
    mask = mask_of_plane(plane, (), header, name="c4d_1_ood_i_v1.fits")[0]
    assert mask.tolist() == [int(MaskBit[word]) if word else 0 for word in meaning.values()]
    assert np.array_equal(mask, mask_of_codes(plane)[0])


@pytest.mark.parametrize("version", ["V1.2", "V3.1", "V3.4.9", None])
def test_the_community_pipeline_wrote_bits_before(version):
    header = {"PLVER": version} if version else {}
    meaning = {1: "BPM", 2: "SATURATE", 4: "INTERP", 16: "CRAY", 64: "TRAIL", 128: "SUSPECT"}
    plane = np.array([[0, *meaning]], np.int32)
    mask = mask_of_plane(plane, (), header, name="c4d_1_ood_i_v1.fits")[0]
    assert mask.tolist() == [0, *(int(MaskBit[word]) for word in meaning.values())]
    assert mask[-1] & int(NO_WEIGHT) == 0  # the transient itself


def test_masks_of_space_telescopes_say_more_than_bad():
    assert bad_bits((), {"TELESCOP": "JWST"}, 16) == {0, 1, 9}
    assert bad_bits((), {"TELESCOP": "HST"}, 14) == set(range(14)) - {6, 10}


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (0,)])
def test_a_plain_mask_needs_no_names(values):
    plane = np.array([values], np.uint8)
    assert (mask_of_plane(plane, (), {}, name="m")[0] != 0).tolist() == [v != 0 for v in values]


@pytest.mark.parametrize("values", [(0, 32), (0, 1, 2), (0, 7), (0, 16, 48), (0, -5)])
def test_unknown_bits_are_refused_and_the_user_may_name_them(values):
    plane = np.array([values], np.int32)
    with pytest.raises(InputError, match="no known meaning"):
        mask_of_plane(plane, (), {}, name="m")
    told = mask_of_plane(plane, (), {}, name="m", defects=16)[0]
    assert (told != 0).tolist() == [bool(v & 16) for v in values]
    assert (mask_of_plane(plane, (), {}, name="m", defects=0)[0] != 0).tolist() == [v != 0 for v in values]


def test_a_mask_of_floats_holds_whole_numbers():
    plane = np.array([[0.0, 1.0, np.nan]], np.float32)
    assert (mask_of_plane(plane, (), {}, name="m")[0] != 0).tolist() == [False, True, True]
    with pytest.raises(InputError, match="no integers"):
        mask_of_plane(plane + np.float32(0.3), (), {}, name="m")
