"""The key of a record and the version of a step's code."""

import ast
import shutil
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest
from toy_steps import EXPOSURE, ToySettings, toy

from blocks.site import Site
from tasks.engine import code_version as versions
from tasks.engine import source_cache
from tasks.engine.cache import record_key
from tasks.engine.code_version import code_version, reached
from tasks.engine.jobs import FileRecord
from tasks.jobs import StepJob
from tasks.steps import DETREND, MEASURE, RANK


def job(**changes) -> StepJob:
    file = FileRecord(path="raw/20170818/a.fits.fz", size=10, mtime_ns=5, content_hash="abc")
    given = {
        "exposure": EXPOSURE,
        "ccd": 7,
        "site": Site.at("/data"),
        "inputs": {"raw": file},
        "settings": ToySettings(),
    }
    return StepJob(**(given | changes))


def test_the_key_is_readable():
    key = record_key(DETREND, "code", job())
    assert key.startswith("1300001/detrend-ccd07-")
    assert key.endswith(".json")
    assert record_key(RANK, "code", StepJob(night=20170818, site=Site.at("/data"))).startswith("night-20170818/rank-")


def test_the_key_does_not_depend_on_where_and_when():
    file = FileRecord(path="raw/elsewhere.fits.fz", size=10, mtime_ns=999, content_hash="abc")
    same = job(site=Site.at("/other"), inputs={"raw": file}, parameters={})
    assert record_key(DETREND, "code", same) == record_key(DETREND, "code", job())


@pytest.mark.parametrize(
    "changes",
    [
        {"ccd": 8},
        {"exposure": EXPOSURE.__class__(1300002, "i", 20170818, 4, 5)},
        {"exposure": EXPOSURE.__class__(1300001, "i", 20170818, 4, 6)},
        {"settings": ToySettings(level=2.0)},
        {"settings": None},
        {"parameters": {"mode": "bad"}},
        {"season": 60},
        {"inputs": {"raw": FileRecord(path="raw/20170818/a.fits.fz", size=10, mtime_ns=5, content_hash="abd")}},
        {"site": Site.at("/data").storing_in("scratch")},
    ],
)
def test_the_key_depends_on_all_that_affects_the_result(changes):
    assert record_key(DETREND, "code", job(**changes)) != record_key(DETREND, "code", job())


def test_the_key_depends_on_step_and_code():
    keys = {record_key(step, code, job()) for step in (DETREND, MEASURE) for code in ("a", "b")}
    assert len(keys) == 4


def test_the_key_is_the_same_for_every_order_of_parameters():
    one, other = job(parameters={"a": 1, "b": 2}), job(parameters={"b": 2, "a": 1})
    assert toy.key(one) == toy.key(other)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in place of the science: ``top`` imports ``low`` inside a function, no module imports ``other``."""
    root = tmp_path / "sciencepackage"
    (root / "sub" / "data").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "top.py": "import numpy\n\ndef f(x):\n    from sciencepackage.sub import low\n    return low.g(x)\n",
        "sub/__init__.py": "",
        "sub/low.py": '"""Low."""\n\ndef g(x):\n    """Add."""\n    return x + 1  # one\n',
        "sub/data/table.csv": "a\n1\n",
        "other.py": "x = 1\n",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(versions, "BY_MODULE", ("sciencepackage",))
    return root


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    """A separate cache folder, and a process that has parsed nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    start_anew()
    yield tmp_path / "caches" / "gw-workflow" / "sources"
    start_anew()


def start_anew() -> None:
    """Clear the caches of this process, as in a new one."""
    for known in (
        versions._version_of,
        versions._source_of,
        versions._library_version,
        versions._sources,
        versions._is_module,
    ):
        known.cache_clear()


def version() -> str:
    start_anew()
    return code_version("sciencepackage.top")


def test_the_closure_follows_imports_inside_functions(package):
    assert set(reached("sciencepackage.top").parts) == {
        "sciencepackage",
        "sciencepackage.top",
        "sciencepackage.sub",
        "sciencepackage.sub.low",
    }


@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        ("sub/low.py", '"""Lower."""\n\n\ndef g(x):\n    """Say more."""\n    return x + 1\n', False),
        ("sub/low.py", '"""Low."""\n\ndef g(x):\n    """Add."""\n    return x + 2  # one\n', True),
        ("sub/data/table.csv", "a\n2\n", True),
        ("other.py", "x = 2\n", False),
    ],
    ids=["words", "code", "table", "another module"],
)
def test_the_version_changes_with_the_code_only(package, name, text, changes):
    before = version()
    (package / name).write_text(text)
    assert (version() != before) is changes


def test_the_version_changes_with_a_numerical_library(package, monkeypatch):
    before = version()
    monkeypatch.setattr(versions.importlib.metadata, "version", lambda name: "0.0.1")
    assert version() != before


def test_a_docstring_of_an_attribute_does_not_count():
    plain = ast.parse("class A:\n    x: int = 1\n    y: str = 'text'\n")
    documented = ast.parse(
        textwrap.dedent("""
            class A:
                '''Say what it is.'''
                x: int = 1
                '''Say why.'''
                y: str = 'text'
        """)
    )
    assert source_cache.described(plain) == source_cache.described(documented)


def test_an_unknown_module_is_an_error():
    with pytest.raises(ModuleNotFoundError):
        code_version("imaging.nothing_of_the_kind")


def test_the_science_of_the_project_can_be_versioned():
    assert len(code_version("imaging.wcs.tpv")) == 32
    assert "imaging.errors" in reached("imaging.wcs.tpv").parts


def test_code_versions_can_be_computed_in_many_threads_at_once():
    modules = ["tasks.measure", "tasks.difference", "tasks.detrend", "tasks.rank"] * 4
    with ThreadPoolExecutor(len(modules)) as pool:
        found = list(pool.map(code_version, modules))
    assert len(set(found)) == 4
    assert found[:4] == found[4:8] == found[8:12] == found[12:]


def test_a_thread_that_parses_elsewhere_at_the_same_time_does_no_harm(memory, monkeypatch):
    parse, calls = ast.parse, []

    def disturbed(source):
        calls.append(source)
        if len(calls) % 3 == 1:
            raise SystemError("AST constructor recursion depth mismatch (before=78, after=90)")
        return parse(source)

    expected = code_version("tasks.measure")
    shutil.rmtree(memory)
    start_anew()
    monkeypatch.setattr(source_cache.ast, "parse", disturbed)
    assert code_version("tasks.measure") == expected
    assert len(calls) > 100
