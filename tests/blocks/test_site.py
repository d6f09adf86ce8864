"""The folders of a site."""

from pathlib import Path

import pytest

from blocks.site import FOLDERS, Site
from imaging.errors import InputError


def test_everything_lies_below_the_root_by_default(tmp_path):
    site = Site.at(tmp_path)
    assert [getattr(site, name) for name in FOLDERS] == [tmp_path / name for name in FOLDERS]


def test_a_folder_may_lie_elsewhere(tmp_path):
    site = Site.at(tmp_path, raw=Path("/archive"), scratch=None)
    assert site.raw == Path("/archive")
    assert site.scratch == tmp_path / "scratch"


@pytest.mark.parametrize("folder", FOLDERS)
def test_names_are_relative_and_convert_back(tmp_path, folder):
    site = Site.at(tmp_path, raw=Path("/archive"))
    path = getattr(site, folder) / "a" / "b.fits"
    assert site.name_of(path) == f"{folder}/a/b.fits"
    assert site.path(f"{folder}/a/b.fits") == path


def test_a_file_outside_keeps_its_path(tmp_path):
    site = Site.at(tmp_path)
    assert site.name_of(Path("/elsewhere/x")) == "/elsewhere/x"
    assert site.path("/elsewhere/x") == Path("/elsewhere/x")


def test_a_name_without_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="without a folder"):
        Site.at(tmp_path).path("elsewhere/x")


def test_the_destination_of_products(tmp_path):
    site = Site.at(tmp_path)
    assert site.store == tmp_path / "products"
    assert site.storing_in("scratch").store == tmp_path / "scratch"


def test_a_relative_root_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Site.at("here").root == tmp_path / "here"
