"""The method of EAS: an elastic super-network trained with task dropout, then a generator trained through it.

A task mask is minus infinity outside a group of classes, so that a network is asked only to tell the group's classes
apart. Source: arXiv 2108.01224, of which only the abstract was available: the rule by which tasks are dropped, losses
and schedules are ours.

Shapes: t tasks; k classes; r requests; m images a request.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nasplug.errors import InputError, TrainingError
from nasplug.images.batches import augmented
from nasplug.spaces.modules.elastic import SPACE, Chain, SuperNetwork
from nasplug.spaces.modules.recalibration import recalibrate
from nasplug.spaces.modules.relaxed import Choices
from nasplug.strategies.supernet.data import Halves, Part
from nasplug.strategies.supernet.generator import Generator, Objective, Requests, Schedule, train
from nasplug.strategies.supernet.method import Method, Selection

__all__ = ["ElasticTraining", "Recipe", "dropped", "masked"]

TRAINING_STAGES = 5
"""Of equal length; the generator is one more."""

RECALIBRATION_IMAGES = 1024
"""Of the task, at most, that the norms of a sub-network take their statistics from."""


@dataclass(frozen=True)
class Recipe:
    """How super-network and generator are trained.

    Attributes:
        steps: of the super-network.
        batch_size: images of each.
        learning_rate: of Adam, lowered to zero along a cosine.
        keep: probability q of a task to stay in a step; 1 is training without task dropout.
        subnets: sub-networks trained a step: the largest, the smallest and random ones (the sandwich rule of Yu and
            Huang, ICCV 2019); a single one is random.
        noise: deviation of normal noise added to training images, fresh every time.
        generator: of the generator.
        images: of its task a request is tried on, m.

    Raises: InputError for numbers out of range.
    """

    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 3e-3
    keep: float = 0.5
    subnets: int = 3
    noise: float = 0.0
    generator: Schedule = field(default_factory=Schedule)
    images: int = 32

    def __post_init__(self) -> None:
        if min(self.steps, self.subnets, self.generator.steps, self.generator.batch) < 1:
            raise InputError(
                "expected at least 1 step, sub-network a step, step of the generator and request of it, got "
                f"{self.steps}, {self.subnets}, {self.generator.steps} and {self.generator.batch}"
            )
        if min(self.batch_size, self.images) < 2:
            raise InputError(
                f"batches need at least 2 images to normalise, got {self.batch_size} and {self.images} a request"
            )
        if not 0 < self.keep <= 1:
            raise InputError(f"the probability of a task to be kept is above 0, at most 1, got {self.keep}")
        if not (self.learning_rate > 0 and self.noise >= 0):
            raise InputError(
                f"expected a learning rate above 0 and noise of at least 0, got {self.learning_rate} and {self.noise}"
            )


def dropped(tasks: NDArray[np.bool_], keep: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the classes of a step, ``(k,)``: those of tasks ``(t, k)`` kept with probability ``keep``, at least one.

    Classes of no task are always in.
    """
    kept = rng.random(len(tasks)) < keep
    if not kept.any():
        kept[rng.integers(len(tasks))] = True
    return np.asarray(tasks[kept].any(axis=0) | ~tasks.any(axis=0))


def masked(logits: Tensor, classes: NDArray[np.bool_] | Tensor) -> Tensor:
    """Return logits ``(N, k)``, minus infinity outside ``classes`` (``(k,)`` or ``(N, k)``): no gradient passes."""
    return logits.masked_fill(~torch.as_tensor(classes, device=logits.device), -torch.inf)


