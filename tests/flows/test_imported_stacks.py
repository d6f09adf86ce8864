"""Own templates, stacked on the sky in the forms of four surveys and imported: equal work, equal answer."""

from pathlib import Path

import numpy as np
import pytest
from night_site import borrow, link_files
from test_imported_images import CCD, TEMPLATES, WHO, detections, import_files, own_product, own_zeropoint

from bench import foreign_stacks
from bench.foreign_files import Final
from blocks.site import Site
from deployments.products.import_images import StatedOfImages, record_imports
from imaging.difference.settings import SearchSettings
from imaging.errors import InputError
from imaging.identity import ExposureId
from imaging.io.images import read_planes
from imaging.io.tables import read_table
from imaging.templates.settings import TemplateSettings
from tasks.choose_templates import choose_templates, choose_templates_job, chosen_templates, summaries_of
from tasks.difference import difference, difference_job
from tasks.engine.jobs import ExitCode
from tasks.jobs import StepJob
from tasks.products import read_quality
from tasks.requests import Version

pytestmark = pytest.mark.slow

ACROSS_ARCSEC, ALONG_ARCSEC = 700.0, 1300.0
"""Size of a field that contains a CCD, along Dec and RA."""

BRICKS = {"1898m100": -0.13, "1901m100": 0.12}
"""Two neighbouring bricks, and the distance of their middles from that of the CCD along RA, degrees."""

BOX = 8
"""Half the side of the box in which the flux of a trail is summed. Its fitted flux depends on the PSF of the
difference, which is sharper where the template's noise is correlated."""

WRITERS = {
    "pan-starrs": foreign_stacks.write_pan_starrs,
    "skymapper": foreign_stacks.write_skymapper,
    "osi": foreign_stacks.write_community_stack,
}


@pytest.fixture(scope="module")
def templates(simulated) -> tuple[list[Final], list[float]]:
    """The three templates of the night and their zero points."""
    finals = [Final.read(own_product(simulated, night, e, "immask.fits")) for night, e in TEMPLATES.items()]
    return finals, [own_zeropoint(simulated, night, expnum) for night, expnum in TEMPLATES.items()]


def write(form: str, templates: tuple[list[Final], list[float]], folder: Path) -> list[Path]:
    scale = foreign_stacks.SCALE_ARCSEC[form]
    ra, dec = foreign_stacks.middle(templates[0][0])
    if form == "legacy":
        east = 1.0 / np.cos(np.radians(dec))
        stacks = {
            brick: foreign_stacks.stack_on_sky(*templates, (ra + away * east, dec), (3600, 3600), scale)
            for brick, away in BRICKS.items()
        }
        return [foreign_stacks.write_legacy(stack, folder, brick) for brick, stack in stacks.items()]
    shape = (int(ACROSS_ARCSEC / scale), int(ALONG_ARCSEC / scale))
    return [WRITERS[form](foreign_stacks.stack_on_sky(*templates, (ra, dec), shape, scale), folder)]


def site_without_templates(simulated: Site, root: Path) -> Site:
    """Return a site that has processed the search exposure only."""
    site = borrow(simulated, root)
    link_files(simulated.store / WHO.folder, site.store / WHO.folder)
    for link in (site.store / WHO.folder).glob("dp1/**/*"):
        if link.is_symlink():
            link.unlink()
    return site


def stated(form: str, templates: tuple[list[Final], list[float]]) -> StatedOfImages:
    """Return the times of the exposures, where the survey's headers do not have them, or those of its own survey."""
    times = [float(final.header["MJD-OBS"]) for final in templates[0]]
    return StatedOfImages() if form == "legacy" else StatedOfImages(mjd=(min(times), max(times)))


def n_same(found: Site, wanted: Site) -> int:
    """Require that two searches passed the same sources above S/N 7, with fluxes within one sigma; return how many.

    The trail of a fast mover counts, which has a flag. The residuals of bright stars, which are flagged or have a score
    below 0.001, are those of another PSF.
    """
    counts = []
    for one, other in ((wanted, found), (found, wanted)):
        table = detections(other)
        columns = {name: np.array(table.column(name)) for name in ("ra", "dec", "flux", "flags")}
        sure = [row for row in detections(one).to_pylist() if abs(row["snr"]) >= 7.0]
        trails = [row for row in sure if row["trail_arcsec"] is not None]
        passed = trails + [row for row in sure if row["flags"] == 0 and row["real_score"] > 0.001]
        for row in passed:
            east = (columns["ra"] - row["ra"]) * np.cos(np.radians(row["dec"]))
            apart = 3600.0 * np.hypot(east, columns["dec"] - row["dec"])
            nearest = int(np.argmin(apart))
            assert apart[nearest] < 0.15, row
            assert (columns["flags"][nearest] == 0) == (row["flags"] == 0), row
            apart_flux, error = columns["flux"][nearest] - row["flux"], row["flux_error"]
            if row["trail_arcsec"] is not None:
                apart_flux, error = apart_in_a_box(other, one, row["x"], row["y"])
            assert abs(apart_flux) < error, row
        counts.append(len(passed))
    return min(counts)


