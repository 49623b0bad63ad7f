"""A study's trials as a history, each finished trial read once.

The trials in the storage are the only state; what is kept here is derived from them, grows with them and can be
dropped at any time.

Shapes: n trials (positions in the study's list), s sites, m objectives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nasplug.plugins.optuna import storage
from nasplug.plugins.optuna.spaces import StudySpace
from nasplug.spaces import Genotypes
from nasplug.strategies import History, Status

__all__ = ["TrialLog", "countable"]

STALE = 100
"""A trial still running after this many younger ones is taken for dead: it stays taken, but nothing waits for it."""


def countable(distribution: BaseDistribution) -> bool:
    """Return whether values can repeat by chance: everything but a float without a step."""
    return not isinstance(distribution, FloatDistribution) or distribution.step is not None or distribution.single()


class TrialLog:
    """The trials of one study; call :meth:`read` with a fresh list, then ask.

    Args:
        directions: of the study; values are turned so that higher is better.
    """

    def __init__(self, directions: Sequence[StudyDirection]):
        self._signs = [1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in directions]
        self._forget()

    def _forget(self) -> None:
        self._trials: Sequence[FrozenTrial] = []
        self._open: list[int] = []  # positions not finished
        self._backlog: list[int] = []  # positions finished and not yet in the columns
        self._columns: _Columns | None = None
        self._seen: set[_Combination] = set()
        self._unseen: list[int] = []  # positions finished and not yet in _seen
        self._claims: list[tuple[int, _Combination]] | None = None  # numbers and combinations of those not finished
        self._common: dict[str, BaseDistribution] | None = None
        self._unshared: list[int] = []  # positions finished and not yet in _common

    def read(self, trials: Sequence[FrozenTrial]) -> list[int]:
        """Take the study's current trials, in order; returns the positions that finished since the last call."""
        known = len(self._trials)
        if len(trials) < known or (known and trials[known - 1].number != self._trials[-1].number):
            self._forget()  # a database showed a trial late, in the middle
            known = 0
        look = [*self._open, *range(known, len(trials))]
        finished = [p for p in look if trials[p].state.is_finished()]
        if finished:
            done = set(finished)
            self._open = [p for p in look if p not in done]
            self._backlog += finished
            self._unseen += finished
            self._unshared += finished
        else:
            self._open = look
        self._trials = trials
        self._claims = None
        return finished

    @property
    def common(self) -> dict[str, BaseDistribution] | None:
        """Distributions that all completed trials share; None while nothing has completed."""
        for position in self._unshared:
            trial = self._trials[position]
            if trial.state != TrialState.COMPLETE:
                continue
            theirs = trial.distributions
            if self._common is None:
                self._common = dict(theirs)
            elif not all(_same(theirs.get(name), one) for name, one in self._common.items()):
                self._common = {name: one for name, one in self._common.items() if _same(theirs.get(name), one)}
        self._unshared = []
        return self._common

    def own(self, number: int) -> FrozenTrial | None:
        """Return the stored record of a trial that has not finished."""
        return next((self._trials[p] for p in reversed(self._open) if self._trials[p].number == number), None)

    # -- what a strategy is given ------------------------------------------------------------------------------------

    def history(self, space: StudySpace, own: int) -> History:
        """Return every trial that fits the space, in order of number, without trial ``own``.

        Running and waiting trials whose parameters are all known are rows of status RUNNING; trials of other
        parameters or values are left out.
        """
        columns = self._up_to_date(space)
        positions, codes = self._pending(space, own)
        n = len(self._trials)
        columns.fits[self._open] = False
        if positions:
            columns.codes[positions] = codes
            columns.values[positions] = np.nan
            columns.violation[positions] = np.nan
            columns.status[positions] = [Status.FAILED if n - p > STALE else Status.RUNNING for p in positions]
            columns.fits[positions] = True
        rows = columns.fits[:n]
        return History(
            space.space,
            columns.codes[:n][rows],
            columns.values[:n][rows],
            columns.status[:n][rows],
            columns.violation[:n][rows],
        )

    def holders(self, space: StudySpace, own: int, wanted: NDArray[np.int64], finished: Sequence[int]) -> list[int]:
        """Return the numbers of other trials that hold a genotype ``(s,)``: unfinished, or of ``finished`` (as -1)."""
        if not finished and len(self._open) == 1:
            return []  # nobody else is running
        columns = self._up_to_date(space)
        gone = [p for p in finished if columns.fits[p] and (columns.codes[p] == wanted).all()]
        positions, codes = self._pending(space, own)
        same = [p for p, row in zip(positions, codes, strict=True) if (row == wanted).all()]
        mark = None
        for position in self._open:
            claim = storage.published(self._trials[position], storage.PROPOSAL)
            if isinstance(claim, str) and self._trials[position].number != own:
                mark = mark or storage.digest(space.decode(wanted))
                if claim == mark:
                    same.append(position)
        return [-1] * len(gone) + [self._trials[p].number for p in same]

    def open_ended(self, space: StudySpace) -> bool:
        """Return whether a repeated architecture need not be a repeated trial, as far as finished trials tell.

        True before the first finished trial that fits, and when trials choose other parameters besides.
        """
        columns = self._up_to_date(space)
        return columns.others or not columns.fits[: len(self._trials)].any()

    def mismatched(self, space: StudySpace) -> bool:
        """Return whether trials have completed but none of them has the parameters of the space."""
        columns = self._up_to_date(space)
        return not columns.fits[: len(self._trials)].any() and self.common is not None

    def _up_to_date(self, space: StudySpace) -> _Columns:
        n = len(self._trials)
        if self._columns is None or self._columns.space is not space:
            self._columns = _Columns(space, len(self._signs))
            unfinished = set(self._open)
            self._backlog = [p for p in range(n) if p not in unfinished]
        self._columns.reserve(n)
        if self._backlog:
            self._columns.put(self._backlog, [self._trials[p] for p in self._backlog], self._signs)
            self._backlog = []
        return self._columns

    def _pending(self, space: StudySpace, own: int) -> tuple[list[int], Genotypes]:
        positions = [p for p in self._open if self._trials[p].number != own]
        if not positions:
            return [], np.empty((0, space.space.n_sites), np.int64)
        codes, fits = space.encode([_foreseen(self._trials[p]) for p in positions])
        return [p for p, fit in zip(positions, fits, strict=True) if fit], codes[fits]

    # -- trials that choose their parameters one by one --------------------------------------------------------------

    def repeats(self, params: Mapping[str, Any], own: int) -> bool:
        """Return whether another trial, finished or not, has exactly these parameters."""
        self._seen.update(_combination(self._trials[p].params) for p in self._unseen)
        self._unseen = []
        if self._claims is None:
            open_trials = [self._trials[p] for p in self._open]
            self._claims = [(trial.number, _combination(_foreseen(trial))) for trial in open_trials]
        wanted = _combination(params)
        return wanted in self._seen or any(claim == wanted and number != own for number, claim in self._claims)


