"""Fixtures of the tests of the pages for newcomers."""

import pytest
from pages import Overlay


@pytest.fixture
def overlay(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    layers = Overlay(tmp_path / "layers")
    yield layers
    layers.close()
