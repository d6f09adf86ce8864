"""Damaged products of a CCD: check_products names what is wrong, and other CCDs are not affected."""

import json
from functools import partial

import numpy as np
import pytest

from blocks.site import Site
from imaging.bits import MaskBit
from imaging.detector.distortion import seed_wcs
from imaging.errors import CcdError, StorageError
from imaging.identity import ExposureId
from imaging.io.images import read_planes, write_planes
from imaging.io.psf import write_psf
from imaging.io.tables import read_table, write_table
from imaging.psf.model import PsfModel
from imaging.quality.settings import VerificationSettings
from imaging.quality.verify import verify_ccd
from imaging.schemas.catalogue import CATALOGUE
from imaging.schemas.zeropoints import ZeropointFlag
from imaging.tables import make_table
from imaging.wcs.header import corner_keywords
from tasks.check_products import check_products, check_products_job
from tasks.engine.jobs import Failure
from tasks.jobs import StepJob
from tasks.products import write_quality
from tasks.verify import verify, verify_job

WHO = ExposureId(1300001, "i", 20240510)
CCD = 27
SHAPE = (512, 256)
"""Of images a sixty-fourth of a CCD, so that they are quickly written and spoilt."""
SETTINGS = VerificationSettings()
ZEROPOINT = {"zeropoint_mag": 31.7, "zeropoint_error_mag": 0.002, "flags": 0}


def catalogue(n=200):
    columns = {name: np.zeros(n) for name in CATALOGUE.names}
    columns |= {"band": ["i"] * n, "flux_aper": np.zeros((n, 12)), "flux_aper_error": np.zeros((n, 12))}
    columns |= {"flux_psf": np.full(n, 1e4), "flux_psf_error": np.full(n, 50.0)}
    return make_table(columns, CATALOGUE)


def write_products(site, ccd):
    job = StepJob(exposure=WHO, ccd=ccd, site=site)
    random, wcs = np.random.default_rng(ccd), seed_wcs(ccd, 150.0, -30.0)
    header = wcs.to_header() | corner_keywords(wcs, SHAPE) | {"EXPNUM": WHO.expnum, "FILTER": "i DECam"}
    header |= {"MJD-OBS": 60440.1, "EXPTIME": 90.0, "TELRA": "10:00:00", "TELDEC": "-30:00:00", "OBSTYPE": "object"}
    planes = {"SCI": random.normal(0, 30.0, SHAPE).astype(np.float32)}
    planes |= {"MSK": np.zeros(SHAPE, np.int16), "WGT": np.full(SHAPE, 1 / 900.0, np.float32)}
    planes["MSK"][:, :5], planes["WGT"][:, :5] = int(MaskBit.EDGE), 0.0
    write_planes(job.product_path("immask.fits"), planes, header | {"AIRMASS": 1.1, "CAMVALS": "GAINA"})
    write_table(job.product_path("fullcat.parquet"), catalogue())
    offsets = (np.arange(61) - 30) * 0.5
    stamp = np.exp(-0.5 * (offsets[:, None] ** 2 + offsets[None, :] ** 2) / 1.7**2).astype(np.float32)
    write_psf(
        job.product_path("psf.fits"), PsfModel(stamp[None] / stamp.sum() * 4, 0, 0.5, (1e3, 2e3), (1e3, 2e3), 4.0)
    )
    quality = {"sky_sigma_electrons": 30.0, "sky_electrons": 800.0, "fwhm_arcsec": 1.0, "n_psf_stars": 80}
    write_quality(job.product_path("measure.json"), quality)
    return job


