"""What a search may look at: one label at a time, until the budget is spent.

Shapes: s sites; f training lengths; n architectures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nasplug.benchmarks.base import Benchmark, Signal
from nasplug.errors import DataError, InputError
from nasplug.spaces import Genotypes
from nasplug.strategies import Observation, Status

__all__ = ["Meter"]


def _never(curve: NDArray[np.float64]) -> bool:
    return False


class Meter:
    """Sells labels of one signal and charges every one of them: repeated and failed evaluations too.

    A strategy never holds a meter, nor the benchmark behind it: it sees the history of what was bought.

    The budget is in evaluations. With ``lengths`` a training is sold by instalments, each the price of its epochs, in
    shares of the average evaluation: of its seconds over all architectures that the benchmark lists, else (where they
    or the seconds are unknown) of its epochs. As many seconds are then spent as by a search that buys as many average
    evaluations whole.

    Args:
        benchmark: whose labels.
        signal: the only label that can be bought; the report's is out of reach.
        budget: how many evaluations, at least 1.
        run: picks the training seed where the signal shows one (:meth:`Benchmark.labels`).
        lengths: training lengths in epochs to stop at and look, ascending, the last one the signal's; none to buy
            evaluations whole, each for 1 of the budget, whatever it costs in seconds.

    Attributes:
        spent: of the budget.

    Raises: InputError for a budget below 1.
    """

    def __init__(self, benchmark: Benchmark, signal: Signal, budget: int, run: int = 0, lengths: Sequence[int] = ()):
        if budget < 1:
            raise InputError(f"a budget is at least 1 query, got {budget}")
        self._benchmark, self._signal, self._run = benchmark, signal, run
        self._lengths = tuple(lengths)
        self._looks = [replace(signal, epochs=epochs) for epochs in lengths] or [signal]
        self._mean_s = self._mean_seconds()
        self.budget = budget
        self.spent = 0.0
        shown = signal.seeds == "one"
        self._training_seed = run % benchmark.n_seeds(signal.metric, signal.epochs) if shown else None

    def buy(self, genotype: NDArray[np.int64], stops: Callable[[NDArray[np.float64]], bool] = _never) -> Observation:
        """Evaluate one architecture ``(s,)``.

        One that the benchmark does not hold, or whose label is not a number, comes back FAILED; the former is charged
        like an average one. One that is stopped, or whose next instalment is more than what is left, comes back
        PRUNED with its last value; what was left is then spent, on a training that does not get to its next look.

        Args:
            genotype: of the architecture.
            stops: given the curve ``(f,)``, NaN where the training has not been, whether to stop it.

        Raises: InputError once the budget is spent.
        """
        if self.spent >= self.budget:
            raise InputError(f"the budget of {self.budget} queries is spent")
        before, row = self.spent, genotype[None]
        curve = np.full(len(self._lengths), np.nan)
        value, cost_s, epochs, status = math.nan, 0.0, None, Status.PRUNED
        try:
            for k, (look, price) in enumerate(zip(self._looks, self._prices(row), strict=True)):
                self.spent = min(before + price, self.budget)
                if before + price > self.budget:
                    break
                value = float(self._benchmark.labels(row, look, self._run)[0])
                cost_s, epochs = float(self._seconds(row, self._looks[: k + 1])[0, -1]), look.epochs
                curve[k : k + 1] = value
                if math.isnan(value) or look is self._looks[-1]:
                    status = Status.FAILED if math.isnan(value) else Status.OK
                    break
                if stops(curve.copy()):
                    break
        except DataError:
            self.spent = min(before + 1, self.budget)
            value, cost_s, status = math.nan, math.nan, Status.FAILED
        return Observation(
            genotype=tuple(genotype.tolist()),
            values=(value,),
            status=status,
            metric=self._signal.metric,
            split=self._signal.split,
            epochs=epochs,
            training_seed=self._training_seed,
            curve=tuple(curve.tolist()),
            cost_s=cost_s,
            source=self._benchmark.name,
        )

    def _prices(self, row: Genotypes) -> NDArray[np.float64]:
        """Return what the training of an architecture has cost of the budget at each look."""
        if not self._lengths:
            return np.ones(1)
        if self._mean_s is not None:
            return self._seconds(row, self._looks)[0] / self._mean_s
        epochs = np.array(self._lengths, dtype=np.float64)
        return (epochs if self._benchmark.continues else epochs.cumsum()) / epochs[-1]

    def _seconds(self, genotypes: Genotypes, looks: Sequence[Signal]) -> NDArray[np.float64]:
        """Return the seconds that trainings have taken at each look, ``(n, f)``."""
        seconds = np.stack([self._benchmark.cost_s(genotypes, look) for look in looks], axis=1)
        return seconds if self._benchmark.continues else seconds.cumsum(axis=1)

    def _mean_seconds(self) -> float | None:
        """Return the seconds of the average evaluation, None where not all are known beforehand."""
        held = self._benchmark.architectures()
        if not self._lengths or held is None:
            return None
        seconds = self._seconds(held, self._looks)
        full = self._benchmark.cost_s(held, self._signal)
        return float(full.mean()) if np.isfinite(seconds).all() and full.mean() > 0 else None
