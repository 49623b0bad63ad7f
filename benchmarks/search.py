"""The one loop of a search: propose, buy the label, learn.

A strategy that stops trainings early spends a budget of evaluations by the instalment
(:class:`nasplug.benchmarks.meter.Meter`): it starts more trainings, in as many seconds as that number of average
evaluations takes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nasplug.benchmarks.base import Benchmark, Signal, higher_is_better
from nasplug.benchmarks.meter import Meter
from nasplug.errors import InputError
from nasplug.spaces import Genotypes
from nasplug.strategies import History, Observation, Status, Strategy, trial_rng

__all__ = ["Arena", "Step", "lengths_of", "search"]


@dataclass(frozen=True)
class Arena:
    """A benchmark with the signal that searches see and the one that is reported."""

    benchmark: Benchmark
    search: Signal
    report: Signal

    @classmethod
    def of(
        cls, benchmark: Benchmark, *, budget: int, search: Signal | None = None, report: Signal | None = None
    ) -> Arena:
        """Return the arena, with the benchmark's own signals where none are given.

        Raises:
            InputError: a budget larger than the benchmark, or a signal of which less is better.
            UnknownNameError, DataError: a signal that the benchmark does not hold.
        """
        arena = cls(benchmark, search or benchmark.search, report or benchmark.report)
        for signal in (arena.search, arena.report):
            if not higher_is_better(signal.metric):
                raise InputError(
                    f"{signal} is a cost and a search maximises; name an accuracy, such as {benchmark.search}"
                )
        held = benchmark.architectures()
        size = benchmark.space.size if held is None else len(held)
        if budget > size:
            raise InputError(
                f"a budget of {budget} queries is more than the {size} architectures of {benchmark.name!r}; "
                f"take --budget {size} or less"
            )
        if held is not None:
            for signal in (arena.search, arena.report):
                benchmark.labels(held[:1], signal)
        return arena

    @property
    def checksum(self) -> str:
        """The table's checksum, empty where the benchmark has none."""
        return str(self.benchmark.provenance().get("checksum", ""))


@dataclass(frozen=True)
class Step:
    """One query of a run: its number from 1, what was learnt, the budget spent by then, how long the proposal took."""

    query: int
    observation: Observation
    spent: float
    suggest_s: float


def search(strategy: Strategy, benchmark: Benchmark, signal: Signal, *, budget: int, seed: int) -> Iterator[Step]:
    """Run one search and yield its queries: one proposal, one label bought, ``budget`` times.

    A strategy that stops trainings early looks at the signal's metric at every length up to the signal's; its queries
    are the trainings that it starts, as many as the budget pays for.

    Proposal ``t`` (from 0) draws from ``trial_rng(seed, t)``; ``seed`` also picks the training seed that a ``:one``
    signal shows. The strategy sees the history alone and is not told the budget, so a run of 100 queries begins with
    the run of 50 (but for the training that the end of its budget cuts off).

    Raises: InputError where the strategy proposes what its space does not hold, or stops trainings early and the
        benchmark has one training length.
    """
    lengths = lengths_of(strategy, benchmark, signal)
    meter = Meter(benchmark, signal, budget, seed, lengths)
    history = History.empty(strategy.space, fidelities=lengths)
    number = 0
    while meter.spent < budget:
        started = time.perf_counter()
        proposed = strategy.propose(history, 1, trial_rng(seed, number))
        suggest_s = time.perf_counter() - started
        rows = strategy.space.check(proposed)
        if len(rows) != 1:
            raise InputError(f"{type(strategy).__name__} was asked for 1 proposal and made {len(rows)}")
        observation = meter.buy(rows[0], partial(_stops, strategy, history, rows))
        curve = np.array([observation.curve])
        history = history.extended(rows, np.array([observation.value]), observation.status, curves=curve)
        number += 1
        yield Step(number, observation, meter.spent, suggest_s)


def lengths_of(strategy: Strategy, benchmark: Benchmark, signal: Signal) -> tuple[int, ...]:
    """Return the training lengths at which a strategy looks, none if it sees whole evaluations only.

    Raises: InputError where it stops trainings early and the benchmark has one length.
    """
    if not strategy.stops_early:
        return ()
    held = benchmark.fidelities(signal.metric)
    lengths = tuple(epochs for epochs in held if signal.epochs is None or epochs <= signal.epochs)
    if len(lengths) < 2:
        raise InputError(
            f"{benchmark.name} shows {signal.metric} of one training length and the strategy stops trainings early; "
            "take a benchmark with curves, such as digits201, or a strategy without a pruner"
        )
    return lengths


def _stops(strategy: Strategy, history: History, rows: Genotypes, curve: NDArray[np.float64]) -> bool:
    """Return whether a strategy stops the training of a proposal ``(1, s)`` that is not in the history yet."""
    training = history.extended(rows, np.array([math.nan]), Status.RUNNING, curves=curve[None])
    return strategy.stops(training, len(history))
