"""Tidying up behind an exposure: which files go, which are compressed, and that none is lost."""

import numpy as np
import pytest
from prefect.task_runners import ThreadPoolTaskRunner

from blocks.site import Site
from flows.tidy import tidy_exposures
from imaging.errors import StorageError
from imaging.identity import ExposureId
from imaging.io.images import read_planes, write_planes
from tasks.engine.cache import fingerprint, record_name
from tasks.engine.final_state import summary_of
from tasks.engine.records import record_bytes
from tasks.engine.tidied import is_away, is_kept
from tasks.jobs import StepJob
from tasks.requests import ExposureRequest
from tasks.steps import CALIBRATE, DETREND, DIFFERENCE, MEASURE
from tasks.tidy import forget_removed, recorded_products, remove_intermediates, tidy, tidy_jobs

WHO, SEASON = ExposureId(1300001, "i", 20240510), 60


@pytest.fixture
def site(tmp_path) -> Site:
    """Return a site with two CCDs, the second of which failed after it was measured."""
    site = Site.at(tmp_path)
    rng = np.random.default_rng(3)
    for ccd in (1, 2):
        for info in (DETREND, MEASURE) if ccd == 2 else (DETREND, MEASURE, CALIBRATE, DIFFERENCE):
            of = StepJob(exposure=WHO, ccd=ccd, site=site, season=SEASON if info is DIFFERENCE else None)
            images = {name: of.product_path(s) for name, s in info.products.items() if name in IMAGES}
            for name, path in images.items():
                planes = {key: rng.normal(0, 20, (256, 128)).astype(np.float32) for key in IMAGES[name]}
                write_planes(path, planes, {}, steps=dict.fromkeys(planes, 0.25))
            path = site.records / of.subject / record_name(info.name, of.unit_name, "0" * 32)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(record_bytes(of.result(images), "key"))
    return site


IMAGES = {"image": ("SCI",), "difference": ("SCI",), "template": ("SCI", "FLX")}


def products(site: Site, info, name: str, ccd: int = 1):
    of = StepJob(exposure=WHO, site=site, season=SEASON if info is DIFFERENCE else None)
    return [product for number, product in recorded_products(of, info, name) if number == ccd]


def test_images_are_compressed_and_count_as_written(site):
    before = {"image": products(site, CALIBRATE, "image")[0]}
    before |= {name: products(site, DIFFERENCE, name)[0] for name in ("difference", "template")}
    planes = {"image": "SCI", "difference": "SCI", "template": "FLX"}
    pixels = {key: read_planes(site.path(p.path), [planes[key]])[0] for key, p in before.items()}
    (job,) = tidy_jobs(WHO, SEASON, site)
    assert (job.ccd, set(job.inputs)) == (1, {"image", "difference", "template"})
    done = tidy(job)
    assert done.quality["bytes_after"] < 0.5 * done.quality["bytes_before"]
    for key, product in before.items():
        path = site.path(product.path)
        after, _ = read_planes(path, pixels[key])
        assert all(np.array_equal(after[name], plane) for name, plane in pixels[key].items())
        assert path.stat().st_size < 0.5 * product.size
        assert is_kept(site, product)
        assert fingerprint(site, path) == product
    with pytest.raises(StorageError, match="extension not found"):
        read_planes(site.path(before["template"].path), ["SCI"])
    assert tidy_jobs(WHO, SEASON, site) == [], "nothing is done twice"
    assert not list(site.products.rglob(".*"))


def test_an_exposure_without_differences_needs_no_season(site):
    (job,) = tidy_jobs(WHO, None, site)
    assert set(job.inputs) == {"image"}


def test_intermediate_images_go_unless_the_ccd_failed(site):
    gone = products(site, DETREND, "image") + products(site, MEASURE, "image")
    stays = products(site, DETREND, "image", 2) + products(site, MEASURE, "image", 2)
    assert remove_intermediates(WHO, site) == (2, sum(product.size for product in gone))
    assert len(gone) == len(stays) == 2
    assert all(is_away(site, product) for product in gone)
    assert all(product.is_intact(site) for product in stays)
    assert remove_intermediates(WHO, site) == (0, 0)


def test_what_a_step_wrote_anew_is_left_alone(site):
    (job,) = tidy_jobs(WHO, SEASON, site)
    path = job.input_path("image")
    write_planes(path, {"SCI": np.ones((256, 128), np.float32)}, {})
    with pytest.raises(StorageError, match="anew"):
        tidy(job)
    assert (read_planes(path, ["SCI"])[0]["SCI"] == 1.0).all()
    assert "image" not in {kind for job in tidy_jobs(WHO, SEASON, site) for kind in job.inputs}


def test_the_flow_says_what_became_of_each_exposure(site, prefect_server):
    request = ExposureRequest(expnum=WHO.expnum, band=WHO.band, night=WHO.night, season=SEASON)
    run = tidy_exposures.with_options(task_runner=ThreadPoolTaskRunner(max_workers=1))
    state = run(WHO.night, [request], str(site.root), return_state=True)
    (row,) = summary_of(state)["exposures"]
    assert (row["expnum"], row["removed_files"], row["compressed_ccds"]) == (WHO.expnum, 2, 1)
    assert state.is_completed()
    assert state.name == "Completed"
    assert all(is_kept(site, p) for p in products(site, DETREND, "image", 2))
    assert tidy_jobs(WHO, SEASON, site) == []


def test_images_that_were_written_packed_are_left_alone(site):
    (job,) = tidy_jobs(WHO, SEASON, site)
    path = job.input_path("image")
    write_planes(path, {"SCI": np.ones((256, 128), np.float32)}, {}, pack=True, steps={"SCI": 0.25})
    of = StepJob(exposure=WHO, ccd=1, site=site)
    record = site.records / of.subject / record_name(CALIBRATE.name, of.unit_name, "0" * 32)
    record.write_bytes(record_bytes(of.result({"image": path}), "key"))
    (job,) = tidy_jobs(WHO, SEASON, site)
    assert set(job.inputs) == {"difference", "template"}


def test_what_was_removed_can_be_had_again(site):
    gone = products(site, DETREND, "image")
    remove_intermediates(WHO, site)
    assert forget_removed(WHO, site) == 2
    assert not is_kept(site, gone[0]), "the next run computes it"
    assert forget_removed(WHO, site) == 0
