"""Reproducible random generators identified by seed, purpose and exposure or CCD."""

from zlib import crc32

import numpy as np


def random_stream(seed: int, purpose: str, *identity: int) -> np.random.Generator:
    """Return the random generator of a purpose; it depends only on the arguments.

    Parameters
    ----------
    seed
        Seed of the simulation or of the camera.
    purpose
        Purpose, such as ``"stars"``.
    identity
        Exposure number, CCD.
    """
    return np.random.default_rng([seed, crc32(purpose.encode()), *identity])
