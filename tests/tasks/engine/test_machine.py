"""A lack of memory and missing rights are told as such, whatever class of exception a library has made of them."""

import errno

import pytest

from imaging.errors import CcdError, InputError, StorageError
from imaging.io.damage import reading
from imaging.memory import is_lack_of_memory
from tasks.engine.machine import machine_errors
from tasks.engine.outcomes import failure_of

LIMIT = 3 << 30


@pytest.fixture
def limit(monkeypatch):
    """Let this process have a limit of 3 GiB, or none."""

    def given(value):
        monkeypatch.setattr("tasks.engine.machine.memory_limit_bytes", lambda: value)

    given(LIMIT)
    return given


DISGUISES = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    OSError("FITSIO status = 113: memory allocation failure"),
    ValueError("failed to create intent(cache|hide)|optional array"),
    RuntimeError("can't start new thread"),
    Exception("SEP: unable to allocate 64 MB"),
]


@pytest.mark.parametrize("error", DISGUISES, ids=lambda error: type(error).__name__)
def test_every_disguise_of_a_lack_of_memory_is_told_with_the_limit(limit, error):
    told = pytest.raises(MemoryError, match=r"out of memory: this process may have 3\.0 GiB.*ulimit -v")
    with told as raised, machine_errors():
        raise error
    failure = failure_of(raised.value, str(raised.value))
    assert (failure.reason, failure.kind) == ("out_of_memory", "memory")


@pytest.mark.parametrize("kind", [InputError, StorageError])
def test_a_good_file_that_does_not_fit_is_not_called_damaged(limit, tmp_path, kind):
    def read():
        with machine_errors(), reading(tmp_path / "f.fits", "file damaged", "copy it", error=kind):
            raise MemoryError("Unable to allocate 8.00 MiB")

    with pytest.raises(MemoryError, match=r"3\.0 GiB"):
        read()
    limit(None)  # then only what a damaged file asks for cannot be allocated
    with pytest.raises(kind, match="file damaged"):
        read()


@pytest.mark.parametrize(
    "error", [CcdError("few stars", reason="too_few_stars"), ValueError("negative"), FileNotFoundError(2, "no", "f")]
)
def test_other_errors_stay_what_they_are(limit, error):
    with pytest.raises(type(error)) as raised, machine_errors():
        raise error
    assert raised.value is error
    assert not is_lack_of_memory(error)


def test_a_file_that_may_not_be_read_is_told_with_its_owner(tmp_path):
    path = tmp_path / "catalogue.parquet"
    path.touch()
    denied = PermissionError(errno.EACCES, "Permission denied", str(path))
    with pytest.raises(InputError, match=rf"{path}: of .*mode"), machine_errors():
        raise denied
    told = pytest.raises(InputError, match=rf"the file may not be read .*{path}: of")
    with told, reading(path, "table damaged", "copy it"):
        raise denied
