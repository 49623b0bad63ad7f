"""Optuna's own samplers as nasplug strategies, to compete in ``nasplug compare``: ``optuna:tpe`` and others."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import Trial, TrialState
from threadpoolctl import threadpool_limits

from nasplug.errors import MissingDependencyError
from nasplug.plugins.optuna.spaces import distributions
from nasplug.spaces import Genotypes, Space
from nasplug.strategies import History, Status
from nasplug.strategies.peer import Optimizer, Peer

__all__ = ["OptunaPeer"]


@dataclass(frozen=True, kw_only=True)
class OptunaPeer(Peer):
    """A sampler of Optuna with its default settings, asked and told in a study of its own in memory.

    How a peer searches, and what it is given for nothing: :class:`~nasplug.strategies.peer.Peer`.

    Args:
        sampler: ``tpe`` (TPESampler), ``gp`` (GPSampler, needs torch), ``nsga2`` (NSGAIISampler), ``random``
            (RandomSampler; unlike ours it draws with replacement).

    Raises:
        MissingDependencyError: a sampler whose package is not installed.
    """

    sampler: Literal["tpe", "gp", "nsga2", "random"] = "tpe"

    objectives = None

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        # One thread for GPSampler: its matrices are small, and a busy machine slows many threads a hundredfold.
        with _silent(), threadpool_limits(1) if self.sampler == "gp" else nullcontext():
            return super()._candidates(history, n, rng)

    def _optimizer(self, n_objectives: int, seed: int) -> _Study:
        return _Study(self.space, n_objectives, _sampler(self.sampler, seed))


class _Study(Optimizer[Trial]):
    """A study in memory, one parameter a site."""

    def __init__(self, space: Space, n_objectives: int, sampler: BaseSampler):
        self._space = space
        self._distributions = distributions(space)
        self.study: Study = optuna.create_study(directions=["maximize"] * n_objectives, sampler=sampler)

    def ask(self) -> tuple[Trial, NDArray[np.int64]]:
        trial = self.study.ask(self._distributions)
        return trial, self._space.from_params([trial.params])[0]

    def tell(self, handle: Trial, history: History, row: int) -> None:
        if history.status[row] != Status.OK:
            self.withdraw(handle)
            return
        if history.violation[row] > 0 and hasattr(handle, "set_constraint"):
            handle.set_constraint("violation", float(history.violation[row]))
        self.study.tell(handle, history.values[row].tolist())

    def withdraw(self, handle: Trial) -> None:
        self.study.tell(handle, state=TrialState.FAIL)

    def learn(self, history: History, row: int) -> None:
        self.study.enqueue_trial(self._space.to_params(history.genotypes[row : row + 1])[0])
        self.tell(self.study.ask(self._distributions), history, row)


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
