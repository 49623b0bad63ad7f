"""What a search may look at: one label at a time, until the budget is spent."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nasplug.benchmarks.base import Benchmark, Signal
from nasplug.errors import DataError, InputError
from nasplug.strategies import Observation, Status

__all__ = ["Meter"]


class Meter:
    """Sells labels of one signal and charges every one of them: repeated and failed evaluations too.

    A strategy never holds a meter, nor the benchmark behind it: it sees the history of what was bought.

    Args:
        benchmark: whose labels.
        signal: the only label that can be bought; the report's is out of reach.
        budget: how many evaluations, at least 1.
        run: picks the training seed where the signal shows one (:meth:`Benchmark.labels`).

    Raises: InputError for a budget below 1.
    """

    def __init__(self, benchmark: Benchmark, signal: Signal, budget: int, run: int = 0):
        if budget < 1:
            raise InputError(f"a budget is at least 1 query, got {budget}")
        self._benchmark, self._signal, self._run = benchmark, signal, run
        self.budget = budget
        self.spent = 0
        shown = signal.seeds == "one"
        self._training_seed = run % benchmark.n_seeds(signal.metric, signal.epochs) if shown else None

    def buy(self, genotype: NDArray[np.int64]) -> Observation:
        """Evaluate one architecture ``(s,)``.

        One that the benchmark does not hold, or whose label is not a number, comes back FAILED, and is charged.

        Raises: InputError once the budget is spent.
        """
        if self.spent >= self.budget:
            raise InputError(f"the budget of {self.budget} queries is spent")
        self.spent += 1
        row = genotype[None]
        try:
            value = float(self._benchmark.labels(row, self._signal, self._run)[0])
            cost_s = float(self._benchmark.cost_s(row, self._signal)[0])
        except DataError:
            value = cost_s = math.nan
        return Observation(
            genotype=tuple(genotype.tolist()),
            values=(value,),
            status=Status.FAILED if math.isnan(value) else Status.OK,
            metric=self._signal.metric,
            split=self._signal.split,
            epochs=self._signal.epochs,
            training_seed=self._training_seed,
            cost_s=cost_s,
            source=self._benchmark.name,
        )
