"""Blocks are saved and loaded without starting a server."""

import json
from pathlib import Path

import pytest

from blocks.cluster import ComputeCluster, load_cluster
from blocks.folders import (
    CalibrationLibraryBlock,
    ReferenceCatalogueBlock,
    StorageRoots,
    load_site,
    register_blocks,
)
from blocks.gcn import GcnCredentials
from blocks.notification import NotificationTarget
from blocks.saved import saved_block
from blocks.site import Site
from imaging.errors import InputError
from tasks.engine.task_runner import ComputeTaskRunner


def test_a_folder_is_a_site(tmp_path):
    assert load_site(tmp_path) == Site.at(tmp_path)
    assert load_site(f"{tmp_path}/not-yet") == Site.at(tmp_path / "not-yet")


def test_the_default_site_without_a_server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GW_WORKFLOW_ROOT", raising=False)
    assert load_site() == Site.at(tmp_path / "gw-data")
    monkeypatch.setenv("GW_WORKFLOW_ROOT", str(tmp_path / "night"))
    assert load_site() == Site.at(tmp_path / "night")


def test_an_unknown_site_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such site"):
        load_site("nowhere")


def test_folders_may_be_outside_of_the_root(tmp_path):
    roots = StorageRoots(
        root=tmp_path,
        raw=tmp_path / "archive",
        calibrations=CalibrationLibraryBlock(folder=tmp_path / "library"),
        reference=ReferenceCatalogueBlock(folder=tmp_path / "catalogues"),
    )
    assert roots.site() == Site.at(
        tmp_path, raw=tmp_path / "archive", calibrations=tmp_path / "library", reference=tmp_path / "catalogues"
    )


def test_roots_that_were_saved_before_the_fields_were_text(tmp_path):
    """A block of an earlier version has nulls where nothing was given."""
    roots = StorageRoots.model_validate({"root": str(tmp_path), "raw": None, "products": "", "state": "/fast/state"})
    assert roots.site() == Site.at(tmp_path, state=Path("/fast/state"))
    assert {name: StorageRoots.model_json_schema()["properties"][name]["type"] for name in ("raw", "state")} == {
        "raw": "string",
        "state": "string",
    }


KINDS = {
    StorageRoots: set(),
    CalibrationLibraryBlock: set(),
    ReferenceCatalogueBlock: set(),
    ComputeCluster: set(),
    NotificationTarget: {"webhook"},
    GcnCredentials: {"client_secret"},
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_of_a_form_is_explained_and_secrets_are_secret(kind):
    schema = kind.model_json_schema()
    assert all(field.get("description") for field in schema["properties"].values())
    secrets = {name for name, field in schema["properties"].items() if '"writeOnly": true' in json.dumps(field)}
    assert secrets == KINDS[kind]


def test_there_are_no_notifications_by_default():
    assert not NotificationTarget().is_set
    assert not NotificationTarget(webhook="").is_set
    assert NotificationTarget(webhook="http://127.0.0.1/hook").is_set
    assert NotificationTarget(prefect_block="slack-webhook/astronomers").is_set


def test_a_calibration_library_names_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="no calibration library"):
        CalibrationLibraryBlock(folder=tmp_path).open()


@pytest.mark.usefixtures("prefect_server")
def test_saved_blocks_are_found_by_name(tmp_path):
    StorageRoots(
        root=tmp_path, calibrations=CalibrationLibraryBlock(folder=tmp_path / "library"), scratch=tmp_path / "fast"
    ).save("mountain")
    assert load_site("mountain") == Site.at(tmp_path, calibrations=tmp_path / "library", scratch=tmp_path / "fast")


@pytest.mark.usefixtures("prefect_server")
def test_registering_keeps_saved_blocks(tmp_path):
    ComputeCluster(n_workers=3).save("default", overwrite=True)
    register_blocks(Site.at(tmp_path / "first"))
    register_blocks(Site.at(tmp_path / "second"))
    assert load_cluster().n_workers == 3
    assert load_site("default") == Site.at(tmp_path / "first")
    assert saved_block(CalibrationLibraryBlock, "default").folder == tmp_path / "first" / "calibrations"
    library = CalibrationLibraryBlock(folder=tmp_path / "elsewhere")
    library.save("default", overwrite=True)
    assert load_site("default").calibrations == tmp_path / "elsewhere", "the block of the form is the one that counts"
    for kind in (StorageRoots, ComputeCluster, CalibrationLibraryBlock, ReferenceCatalogueBlock, NotificationTarget):
        kind.delete("default")


def test_without_a_block_the_cluster_is_local():
    assert load_cluster("nothing of the kind") == ComputeCluster()


def test_a_task_runner_is_lazy_and_needs_a_server(monkeypatch):
    with ComputeTaskRunner() as runner:
        assert not runner._shared.is_started
        monkeypatch.setattr(
            "tasks.engine.cluster.PREFECT_API_URL", type("Unset", (), {"value": staticmethod(lambda: None)})
        )
        with pytest.raises(InputError, match="need a Prefect server"):
            _ = runner.client


def test_runners_of_the_same_configuration_are_equal():
    assert ComputeTaskRunner(ComputeCluster(n_workers=2)) == ComputeTaskRunner(ComputeCluster(n_workers=2))
    assert ComputeTaskRunner(ComputeCluster(n_workers=2)) != ComputeTaskRunner()
    assert ComputeTaskRunner(ComputeCluster(n_workers=2)).duplicate() == ComputeTaskRunner(ComputeCluster(n_workers=2))


def test_a_cluster_class_is_imported_when_needed(monkeypatch, prefect_server):
    configuration = ComputeCluster(
        n_workers=1,
        cluster_class="distributed.LocalCluster",
        cluster_arguments={"n_workers": 1, "processes": False, "threads_per_worker": 1, "dashboard_address": None},
    )
    with ComputeTaskRunner(configuration) as runner:
        assert len(runner.client.scheduler_info()["workers"]) == 1
