"""Nine real cut-outs of the Community Pipeline are imported with zero point and PSF given, and refused without."""

from pathlib import Path

import fitsio
import numpy as np
import pytest
from test_imported_images import SETTINGS, import_files

from bench.real_epochs import CONSTANT_STAR_MAG, SIGNIFICANCE, VARIABLE, gaia_stars
from bench.real_zeropoints import CONSTANT, read_gaia
from blocks.site import Site
from deployments.products.import_images import StatedOfImages, record_imports
from imaging.difference.settings import SearchSettings
from imaging.errors import CcdError
from imaging.identity import ExposureId
from imaging.io.reference import write_reference_catalogue
from imaging.io.tables import read_table
from tasks.choose_templates import summaries_of
from tasks.difference import difference, difference_job
from tasks.import_image import import_image, import_image_job
from tasks.jobs import StepJob
from tasks.products import read_quality
from tasks.requests import Version

pytestmark = pytest.mark.real_data

Epochs = dict[str, tuple[ExposureId, int, float]]
"""Date to identity, CCD and zero point of one count."""


@pytest.fixture(scope="module")
def folder(real_data) -> Path:
    return real_data / "decam_epochs"


def images(folder: Path) -> list[Path]:
    return sorted(folder.glob("images/**/*_ooi_*.fits"))


def psf_of(folder: Path, image: Path) -> Path:
    stem, ccd = image.name.removesuffix(".fits").split(".")
    return next(folder.glob(f"calib/**/{stem}-{ccd}-psfex.fits"))


def new_site(folder: Path, root: Path) -> Site:
    site = Site.at(root)
    write_reference_catalogue(site.reference / "gaia", read_gaia(folder), name="gaia")
    return site


@pytest.fixture(scope="module")
def site(folder, tmp_path_factory) -> Site:
    return new_site(folder, tmp_path_factory.mktemp("epochs"))


@pytest.fixture(scope="module")
def offsets(folder) -> dict[int, tuple[float, float, float]]:
    """Exposure number to the survey's zero point of one count and its offsets in RA and Dec, arcsec."""
    rows = fitsio.read(folder / "survey-ccds-1.fits.gz")
    return {
        int(r["expnum"]): (
            float(r["ccdzpt"]) + 2.5 * np.log10(float(r["exptime"])),
            float(r["ccdraoff"]),
            float(r["ccddecoff"]),
        )
        for r in rows
    }


@pytest.fixture(scope="module")
def epochs(folder, site, offsets) -> Epochs:
    """The cut-outs, imported."""
    found = {}
    for path in images(folder):
        header = fitsio.read_header(str(path), 0)
        zeropoint = offsets[int(header["EXPNUM"])][0]
        stated = StatedOfImages(psfs=(psf_of(folder, path),), zeropoint_mag=zeropoint)
        ((request, record),) = import_files(site, [path], stated=stated).items()
        stamp = path.name.split("_")[1]
        date = f"20{stamp[:2]}-{stamp[2:4]}-{stamp[4:6]}"
        found[date] = request.exposure_id(), record.ccds[0], zeropoint
    return found


def quality(site: Site, who: ExposureId, ccd: int):
    return read_quality(StepJob(exposure=who, ccd=ccd, site=site).product_path("quality.json"))


def test_they_have_the_given_zero_point_and_the_known_offset(epochs, site, offsets, folder):
    ra, dec, _ = gaia_stars(folder)[CONSTANT]
    assert len(epochs) == 9
    for date, (who, ccd, zeropoint) in epochs.items():
        row = quality(site, who, ccd)
        assert row["status"] in ("good", "usable"), (date, row["reason"])
        assert row["source"].startswith("Community Pipeline V4.8"), date
        assert row["zeropoint_mag"] == pytest.approx(zeropoint + 2.5 * np.log10(row["file_gain"]), abs=1e-6), date
        assert row["noise_ratio"] == pytest.approx(1.0, abs=0.1), date  # a galaxy fills a part of the smallest ones
        _, east, north = offsets[who.expnum]
        assert row["header_offset_arcsec"] == pytest.approx(np.hypot(east, north), abs=0.05), date
        catalogue = read_table(StepJob(exposure=who, ccd=ccd, site=site).product_path("fullcat.parquet"))
        columns = {name: np.array(catalogue.column(name)) for name in ("ra", "dec", "flux_psf")}
        apart = np.hypot((columns["ra"] - ra) * np.cos(np.radians(dec)), columns["dec"] - dec)
        mag = row["zeropoint_mag"] - 2.5 * np.log10(columns["flux_psf"][np.argmin(apart)])
        assert mag == pytest.approx(CONSTANT_STAR_MAG[date], abs=0.06), date


def test_the_variable_star_is_found(epochs, site, folder):
    ra, dec, _ = gaia_stars(folder)[VARIABLE]
    for (search, template), expected in SIGNIFICANCE.items():
        (who, ccd, _), (other, other_ccd, _) = epochs[search], epochs[template]
        known = summaries_of([who, other], site)
        difference(difference_job(who, ccd, [(other.expnum, other_ccd)], known, 1, site, SearchSettings()))
        path = StepJob(exposure=who, ccd=ccd, season=1, site=site).product_path("detections.parquet")
        table = read_table(path)
        columns = {name: np.array(table.column(name)) for name in ("ra", "dec", "snr")}
        apart = 3600.0 * np.hypot((columns["ra"] - ra) * np.cos(np.radians(dec)), columns["dec"] - dec)
        nearest = int(np.argmin(apart))
        assert apart[nearest] < 0.5, (search, template)
        assert np.sign(columns["snr"][nearest]) == np.sign(expected), (search, template)
        assert 0.5 < columns["snr"][nearest] / expected < 1.5, (search, template)


def test_without_a_zero_point_they_are_refused(folder, tmp_path):
    site, path = new_site(folder, tmp_path), images(folder)[0]
    ((request, record),) = import_files(site, [path], stated=StatedOfImages(psfs=(psf_of(folder, path),))).items()
    row = quality(site, request.exposure_id(), record.ccds[0])
    assert row["status"] == "bad"
    assert "no zero point" in str(row["reason"])


def test_without_a_psf_they_are_refused(folder, tmp_path):
    site, path = new_site(folder, tmp_path), images(folder)[0]
    ((request, record),) = record_imports(
        site, [path], "template", Version(), StatedOfImages(zeropoint_mag=30.0)
    ).items()
    job = import_image_job(record, request.exposure_id(), record.ccds[0], site, SETTINGS.single_epoch.measure)
    with pytest.raises(CcdError, match="few"):
        import_image(job)
