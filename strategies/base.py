"""What to try next: the contract of a search strategy.

A strategy is a function of a history. It keeps no state of its own, so a resumed, parallel or multi-process study is
right by construction; what it caches is derived from the history and can be dropped at any time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError, SpaceExhaustedError
from nasplug.spaces import Genotypes, Space
from nasplug.strategies.history import History

__all__ = ["Strategy", "run_seed", "trial_rng"]


def trial_rng(seed: int, number: int) -> np.random.Generator:
    """Return the generator of proposal ``number`` (0-based) of a run with ``seed``.

    Randomness is a function of seed and number alone, so the same strategy gives the same sequence in ``nasplug
    search``, an Optuna study and an NNI experiment, and a resumed run does not repeat its first draws.
    """
    return np.random.default_rng([seed, number])


def run_seed(rng: np.random.Generator) -> int:
    """Return the seed of the run whose generator this is, as :func:`trial_rng` was given it.

    For a strategy whose state is on disk, such as a trained network: what it keeps belongs to a run, while a generator
    belongs to one proposal of it. Of a generator made otherwise, it is the first number that it was seeded with.
    """
    sequence = rng.bit_generator.seed_seq
    entropy = getattr(sequence, "entropy", None)
    return int(np.atleast_1d(np.asarray(entropy if entropy is not None else 0, dtype=object))[0])


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """Base of all strategies: a frozen dataclass whose fields, after ``space``, are its options.

    Subclasses implement :meth:`_candidates`. :meth:`propose` then guarantees what every caller relies on: proposals
    are valid, distinct, and not in the history, running and failed rows included.

    Args:
        space: where to search.
    """

    space: Space

    objectives: ClassVar[int | None] = 1
    """How many objectives the strategy can search over; None: any number."""

    trains: ClassVar[bool] = False
    """Whether it trains networks of its own to search with."""

    request: ClassVar[tuple[str, ...]] = ()
    """Options that ask something of what is trained already, such as a task and a budget; an Optuna study may name
    them as user attributes."""

    def propose(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        """Return up to ``n`` unseen, distinct genotypes, ``(k, s)``, best first; ``k < n`` only when no more are left.

        Args:
            history: everything known, over ``self.space``.
            n: how many, at least 1.
            rng: the only source of randomness; see :func:`trial_rng`.

        Raises:
            SpaceExhaustedError: the history holds the whole space.
            InputError: a history of another space, or of more objectives than the strategy knows.
        """
        if history.space != self.space:
            raise InputError(f"the history is over {history.space!r}, the strategy over {self.space!r}")
        if self.objectives is not None and history.n_objectives > self.objectives:
            raise InputError(
                f"{type(self).__name__} searches {self.objectives} objective, the history has {history.n_objectives}; "
                "use a strategy for several objectives, such as weaknas"
            )
        if n < 1:
            raise InputError(f"propose expects n >= 1, got {n}")
        chosen = self._unseen(self._candidates(history, n, rng), history.keys)[:n]
        if len(chosen) < n:
            taken = np.concatenate([history.keys, self.space.keys(chosen)])
            try:
                chosen = np.concatenate([chosen, self._rest(rng).sample_distinct(n - len(chosen), rng, taken)])
            except SpaceExhaustedError:
                if not len(chosen):
                    raise
        return chosen

    def _rest(self, rng: np.random.Generator) -> Space:
        """Return where proposals come from at random when :meth:`_candidates` has no more: the space, or part of it."""
        return self.space

    @property
    def inputs(self) -> dict[str, Any]:
        """What proposals depend on and options only name, such as the contents of a file; JSON-ready.

        Raises: DataError where a file cannot be read.
        """
        return {}

    @property
    def stops_early(self) -> bool:
        """Whether it looks at networks in training and may stop them (:meth:`stops`)."""
        return False

    def stops(self, history: History, row: int) -> bool:
        """Return whether to stop a training here; asked at every fidelity but the last if :attr:`stops_early`.

        Args:
            history: everything known, ``history.curves`` the values at its ``fidelities`` so far.
            row: of the training in question, which is running.
        """
        return False

    def recommend(self, history: History) -> NDArray[np.int64]:
        """Return the genotype ``(s,)`` to use after the search: the best feasible observation.

        Raises: InputError while nothing has finished.
        """
        best = history.best()
        if best is None:
            raise InputError("nothing has finished yet; there is no architecture to recommend")
        return history.genotypes[best]

    @abstractmethod
    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        """Return genotypes ``(k, s)`` in order of preference, any k.

        Rows already in the history or repeated are dropped by the caller, who fills what is missing with unseen
        random ones.
        """

    def _unseen(self, genotypes: Genotypes, taken: NDArray[np.int64]) -> Genotypes:
        """Return the rows whose keys are neither in ``taken`` nor earlier in the batch, order kept."""
        if not len(genotypes):
            return np.empty((0, self.space.n_sites), np.int64)
        keys = self.space.keys(genotypes)
        if len(keys) == 1:  # the usual call, and a sort of all keys is the slow part of it
            return genotypes[~(taken == keys[0]).any(keepdims=True)]
        first = np.zeros(len(keys), dtype=bool)
        first[np.unique(keys, return_index=True)[1]] = True
        return genotypes[first & ~np.isin(keys, taken)]
