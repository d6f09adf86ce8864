"""Random numbers that depend on what they are for, and on nothing else."""

from zlib import crc32

import numpy as np


def random_stream(seed: int, purpose: str, *identity: int) -> np.random.Generator:
    """Return the generator of a purpose: the same for the same arguments, in whatever order they are asked for.

    Parameters
    ----------
    seed
        Seed of the simulation or of the camera.
    purpose
        What the numbers are for, such as ``"stars"``.
    identity
        What they belong to: exposure number, CCD.
    """
    return np.random.default_rng([seed, crc32(purpose.encode()), *identity])
