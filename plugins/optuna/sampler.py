"""nasplug strategies as an Optuna sampler."""

from __future__ import annotations

import math
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nasplug.errors import InputError, SpaceExhaustedError
from nasplug.plugins.configured import checked_seed, drawn_seed, strategy_over
from nasplug.plugins.optuna import storage
from nasplug.plugins.optuna.spaces import StudySpace
from nasplug.plugins.optuna.trials import TrialLog, countable
from nasplug.registry import Spec, configure
from nasplug.spaces import Space
from nasplug.strategies import History, Status, Strategy, trial_rng

__all__ = ["NasSampler"]

_REDRAWS = 50  # proposals withdrawn in favour of another worker before a repeat is accepted
_PAUSES_S = (0.0, 0.01, 0.02, 0.05, 0.1)  # how long to wait for a younger trial to withdraw
_SHORTLIST = 16  # proposals looked at when some sites are fixed


class NasSampler(BaseSampler):
    """An Optuna sampler that lets a nasplug strategy choose, and never evaluates an architecture twice.

    Works in define-by-run and ask-and-tell studies, with ``n_jobs``, with several processes on one storage, resumed,
    with enqueued, pruned and failed trials, with constraints, and with several objectives where the strategy knows
    them. The study's trials are the only state: a new sampler object on an old study continues where it stood.

    Example:
        >>> import optuna
        >>> from nasplug.plugins.optuna import NasSampler
        >>> study = optuna.create_study(sampler=NasSampler("random", seed=0))
        >>> study.optimize(lambda trial: trial.suggest_int("depth", 1, 9), n_trials=3)
        >>> len({trial.params["depth"] for trial in study.trials})
        3

    Which parameters: with ``space``, the strategy chooses from the first trial on. Without, it chooses the parameters
    whose distributions all completed trials share, so the trials before the first completion are random. Parameters
    outside (conditional ones, or ranges that change) are drawn at random, by seed, trial number and name.

    No repeats: proposals of known parameters avoid every finished, running and waiting trial. A proposal is published
    as a trial attribute and stands only if no other trial held it when read back, so this is true of processes that
    ask at one moment too. Random parameters avoid repeats as far as the choices of the one being drawn allow.
    When every architecture is taken: with ``space``, ``optimize`` is stopped; else trials repeat, as Optuna's contract
    asks, and a warning says so once. With parameters outside the space a repeated architecture is a new trial, and
    neither happens.

    Reproducible: the same seed gives the same trials with ``n_jobs=1``; with ``space``, the very sequence of
    ``strategy.propose(history, 1, trial_rng(seed, number))``. In parallel, results depend on who finishes first.

    Learns from completed trials, as hints from pruned ones, and that failed ones are not worth another try. Values
    that are infinite count as failed. The sampler sees the whole study, also under ``HyperbandPruner``.

    A strategy that answers requests (``eas``) takes them from the study's user attributes ``task``, ``kind`` and
    ``budget``, where there are any.

    Args:
        strategy: a registered name with options, such as ``"weaknas:predictor=ridge"``; or a Strategy class or object.
        space: a nasplug Space or its registered name, whose parameters have the names the objective suggests; or
            ``{name: distribution}``. None: inferred. A strategy object brings its own.
        compact: the objective suggests the single integer ``architecture``, the row of ``space.all()``.
        seed: not negative; None draws one, so that every sampler object differs.
        constraints_func: Optuna's older form of constraints, called with the finished trial, values above 0 violate.
            From Optuna 5 call ``trial.set_constraint`` instead; both are learned from in either case.

    Raises:
        InputError: unknown names or options, or arguments that exclude each other. While sampling, a ValueError if
            the study has more objectives than the strategy searches over.
    """

    def __init__(
        self,
        strategy: str | Spec | type[Strategy] | Strategy = "weaknas",
        *,
        space: str | Space | Mapping[str, BaseDistribution] | None = None,
        compact: bool = False,
        seed: int | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
    ):
        seed = checked_seed(seed)
        self._seed = drawn_seed() if seed is None else seed
        self._strategy = strategy
        self._constraints_func = constraints_func
        self._given = _given_space(strategy, space, compact)
        # Built once now, so that a wrong name or option is an error here and not in the middle of a study.
        self._current = strategy_over(strategy, None if self._given is None else self._given.space)
        self._inferred: tuple[Mapping[str, BaseDistribution], StudySpace | None] = ({}, None)
        self._asked: tuple[Mapping[str, Any], Strategy] | None = None
        self._warned: set[str] = set()
        self._start()

    def _start(self) -> None:
        self._lock = threading.RLock()
        self._logs: WeakKeyDictionary[BaseStorage, dict[int, TrialLog]] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_logs")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    def __repr__(self) -> str:
        space = None if self._given is None else self._given.space
        return f"NasSampler({self._strategy!r}, space={space!r}, seed={self._seed})"

    def reseed_rng(self) -> None:
        """Do nothing: draws depend on seed and trial number, so parallel trials differ already."""

    # -- Optuna's hooks ----------------------------------------------------------------------------------------------

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if self._given is not None:
            return dict(self._given.distributions)
        study = storage.whole(study)
        with self._lock:
            log = self._log(study)
            log.read(storage.trials(study, fresh=False))
            space = self._space_of(log.common or {})
        return {} if space is None else dict(space.distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        study = storage.whole(study)
        self._check_objectives(study)
        with self._lock:
            space = self._space_of(search_space)
            return {} if space is None else self._propose(study, trial, space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        study = storage.whole(study)
        self._check_objectives(study)
        key = [self._seed, trial.number, zlib.crc32(param_name.encode())]
        rng = RandomSampler(seed=int(np.random.default_rng(key).integers(2**32)))

        def draw() -> Any:
            return rng.sample_independent(study, trial, param_name, param_distribution)

        if not all(map(countable, [param_distribution, *trial.distributions.values()])):
            return draw()
        with self._lock:
            return self._unrepeated(study, trial, param_name, draw)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        if self._constraints_func is None or state not in (TrialState.COMPLETE, TrialState.PRUNED):
            return
        found: tuple[float, ...] | None = None
        try:
            constraints = tuple(float(value) for value in self._constraints_func(trial))
            if any(map(math.isnan, constraints)):
                raise InputError(f"constraints_func returned NaN for trial {trial.number}: {constraints}")
            found = constraints
        finally:
            storage.store_constraints(study, trial, found)

    # -- proposing ---------------------------------------------------------------------------------------------------

    def _propose(self, study: Study, trial: FrozenTrial, space: StudySpace) -> dict[str, Any]:
        """Return the parameters of an architecture that no other trial has, and claim it for this trial.

        The claim is written first and checked afterwards. Of two trials with one architecture, at least the later
        writer sees the other's claim. The higher number withdraws at once; the lower one waits for that, and
        withdraws as well if the other stays. So no two keep it, whatever the timing.
        """
        log = self._log(study)
        log.read(storage.trials(study))
        if self._given is not None and log.mismatched(space):
            self._warn(
                "mismatch",
                f"no completed trial has the parameters {', '.join(space.distributions)} of the space given to "
                "NasSampler, so nothing is learned; suggest parameters of these names and values in the objective",
            )
        rng = trial_rng(self._seed, trial.number)
        withdrawn: list[NDArray[np.int64]] = []
        for _ in range(_REDRAWS):
            history = log.history(space, trial.number)
            if withdrawn:
                k, m = len(withdrawn), history.n_objectives
                history = history.extended(np.array(withdrawn), np.full((k, m), np.nan), Status.RUNNING)
            genotype, unseen = self._choose(study, trial.number, log, space, history, _fixed(log, trial, space), rng)
            params = space.decode(genotype)
            if not unseen:
                return params
            storage.publish(study, trial, storage.PROPOSAL, params)
            if self._stands(study, log, space, trial.number, genotype):
                if len(history) + 1 >= space.space.size and not log.open_ended(space):
                    taken = np.append(history.keys, space.space.keys(genotype[None]))
                    if len(np.unique(taken)) >= space.space.size:
                        self._stop(study)  # that was the last one
                return params
            withdrawn.append(genotype)
        self._warn("crowded", f"trial {trial.number} may repeat an architecture: other workers were faster each time")
        return params

    def _choose(
        self,
        study: Study,
        number: int,
        log: TrialLog,
        over: StudySpace,
        history: History,
        fixed: tuple[NDArray[np.int64], NDArray[np.bool_]] | None,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.int64], bool]:
        """Return a genotype ``(s,)`` and whether it is unseen; ``fixed`` holds codes ``(s,)`` and where they apply."""
        space, strategy = over.space, self._strategy_for(over.space, study)
        try:
            if fixed is None:
                return strategy.propose(history, 1, rng)[0], True
            proposed = strategy.propose(history, _SHORTLIST, rng)
        except SpaceExhaustedError:
            if not log.open_ended(over):
                self._warn(
                    "exhausted",
                    f"all {space.size} architectures of the space have been tried or are running; "
                    f"trial {number} repeats one, and so will later trials",
                )
                self._stop(study)
            return space.sample(1, rng)[0], False
        codes, where = fixed
        candidates = np.where(where, codes, np.concatenate([proposed, space.sample(64 * _SHORTLIST, rng)]))
        candidates = candidates[space.valid(candidates)]
        if not len(candidates):  # no architecture has these values together; Optuna insists on them all the same
            return proposed[0], True
        unseen = ~np.isin(space.keys(candidates), history.keys)
        return candidates[np.argmax(unseen)], bool(unseen.any())

    def _stands(self, study: Study, log: TrialLog, space: StudySpace, number: int, genotype: NDArray[np.int64]) -> bool:
        """Return whether the published proposal is this trial's alone."""
        finished: list[int] = []
        for pause_s in _PAUSES_S:
            if pause_s:
                time.sleep(pause_s)
            finished += log.read(storage.trials(study))
            holders = log.holders(space, number, genotype, finished)
            if not holders:
                return True
            if min(holders) < number:
                return False
        return False

    def _unrepeated(self, study: Study, trial: FrozenTrial, name: str, draw: Callable[[], Any]) -> Any:
        """Draw until this trial's parameters so far are no other trial's, by the same rule as :meth:`_propose`.

        Nothing to do once a proposal of this trial stands: then it differs from every other trial already.
        """
        log = self._log(study)
        log.read(storage.trials(study))
        own = log.own(trial.number)
        if own is None or storage.PROPOSAL in own.system_attrs:
            return draw()
        first = value = draw()
        for attempt in range(_REDRAWS):
            params = {**trial.params, name: value}
            if not log.repeats(params, trial.number):
                storage.publish(study, trial, storage.PARTIAL, params)
                log.read(storage.trials(study))
                if not log.repeats(params, trial.number):
                    return value
                time.sleep(0.001 * attempt * (trial.number % 7))  # out of step with the others
            value = draw()
        return first

    # -- what is kept ------------------------------------------------------------------------------------------------

    def _check_objectives(self, study: Study) -> None:
        most, n = self._current.objectives, len(study.directions)
        if most is not None and n > most:
            raise InputError(
                f"strategy {type(self._current).__name__} searches {most} objective and the study has {n}; "
                "use one for several objectives, such as weaknas"
            )

    def _log(self, study: Study) -> TrialLog:
        where, number = storage.identity(study)
        logs = self._logs.setdefault(where, {})
        if number not in logs:
            logs[number] = TrialLog(study.directions)
        return logs[number]

    def _space_of(self, found: Mapping[str, BaseDistribution]) -> StudySpace | None:
        """Return the space of these distributions, the same object as long as they stay the same."""
        if self._given is not None and found.keys() == self._given.distributions.keys():
            return self._given
        if found != self._inferred[0]:
            self._inferred = (dict(found), StudySpace.of(found))
        return self._inferred[1]

    def _strategy_for(self, space: Space, study: Study) -> Strategy:
        """Return the strategy over a space, with what the study's user attributes ask of it."""
        if self._current.space != space:
            self._current = strategy_over(self._strategy, space)
        attributes = study.user_attrs if self._current.request else {}
        asked = {name: attributes[name] for name in self._current.request if name in attributes}
        if not asked:
            return self._current
        if self._asked is None or self._asked[0] != asked or self._asked[1].space != space:
            self._asked = asked, replace(self._current, **asked)
        return self._asked[1]

    def _stop(self, study: Study) -> None:
        # Optuna's contract tests want all trials asked for, so only a space that was declared ends a study.
        if self._given is not None:
            with suppress(RuntimeError):  # ask and tell: the caller decides when to stop
                study.stop()

    def _warn(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(message, stacklevel=2)


def _given_space(
    strategy: object, space: str | Space | Mapping[str, BaseDistribution] | None, compact: bool
) -> StudySpace | None:
    if isinstance(strategy, Strategy):
        if space is not None:
            raise InputError("a strategy object has a space already; leave space= out or pass the strategy's name")
        space = strategy.space
    named = configure("space", space) if isinstance(space, str) else space
    if isinstance(named, Space):
        return StudySpace.over(named, compact=compact)
    if compact:
        raise InputError("compact=True needs space=, a nasplug space or its registered name")
    if named is None:
        return None
    found = StudySpace.of(named)
    if found is None:
        raise InputError(f"space= has no parameter with more than one value: {dict(named)}")
    return found


def _fixed(log: TrialLog, trial: FrozenTrial, space: StudySpace) -> tuple[NDArray[np.int64], NDArray[np.bool_]] | None:
    """Return the codes ``(s,)`` of what the trial has or must take, and where; None if nothing, or not of the space."""
    own = log.own(trial.number)
    values = {**({} if own is None else storage.fixed_params(own)), **trial.params}
    values = {name: value for name, value in values.items() if name in space.distributions}
    if not values:
        return None
    if space.compact:
        codes, fits = space.encode([values])
        return (codes[0], np.ones(len(codes[0]), dtype=bool)) if fits[0] else None
    where = np.array([p.name in values for p in space.space.parameters])
    codes = np.zeros((1, space.space.n_sites), np.int64)
    try:
        for site, p in enumerate(space.space.parameters):
            if where[site]:
                codes[0, site] = p.encode([values[p.name]])[0]
    except InputError:
        return None
    return codes[0], where
