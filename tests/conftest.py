"""Fixtures that every test may use."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data beside the checkout, or skip the test."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the folder of real data is absent: {REAL_DATA}")
    return REAL_DATA


def pytest_configure(config: pytest.Config) -> None:
    """Keep Prefect's files out of the home folder and its messages out of the report."""
    if "PREFECT_HOME" not in os.environ:
        os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="gw-workflow-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ["PREFECT_HOME"], ignore_errors=True))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ.update(DO_NOT_TRACK="1", PREFECT_SERVER_ANALYTICS_ENABLED="false")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Run flows against a server with an empty database, started once for all tests that ask for it."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
