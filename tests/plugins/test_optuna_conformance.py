"""Optuna's own conformance suite, run on NasSampler.

| class | NasSampler with a strategy for one objective | for any number |
|---|---|---|
| BasicSamplerTestCase | all cases | all cases |
| RelativeSamplerTestCase | all cases | all cases |
| SingleOnlySamplerTestCase | all cases | does not apply: several objectives are no error there |
| MultiObjectiveSamplerTestCase | does not apply: it must raise there, as SingleOnly asks | all cases |

No single case of an applicable class is left out.
"""

from collections.abc import Callable

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)

from nasplug.plugins.optuna import NasSampler
from nasplug.registry import load, names
from nasplug.strategies import LocalSearch, RandomSearch, Strategy
from nasplug.strategies.supernet.strategy import SupernetStrategy

# Some cases ask more often than their space has points.
pytestmark = pytest.mark.filterwarnings("ignore:all \\d+ architectures")

# random and local-search are run by their classes; optuna is Optuna itself; weaknas-paper is weaknas with a network
# that takes seconds a fit; supernets search the few spaces that they know, and Optuna tests on its own.
OURS = [name for name in names("strategy") if name not in ("optuna", "random", "local-search", "weaknas-paper")]
ANYWHERE = [name for name in OURS if not issubclass(load("strategy", name), SupernetStrategy)]
SINGLE = [LocalSearch, *(name for name in ANYWHERE if load("strategy", name).objectives == 1)]
MULTI = [RandomSearch, *(name for name in ANYWHERE if load("strategy", name).objectives is None)]
"""Every registered strategy of nasplug, by how many objectives it knows; one of each by class, the others by name."""


def test_hardly_a_strategy_is_left_out() -> None:
    assert {"nni", "ofa-evolution", "regularized-evolution", "weaknas"} <= {*SINGLE, *MULTI}


@pytest.mark.parametrize("strategy", SINGLE)
class TestSingleObjective(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture
    def sampler(self, strategy: str | type[Strategy]) -> Callable[[], BaseSampler]:
        return lambda: NasSampler(strategy, seed=0)


@pytest.mark.parametrize("strategy", MULTI)
class TestAnyObjectives(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self, strategy: str | type[Strategy]) -> Callable[[], BaseSampler]:
        return lambda: NasSampler(strategy, seed=0)
