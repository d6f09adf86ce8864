"""What the tests of the simulated detector share: an exposure, random numbers, FITS sections."""

import re

import numpy as np

from imaging.simulation.exposures import SimulatedExposure
from tests.simulated_exposures import an_exposure


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def exposure_of(**changes: object) -> SimulatedExposure:
    """Return a search exposure in i of a steady sky, with some values changed."""
    values = {"seed": 3, "expnum": 1300001, "mjd": 60441.123456, "sky_modes": ()}
    return an_exposure(**(values | changes))


def cut(image: np.ndarray, section: str) -> np.ndarray:
    """Cut a FITS section such as ``[57:2104,1:4096]`` out of an image."""
    x0, x1, y0, y1 = map(int, re.findall(r"\d+", section))
    return image[min(y0, y1) - 1 : max(y0, y1), min(x0, x1) - 1 : max(x0, x1)]
