"""Messages of steps that exceeded their time limit."""

import pytest

from tasks.engine import limits as resources
from tasks.engine.limits import StuckError, TimeLimit

TRACE = """Timeout (0:30:00)!
Thread 0x00007f0000000001 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait

Thread 0x00007f0000000002 (most recent call first):
  File "/site-packages/numpy/linalg/linalg.py", line 393 in solve
  File "/opt/gw-workflow/imaging/psf/solve.py", line 41 in solve_psf
  File "/opt/gw-workflow/tasks/measure.py", line 88 in measure
"""


class OwnProcess:
    """A worker that has a nanny."""

    nanny = "tcp://127.0.0.1:1"


@pytest.fixture
def in_worker(monkeypatch):
    armed = []
    monkeypatch.setattr("distributed.get_worker", OwnProcess)
    monkeypatch.setattr(resources.faulthandler, "dump_traceback_later", lambda *a, **k: armed.append(a[0]))
    return armed


def test_the_place_is_the_first_line_of_project_code(in_worker, tmp_path):
    path = tmp_path / "stuck" / "run.txt"
    path.parent.mkdir()
    path.write_text(TRACE * resources.TIMES_STUCK)
    with pytest.raises(StuckError) as caught, TimeLimit(1800, path):
        pytest.fail("it was begun once more")
    assert str(caught.value) == (
        '2 worker processes exceeded the time limit of 1800 s, in "/opt/gw-workflow/imaging/psf/solve.py", '
        "line 41 in solve_psf"
    )
    assert in_worker == [], "no limit is left behind"
    assert not path.exists()


def test_a_traceback_without_project_code_names_no_place(in_worker, tmp_path):
    path = tmp_path / "run.txt"
    path.write_text('Timeout (0:00:01)!\n  File "/usr/lib/python3.11/threading.py", line 324 in wait\n' * 2)
    with pytest.raises(StuckError, match=r"limit of 5 s$"), TimeLimit(5, path):
        pytest.fail("it was begun once more")


def test_after_one_timeout_the_step_runs_again(in_worker, tmp_path):
    path = tmp_path / "run.txt"
    path.write_text(TRACE)
    with TimeLimit(1800, path):
        assert in_worker == [1800]
        assert path.read_text() == TRACE, "the first time is not forgotten while the second runs"
    assert not path.exists(), "a step that ends by itself leaves nothing"


def test_outside_of_a_worker_there_is_no_limit(tmp_path):
    with TimeLimit(0.001, tmp_path / "run.txt"):
        assert list(tmp_path.iterdir()) == []
