"""The process against textbook formulas written out naively."""

import numpy as np
import pytest
from scipy.stats import norm

from nasplug.spaces import DARTS, Categorical, Float, NASBench201, ParameterSpace
from nasplug.strategies.predictors import GaussianProcess, gaussian_process
from nasplug.strategies.predictors.base import expected_improvement

SPACES = {
    "whole": NASBench201(),
    "drawn": DARTS(),
    "numbers": ParameterSpace([Float("x", 0, 1), Categorical("c", ("a", "b"))]),
}


def naive_kernel(space, left, right):
    reference = space.all() if space.size <= 4096 else space.sample(4096, np.random.default_rng(0))
    terms = []
    for kind, decay in gaussian_process.DECAY.items():
        if kind not in space.encodings:
            continue
        features = space.encode(reference, kind).astype(float)
        mean = 2 * features.var(axis=0).sum()
        if mean == 0:
            continue
        a, b = space.encode(left, kind).astype(float), space.encode(right, kind).astype(float)
        terms.append(np.exp(-decay * ((a[:, None] - b[None]) ** 2).sum(-1) / mean))
    return np.mean(terms, axis=0)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_mean_is_the_textbook_posterior(space):
    rng = np.random.default_rng(1)
    rows = space.sample_distinct(20, rng)
    targets = rng.normal(size=20)
    candidates = space.sample_distinct(50, rng)
    model = GaussianProcess(space).fit(rows, targets, rng)
    evidence = []
    for noise in gaussian_process.NOISES:
        covariance = naive_kernel(space, rows, rows) + noise * np.eye(20)
        quadratic = targets @ np.linalg.solve(covariance, targets)
        evidence.append((-0.5 * quadratic - 0.5 * np.linalg.slogdet(covariance)[1], covariance))
    covariance = max(evidence, key=lambda one: one[0])[1]
    expected = naive_kernel(space, candidates, rows) @ np.linalg.solve(covariance, targets)
    np.testing.assert_allclose(model.mean(candidates), expected, atol=2e-4)


def test_kept_columns_give_what_fresh_ones_do():
    space = SPACES["whole"]
    rng = np.random.default_rng(2)
    process = GaussianProcess(space)
    everything = space.all()
    for n in (5, 90, 40, 700, 30):  # grows the buffer, evicts, goes over the largest fit
        rows = space.sample_distinct(n, rng)
        targets = rng.normal(size=n)
        kept = process.fit(rows, targets, rng).mean(everything)
        fresh = GaussianProcess(space).fit(rows, targets, rng).mean(everything[::50].copy())
        np.testing.assert_allclose(kept[::50], fresh, atol=1e-4)


def test_long_histories_keep_the_best_and_the_latest():
    space = SPACES["whole"]
    rng = np.random.default_rng(3)
    rows = space.sample_distinct(2000, rng)
    targets = np.arange(2000.0)[::-1].copy()
    best, latest = slice(0, 256), slice(1744, 2000)
    chosen = np.r_[best, latest]
    process = GaussianProcess(space)
    np.testing.assert_array_equal(
        process.fit(rows, targets, rng).mean(rows[:50]), process.fit(rows[chosen], targets[chosen], rng).mean(rows[:50])
    )


def test_improvement_is_the_integral():
    mean, deviation, incumbent = 0.3, 0.7, 0.8
    grid = np.linspace(incumbent, incumbent + 8, 200_001)
    integral = np.trapezoid((grid - incumbent) * norm.pdf(grid, mean, deviation), grid)
    np.testing.assert_allclose(
        expected_improvement(np.array(mean), np.array(deviation), incumbent), integral, rtol=1e-6
    )


def test_best_first_starts_with_the_highest_improvement_and_believes_it():
    space = SPACES["whole"]
    rng = np.random.default_rng(4)
    rows = space.sample_distinct(15, rng)
    targets = rng.normal(size=15)
    candidates = space.sample_distinct(60, rng)
    model = GaussianProcess(space).fit(rows, targets, rng)
    order = list(model.best_first(candidates, targets.max()))
    assert sorted(order) == list(range(60))

    def textbook(points, values):
        noise = model._noise
        inverse = np.linalg.inv(naive_kernel(space, points, points) + noise * np.eye(len(points)))
        across = naive_kernel(space, candidates, points)
        variance = 1 - np.einsum("kn,nm,km->k", across, inverse, across)
        return across @ inverse @ values, np.sqrt(variance)

    mean, deviation = textbook(rows, targets)
    assert order[0] == np.argmax(expected_improvement(mean, deviation, targets.max()))
    # Taking the first as measured at its mean leaves the mean as it is and shrinks the deviation.
    _, shrunk = textbook(np.concatenate([rows, candidates[order[:1]]]), np.append(targets, mean[order[0]]))
    score = expected_improvement(mean, shrunk, targets.max())
    score[order[0]] = -1
    assert order[1] == np.argmax(score)


def test_a_space_in_which_nothing_differs():
    space = ParameterSpace([Categorical("only", ("x",))])
    model = GaussianProcess(space).fit(space.all(), np.array([0.5]), np.random.default_rng(0))
    assert np.isfinite(model.mean(space.all())).all()
