"""Training a supernet whose edges mix their operations: weights on one half of the images, logits on the other.

Shapes: d decisions; o choices; a mixture is ``(d, o)``, its rows summing to one while nothing is decided.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nasplug.errors import InputError, TrainingError
from nasplug.spaces.modules.supernets import Supernet
from nasplug.strategies.supernet.data import Halves

__all__ = ["Decisions", "MixtureTraining", "Recipe", "cosine"]

UNDECIDED = -1


@dataclass(frozen=True)
class Recipe:
    """How a supernet is trained, with the settings of DARTS and DARTS-PT (both use the same).

    Attributes:
        epochs: of the first training.
        batch_size: images a step.
        learning_rate: of SGD, at the start; follows a cosine, epoch by epoch.
        final_rate: which it ends at.
        momentum, weight_decay: of SGD.
        clip: largest norm of a step's gradient.
        logit_rate, logit_decay: of Adam on the logits, whose betas are 0.5 and 0.999.
        logit_spread: deviation of the normal draw that the logits begin with.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.025
    final_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    logit_rate: float = 3e-4
    logit_decay: float = 1e-3
    logit_spread: float = 1e-3

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise InputError(
                f"a supernet trains for at least 1 epoch, on batches of at least 2 images, got {self.epochs} and "
                f"{self.batch_size}"
            )
        if not (self.learning_rate > 0 and 0 <= self.final_rate <= self.learning_rate and self.clip > 0):
            raise InputError(
                "expected a learning rate above 0, a final one between 0 and that, and a clip above 0, got "
                f"{self.learning_rate}, {self.final_rate} and {self.clip}"
            )

    def rate_at(self, epoch: int, epochs: int) -> float:
        """Return the learning rate of 0-based ``epoch`` of a cosine of ``epochs``."""
        return cosine(self.learning_rate, self.final_rate, epoch, epochs)


def cosine(first: float, final: float, epoch: int, epochs: int) -> float:
    """Return what falls from ``first`` to ``final`` along half a cosine, at 0-based ``epoch`` of ``epochs``."""
    return final + (first - final) * 0.5 * (1 + math.cos(math.pi * epoch / epochs))


class Decisions:
    """What is decided already, kept apart from the logits: nothing that trains can move it.

    Attributes:
        chosen: ``(d,)``, -1 where an edge is undecided.
        kept: ``(d,)``, False for edges that are dropped.
    """

    def __init__(self, n_decisions: int, device: torch.device | str = "cpu"):
        self.chosen = torch.full((n_decisions,), UNDECIDED, device=device)
        self.kept = torch.ones(n_decisions, dtype=torch.bool, device=device)

    def applied(self, mixture: Tensor) -> Tensor:
        """Return the mixture with decided rows one-hot and dropped rows zero; gradients pass undecided rows alone."""
        certain = F.one_hot(self.chosen.clamp(min=0), mixture.shape[1]).to(mixture.dtype)
        decided = torch.where((self.chosen == UNDECIDED)[:, None], mixture, certain)
        return decided * self.kept[:, None]


