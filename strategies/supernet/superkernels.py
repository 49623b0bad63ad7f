"""The method of Single-Path NAS: weights and thresholds of superkernels learn together, under a price on cost.

Shapes: n genotypes; s sites; k choices of a site.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from nasplug.errors import InputError, TrainingError
from nasplug.spaces import Genotypes, Space
from nasplug.spaces.modules.recalibration import recalibrate
from nasplug.spaces.modules.single_path import Supernet
from nasplug.strategies.supernet.data import Halves
from nasplug.strategies.supernet.decision_ranking import LONGEST
from nasplug.strategies.supernet.method import Method, Selection
from nasplug.strategies.supernet.priced import Price

__all__ = ["Aim", "Recipe", "SuperkernelTraining", "likeliest", "nearest"]


@dataclass(frozen=True)
class Recipe:
    """How a supernet of superkernels is trained.

    Attributes:
        epochs: in all.
        warm_up: of them without a price, decisions dropped at random instead.
        batch_size: images a step.
        learning_rate: of SGD on the weights, at the start; follows a cosine to 0, epoch by epoch.
        momentum, weight_decay: of SGD; thresholds do not decay.
        threshold_rate: of Adam on the thresholds, whose betas are 0.5 and 0.99.
        keep: probability of a decision to stay in the warm-up.
        smoothing: of the labels.
        clip: largest norm of a step's gradient.
    """

    epochs: int
    warm_up: int
    batch_size: int = 64
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-5
    threshold_rate: float = 0.02
    keep: float = 0.6
    smoothing: float = 0.1
    clip: float = 5.0


@dataclass(frozen=True)
class Aim:
    """What a search is after.

    Attributes:
        trade_off: lambda, the weight of the log of the cost beside the cross-entropy; where there is a target, what
            it begins with.
        target: the cost that a network may have, at most; None leaves the trade-off as it is.
        slack: how far below the target a network may stay, as a share of it.
        control: how fast the trade-off follows the target: every step multiplies it by the cost over the target, to
            this power.
        memory: by which a step fades with every one after it, where decisions are counted.
    """

    trade_off: float
    target: float | None = None
    slack: float = 0.05
    control: float = 0.1
    memory: float = 0.98


class SuperkernelTraining(Method):
    """Train weights and thresholds on the same images; each epoch is a stage that selects what they decide.

    A step descends cross-entropy plus lambda times the log of the cost. In the warm-up there is no price, and each
    decision is dropped out at random. With a target, lambda rises while the network of now costs more and falls while
    it costs less. Behind a batch norm the loss does not feel a whole channel's scale: what is on only feels the price,
    what is off only feels what it is missed for, so decisions go on and off, and the share of the time that one is on
    tells what it is worth for what it costs. A stage selects, of the networks that meet the target, the one whose
    choices were taken most often (:func:`nearest`); without a target, what is decided at its end.

    Args:
        net: the supernet.
        data: weights and thresholds learn from one part; the other only reports.
        price: of the networks.
        recipe: how.
        aim: what for.
        seed: of batches and dropout.

    Attributes:
        trade_off: lambda as it is now.
    """

    def __init__(self, net: Supernet, data: Halves, price: Price, recipe: Recipe, aim: Aim, seed: int):
        # Depthwise convolutions on a CPU are two to four times as fast with channels last.
        self.net = net.to(data.weights.labels.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.data, self.price = data, price
        self.recipe, self.aim, self.seed = recipe, aim, seed
        self.stages = recipe.epochs
        self.trade_off = aim.trade_off
        self._weights = torch.optim.SGD(
            list(net.weights()),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            foreach=True,
        )
        self._thresholds = torch.optim.Adam(net.thresholds(), lr=recipe.threshold_rate, betas=(0.5, 0.99), foreach=True)
        self._seen = [torch.zeros(int(size), dtype=torch.float64) for size in net.space.n_choices]
        """How often each choice of a site was taken under the price, lately."""

    def _advance(self) -> Selection:
        facts = self._epoch(self.done)
        decided = self.net.genotype()
        facts |= {"lambda": self.trade_off, "cost": float(self.price.of(decided[None])[0])}
        warming = self.done < self.recipe.warm_up
        facts["decided"] = self.net.space.to_string(decided[None])[0]
        if warming:  # nothing has been asked of the decisions yet
            return Selection(decided[None][:0], facts)
        if self.aim.target is None:
            self._require_layers(decided)
            ranking = likeliest(self.price.space, self.frequencies(), decided)
        else:
            ranking = nearest(self.price, self.frequencies(), self.aim.target, self.aim.slack)
        facts |= {"selected_cost": float(self.price.of(ranking[:1])[0]), "valid": self.held_out(ranking[0])}
        return Selection(ranking[:LONGEST], facts)

    def _epoch(self, epoch: int) -> dict[str, Any]:
        """Train one epoch and return mean loss and accuracy within it."""
        recipe, warming = self.recipe, epoch < self.recipe.warm_up
        for group in self._weights.param_groups:
            group["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))
        self.net.train()
        rng = np.random.default_rng([self.seed, 6, epoch])
        total, right, seen = 0.0, 0, 0
        for images, labels in self.data.weights.batches(recipe.batch_size, [self.seed, 1, epoch], crop=self.data.crop):
            self.net.drop(rng.random if warming else None, recipe.keep)
            logits = self.net(images.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe.smoothing)
            whole = loss
            if not warming:
                choices = self.net.choices()
                for often, choice in zip(self._seen, choices, strict=True):
                    often.mul_(self.aim.memory).add_(choice.detach().cpu())
                cost = self.price.expected(choices)
                whole = loss + self.trade_off * torch.log(cost)
                if self.aim.target is not None:
                    self.trade_off *= (float(cost.detach()) / self.aim.target) ** self.aim.control
            self._weights.zero_grad(set_to_none=True)
            self._thresholds.zero_grad(set_to_none=True)
            whole.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.net.weights(), recipe.clip)
            self._weights.step()
            self._thresholds.step()
            total += float(loss.detach()) * len(labels)
            right += int((logits.detach().argmax(dim=1) == labels).sum())
            seen += len(labels)
        self.net.drop(None)
        if not math.isfinite(total) or not all(bool(t.isfinite()) for t in self.net.thresholds()):
            raise TrainingError(f"the loss of the supernet became {total / seen} in epoch {epoch + 1}")
        return {"train_loss": total / seen, "train": right / seen}

    def frequencies(self) -> list[NDArray[np.float64]]:
        """Return how often each choice of a site was taken lately, ``(k,)`` a site; margins count as one more time."""
        return [
            (seen.numpy() + likely) / float(seen.sum() + 1)
            for seen, likely in zip(self._seen, self.net.probabilities(), strict=True)
        ]

    def held_out(self, genotype: NDArray[np.int64]) -> float:
        """Return the accuracy of a network with the shared weights on images that nothing was learnt from."""
        kept = {name: value.clone() for name, value in self.net.state_dict().items()}
        self.net.force(genotype)
        recalibrate(self.net, self.batches(4))
        with torch.no_grad():
            right = sum(
                int((self.net(images).argmax(dim=1) == labels).sum())
                for images, labels in self.data.selection.chunks(512)
            )
        self.net.force(None)
        self.net.load_state_dict(kept)
        return right / len(self.data.selection)

    def batches(self, count: int) -> Iterable[torch.Tensor]:
        """Return some batches of training images in their fixed order, to take statistics from."""
        return torch.split(self.data.weights.images, self.recipe.batch_size)[:count]

    def _require_layers(self, decided: NDArray[np.int64]) -> None:
        """Raise InputError where nothing is left that could have been skipped."""
        skips = np.array([block.block(int(code)) is None for block, code in zip(self.net.blocks, decided, strict=True)])
        could = np.array([block.kernel.skippable for block in self.net.blocks])
        if could.any() and skips[could].all():
            raise InputError(
                f"with lambda {self.trade_off:g} all layers that can be skipped were, in epoch {self.done + 1}: cost "
                "outweighs everything. Lower the trade-off, or give a target and have it found"
            )

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "weights": self._weights.state_dict(),
            "thresholds": self._thresholds.state_dict(),
            "trade_off": self.trade_off,
            "seen": self._seen,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self._weights.load_state_dict(state["weights"])
        self._thresholds.load_state_dict(state["thresholds"])
        self.trade_off = float(state["trade_off"])
        for seen, given in zip(self._seen, state["seen"], strict=True):
            seen.copy_(given)


def likeliest(space: Space, likely: Sequence[NDArray[np.float64]], first: NDArray[np.int64]) -> Genotypes:
    """Return networks, likeliest first, ``(r, s)``: all of an enumerable space, else one's neighbours.

    Args:
        space: of the networks.
        likely: probability of each choice of each site, ``(k,)`` a site.
        first: what leads, ``(s,)``.
    """
    pool = space.all() if space.enumerable else space.neighbors(first)
    pool = pool[(pool != first).any(axis=1)]
    return np.concatenate([first[None], pool[np.argsort(-_total(likely, pool), kind="stable")]])


def _total(likely: Sequence[NDArray[np.float64]], rows: Genotypes) -> NDArray[np.float64]:
    """Return the log likelihood of networks ``(n, s)``, ``(n,)``."""
    total: NDArray[np.float64] = np.sum(
        [np.log(np.maximum(one, 1e-12))[rows[:, site]] for site, one in enumerate(likely)], axis=0
    )
    return total


def nearest(price: Price, likely: Sequence[NDArray[np.float64]], target: float, slack: float) -> Genotypes:
    """Return networks that cost at most ``target`` and little less, likeliest first, ``(r, s)``.

    All of an enumerable space are compared. In another, sites are changed one by one, the least missed for the cost
    they save or use up, and that network's neighbours follow. Where no network costs between ``1 - slack`` times the
    target and the target, the dearest below it lead.

    Args:
        price: of the networks.
        likely: probability of each choice of each site, ``(k,)`` a site.
        target: the cost.
        slack: a share of it.

    Raises: InputError where nothing is found that costs so little.
    """
    space = price.space
    if space.enumerable:
        pool = space.all()
    else:
        first = _changed(price, [np.log(np.maximum(one, 1e-12)) for one in likely], target, slack)
        pool = np.concatenate([first[None], space.neighbors(first)])
    costs = price.of(pool)
    total = _total(likely, pool)
    allowed = costs <= target
    if not allowed.any():
        raise InputError(f"no network of {space.name!r} was found that costs at most {target:g}; {costs.min():g} does")
    below = np.maximum((1 - slack) * target - costs, 0.0)
    order = np.lexsort((-total, below, ~allowed))
    return pool[order[: int(allowed.sum())]]


def _changed(price: Price, scores: Sequence[NDArray[np.float64]], target: float, slack: float) -> NDArray[np.int64]:
    row = np.array([int(score.argmax()) for score in scores])
    cost, slopes = price.around(row)
    sign = 1 if cost > target else -1  # 1: cheaper and cheaper
    while cost > target if sign == 1 else cost < (1 - slack) * target:
        moves = [
            ((score[row[site]] - score[code]) / abs(change), site, code)
            for site, (score, slope) in enumerate(zip(scores, slopes, strict=True))
            for code, change in enumerate(slope.tolist())
            if sign * change < -1e-9 * cost and (sign == 1 or cost + change <= target)
        ]
        if not moves:
            break
        _, site, code = min(moves)
        row = row.copy()
        row[site] = code
        cost, slopes = price.around(row)
    return row
