"""The paper's regressors and a linear one, from scikit-learn; refitted from scratch on all that is known.

Settings are those of the WeakNAS reference code where it has them (see each class). scikit-learn is imported at the
first fit: it takes longer to load than most searches.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.spaces import Genotypes, Space, encoded_space
from nasplug.strategies.predictors.base import Model, Predictor, expected_improvement

__all__ = ["GradientBoosting", "MultilayerPerceptron", "RandomForest", "Ridge"]

MEMBERS = 5
"""Regressors, differing by seed, whose spread stands for uncertainty (the paper's expected-improvement variant)."""


class _Learner(Predictor):
    encoding = "onehot"

    def __init__(self, space: Space):
        super().__init__(space)
        if self.encoding not in space.encodings:
            self.encoding = "onehot"

    @abstractmethod
    def _regressor(self, seed: int) -> Any:
        """Return an unfitted scikit-learn regressor."""

    def _features(self, genotypes: Genotypes) -> NDArray[np.float32]:
        if self.space.enumerable and genotypes is self.space.all():
            return encoded_space(self.space, self.encoding)
        return self.space.encode(genotypes, self.encoding)

    def fit(self, genotypes: Genotypes, targets: NDArray[np.float64], rng: np.random.Generator) -> Model:
        seeds = rng.integers(2**31 - 1, size=MEMBERS).tolist()
        return _Fitted(self, genotypes, targets, seeds)

    def fitted(self, genotypes: Genotypes, targets: NDArray[np.float64], seed: int) -> Any:
        """Return one fitted regressor."""
        import warnings

        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():  # 100 epochs are the method's, not a failure to converge
            warnings.simplefilter("ignore", ConvergenceWarning)
            return self._regressor(seed).fit(self._features(genotypes), targets)


class _Fitted(Model):
    """One regressor for the mean; the other members are fitted when uncertainty is asked for."""

    def __init__(self, learner: _Learner, genotypes: Genotypes, targets: NDArray[np.float64], seeds: list[int]):
        self._learner, self._genotypes, self._targets, self._seeds = learner, genotypes, targets, seeds
        self._first = learner.fitted(genotypes, targets, seeds[0])

    def mean(self, candidates: Genotypes) -> NDArray[np.float64]:
        predicted: NDArray[np.float64] = self._first.predict(self._learner._features(candidates))
        return predicted.astype(np.float64)

    def best_first(self, candidates: Genotypes, incumbent: float) -> Iterator[int]:
        """Yield rows by expected improvement under the spread of all members, no row twice.

        Differs from the reference code, which takes the best prediction from the last member: here it is the
        members' mean.
        """
        features = self._learner._features(candidates)
        members = [self._first] + [self._learner.fitted(self._genotypes, self._targets, s) for s in self._seeds[1:]]
        predicted = np.stack([member.predict(features) for member in members]).astype(np.float64)
        deviation = np.maximum(predicted.std(axis=0), 1e-6)
        score = expected_improvement(predicted.mean(axis=0), deviation, incumbent)
        yield from np.argsort(-score, kind="stable").tolist()


class MultilayerPerceptron(_Learner):
    """Four hidden layers of 1000, ReLU, Adam 1e-3, L2 1e-4, at most 100 epochs; on one-hot encodings."""

    def _regressor(self, seed: int) -> Any:
        from sklearn.neural_network import MLPRegressor

        return MLPRegressor(
            hidden_layer_sizes=(1000,) * 4, alpha=1e-4, learning_rate_init=1e-3, max_iter=100, random_state=seed
        )


class RandomForest(_Learner):
    """1000 trees of depth at most 10, on one-hot encodings."""

    def _regressor(self, seed: int) -> Any:
        from sklearn.ensemble import RandomForestRegressor

        return RandomForestRegressor(n_estimators=1000, max_depth=10, random_state=seed)


class GradientBoosting(_Learner):
    """100 boosted trees of depth 3 with rate 0.1, rows subsampled by half, on one-hot encodings.

    Differs from the paper's XGBoost (1000 rounds, depth 20, nearly interpolating): scikit-learn's own booster with
    settings fit for tens of rows.
    """

    def _regressor(self, seed: int) -> Any:
        from sklearn.ensemble import GradientBoostingRegressor

        return GradientBoostingRegressor(subsample=0.5, random_state=seed)


class Ridge(_Learner):
    """Linear regression with L2 penalty 1 on one-hot and pairwise products."""

    encoding = "pairwise"

    def _regressor(self, seed: int) -> Any:
        from sklearn.linear_model import Ridge as Linear

        return Linear(alpha=1.0)
