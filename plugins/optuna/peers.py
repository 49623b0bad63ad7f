"""Optuna's own samplers as nasplug strategies, to compete in ``nasplug compare``: ``optuna:tpe`` and others."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import Trial, TrialState
from threadpoolctl import threadpool_limits

from nasplug.errors import MissingDependencyError
from nasplug.plugins.optuna.spaces import distributions
from nasplug.spaces import Genotypes
from nasplug.strategies import History, Status, Strategy

__all__ = ["OptunaPeer"]

_FREE_ANSWERS = 20  # how often a sampler is told the value of an architecture it proposes again, before random ones


@dataclass(frozen=True, kw_only=True)
class OptunaPeer(Strategy):
    """A sampler of Optuna with its default settings, asked and told in a study of its own in memory.

    Optuna's samplers may propose what has been evaluated already. A user pays for such a trial; here the sampler is
    told the known value for nothing and asked again, which favours the peer. After 20 of these in a proposal, a
    random unseen architecture takes its place.

    The study is kept beside the history and told what is new. It is built anew, and the sampler seeded from the
    proposal's generator, when the history does not continue the one told before: proposals are a function of the
    seed over a whole run from its start, and a resumed run goes on with a newly seeded sampler.

    In a space that lists its architectures, a combination that is none of them stands for its representative.

    Args:
        sampler: ``tpe`` (TPESampler), ``gp`` (GPSampler, needs torch), ``nsga2`` (NSGAIISampler), ``random``
            (RandomSampler; unlike ours it draws with replacement).

    Raises:
        MissingDependencyError: a sampler whose package is not installed.
    """

    sampler: Literal["tpe", "gp", "nsga2", "random"] = "tpe"
    _mirrors: list[_Mirror] = field(default_factory=list, init=False, repr=False, compare=False)

    objectives = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_mirrors": []}

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        # One thread for GPSampler: its matrices are small, and a busy machine slows many threads a hundredfold.
        with _silent(), threadpool_limits(1) if self.sampler == "gp" else nullcontext():
            if not self._mirrors or not self._mirrors[0].continues(history):
                made = _sampler(self.sampler, int(rng.integers(2**31)))
                self._mirrors[:] = [_Mirror(self, history.n_objectives, made)]
            return self._mirrors[0].ask(history, n)


class _Mirror:
    """A study in memory that has been told what the history holds."""

    def __init__(self, peer: OptunaPeer, n_objectives: int, sampler: BaseSampler):
        self._space = peer.space
        self._distributions = distributions(peer.space)
        self._study: Study = optuna.create_study(directions=["maximize"] * n_objectives, sampler=sampler)
        self._open: dict[int, Trial] = {}  # asked and not told, by key
        self._told: dict[int, int] = {}  # row in the history, by key
        self._history = History.empty(peer.space, n_objectives)

    def continues(self, history: History) -> bool:
        """Return whether the history holds all that was told, unchanged."""
        old, n = self._history, len(self._history)
        if history.n_objectives != old.n_objectives or len(history) < n:
            return False
        final = old.status != Status.RUNNING
        return np.array_equal(history.keys[:n], old.keys) and all(
            np.array_equal(new[:n][final], column[final], equal_nan=True)
            for new, column in ((history.status, old.status), (history.values, old.values))
        )

    def ask(self, history: History, n: int) -> Genotypes:
        """Tell what is new, then return up to ``n`` unseen genotypes ``(k, s)``."""
        known = len(self._history)
        waiting = np.flatnonzero(self._history.status == Status.RUNNING)
        for row in [*waiting.tolist(), *range(known, len(history))]:
            if history.status[row] != Status.RUNNING:
                self._learn(history, row)
        self._history = history
        running = set(history.keys[history.status == Status.RUNNING].tolist())
        found: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        for _ in range(n + _FREE_ANSWERS):
            trial = self._study.ask(self._distributions)
            genotype = self._space.from_params([trial.params])[0]
            key = int(self._space.keys(genotype[None])[0])
            if key in self._told:
                self._tell(trial, history, self._told[key])
            elif key in self._open or key in running:
                self._study.tell(trial, state=TrialState.FAIL)
            else:
                self._open[key] = trial
                found.append(genotype)
                if len(found) == n:
                    break
        return np.array(found, dtype=np.int64).reshape(-1, self._space.n_sites)

    def _learn(self, history: History, row: int) -> None:
        key = int(history.keys[row])
        trial = self._open.pop(key, None)
        if trial is None:
            self._study.enqueue_trial(self._space.to_params(history.genotypes[row : row + 1])[0])
            trial = self._study.ask(self._distributions)
        self._told[key] = row
        self._tell(trial, history, row)

    def _tell(self, trial: Trial, history: History, row: int) -> None:
        if history.status[row] != Status.OK:
            self._study.tell(trial, state=TrialState.FAIL)
            return
        if history.violation[row] > 0 and hasattr(trial, "set_constraint"):
            trial.set_constraint("violation", float(history.violation[row]))
        self._study.tell(trial, history.values[row].tolist())


def _sampler(name: str, seed: int) -> BaseSampler:
    made: dict[str, Callable[..., BaseSampler]] = {
        "tpe": optuna.samplers.TPESampler,
        "gp": optuna.samplers.GPSampler,
        "nsga2": optuna.samplers.NSGAIISampler,
        "random": optuna.samplers.RandomSampler,
    }
    try:
        return made[name](seed=seed)
    except ImportError as error:
        raise MissingDependencyError(f"optuna:{name} needs a package that is missing: {error}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Optuna's notes on studies and experimental features out of a comparison; global settings stay."""
    logger = logging.getLogger("optuna.storages._in_memory")
    drop = lambda record: False  # noqa: E731 - the filter must be one object to be removed again
    logger.addFilter(drop)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        logger.removeFilter(drop)
