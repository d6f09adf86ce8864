"""A short storm: processes are killed at random, and the products are those of a calm day."""

import pytest

from bench.chaos import storm

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.dask]


def test_an_exposure_under_fire_comes_out_the_same(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    result = storm(tmp_path, n_kills=5, seed=8)
    assert result.kills.total() == 5
    assert len(result.kills) >= 2, f"only one kind of victim: {result.kills}"
    assert result.differing == []
    assert result.redone == 0, "finished work was done again"
