"""Keep what was judged of light curves between two rankings, so that a new sky map needs no look at the photometry."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import feather

from imaging.candidates.lightcurve import LightcurveLikelihood
from imaging.errors import StorageError
from imaging.io.atomic import atomic_path
from imaging.tables import column

ARRAYS = ("kilonova", "rivals", "history", "history_snr", "n_after")
"""Fields of the judgement that are columns; the grid of moduli is in the metadata."""

MODULI, KEY = b"moduli", b"key"


def write_lightcurve_likelihood(path: Path, likelihood: LightcurveLikelihood, key: str) -> None:
    """Write what was judged of the light curves of n candidates: an uncompressed Feather file, read in place.

    Parameters
    ----------
    path
        The file.
    likelihood
        What was judged.
    key
        Names the light curves and the settings that it was judged with.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    columns = {}
    for name in ARRAYS:
        values = np.ascontiguousarray(getattr(likelihood, name))
        flat = pa.array(values.ravel())
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1]) if values.ndim == 2 else flat
    about = {MODULI: np.asarray(likelihood.moduli, dtype="<f8").tobytes().hex().encode(), KEY: key.encode()}
    table = pa.table(columns).replace_schema_metadata(about)
    with atomic_path(path) as temporary:
        feather.write_feather(table, temporary, compression="uncompressed")


def read_lightcurve_likelihood(path: Path, key: str) -> LightcurveLikelihood | None:
    """Read what was judged of light curves; None if it was judged of others or with other settings.

    Raises
    ------
    StorageError
        If the file is missing or damaged.
    """
    try:
        table = feather.read_table(path, memory_map=True)
        about = table.schema.metadata or {}
        if about.get(KEY) != key.encode():
            return None
        moduli = np.frombuffer(bytes.fromhex(about[MODULI].decode()), dtype="<f8").astype(np.float64)
        return LightcurveLikelihood(moduli, *(column(table, name) for name in ARRAYS))
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise StorageError(
            f"judged light curves missing or damaged: {str(error).splitlines()[0]}",
            value=path,
            remedy="delete the file; the next ranking makes it again",
        ) from error
