import numpy as np
import pytest

from imaging.bits import MaskBit
from imaging.detector.distortion import seed_wcs
from imaging.quality.settings import VerifySettings
from imaging.quality.verify import verify_ccd
from imaging.schemas.catalogue import CATALOGUE
from imaging.schemas.zeropoints import ZeropointFlag
from imaging.tables import make_table
from imaging.wcs.sphere import footprint

SETTINGS = VerifySettings()
SHAPE = (4096, 2048)


def catalogue(n_stars, n_galaxies=100):
    n = n_stars + n_galaxies
    columns = {name: np.zeros(n) for name in CATALOGUE.names}
    columns |= {"band": np.array(["i"] * n, dtype=object), "flux_aper": np.zeros((n, 12))}
    columns |= {"flux_aper_error": np.zeros((n, 12)), "flux_psf": np.full(n, 1e4), "flux_psf_error": np.full(n, 50.0)}
    columns["spread_model"][n_stars:] = 0.02
    integers = ("expnum", "night", "ccd", "number", "isoarea", "flags", "mask")
    return make_table({k: v.astype(int) if k in integers else v for k, v in columns.items()}, CATALOGUE)


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(1)
    science = rng.normal(0, 30.0, SHAPE).astype(np.float32)
    y, x = rng.integers(0, SHAPE[0], 4000), rng.integers(0, SHAPE[1], 4000)
    science[y, x] += 5000.0
    weight = np.full(SHAPE, 1 / 900.0, dtype=np.float32)
    weight[:, :60] = 0
    mask = np.zeros(SHAPE, dtype=np.int16)
    mask[:, :60] = int(MaskBit.EDGE)
    return {"SCI": science, "MSK": mask, "WGT": weight}


def header():
    wcs = seed_wcs(28, 30.0, -40.0)
    keys = wcs.to_header()
    for i, (ra, dec) in enumerate(footprint(wcs, SHAPE[1], SHAPE[0]), start=1):
        keys |= {f"RAC{i}": ra, f"DECC{i}": dec}
    return keys


def verify(planes, *, head=None, stars=200, flags=0, **changes):
    return verify_ccd(planes, head or header(), catalogue(stars), flags, SETTINGS.with_values(**changes))


def test_a_good_ccd_is_good(pixels):
    found = verify(pixels)
    assert (found.status, found.reason) == ("good", "")
    assert found.numbers["noise_ratio"] == pytest.approx(1.0, abs=0.003)
    assert found.numbers["masked_fraction"] == pytest.approx(60 / 2048)
    assert found.numbers["n_stars"] == 200
    assert found.numbers["corner_error_arcsec"] < 1e-3


def changed(pixels, **planes):
    return pixels | planes


def spoilt(array, where, value):
    copy = array.copy()
    copy[where] = value
    return copy


@pytest.mark.parametrize(
    ("change", "status", "name"),
    [
        (lambda p: {k: p[k] for k in ("SCI", "MSK")}, "bad", "missing_plane"),
        (lambda p: changed(p, MSK=p["MSK"][:100]), "bad", "wrong_shape"),
        (lambda p: changed(p, SCI=spoilt(p["SCI"], (5, 100), np.nan)), "bad", "not_finite"),
        (lambda p: changed(p, WGT=spoilt(p["WGT"], (5, 100), np.inf)), "bad", "bad_weight"),
        (lambda p: changed(p, WGT=-p["WGT"]), "bad", "bad_weight"),
        (lambda p: changed(p, WGT=spoilt(p["WGT"], np.s_[:, :500], 0.0)), "usable", "masked"),
        (lambda p: changed(p, WGT=spoilt(p["WGT"], np.s_[:, :1500], 0.0)), "bad", "masked"),
        (lambda p: changed(p, WGT=p["WGT"] * 0), "bad", "no_sky"),
        (lambda p: changed(p, WGT=p["WGT"] * 1.3), "usable", "noise"),
        (lambda p: changed(p, WGT=p["WGT"] * 2.0), "bad", "noise"),
        (lambda p: changed(p, MSK=p["MSK"] | int(MaskBit.STAR)), "bad", "no_sky"),
    ],
)
def test_what_is_wrong_with_the_pixels_is_named(pixels, change, status, name):
    found = verify(change(pixels))
    assert found.status == status
    assert name in [finding.name for finding in found.findings]
    assert found.reason


def test_pixels_without_weight_may_be_anything(pixels):
    assert verify(changed(pixels, SCI=spoilt(pixels["SCI"], np.s_[:, :60], np.nan))).status == "good"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"CTYPE1": "RA---ZPN"}, "no_wcs"),
        ({"CD1_2": 0.0, "CD2_1": 0.0, "CD1_1": 0.0}, "no_wcs"),
        ({"CD1_2": 8e-5}, "wcs_scale"),
        ({"CRVAL1": 30.01}, "wcs_corners"),
        ({"RAC1": "unknown"}, "wcs_corners"),
    ],
)
def test_what_is_wrong_with_the_coordinates_is_named(pixels, change, name):
    found = verify(pixels, head=header() | change)
    assert found.status == "bad"
    assert found.findings[0].name == name


def test_headers_without_corners_are_accepted(pixels):
    bare = {k: v for k, v in header().items() if not k.startswith(("RAC", "DECC"))}
    assert verify(pixels, head=bare).status == "good"


@pytest.mark.parametrize(("stars", "status"), [(50, "good"), (49, "usable"), (10, "usable"), (9, "bad"), (0, "bad")])
def test_few_stars(pixels, stars, status):
    assert verify(pixels, stars=stars).status == status


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (None, "good"),
        (0, "good"),
        (int(ZeropointFlag.TOO_FEW_STARS), "usable"),
        (int(ZeropointFlag.OUTLIER | ZeropointFlag.MANY_OUTLIERS), "usable"),
        (int(ZeropointFlag.UNCALIBRATED), "bad"),
    ],
)
def test_flags_of_the_zero_point(pixels, flags, status):
    assert verify(pixels, flags=flags).status == status


def test_several_findings_are_all_told(pixels):
    found = verify(pixels, stars=20, flags=int(ZeropointFlag.OUTLIER))
    assert found.status == "usable"
    assert found.reason == (
        "20 point sources, fewer than 50; zero point from the exposure: the CCD's own is an outlier"
    )