def _same(one: BaseDistribution | None, other: BaseDistribution) -> bool:
    if isinstance(one, CategoricalDistribution) and isinstance(other, CategoricalDistribution):
        return one.choices == other.choices  # as Optuna's own test, a tenth of its time
    return one == other


_Combination = tuple[tuple[str, str], ...]


def _combination(params: Mapping[str, Any]) -> _Combination:
    return tuple(sorted((name, repr(value)) for name, value in params.items()))


def _foreseen(trial: FrozenTrial) -> Mapping[str, Any]:
    """Return all that is known of what an unfinished trial evaluates; what it has suggested goes before claims."""
    known = dict(storage.fixed_params(trial))
    for key in (storage.PARTIAL, storage.PROPOSAL):
        claim = storage.published(trial, key)
        if isinstance(claim, Mapping):
            known.update(claim)
    known.update(trial.params)
    return known


class _Columns:
    """Arrays with a row a trial, over one space; ``fits`` tells which rows are used."""

    def __init__(self, space: StudySpace, n_objectives: int):
        self.space = space
        self.others = False
        self.codes = np.zeros((0, space.space.n_sites), np.int64)
        self.values = np.zeros((0, n_objectives))
        self.status = np.zeros(0, np.int8)
        self.violation = np.zeros(0)
        self.fits = np.zeros(0, dtype=bool)

    def reserve(self, n: int) -> None:
        if n > len(self.fits):
            more = max(64, n, 2 * len(self.fits)) - len(self.fits)
            for name in ("codes", "values", "status", "violation", "fits"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros((more, *column.shape[1:]), column.dtype)]))

    def put(self, positions: list[int], trials: list[FrozenTrial], signs: list[float]) -> None:
        self.codes[positions], self.fits[positions] = self.space.encode([trial.params for trial in trials])
        for position, trial in zip(positions, trials, strict=True):
            self.status[position], self.values[position] = _outcome(trial, signs)
            self.violation[position] = _violation(trial)
            if self.status[position] != Status.FAILED and not self.others:
                self.others = any(
                    name not in self.space.distributions and not one.single()
                    for name, one in trial.distributions.items()
                )


def _outcome(trial: FrozenTrial, signs: list[float]) -> tuple[Status, list[float]]:
    known = trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.values is not None
    values = (
        [sign * value for sign, value in zip(signs, trial.values, strict=True)] if known else [math.nan] * len(signs)
    )
    if trial.state == TrialState.PRUNED:
        return Status.PRUNED, values
    if known and all(map(math.isfinite, values)):
        return Status.OK, values
    return Status.FAILED, [math.nan] * len(signs)


def _violation(trial: FrozenTrial) -> float:
    """Return the sum of positive constraint values; NaN where a constraint function failed."""
    attributes = trial.system_attrs
    if not any(key.startswith("constraints") for key in attributes):
        return 0.0
    if "constraints" in attributes and attributes["constraints"] is None:
        return math.nan
    # Optuna 5 names constraints; before, a trial has only the tuple of a constraints_func.
    named: Mapping[str, float] | None = getattr(trial, "constraints", None)
    values = attributes.get("constraints", ()) if named is None else named.values()
    return float(sum(max(0.0, value) for value in values))
