"""How Single Path One-Shot compares sub-networks, and in how many stages. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nasplug.errors import InputError, UnknownNameError

__all__ = ["TRAINING_STAGES", "Ranking"]

TRAINING_STAGES = 5
"""Of equal length, each ending with a first look at random architectures."""


@dataclass(frozen=True)
class Ranking:
    """How sub-networks are compared by shared weights.

    Attributes:
        how: ``evolution``, once-for-all's with the settings of the paper, or ``exhaustive``: every canonical class.
        population: sub-networks of a generation, and of a look while training.
        generations: of the evolution.
        parents: share of a population that the next one comes from.

    Raises: UnknownNameError for another way; InputError for a population without parents, or no generation.
    """

    how: Literal["evolution", "exhaustive"] = "evolution"
    population: int = 50
    generations: int = 20
    parents: float = 0.2

    def __post_init__(self) -> None:
        if self.how not in ("evolution", "exhaustive"):
            raise UnknownNameError("way of ranking", str(self.how), ("evolution", "exhaustive"))
        if round(self.population * self.parents) < 1 or self.generations < 1:
            raise InputError(
                "expected a population with at least one parent, and at least one generation, got "
                f"{self.population} * {self.parents} and {self.generations}"
            )

    def stages(self, epochs: int) -> int:
        """Return how many stages there are: of a training of ``epochs``, and generations, or one look at everything."""
        return min(TRAINING_STAGES, epochs) + (1 if self.how == "exhaustive" else self.generations)
