"""The files of the original, written from our products and read back as its users read them."""

import csv

import fitsio
import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from blocks.site import Site
from imaging.bits import MaskBit
from imaging.detector.distortion import seed_wcs
from imaging.errors import CcdError, InputError
from imaging.export.catalogue import class_star, des_columns, instrumental_magnitudes
from imaging.export.settings import ExportSettings
from imaging.export.text import RED_CATLIST, corner_line, red_catlist, red_catlist_row, region_colours, regions
from imaging.identity import ExposureId
from imaging.io.images import write_planes
from imaging.io.psf import read_psf, write_psf
from imaging.io.tables import write_table
from imaging.psf.model import PsfModel
from imaging.schemas.catalogue import CATALOGUE
from imaging.tables import column, make_table
from imaging.wcs.header import corner_keywords
from tasks.export import export, export_job, list_exports, list_job
from tasks.products import write_quality

WHO = ExposureId(1300001, "i", 20240510, 4, 5)
CCD, SHAPE, N = 27, (256, 128), 30
TWELVE = 12


@pytest.fixture(scope="module")
def catalogue():
    random = np.random.default_rng(3)
    columns = {f.name: random.uniform(1.0, 2.0, N).astype(np.float32) for f in CATALOGUE}
    columns |= {"expnum": np.full(N, WHO.expnum), "band": ["i"] * N, "night": np.full(N, WHO.night, np.int32)}
    columns |= {"ccd": np.full(N, CCD, np.int16), "number": np.arange(1, N + 1, dtype=np.int32)}
    columns |= {"x": random.uniform(0, SHAPE[1], N), "y": random.uniform(0, SHAPE[0], N)}
    columns["ra"], columns["dec"] = seed_wcs(CCD, 359.6, -30.0).pixel_to_sky(columns["x"], columns["y"])
    for name in ("flux_aper", "flux_aper_error"):
        columns[name] = random.uniform(100.0, 1000.0, (N, TWELVE)).astype(np.float32)
    columns["flux_psf"] = np.geomspace(-5.0, -1e-3, N).astype(np.float32)
    columns["flux_psf"][2:] = np.geomspace(1.0, 1e6, N - 2)
    columns["spread_model"] = pa.array([None, *np.linspace(-0.01, 0.02, N - 1)], pa.float32())
    columns |= {"flags": np.zeros(N, np.int16), "mask": np.zeros(N, np.int16), "isoarea": np.full(N, 9, np.int32)}
    return make_table(columns, CATALOGUE)


@pytest.fixture(scope="module")
def site(tmp_path_factory, catalogue):
    """Return a site with the products of one calibrated CCD, across RA = 0 and with masked pixels."""
    place = Site.at(tmp_path_factory.mktemp("site"))
    folder, stem = place.store / WHO.folder, WHO.ccd_stem(CCD)
    random, wcs = np.random.default_rng(1), seed_wcs(CCD, 359.6, -30.0)
    science = random.normal(0.0, 50.0, SHAPE).astype(np.float32)
    mask = np.where(random.random(SHAPE) < 0.05, int(MaskBit.CRAY | MaskBit.TAPEBUMP), 0).astype(np.int16)
    weight = np.where(mask == 0, 1.0 / 2500.0 * random.uniform(0.9, 1.1, SHAPE), 0.0).astype(np.float32)
    header = {"EXPNUM": WHO.expnum, "CCDNUM": CCD, "BAND": "i", "NITE": WHO.night, "EXPTIME": 90.0, "AIRMASS": 1.12}
    header |= {"DESBIAS": "bias_c27.fits", "DESSAT": True, "SATURATE": 192040.7} | wcs.to_header()
    header |= corner_keywords(wcs, SHAPE)
    planes = {"SCI": science, "MSK": mask, "WGT": weight}
    write_planes(folder / f"{stem}_immask.fits", planes, header)
    write_table(folder / f"{stem}_fullcat.parquet", catalogue)
    stamp = np.zeros((1, 21, 21), np.float32)
    stamp[0, 10, 10] = 1.0
    psf = PsfModel(stamp, 0, 1.0, (0.0, 0.0), (1.0, 1.0), 4.0, 99, 1.0)
    write_psf(folder / f"{stem}_psf.fits", psf)
    write_quality(folder / f"{stem}_measure.json", {"ellipticity": 0.02, "sky_sigma_electrons": 50.0})
    return place, planes, header


