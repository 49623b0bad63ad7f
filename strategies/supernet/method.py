"""What a search is that trains weights: a fixed number of stages, each of which ends in an architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nasplug.spaces import Genotypes

__all__ = ["Method", "Selection"]


@dataclass(frozen=True, eq=False)
class Selection:
    """What a stage selects.

    Attributes:
        ranking: ``(r, s)``. The first row is the architecture of the stage; those behind it, in order of preference,
            are what a search goes on with after the last stage. No row: the stage selects nothing yet.
        facts: what the stage has to say for itself, JSON-ready: losses, accuracies, decisions.
    """

    ranking: Genotypes
    facts: Mapping[str, Any] = field(default_factory=dict)


class Method(ABC):
    """One run of a search that trains weights.

    A method is made from a seed and does the same from the same seed. It draws from generators that it makes anew for
    every epoch or decision, from the seed and a count, and never from a global stream: so its state is what it has
    learnt, and a run that is restored goes on bit for bit.

    Attributes:
        stages: how many there are.
        done: how many of them are over.
        sound: whether what the last stage left still works; where it does not, the state before it is worth keeping.
    """

    stages: int
    done: int = 0
    sound: bool = True

    def advance(self) -> Selection:
        """Train the next stage and return what it selects; to be called ``stages`` times.

        Raises: TrainingError where the loss is no number; the method is then not to be used any more.
        """
        selection = self._advance()
        self.done += 1
        return selection

    @abstractmethod
    def _advance(self) -> Selection:
        """Train stage number ``done``."""

    def state(self) -> dict[str, Any]:
        """Return all that :meth:`restore` needs: plain values and tensors."""
        return {"done": self.done, **self._state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of a run of the same settings; anything raised means that it is not one."""
        self._restore(state)
        self.done = int(state["done"])

    @abstractmethod
    def _state(self) -> dict[str, Any]: ...

    @abstractmethod
    def _restore(self, state: Mapping[str, Any]) -> None: ...
