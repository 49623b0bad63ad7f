"""The method of DARTS and of DARTS with perturbation-based selection, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces.modules.supernets import Supernet
from nasplug.strategies.supernet.data import Halves
from nasplug.strategies.supernet.decision_ranking import ranked
from nasplug.strategies.supernet.evaluation import evaluator, require_masks
from nasplug.strategies.supernet.method import Method, Selection
from nasplug.strategies.supernet.mixture import UNDECIDED, MixtureTraining, Recipe, cosine
from nasplug.strategies.supernet.selectors import Perturbation, magnitude, strongest_inputs

__all__ = ["Differentiable", "Selecting"]


@dataclass(frozen=True)
class Selecting:
    """How architectures are selected by perturbation, edge after edge.

    Attributes:
        rule: what is missed most.
        interval: epochs of tuning between two decisions.
        rate: learning rate of the tuning, at its start.
        final_rate: which it falls to along a cosine; None keeps it constant.
        as_published: repeat what the code of DARTS-PT does and its paper does not say. Where no edges are dropped
            afterwards, the last operation is decided an epoch early, with an interval of 1 by magnitude; selection
            images are shuffled and augmented at every look; edges into a node are judged once, all in place; fixed
            logits are a small random draw; equal accuracies are told apart by the order of the operations.
    """

    rule: Perturbation = field(default_factory=Perturbation)
    interval: int = 5
    rate: float = 0.0025
    final_rate: float | None = None
    as_published: bool = False

    def __post_init__(self) -> None:
        if self.interval < 1 or not self.rate > 0 or not 0 <= (self.final_rate or 0) <= self.rate:
            raise InputError(
                "expected an interval of at least 1 epoch, a rate above 0 and a final one between 0 and that, got "
                f"{self.interval}, {self.rate} and {self.final_rate}"
            )

    def rate_at(self, epoch: int, epochs: int) -> float:
        """Return the learning rate of 0-based ``epoch`` of a tuning of ``epochs``."""
        return cosine(self.rate, self.rate if self.final_rate is None else self.final_rate, epoch, epochs)


class Differentiable(Method):
    """Train weights and logits together, an epoch a stage; then decide one edge a stage, tuning in between.

    The stages of the training select by magnitude. Then, if ``selecting`` is given, come a stage for each of the
    supernet's ``steps``, in random order, and one for each of its ``nodes``, in random order: an edge is decided, the
    supernet then tuned for ``interval`` epochs before the next. What is undecided goes by magnitude; with fixed logits,
    which all are the same, only the last stage selects.

    Args:
        net: the supernet.
        data: what on.
        recipe: how it is trained.
        seed: of batches, logits and orders.
        learn_logits: False keeps every operation at the same weight.
        selecting: how edges are decided; None leaves it at magnitude.
    """

    def __init__(
        self,
        net: Supernet,
        data: Halves,
        recipe: Recipe,
        seed: int,
        *,
        learn_logits: bool = True,
        selecting: Selecting | None = None,
    ):
        as_published = selecting is not None and selecting.as_published
        self.training = MixtureTraining(
            net, data, recipe, seed, learn_logits=learn_logits, draw_logits=learn_logits or as_published
        )
        self.net, self.recipe, self.selecting, self._seed = net, recipe, selecting, seed
        self.evaluate = evaluator(net, data.selection)
        self._judge = self.evaluate
        self.stages = recipe.epochs + (len(net.steps) + len(net.nodes) if selecting else 0)
        rng = np.random.default_rng([seed, 3])
        self._steps = [net.steps[i] for i in rng.permutation(len(net.steps))]
        self._nodes = [net.nodes[i] for i in rng.permutation(len(net.nodes))]
        self._scores = np.zeros(net.selectable.shape)
        """How much each operation was missed when its edge was decided."""

    def _advance(self) -> Selection:
        if self.done < self.recipe.epochs:
            rate = self.recipe.rate_at(self.done, self.recipe.epochs)
            facts: dict[str, Any] = self.training.epoch(0, self.done, rate=rate)
            return self._selected(facts)
        assert self.selecting is not None
        turn = self.done - self.recipe.epochs
        if self.selecting.as_published:
            data = self.training.data
            self._judge = evaluator(self.net, data.selection, shuffled=(self._seed, 6, turn), crop=data.crop)
        if turn == 0:
            require_masks(self.net, self.training.data.selection.images[:64], self.training.mixture().detach())
            self.training.restart(self.selecting.rate)
        else:
            interval = self.selecting.interval
            tuning = interval * (len(self._steps) + len(self._nodes) - 1)
            early = self.selecting.as_published and turn == len(self._steps) - 1 and not self._nodes
            for epoch in range(interval - early):
                rate = self.selecting.rate_at((turn - 1) * interval + epoch, tuning)
                self.training.epoch(turn, epoch, rate=rate)
            if early and interval == 1:
                return self._selected({"removals": []})
        if turn < len(self._steps):
            removals = [self._decide(decision) for decision in self._steps[turn]]
        else:
            removals = [gone for edges in self._nodes[turn - len(self._steps)] for gone in self._drop(edges)]
        return self._selected({"removals": removals})

    def _decide(self, decision: int) -> dict[str, Any]:
        """Decide the operation of one edge and return what its removals showed."""
        assert self.selecting is not None
        removals = self.selecting.rule.operation(
            self._judge, self.training.mixture().detach(), decision, self.net.selectable[decision]
        )
        self.training.decisions.chosen[decision] = removals.chosen
        self._scores[decision, list(removals.parts)] = np.array(removals.loss) - min(removals.loss)
        return {"decision": decision, **asdict(removals)}

    def _drop(self, edges: tuple[int, ...]) -> list[dict[str, Any]]:
        """Drop edges into one node, one after the other, until as many are left as may stay."""
        assert self.selecting is not None
        left, told = list(edges), []
        while len(left) > self.net.inputs:
            removals = self.selecting.rule.edge(self._judge, self.training.mixture().detach(), left)
            at_once = len(left) - self.net.inputs if self.selecting.as_published else 1
            for gone in self.selecting.rule.order(removals)[-at_once:]:
                self.training.decisions.kept[gone] = False
                left.remove(gone)
                told.append({"dropped": gone, **asdict(removals)})
        return told

    def _selected(self, facts: Mapping[str, Any]) -> Selection:
        """Return the architecture of now: what is decided, and magnitude for the rest."""
        mixture = self.training.mixture().detach().cpu().double().numpy()
        accuracy, loss = self.evaluate(self.training.mixture().detach())
        facts = {**facts, "valid": accuracy, "valid_loss": loss, "mixture": mixture.tolist()}
        last = self.done + 1 == self.stages
        if not (self.training.learn_logits or last):  # every operation weighs the same: magnitude says nothing
            return Selection(np.empty((0, self.net.space.n_sites), np.int64), facts)
        first = self.net.genotype(*self._architecture(mixture))
        ranking = ranked(self.net, first, self._final_scores(mixture)) if last else first[None]
        return Selection(ranking, facts)

    def _architecture(self, mixture: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        chosen = magnitude(mixture, self.net.selectable)
        kept = self.training.decisions.kept.cpu().numpy().copy()
        for edges in (edges for node in self.net.nodes for edges in node):
            staying = [edge for edge in edges if kept[edge]]
            if len(staying) > self.net.inputs:
                kept[list(edges)] = False
                kept[strongest_inputs(mixture, self.net.selectable, staying, self.net.inputs)] = True
        return chosen, kept

    def _final_scores(self, mixture: NDArray[np.float64]) -> NDArray[np.float64]:
        decided = (self.training.decisions.chosen != UNDECIDED).cpu().numpy()
        likely = np.log(np.maximum(mixture, 1e-12))
        scores: NDArray[np.float64] = np.where(decided[:, None], self._scores, likely)
        return np.where(self.net.selectable, scores, -np.inf)

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {"training": self.training.state(), "scores": torch.from_numpy(self._scores)}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.training.restore(state["training"])
        self._scores = state["scores"].numpy().copy()