@pytest.fixture(scope="module")
def exported(site):
    place, *_ = site
    result = export(export_job(WHO, CCD, place, ExportSettings()))
    listed = list_exports(list_job({CCD: result}, WHO, place))
    return {name: place.path(r.path) for name, r in result.products.items()}, {
        name: place.path(r.path) for name, r in listed.products.items()
    }


def test_names_are_those_of_the_original(exported):
    ccd, exposure = exported
    assert ccd["image"].name == "D01300001_i_27_r4p5_immask.fits.fz"
    assert ccd["catalogue"].name == "D01300001_i_27_r4p5_fullcat.fits"
    assert ccd["regions"].name == "D01300001_i_27_r4p5_regions.reg"
    assert ccd["corners"].name == "1300001_27.out"
    assert exposure["list"].name == "D01300001_r4p5_red_catlist.csv"
    assert exposure["corners"].name == "1300001.out"


def test_the_compressed_image_reads_back_with_astropy_and_fitsio(site, exported):
    _, planes, header = site
    with fits.open(exported[0]["image"]) as hdus:
        assert [hdu.name for hdu in hdus[1:]] == ["SCI", "MSK", "WGT"]
        assert [hdu.header["DES_EXT"] for hdu in hdus[1:]] == ["IMAGE", "MASK", "WEIGHT"]
        sigma = hdus["SCI"].data.std()
        assert np.abs(hdus["SCI"].data - planes["SCI"]).max() < sigma / 16
        assert hdus["MSK"].data.dtype.kind == "i"
        assert np.array_equal(hdus["MSK"].data, planes["MSK"])
        found = hdus["SCI"].header
        assert found["NITE"] == WHO.night
        assert found["BIASFIL"] == header["DESBIAS"]
        assert found["FZALGOR"] == "RICE_1"
        assert found["ELLIPTIC"] == 0.02
        assert "MAGZERO" not in found
        ra, dec = WCS(found).all_pix2world(np.array([5.0]), np.array([7.0]), 0)
    expected = seed_wcs(CCD, 359.6, -30.0).pixel_to_sky(5.0, 7.0)
    assert abs(ra[0] - expected[0]) * 3.6e6 < 0.1
    assert abs(dec[0] - expected[1]) * 3.6e6 < 0.1
    with fitsio.FITS(str(exported[0]["image"])) as file:
        weight = file["WGT"].read()
    assert np.array_equal(weight == 0, planes["WGT"] == 0)
    good = weight > 0
    assert np.abs(weight[good] / planes["WGT"][good] - 1).max() < 0.02


def test_the_weights_hold_the_noise_of_the_sources_where_it_is_asked_for(site, exported):
    place, planes, _ = site
    with fits.open(exported[0]["image"]) as hdus:
        assert hdus["SCI"].header["DESWGT"] == "sky"
    result = export(export_job(WHO, CCD, place, ExportSettings(compress=False, source_noise=True)))
    with fits.open(place.path(result.products["image"].path)) as hdus:
        assert hdus["SCI"].header["DESWGT"] == "all"
        weight = hdus["WGT"].data
    good = planes["WGT"] > 0
    expected = 1.0 / planes["WGT"][good] + np.maximum(planes["SCI"][good], 0.0)
    assert np.abs(1.0 / weight[good] / expected - 1.0).max() < 1e-3
    assert (weight[~good] == 0.0).all()
    export(export_job(WHO, CCD, place, ExportSettings()))


def test_the_catalogue_is_an_ldac_that_keeps_the_image_header(exported, catalogue):
    with fits.open(exported[0]["catalogue"]) as hdus:
        assert [hdu.name for hdu in hdus[1:]] == ["LDAC_IMHEAD", "LDAC_OBJECTS"]
        cards = "".join(str(card).ljust(80) for card in np.ravel(hdus[1].data[0][0]))
        assert fits.Header.fromstring(cards)["EXPNUM"] == WHO.expnum
        assert fits.Header.fromstring(cards)["SEXMGZPT"] == 25.0
        assert "AB magnitude = MAG - 25 + MAGZERO" in " ".join(map(str.strip, hdus[2].header["COMMENT"]))
        rows, units = hdus[2].data, hdus[2].columns
        assert np.allclose(rows["X_IMAGE"], column(catalogue, "x") + 1.0)
        assert np.allclose(rows["ALPHAWIN_J2000"], column(catalogue, "ra"), rtol=0, atol=1e-10)
        assert rows["FLUX_APER"].shape == (N, TWELVE)
        assert rows["MAG_PSF"][:2].tolist() == [99.0, 99.0]
        assert rows["MAG_PSF"][-1] == pytest.approx(25.0 - 2.5 * 6.0, abs=1e-4)
        assert units["X_IMAGE"].unit == "pixel"
        assert hdus[2].header.comments["TTYPE1"]
    assert fitsio.read(str(exported[0]["catalogue"]), ext=2)["NUMBER"].tolist() == list(range(1, N + 1))


