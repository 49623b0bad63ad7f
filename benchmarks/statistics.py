"""Statistics of a comparison: pure functions of arrays.

Shapes:
    r: runs (seeds), the same seeds in the same order for every strategy; t: queries of a run, 0-based here;
    k: strategies; b: benchmarks; m: hypotheses; n: architectures of a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError

__all__ = [
    "RankTest",
    "best_of_random",
    "bootstrap_ci",
    "holm",
    "incumbents",
    "nemenyi_distance",
    "outperformance",
    "pareto_front",
    "queries_until",
    "query_grid",
    "rank_test",
    "relative_improvement",
    "stratified_ci",
    "value_at",
    "wilcoxon_p",
]

Floats = NDArray[np.float64]
RESAMPLES = 10_000


def incumbents(values: Floats) -> NDArray[np.int64]:
    """Return which query holds the best value so far, ``(r, t)`` of ``values (r, t)``; -1 while nothing has finished.

    NaN is an evaluation that failed. Ties go to the earlier query.
    """
    known = np.where(np.isnan(values), -np.inf, values)
    before = np.maximum.accumulate(np.pad(known, ((0, 0), (1, 0)), constant_values=-np.inf)[:, :-1], axis=1)
    improved = known > before
    queries = np.where(improved, np.arange(values.shape[1]), -1)
    return np.maximum.accumulate(queries, axis=1)


def queries_until(values: Floats, target: Floats | float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the queries spent until a value reaches ``target`` (one a run), ``(r,)``, and whether it did, ``(r,)``.

    A run that never reaches it counts with all the queries it made.
    """
    hit = values >= np.broadcast_to(target, len(values))[:, None]
    reached: NDArray[np.bool_] = np.any(hit, axis=1)
    return np.where(reached, hit.argmax(axis=1) + 1, values.shape[1]), reached


def relative_improvement(accuracy: Floats, random_accuracy: Floats | float) -> Floats:
    """Return ``100 (acc_m - acc_r) / acc_r`` in percent: what is found against the average architecture.

    Source: Yang, Esperanca and Carlucci, NAS evaluation is frustratingly hard, ICLR 2020. Differs: on a table ``acc_r``
    is exact, the mean over all architectures, where the paper trains eight.
    """
    return 100 * (accuracy - random_accuracy) / random_accuracy


def best_of_random(search: Floats, report: Floats, budgets: Sequence[int]) -> Floats:
    """Return the expected report label of random search's incumbent after each budget: exact, no run needed.

    Random search draws without replacement from the ``n`` architectures and keeps the one with the best searched
    label. With labels sorted downwards, the best of ``q`` draws is the i-th with probability
    ``C(n - 1 - i, q - 1) / C(n, q)``. Of architectures with one searched label the first drawn wins, so
    their report labels are averaged.

    Args:
        search: what the search sees, ``(n,)``.
        report: what is reported, ``(n,)``.
        budgets: numbers of queries q, each in 1..n.
    """
    n = len(search)
    if not all(1 <= q <= n for q in budgets):
        raise InputError(f"budgets must lie in 1..{n}, got {list(budgets)}")
    _, level, count = np.unique(-search, return_inverse=True, return_counts=True)
    by_level = np.bincount(level, report) / count
    ordered = np.repeat(by_level, count)
    i = np.arange(n - 1)
    expected = []
    for q in budgets:
        # P(i + 1) / P(i) = (n - q - i) / (n - 1 - i), from P(0) = q / n. Summed without BLAS, whose order of additions
        # depends on its threads.
        chance = q / n * np.concatenate([[1.0], np.cumprod(np.maximum(n - q - i, 0) / (n - 1 - i))])
        expected.append(float((chance * ordered).sum()))
    return np.array(expected)


def bootstrap_ci(samples: Floats) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of the mean of ``samples (r,)``: 10,000 resamples of runs.

    For a difference of two strategies give the paired differences. One run has no spread to resample: (nan, nan), as
    where a sample is NaN. The resampling is seeded, so that equal samples have equal intervals.
    """
    r = len(samples)
    if r < 2 or np.isnan(samples).any():
        return math.nan, math.nan
    low, high = np.quantile(samples[_picks((r,))[0]].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def stratified_ci(strata: Sequence[Floats]) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of the mean over strata of each stratum's mean, ``[(r_1,), ...]``.

    Runs are resampled within each stratum (a benchmark), which are as they are: the interval tells how sure the mean
    over these benchmarks is, nothing about others. (nan, nan) where a stratum has one run, or a NaN.

    Source: Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice, NeurIPS 2021.
    """
    if not strata or any(len(runs) < 2 or np.isnan(runs).any() for runs in strata):
        return math.nan, math.nan
    picks = _picks(tuple(len(runs) for runs in strata))
    means = [runs[picked].mean(axis=1) for runs, picked in zip(strata, picks, strict=True)]
    low, high = np.quantile(np.mean(means, axis=0), [0.025, 0.975])
    return float(low), float(high)


