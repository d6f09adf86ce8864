"""One small simulated night that the tests of the simulator share."""

from pathlib import Path

import pytest

from imaging.simulation.night import SimulatedNight, simulate_night
from imaging.simulation.settings import SimulationSettings

SMALL = SimulationSettings(
    seed=5,
    ccds=(33, 34),
    n_search_exposures=1,
    n_template_epochs=1,
    n_bias_exposures=1,
    n_flat_exposures=1,
    galaxy_density=0.2,
    streaks_per_exposure=3.0,
)


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> SimulatedNight:
    """Return two neighbouring full-size CCDs of a search exposure, a template, a bias and a dome flat."""
    root: Path = tmp_path_factory.mktemp("night")
    return simulate_night(root, SMALL, processes=1)
