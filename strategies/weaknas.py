"""WeakNAS: refit a cheap predictor on all that is known, look where it predicts the best, repeat.

Shapes: n observations, k candidates, s sites, m objectives.
"""

from __future__ import annotations

import itertools
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError, UnknownNameError
from nasplug.spaces import Genotypes
from nasplug.strategies.base import Strategy
from nasplug.strategies.history import History, Status
from nasplug.strategies.pareto import fronts
from nasplug.strategies.predictors import PREDICTORS, WHOLE_SPACE, Predictor
from nasplug.strategies.targets import TARGETS, Target

__all__ = ["WeakNAS", "WeakNASPaper"]

SHORTLIST = 500
"""Candidates with the highest predictions among which expected improvement chooses."""


class _Round:
    """What one fit proposes: a short list, and the order in which to take it, worked out as far as needed.

    Args:
        size: observations the fit saw.
        ranked: architectures it had not seen, best predictions first, ``(k, s)``.
        keys: theirs, ``(k,)``.
        order: rows of ``ranked`` in the order to propose them.
        pool: how many of the first rows of ``ranked`` uniform draws are made from.
    """

    def __init__(self, size: int, ranked: Genotypes, keys: NDArray[np.int64], order: Iterator[int], pool: int = 0):
        self.size, self.keys = size, keys
        self._ranked, self._order, self._pool = ranked, order, pool
        self._ordered: list[int] = []

    def propose(self, n: int, taken: NDArray[np.bool_], batch: int, rng: np.random.Generator) -> Genotypes:
        """Return the next ``n`` of the short list that are not ``taken`` ``(k,)``, ``(n, s)`` or fewer.

        They are drawn from the pool when it holds a whole ``batch``, and follow the order otherwise.
        """
        if self._pool >= batch:
            return self._ranked[rng.permutation(np.flatnonzero(~taken[: self._pool]))[:n]]
        chosen: list[int] = []
        for place in itertools.count():
            if place == len(self._ordered):
                if (following := next(self._order, None)) is None:
                    break
                self._ordered.append(following)
            if not taken[self._ordered[place]]:
                chosen.append(self._ordered[place])
                if len(chosen) == n:
                    break
        return self._ranked[chosen]


