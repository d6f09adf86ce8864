"""Workers are forked from a process that has imported what they need, with the settings of their run."""

import json
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.engine.fork_server import METHOD

ROOT = Path(__file__).resolve().parents[3]

BUSY_S = 4.0
"""CPU time of a worker: more than the script itself takes for its imports."""

SCRIPT = """
import json, logging, multiprocessing, os, signal, sys, time
from multiprocessing import forkserver
import tasks.engine.jobs
from tasks.engine.fork_server import start_fork_server

def look():
    while time.process_time() < float(sys.argv[1]):
        pass
    loaded = {"distributed.worker", "prefect.task_engine", "tasks.engine.jobs"} <= sys.modules.keys()
    status = open(f"/proc/{os.getppid()}/status").read().split("Threads:")[1].split()[0]
    from prefect.settings import get_current_settings
    url = get_current_settings().api.url
    level = logging.getLogger("distributed").level
    return loaded, int(status), url, level, sys.modules["tasks"].__file__, os.environ["OMP_NUM_THREADS"]

if __name__ == "__main__":
    before = dict(os.environ)
    settings = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "OMP_NUM_THREADS": "3"}
    settings["DASK_LOGGING__DISTRIBUTED"] = "critical"
    current = [start_fork_server(settings), start_fork_server(settings), start_fork_server({"PREFECT_API_URL": "x"})]
    assert dict(os.environ) == before
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        first = pool.apply(look)
    process = forkserver._forkserver._forkserver_pid
    os.kill(process, signal.SIGKILL)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    sys.argv[1] = "0"
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        print(json.dumps([current, first, pool.apply(look)]))
    assert dict(os.environ) == before
"""


def time_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.skipif(METHOD == "spawn", reason="workers are forked on Linux")
def test_a_worker_has_everything_at_once(tmp_path):
    """A package of the same name in the working folder is not taken; other settings are noticed.

    The same holds for workers after the process from which they are forked was killed.
    """
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("raise RuntimeError('not ours')")
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(BUSY_S)]
    before = time_of_children()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time_of_children() > before + BUSY_S, "the time of a worker counts"
    current, *workers = json.loads(done.stdout)
    assert current == [True, True, False]
    for is_loaded, threads, url, level, own, omp in workers:
        assert is_loaded
        assert threads == 1, "a fork of several threads may hold a lock that nobody releases"
        assert (url, omp, level) == ("http://127.0.0.1:9/api", "3", logging.CRITICAL)
        assert Path(own).is_relative_to(ROOT)