@pytest.fixture(autouse=True)
def small_ccds(monkeypatch):
    monkeypatch.setattr("tasks.check_products.verify_ccd", partial(verify_ccd, shape=SHAPE))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A site with the complete products of one CCD."""
    site = Site.at(tmp_path_factory.mktemp("whole"))
    write_products(site, CCD)
    return site


@pytest.fixture
def products(whole, tmp_path):
    """A copy that may be damaged; unchanged files are links."""
    job = StepJob(exposure=WHO, ccd=CCD, site=Site.at(tmp_path))
    for suffix in ("immask.fits", "fullcat.parquet", "psf.fits", "measure.json"):
        target = job.product_path(suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(StepJob(exposure=WHO, ccd=CCD, site=whole).product_path(suffix))
    return job


def look(job, zeropoint=ZEROPOINT, ccd=CCD):
    return check_products(check_products_job(WHO, ccd, job.site, zeropoint, SETTINGS))


def rewrite(job, change):
    path = job.product_path("immask.fits")
    planes, header = read_planes(path)
    path.unlink()
    change(planes, header)
    write_planes(path, planes, header)


def test_complete_products_are_good_and_their_numbers_are_kept(products):
    result = look(products)
    assert dict(result.quality) == {"status": "good", "reason": ""}
    row = json.loads(products.site.path(result.products["quality"].path).read_text())
    assert row["noise_ratio"] == pytest.approx(1.0, abs=0.05)
    assert row["masked_fraction"] == pytest.approx(5 / 256)
    assert (row["n_stars"], row["n_psf_stars"]) == (200, 80)
    assert row["corner_error_arcsec"] < 0.5
    assert row["depth_mag"] == pytest.approx(31.7 - 2.5 * np.log10(5 * 30.0 * np.sqrt(4 * np.pi) * 1.7), abs=0.02)


def without_weights(planes, _):
    planes["WGT"][:, :187] = 0.0


def with_wrong_weights(planes, _):
    planes["WGT"] *= 4.0


def with_a_hole(planes, _):
    planes["SCI"][100, 100] = np.nan


def without_mask(planes, _):
    del planes["MSK"]


def cut_short(planes, _):
    for name in list(planes):
        planes[name] = planes[name][:-100]


def displaced(_, header):
    header["CRVAL1"] = header["CRVAL1"] + 0.01


def without_coordinates(_, header):
    for name in ("CRVAL1", "CTYPE1", "CD1_1"):
        del header[name]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (without_weights, "bad", "fraction of pixels without weight 0.73 above 0.60"),
        (with_wrong_weights, "bad", "more than 0.3 from one"),
        (with_a_hole, "bad", "1 pixels with weight are not finite"),
        (without_mask, "bad", "plane MSK is missing"),
        (cut_short, "bad", "plane SCI has shape (412, 256)"),
        (displaced, "bad", "corners in the header off by 31"),
        (without_coordinates, "bad", "no WCS"),
    ],
)
def test_a_damaged_image_is_named(products, change, status, words):
    rewrite(products, change)
    found = look(products).quality
    assert found["status"] == status
    assert words in found["reason"]


@pytest.mark.parametrize(("n", "status"), [(0, "bad"), (20, "usable")])
def test_an_empty_catalogue_is_named(products, n, status):
    path = products.product_path("fullcat.parquet")
    path.unlink()
    write_table(path, catalogue(n))
    assert look(products).quality == {"status": status, "reason": f"{n} point sources, fewer than {50 if n else 10}"}


@pytest.mark.parametrize(
    ("flag", "status", "words"),
    [
        (ZeropointFlag.UNCALIBRATED, "bad", "no zero point"),
        (ZeropointFlag.OUTLIER, "usable", "outlier"),
        (ZeropointFlag.TOO_FEW_STARS, "usable", "too few stars"),
    ],
)
def test_a_flag_of_the_zero_point_is_named(products, flag, status, words):
    found = look(products, ZEROPOINT | {"flags": int(flag)}).quality
    assert found["status"] == status
    assert words in found["reason"]


@pytest.mark.parametrize("suffix", ["immask.fits", "fullcat.parquet", "psf.fits", "measure.json"])
def test_a_truncated_product_is_named(products, suffix):
    path = products.product_path(suffix)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(StorageError, match=suffix.replace(".", r"\.")):
        look(products)


@pytest.mark.parametrize("suffix", ["fullcat.parquet", "psf.fits", "measure.json"])
def test_a_missing_product_is_named(products, suffix):
    products.product_path(suffix).unlink()
    with pytest.raises(CcdError, match="missing") as error:
        look(products)
    assert error.value.reason == "no_product"
    assert suffix in str(error.value)


def test_one_bad_ccd_does_not_stop_the_others(products):
    results = {CCD: look(products), 33: None}
    other = write_products(products.site, 33)
    rewrite(other, with_wrong_weights)
    results[33] = look(other, ccd=33)
    missing = {40: Failure(reason="no_product", message="CCD 40 was lost", kind="ccd")}
    verified = verify(verify_job(results, missing, WHO, products.site, SETTINGS))
    table = read_table(products.site.path(verified.products["quality"].path))
    assert dict(zip(table.column("ccd").to_pylist(), table.column("status").to_pylist(), strict=True)) == {
        27: "good",
        33: "bad",
        40: "missing",
    }
    assert "CCD 40 was lost" in table.column("reason").to_pylist()
    assert verified.quality["n_ccds"] == 2
    assert verified.quality["zeropoint_mag"] == pytest.approx(31.7)
    assert verified.quality["t_eff"] > 0
