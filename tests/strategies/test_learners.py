import numpy as np
import pytest
from scipy.stats import spearmanr

from nasplug.spaces import DARTS, NASBench201, ParameterSpace
from nasplug.spaces.parameters import Float
from nasplug.strategies.predictors import PREDICTORS, MultilayerPerceptron, RandomForest

SPACE = NASBench201()


def additive(genotypes):
    return (genotypes == 3).sum(axis=1) - 2.0 * (genotypes == 0).sum(axis=1)


@pytest.fixture
def narrow(monkeypatch):
    """The network a fifth as wide: as much is tested, in a twentieth of the time."""
    published = MultilayerPerceptron._regressor
    monkeypatch.setattr(
        MultilayerPerceptron,
        "_regressor",
        lambda self, seed: published(self, seed).set_params(hidden_layer_sizes=(200,) * 4),
    )


@pytest.mark.parametrize("name", PREDICTORS)
def test_learns_an_additive_objective(name, narrow):
    rng = np.random.default_rng(0)
    rows, others = SPACE.sample_distinct(60, rng), SPACE.sample_distinct(200, rng)
    model = PREDICTORS[name](SPACE).fit(rows, additive(rows), np.random.default_rng(1))
    predicted = model.mean(others)
    assert predicted.shape == (200,)
    # Spearman's deviation is 0.07 under no relation: 0.6 is beyond chance, and below what any of them reaches (0.75).
    assert spearmanr(predicted, additive(others)).statistic > 0.6


@pytest.mark.parametrize("name", [n for n in PREDICTORS if n not in ("mlp", "random-forest")])
def test_same_generator_same_model(name):
    rng = np.random.default_rng(0)
    rows, others = SPACE.sample_distinct(30, rng), SPACE.sample_distinct(20, rng)
    first, second = (
        PREDICTORS[name](SPACE).fit(rows, additive(rows).astype(float), np.random.default_rng(7)).mean(others)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", ["gradient-boosting", "ridge"])
def test_order_by_improvement_lists_every_row_once(name):
    rng = np.random.default_rng(0)
    rows, others = SPACE.sample_distinct(30, rng), SPACE.sample_distinct(20, rng)
    targets = additive(rows).astype(float)
    order = list(PREDICTORS[name](SPACE).fit(rows, targets, rng).best_first(others, float(targets.max())))
    assert sorted(order) == list(range(20))


@pytest.mark.parametrize("space", [DARTS(), ParameterSpace([Float("x", 0, 1)])])
def test_spaces_with_other_encodings(space):
    rng = np.random.default_rng(0)
    rows = space.sample_distinct(10, rng)
    assert np.isfinite(PREDICTORS["ridge"](space).fit(rows, rng.normal(size=10), rng).mean(rows)).all()


def test_settings_are_the_papers():
    network = MultilayerPerceptron(SPACE)._regressor(0)
    assert network.hidden_layer_sizes == (1000, 1000, 1000, 1000)
    assert (network.activation, network.solver) == ("relu", "adam")
    assert (network.alpha, network.learning_rate_init, network.max_iter) == (1e-4, 1e-3, 100)
    forest = RandomForest(SPACE)._regressor(0)
    assert (forest.n_estimators, forest.max_depth) == (1000, 10)
