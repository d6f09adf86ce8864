"""Fixtures that every test may use."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

import imaging  # noqa: F401 (before NumPy, whose sums depend on the number of its threads)

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

OPTIONAL = ("real_data", "optional")
"""Markers of tests that need what a machine may lack; they do not count for the least number of tests."""


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data beside the checkout, or skip the test."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the folder of real data is absent: {REAL_DATA}")
    return REAL_DATA


def pytest_configure(config: pytest.Config) -> None:
    """Keep Prefect's files out of the home folder, each process's its own, and its messages out of the report."""
    home = tempfile.mkdtemp(prefix="gw-workflow-tests-")
    os.environ["PREFECT_HOME"] = home
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ.update(DO_NOT_TRACK="1", PREFECT_SERVER_ANALYTICS_ENABLED="false")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let pyproject.toml say how many tests there are at least."""
    parser.addini("minimum_tests", "tests that must run when the whole suite runs", default="0")


LONGEST = "flows"
"""Folder of the tests that take nearly half of the time, few as they are."""


class ByFolder(LoadScopeScheduling):
    """Gives the tests of a folder, which share what they set up, to one process."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.split("::", 1)[0].rpartition("/")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFolder:
    """Say how tests are shared out where several processes run them: folders in the order of their collection."""
    config.option.loadscopereorder = False
    return ByFolder(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folder first that takes longest, so that nobody waits for it, and mark what needs the real data."""
    items.sort(key=lambda item: item.path.parent.name != LONGEST)
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_data)


class TestCount:
    """Counts the tests that ran, so that a suite that has lost some by accident does not pass."""

    __test__ = False

    def __init__(self, minimum: int) -> None:
        self.minimum = minimum
        self.ran = self.optional = self.unguarded = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test whose body has run."""
        if report.skipped and "security" in report.keywords:
            self.unguarded += 1
        if report.when == "call" and report.outcome != "skipped":
            self.ran += 1
            self.optional += any(marker in report.keywords for marker in OPTIONAL)

    @property
    def is_short(self) -> bool:
        """Whether fewer tests ran than there are, or doors were not tried although root can install what it takes."""
        can_install = os.geteuid() == 0 and "GW_WORKFLOW_WITHOUT_BROWSER" not in os.environ
        is_unguarded = bool(self.minimum and self.unguarded and can_install)
        return is_unguarded or self.ran - self.optional < self.minimum

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run of the whole suite that was too short."""
        if self.is_short and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how many tests ran."""
        text = f"{self.ran} tests ran, {self.optional} of them need what a machine may lack"
        if self.minimum:
            text += f"; without these at least {self.minimum} must run"
        if self.unguarded:
            text += f"; {self.unguarded} tests of security were skipped, see their reasons"
        terminalreporter.write_line(text, red=self.is_short)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Watch the number of tests when the whole suite is asked for, in the process that hears of all of them."""
    config = session.config
    if hasattr(config, "workerinput"):
        return
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not (
        config.option.keyword or config.option.markexpr or config.option.maxfail
    )
    config.pluginmanager.register(TestCount(int(config.getini("minimum_tests")) if is_whole else 0))


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Run flows against a server with an empty database, started once for all tests that ask for it."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
