"""Fixtures that every test may use."""

from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data beside the checkout, or skip the test."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the folder of real data is absent: {REAL_DATA}")
    return REAL_DATA
