"""The cache of parsed sources between processes, and its validation."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.engine import code_version as versions
from tasks.engine import source_cache
from tasks.engine.code_version import code_version
from tasks.engine.source_cache import FILE, MOST, Reading, SourceCache, readings_in

READING = Reading("ab" * 16, ("numpy", "numpy.linalg"), {"np": "numpy:"}, {"f": ("cd" * 16, ("np.sin",))}, ())


@pytest.fixture
def root(tmp_path):
    return tmp_path / "sources"


@pytest.fixture
def science(tmp_path, monkeypatch):
    """A package in place of the science, a separate cache folder, and the list of parsed sources."""
    package = tmp_path / "sciencepackage"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "data" / "table.csv").write_text("1\n")
    (package / "sums.py").write_text("def add(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(versions, "BY_MODULE", ("sciencepackage",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    parsed = []
    parse = ast.parse
    monkeypatch.setattr(source_cache.ast, "parse", lambda source: parsed.append(source) or parse(source))
    yield package, parsed
    start_anew()


def start_anew() -> None:
    for known in (
        versions._version_of,
        versions._source_of,
        versions._library_version,
        versions._sources,
        versions._is_module,
    ):
        known.cache_clear()


def version_in_a_new_process() -> str:
    start_anew()
    return code_version("sciencepackage.sums")


def memory(root: Path) -> SourceCache:
    return SourceCache.open(root)


def test_a_later_process_parses_nothing_and_finds_the_same_version(science):
    _, parsed = science
    first = version_in_a_new_process()
    assert len(parsed) == 2
    assert version_in_a_new_process() == first
    assert len(parsed) == 2


@pytest.mark.parametrize(("name", "text"), [("sums.py", "def add(x):\n    return x + 2\n"), ("data/table.csv", "2\n")])
def test_a_changed_byte_is_detected_even_with_the_same_size_and_time(science, name, text):
    package, parsed = science
    path = package / name
    then = path.stat()
    first, read = version_in_a_new_process(), len(parsed)
    path.write_text(text)
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert path.stat().st_size == then.st_size
    changed = version_in_a_new_process()
    assert changed != first
    assert len(parsed) == read + 1


def test_a_reverted_change_is_found_in_the_cache(science):
    package, parsed = science
    path = package / "sums.py"
    text, first = path.read_text(), version_in_a_new_process()
    path.write_text("def add(x):\n    return x + 3\n")
    version_in_a_new_process()
    path.write_text(text)
    read = len(parsed)
    assert version_in_a_new_process() == first
    assert len(parsed) == read


@pytest.mark.parametrize("place", [0, 10, 33, 60, -1])
def test_a_damaged_cache_is_ignored(science, tmp_path, place):
    _, parsed = science
    first = version_in_a_new_process()
    (path,) = tmp_path.glob(f"caches/gw-workflow/sources/*/{FILE}")
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert version_in_a_new_process() == first
    assert len(parsed) == 4
    version_in_a_new_process()
    assert len(parsed) == 4


@pytest.mark.parametrize("content", [b"", b"\n", b"{}", b"\x00" * 100])
def test_a_truncated_cache_is_ignored(tmp_path, content):
    path = tmp_path / FILE
    path.write_bytes(content)
    assert readings_in(path) == {}


def test_a_read_only_folder_only_costs_time(science, tmp_path):
    _, parsed = science
    (tmp_path / "caches").write_text("a file where the folder should be")
    first = version_in_a_new_process()
    assert version_in_a_new_process() == first
    assert len(parsed) == 4


def test_a_user_without_a_home_folder_has_no_cache(monkeypatch):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    found = SourceCache.open()
    found.add("key", READING)
    found.keep()
    assert found.get("key") == READING


def test_entries_of_another_code_version_are_ignored(root, monkeypatch, tmp_path):
    first = memory(root)
    first.add("key", READING)
    first.keep()
    assert memory(root).known["key"].digest == READING.digest
    changed = tmp_path / "source_cache.py"
    changed.write_text("docstrings count")
    monkeypatch.setattr(source_cache, "__file__", str(changed))
    assert memory(root).get("key") is None


def test_entries_of_other_processes_are_kept(root):
    one, other = memory(root), memory(root)
    for found, key in ((one, "one"), (other, "other")):
        found.add(key, READING)
        found.keep()
    assert set(memory(root).known) == {"one", "other"}


def test_concurrent_writes_leave_a_valid_cache(root):
    script = (
        "import sys; from pathlib import Path; from tasks.engine.source_cache import Reading, SourceCache\n"
        "for n in range(40):\n"
        "    m = SourceCache.open(Path(sys.argv[1]))\n"
        "    m.add(f'{sys.argv[2]}{n}', Reading('ab', (), {}, {}, ())); m.keep()\n"
    )
    command = [sys.executable, "-c", script, str(root)]
    running = [subprocess.Popen([*command, name], cwd=Path(__file__).parents[3]) for name in "ab"]
    assert [process.wait(60) for process in running] == [0, 0]
    (folder,) = root.iterdir()
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert {"a39", "b39"} & set(memory(root).known)


def test_the_oldest_entries_are_dropped_first(root):
    first = memory(root)
    for number in range(MOST):
        first.add(str(number), READING)
    first.keep()
    later = memory(root)
    later.add("new", READING)
    later.keep()
    kept = memory(root).known
    assert len(kept) == MOST
    assert "new" in kept
    assert "0" not in kept