def apart_in_a_box(first: Site, second: Site, x: float, y: float) -> tuple[float, float]:
    """Return by how much the fluxes in a square of two difference images differ, and the error of one, electrons."""
    box = (slice(round(y) - BOX, round(y) + BOX + 1), slice(round(x) - BOX, round(x) + BOX + 1))
    paths = [StepJob(exposure=WHO, ccd=CCD, season=1, site=site).product_path("diff.fits") for site in (first, second)]
    (ours, weight), (theirs, other) = (
        [plane[box] for plane in read_planes(path, ("SCI", "WGT"))[0].values()] for path in paths
    )
    good = (weight > 0) & (other > 0)
    assert good.mean() > 0.9
    return float((ours - theirs)[good].sum()), float(np.sqrt((1.0 / weight[good]).sum()))


@pytest.mark.parametrize("form", foreign_stacks.SCALE_ARCSEC)
def test_a_stack_gives_the_same_detections_as_the_templates_it_was_made_of(form, simulated, templates, tmp_path):
    site = site_without_templates(simulated, tmp_path / "site")
    paths = write(form, templates, tmp_path)
    offered = [request.exposure_id() for request in import_files(site, paths, stated=stated(form, templates))]
    for who in offered:
        row = read_quality(StepJob(exposure=who, ccd=1, site=site).product_path("quality.json"))
        assert row["status"] in ("good", "usable"), row["reason"]
        assert row["noise_ratio"] == pytest.approx(1.0, abs=0.1)
        assert row["noise_correlation"] > 1.2
        assert row["header_offset_arcsec"] == pytest.approx(0.3, abs=0.05)
        assert row["astrometry_rms_mas"] < 40.0

    job = choose_templates_job(WHO, offered, 1, site, TemplateSettings())
    choose_templates(job)
    rows = [row for row in read_table(job.product_path("templates.parquet")).to_pylist() if row["ccd"] == CCD]
    assert {row["template_expnum"] for row in rows if row["rank"] is not None} == {who.expnum for who in offered}
    names = {path.name for path in paths}
    assert all(any(name[:30] in row["source"] for name in names) for row in rows)
    assert sum(row["overlap_fraction"] for row in rows) > 0.95

    known = summaries_of([WHO, *offered], site)
    result = difference(difference_job(WHO, CCD, chosen_templates(job)[CCD], known, 1, site, SearchSettings()))
    assert result.quality["difference_noise_width"] == pytest.approx(1.0, abs=0.02)
    assert abs(result.quality["difference_lag1"]) < 0.01
    assert n_same(site, simulated) >= 4


def test_a_stack_is_no_search_image(simulated, templates, tmp_path):
    site = site_without_templates(simulated, tmp_path / "site")
    small = foreign_stacks.stack_on_sky(*templates, foreign_stacks.middle(templates[0][0]), (300, 300), 0.262)
    brick = foreign_stacks.write_legacy(small, tmp_path, "1898m100")
    with pytest.raises(InputError, match="cannot be searched"):
        record_imports(site, [brick], "search", Version(), StatedOfImages())


def test_the_command_imports_a_brick_or_refuses_it(command, simulated, templates, tmp_path):
    site = site_without_templates(simulated, tmp_path / "site")
    small = foreign_stacks.stack_on_sky(*templates, foreign_stacks.middle(templates[0][0]), (1500, 1500), 0.262)
    brick = foreign_stacks.write_legacy(small, tmp_path, "1898m100")
    ran = command(site, "import-images", brick, "--workers", 1)
    assert ran.code is ExitCode.COMPLETE, ran.document
    (shown,) = ran.document["exposures"]
    assert shown["forms"] == ["Legacy Surveys"]
    who = ExposureId(shown["expnum"], "i", shown["night"])
    assert read_quality(StepJob(exposure=who, ccd=1, site=site).product_path("quality.json"))["status"] == "good"

    refused = command(site, "import-images", brick, "--as", "search")
    assert refused.code is ExitCode.BAD_INPUT
    assert brick.name in refused.message
    (tmp_path / brick.name.replace("-image-", "-invvar-")).unlink()
    refused = command(site, "import-images", brick)
    assert refused.code is ExitCode.BAD_INPUT
    assert "invvar" in refused.message
