"""Cache light-curve likelihoods between rankings, so that a new sky map does not require new fits."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import feather

from imaging.candidates.lightcurve import LightcurveLikelihood
from imaging.errors import StorageError
from imaging.io.atomic import atomic_path
from imaging.io.damage import reading
from imaging.tables import column

ARRAYS = ("kilonova", "rivals", "history", "history_snr", "n_after", "fading", "one_colour")
"""Fields of the likelihoods stored as columns; the grid of moduli is in the metadata."""

MODULI, KEY = b"moduli", b"key"


def write_lightcurve_likelihood(path: Path, likelihood: LightcurveLikelihood, key: str) -> None:
    """Write the light-curve likelihoods of n candidates as an uncompressed, memory-mappable Feather file.

    Parameters
    ----------
    path
        The file.
    likelihood
        Light-curve likelihoods.
    key
        Identifies the light curves and the settings used.

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
    """Read light-curve likelihoods; None if they are of other light curves or settings.

    Raises
    ------
    StorageError
        If the file is missing or damaged.
    """
    problem, remedy = "light-curve likelihoods missing or damaged", "delete the file; the next ranking writes it again"
    with reading(path, problem, remedy, error=StorageError):
        table = feather.read_table(path, memory_map=True)
        about = table.schema.metadata or {}
        if about.get(KEY) != key.encode():
            return None
        moduli = np.frombuffer(bytes.fromhex(about[MODULI].decode()), dtype="<f8").astype(np.float64)
        return LightcurveLikelihood(moduli, *(column(table, name) for name in ARRAYS))
