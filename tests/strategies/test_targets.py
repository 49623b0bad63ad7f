import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import rankdata

from nasplug.strategies.targets import TARGETS, log_regret, rank, zscore


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_keeps_the_order_and_is_finite(name):
    values = np.array([0.1, 0.94, 0.5, 0.93, 0.5, 0.9])
    target = TARGETS[name](values)
    assert np.isfinite(target).all()
    assert (np.argsort(np.argsort(target)) == np.argsort(np.argsort(values))).all()
    assert target[2] == target[4]


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3, 0.3], [-np.inf, np.inf, 0.2], [np.inf, np.inf]])
def test_degenerate_values_give_finite_targets(name, values):
    assert np.isfinite(TARGETS[name](np.array(values))).all()


def test_rank_scores_are_normal_quantiles():
    np.testing.assert_allclose(rank(np.array([3.0, 1.0, 2.0])), [0.9674216, -0.9674216, 0.0], atol=1e-6)


def test_equal_values_share_the_mean_of_their_ranks():
    values = np.random.default_rng(0).integers(0, 30, 200).astype(float)
    np.testing.assert_array_equal(rank(values), ndtri((rankdata(values) - 0.5) / 200))


def test_zscore_has_mean_0_and_deviation_1():
    target = zscore(np.array([1.0, 2.0, 6.0]))
    np.testing.assert_allclose([target.mean(), target.std()], [0, 1], atol=1e-12)


def test_log_regret_spreads_the_top_more_than_zscore():
    values = np.array([0.1, 0.1, 0.9, 0.93, 0.94])
    top = [np.ptp(target(values)[3:]) / np.ptp(target(values)) for target in (zscore, log_regret)]
    assert top[1] > 3 * top[0]
