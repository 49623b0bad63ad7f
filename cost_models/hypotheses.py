"""Bayesian linear regression from a handful of measurements, averaged over many hypotheses of what matters.

The target is a flat constant plus a sum of groups of features, each group with a Gaussian prior of its own variance,
plus noise. Nobody knows the variances from ten numbers, so many combinations of them are tried; each counts by how well
it explains the measurements (marginal likelihood; the overall scale is integrated out). A measurement may be an
outlier, when something else ran on the device: hypotheses with the suspect ones widened compete with the others.

Shapes:
    n: measurements; h: hypotheses; g: groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Hypotheses", "Posterior", "weigh"]

SCREENED = 64
"""Measurements on which all hypotheses are weighed; beyond, only the best go on."""

KEPT = 16
"""Hypotheses that go on."""

MOST_OUTLIERS = 12
OUTLIER_VARIANCE = 1.0
"""Variance added to an outlier, where the features' whole variance is 1."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Combinations of variances to weigh, in units of the whole variance of the features.

    Attributes:
        shares: share of each group, ``(h, g)``, rows sum to 1.
        noise: variance of the noise, ``(h,)``.
    """

    shares: Floats
    noise: Floats

    @classmethod
    def draw(cls, h: int, centres: Floats, rng: np.random.Generator) -> Hypotheses:
        """Draw log-uniform variances: three decades around ``10**centres`` ``(g,)`` a group, 0.003 to 2 of noise."""
        shares = 10 ** (centres + rng.uniform(-1.5, 1.5, (h, len(centres))))
        return cls(shares / shares.sum(axis=1, keepdims=True), 10 ** rng.uniform(-2.5, 0.3, h))

    def best(self, weights: Floats, k: int) -> Hypotheses:
        """Return the k of the largest weights."""
        order = np.argsort(-weights)[:k]
        return Hypotheses(self.shares[order], self.noise[order])


@dataclass(frozen=True, eq=False)
class Posterior:
    """What hypotheses say after the measurements; one row a hypothesis and set of outliers.

    Attributes:
        weight: ``(h,)``, sums to 1.
        shares: ``(h, g)``.
        noise: ``(h,)``.
        dual: ``(h, n)``: the coefficients of a group's features are ``share * features.T @ dual``.
        constant: ``(h,)``.
        outlier: ``(h, n)``, which measurements each takes for outliers.
        variance: the scale of the features' whole variance, in squared units of the target, ``(h,)``.
    """

    weight: Floats
    shares: Floats
    noise: Floats
    dual: Floats
    constant: Floats
    outlier: NDArray[np.bool_]
    variance: Floats

    def best(self, k: int) -> Posterior:
        """Return the k of the largest weights, their weights made to sum to 1 again."""
        order = np.argsort(-self.weight)[:k]
        parts = {name: value[order] for name, value in vars(self).items()}
        return Posterior(**parts | {"weight": parts["weight"] / parts["weight"].sum()})


def weigh(grams: Floats, target: Floats, hypotheses: Hypotheses, outliers: float) -> Posterior:
    """Weigh hypotheses by the measurements.

    Args:
        grams: each group's inner products between measurements, ``(g, n, n)``; mean diagonal about 1.
        target: ``(n,)``, at least 3 values, not all equal.
        hypotheses: what to weigh.
        outliers: chance of a measurement being one, 0 to look for none.
    """
    if len(target) > SCREENED:
        first = weigh(grams[:, :SCREENED, :SCREENED], target[:SCREENED], hypotheses, outliers)
        # The same hypothesis comes once for each number of outliers.
        total = first.weight.reshape(-1, len(hypotheses.noise)).sum(axis=0)
        hypotheses = hypotheses.best(total, KEPT)
    return _weigh(grams, target, hypotheses, outliers)


def _weigh(grams: Floats, target: Floats, hypotheses: Hypotheses, outliers: float) -> Posterior:
    n, rows = len(target), np.arange(len(hypotheses.noise))
    offset = target.mean()
    target = target - offset  # the constant is flat, so only rounding depends on it
    covariance = np.einsum("hg,gab->hab", hypotheses.shares, grams)
    covariance[:, np.arange(n), np.arange(n)] += hypotheses.noise[:, None]
    inverse, logdet = np.linalg.inv(covariance), np.linalg.slogdet(covariance)[1]
    odds = np.log(outliers / (1 - outliers)) if outliers else -np.inf
    flagged = np.zeros((len(rows), n), dtype=bool)
    evidence, dual, constant, sets, quadratic = [], [], [], [], []
    for count in range(min(n // 5, MOST_OUTLIERS) + 1 if outliers else 1):
        ones, solved = inverse.sum(axis=2), inverse @ target
        total = ones.sum(axis=1)
        mean = solved.sum(axis=1) / total
        rest = solved @ target - solved.sum(axis=1) ** 2 / total
        evidence.append(_evidence(logdet, total, rest, n) + (count * odds if count else 0.0))
        dual.append(solved - ones * mean[:, None])
        constant.append(mean + offset)
        sets.append(flagged.copy())
        quadratic.append(rest)
        # Each hypothesis widens the measurement that gains most: a rank-one change of its covariance.
        diagonal = np.einsum("haa->ha", inverse)
        gain = OUTLIER_VARIANCE / (1 + OUTLIER_VARIANCE * diagonal)
        widened = logdet[:, None] + np.log1p(OUTLIER_VARIANCE * diagonal)
        total_if = total[:, None] - gain * ones**2
        sum_if = solved.sum(axis=1)[:, None] - gain * ones * solved
        rest_if = (solved @ target)[:, None] - gain * solved**2 - sum_if**2 / total_if
        evidence_if = np.where(flagged, -np.inf, _evidence(widened, total_if, rest_if, n))
        chosen = evidence_if.argmax(axis=1)
        flagged[rows, chosen] = True
        column = inverse[rows, :, chosen]
        inverse = inverse - gain[rows, chosen, None, None] * column[:, :, None] * column[:, None, :]
        logdet = widened[rows, chosen]
    all_evidence, repeats = np.concatenate(evidence), len(evidence)
    weight = np.exp(all_evidence - all_evidence.max())
    return Posterior(
        weight / weight.sum(),
        np.tile(hypotheses.shares, (repeats, 1)),
        np.tile(hypotheses.noise, repeats),
        np.concatenate(dual),
        np.concatenate(constant),
        np.concatenate(sets),
        np.concatenate(quadratic) / max(n - 3, 1),
    )


def _evidence(logdet: Floats, total: Floats, rest: Floats, n: int) -> Floats:
    """Return the log marginal likelihood with a flat constant and a scale-free prior of the scale, up to a constant."""
    result: Floats = -0.5 * (logdet + np.log(total) + (n - 1) * np.log(np.maximum(rest, 1e-300)))
    return result
