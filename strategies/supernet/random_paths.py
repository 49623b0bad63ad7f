"""Single Path One-Shot: weights trained on one random path a step, then architectures ranked by shared weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nasplug.errors import InputError, SpaceExhaustedError, TrainingError
from nasplug.spaces import Genotypes
from nasplug.spaces.modules.supernets import Supernet
from nasplug.strategies.history import History
from nasplug.strategies.ofa_evolution import OFAEvolution
from nasplug.strategies.supernet.data import Halves
from nasplug.strategies.supernet.decision_ranking import LONGEST
from nasplug.strategies.supernet.evaluation import recalibrated
from nasplug.strategies.supernet.method import Method, Selection
from nasplug.strategies.supernet.mixture import Recipe
from nasplug.strategies.supernet.path_ranking import TRAINING_STAGES, Ranking

__all__ = ["SinglePaths", "path_mixture"]

RECALIBRATION_BATCHES = 4
"""Batches of training images that the norms of a sub-network take their statistics from."""


def path_mixture(net: Supernet, genotypes: Genotypes) -> Tensor:
    """Return the mixture of each architecture alone, ``(n, d, o)``: ones where its operations are."""
    chosen = torch.from_numpy(net.decisions(genotypes))
    paths = F.one_hot(chosen.clamp(min=0), len(net.choices)).float() * (chosen >= 0)[..., None]
    return paths.to(next(net.parameters()).device)


class SinglePaths(Method):
    """Train one uniformly random architecture a step; then compare architectures with the weights they share.

    Source: Guo et al., Single Path One-Shot Neural Architecture Search with Uniform Sampling, ECCV 2020. Statistics of
    the norms are taken anew for every sub-network that is compared, from training images. Differs: equal accuracies are
    told apart by the loss.

    Args:
        net: the supernet.
        data: what on.
        recipe: how weights are trained; its logits play no part.
        ranking: how architectures are compared.
        seed: of batches, paths and evolution.
    """

    def __init__(self, net: Supernet, data: Halves, recipe: Recipe, ranking: Ranking, seed: int):
        self.net, self.data, self.recipe, self.ranking, self.seed = (
            net.to(data.weights.labels.device), data, recipe, ranking, seed,
        )  # fmt: skip
        self._optimizer = torch.optim.SGD(
            net.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            foreach=True,
        )
        self._everything = net.space.enumerable and ranking.how == "exhaustive"
        if ranking.how == "exhaustive" and not net.space.enumerable:
            raise InputError(f"the space {net.space.name!r} is too large for ranking=exhaustive; use evolution")
        self.stages = ranking.stages(recipe.epochs)
        self._evolution = OFAEvolution(space=net.space, population=ranking.population, parents=ranking.parents)
        self._known = History.empty(net.space)

    def _advance(self) -> Selection:
        training = min(TRAINING_STAGES, self.recipe.epochs)
        rng = np.random.default_rng([self.seed, 4, self.done])
        if self.done < training:
            bounds = np.linspace(0, self.recipe.epochs, training + 1).astype(int)
            facts: dict[str, Any] = {}
            for epoch in range(bounds[self.done], bounds[self.done + 1]):
                facts = self._epoch(epoch)
            looked = self._measured(self.net.space.sample_distinct(self.ranking.population, rng))
            return self._selected(looked, facts)
        if self._everything:
            space = self.net.space
            cells = np.unique(space.representative(space.all()), axis=0)
            return self._selected(self._measured(cells), {"compared": len(cells)})
        with suppress(SpaceExhaustedError):  # then all have been compared, and there is nothing to add
            proposed = self._evolution.propose(self._known, self.ranking.population, rng)
            self._known = self._measured(proposed, self._known)
        return self._selected(self._known, {"compared": len(self._known)})

    def _epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch and return mean loss and accuracy within it."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(epoch, self.recipe.epochs)
        self.net.train()
        total, right, seen = 0.0, 0, 0
        rng = np.random.default_rng([self.seed, 5, epoch])
        key = [self.seed, 1, epoch]
        for images, labels in self.data.weights.batches(self.recipe.batch_size, key, crop=self.data.crop):
            (path,) = path_mixture(self.net, self.net.space.sample(1, rng))
            logits = self.net(images, path)
            loss = F.cross_entropy(logits, labels)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip)
            self._optimizer.step()
            total += float(loss.detach()) * len(labels)
            right += int((logits.detach().argmax(dim=1) == labels).sum())
            seen += len(labels)
        if not math.isfinite(total):
            raise TrainingError(f"the loss of the supernet became {total / seen} in epoch {epoch + 1}")
        return {"train_loss": total / seen, "train": right / seen}

    def shared_accuracy(self, genotypes: Genotypes) -> tuple[list[float], list[float]]:
        """Return accuracy and loss of each architecture with the shared weights, ``(n,)`` each."""
        size = self.recipe.batch_size
        images = torch.split(self.data.weights.images, size)[:RECALIBRATION_BATCHES]
        found = []
        for path in path_mixture(self.net, genotypes):
            with recalibrated(self.net, path, images):
                found.append(self.evaluate_as_is(path))
        accuracy, loss = zip(*found, strict=True)
        return list(accuracy), list(loss)

    @torch.no_grad()
    def evaluate_as_is(self, path: Tensor) -> tuple[float, float]:
        """Return accuracy and loss on the selection half in the mode that the supernet is in."""
        logits = torch.cat([self.net(images, path) for images, _ in self.data.selection.chunks(512)])
        labels = self.data.selection.labels
        return float((logits.argmax(dim=1) == labels).float().mean()), float(F.cross_entropy(logits, labels))

    def _measured(self, genotypes: Genotypes, known: History | None = None) -> History:
        """Return a history with architectures, their values shared accuracies (losses tell equal ones apart)."""
        accuracy, loss = (np.array(column) for column in self.shared_accuracy(genotypes))
        values = accuracy + 1e-6 / (1 + np.nan_to_num(loss, nan=np.inf))
        return (known or History.empty(self.net.space)).extended(genotypes, values)

    def _selected(self, measured: History, facts: Mapping[str, Any]) -> Selection:
        order = np.argsort(-measured.values[:, 0], kind="stable")[:LONGEST]
        return Selection(
            measured.genotypes[order], {**facts, "shared": np.round(measured.values[order, 0], 5).tolist()}
        )

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "genotypes": torch.from_numpy(self._known.genotypes.copy()),
            "values": torch.from_numpy(self._known.values.copy()),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self._optimizer.load_state_dict(state["optimizer"])
        known = History.empty(self.net.space)
        self._known = known.extended(self.net.space.check(state["genotypes"].numpy()), state["values"].numpy())
