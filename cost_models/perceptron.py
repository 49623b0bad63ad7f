"""A multilayer perceptron with ReLU: drawn and evaluated by NumPy, trained by torch, which is imported only then.

Shapes: n rows; d inputs; h units of the last hidden layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.packages import require

__all__ = ["Perceptron", "Recipe", "layer_sizes", "train"]

CHUNK = 2048
"""Rows evaluated at once: few enough for their activations to stay in the cache."""


@dataclass(frozen=True)
class Perceptron:
    """Weights ``(in, out)`` and biases ``(out,)`` of each layer, float32; the last layer has one output."""

    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]

    @classmethod
    def drawn(cls, sizes: Sequence[int], rng: np.random.Generator) -> Perceptron:
        """Return random layers, uniform in +-1/sqrt(inputs) (torch's own start)."""
        weights, biases = [], []
        for fan_in, fan_out in pairwise(sizes):
            bound = 1.0 / np.sqrt(fan_in)
            weights.append(rng.uniform(-bound, bound, (fan_in, fan_out)).astype(np.float32))
            biases.append(rng.uniform(-bound, bound, fan_out).astype(np.float32))
        return cls(tuple(weights), tuple(biases))

    def with_output(self, rng: np.random.Generator) -> Perceptron:
        """Return the same hidden layers under a new, random output layer."""
        fresh = Perceptron.drawn([len(self.weights[-1]), 1], rng)
        return Perceptron((*self.weights[:-1], *fresh.weights), (*self.biases[:-1], *fresh.biases))

    @property
    def sizes(self) -> list[int]:
        """Inputs, hidden units, one output."""
        return [len(self.weights[0]), *(len(b) for b in self.biases)]

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output of each row, ``(n,)``."""
        return (self.hidden(rows) @ self.weights[-1] + self.biases[-1])[:, 0]

    def hidden(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the activations of the last hidden layer, ``(n, h)``."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            rows = rows @ weight
            rows += bias
            np.maximum(rows, 0.0, out=rows)
        return rows

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the layers by name; :meth:`from_arrays` takes them back."""
        named = {f"weight_{i}": w for i, w in enumerate(self.weights)}
        return named | {f"bias_{i}": b for i, b in enumerate(self.biases)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Perceptron:
        """Read :meth:`arrays`; raises KeyError or ValueError where layers are missing or do not fit each other."""
        depth = sum(name.startswith("weight_") for name in arrays)
        weights = tuple(np.asarray(arrays[f"weight_{i}"], dtype=np.float32) for i in range(depth))
        biases = tuple(np.asarray(arrays[f"bias_{i}"], dtype=np.float32) for i in range(depth))
        inputs = [w.shape[0] if w.ndim == 2 else -1 for w in weights]
        outputs = [w.shape[1] if w.ndim == 2 else -1 for w in weights]
        chained = depth > 0 and inputs[1:] == outputs[:-1] and outputs[-1] == 1 and min(inputs) > 0
        finite = all(np.isfinite(part).all() for part in (*weights, *biases))
        if not chained or [b.shape for b in biases] != [(k,) for k in outputs] or not finite:
            raise ValueError("its layers are not a perceptron of finite weights")
        return cls(weights, biases)


def layer_sizes(text: str | int) -> tuple[int, ...]:
    """Return the hidden layers that ``400-400-400``, or ``400`` for one, names; raises InputError for another text."""
    parts = str(text).split("-")
    if not all(part.isascii() and part.isdigit() and 1 <= int(part[:6]) <= 10_000 for part in parts) or len(parts) > 10:
        raise InputError(f"hidden layers are widths joined by '-', such as 400-400-400, got {text!r}")
    return tuple(map(int, parts))


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        optimizer: ``sgd`` (with ``momentum``) or ``adamw``.
        learning_rate: constant, or the highest of the schedule.
        weight_decay: of the optimizer, on weights and biases.
        epochs: passes over the rows.
        batch: rows a step.
        momentum: of SGD.
        schedule: ``constant`` or ``onecycle`` (a tenth of the steps up, then down by a cosine).
        loss: ``rmse``, ``sqrt(mean squared error + 1e-6)`` of a batch; or ``huber``, quadratic below 0.1.
        layers: ``all``, or only the ``output`` layer.
    """

    optimizer: Literal["sgd", "adamw"]
    learning_rate: float
    weight_decay: float
    epochs: int
    batch: int
    momentum: float = 0.0
    schedule: Literal["constant", "onecycle"] = "constant"
    loss: Literal["rmse", "huber"] = "rmse"
    layers: Literal["all", "output"] = "all"


def train(
    start: Perceptron, rows: NDArray[np.float32], targets: NDArray[np.float64], recipe: Recipe, rng: np.random.Generator
) -> Perceptron:
    """Return the trained network; ``start`` stays as it is.

    Args:
        start: the weights to begin with.
        rows: ``(n, d)``, n at least 1.
        targets: ``(n,)``.
        recipe: how.
        rng: the order of the rows.

    Raises:
        MissingDependencyError: torch is not installed.
        InputError: the weights became infinite; a smaller learning rate helps.
    """
    require("torch", purpose="training a network", extra="torch")
    import torch

    frozen = len(start.weights) - 1 if recipe.layers == "output" else 0
    inputs = rows
    if frozen:
        inputs = start.hidden(rows)
    weights = [torch.tensor(w, requires_grad=True) for w in start.weights[frozen:]]
    biases = [torch.tensor(b, requires_grad=True) for b in start.biases[frozen:]]
    tuned = [*weights, *biases]
    x = torch.tensor(np.ascontiguousarray(inputs))
    y = torch.tensor(targets.astype(np.float32))
    steps = -(-len(x) // recipe.batch) * recipe.epochs
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            tuned, lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
    else:
        optimizer = torch.optim.AdamW(tuned, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    scheduler = None
    if recipe.schedule == "onecycle":
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=max(steps, 20), pct_start=0.1
        )
    for _ in range(recipe.epochs):
        order = torch.from_numpy(rng.permutation(len(x)))
        for first in range(0, len(x), recipe.batch):
            picked = order[first : first + recipe.batch]
            hidden = x[picked]
            for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
                hidden = torch.relu(torch.addmm(bias, hidden, weight))
            output = torch.addmm(biases[-1], hidden, weights[-1])[:, 0]
            if recipe.loss == "rmse":
                loss = torch.sqrt(torch.nn.functional.mse_loss(output, y[picked]) + 1e-6)
            else:
                loss = torch.nn.functional.smooth_l1_loss(output, y[picked], beta=0.1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
    learnt = [part.detach().numpy().copy() for part in tuned]
    if not all(np.isfinite(part).all() for part in learnt):
        raise InputError(
            f"training diverged: weights became infinite at learning rate {recipe.learning_rate}; take a smaller one"
        )
    half = len(weights)
    return Perceptron((*start.weights[:frozen], *learnt[:half]), (*start.biases[:frozen], *learnt[half:]))
