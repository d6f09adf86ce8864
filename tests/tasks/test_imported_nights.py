"""Nights, plans and choices of templates know the imported exposures of a site, with the CCDs that they have."""

import math

import pytest

from blocks.nights import RegisteredNight
from blocks.site import Site
from deployments.events.registry import register_night
from imaging.errors import InputError
from imaging.exposure import Exposure, night_of
from imaging.identity import ExposureId
from imaging.io.exposure_list import ListedExposure
from imaging.io.skymaps import read_skymap, write_skymap
from imaging.skymap.build import gaussian_skymap
from imaging.templates.settings import TemplateSettings
from imaging.wcs.sphere import polygon_centre
from tasks.exposure_requests import nominal_footprints
from tasks.imported import ImportedImage, ImportRecord, imported_list, read_import, write_import
from tasks.night_plan import plan_night
from tasks.plan_fields import template_footprints
from tasks.prepare_templates import known_exposures
from tasks.raw_files import arrived_exposures
from tasks.requests import Version

NIGHT, EARLIER = 20260817, 20260601
PLACE = (150.0, -30.0)
TEMPLATE = Exposure(7, "i", EARLIER, 61193.0, 90.0, *PLACE, 1.2)
SEARCH = Exposure(11, "i", NIGHT, 61270.1, 90.0, *PLACE, 1.2)
CCDS = (25, 27)


def identity(exposure: Exposure, pnum: int = 1) -> ExposureId:
    return ExposureId(exposure.expnum, exposure.band, exposure.night, 1, pnum)


def imported(exposure: Exposure, *ccds: int, role="template") -> ImportRecord:
    images = tuple(
        ImportedImage(ccd=ccd, form="Community Pipeline V4.8.2", image=f"/a/{ccd}.fits", extension="S1") for ccd in ccds
    )
    return ImportRecord(role=role, exposure=exposure, images=images)


@pytest.fixture
def site(tmp_path) -> Site:
    site = Site.at(tmp_path / "site")
    write_import(site, identity(TEMPLATE), imported(TEMPLATE, *CCDS))
    return site


@pytest.fixture
def night(site, tmp_path) -> RegisteredNight:
    skymap = tmp_path / "map.multiorder.fits"
    write_skymap(skymap, gaussian_skymap(*PLACE, 3.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=6))
    exposures = [ListedExposure(SEARCH)]
    about = {"event": "S260817x", "skymap": skymap, "exposures": exposures, "check_skymap": read_skymap}
    return register_night(site, NIGHT, **about).night


def test_a_night_takes_imported_templates_that_nobody_listed(site, night):
    plan = plan_night(night, Version(), TemplateSettings(), site)
    assert [request.expnum for request in plan.templates[SEARCH.expnum]] == [TEMPLATE.expnum]
    assert set(CCDS) <= set(plan.touched[SEARCH.expnum]) < set(range(1, 63))
    assert not plan_night(night, Version(pnum=2), TemplateSettings(), site).templates[SEARCH.expnum]


def test_imported_exposures_have_arrived(site):
    write_import(site, identity(SEARCH), imported(SEARCH, 25, role="search"))
    other = Exposure(12, "i", NIGHT, 61270.2, 90.0, *PLACE, 1.2)
    assert arrived_exposures(site, [identity(SEARCH), identity(other)]) == {SEARCH.expnum}
    assert [item.exposure.expnum for item in imported_list(site, role="search")] == [SEARCH.expnum]


def test_plans_count_their_ccds_and_no_others(site):
    (listed,) = known_exposures(site, None)
    assert listed.exposure == TEMPLATE
    covered = template_footprints([listed])
    assert sorted(covered.ccd.tolist()) == list(CCDS)


def test_ccds_that_are_imported_later_join_the_exposure(site):
    write_import(site, identity(TEMPLATE), imported(TEMPLATE, 27, 30))
    assert read_import(site, identity(TEMPLATE)).ccds == (25, 27, 30)


def test_images_of_two_exposures_do_not_join(site):
    other = Exposure(7, "i", EARLIER, 61193.01, 90.0, *PLACE, 1.2)
    with pytest.raises(InputError, match="two exposures"):
        write_import(site, identity(TEMPLATE), imported(other, 30))


def test_products_of_ours_are_not_replaced(site):
    path = site.store / identity(SEARCH).folder / f"{identity(SEARCH).ccd_stem(25)}_measure.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(InputError, match="processed from its raw file"):
        write_import(site, identity(SEARCH), imported(SEARCH, 25))
    write_import(site, identity(SEARCH, pnum=2), imported(SEARCH, 25))


def test_a_stack_on_the_sky_is_planned_with_its_own_corners(site, night):
    """A patch on one CCD of the search, and one whose exposures span the search."""
    ((ra, dec),) = [polygon_centre(corners)[:2] for corners in nominal_footprints(SEARCH, (27,)).values()]
    box = tuple((ra + x, dec + y) for x, y in ((-0.03, -0.03), (0.03, -0.03), (0.03, 0.03), (-0.03, 0.03)))
    for number, last in ((1_500_000_001, SEARCH.mjd - 100.0), (1_500_000_002, SEARCH.mjd + 100.0)):
        stack = Exposure(number, "i", night_of(last), last, 1.0, ra, dec, math.nan)
        facts = {"first_mjd": 59000.0, "corners": box, "form": "Legacy Surveys", "extension": "1"}
        image = ImportedImage(ccd=1, image="/a/legacysurvey-image-i.fits.fz", **facts)
        write_import(site, identity(stack), ImportRecord(role="template", exposure=stack, images=(image,)))
    plan = plan_night(night, Version(), TemplateSettings(), site)
    assert {request.expnum for request in plan.templates[SEARCH.expnum]} == {TEMPLATE.expnum, 1_500_000_001}
    assert {ccd for ccd, expnums in plan.touched[SEARCH.expnum].items() if 1_500_000_001 in expnums} == {27}
    patch = next(item for item in imported_list(site) if item.exposure.expnum == 1_500_000_001)
    assert template_footprints([patch]).corners[0].tolist() == [list(corner) for corner in box]
