"""Averaging over hypotheses agrees with the textbook, finds what matters, and what does not belong."""

import numpy as np
import pytest

from nasplug.cost_models.hypotheses import Hypotheses, weigh


def problem(n=15, seed=0):
    rng = np.random.default_rng(seed)
    features = [rng.normal(size=(n, 3)) / np.sqrt(3), rng.normal(size=(n, 40)) / np.sqrt(40)]
    return features, np.stack([f @ f.T for f in features]), rng


def test_evidence_is_that_of_the_whole_gaussian():
    _, grams, rng = problem()
    target = rng.normal(size=15)
    hypotheses = Hypotheses(np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([0.1, 0.3]))
    posterior = weigh(grams, target, hypotheses, 0.0)
    # The textbook: a constant of huge variance, the scale integrated numerically over 1 / variance.
    scales = np.exp(np.linspace(-8, 8, 4001))
    logs = []
    for shares, noise in zip(hypotheses.shares, hypotheses.noise, strict=True):
        covariance = np.einsum("g,gab->ab", shares, grams) + noise * np.eye(15)
        each = []
        for scale in scales:
            whole = scale * covariance + 1e6
            each.append(-0.5 * (np.linalg.slogdet(whole)[1] + target @ np.linalg.solve(whole, target)))
        logs.append(np.logaddexp.reduce(each))
    expected = np.exp(logs - np.logaddexp.reduce(logs))
    np.testing.assert_allclose(posterior.weight, expected, atol=2e-3)


def test_prediction_is_ridge_regression_with_a_free_constant():
    features, grams, rng = problem()
    target = 5.0 + features[0] @ rng.normal(size=3)
    posterior = weigh(grams, target, Hypotheses(np.array([[1.0, 0.0]]), np.array([0.2])), 0.0)
    weights = features[0].T @ posterior.dual[0]
    inside, aim = features[0] - features[0].mean(axis=0), target - target.mean()
    expected = np.linalg.solve(inside.T @ inside + 0.2 * np.eye(3), inside.T @ aim)
    np.testing.assert_allclose(weights, expected)
    np.testing.assert_allclose(posterior.constant[0], (target - features[0] @ expected).mean())


def test_the_group_that_explains_gets_the_weight():
    features, grams, rng = problem(n=30)
    hypotheses = Hypotheses(np.array([[0.99, 0.01], [0.01, 0.99]]), np.array([0.01, 0.01]))
    target = features[0] @ rng.normal(size=3) + 0.01 * rng.normal(size=30)
    assert weigh(grams, target, hypotheses, 0.0).weight[0] > 0.99


def test_an_outlier_is_found_and_does_no_harm():
    features, grams, rng = problem(n=12)
    clean = 3.0 + 2.0 * features[0] @ rng.normal(size=3) + 0.02 * rng.normal(size=12)
    spoilt = clean.copy()
    spoilt[4] += 10.0
    hypotheses = Hypotheses.draw(100, np.zeros(2), np.random.default_rng(1))
    careful, trusting = weigh(grams, spoilt, hypotheses, 0.03), weigh(grams, spoilt, hypotheses, 0.0)
    suspected = careful.weight @ careful.outlier
    assert suspected[4] > 0.95
    assert np.delete(suspected, 4).max() < 0.3

    def error(posterior):
        fitted = posterior.constant[:, None] + np.einsum("hg,gab,hb->ha", posterior.shares, grams, posterior.dual)
        return np.abs(np.delete(posterior.weight @ fitted - clean, 4)).max()

    assert error(careful) < 0.2 < error(trusting)


@pytest.mark.parametrize("n", [65, 200])
def test_many_measurements_keep_few_hypotheses(n):
    features, grams, rng = problem(n=n)
    target = features[0] @ rng.normal(size=3) + 0.1 * rng.normal(size=n)
    posterior = weigh(grams, target, Hypotheses.draw(50, np.zeros(2), rng), 0.03)
    assert len(np.unique(posterior.noise)) == 16
    assert posterior.best(5).weight.sum() == pytest.approx(1.0)
    assert posterior.weight.sum() == pytest.approx(1.0)
