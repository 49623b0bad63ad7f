"""Latency by a multilayer perceptron on architecture encodings: the published one, and one that needs less data.

Shapes: n architectures; d features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.cost_models.base import CostModel
from nasplug.cost_models.corrected import Corrected, fit_corrected
from nasplug.cost_models.features import Features
from nasplug.cost_models.perceptron import CHUNK, Perceptron, Recipe, layer_sizes, train
from nasplug.errors import InputError
from nasplug.spaces import Genotypes, Space

__all__ = ["MLP", "MLPPaper", "check_training", "chunked", "paper_encoding"]


@dataclass(kw_only=True, eq=False)
class MLP(CostModel):
    """A linear model of what layers cost, and a perceptron for what is not a sum over layers.

    The linear part is a ridge regression on raw milliseconds over :class:`Features` (one-hot and, where the space
    knows it, the work of each block at its resolution, with their sums). The network learns what is left, from 300
    measurements on, and its correction is believed as far as it holds for a fifth of them that a first training does
    not see. Predictions are kept above half of the smallest latency measured.

    Source: our own; the idea of a perceptron on encodings is arXiv:2101.00732's, whose network is :class:`MLPPaper`.
    Defaults were chosen on rows 7,000 to 8,499 (validation) of its two tables.

    Args:
        hidden: widths of the hidden layers, ``256-128``, or of one, ``256``.
        epochs: passes over the measurements.
        learning_rate: the highest of the schedule.
        weight_decay: AdamW's.
        batch: rows a step.
        seed: of the first weights and of the order of the rows.

    Raises: InputError for an option out of range.
    """

    least, per_operation = 3, True

    hidden: str | int = "256-128"
    epochs: int = 40
    learning_rate: float = 3e-3
    weight_decay: float = 1.0
    batch: int = 128
    seed: int = 0
    _function: Corrected | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_training(self)

    @property
    def fitted(self) -> bool:
        return self._function is not None

    @property
    def function(self) -> Corrected:
        """What was learnt, a function of ``features.sites``; raises InputError before :meth:`fit`."""
        if self._function is None:
            raise InputError(f"{type(self).__name__} is not fitted yet")
        return self._function

    @cached_property
    def features(self) -> Features:
        """The features of the space, made once."""
        return Features(self.space)

    def recipe(self) -> Recipe:
        """Return how the network is trained."""
        return Recipe(
            "adamw",
            self.learning_rate,
            self.weight_decay,
            self.epochs,
            self.batch,
            schedule="onecycle",
            loss="huber",
        )

    def _fit(self, genotypes: Genotypes, ms: NDArray[np.float64]) -> None:
        sizes = [self.features.width, *layer_sizes(self.hidden), 1]
        start = Perceptron.drawn(sizes, np.random.default_rng(self.seed))
        self._function = fit_corrected(self.features, genotypes, ms, start, self.recipe(), self.seed)

    def _predict(self, genotypes: Genotypes) -> NDArray[np.float64]:
        return chunked(lambda some: self.function(self.features.sites(some)), genotypes)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return self.function.arrays()

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._function = Corrected.from_arrays(arrays, self.features.width)


@dataclass(kw_only=True, eq=False)
class MLPPaper(CostModel):
    """The published predictor: d-400-400-400-1 on one-hot bits, milliseconds as they are, SGD on the RMSE of a batch.

    Source: Syed and Srinivasan, arXiv:2101.00732; sizes, loss ``sqrt(MSE + 1e-6)``, SGD, batch of 32 and 100 epochs as
    in the authors' code. Learning rate, weight decay and momentum are the ones they chose for the RTX 2080 Ti; their
    other choices: Note10 momentum 0.6; Tesla P40 1e-3, 1e-3, 0.9; Xeon 1e-4, 1e-4, 0.8. Differs: no grid search by the
    loss of the last validation batch; the last epoch's weights are kept.

    Args:
        hidden: widths of the hidden layers.
        epochs: passes over the measurements.
        learning_rate, weight_decay, momentum, batch: SGD's.
        seed: of the first weights and of the order of the rows.

    Raises: InputError for an option out of range.
    """

    least, per_operation = 3, True

    hidden: str | int = "400-400-400"
    epochs: int = 100
    learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    momentum: float = 0.9
    batch: int = 32
    seed: int = 0
    _network: Perceptron | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_training(self)

    @property
    def fitted(self) -> bool:
        return self._network is not None

    @property
    def network(self) -> Perceptron:
        """The trained network; raises InputError before :meth:`fit`."""
        if self._network is None:
            raise InputError(f"{type(self).__name__} is not fitted yet")
        return self._network

    def _fit(self, genotypes: Genotypes, ms: NDArray[np.float64]) -> None:
        rows = self.space.encode(genotypes, paper_encoding(self.space))
        recipe = Recipe("sgd", self.learning_rate, self.weight_decay, self.epochs, self.batch, self.momentum)
        rng = np.random.default_rng(self.seed)
        start = Perceptron.drawn([rows.shape[1], *layer_sizes(self.hidden), 1], rng)
        self._network = train(start, rows, ms, recipe, rng)

    def _predict(self, genotypes: Genotypes) -> NDArray[np.float64]:
        return chunked(lambda some: self.network(self.space.encode(some, paper_encoding(self.space))), genotypes)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return self.network.arrays()

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._network = restored_network(arrays, self.space)


def paper_encoding(space: Space) -> str:
    """Return the published bits where the space has them, one-hot elsewhere."""
    return "ofa" if "ofa" in space.encodings else "onehot"


def restored_network(arrays: Mapping[str, NDArray[Any]], space: Space) -> Perceptron:
    """Return the network of a file; raises KeyError or ValueError where it is none on the space's published bits."""
    network = Perceptron.from_arrays(arrays)
    width = space.encode(space.sample(1, np.random.default_rng(0)), paper_encoding(space)).shape[1]
    if network.sizes[0] != width:
        raise ValueError(f"it is made for {network.sizes[0]} features, the space has {width}")
    return network


def chunked(predict: Callable[[Genotypes], NDArray[Any]], genotypes: Genotypes) -> NDArray[np.float64]:
    """Return ``predict`` of all rows, ``(n,)``, some at a time: memory stays small and caches warm."""
    parts = [predict(genotypes[first : first + CHUNK]) for first in range(0, len(genotypes), CHUNK)]
    return np.concatenate([np.empty(0), *parts])


def check_training(model: Any) -> None:
    """Raise InputError where an option of training is out of range."""
    layer_sizes(model.hidden)
    for name, least in (("epochs", 1), ("batch", 1), ("seed", 0)):
        if getattr(model, name) < least:
            raise InputError(f"{type(model).__name__} expects {name} >= {least}, got {getattr(model, name)}")
    for name, lowest in (("learning_rate", 1e-12), ("weight_decay", 0.0)):
        if not lowest <= getattr(model, name) < 1e6:
            raise InputError(f"{type(model).__name__} expects {name} of at least {lowest}, got {getattr(model, name)}")
