"""Templates and a search image as other pipelines would have written them: equal work, equal answer."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from night_site import NIGHT, SEARCH, borrow, link_files

from bench import foreign_files
from bench.foreign_files import Final
from blocks.site import Site
from deployments.products.import_images import StatedOfImages, record_imports
from flows.settings import ExposureSettings
from imaging.difference.settings import SearchSettings
from imaging.errors import InputError
from imaging.identity import ExposureId
from imaging.io.images import read_header
from imaging.io.tables import read_table
from imaging.templates.settings import TemplateSettings
from imaging.wcs.tpv import TpvWcs
from tasks.calibrate import calibrate, calibrate_job
from tasks.check_products import check_products, check_products_job, zeropoint_rows
from tasks.choose_templates import choose_templates, choose_templates_job, chosen_templates, summaries_of
from tasks.difference import difference, difference_job
from tasks.engine.jobs import ExitCode
from tasks.import_image import import_image, import_image_job
from tasks.imported import ImportRecord, Role
from tasks.jobs import StepJob
from tasks.products import read_quality, read_summary, summary_path
from tasks.requests import ExposureRequest, Version
from tasks.solve_zeropoints import solve_zeropoints, solve_zeropoints_job
from tasks.tie_astrometry import tie_astrometry, tie_astrometry_job
from tasks.verify import verify, verify_job

pytestmark = pytest.mark.slow

CCD = 27
TEMPLATES = {20240202: 1270601, 20240225: 1277501, 20240319: 1284401}
WHO = ExposureId(SEARCH[0], "i", NIGHT)
SETTINGS = ExposureSettings()
NOTHING_STATED = StatedOfImages()


def own_product(site: Site, night: int, expnum: int, suffix: str) -> Path:
    return StepJob(exposure=ExposureId(expnum, "i", night), ccd=CCD, site=site).product_path(suffix)


def own_zeropoint(site: Site, night: int, expnum: int) -> float:
    return float(zeropoint_rows(ExposureId(expnum, "i", night), site)[CCD]["zeropoint_mag"])


def import_files(
    site: Site, paths: list[Path], role: Role = "template", stated: StatedOfImages = NOTHING_STATED
) -> dict[ExposureRequest, ImportRecord]:
    """Record files and run the steps of their exposures, without a server; return the records."""
    records = record_imports(site, paths, role, Version(), stated)
    for request, record in records.items():
        who, measure = request.exposure_id(), SETTINGS.single_epoch.measure
        imported = {c: import_image(import_image_job(record, who, c, site, measure)) for c in record.ccds}
        tie_astrometry(tie_astrometry_job(imported, {}, record.exposure, who, site, measure, imported=True))
        jobs = {c: calibrate_job(who, c, site, SETTINGS.calibration) for c in record.ccds}
        calibrated = {c: calibrate(job) for c, job in jobs.items()}
        solve_zeropoints(solve_zeropoints_job(calibrated, {}, who, site, SETTINGS.calibration))
        zeropoints, limits = zeropoint_rows(who, site), SETTINGS.verification
        checked = {c: check_products(check_products_job(who, c, site, zeropoints[c], limits)) for c in record.ccds}
        verify(verify_job(checked, {}, who, site, limits))
    return records


def subtract(site: Site) -> pa.Table:
    """Search the CCD with the templates that the site has; return its detections above S/N 7."""
    offered = [ExposureId(expnum, "i", night) for night, expnum in TEMPLATES.items()]
    job = choose_templates_job(WHO, offered, 1, site, TemplateSettings())
    choose_templates(job)
    known = summaries_of([WHO, *offered], site)
    difference(difference_job(WHO, CCD, chosen_templates(job)[CCD], known, 1, site, SearchSettings()))
    return detections(site)


def detections(site: Site) -> pa.Table:
    job = StepJob(exposure=WHO, ccd=CCD, season=1, site=site)
    return read_table(job.product_path("detections.parquet"))


def n_same(found: pa.Table, wanted: pa.Table, zeropoint_shift_mag: float = 0.0) -> int:
    """Require that two searches found the same sources above S/N 7, and those that pass with fluxes within one sigma.

    Residuals of bright stars, which are flagged, are found again, but a dipole has no position and no flux. The trail
    of a fast mover has both, and a length. Returned is how many passed or are trails, the fewer of the two searches.
    """
    counts = []
    scale = 10.0 ** (0.4 * zeropoint_shift_mag)
    for one, other, factor in ((wanted, found, scale), (found, wanted, 1.0 / scale)):
        columns = {name: np.array(other.column(name)) for name in ("ra", "dec", "flux", "flags", "trail_arcsec")}
        checked = 0
        for row in one.to_pylist():
            if abs(row["snr"]) < 7.0:
                continue
            east = (columns["ra"] - row["ra"]) * np.cos(np.radians(row["dec"]))
            apart = 3600.0 * np.hypot(east, columns["dec"] - row["dec"])
            nearest = int(np.argmin(apart))
            assert apart[nearest] < 1.0, row
            if row["flags"] == 0 or row["trail_arcsec"] is not None:
                assert apart[nearest] < 0.15, row
                assert (columns["flags"][nearest] == 0) == (row["flags"] == 0), row
                length, expected = np.nan_to_num(columns["trail_arcsec"][nearest]), row["trail_arcsec"] or 0.0
                assert length == pytest.approx(expected, abs=0.3), row
                assert abs(columns["flux"][nearest] / factor - row["flux"]) < row["flux_error"], row
                checked += 1
        counts.append(checked)
    return min(counts)


@pytest.fixture(scope="module")
def written(simulated, tmp_path_factory) -> dict[str, Path]:
    """The three templates of the night, each as another pipeline would have written it."""
    folder = tmp_path_factory.mktemp("foreign")
    finals = {e: Final.read(own_product(simulated, night, e, "immask.fits")) for night, e in TEMPLATES.items()}
    first, second, third = TEMPLATES.values()
    return {
        "Community Pipeline V4.8.2": foreign_files.write_community_pipeline(finals[first], folder),
        "DES": foreign_files.write_des(finals[second], folder),
        "LSST": foreign_files.write_lsst(finals[third], folder, own_zeropoint(simulated, 20240319, third)),
    }


@pytest.fixture(scope="module")
def imported(simulated, written, tmp_path_factory) -> Site:
    """A site that has processed the search exposure, and imported the templates from these files."""
    site = borrow(simulated, tmp_path_factory.mktemp("imported"))
    link_files(simulated.store / WHO.folder, site.store / WHO.folder)
    for link in (site.store / WHO.folder).glob("dp1/**/*"):
        if link.is_symlink():
            link.unlink()
    import_files(site, list(written.values()))
    return site


def test_imported_images_are_as_ours(imported, simulated, written):
    for (night, expnum), form in zip(TEMPLATES.items(), written, strict=True):
        who = ExposureId(expnum, "i", night)
        row = read_quality(own_product(imported, night, expnum, "quality.json"))
        own = read_quality(own_product(simulated, night, expnum, "quality.json"))
        assert row["status"] == "good", row["reason"]
        assert row["source"] == f"{form}, {written[form].name}" + (
            "[S3]" if "Community" in form else "[IMAGE]" * (form == "LSST")
        )
        assert row["noise_ratio"] == pytest.approx(1.0, abs=0.03), form
        assert row["fwhm_arcsec"] == pytest.approx(own["fwhm_arcsec"], rel=0.01), form
        assert row["masked_fraction"] == pytest.approx(own["masked_fraction"], abs=0.01), form
        assert row["astrometry_rms_mas"] < own["astrometry_rms_mas"] + 3.0, form
        assert row["header_offset_arcsec"] == pytest.approx(0.3, abs=0.03), form
        mjd = [read_summary(summary_path(who, site)).exposure.mjd for site in (imported, simulated)]
        assert mjd[0] == pytest.approx(mjd[1], abs=1e-8), form  # a calexp states it in TAI
        headers = [read_header(own_product(site, night, expnum, "immask.fits")) for site in (imported, simulated)]
        x, y = np.array([100.0, 1024.0, 1900.0]), np.array([200.0, 2048.0, 3900.0])
        (ra, dec), (ra0, dec0) = (TpvWcs.from_header(header).pixel_to_sky(x, y) for header in headers)
        assert np.hypot((ra - ra0) * np.cos(np.radians(dec0)), dec - dec0).max() * 3.6e6 < 20.0, form
        zeropoint = own_zeropoint(imported, night, expnum) - own_zeropoint(simulated, night, expnum)
        unit = row["file_gain"] / {
            "Community Pipeline V4.8.2": 0.5 * (foreign_files.GAIN_A + foreign_files.GAIN_B)
        }.get(form, 1.0)
        if form == "LSST":  # the gain is measured from the noise: it and the zero point cancel in fluxes
            unit = 10.0 ** (0.4 * zeropoint)
            assert unit == pytest.approx(1.0, abs=0.05)
        assert zeropoint - 2.5 * np.log10(unit) == pytest.approx(0.0, abs=0.004), form


def test_imported_templates_give_the_same_detections(imported, simulated, written):
    assert n_same(subtract(imported), detections(simulated)) >= 4
    path = StepJob(exposure=WHO, season=1, site=imported).product_path("templates.parquet")
    rows = [row for row in read_table(path).to_pylist() if row["ccd"] == CCD and row["rank"] is not None]
    assert {row["template_expnum"] for row in rows} == set(TEMPLATES.values())
    assert {row["source"].split(",")[0] for row in rows} == set(written)


def test_a_search_image_of_another_pipeline_gives_the_same_detections(simulated, tmp_path):
    site = borrow(simulated, tmp_path / "site")
    for night, expnum in TEMPLATES.items():
        folder = ExposureId(expnum, "i", night).folder
        link_files(simulated.store / folder, site.store / folder)
    final = Final.read(own_product(simulated, NIGHT, SEARCH[0], "immask.fits"))
    import_files(
        site, [foreign_files.write_community_pipeline(final, tmp_path, version="V3.2.1", packed=True)], "search"
    )
    found = subtract(site)
    shift = own_zeropoint(site, NIGHT, SEARCH[0]) - own_zeropoint(simulated, NIGHT, SEARCH[0])
    assert n_same(found, detections(simulated), shift) >= 4


def test_an_exposure_of_ours_is_not_overwritten(simulated, written, tmp_path):
    site = borrow(simulated, tmp_path)
    link_files(simulated.store, site.store)
    with pytest.raises(InputError, match="processed from its raw file"):
        record_imports(site, list(written.values()), "template", Version(), StatedOfImages())


def test_the_command_imports_a_ccd_or_refuses_it(command, simulated, written, tmp_path):
    site, (image, *_) = borrow(simulated, tmp_path / "site"), written.values()
    ran = command(site, "import-images", image, "--workers", 1)
    assert ran.code is ExitCode.COMPLETE, ran.document
    assert ran.document["exposures"][0]["ccds"] == [CCD]
    assert read_quality(own_product(site, 20240202, TEMPLATES[20240202], "quality.json"))["status"] == "good"

    again = command(site, "import-images", image, "--workers", 1)
    stages = again.document["summary"]["exposures"][str(TEMPLATES[20240202])]["stages"].values()
    assert again.code is ExitCode.COMPLETE
    assert all(stage["n_computed"] == 0 for stage in stages)

    alone = tmp_path / image.name  # without mask and weight
    alone.symlink_to(image)
    refused = command(site, "import-images", alone)
    assert refused.code is ExitCode.BAD_INPUT
    assert image.name in refused.message