class ElasticTraining(Method):
    """Train the super-network in five stages, then the generator in one.

    Args:
        net: the super-network.
        generator: of its space and classes.
        data: weights are trained on one half, the generator on the other.
        tasks: ``(t, k)``; the generator also learns the task of all classes.
        recipe: how.
        seed: of all that is random.

    Raises: InputError for tasks over another number of classes, and for a task without images in either half.
    """

    stages = TRAINING_STAGES + 1

    def __init__(
        self,
        net: SuperNetwork,
        generator: Generator,
        data: Halves,
        tasks: NDArray[np.bool_],
        recipe: Recipe,
        seed: int,
    ):
        if not tasks.shape[1] == net.classes == generator.classes == data.classes:
            raise InputError(
                f"tasks over {tasks.shape[1]} classes, a super-network of {net.classes}, a generator of "
                f"{generator.classes} and images of {data.classes} do not go together"
            )
        device = data.weights.labels.device
        self.net, self.generator, self.data, self.tasks, self.recipe, self.seed = (
            net.to(device), generator, data, tasks, recipe, seed,
        )  # fmt: skip
        self._rows = {part.name: _by_class(part, data.classes) for part in (data.weights, data.selection)}
        for task in tasks:
            for part in (data.weights, data.selection):
                if any(not len(self._rows[part.name][c]) for c in np.flatnonzero(task)):
                    raise InputError(f"the {part.name} half has no image of some class of {np.flatnonzero(task)}")
        self._optimizer = torch.optim.Adam(net.parameters(), recipe.learning_rate)
        self._trained_through = ""

    def _advance(self) -> Selection:
        if self.done < TRAINING_STAGES:
            bounds = np.linspace(0, self.recipe.steps, TRAINING_STAGES + 1).astype(int)
            losses = [self._step(step) for step in range(bounds[self.done], bounds[self.done + 1])]
            if not np.isfinite(losses).all():
                raise TrainingError(
                    f"the loss of the super-network became {losses[int(np.argmin(np.isfinite(losses)))]}"
                )
            nothing = np.empty((0, SPACE.n_sites), dtype=np.int64)
            return Selection(nothing, {"train_loss": float(np.mean(losses)) if losses else None})
        losses = self._train_generator()
        if not np.isfinite(losses).all():
            raise TrainingError("the loss of the architecture generator became no number")
        self._trained_through = self._fingerprint()
        return Selection(self.ranking(np.ones(self.data.classes, dtype=bool)), {"generator_loss": losses[-1]})

    # -- the super-network -------------------------------------------------------------------------------------------

    def _step(self, step: int) -> float:
        """Train on one batch of the tasks that are not dropped, and return the mean loss of the sub-networks."""
        recipe, rng = self.recipe, np.random.default_rng([self.seed, 1, step])
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        classes = dropped(self.tasks, recipe.keep, rng)
        images, labels = self._drawn(self.data.weights, classes, recipe.batch_size, rng)
        if self.data.crop:
            images = augmented(images, self.data.crop, rng)
        if recipe.noise:
            fresh = rng.normal(0.0, recipe.noise, size=images.shape).astype(np.float32)
            images = images + torch.from_numpy(fresh).to(images.device)
        genotypes = SPACE.sample(recipe.subnets, rng)
        if recipe.subnets > 1:
            genotypes[0], genotypes[1] = SPACE.n_choices - 1, 0
        self._optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for genotype in genotypes:
            loss = F.cross_entropy(masked(self.net(images, genotype), classes), labels) / recipe.subnets
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        self._optimizer.step()
        return total

    def _drawn(self, part: Part, classes: NDArray[np.bool_], n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return ``n`` random images of some classes, and their labels; repeated only where there are fewer."""
        rows = np.concatenate([self._rows[part.name][c] for c in np.flatnonzero(classes)])
        chosen = torch.from_numpy(rng.choice(rows, n, replace=len(rows) < n)).to(part.labels.device)
        return part.images[chosen], part.labels[chosen]

    # -- the generator -----------------------------------------------------------------------------------------------

    def _train_generator(self) -> list[float]:
        frozen = [weight for weight in self.net.parameters() if weight.requires_grad]
        for weight in frozen:
            weight.requires_grad_(False)
        everything = np.ones((1, self.data.classes), dtype=bool)
        try:
            return train(
                self.generator,
                self._objective(np.random.default_rng([self.seed, 2])),
                np.concatenate([self.tasks, everything]),
                self.recipe.generator,
                seed=self.seed,
            )
        finally:
            for weight in frozen:
                weight.requires_grad_(True)

    def _objective(self, rng: np.random.Generator) -> Objective:
        """Return the loss of relaxed sub-networks on selection images of their tasks."""

        def objective(choices: Choices, asked: Requests) -> Tensor:
            m = self.recipe.images
            images, labels = zip(*(self._drawn(self.data.selection, task, m, rng) for task in asked.tasks), strict=True)
            x, y = torch.cat(images), torch.cat(labels)
            moved = Choices(choices.depth.to(x.device), choices.kernel.to(x.device), choices.expand.to(x.device))
            logits = masked(self.net.relaxed(x, moved), np.repeat(asked.tasks, m, axis=0))
            losses = F.cross_entropy(logits, y, reduction="none").reshape(-1, m).mean(dim=1)
            return losses.to(choices.depth.device)

        return objective

    # -- deployment --------------------------------------------------------------------------------------------------

    def ranking(self, task: NDArray[np.bool_], kind: int = 0, budget: float | None = None) -> NDArray[np.int64]:
        """Return the distinct answers for a task ``(k,)`` and budget, then for ever smaller budgets, ``(n, s)``.

        Without a budget it begins with that of the largest network. No row where the budget cannot be met.
        """
        cost = self.generator.costs[kind]
        least, greatest = (bound + cost.per_class * int(task.sum()) for bound in cost.span)
        budgets = np.linspace(1, 0, 64) * (min(greatest if budget is None else budget, greatest) - least) + least
        if budget is not None:
            budgets[0] = budget
        n = len(budgets)
        asked = Requests(np.repeat(task[None], n, axis=0), np.maximum(budgets, 1e-12), np.full(n, kind))
        answers = self.generator.answer(asked)
        within = answers.met & (answers.costs <= budgets[0])
        rows = answers.genotypes[within]
        return rows[np.sort(np.unique(SPACE.keys(rows), return_index=True)[1])]

    def deployed(self, genotype: NDArray[np.int64], task: NDArray[np.bool_]) -> Chain:
        """Return a sub-network for a task ``(k,)``, its norms calibrated: logits of the task's classes, ascending."""
        plain = self.net.extract(genotype, np.flatnonzero(task).tolist())
        rows = np.concatenate([self._rows[self.data.weights.name][c] for c in np.flatnonzero(task)])
        rows = np.random.default_rng([self.seed, 3]).permutation(rows)[:RECALIBRATION_IMAGES]
        images = self.data.weights.images[torch.from_numpy(rows).to(self.data.weights.labels.device)]
        if self.recipe.noise:
            noise = np.random.default_rng([self.seed, 4]).normal(0.0, self.recipe.noise, size=images.shape)
            images = images + torch.from_numpy(noise.astype(np.float32)).to(images.device)
        recalibrate(plain, torch.tensor_split(images, -(-len(images) // 256)))
        return plain

    def accuracy(self, genotype: NDArray[np.int64], task: NDArray[np.bool_], part: Part | None = None) -> float:
        """Return the accuracy of a sub-network on the images of a task, a fraction.

        Args:
            genotype: ``(s,)``.
            task: ``(k,)``.
            part: whose images; None for the selection half.

        Raises: InputError for images of another size.
        """
        return self.accuracy_of(self.deployed(genotype, task), task, part)

    @torch.no_grad()
    def accuracy_of(self, net: Chain, task: NDArray[np.bool_], part: Part | None = None) -> float:
        """Return the accuracy of a deployed network, as :meth:`accuracy`."""
        part = part or self.data.selection
        if part.images.shape[1:] != self.data.weights.images.shape[1:]:
            raise InputError(
                f"the super-network was trained on images {tuple(self.data.weights.images.shape[1:])}, the "
                f"{part.name} images are {tuple(part.images.shape[1:])}"
            )
        classes = torch.from_numpy(np.flatnonzero(task)).to(part.labels.device)
        inside = torch.isin(part.labels, classes)
        images, labels = part.images[inside], part.labels[inside]
        found = torch.cat([net(chunk).argmax(dim=1) for chunk in torch.split(images, 512)])
        return float((classes[found] == labels).float().mean())

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "generator": self.generator.state_dict(),
            "generator_of": self._trained_through,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self._trained_through = str(state["generator_of"])
        if self._trained_through not in ("", self._fingerprint()):
            raise ValueError("its generator was trained through another super-network")
        self._optimizer.load_state_dict(state["optimizer"])
        self.generator.load_state_dict(state["generator"])

    def _fingerprint(self) -> str:
        """Return a digest of the super-network's weights."""
        digest = hashlib.blake2b(digest_size=16)
        for weight in self.net.parameters():
            digest.update(weight.detach().cpu().numpy().tobytes())
        return digest.hexdigest()


def _by_class(part: Part, classes: int) -> list[NDArray[np.int64]]:
    labels = part.labels.cpu().numpy()
    return [np.flatnonzero(labels == c) for c in range(classes)]
