"""Errors of the machine and of the user's account, told as what they are, whatever a library has made of them."""

from collections.abc import Iterator
from contextlib import contextmanager

from imaging.errors import GWWorkflowError
from imaging.io.access import told
from imaging.memory import is_lack_of_memory, memory_limit_bytes


@contextmanager
def machine_errors() -> Iterator[None]:
    """Turn exceptions of the ``with`` block.

    Raises
    ------
    MemoryError
        If memory is lacking: with the limit, if this process has one. Without a limit an error of this project stays:
        then only what a damaged file asks for cannot be allocated.
    InputError
        If a file may not be read or written: with path, owner and remedy.
    """
    try:
        yield
    except Exception as error:
        limit = memory_limit_bytes()
        if is_lack_of_memory(error) and (limit is not None or not isinstance(error, GWWorkflowError)):
            raise MemoryError(sentence_of_memory(error, limit)) from error
        refused = told(error) if isinstance(error, OSError) else None
        if refused is not None:
            raise refused from error
        raise


def sentence_of_memory(error: BaseException, limit: int | None) -> str:
    """Return the sentence of a lack of memory.

    Parameters
    ----------
    error
        What was raised.
    limit
        Limit of the process, bytes; None without one.
    """
    said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if limit is None:
        return f"out of memory ({said})"
    return f"out of memory: this process may have {limit / 2**30:.1f} GiB ({said}). To do: raise ulimit -v and -d."
