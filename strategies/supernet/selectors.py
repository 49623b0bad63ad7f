"""Which operation an edge keeps: the one with the largest weight, or the one whose removal hurts most.

A selector needs no network, only what a mixture is worth (:data:`nasplug.strategies.supernet.evaluation.Evaluate`), so
it serves any supernet, somebody else's included.

Shapes: d decisions; o choices; a mixture is ``(d, o)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasplug.errors import InputError, UnknownNameError
from nasplug.strategies.supernet.evaluation import Evaluate

__all__ = ["Perturbation", "Removals", "magnitude", "strongest_inputs"]


def magnitude(mixture: NDArray[np.float64], selectable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return for each decision the choice of the largest weight, ``(d,)``: the rule of DARTS.

    Args:
        mixture: ``(d, o)``.
        selectable: ``(d, o)``, choices that an architecture may have.
    """
    chosen: NDArray[np.int64] = np.where(selectable, mixture, -np.inf).argmax(axis=1)
    return chosen


def strongest_inputs(
    mixture: NDArray[np.float64], selectable: NDArray[np.bool_], edges: Sequence[int], keep: int
) -> list[int]:
    """Return the ``keep`` of ``edges`` whose strongest selectable operation weighs most, ascending: DARTS again."""
    strength = np.where(selectable, mixture, -np.inf).max(axis=1)[list(edges)]
    return sorted(np.array(edges)[np.argsort(-strength, kind="stable")[:keep]].tolist())


@dataclass(frozen=True, eq=False)
class Removals:
    """What a supernet is worth without each of some parts of it.

    Attributes:
        parts: what was taken out: choices of one decision, or decisions (edges).
        accuracy, loss: without each, one number a part.
        chosen: the part to keep: the one that is missed most.
    """

    parts: tuple[int, ...]
    accuracy: tuple[float, ...]
    loss: tuple[float, ...]
    chosen: int


@dataclass(frozen=True)
class Perturbation:
    """Keep what the supernet misses most on validation images.

    Source: Wang et al., Rethinking Architecture Selection in Differentiable NAS, ICLR 2021, algorithm 1. Differs: equal
    accuracies are told apart by the loss, not by the order of the operations, which would prefer the first one.

    Args:
        criterion: ``accuracy``, or ``loss`` alone.
        renormalise: whether what is left on an edge is scaled up to the weight it had. The paper does not: an
            operation with a large weight is then missed for its weight, too.
        ties: what tells equal accuracies apart: the ``loss``, or the ``order`` of the operations, as in the code.

    Raises: UnknownNameError for another criterion or way to tell ties apart.
    """

    criterion: Literal["accuracy", "loss"] = "accuracy"
    renormalise: bool = False
    ties: Literal["loss", "order"] = "loss"

    def __post_init__(self) -> None:
        if self.criterion not in ("accuracy", "loss"):
            raise UnknownNameError("criterion", str(self.criterion), ("accuracy", "loss"))
        if self.ties not in ("loss", "order"):
            raise UnknownNameError("way to tell equal accuracies apart", str(self.ties), ("loss", "order"))

    def operation(
        self, evaluate: Evaluate, mixture: Tensor, decision: int, selectable: Sequence[bool] | NDArray[np.bool_]
    ) -> Removals:
        """Take each selectable operation off one edge in turn, and keep the one that is missed most.

        Args:
            evaluate: what a mixture is worth.
            mixture: ``(d, o)``, edges that are decided already being one-hot.
            decision: the edge.
            selectable: ``(o,)``.

        Raises: InputError where nothing is selectable.
        """
        choices = np.flatnonzero(np.asarray(selectable)).tolist()
        if not choices:
            raise InputError(f"decision {decision} has no operation to select")
        removed = []
        for choice in choices:
            row = mixture[decision].clone()
            row[choice] = 0
            if self.renormalise and float(row.sum()):
                row = row * (mixture[decision].sum() / row.sum())
            removed.append(_with_row(mixture, decision, row))
        return self._missed_most(evaluate, choices, removed)

    def edge(self, evaluate: Evaluate, mixture: Tensor, edges: Sequence[int]) -> Removals:
        """Take each of several edges out in turn; the one that is missed least is the last of :meth:`order`."""
        removed = [_with_row(mixture, edge, torch.zeros_like(mixture[edge])) for edge in edges]
        return self._missed_most(evaluate, list(edges), removed)

    def order(self, removals: Removals) -> list[int]:
        """Return the parts from the one that is missed most to the one that is missed least."""
        accuracy, loss = np.array(removals.accuracy), np.array(removals.loss)
        second = np.zeros_like(loss) if self.ties == "order" else -loss
        keys = (second, accuracy) if self.criterion == "accuracy" else (-loss,)
        return np.array(removals.parts)[np.lexsort(keys)].tolist()

    def _missed_most(self, evaluate: Evaluate, parts: list[int], removed: list[Tensor]) -> Removals:
        accuracy, loss = zip(*map(evaluate, removed), strict=True)
        removals = Removals(tuple(parts), accuracy, loss, -1)
        return Removals(removals.parts, accuracy, loss, self.order(removals)[0])


def _with_row(mixture: Tensor, row: int, values: Tensor) -> Tensor:
    out = mixture.clone()
    out[row] = values
    return out