@lru_cache(maxsize=4)
def _picks(sizes: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Return which runs each resample has, ``(RESAMPLES, r)`` for each number of runs; the same at every call."""
    rng = np.random.default_rng(0)
    return [rng.integers(r, size=(RESAMPLES, r)) for r in sizes]


def pareto_front(cost: Floats, value: Floats) -> NDArray[np.int64]:
    """Return the rows ``(k,)`` of ``cost (n,)``, less is better, and ``value (n,)``, more is, that no other row beats.

    In order of rising cost, one row where several are equal; rows with a NaN take no part.
    """
    known = np.flatnonzero(~np.isnan(cost) & ~np.isnan(value))
    order = known[np.lexsort((-value[known], cost[known]))]
    before = np.maximum.accumulate(np.concatenate([[-np.inf], value[order]]))[:-1]
    return order[value[order] > before]


def wilcoxon_p(first: Floats, second: Floats) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test on paired runs ``(r,)``; 1 where all are equal."""
    from scipy.stats import wilcoxon

    difference = first - second
    if not difference.any():
        return 1.0
    return float(wilcoxon(difference).pvalue)


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Return p-values adjusted for testing them all, ``(m,)``: Holm's step-down, ``max_j<=i (m - j) p_(j)``, at most 1.

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def outperformance(first: Floats, second: Floats) -> Floats:
    """Return 1 where the first of two paired runs is better, 0.5 where equal, else 0, ``(r,)``; its mean is P(A > B).

    Source: Bouthillier et al., Accounting for variance in machine learning benchmarks, MLSys 2021.
    """
    better: Floats = np.where(first == second, 0.5, (first > second).astype(np.float64))
    return better


@dataclass(frozen=True)
class RankTest:
    """Average ranks of strategies over benchmarks, and whether they can differ by chance.

    Attributes:
        mean_rank: ``(k,)``, 1 is best; ties share the average rank.
        friedman_p: p-value of Friedman's test, NaN for fewer than 3 strategies or 2 benchmarks.
        critical_distance: two mean ranks further apart than this differ (Nemenyi, 5 %).
        has_power: whether any two strategies could be that far apart: ``critical_distance < k - 1``.
    """

    mean_rank: Floats
    friedman_p: float
    critical_distance: float
    has_power: bool


def rank_test(scores: Floats) -> RankTest:
    """Rank ``scores (b, k)``, higher is better, on each benchmark and test the mean ranks.

    Source: Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006.
    """
    from scipy.stats import friedmanchisquare, rankdata

    b, k = scores.shape
    ranks = rankdata(-scores, axis=1)
    distance = nemenyi_distance(k, b)
    if k < 3 or b < 2:
        friedman_p = math.nan
    elif (ranks == ranks[:, :1]).all():
        friedman_p = 1.0  # the statistic is 0 / 0
    else:
        friedman_p = float(friedmanchisquare(*ranks.T).pvalue)
    return RankTest(ranks.mean(axis=0), friedman_p, distance, bool(distance < k - 1))


def nemenyi_distance(k: int, b: int) -> float:
    """Return the critical difference of mean ranks, at 5 %, of ``k`` strategies on ``b`` benchmarks; NaN for one."""
    from scipy.stats import studentized_range

    if k < 2:
        return math.nan
    return float(studentized_range.ppf(0.95, k, np.inf) / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * b)))


def query_grid(budget: int, points: int = 60) -> list[int]:
    """Return at most about ``points`` query counts from 1 to ``budget``, dense at the start."""
    if budget <= points:
        return list(range(1, budget + 1))
    early = np.arange(1, points // 3 + 1)
    late = np.geomspace(points // 3, budget, points - points // 3)
    return sorted({int(q) for q in np.concatenate([early, np.rint(late)])})


def value_at(spent: Floats, values: Floats, grid: NDArray[Any]) -> Floats:
    """Return each run's value when it has spent ``grid (g,)``, ``(r, g)``; NaN before its first evaluation ends.

    Args:
        spent: seconds, or budget, when each evaluation ended, ``(r, t)``, not decreasing.
        values: the incumbent's value from then on, ``(r, t)``.
        grid: as much as is spent, ``(g,)``.
    """
    at = np.array([np.searchsorted(row, grid, side="right") - 1 for row in spent])
    return np.where(at < 0, np.nan, np.take_along_axis(values, np.maximum(at, 0), axis=1))
