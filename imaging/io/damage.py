"""Turn what libraries raise on damaged files into this project's errors.

The one place that knows the exceptions of astropy, fitsio, pyarrow, NumPy and json.
"""

import csv
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from astropy.io import fits
from pydantic import ValidationError

from imaging.errors import GWWorkflowError, InputError, StorageError
from imaging.io.access import refusal

DAMAGE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError),
    *(RuntimeError, MemoryError, Warning, csv.Error, zlib.error, struct.error, pa.ArrowException, fits.VerifyError),
)
"""What libraries raise on damaged files."""


class DamagedError(ValueError):
    """A file contradicts itself; :func:`reading` names the file."""


@contextmanager
def reading(
    path: Path | str,
    problem: str,
    remedy: str,
    *,
    error: type[InputError | StorageError] = InputError,
    missing: str | None = None,
    limit: str | None = None,
) -> Iterator[None]:
    """Turn the exceptions of a ``with`` block that reads a file into one error with file, reason and remedy.

    Parameters
    ----------
    path
        The file, or its name in messages.
    problem
        What is wrong, such as ``calibration file damaged``.
    remedy
        What the user can do.
    error
        Class of the error.
    missing
        What is wrong if the file does not exist; None for ``problem``.
    limit
        What is allowed.
    """
    try:
        yield
    except GWWorkflowError as cause:
        raise completed(cause, path, remedy) from cause
    except FileNotFoundError as cause:
        if missing is None:
            raise error(problem, value=f"{path}: no such file", limit=limit, remedy=remedy) from cause
        raise error(missing, value=path, remedy=remedy) from cause
    except PermissionError as cause:
        refused = refusal(Path(path), "the file")
        raise error(refused.problem, value=refused.value, remedy=refused.remedy) from cause
    except DAMAGE as cause:
        raise error(problem, value=f"{path}: {reason_of(cause)}", limit=limit, remedy=remedy) from cause


def completed(error: GWWorkflowError, path: Path | str, remedy: str) -> GWWorkflowError:
    """Return an error of this project that names the file and what to do, if it does not yet."""
    known = error.details()
    if str(path) not in str(error):
        known["value"] = f"{path}: {error.value}" if error.value is not None else str(path)
    text = "".join(c if c.isprintable() else "?" for c in str(known["value"]))
    return type(error)(error.problem, **({"remedy": remedy} | known | {"value": text[:1000]}))


def reason_of(error: BaseException) -> str:
    """Return the first line of an exception's text, printable and of at most 200 characters."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))[:200]
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:200].rstrip(".: ")
