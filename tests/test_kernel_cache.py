"""Machine code of kernels is never that of older sources."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from imaging.kernel_cache import VARIABLE, keep_kernels_apart, one_compiles, remove_unused, version_of_kernels

CALLEE = "from numba import njit\n@njit(cache=True)\ndef inner(x):\n    return x + {number}\n"
CALLER = """
from numba import njit
from kernels.callee import inner
@njit(cache=True)
def outer(x):
    return inner(x)
"""
RUN = """
import os, sys
from pathlib import Path
from imaging.kernel_cache import keep_kernels_apart
del os.environ["NUMBA_CACHE_DIR"]
keep_kernels_apart(Path(sys.argv[1]), Path(sys.argv[2]))
from kernels.caller import outer
print(outer(1))
"""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "callee.py").write_text(CALLEE.format(number=1))
    (folder / "caller.py").write_text(CALLER)
    (folder / "words.py").write_text("HELLO = 1\n")
    return folder


@pytest.mark.slow
def test_an_edited_kernel_is_used_by_kernels_of_other_files(package, tmp_path):
    # Python takes its own compiled file for current when an edit within the same second leaves the size as it was.
    unwritten = {"PYTHONDONTWRITEBYTECODE": "1"}
    environment = os.environ | unwritten | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    command = [sys.executable, "-c", RUN, str(package), str(tmp_path / "caches")]
    answers = []
    for number in (1, 1, 5):
        (package / "callee.py").write_text(CALLEE.format(number=number))
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        answers.append(int(done.stdout))
    assert answers == [2, 2, 6]
    assert len(list((tmp_path / "caches").iterdir())) == 2


def test_only_files_with_kernels_count(package):
    first = version_of_kernels(package)
    (package / "words.py").write_text("HELLO = 2\n")
    assert version_of_kernels(package) == first
    (package / "callee.py").write_text(CALLEE.format(number=2))
    assert version_of_kernels(package) != first


def test_the_users_own_folder_is_left_alone(package, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "/somewhere/else")
    assert keep_kernels_apart(package, tmp_path / "caches") is None
    assert os.environ[VARIABLE] == "/somewhere/else"


def test_machine_code_that_nobody_uses_goes(tmp_path):
    for name, days in (("old", 40.0), ("new", 1.0)):
        (tmp_path / name).mkdir()
        then = time.time() - days * 86400.0
        os.utime(tmp_path / name, (then, then))
    remove_unused(tmp_path)
    assert [folder.name for folder in tmp_path.iterdir()] == ["new"]


def test_one_compiles_and_the_others_wait_and_then_load_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    compiling, loading, events = threading.Event(), threading.Barrier(2), []

    def first():
        with one_compiles("measure"):
            compiling.set()
            time.sleep(0.2)
            events.append("compiled")

    def later():
        compiling.wait()
        with one_compiles("measure"):
            events.append("loads")
            loading.wait(timeout=10)  # both are inside at once

    with ThreadPoolExecutor(3) as pool:
        for ended in [pool.submit(call) for call in (first, later, later)]:
            ended.result()
    assert events == ["compiled", "loads", "loads"]


DIE = "import os\nfrom imaging.kernel_cache import one_compiles\nwith one_compiles('measure'):\n    os._exit(1)\n"


def test_a_process_that_dies_leaves_the_compilation_to_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert subprocess.run([sys.executable, "-c", DIE], check=False).returncode == 1
    with one_compiles("measure"):
        assert not (tmp_path / "measure.compiled").exists()
    assert (tmp_path / "measure.compiled").exists()


def test_nobody_waits_without_a_folder_or_after_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "absent"))
    with one_compiles("measure"), one_compiles("measure"):
        pass
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match="bad CCD"), one_compiles("measure"):
        raise ValueError("bad CCD")
    with one_compiles("measure"), one_compiles("measure"):
        pass
