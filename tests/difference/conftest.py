"""A small pair with known truth that several tests search."""

import pytest

from bench.difference_runs import Scenario, Truth, run, take
from imaging.difference.chain import CcdSearchResult
from imaging.templates.settings import StackSettings
from imaging.templates.stack import Template, stack_templates

SMALL = Scenario(seed=41, shape=(900, 800), n_templates=2, missed_cosmic_rays=6, n_transients=70)


@pytest.fixture(scope="session")
def scenario() -> Scenario:
    return SMALL


@pytest.fixture(scope="session")
def truth() -> Truth:
    return take(SMALL)


@pytest.fixture(scope="session")
def template(truth: Truth) -> Template:
    return stack_templates(truth.search.image, [t.image for t in truth.templates], StackSettings())


@pytest.fixture(scope="session")
def searched(truth: Truth) -> CcdSearchResult:
    return run(truth, SMALL)
