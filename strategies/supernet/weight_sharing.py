"""The strategies that choose among operations with shared weights: DARTS, DARTS-PT, Single Path One-Shot.

Imports no torch: a strategy is known, and its options are checked, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nasplug.errors import InputError
from nasplug.images import Images
from nasplug.strategies.supernet.path_ranking import Ranking
from nasplug.strategies.supernet.strategy import SizedStrategy

if TYPE_CHECKING:
    from nasplug.spaces.modules.supernets import Supernet
    from nasplug.strategies.supernet.data import Halves
    from nasplug.strategies.supernet.method import Method
    from nasplug.strategies.supernet.mixture import Recipe

__all__ = ["Darts", "DartsPT", "DartsPTFixedAlpha", "SinglePathOneShot", "WeightSharing"]

_DARTS = ("darts", "darts-s1", "darts-s2", "darts-s3", "darts-s4")

_SMALL: Mapping[str, Mapping[str, int]] = {
    "nasbench201": {"channels": 8, "cells": 1},
    **{name: {"channels": 8, "layers": 3} for name in _DARTS},
}
"""Sizes of supernets for images of up to 16x16 pixels, by space."""

_EPOCHS: Mapping[str, int] = {"nasbench201": 100, **dict.fromkeys(_DARTS, 50)}
"""Of the first training where images are larger, as published."""


@dataclass(frozen=True, kw_only=True)
class WeightSharing(SizedStrategy):
    """What strategies over a supernet of mixed edges have in common.

    Args:
        epochs: of the first training; None takes the strategy's own.
        batch_size: images a step.
        learning_rate: of the weights, at the start of a cosine.
        share: of the images that weights are trained on; architectures are compared on the others.

    Raises: InputError for numbers out of range.
    """

    epochs: int | None = None
    batch_size: int = 64
    learning_rate: float = 0.025
    share: float = 0.5

    spaces: ClassVar = ("nasbench201", *_DARTS)
    small_epochs: ClassVar[int] = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.epochs < 1:
            raise InputError(f"a supernet trains for at least 1 epoch, got {self.epochs}")

    def epochs_on(self, images: Images) -> int:
        """Return the epochs of the first training."""
        own = self.small_epochs if self.is_small(images) else _EPOCHS[self.whole_space.name]
        return own if self.epochs is None else self.epochs

    def recipe(self, images: Images) -> Recipe:
        """Return how the supernet is trained."""
        from nasplug.strategies.supernet.mixture import Recipe

        final_rate = min(Recipe.final_rate, self.learning_rate)
        return Recipe(self.epochs_on(images), self.batch_size, self.learning_rate, final_rate)

    def parts(self, images: Images, seed: int) -> tuple[Supernet, Halves]:
        """Return an untrained supernet and the halves that it is trained on."""
        from nasplug.spaces.modules.supernets import supernet
        from nasplug.strategies.supernet.data import halves

        data = halves(images, share=self.share, device=self.device)
        sizes: dict[str, Any] = dict(_SMALL[self.whole_space.name]) if self.is_small(images) else {}
        net = supernet(self.whole_space, classes=data.classes, in_channels=data.channels, seed=seed, **sizes)
        return net, data


@dataclass(frozen=True, kw_only=True)
class Darts(WeightSharing):
    """DARTS, first order: train a mixture of all operations, keep on each edge the one with the largest weight.

    Source: Liu et al., ICLR 2019; settings of the search from DARTS-PT's code, which are the same. Every epoch is a
    stage. After the last, architectures follow by the product of their weights.
    """

    def _stages(self, images: Images) -> int:
        return self.epochs_on(images)

    def _method(self, images: Images, seed: int) -> Method:
        from nasplug.strategies.supernet.differentiable import Differentiable

        net, data = self.parts(images, seed)
        recipe = self.recipe(images)
        return Differentiable(net, data, recipe, seed)


@dataclass(frozen=True, kw_only=True)
class DartsPT(WeightSharing):
    """DARTS with perturbation-based selection: edge by edge, keep the operation whose removal hurts most.

    Source: Wang et al., Rethinking Architecture Selection in Differentiable NAS, ICLR 2021 (DARTS+PT), and its code.
    After training, edges are decided in random order on the selection half; between two decisions the supernet is tuned
    at a tenth of the learning rate. Every epoch and every decision is a stage. Differs: every decision comes after a
    whole interval of tuning, the last one too; the selection images are not augmented, and always the same; equal
    accuracies are told apart by the loss; an edge into a node that is dropped stays dropped while the next is chosen.

    On the DARTS spaces edges are decided in pairs, then every node is left with two inputs, and the learning rate of
    the tuning falls with a cosine to that of the training's end (the code makes such a schedule but never advances it).

    Args:
        interval: epochs of tuning between two decisions; None takes the published 5, and on small networks 3, or 1 on
            the DARTS spaces, which have three times the decisions.
        criterion: what a removal is judged by: the ``loss``, or as published the ``accuracy``, which hardly moves
            where the supernet is right nearly always, as on digits.
        renormalise: whether the rest of an edge is scaled up when an operation is removed.
        as_published: repeat what the authors' code does and their paper does not say
            (:class:`nasplug.strategies.supernet.differentiable.Selecting`); the criterion is then accuracy.
    """

    interval: int | None = None
    criterion: Literal["accuracy", "loss"] = "loss"
    renormalise: bool = False
    as_published: bool = False

    learn_logits: ClassVar[bool] = True
    steps: ClassVar[Mapping[str, int]] = {"nasbench201": 6, **dict.fromkeys(_DARTS, 14 + 3)}
    small_intervals: ClassVar[Mapping[str, int]] = {"nasbench201": 3, **dict.fromkeys(_DARTS, 1)}

    def _stages(self, images: Images) -> int:
        return self.epochs_on(images) + self.steps[self.whole_space.name]

    def _method(self, images: Images, seed: int) -> Method:
        from nasplug.strategies.supernet.differentiable import Differentiable, Selecting
        from nasplug.strategies.supernet.selectors import Perturbation

        net, data = self.parts(images, seed)
        own = self.small_intervals[self.whole_space.name] if self.is_small(images) else 5
        interval = own if self.interval is None else self.interval
        recipe = self.recipe(images)
        rate = self.learning_rate / 10
        final_rate = min(rate, recipe.final_rate) if self.whole_space.name in _DARTS else None
        published = self.as_published
        rule = Perturbation(
            "accuracy" if published else self.criterion, self.renormalise, "order" if published else "loss"
        )
        selecting = Selecting(rule, interval, rate, None if published else final_rate, published)
        return Differentiable(net, data, recipe, seed, learn_logits=self.learn_logits, selecting=selecting)


@dataclass(frozen=True, kw_only=True)
class DartsPTFixedAlpha(DartsPT):
    """Perturbation-based selection on a supernet whose operations all weigh the same: DARTS+PT (fix alpha).

    Source: as :class:`DartsPT`. Weights alone are trained. Differs: logits are zero, as in the paper; the code fixes
    small random ones.
    """

    learn_logits: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class SinglePathOneShot(WeightSharing):
    """Single Path One-Shot: train one random architecture a step, then search by the accuracy of shared weights.

    Source: Guo et al., ECCV 2020: uniform paths, recalibrated batch norms, an evolution of 20 generations of 50.
    Training is five stages, each ending in a look at random architectures; then every generation is one.

    Args:
        ranking: ``evolution``, or ``exhaustive``: every canonical class, on an enumerable space.
        population: architectures of a generation.
        generations: of the evolution.
    """

    ranking: Literal["evolution", "exhaustive"] = "evolution"
    population: int = 50
    generations: int = 20

    small_epochs: ClassVar[int] = 60

    def _stages(self, images: Images) -> int:
        return Ranking(self.ranking, self.population, self.generations).stages(self.epochs_on(images))

    def _method(self, images: Images, seed: int) -> Method:
        from nasplug.strategies.supernet.random_paths import SinglePaths

        net, data = self.parts(images, seed)
        recipe = self.recipe(images)
        return SinglePaths(net, data, recipe, Ranking(self.ranking, self.population, self.generations), seed)
