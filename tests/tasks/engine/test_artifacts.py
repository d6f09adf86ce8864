"""Artifacts are readable on the pages of runs."""

import json
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pytest

from tasks.engine import artifacts as run_page


@pytest.fixture
def shown(monkeypatch) -> list[str]:
    """The content of every artifact that is created."""
    contents: list[str] = []

    class Client:
        def __enter__(self):
            return self

        def __exit__(self, *args):
            return None

        def create_artifact(self, artifact):
            contents.append(artifact.data)
            return SimpleNamespace(id=uuid4())

    monkeypatch.setattr(run_page, "get_client", lambda sync_client: Client())
    return contents


def refuse(constant: str) -> None:
    raise ValueError(f"a browser does not read {constant}")


def test_a_table_with_unknown_numbers_is_read_by_a_browser(shown):
    """A single NaN, which is no JSON, leaves the whole table empty on the page."""
    rows = [{"CCD": 7, "found": float("nan"), "limit": float("inf")}, {"CCD": np.int64(8), "found": 0.5, "limit": None}]
    run_page.create_artifact(uuid4(), "table", "efficiency-1", rows, "efficiency")
    read = json.loads(shown[0], parse_constant=refuse)
    assert read == [{"CCD": 7, "found": None, "limit": None}, {"CCD": 8, "found": 0.5, "limit": None}]


def test_text_and_percent_are_shown_as_they_are(shown):
    run_page.create_artifact(uuid4(), "markdown", "page", "# NaN", "a page")
    run_page.create_artifact(uuid4(), "progress", "progress", 12.5, "progress")
    assert shown == ["# NaN", 12.5]
