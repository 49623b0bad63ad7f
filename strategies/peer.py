"""Optimizers of other libraries as strategies: told what the history holds, asked for what is new."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from nasplug.spaces import Genotypes, Space
from nasplug.strategies.base import Strategy
from nasplug.strategies.history import History, Status

__all__ = ["Optimizer", "Peer"]

FREE_ANSWERS = 20
"""How often a peer is told the value of an architecture it proposes again, before random ones."""

Handle = TypeVar("Handle")


class Optimizer(ABC, Generic[Handle]):
    """What a peer must answer; a handle names one of its own proposals."""

    @abstractmethod
    def ask(self) -> tuple[Handle, NDArray[np.int64]] | None:
        """Return a proposal and its genotype ``(s,)``, or None where the optimizer has nothing more to propose."""

    @abstractmethod
    def tell(self, handle: Handle, history: History, row: int) -> None:
        """Report how a proposal ended: as the history's row, which is not running."""

    @abstractmethod
    def withdraw(self, handle: Handle) -> None:
        """Take back a proposal that nobody evaluates for it."""

    @abstractmethod
    def learn(self, history: History, row: int) -> None:
        """Take in the history's row, which is not running, of an architecture that others chose."""

    def stops(self, handle: Handle, history: History, row: int) -> bool:
        """Return whether to stop the training of a proposal: the history's row, which is running."""
        return False


@dataclass(frozen=True, kw_only=True)
class Peer(Strategy):
    """An optimizer of another library, kept beside the history and told what is new in it.

    Such optimizers may propose what has been evaluated already. A user pays for such a trial; here the optimizer is
    told the known value for nothing and asked again, which favours the peer. After 20 of these in a proposal, a
    random unseen architecture takes its place.

    The optimizer is built anew, and seeded from the proposal's generator, when the history does not continue the one
    told before: proposals are a function of the seed over a whole run from its start, and a resumed run goes on with
    a newly seeded optimizer.

    In a space that lists its architectures, a combination that is none of them stands for its representative.
    """

    _mirrors: list[_Mirror] = field(default_factory=list, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_mirrors": []}

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        if not self._mirrors or not self._mirrors[0].continues(history):
            made = self._optimizer(history, int(rng.integers(2**31)))
            self._mirrors[:] = [_Mirror(self.space, history.n_objectives, made)]
        return self._mirrors[0].ask(history, n)

    def stops(self, history: History, row: int) -> bool:
        return bool(self._mirrors) and self._mirrors[0].stops(history, row)

    @abstractmethod
    def _optimizer(self, history: History, seed: int) -> Optimizer[Any]:
        """Return a new optimizer for such a history, over ``self.space``, that has been told nothing."""


class _Mirror:
    """An optimizer with the history it has been told."""

    def __init__(self, space: Space, n_objectives: int, optimizer: Optimizer[Any]):
        self.optimizer = optimizer
        self._space = space
        self._open: dict[int, Any] = {}  # handle of what was asked and not told, by key
        self._told: dict[int, int] = {}  # row in the history, by key
        self._history = History.empty(space, n_objectives)

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
        found: list[NDArray[np.int64]] = []
        for _ in range(n + FREE_ANSWERS):
            proposed = self.optimizer.ask()
            if proposed is None:
                break
            handle, genotype = proposed
            key = int(self._space.keys(genotype[None])[0])
            if key in self._told:
                self.optimizer.tell(handle, history, self._told[key])
            elif key in self._open or key in running or not self._space.valid(genotype[None])[0]:
                self.optimizer.withdraw(handle)
            else:
                self._open[key] = handle
                found.append(genotype)
                if len(found) == n:
                    break
        return np.array(found, dtype=np.int64).reshape(-1, self._space.n_sites)

    def stops(self, history: History, row: int) -> bool:
        """Return what the optimizer says of its own proposal; those that took their place are trained to the end."""
        handle = self._open.get(int(history.keys[row]))
        return handle is not None and self.optimizer.stops(handle, history, row)

    def _learn(self, history: History, row: int) -> None:
        key = int(history.keys[row])
        self._told[key] = row
        if key in self._open:
            self.optimizer.tell(self._open.pop(key), history, row)
        else:
            self.optimizer.learn(history, row)
