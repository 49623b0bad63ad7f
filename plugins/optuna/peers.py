"""Optuna's own samplers as nasplug strategies, to compete in ``nasplug compare``: ``optuna:tpe`` and others."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.pruners import BasePruner
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

    With a pruner it stops trainings early, in a history that has fidelities: their epochs are the steps that are
    reported to the pruner, the shortest its least resource and the longest its largest; all else is Optuna's default.
    Like Optuna, it does not go on with a training that it stopped. An architecture proposed again is told with the
    curve it has, without the pruner's say.

    Args:
        sampler: ``tpe`` (TPESampler), ``gp`` (GPSampler, needs torch), ``nsga2`` (NSGAIISampler), ``random``
            (RandomSampler; unlike ours it draws with replacement), the first and the last also with a pruner, such as
            ``tpe+hyperband`` (HyperbandPruner), ``+successive-halving`` (SuccessiveHalvingPruner, the asynchronous
            one), ``+median`` (MedianPruner).

    Raises:
        MissingDependencyError: a sampler whose package is not installed.
    """

    sampler: Literal[
        "tpe",
        "gp",
        "nsga2",
        "random",
        "tpe+hyperband",
        "tpe+successive-halving",
        "tpe+median",
        "random+hyperband",
        "random+successive-halving",
        "random+median",
    ] = "tpe"

    objectives = None

    @property
    def stops_early(self) -> bool:
        return "+" in self.sampler

    def stops(self, history: History, row: int) -> bool:
        with _silent():
            return super().stops(history, row)

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        # One thread for GPSampler: its matrices are small, and a busy machine slows many threads a hundredfold.
        with _silent(), threadpool_limits(1) if self.sampler == "gp" else nullcontext():
            return super()._candidates(history, n, rng)

    def _optimizer(self, history: History, seed: int) -> _Study:
        sampler, _, pruner = self.sampler.partition("+")
        study = optuna.create_study(
            study_name=f"seed {seed}",  # by which Hyperband assigns trials to brackets
            directions=["maximize"] * history.n_objectives,
            sampler=_sampler(sampler, seed),
            pruner=_pruner(pruner, history.fidelities),
        )
        return _Study(self.space, study)


class _Study(Optimizer[Trial]):
    """A study in memory, one parameter a site."""

    def __init__(self, space: Space, study: Study):
        self._space = space
        self._distributions = distributions(space)
        self._reported: dict[int, int] = {}  # how many values of a trial's curve, by its number
        self.study = study

    def ask(self) -> tuple[Trial, NDArray[np.int64]]:
        trial = self.study.ask(self._distributions)
        return trial, self._space.from_params([trial.params])[0]

    def stops(self, handle: Trial, history: History, row: int) -> bool:
        return self._report(handle, history, row)

    def _report(self, handle: Trial, history: History, row: int) -> bool:
        """Report what the curve has that was not reported yet, and return what the pruner says of the last value."""
        says = False
        curve = history.curves[row]
        for k in np.flatnonzero(~np.isnan(curve))[self._reported.get(handle.number, 0) :]:
            self._reported[handle.number] = self._reported.get(handle.number, 0) + 1
            handle.report(float(curve[k]), step=history.fidelities[k])
            says = handle.should_prune()  # also where nothing depends on it: pruners remember whom they compared
        return says

    def tell(self, handle: Trial, history: History, row: int) -> None:
        self._report(handle, history, row)
        if history.status[row] == Status.PRUNED and handle.number in self._reported:
            self.study.tell(handle, state=TrialState.PRUNED)
            return
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


def _pruner(name: str, steps: Sequence[int]) -> BasePruner:
    """Return a pruner for values that are reported at these steps."""
    match name:
        case "hyperband" if steps:
            return optuna.pruners.HyperbandPruner(min_resource=steps[0], max_resource=steps[-1])
        case "successive-halving" if steps:
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=steps[0])
        case "median":
            return optuna.pruners.MedianPruner()
    return optuna.pruners.NopPruner()


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
