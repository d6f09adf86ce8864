"""The fully cached exposure whose CCDs link the products of one processed CCD."""

import json

import pytest

from bench.known_exposure import (
    LENDER,
    LendingNight,
    LentNight,
    corners_of,
    lend_calibrations,
    lend_raw_files,
    name_for,
    record_done,
)
from blocks.site import Site
from imaging.detector.ccds import SCIENCE_CCDS
from imaging.identity import ExposureId, raw_name
from imaging.wcs.sphere import separation_deg
from tasks.check_products import check_products
from tasks.detrend import detrend
from tasks.jobs import StepJob
from tasks.products import read_quality, write_quality
from tasks.raw_files import find_raw

WHO = ExposureId(1300001, "i", 20240510)


def job_of(site: Site, ccd: int | None) -> StepJob:
    return StepJob(exposure=WHO, ccd=ccd, site=site)


@pytest.fixture
def sites(tmp_path) -> tuple[Site, Site]:
    """A site with the indexed raw file of one CCD, and a second site with the same raw folder."""
    lender, site = Site.at(tmp_path / "lender"), Site.at(tmp_path / "site")
    raw = lender.raw / str(WHO.night) / raw_name(WHO.expnum)
    raw.parent.mkdir(parents=True)
    raw.write_bytes(b"pixels")
    site.root.mkdir()
    site.raw.symlink_to(lender.raw)
    exposure = {"expnum": WHO.expnum, "band": "i", "night": WHO.night, "mjd": 60441.0, "exptime_s": 90.0}
    exposure |= {"ra_deg": 190.5, "dec_deg": -10.0, "airmass": 1.1}
    exposure |= {"obstype": "object", "object_name": "", "propid": ""}
    document = {
        "stamp": [lender.name_of(raw), raw.stat().st_size, raw.stat().st_mtime_ns],
        "exposure": exposure,
        "header_hash": "h",
        "extensions": [{"ccdnum": LENDER, "hdu": 1, "content_hash": "c", "problem": ""}],
    }
    memory = lender.state / "raw" / f"{raw.name}.json"
    memory.parent.mkdir(parents=True)
    memory.write_text(json.dumps(document))
    lend_raw_files(lender, site)
    return lender, site


def night_with(site: Site, lender: LendingNight) -> LentNight:
    return LentNight(site, lender.settings, lender=lender)


def test_the_index_of_a_one_ccd_raw_file_covers_all_ccds_with_distinct_hashes(sites):
    raw = find_raw(sites[1], WHO)
    assert sorted(raw.index.extensions) == sorted(SCIENCE_CCDS)
    records = {raw.record(sites[1], [ccd]).content_hash for ccd in SCIENCE_CCDS}
    assert len(records) == len(SCIENCE_CCDS)


def test_a_linked_product_uses_no_disk_space_and_has_a_record(sites):
    lender, site = sites
    path = job_of(lender, LENDER).product_path("detrend.fits")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"image")
    lending = LendingNight(lender)
    lending.results["detrend", WHO.expnum] = job_of(lender, LENDER).result({"image": path}, quality={"sky": 3.0})
    job = job_of(site, 5)
    assert detrend.recorded(job) is None
    result = night_with(site, lending).run(detrend, job)
    own = job.product_path("detrend.fits")
    assert own.samefile(path)
    assert result.products["image"].path == site.name_of(own)
    known = detrend.recorded(job)
    assert known is not None
    assert (known.step, known.quality, known.products) == ("detrend", {"sky": 3.0}, result.products)
    own.unlink()
    assert detrend.recorded(job) is None, "the record is checked against the product as any other"


def test_every_ccd_has_its_own_corners(sites):
    """Otherwise all CCDs of the template would overlap each CCD, and planning would take too long."""
    lender, site = sites
    path = job_of(lender, LENDER).product_path("quality.json")
    write_quality(path, {"ccd": LENDER, "status": "good", "corners": [[0.0, 0.0]] * 4})
    lending = LendingNight(lender)
    lending.results["check_products", WHO.expnum] = job_of(lender, LENDER).result({"quality": path})
    night = night_with(site, lending)
    rows = [
        read_quality(site.path(night.run(check_products, job_of(site, ccd)).products["quality"].path)) for ccd in (4, 5)
    ]
    assert [row["ccd"] for row in rows] == [4, 5]
    assert [row["status"] for row in rows] == ["good", "good"]
    (ra, dec), (other_ra, other_dec) = (row["corners"][0] for row in rows)
    assert 0.1 < separation_deg(ra, dec, other_ra, other_dec) < 0.5
    assert rows[0]["corners"] == corners_of(job_of(site, 4))


def test_only_the_ccd_in_a_name_is_changed():
    job = job_of(Site.at("x"), 5)
    assert name_for("products/gw/exp/20240527/1300027/dp1/i_27/D01300027_i_27_r1p1_diff.fits", job, 5) == (
        "products/gw/exp/20240527/1300027/dp1/i_05/D01300027_i_05_r1p1_diff.fits"
    )


def test_every_ccd_has_calibrations(tmp_path):
    path = tmp_path / "flat" / f"flat_i_c{LENDER:02d}.fits"
    path.parent.mkdir()
    path.write_bytes(b"flat")
    lend_calibrations(tmp_path)
    assert {item.name for item in path.parent.iterdir()} == {f"flat_i_c{ccd:02d}.fits" for ccd in SCIENCE_CCDS}


def test_a_record_is_one_that_prefect_could_have_written(tmp_path):
    site = Site.at(tmp_path)
    job = job_of(site, 7)
    result = job.result(quality={"sky": 1.0})
    record_done(detrend, job, result)
    assert detrend.recorded(job) == result.model_copy(update={"step": "detrend"})
    assert detrend.recorded(job_of(site, 8)) is None
