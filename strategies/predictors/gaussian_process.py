"""A Gaussian process whose kernel asks three questions: same parts in the same places, same parts, same depth?

Shapes: n training rows, k candidates, d features of an encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from nasplug.spaces import Genotypes, Space, encoded_space
from nasplug.strategies.predictors.base import WHOLE_SPACE, Model, Predictor, expected_improvement

__all__ = ["GaussianProcess"]

DECAY = {"onehot": 4.0, "counts": 1.25, "depth": 1.75}
"""How fast similarity falls, by encoding: ``exp(-decay d^2 / (mean d^2 of the space))``.

Chosen on NAS-Bench-201's CIFAR-10 and CIFAR-100. Distances count relative to the space's own mean, so the numbers have
no unit and carry over to other spaces.
"""
NOISES = (0.03, 0.1, 0.3)
"""Noise variances tried at each fit, the signal's being 1; the one with the highest marginal likelihood is used."""
LARGEST_FIT = 512
"""Training rows at most, the best and the latest: time and memory stay flat in long studies."""

Points = list[tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Rows as the kernel sees them: per encoding, scaled features ``(n, d)`` and their squared lengths ``(n,)``."""


class GaussianProcess(Predictor):
    """Exact Gaussian-process regression with zero mean and the mean of one squared-exponential kernel an encoding.

    The encodings are those the space has among ``onehot`` (which operation where), ``counts`` (how many of each,
    wherever) and ``depth`` (how many paths of each length). Nothing is tuned at run time but the noise.

    Own code, not scikit-learn's regressor: kernel columns against a whole space are kept from fit to fit, which makes
    a fit on 100 architectures and the prediction of 15,625 a matter of milliseconds.
    """

    def __init__(self, space: Space):
        super().__init__(space)
        reference = space.all() if space.size <= 4096 else space.sample(4096, np.random.default_rng(0))
        self._scale: dict[str, np.float32] = {}
        for kind, decay in DECAY.items():
            if kind in space.encodings:
                features = space.encode(reference, kind)
                mean_square_distance = 2 * float(features.var(axis=0, dtype=np.float64).sum())
                if mean_square_distance > 0 or kind == "onehot":  # where nothing differs, nothing is told
                    self._scale[kind] = np.float32((decay / (mean_square_distance or 1.0)) ** 0.5)

    def fit(self, genotypes: Genotypes, targets: NDArray[np.float64], rng: np.random.Generator) -> Model:
        """Return the posterior; ``rng`` is not used."""
        if len(targets) > LARGEST_FIT:
            kept = np.arange(len(targets)) >= len(targets) - LARGEST_FIT // 2
            kept[np.argsort(np.where(kept, -np.inf, targets), kind="stable")[-(LARGEST_FIT - kept.sum()) :]] = True
            genotypes, targets = genotypes[kept], targets[kept]
        return _Posterior(self, genotypes, targets)

    def points(self, genotypes: Genotypes) -> Points:
        """Return rows scaled such that an encoding's kernel term is exp(-squared distance)."""
        if self.space.size <= WHOLE_SPACE:
            return _subset(self._everything, self.space.index(genotypes))
        return [_point(self.space.encode(genotypes, kind) * scale) for kind, scale in self._scale.items()]

    @cached_property
    def _everything(self) -> Points:
        return [_point(encoded_space(self.space, kind) * scale) for kind, scale in self._scale.items()]

    @cached_property
    def whole(self) -> _Columns:
        """Kernel columns against every architecture of a space small enough to predict whole."""
        return _Columns(self._everything, self.space.size)


class _Columns:
    """Kernel values between training rows and a whole space, a row a slot; computed once while a row is in use."""

    def __init__(self, everything: Points, size: int):
        self._everything = everything
        self._buffer = np.empty((64, size), dtype=np.float32)
        self._slot_of: dict[int, int] = {}

    def weighted_sum(self, keys: NDArray[np.int64], rows: Points, weights: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return ``sum_i weights[i] kernel(row i, everything)``."""
        wanted = keys.tolist()
        missing = [i for i, key in enumerate(wanted) if key not in self._slot_of]
        if missing:
            self._store(wanted, missing, rows)
        slots = [self._slot_of[key] for key in wanted]
        by_slot = np.zeros(max(slots) + 1, dtype=np.float32)
        by_slot[slots] = weights
        return by_slot @ self._buffer[: len(by_slot)]

    def _store(self, wanted: list[int], missing: list[int], rows: Points) -> None:
        if len(self._slot_of) + len(missing) > LARGEST_FIT:
            still = set(wanted)
            self._slot_of = {key: slot for key, slot in self._slot_of.items() if key in still}
        used = set(self._slot_of.values())
        free = [slot for slot in range(len(used) + len(missing)) if slot not in used]
        if (needed := max(free) + 1) > len(self._buffer):
            grown = np.empty((min(LARGEST_FIT, max(needed, 2 * len(self._buffer))), self._buffer.shape[1]), np.float32)
            grown[: len(self._buffer)] = self._buffer
            self._buffer = grown
        for start in range(0, len(missing), 16):  # a few at once: fast, and small
            some, slots = missing[start : start + 16], free[start : start + 16]
            self._buffer[slots[: len(some)]] = _kernel(_subset(rows, some), self._everything)
            self._slot_of.update((wanted[i], slot) for i, slot in zip(some, slots, strict=False))


class _Posterior(Model):
    def __init__(self, process: GaussianProcess, genotypes: Genotypes, targets: NDArray[np.float64]):
        self._process = process
        self._keys = process.space.keys(genotypes)
        self._rows = process.points(genotypes)
        within = _kernel(self._rows, self._rows).astype(np.float64)
        fits = [_factorise(within, targets, noise) for noise in NOISES]
        _, self._noise, self._factor, self._whitened = max(fits, key=lambda fit: fit[0])
        self._weights = solve_triangular(self._factor, self._whitened, lower=True, trans=1)

    def mean(self, candidates: Genotypes) -> NDArray[np.float64]:
        process = self._process
        if process.space.size <= WHOLE_SPACE and candidates is process.space.all():
            return process.whole.weighted_sum(self._keys, self._rows, self._weights).astype(np.float64)
        across = _kernel(self._rows, process.points(candidates))
        return (self._weights.astype(np.float32) @ across).astype(np.float64)

    def best_first(self, candidates: Genotypes, incumbent: float) -> Iterator[int]:
        """Yield rows of ``candidates`` by expected improvement; each row yielded is taken as measured at its mean.

        Later rows of one batch so keep away from earlier ones (kriging believer: Ginsbourger, Le Riche and Carraro,
        2010; differs: the incumbent stays, only uncertainty shrinks).
        """
        points = self._process.points(candidates)
        across = _kernel(self._rows, points)
        mean = (self._weights.astype(np.float32) @ across).astype(np.float64)
        explained = solve_triangular(self._factor.astype(np.float32), across, lower=True, check_finite=False)
        variance = 1.0 - np.einsum("nk,nk->k", explained, explained, dtype=np.float64)
        left = np.ones(len(candidates), dtype=bool)
        believed = np.empty((len(candidates), len(candidates)), np.float32)  # a row a pick; pages are touched as needed
        for count in range(len(candidates)):
            score = expected_improvement(mean, np.sqrt(np.maximum(variance, 1e-10)), incumbent)
            row = int(np.argmax(np.where(left, score, -np.inf)))
            yield row
            left[row] = False
            shared = _kernel(_subset(points, [row]), points)[0] - explained[:, row] @ explained
            shared = shared - believed[:count, row] @ believed[:count]
            believed[count] = shared / np.sqrt(max(variance[row], 0.0) + self._noise)
            variance = variance - believed[count] ** 2


def _point(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return features, np.einsum("nd,nd->n", features, features)


def _subset(points: Points, rows: list[int] | NDArray[np.intp]) -> Points:
    return [(features[rows], lengths[rows]) for features, lengths in points]


def _kernel(left: Points, right: Points) -> NDArray[np.float32]:
    """Return the kernel ``(n, k)`` between two sets of rows; 1 between equal ones."""
    terms = []
    for (a, a_lengths), (b, b_lengths) in zip(left, right, strict=True):
        exponent = a @ b.T
        exponent *= 2
        exponent -= a_lengths[:, None]
        exponent -= b_lengths
        terms.append(np.exp(np.minimum(exponent, 0, out=exponent), out=exponent))
    total = terms[0]
    for term in terms[1:]:
        total += term
    total /= np.float32(len(terms))
    return total


def _factorise(
    within: NDArray[np.float64], targets: NDArray[np.float64], noise: float
) -> tuple[float, float, NDArray[np.float64], NDArray[np.float64]]:
    """Return log marginal likelihood (up to a constant), noise, Cholesky factor and whitened targets."""
    factor = np.linalg.cholesky(within + noise * np.eye(len(within))).astype(np.float64, copy=False)
    whitened: NDArray[np.float64] = solve_triangular(factor, targets, lower=True)
    return float(-0.5 * whitened @ whitened - np.log(np.diag(factor)).sum()), noise, factor, whitened
