"""CCDs that are searched while templates of other CCDs are still being processed."""

import pickle

import cloudpickle
import pytest

from blocks.site import Site
from flows import difference
from flows.exposure import process_exposure
from flows.night import process_night
from flows.settings import DifferenceStageSettings
from imaging.errors import CcdError, InputError
from tasks import difference as search_ccds
from tasks.difference import CcdSearch, ReadyCcds
from tasks.engine.jobs import StepResult
from tasks.engine.stage import Stage
from tasks.jobs import StepJob
from tasks.requests import ExposureRequest

SEARCH = ExposureRequest(expnum=11, band="i", night=20260817)
WHO = SEARCH.exposure_id()
FIRST, SECOND = (1, 27), (2, 34)


class Searched:
    """A search whose steps record their jobs; ``taken`` is the current choice of templates."""

    def __init__(self, monkeypatch, tmp_path) -> None:
        self.taken: dict[int, list[tuple[int, int]]] = {}
        self.maps: list[list[int]] = []
        self.bad: set[int] = set()
        site = Site.at(tmp_path)
        self.stage = Stage("difference", StepJob(exposure=WHO, site=site), overwrite=True)
        monkeypatch.setattr(self.stage, "map", self.map)
        monkeypatch.setattr(search_ccds, "choose_templates_job", lambda *_: self.stage.about)
        monkeypatch.setattr(search_ccds, "ranked_templates", lambda _: None)
        monkeypatch.setattr(search_ccds, "taken_templates", lambda _: self.taken)
        monkeypatch.setattr(search_ccds, "summaries_of", lambda *_: {})
        monkeypatch.setattr(search_ccds, "difference_job", self.job)
        settings = DifferenceStageSettings()
        self.search = CcdSearch(self.stage, SEARCH, (26, 27, 34), (), settings.templates, settings.search)

    def job(self, who, ccd, templates, known, season, site, settings):
        if not templates:
            raise CcdError("no template overlaps the CCD", reason="no_template")
        if ccd in self.bad:
            raise InputError("no reference stars")
        return StepJob(exposure=who, ccd=ccd, season=season, site=site)

    def map(self, step, jobs):
        if jobs:
            self.maps.append([job.ccd for job in jobs])
        return {job.ccd: StepResult() for job in jobs}


@pytest.fixture
def night(monkeypatch, tmp_path) -> Searched:
    return Searched(monkeypatch, tmp_path)


def test_every_ccd_is_searched_once_even_with_overwrite(night):
    night.taken = {27: [FIRST]}
    night.search.search_ahead((27,))
    night.search.search_ahead((27,))
    night.search.search_rest({26: [SECOND], 27: [FIRST], 34: [SECOND]})
    assert night.maps == [[27], [26, 34]]
    assert sorted(night.search.searched) == [26, 27, 34]


def test_a_ccd_whose_choice_changes_with_the_last_template_is_searched_again(night):
    night.taken = {27: [FIRST], 34: [SECOND]}
    night.search.search_ahead((27, 34))
    night.search.search_rest({26: [FIRST], 27: [SECOND, FIRST], 34: [SECOND]})
    assert night.maps == [[27, 34], [26, 27]]


def test_a_failed_template_fails_the_ccds_without_another(night):
    night.taken = {27: [FIRST]}
    night.search.search_ahead((27, 34))
    assert (night.maps, night.stage.failures) == ([[27]], {}), "34 may still get one"
    night.search.search_rest({26: [FIRST], 27: [FIRST]})
    assert night.maps == [[27], [26]]
    assert {ccd: failure.reason for ccd, failure in night.stage.failures.items()} == {34: "no_template"}


def test_wrong_input_of_one_ccd_does_not_stop_the_others_at_any_time(night):
    night.bad, night.taken = {27}, {27: [FIRST], 34: [FIRST]}
    night.search.search_ahead((27,))
    night.search.search_ahead((27, 34))
    night.search.search_rest({26: [FIRST], 27: [FIRST], 34: [FIRST]})
    assert sorted(night.search.searched) == [26, 34]
    assert list(night.stage.failures) == [27]


def test_wrong_input_of_all_ccds_stops_the_search(night):
    night.bad, night.taken = {26, 27, 34}, {27: [FIRST]}
    night.search.search_ahead((27,))
    with pytest.raises(InputError, match="no reference stars"):
        night.search.search_rest({26: [FIRST], 27: [FIRST], 34: [FIRST]})


@pytest.mark.parametrize("flow", [difference.difference, process_exposure, process_night], ids=lambda flow: flow.name)
def test_a_flow_travels_to_the_workers_with_its_tasks(flow):
    assert cloudpickle.loads(cloudpickle.dumps(flow)).name == flow.name


def test_storing_the_parameters_of_a_run_and_sending_them_uses_no_batch_up():
    """Prefect makes JSON of every parameter and pickles it with the run's context for each worker."""
    ready = ReadyCcds(iter([(26, 27), (34,)]))
    assert difference.difference.serialize_parameters({"ready": ready})["ready"] == "<ReadyCcds>"
    assert list(pickle.loads(pickle.dumps(ready)).batches()) == []
    assert list(ready.batches()) == [(26, 27), (34,)]
    assert "ready" not in difference.difference.parameters.properties, "it is not in the form of a deployment"
