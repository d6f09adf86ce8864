"""Write and read the truth of a simulation, and its intermediate files."""

import os
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import InputError
from imaging.io.atomic import atomic_path, storage_error

DAMAGED = (
    OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error, tokenize.TokenError
)  # fmt: skip
"""What NumPy raises on damaged files of arrays."""


def settings_truth_path(root: Path) -> Path:
    """Return the path of a simulation's settings."""
    return Path(root) / "truth" / "settings.json"


def sky_table_path(root: Path, name: str) -> Path:
    """Return the path of a true-sky table of a simulation."""
    return Path(root) / "truth" / "sky" / f"{name}.parquet"


def exposure_truth_path(root: Path, expnum: int) -> Path:
    """Return the path of the truth of an exposure."""
    return Path(root) / "truth" / "exposures" / f"{expnum:08d}.json"


def source_truth_path(root: Path, expnum: int, ccd: int) -> Path:
    """Return the path of the table of true sources on a CCD."""
    return Path(root) / "truth" / "sources" / f"{expnum:08d}" / f"c{ccd:02d}.parquet"


def pixel_truth_path(root: Path, expnum: int, ccd: int) -> Path:
    """Return the path of the true cosmic-ray, streak and saturated pixels of a CCD."""
    return Path(root) / "truth" / "pixels" / f"{expnum:08d}" / f"c{ccd:02d}.npz"


def exposures_with_truth(root: Path) -> tuple[int, ...]:
    """Return the exposure numbers of a simulation, in order."""
    return tuple(sorted(int(path.stem) for path in (Path(root) / "truth" / "exposures").glob("*.json")))


def write_pixel_truth(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays compressed and atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **dict(arrays))  # type: ignore[arg-type]


def read_pixel_truth(path: Path) -> dict[str, NDArray[Any]]:
    """Read arrays by name.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    try:
        with Path(path).open("rb") as stream, np.load(stream) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except DAMAGED as error:
        raise _damaged(path) from error


def read_truth_text(path: Path) -> str:
    """Read a small text file of the truth.

    Raises
    ------
    InputError
        If the file is missing or no text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> InputError:
    return InputError("truth file missing or damaged", value=path, remedy="simulate the night again")


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write one intermediate array, uncompressed and not flushed to disk.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array)
    except OSError as error:
        raise storage_error(error, path) from error


def read_array(path: Path) -> NDArray[Any]:
    """Map an intermediate array into memory.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    try:
        return np.load(path, mmap_mode="r")
    except DAMAGED as error:
        raise _damaged(path) from error


def write_part(path: Path, content: bytes) -> None:
    """Write the bytes of one encoded extension, not flushed to disk.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise storage_error(error, path) from error


def remove_folder(folder: Path) -> None:
    """Remove a folder of intermediate files, if it exists."""
    for base, _, names in os.walk(folder, topdown=False):
        for name in names:
            Path(base, name).unlink()
        Path(base).rmdir()
