"""A benchmark table as an OptunaHub problem: an objective for any Optuna sampler."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import Trial

from nasplug.benchmarks.base import Benchmark, Signal, higher_is_better
from nasplug.benchmarks.catalog import open_benchmark
from nasplug.errors import DataError, MissingDependencyError
from nasplug.plugins.optuna.spaces import StudySpace

try:
    from optunahub.benchmarks import BaseProblem
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "OptunaHub problems need the package 'optunahub'; pip install 'nasplug[optuna]'"
    ) from error

__all__ = ["TableProblem"]


class TableProblem(BaseProblem):
    """Look up architectures of a table: ``study.optimize(TableProblem("nasbench201-cifar10"), n_trials=100)``.

    Accuracies are fractions and maximised; costs (``latency_ms``, ``train_s``, ``params``) and losses are minimised.

    Example:
        >>> problem = TableProblem("nasbench201-cifar10", ["valid", "latency_ms"])  # doctest: +SKIP
        >>> study = optuna.create_study(directions=problem.directions)              # doctest: +SKIP

    Args:
        benchmark: the name of a built-in or added table, a table file, or a Benchmark.
        signals: what is evaluated, such as ``"valid@12"``; several make a study of several objectives. None: what the
            benchmark shows a search.
        limits: metric -> largest allowed value, set as constraints of the trial (Optuna 5).
        compact: one integer parameter ``architecture`` instead of one parameter a site.
        run: which training seed, for signals of a single one.
        attributes: signals that every trial gets as user attributes, beside its architecture string, for people and
            dashboards; no sampler looks at them. None: what the benchmark reports, and what its architectures cost,
            where it is a table. () writes nothing, which is faster on a slow storage.

    Raises:
        InputError: an unknown benchmark, metric or signal, or a combination that is not in the table.
    """

    def __init__(
        self,
        benchmark: str | Benchmark,
        signals: str | Sequence[str] | None = None,
        *,
        limits: Mapping[str, float] | None = None,
        compact: bool = False,
        run: int = 0,
        attributes: Sequence[str] | None = None,
    ):
        self.benchmark: Benchmark = open_benchmark(benchmark) if isinstance(benchmark, str) else benchmark
        texts = [str(self.benchmark.search)] if signals is None else [signals] if isinstance(signals, str) else signals
        self._signals = [Signal.parse(text) for text in texts]
        self._limits = {Signal.parse(metric): limit for metric, limit in (limits or {}).items()}
        self._space = StudySpace.over(self.benchmark.space, compact=compact)
        self._run = run
        self._named = attributes is None or bool(attributes)
        noted = self.benchmark.notable() if attributes is None else map(Signal.parse, attributes)
        self._noted = {str(signal): signal for signal in noted}

    @property
    def search_space(self) -> dict[str, BaseDistribution]:
        """The parameters of one architecture."""
        return dict(self._space.distributions)

    @property
    def directions(self) -> list[StudyDirection]:
        """One a signal."""
        return [
            StudyDirection.MAXIMIZE if higher_is_better(s.metric) else StudyDirection.MINIMIZE for s in self._signals
        ]

    def __call__(self, trial: Trial) -> float | Sequence[float]:
        """Return the value of each signal for the trial's architecture, and note the attributes."""
        values = super().__call__(trial)
        params = {name: trial.params[name] for name in self.search_space}
        if self._named:
            (text,) = self.benchmark.space.to_string(self._space.codes([params]))
            trial.set_user_attr("architecture", text)
        for name, signal in self._noted.items():
            if math.isfinite(value := self._look_up(params, signal)):  # NaN is no JSON
                trial.set_user_attr(name, value)
        return values

    def evaluate(self, params: dict[str, Any]) -> float | tuple[float, ...]:
        """Return the value of each signal; a single float for one."""
        values = tuple(self._look_up(params, signal) for signal in self._signals)
        return values[0] if len(values) == 1 else values

    def evaluate_constraints(self, params: dict[str, Any]) -> dict[str, float]:
        """Return metric -> value minus its limit."""
        return {str(signal): self._look_up(params, signal) - limit for signal, limit in self._limits.items()}

    def _look_up(self, params: Mapping[str, Any], signal: Signal) -> float:
        try:
            return float(self.benchmark.labels(self._space.codes([params]), signal, self._run)[0])
        except DataError:  # a table that is a part of its space: NaN, so this trial fails and the study goes on
            return math.nan