class _Memo:
    """The last round and the predictor with what it keeps between fits; derived, so pickles leave it behind."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.name: tuple[bytes, ...] | None = None
        self.current: _Round | None = None
        self.predictor: Predictor | None = None

    def __reduce__(self) -> tuple[type[_Memo], tuple[()]]:
        return _Memo, ()


@dataclass(frozen=True, kw_only=True)
class WeakNAS(Strategy):
    """Search by weak predictors, valid near the current search path only and refitted as it moves.

    The history's first ``initial`` observations are a design; then rounds follow. A round fits the predictor to the
    targets of everything finished, ranks candidates by it, and proposes ``batch`` of them, either drawn from the
    ``pool`` best predictions or by expected improvement. With several objectives, candidates are ranked by
    non-dominated sorting of the predicted objectives; with constraints, those predicted feasible come first. In spaces
    too large to enumerate, candidates are random architectures plus mutants and offspring of the best.

    Source: Wu et al., Stronger NAS with Weaker Predictors, NeurIPS 2021. Differs (:class:`WeakNASPaper` does not):
    a Gaussian process over structural encodings instead of a multilayer perceptron, ranks instead of z-scores as
    targets, expected improvement instead of uniform draws, four first designs far apart instead of ten random ones,
    and rounds of one that grow with the history. These defaults were chosen on NAS-Bench-201's CIFAR-10 and
    CIFAR-100 alone.

    Args:
        predictor: ``gp``, ``mlp``, ``random-forest``, ``gradient-boosting`` or ``ridge``.
        target: what it learns: ``rank`` (normal scores), ``log-regret`` or ``zscore``.
        acquisition: ``ei``, or ``pool`` (uniform draws from the best predictions, the paper's).
        initial: observations before the first fit.
        design: how those are chosen: ``spread`` (far from each other) or ``uniform``.
        batch: proposals a round; None: with ``gp`` one while there are fewer than 54 observations, then n / 6 - 7; with
            the other predictors, slower to fit, ten.
        pool: how many of the best predictions ``pool`` draws from, those already evaluated included.

    Raises: InputError for an option out of range; UnknownNameError for a name that does not exist.
    """

    predictor: Literal["gp", "mlp", "random-forest", "gradient-boosting", "ridge"] = "gp"
    target: Target = "rank"
    acquisition: Literal["ei", "pool"] = "ei"
    initial: int = 4
    design: Literal["spread", "uniform"] = "spread"
    batch: int | None = None
    pool: int = 100
    _memo: _Memo = field(default_factory=_Memo, init=False, repr=False, compare=False)

    objectives = None

    def __post_init__(self) -> None:
        if self.predictor not in PREDICTORS:
            raise UnknownNameError("predictor", self.predictor, PREDICTORS)
        if self.target not in TARGETS:
            raise UnknownNameError("target", self.target, TARGETS)
        for name, least in (("initial", 1), ("batch", 1), ("pool", 1)):
            if (value := getattr(self, name)) is not None and value < least:
                raise InputError(f"weaknas expects {name} >= {least}, got {value}")

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        known = np.flatnonzero(history.status != Status.RUNNING)
        if len(known) < self.initial:
            return self._designed(history, n, rng)
        with self._memo.lock:
            seen = known[: self._refit_at(len(known))]
            current = self._round(history, seen)
            # What the fit saw is not in the round; only later rows can have taken something of it.
            taken = np.isin(current.keys, np.delete(history.keys, seen))
            return current.propose(n, taken, self._batch_at(current.size), rng)

    def _designed(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        """Return the next ``n`` of the initial design, ``(n, s)``."""
        if self.design == "uniform":
            return self.space.sample_distinct(n, rng, history.keys)
        chosen = history.genotypes
        for _ in range(min(n, self.space.size - len(history))):
            some = self.space.sample_distinct(64, rng, self.space.keys(chosen))
            apart = _squared_distances(self.space.encode(some), self.space.encode(chosen)).min(axis=1, initial=np.inf)
            chosen = np.concatenate([chosen, some[[np.argmax(apart)]]])
        return chosen[len(history) :]

    def _batch_at(self, size: int) -> int:
        if self.batch is not None:
            return self.batch
        return max(1, size // 6 - 7) if self.predictor == "gp" else 10

    def _refit_at(self, known: int) -> int:
        """Return how many observations the round in force was fitted on; a function of their number alone."""
        size = self.initial
        while (following := size + self._batch_at(size)) <= known:
            size = following
        return size

    def _round(self, history: History, rows: NDArray[np.intp]) -> _Round:
        """Return the round fitted on these rows of the history; the last one is remembered."""
        failed = history.status[rows] == Status.FAILED
        evidence = (history.genotypes[rows], _settled(history, rows), history.violation[rows], failed)
        name = tuple(column.tobytes() for column in evidence)
        if self._memo.name != name:
            if self._memo.predictor is None:
                self._memo.predictor = PREDICTORS[self.predictor](self.space)
            self._memo.current = self._fit(self._memo.predictor, *evidence)
            self._memo.name = name
        assert self._memo.current is not None
        return self._memo.current

    def _fit(
        self,
        predictor: Predictor,
        genotypes: Genotypes,
        values: NDArray[np.float64],
        violation: NDArray[np.float64],
        failed: NDArray[np.bool_],
    ) -> _Round:
        evaluated = self.space.keys(genotypes)
        # The stream is a function of the evidence, so that every worker and a resumed study see the same round.
        rng = np.random.default_rng([len(evaluated), zlib.crc32(np.sort(evaluated).tobytes())])
        feasible = (violation <= 0) & ~failed
        targets = self._targets(values[~failed], violation[~failed])
        candidates = self._pool_of_candidates(genotypes[~failed], targets, rng)
        models = [predictor.fit(genotypes[~failed], target, rng) for target in targets]
        means = np.stack([model.mean(candidates) for model in models] or [rng.random(len(candidates))], axis=1)
        doubtful = np.zeros(len(candidates), dtype=bool)
        if feasible.any() and not feasible.all():
            doubtful = predictor.fit(genotypes, np.where(feasible, 1.0, -1.0), rng).mean(candidates) < 0
            means[doubtful] -= 2 * np.ptp(means, axis=0) + 1  # behind all that is predicted feasible
        keys = self.space.keys(candidates)
        seen = np.isin(keys, evaluated)
        pool = int((~seen[_best_rows(means, self.pool, rng)]).sum()) if self.acquisition == "pool" else 0
        means[seen] = -np.inf
        # Fronts are peeled one by one, and nothing but their order is used.
        wanted = SHORTLIST if len(models) == 1 else 2 * max(self.pool, self._batch_at(len(evaluated)))
        left = int((~seen & ~doubtful).sum()) or int((~seen).sum())  # the acquisition must not bring back the doubtful
        best = _best_rows(means, min(wanted, left), rng)
        order: Iterator[int] = iter(range(len(best)))
        if self.acquisition == "ei" and len(models) == 1:
            rivals = targets[0][feasible[~failed]] if feasible.any() else targets[0]
            order = models[0].best_first(candidates[best], rivals.max())
        return _Round(len(evaluated), candidates[best], keys[best], order, pool)

    def _targets(self, values: NDArray[np.float64], violation: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Return what is to be predicted, one array ``(n,)`` a goal: the objectives, once a row is feasible.

        Until then the goal is to violate less; a constraint that could not be computed is as bad as any.
        """
        unmet = np.where(np.isnan(violation), np.inf, violation)
        goals = values.T if (violation <= 0).any() else -unmet[None]
        return [TARGETS[self.target](goal) for goal in goals if len(goal)]

    def _pool_of_candidates(
        self, genotypes: Genotypes, targets: list[NDArray[np.float64]], rng: np.random.Generator
    ) -> Genotypes:
        if self.space.size <= WHOLE_SPACE:
            return self.space.all()
        fresh = self.space.sample(1000, rng)
        if not len(genotypes):
            return fresh
        parents = genotypes[_best_rows(np.stack(targets, axis=1), 10, rng)]
        mutants = self.space.mutate(parents[rng.integers(len(parents), size=750)], rng)
        further = self.space.mutate(mutants[:250], rng)
        mothers, fathers = rng.integers(len(parents), size=(2, 250))
        offspring = self.space.crossover(parents[mothers], parents[fathers], rng)
        every = np.concatenate([fresh, mutants, further, offspring])
        return every[np.sort(np.unique(self.space.keys(every), return_index=True)[1])]


@dataclass(frozen=True, kw_only=True)
class WeakNASPaper(WeakNAS):
    """WeakNAS with the defaults of the paper's code on NAS-Bench-201: M0 = 10, M = 10, N = 100, a 4 x 1000 MLP.

    Source: Wu et al., NeurIPS 2021, and its repository VITA-Group/WeakNAS. Differs where that code leaks: targets are
    standardised by what has been seen, not by the whole table, and the result is the best observation, not the best
    test value among them.
    """

    predictor: Literal["gp", "mlp", "random-forest", "gradient-boosting", "ridge"] = "mlp"
    target: Target = "zscore"
    acquisition: Literal["ei", "pool"] = "pool"
    initial: int = 10
    design: Literal["spread", "uniform"] = "uniform"
    batch: int | None = 10


def _settled(history: History, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return values ``(n, m)`` in which a pruned row has the lower of its hint and the median of finished rows."""
    values, status = history.values[rows].copy(), history.status[rows]
    pruned, finished = status == Status.PRUNED, status == Status.OK
    if pruned.any():
        middle = np.median(values[finished], axis=0) if finished.any() else np.zeros(values.shape[1])
        values[pruned] = np.fmin(values[pruned], middle)
    return values


def _best_rows(means: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the rows of the ``count`` best predictions ``(k, m)``, best first.

    One objective: by value. Several: front by front, in random order inside a front.
    """
    count = min(count, len(means))
    if means.shape[1] > 1:
        chosen: list[NDArray[np.intp]] = []
        for front in fronts(means):
            chosen.append(rng.permutation(front))
            if sum(map(len, chosen)) >= count:
                break
        return np.concatenate(chosen)[:count]
    score = means[:, 0]
    top = np.argpartition(-score, count - 1)[:count] if count else np.empty(0, np.intp)
    return top[np.argsort(-score[top], kind="stable")]


def _squared_distances(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return squared distances ``(n, k)`` between rows of features."""
    cross: NDArray[np.float32] = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    return cross
