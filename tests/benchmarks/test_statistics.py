import math

import numpy as np
import pytest
import scipy.stats

from nasplug.benchmarks import statistics
from nasplug.errors import InputError

NAN = math.nan
METHODS = ("DARTS", "PDARTS", "NSGANET", "ENAS", "CNAS", "MANAS", "StacNAS", "NAO")
# Mean test accuracy of eight random and eight searched architectures, and the improvement Yang et al. print (2020,
# Table 1); PDARTS on CIFAR-100 is 1.20 there, but 2.00 by the authors' own data.
CIFAR10 = (
    (96.92, 96.62, 96.64, 95.84, 93.82, 97.01, 96.98, 96.46),
    (97.23, 97.12, 96.18, 95.85, 94.51, 97.18, 97.39, 96.88),
    (0.32, 0.52, -0.48, 0.01, 0.74, 0.18, 0.43, 0.44),
)
CIFAR100 = (
    (82.18, 80.84, 76.27, 80.80, 76.34, 82.24, 81.26, 81.70),
    (82.37, 82.46, 77.31, 78.02, 75.66, 82.07, 83.59, 81.69),
    (0.23, 2.00, 1.37, -3.44, -0.89, -0.20, 2.87, -0.01),
)


@pytest.mark.parametrize("table", [CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])
def test_relative_improvement_reproduces_the_published_table(table):
    random, searched, published = map(np.array, table)
    assert len(random) == len(METHODS)
    # The means are rounded to 0.01 points, which moves a percentage by at most 0.014.
    np.testing.assert_allclose(statistics.relative_improvement(searched, random), published, atol=0.02)


def test_incumbents_skip_failures_and_keep_the_earlier_of_equals():
    values = np.array([[NAN, 0.5, 0.4, 0.5, 0.6], [NAN, NAN, NAN, NAN, NAN], [0.3, 0.2, NAN, 0.3, 0.1]])
    expected = [[-1, 1, 1, 1, 4], [-1, -1, -1, -1, -1], [0, 0, 0, 0, 0]]
    assert statistics.incumbents(values).tolist() == expected


def test_incumbents_agree_with_a_plain_loop():
    values = np.random.default_rng(0).integers(0, 20, (50, 30)).astype(float)
    for row, found in zip(values, statistics.incumbents(values), strict=True):
        assert found.tolist() == [int(np.argmax(row[: t + 1])) for t in range(30)]


def test_queries_until_counts_a_miss_as_the_budget_and_a_tie_as_a_hit():
    spent, reached = statistics.queries_until(np.array([[0.1, 0.9, 0.9], [0.1, NAN, 0.8], [0.7, 0.1, 0.2]]), 0.9)
    assert spent.tolist() == [2, 3, 3]
    assert reached.tolist() == [True, False, False]
    spent, _ = statistics.queries_until(np.array([[0.1, 0.9], [0.7, 0.1]]), np.array([0.9, 0.7]))
    assert spent.tolist() == [2, 1]


def test_queries_until_never_reaches_an_unknown_target():
    assert not statistics.queries_until(np.array([[0.1, 0.9]]), NAN)[1].any()


@pytest.mark.parametrize("ties", [False, True])
def test_best_of_random_is_the_mean_over_all_orders(ties):
    rng = np.random.default_rng(1)
    search, report = rng.random(30), rng.random(30)
    if ties:
        search = np.round(search * 4)
    exact = statistics.best_of_random(search, report, [1, 2, 7, 30])
    orders = rng.permuted(np.tile(np.arange(30), (40_000, 1)), axis=1)
    for q, expected in zip([1, 2, 7, 30], exact, strict=True):
        drawn = orders[:, :q]
        chosen = drawn[np.arange(len(drawn)), search[drawn].argmax(axis=1)]
        # Standard error below 0.3 / 200: five of them, a false alarm in 2 million.
        assert abs(report[chosen].mean() - expected) < 0.0075
    assert exact[0] == pytest.approx(report.mean())


def test_best_of_random_refuses_an_impossible_budget():
    with pytest.raises(InputError, match=r"1\.\.3, got \[4\]"):
        statistics.best_of_random(np.arange(3.0), np.arange(3.0), [4])


def test_bootstrap_agrees_with_scipy():
    samples = np.random.default_rng(2).normal(0.9, 0.01, 20)
    low, high = statistics.bootstrap_ci(samples)
    other = scipy.stats.bootstrap((samples,), np.mean, method="percentile", n_resamples=10_000).confidence_interval
    assert low == pytest.approx(other.low, abs=3e-4)
    assert high == pytest.approx(other.high, abs=3e-4)
    assert (low, high) == statistics.bootstrap_ci(samples)