def test_what_the_originals_readers_select_by_is_there(catalogue):
    columns = des_columns(catalogue, 25.0)
    needed = {"FLUX_PSF", "FLAGS", "CLASS_STAR", "SPREAD_MODEL", "IMAFLAGS_ISO", "MAGERR_PSF", "DELTAWIN_J2000"}
    assert needed <= columns.keys()
    assert all(item.meaning and len(item.values) == N for item in columns.values())


def test_class_star_tells_stars_from_galaxies():
    found = class_star(np.array([0.0, 0.005, 0.03, -0.02, np.nan]), np.array([0.001, 0.001, 0.004, 0.001, 0.1]))
    assert found[0] > 0.95
    assert found[2] < 0.01
    assert found[3] > 0.99
    assert found[[1, 4]] == pytest.approx(0.5)


def test_magnitude_errors():
    mag, error = instrumental_magnitudes(np.array([1e4, -1.0, np.nan]), np.array([100.0, 1.0, 1.0]), 25.0)
    assert mag.tolist() == [15.0, 99.0, 99.0]
    assert error[0] == pytest.approx(0.010857, rel=1e-4)


def test_region_colours_follow_the_original():
    flags = np.array([0, 0, 0, 0, 0, 4])
    mask = np.array([0, 0, 0, int(MaskBit.STAR | MaskBit.CRAY), int(MaskBit.SUSPECT), int(MaskBit.STAR)])
    spread = np.array([0.001, 0.02, -0.02, 0.0, 0.0, 0.0])
    assert region_colours(flags, mask, spread) == ["red", "yellow", "green", "blue", "cyan", "magenta"]


def test_regions_are_one_ellipse_per_source_in_fits_pixels(catalogue):
    lines = regions(catalogue).splitlines()
    assert lines[2] == "image"
    assert len(lines) == 3 + N
    assert lines[3].startswith(f"ellipse({column(catalogue, 'x')[0] + 1:.2f},")


def test_corners_have_the_originals_order():
    wcs = seed_wcs(CCD, 10.0, -30.0)
    words = corner_line(wcs, (4096, 2048), 1300001, "i", CCD).split()
    assert words[:3] == ["1300001", "i", "27"]
    places = np.array(words[3:], dtype=float).reshape(4, 2)
    expected = np.stack(wcs.pixel_to_sky([15, 15, 2032, 2032], [15, 4080, 15, 4080]), axis=-1)
    assert np.abs(places - expected).max() < 6e-6


def test_the_list_of_ccds_has_the_originals_columns(exported):
    with exported[1]["list"].open() as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == RED_CATLIST
    assert rows[0]["FILENAME"] == "D01300001_i_27_r4p5_fullcat.fits"
    assert float(rows[0]["AIRMASS"]) == 1.12
    assert exported[1]["corners"].read_text() == exported[0]["corners"].read_text()


def test_an_unknown_air_mass_stays_empty_and_a_missing_band_is_an_error(site):
    header = {key: value for key, value in site[2].items() if key != "AIRMASS"}
    assert ",,90" in red_catlist([red_catlist_row(header, "a.fits")])
    with pytest.raises(InputError, match="BAND"):
        red_catlist_row({key: value for key, value in header.items() if key != "BAND"}, "a.fits")


def test_the_psf_reads_back(exported):
    assert read_psf(exported[0]["psf"]).n_stars == 99


def test_the_same_products_give_the_same_bytes(site, exported):
    before = {name: path.read_bytes() for name, path in exported[0].items()}
    export(export_job(WHO, CCD, site[0], ExportSettings()))
    assert {name: path.read_bytes() for name, path in exported[0].items()} == before


def test_a_ccd_that_is_not_calibrated_is_refused(site):
    with pytest.raises(CcdError) as caught:
        export_job(WHO, 28, site[0], ExportSettings())
    assert caught.value.reason == "no_product"
