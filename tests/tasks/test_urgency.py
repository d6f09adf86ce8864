"""Order of processing: the exposure nearest to the peak first, after its templates."""

import pytest

from blocks.nights import RegisteredNight
from blocks.site import Site
from deployments.events.registry import register_night
from imaging.exposure import Exposure
from imaging.io.exposure_list import ListedExposure, write_exposure_list
from imaging.io.skymaps import read_skymap, write_skymap
from imaging.skymap.build import gaussian_skymap
from imaging.templates.settings import TemplateSettings
from tasks.night_plan import NightPlan, plan_night, urgency_of
from tasks.requests import ExposureRequest, Version

NIGHT, EARLIER = 20260817, 20260601
PEAK = (150.0, -30.0)
FAR, NEAR, NEAREST = 11, 12, 13
"""Search exposures, in order of time: 20, 5 and 0 degrees from the peak."""


def listed(expnum: int, night: int, dec_deg: float, mjd: float) -> ListedExposure:
    return ListedExposure(Exposure(expnum, "i", night, mjd, 90.0, PEAK[0], dec_deg, 1.2), t_eff=1.0)


@pytest.fixture
def night(tmp_path) -> RegisteredNight:
    """Three search exposures, each with one template of the same field."""
    skymap, exposures = tmp_path / "map.multiorder.fits", tmp_path / "list.csv"
    write_skymap(skymap, gaussian_skymap(*PEAK, 3.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=6))
    fields = {FAR: -50.0, NEAR: -35.0, NEAREST: -30.0}
    rows = [listed(n, NIGHT, dec, 61270.0 + n / 100) for n, dec in fields.items()]
    rows += [listed(n - 10, EARLIER, dec, 61193.0) for n, dec in fields.items()]
    write_exposure_list(exposures, rows)
    site = Site.at(tmp_path / "site")
    about = {"event": "S260817x", "skymap": skymap, "exposures": exposures, "check_skymap": read_skymap}
    return register_night(site, NIGHT, **about).night


def planned(night: RegisteredNight, at_hand) -> NightPlan:
    plan = plan_night(night, Version(), TemplateSettings())
    return NightPlan(plan.search, plan.templates, urgency_of(night, at_hand))


def numbers(exposures) -> list[int]:
    return [exposure.expnum for exposure in exposures]


def test_the_exposure_nearest_to_the_peak_goes_first_after_its_template(night):
    plan = planned(night, {FAR, NEAR, NEAREST})
    assert numbers(plan.all) == [NEAREST - 10, NEAREST, NEAR - 10, NEAR, FAR - 10, FAR]
    assert numbers(plan.search) == [FAR, NEAR, NEAREST], "the order of time is that of the account"


def test_exposures_that_have_not_arrived_and_their_own_templates_are_last(night):
    plan = planned(night, {FAR, NEAR})
    assert numbers(plan.all) == [NEAR - 10, NEAR, FAR - 10, FAR, NEAREST - 10, NEAREST]


def test_without_a_sky_map_the_order_is_that_of_time(night):
    night.skymap.write_bytes(b"no map")
    assert urgency_of(night, {FAR, NEAR, NEAREST}) == (FAR, NEAR, NEAREST)


def test_priorities_fall_with_the_order():
    def request(expnum):
        return ExposureRequest(expnum=expnum, band="i", night=NIGHT)

    plan = NightPlan((request(11), request(12)), {11: (request(1),), 12: (request(1), request(2))}, (12, 11))
    assert numbers(plan.all) == [1, 2, 12, 11]
    assert plan.priorities == {1: 0, 2: -1, 12: -2, 11: -3}


def test_a_ccd_does_not_wait_for_templates_that_do_not_overlap_it(night):
    """The second template is shifted by half a field, so that it covers CCDs of one side only."""
    rows = [listed(NEAREST, NIGHT, PEAK[1], 61270.0), listed(1, EARLIER, PEAK[1], 61193.0)]
    rows.append(listed(2, EARLIER, PEAK[1] + 1.0, 61194.0))
    write_exposure_list(night.exposure_list, rows)
    plan = plan_night(night, Version(), TemplateSettings())
    assert numbers(plan.templates[NEAREST]) == [1, 2]
    both, first = plan.ready(NEAREST, ()), plan.ready(NEAREST, (2,))
    assert (len(both), plan.ready(NEAREST, (1,))) == (len(plan.touched[NEAREST]), ())
    assert 10 < len(first) < 50
    south = {ccd for ccd, those in plan.touched[NEAREST].items() if those == {1}}
    assert set(first) == south


def test_a_ccd_also_waits_for_templates_that_rank_low_before_processing(night):
    """Their depth and seeing are only known after processing, and may change the ranking."""
    rows = [listed(NEAREST, NIGHT, PEAK[1], 61270.0), listed(5, EARLIER - 10000, PEAK[1], 60828.0)]
    rows += [listed(n, EARLIER, PEAK[1] - 1.0, 61193.0) for n in range(1, 5)]
    write_exposure_list(night.exposure_list, rows)
    plan = plan_night(night, Version(), TemplateSettings())
    assert all(5 in those for those in plan.touched[NEAREST].values())
    assert {1, 2, 3, 5} in plan.touched[NEAREST].values()