class MixtureTraining:
    """A supernet in training, first order: a step of the logits on one half, then one of the weights on the other.

    Epoch e of a phase draws its batches from (seed, phase, e) alone.

    Args:
        net: the supernet, moved to the device of the images.
        data: the halves.
        recipe: how.
        seed: of the order of images, augmentation, and logits; weights are the caller's.
        learn_logits: whether logits are trained; else every operation weighs the same.
        draw_logits: whether they begin with a small random draw, and not all zero; None where they are trained.

    Attributes:
        logits: ``(d, o)``.
        decisions: what is decided.
    """

    def __init__(
        self,
        net: Supernet,
        data: Halves,
        recipe: Recipe,
        seed: int,
        *,
        learn_logits: bool = True,
        draw_logits: bool | None = None,
    ):
        device = data.weights.labels.device
        self.net, self.data, self.recipe, self.seed, self.learn_logits = (
            net.to(device),
            data,
            recipe,
            seed,
            learn_logits,
        )
        draw = np.random.default_rng([seed, 0]).normal(size=net.selectable.shape) * recipe.logit_spread
        drawn = learn_logits if draw_logits is None else draw_logits
        start = torch.from_numpy(draw) if drawn else torch.zeros(net.selectable.shape)
        self.logits = start.to(device, torch.float32).requires_grad_(learn_logits)
        self.decisions = Decisions(net.n_decisions, device)
        self._weight_optimizer = self._fresh_optimizer(recipe.learning_rate)
        self._logit_optimizer = torch.optim.Adam(
            [self.logits], lr=recipe.logit_rate, betas=(0.5, 0.999), weight_decay=recipe.logit_decay
        )

    def mixture(self) -> Tensor:
        """Return the weights of the mixture under the logits and decisions of now, ``(d, o)``."""
        return self.decisions.applied(torch.softmax(self.logits, dim=1))

    def restart(self, rate: float) -> None:
        """Go on with a new optimizer of the weights, without momentum from before, at a constant learning rate."""
        self._weight_optimizer = self._fresh_optimizer(rate)

    def _fresh_optimizer(self, rate: float) -> torch.optim.SGD:
        recipe = self.recipe
        return torch.optim.SGD(
            self.net.parameters(), lr=rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay, foreach=True
        )

    def epoch(self, phase: int, number: int, *, rate: float | None = None) -> dict[str, float]:
        """Train one epoch and return mean loss and accuracy within it.

        Args:
            phase: 0 is the first training, higher ones the tuning between decisions.
            number: of the epoch in the phase.
            rate: a learning rate to set; None leaves the one there is.

        Raises: TrainingError where the loss is no number.
        """
        if rate is not None:
            for group in self._weight_optimizer.param_groups:
                group["lr"] = rate
        self.net.train()
        total, right, seen = 0.0, 0, 0
        others = self._selection_batches(phase, number)
        key = [self.seed, 1, phase, number]
        for images, labels in self.data.weights.batches(self.recipe.batch_size, key, crop=self.data.crop):
            if self.learn_logits:
                self._step_logits(*next(others))
            logits = self.net(images, self.mixture().detach())
            loss = F.cross_entropy(logits, labels)
            self._weight_optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip)
            self._weight_optimizer.step()
            total += float(loss.detach()) * len(labels)
            right += int((logits.detach().argmax(dim=1) == labels).sum())
            seen += len(labels)
        if not math.isfinite(total) or not bool(torch.isfinite(self.logits).all()):
            raise TrainingError(f"the loss of the supernet became {total / seen} in epoch {number + 1} of this phase")
        return {"train_loss": total / seen, "train": right / seen}

    def _selection_batches(self, phase: int, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of the other half without end."""
        turn = 0
        while True:
            key = [self.seed, 2, phase, number, turn]
            yield from self.data.selection.batches(self.recipe.batch_size, key, crop=self.data.crop)
            turn += 1

    def _step_logits(self, images: Tensor, labels: Tensor) -> None:
        loss = F.cross_entropy(self.net(images, self.mixture()), labels)
        (self.logits.grad,) = torch.autograd.grad(loss, [self.logits])  # and not of the weights, which costs as much
        self._logit_optimizer.step()

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return all that :meth:`restore` needs."""
        return {
            "net": self.net.state_dict(),
            "logits": self.logits.detach(),
            "weight_optimizer": self._weight_optimizer.state_dict(),
            "logit_optimizer": self._logit_optimizer.state_dict(),
            "chosen": self.decisions.chosen,
            "kept": self.decisions.kept,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; raises whatever torch raises where it is of another supernet."""
        self.net.load_state_dict(state["net"])
        with torch.no_grad():
            self.logits.copy_(state["logits"])
        self._weight_optimizer.load_state_dict(state["weight_optimizer"])
        self._logit_optimizer.load_state_dict(state["logit_optimizer"])
        self.decisions.chosen.copy_(state["chosen"])
        self.decisions.kept.copy_(state["kept"])
