"""Training networks, one or a stack of them, epoch by epoch, from a seed, with checkpoints.

Shapes: M networks of a stack; B images of a batch; e epochs trained so far.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nasplug.errors import InputError
from nasplug.images import Images
from nasplug.images.batches import augmented
from nasplug.spaces.modules.stacked import Stack

__all__ = ["Recipe", "Training"]

EVALUATION_BATCH = 64


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum, a linear warm-up over the first tenth, then a cosine to 0.

    Attributes:
        epochs: of the whole schedule; fewer epochs of one recipe are a prefix of it.
        batch_size: images a step.
        learning_rate: the highest.
        momentum: of SGD.
        weight_decay: of all weights.
    """

    epochs: int = 8
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise InputError(f"a recipe has at least 1 epoch and batches of at least 2 images, got {self}")
        if not (self.learning_rate > 0 and 0 <= self.momentum < 1 and self.weight_decay >= 0):
            raise InputError(
                f"a recipe has a learning rate above 0, momentum in [0, 1) and decay of at least 0, got {self}"
            )

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of 0-based ``step`` of ``steps``."""
        warm_up = min(1.0, (step + 1) / max(1, steps // 10))
        return self.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * step / steps))


class Training:
    """A stack of networks in training; ``next(training)`` trains one epoch and returns its metrics ``(M, 6)``.

    The order of images depends on the seed and the epoch alone, so networks of one seed see the same batches whatever
    stack they are in, and a training continued from a checkpoint is the training that was not interrupted.

    A network that diverges gets NaN metrics; its neighbours do not notice.

    Args:
        networks: of one space; a single one is trained as it is.
        images: what on.
        recipe: how.
        seed: of the order of images and of augmentation; weights are the caller's.
        device: where.

    Attributes:
        epoch: epochs trained so far.
        fit_seconds: of the last epoch, without the evaluation.
    """

    def __init__(self, networks: Sequence[nn.Module], images: Images, recipe: Recipe, seed: int, device: str = "cpu"):
        self.images, self.recipe, self.seed, self.device = images, recipe, seed, torch.device(device)
        self.stack = Stack(networks).to(self.device)
        self.epoch = 0
        self.fit_seconds = 0.0
        self._optimizer = torch.optim.SGD(
            self.stack.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
            foreach=True,
        )
        self._train, self._valid, self._test = (
            (torch.from_numpy(s.images).to(self.device), torch.from_numpy(s.labels).to(self.device))
            for s in (images.train, images.valid, images.test)
        )

    def __iter__(self) -> Training:
        return self

    def __next__(self) -> NDArray[np.float64]:
        if self.epoch >= self.recipe.epochs:
            raise StopIteration
        started = time.perf_counter()
        fitted = self._fit()
        fitted[0].sum().item()  # waits for a device that works behind our back
        self.fit_seconds = time.perf_counter() - started
        metrics = [*fitted, *self._measure(*self._valid), *self._measure(*self._test)]
        self.epoch += 1
        table = torch.stack(metrics, dim=1).double().cpu().numpy()
        table[~np.isfinite(table).all(axis=1)] = np.nan
        return table

    # -- one epoch ---------------------------------------------------------------------------------------------------

    def _fit(self) -> tuple[Tensor, Tensor]:
        """Train the next epoch and return accuracy and mean loss within it, each ``(M,)``."""
        right = torch.zeros(self.stack.n_networks, device=self.device)
        loss_sum, seen = torch.zeros_like(right), 0
        for logits, labels, losses in self.steps():
            right += (logits.argmax(dim=2) == labels).sum(dim=1)
            loss_sum += losses.sum(dim=1)
            seen += len(labels)
        return right / seen, loss_sum / seen

    def steps(self, limit: int | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Train the next epoch step by step, yielding logits ``(M, B, classes)``, labels ``(B,)``, losses ``(M, B)``.

        Args:
            limit: how many steps; None for the whole epoch.
        """
        images, labels = self._train
        rng = np.random.default_rng([self.seed, self.epoch])
        order = torch.from_numpy(rng.permutation(len(labels))).to(self.device)
        batches = torch.split(order, self.recipe.batch_size)
        if len(batches) > 1 and len(batches[-1]) < 2:  # a batch norm needs two values
            batches = batches[:-1]
        self.stack.train()
        for k, rows in enumerate(batches[:limit]):
            for group in self._optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate_at(
                    self.epoch * len(batches) + k, self.recipe.epochs * len(batches)
                )
            batch = augmented(images[rows], self.images.crop, rng) if self.images.crop else images[rows]
            logits = self.stack(batch)
            losses = _losses(logits, labels[rows])
            self._optimizer.zero_grad(set_to_none=True)
            losses.mean(dim=1).sum().backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            yield logits.detach(), labels[rows], losses.detach()

    @torch.no_grad()
    def _measure(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return accuracy and mean loss on a split, each ``(M,)``."""
        self.stack.eval()
        logits = torch.cat([self.stack(part) for part in torch.split(images, EVALUATION_BATCH)], dim=1)
        return (logits.argmax(dim=2) == labels).float().mean(dim=1), _losses(logits, labels).mean(dim=1)

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return everything that :meth:`restore` needs, for ``torch.save``."""
        return {"epoch": self.epoch, "stack": self.stack.state_dict(), "optimizer": self._optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; raises InputError for one of another network."""
        try:
            self.stack.load_state_dict(state["stack"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.epoch = int(state["epoch"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120]  # torch lists every weight
            raise InputError(f"the checkpoint is not of this network ({reason}); remove it to train anew") from error


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of every network on every image, ``(M, B)``."""
    flat = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
    return flat.view(len(logits), -1)