@pytest.mark.parametrize("samples", [[0.5], [0.5, NAN]])
def test_bootstrap_is_unknown_without_a_spread(samples):
    assert np.isnan(statistics.bootstrap_ci(np.array(samples))).all()


def test_holm_on_published_example():
    # Holm 1979 as worked in many texts: 0.005, 0.01, 0.03, 0.04 become 0.02, 0.03, 0.06, 0.06.
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert len(statistics.holm([])) == 0


def test_wilcoxon_is_scipys_and_survives_equality():
    rng = np.random.default_rng(3)
    a, b = rng.random(12), rng.random(12)
    assert statistics.wilcoxon_p(a, b) == scipy.stats.wilcoxon(a, b).pvalue
    assert statistics.wilcoxon_p(a, a) == 1.0


def test_outperformance_halves_ties():
    assert statistics.outperformance(np.array([1.0, 2, 3]), np.array([1.0, 1, 4])).tolist() == [0.5, 1.0, 0.0]


def test_nemenyi_distance_is_demsars():
    q = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    for k, q_k in enumerate(q, start=2):
        assert statistics.nemenyi_distance(k, 14) == pytest.approx(q_k * math.sqrt(k * (k + 1) / 84), abs=1e-3)
    assert math.isnan(statistics.nemenyi_distance(1, 14))


def test_rank_test_says_when_it_has_no_power():
    scores = np.tile([0.9, 0.8, 0.7, 0.6, 0.5], (13, 1))
    strong = statistics.rank_test(scores)
    assert strong.mean_rank.tolist() == [1, 2, 3, 4, 5]
    assert strong.friedman_p < 1e-6
    assert strong.has_power
    weak = statistics.rank_test(scores[:2])
    assert not weak.has_power
    assert weak.friedman_p > 0.05


def test_rank_test_of_ties_and_of_two_strategies():
    tied = statistics.rank_test(np.full((4, 3), 0.5))
    assert tied.mean_rank.tolist() == [2, 2, 2]
    assert tied.friedman_p == 1.0
    for too_few in (np.array([[0.1, 0.2], [0.1, 0.2]]), np.full((4, 1), 0.5), np.full((1, 3), 0.5)):
        assert math.isnan(statistics.rank_test(too_few).friedman_p)


def test_interval_over_strata_is_that_of_a_mean_of_means():
    rng = np.random.default_rng(0)
    strata = [rng.normal(mean, spread, 30) for mean, spread in ((0.0, 1.0), (10.0, 2.0), (-4.0, 0.5))]
    low, high = statistics.stratified_ci(strata)
    middle = np.mean([runs.mean() for runs in strata])
    error = math.sqrt(sum(runs.var() / 30 for runs in strata)) / 3
    assert (low, high) == pytest.approx((middle - 1.96 * error, middle + 1.96 * error), abs=0.1 * error)
    assert statistics.stratified_ci(strata[:1]) == statistics.bootstrap_ci(strata[0])
    for unknown in ([], [np.ones(3), np.ones(1)], [np.array([1.0, NAN])]):
        assert np.isnan(statistics.stratified_ci(unknown)).all()


def test_pareto_front_is_what_no_other_beats():
    rng = np.random.default_rng(0)
    cost, value = rng.integers(0, 12, 60).astype(float), rng.integers(0, 12, 60).astype(float)
    cost[3] = value[5] = NAN
    front = statistics.pareto_front(cost, value)
    known = ~np.isnan(cost) & ~np.isnan(value)
    beaten = [
        bool((known & (cost <= c) & (value >= v) & ((cost < c) | (value > v))).any())
        for c, v in zip(cost, value, strict=True)
    ]
    best = {(c, v) for c, v, lost, there in zip(cost, value, beaten, known, strict=True) if there and not lost}
    assert [(cost[i], value[i]) for i in front] == sorted(best)
    assert len(statistics.pareto_front(np.full(3, NAN), np.ones(3))) == 0


def test_query_grid_runs_from_one_to_the_budget():
    assert statistics.query_grid(5) == [1, 2, 3, 4, 5]
    long = statistics.query_grid(10_000)
    assert long[0] == 1
    assert long[-1] == 10_000
    assert len(long) <= 61
    assert long == sorted(set(long))


def test_value_at_seconds_is_a_step_function():
    seconds, values = np.array([[10.0, 20.0, 40.0]]), np.array([[0.1, 0.2, 0.3]])
    found = statistics.value_at(seconds, values, np.array([5.0, 10.0, 39.0, 40.0, 100.0]))
    np.testing.assert_array_equal(found, [[NAN, 0.1, 0.2, 0.3, 0.3]])
