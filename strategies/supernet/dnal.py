"""The method of DNAL: weights, then channel gates, then the slim network, each by itself.

Shapes: s groups of channels, one a site of the space; C channels of a group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from nasplug.errors import InputError, TrainingError
from nasplug.spaces import Genotypes
from nasplug.spaces.modules.flow import Emptied, Mask
from nasplug.spaces.modules.gates import LAST_SCALE, scale_at
from nasplug.spaces.modules.gating import Gated
from nasplug.spaces.modules.slimming import slimmed
from nasplug.spaces.widths import WidthSpace
from nasplug.strategies.supernet.data import Halves, Part
from nasplug.strategies.supernet.evaluation import BATCH, batch_statistics
from nasplug.strategies.supernet.method import Method, Selection

__all__ = ["Aim", "Gating", "Phases", "space_of"]

Masks = dict[str, Mask]
CostModel = Callable[[Genotypes], NDArray[np.float64]]

KEPT = 0.9
"""A channel stays if its gate is above this at the last scale."""

LEAST_SCORE = math.log(KEPT / (1 - KEPT)) / LAST_SCALE
"""Score of such a gate."""

CLEAR = 2 * LEAST_SCORE
"""Distance from zero of scores that are decided by a floor, a level or a budget: gates of 0.012 and 0.988."""

LEAST_SHARE = 0.1
"""Share of a layer's channels that a budget leaves where the network cannot do without the layer."""

TIGHTENING = 0.6
"""Share of the gate epochs over which a budget is tightened; later gates hardly move."""

ALTERNATIVES = 20
"""Architectures that the last stage ranks behind its own."""


@dataclass(frozen=True)
class Phases:
    """How long and how fast each phase trains, all by SGD with momentum.

    Attributes:
        weight_epochs, gate_epochs, tuning_epochs: of the three phases.
        batch_size: images a step.
        learning_rate: of the weights at the start of a cosine that ends at zero.
        tuning_rate: of the slim network, likewise.
        momentum, weight_decay: of weights.
        gate_rate, gate_momentum: of the scores, which have no decay. The optimiser of the scores is made anew every
            epoch, as published.

    Raises: InputError for numbers out of range.
    """

    weight_epochs: int = 30
    gate_epochs: int = 10
    tuning_epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 0.1
    tuning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    gate_rate: float = 0.01
    gate_momentum: float = 0.9

    def __post_init__(self) -> None:
        if min(self.weight_epochs, self.gate_epochs, self.tuning_epochs) < 1 or self.batch_size < 2:
            raise InputError(f"each phase lasts at least 1 epoch, on batches of at least 2 images, got {self}")
        rates = (self.learning_rate, self.tuning_rate, self.gate_rate)
        if not (min(rates) > 0 and 0 <= self.momentum < 1 and 0 <= self.gate_momentum < 1 and self.weight_decay >= 0):
            raise InputError(f"expected rates above 0, momenta in [0, 1) and a decay of at least 0, got {self}")

    @property
    def epochs(self) -> int:
        """Of all phases together."""
        return self.weight_epochs + self.gate_epochs + self.tuning_epochs


@dataclass(frozen=True)
class Aim:
    """What the gates are pressed to: cheap, by a penalty or to a budget.

    Attributes:
        penalty: lambda of ``penalty * sum of w sigmoid(score)`` in the loss of the gates, as published; its pressure
            grows with the steps taken. None with a budget.
        budget: largest share of the full network's cost, in (0, 1]. Scores then tell the channels of a group apart, not
            groups from each other: every epoch ends with scores by rank, of which each group keeps the best
            ``exp(-w x)``, x being what the budget asks; groups of one price keep one share of their channels. The share
            of the cost falls to the budget in the first epochs.
        cost: ``count`` of channels (as published), ``params``, ``flops``, or a ``model`` that predicts milliseconds.
            A channel's weight w is what its group costs a channel in the full network, 1 on average.
        floor: channels that every layer keeps which the network cannot do without; under a budget also a tenth of
            its channels.
        start: score that all gates begin with; 0 as published.

    Raises: InputError for numbers out of range, or not exactly one of penalty and budget.
    """

    penalty: float | None = None
    budget: float | None = None
    cost: Literal["count", "params", "flops", "model"] = "count"
    floor: int = 1
    start: float = 0.0

    def __post_init__(self) -> None:
        if (self.penalty is None) == (self.budget is None):
            raise InputError(f"give either a penalty or a budget, got {self.penalty} and {self.budget}")
        if self.penalty is not None and not (math.isfinite(self.penalty) and self.penalty >= 0):
            raise InputError(f"the penalty is a number of at least 0, got {self.penalty}")
        if self.budget is not None and not 0 < self.budget <= 1:
            raise InputError(f"the budget is a share of the full cost, in (0, 1], got {self.budget}")
        if self.cost not in ("count", "params", "flops", "model"):
            raise InputError(f"the cost is count, params, flops or model, got {self.cost!r}")
        if self.budget is not None and self.floor < 1:
            raise InputError("a budget needs a floor of at least 1, or it could close whole layers")
        if self.floor < 0 or not math.isfinite(self.start):
            raise InputError(f"expected a floor of at least 0 and a finite start, got {self.floor} and {self.start}")


def space_of(gated: Gated, name: str, levels: int | None = None, multiple: int = 1) -> WidthSpace:
    """Return the width space of a gated network: a site a group, 0 channels where the network can do without.

    ``levels`` and ``multiple`` are :class:`WidthSpace`'s.
    """
    groups = [(group.name, group.channels) for group in gated.groups]
    lows = [int(group.required) for group in gated.groups]
    return WidthSpace(name, groups, levels=levels, lows=lows, multiple=multiple)


class Gating(Method):
    """Train the weights with all gates open, then the gates alone, then the slim network: an epoch a stage.

    Source: Guo et al., Differentiable neural architecture learning for efficient neural networks, Pattern Recognition
    126 (2022) 108448, arXiv 2103.02126. Differs: in the phase of the gates nothing else moves, not even the statistics
    of the norms (they use those of the batch); what is fine-tuned is the slim network, not a masked one; floors,
    budgets and costs beyond a count are ours.

    Every stage selects the widths that its gates would leave: the full network while weights are trained.

    Args:
        gated: the network with its gates, moved to the device of ``data``.
        space: of its widths, for example :func:`space_of`; architectures are rounded up to its levels.
        data: weights are trained on one half. The other judges, and never trains unless ``held_out``.
        phases: how long and how fast.
        aim: penalty or budget.
        seed: of batches; and of dropout, where there is any.
        held_out: whether gates are trained on the other half, not on the images of the weights, as published.
        model: genotypes ``(n, s)`` to milliseconds ``(n,)``, for ``cost="model"``.

    Raises: InputError for a space of other groups, a network without a logit for every class, a budget below the
        narrowest network; for a cost model that is missing, sees no difference or predicts no number above zero.
    """

    def __init__(
        self,
        gated: Gated,
        space: WidthSpace,
        data: Halves,
        phases: Phases,
        aim: Aim,
        seed: int,
        *,
        held_out: bool = False,
        model: CostModel | None = None,
    ):
        groups = {name: len(gate.scores) for name, gate in gated.gates.items()}
        sites = {p.name: p.decode(np.array([p.size - 1]))[0] for p in space.parameters}
        if list(groups.items()) != list(sites.items()):
            raise InputError(f"space {space.name!r} has the groups {sites}, the network has {groups}")
        if (aim.cost == "model") != (model is not None):
            raise InputError(f"cost={aim.cost!r} and {'a' if model else 'no'} cost model do not go together")
        self.gated, self.space, self.data = gated.to(data.weights.labels.device), space, data
        self.phases, self.aim, self.seed, self.model = phases, aim, seed, model
        self.stages = phases.epochs
        self._gate_images = data.selection if held_out else data.weights
        self._required = {group.name for group in gated.groups if group.required}
        self._slim: fx.GraphModule | None = None
        self._masks: Masks | None = None
        self._full_accuracy = 0.0
        self._levels: dict[str, float] = {}
        self._means: dict[str, float] = {}
        self._optimizer = self._weight_optimizer(self.gated.weights(), phases.learning_rate)
        self._full_cost = self._cost(space.full)
        self._require_logits()
        if aim.budget is not None:
            self._require_affordable(aim.budget)

    @property
    def network(self) -> fx.GraphModule:
        """The slim network, trained; raises InputError before the last phase has begun."""
        if self._slim is None:
            raise InputError("the slim network is built when the gates are done; there is none yet")
        return self._slim

    def _require_logits(self) -> None:
        with torch.no_grad(), batch_statistics(self.gated):
            logits: Any = self.gated(self.data.weights.images[:2])
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < self.data.classes:
            raise InputError(f"expected a network of logits (N, {self.data.classes} or more) for N images, got {shape}")

    def _require_affordable(self, share: float) -> None:
        """Raise InputError where even the narrowest network costs more than a share of the full one."""
        nothing = {name: np.full(len(one), -np.inf) for name, one in self._scores().items()}
        least = self._cost(*self._kept(nothing, None)) / self._full_cost
        if least > share:
            raise InputError(
                f"the narrowest network costs {least:.3g} of the full one, the budget is {share:.3g}; raise it, or "
                f"lower the floor of {self.aim.floor} or the least widths of space {self.space.name!r}"
            )

    def prune(self, masks: Masks) -> None:
        """Keep these channels, bool ``(C,)`` a group, instead of training gates: the next phase is that of tuning.

        Raises: InputError before the weights are trained, or where masks leave a layer nothing to work on.
        """
        if self.done < self.phases.weight_epochs:
            raise InputError(f"weights are trained for {self.phases.weight_epochs} epochs first, {self.done} are over")
        self._masks = self.gated.settled(masks)
        self.done = self.phases.weight_epochs + self.phases.gate_epochs

    def _advance(self) -> Selection:
        selection = self._stage()
        self.sound = selection.facts["valid"] > self._guess or self._full_accuracy <= self._guess
        return selection

    def _stage(self) -> Selection:
        phases = self.phases
        if self.done < phases.weight_epochs:
            self.gated.set_mode("open")
            facts = self._weight_epoch(self.gated, self.done, phases.weight_epochs, phases.learning_rate)
            selection = self._selected("weights", self.gated, self.space.full, facts)
            self._full_accuracy = selection.facts["valid"]
            return selection
        if self.done < phases.weight_epochs + phases.gate_epochs:
            return self._gate_stage(self.done - phases.weight_epochs)
        epoch = self.done - phases.weight_epochs - phases.gate_epochs
        if epoch == 0:
            self._build_slim()
        assert self._slim is not None
        facts = self._weight_epoch(self._slim, epoch, phases.tuning_epochs, phases.tuning_rate)
        assert self._masks is not None
        selection = self._selected("tuning", self._slim, self._genotype(self._masks), facts)
        if self.done + 1 == self.stages:
            self._refuse_guessing(selection.facts["valid"])
        return selection

    # -- weights -----------------------------------------------------------------------------------------------------

    def _weight_optimizer(self, weights: list[nn.Parameter], rate: float) -> torch.optim.SGD:
        p = self.phases
        trained = [weight for weight in weights if weight.requires_grad]
        return torch.optim.SGD(trained, lr=rate, momentum=p.momentum, weight_decay=p.weight_decay, foreach=True)

    def _weight_epoch(self, net: nn.Module, epoch: int, epochs: int, rate: float) -> dict[str, float]:
        net.train()
        part, steps = self.data.weights, 0
        batches = max(1, len(part) // self.phases.batch_size)
        told = _Told("the network", epoch)
        with _own_stream([self.seed, self.done], part.labels.device):
            for images, labels in part.batches(self.phases.batch_size, [self.seed, 1, self.done], crop=self.data.crop):
                for group in self._optimizer.param_groups:
                    group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * (epoch * batches + steps) / (epochs * batches)))
                logits = net(images)
                loss = F.cross_entropy(logits, labels)
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                self._optimizer.step()
                told.step(loss, logits, labels)
                steps += 1
        return told.facts()

    def _build_slim(self) -> None:
        assert self._masks is not None
        self._slim = slimmed(self.gated.eval(), self._masks)
        self._optimizer = self._weight_optimizer(list(self._slim.parameters()), self.phases.tuning_rate)

    # -- gates -------------------------------------------------------------------------------------------------------

    def _gate_stage(self, epoch: int) -> Selection:
        last = epoch + 1 == self.phases.gate_epochs
        scores = self.gated.scores()
        if epoch == 0:
            with torch.no_grad():
                for one in scores:
                    one.fill_(self.aim.start)
            self._means = dict.fromkeys(self.gated.gates, self.aim.start)
            self._levels = {name: 0.0 for name in self.gated.gates if name not in self._required}
        scale = scale_at(epoch, self.phases.gate_epochs)
        self.gated.set_mode("soft", scale)
        weights = self._cost_weights()
        facts: dict[str, Any] = self._gate_epoch(epoch, weights)
        try:
            if self.aim.budget is not None:
                tightened = min(1.0, (epoch + 1) / (TIGHTENING * self.phases.gate_epochs))
                self._learn_levels()
                self._shift(weights, self.aim.budget**tightened)
            self._reopen_layers()
            genotype, masks = self.architecture()
        except Emptied as empty:
            raise _collapse(f"{self._pressure} collapses the network: {empty}") from None
        gates = np.concatenate([gate.values().detach().cpu().numpy() for gate in self.gated.gates.values()])
        if last:
            self._decide(masks)
        facts |= {"scale": scale, "undecided": int(((gates > 0.1) & (gates < 0.9)).sum())}
        self.gated.set_masks(masks)
        self.gated.set_mode("hard")
        with batch_statistics(self.gated):
            accuracy, loss = _measured(self.gated, self.data.selection)
        self._masks = masks
        facts |= {"valid": accuracy, "valid_loss": loss}
        ranking = np.concatenate([genotype[None], *([self._alternatives(genotype)] if last else [])])
        return Selection(ranking, self._facts("gates", genotype, facts))

    def _gate_epoch(self, epoch: int, weights: Mapping[str, float]) -> dict[str, float]:
        """Train the scores alone; every other parameter, and every statistic, is as before, bit for bit."""
        scores, penalty = self.gated.scores(), 0.0 if self.aim.penalty is None else self.aim.penalty
        optimizer = torch.optim.SGD(scores, lr=self.phases.gate_rate, momentum=self.phases.gate_momentum)
        price = [weights.get(name, 1.0) for name in self.gated.gates]
        told = _Told("the gates", epoch)
        key = [self.seed, 2, self.done]
        with batch_statistics(self.gated), _own_stream(key, self._gate_images.labels.device):
            for images, labels in self._gate_images.batches(self.phases.batch_size, key, crop=self.data.crop):
                logits = self.gated(images)
                loss = F.cross_entropy(logits, labels)
                fee = torch.stack([w * torch.sigmoid(one).sum() for w, one in zip(price, scores, strict=True)]).sum()
                gradients = torch.autograd.grad(loss + penalty * fee, scores)
                for one, gradient in zip(scores, gradients, strict=True):
                    one.grad = gradient
                optimizer.step()
                told.step(loss, logits, labels)
        for one in scores:
            one.grad = None
        return told.facts()

    # -- from scores to an architecture ------------------------------------------------------------------------------

    def architecture(self) -> tuple[NDArray[np.int64], Masks]:
        """Return the genotype ``(s,)`` and the masks that the present scores leave, floors and levels applied."""
        return self._kept(self._scores(), None)

    def _decide(self, masks: Masks) -> None:
        """Move the scores to the side of zero that the masks have them on, clear of it.

        Those that a floor, the levels or a closed branch overruled, or that training left undecided; under a budget
        all, where it drew the line.
        """
        with torch.no_grad():
            for name, gate in self.gated.gates.items():
                mask = torch.from_numpy(masks[name]).to(gate.scores.device)
                sure = torch.where(mask, gate.scores.clamp(min=CLEAR), gate.scores.clamp(max=-CLEAR))
                moved = (mask != (gate.scores > LEAST_SCORE)) | (gate.scores.abs() < LEAST_SCORE)
                if self.aim.budget is not None:
                    moved = torch.ones_like(moved)
                gate.scores.copy_(torch.where(moved, sure, gate.scores))

    @property
    def _widths(self) -> list[int]:
        return [len(one) for one in self.gated.scores()]

    def _scores(self) -> dict[str, NDArray[np.float64]]:
        return {name: gate.scores.detach().cpu().double().numpy() for name, gate in self.gated.gates.items()}

    def _kept(
        self, scores: Mapping[str, NDArray[np.float64]], shift: Mapping[str, float] | None
    ) -> tuple[NDArray[np.int64], Masks]:
        """Return genotype and masks of scores lowered by a shift a group, with floors and levels applied."""
        shift = shift or {}
        masks = {name: one - shift.get(name, 0.0) > LEAST_SCORE for name, one in scores.items()}
        for name in self._required:
            _open(masks[name], scores[name], self._floor(name))
        while True:
            counts = self.space.counts(self._genotype(masks)[None])[0]
            for (name, mask), count in zip(masks.items(), counts, strict=True):
                _open(mask, scores[name], int(count))
            try:
                masks = self.gated.settled(masks)
            except Emptied as empty:
                if self.aim.floor == 0:
                    raise
                self._reopen(masks, scores, empty)
            else:
                break
        return self._genotype(masks), masks

    def _genotype(self, masks: Masks) -> NDArray[np.int64]:
        return self.space.at_least(np.array([mask.sum() for mask in masks.values()])[None])[0]

    def _reopen(self, masks: Masks, scores: Mapping[str, NDArray[np.float64]], empty: Emptied) -> None:
        """Open the floor of the best of the groups without which nothing gets through."""
        groups = [group.name for group in self.gated.groups if set(group.layers) & set(empty.gates)]
        if not groups:  # nothing that one gate could mend, such as a product of channels that never meet
            raise empty
        best = max(groups, key=lambda name: float(scores[name].max()))
        _open(masks[best], scores[best], self.aim.floor)

    def _floor(self, name: str) -> int:
        """Return the channels that a required group keeps at least."""
        width = len(self.gated.gates[name].scores)
        return self.aim.floor if self.aim.budget is None else max(self.aim.floor, math.ceil(LEAST_SHARE * width))

    def _learn_levels(self) -> None:
        """Add up how far training has moved the mean score of what can vanish as a whole."""
        scores = self._scores()
        for name in self._levels:
            self._levels[name] += float(scores[name].mean()) - self._means[name]

    def _comparable(self, unit: float) -> dict[str, NDArray[np.float64]]:
        """Return scores by rank within each group: less x, they leave the best ``exp(-x)`` of its channels.

        A norm behind a group takes out any factor that its gates have in common, so their mean says nothing; without a
        norm, before the last linear layer, it says how sure the network should be, not which channels it needs. Spreads
        are those of noisy gradients. So groups that the network needs are told apart by their price alone. What can
        vanish as a whole, a branch, also counts its level, in units, against the mean of all such.
        """
        found = {}
        for name, one in self._scores().items():
            behind = (-one).argsort(kind="stable").argsort(kind="stable")  # 0 for the best
            found[name] = -np.log((behind + 0.5) / len(one))
        if self._levels:
            middle = float(np.mean(list(self._levels.values())))
            for name, level in self._levels.items():
                found[name] += (level - middle) / unit
        return found

    def _shift(self, weights: Mapping[str, float], share: float) -> None:
        """Lower comparable scores, by their group's weight, no further than to a share of the full network's cost."""
        unit = max(float(np.median([one.std() for one in self._scores().values()])), CLEAR)
        ranks = self._comparable(unit)

        def shifted(by: float) -> dict[str, NDArray[np.float64]]:
            return {name: CLEAR + unit * (one - by * weights.get(name, 1.0)) for name, one in ranks.items()}

        def fits(by: float) -> bool:
            genotype, masks = self._kept(shifted(by), None)
            return self._cost(genotype, masks) <= share * self._full_cost

        least = min((w for w in weights.values() if w > 0), default=1.0)
        low, high = 0.0, (1 + max(float(one.max()) for one in ranks.values())) / max(least, 1e-3)
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        with torch.no_grad():
            for name, scores in shifted(0.0 if fits(0.0) else high).items():
                self.gated.gates[name].scores.copy_(torch.from_numpy(scores))
                self._means[name] = float(scores.mean())

    # -- cost --------------------------------------------------------------------------------------------------------

    def _cost(self, genotype: NDArray[np.int64], masks: Masks | None = None) -> float:
        """Return the cost of widths; which channels they are makes no difference but where a branch is closed."""
        if self.aim.cost == "count":
            return float(self.space.counts(genotype[None]).sum())
        if self.model is not None:
            predicted = float(np.asarray(self.model(genotype[None]))[0])
            if not (math.isfinite(predicted) and predicted > 0):
                widths = self.space.to_string(genotype[None])[0]
                raise InputError(f"a cost model has to predict numbers above zero, got {predicted} for {widths}")
            return predicted
        if masks is None:
            masks = self.gated.settled(self.gated.masks_of(self.space.counts(genotype[None])[0], self._scores()))
        cost = self.gated.cost(masks)
        return float(cost.params if self.aim.cost == "params" else cost.flops)

    def _cost_weights(self) -> dict[str, float]:
        """Return what a channel of each group costs in the full network, 1 on average over all channels."""
        if self.aim.cost == "count":
            return {}
        genotype = self.space.full
        here = self._cost(genotype)
        prices = []
        for site in range(len(genotype)):
            other = genotype.copy()
            other[site] -= genotype[site] > 0
            channels = np.diff(self.space.counts(np.stack([genotype, other]))[:, site])[0]
            prices.append(max(0.0, (self._cost(other) - here) / channels) if channels else 0.0)
        mean = float(np.average(prices, weights=self._widths))
        if not (mean > 0 and math.isfinite(mean)):
            raise InputError(f"the cost {self.aim.cost!r} sees no difference between widths; there is nothing to save")
        return {name: price / mean for name, price in zip(self.gated.gates, prices, strict=True)}

    # -- what is told ------------------------------------------------------------------------------------------------

    def _reopen_layers(self) -> None:
        """Open the floor of every required layer that has really closed, as far as its present scale goes.

        Stops where a penalty has closed a layer without floor, or more than half of the layers with one.
        """
        gates = self.gated.gates
        empty = [
            name for name in gates if name in self._required and float(gates[name].values().detach().max()) < 1 - KEPT
        ]
        most = len(self._required) / 2 if self.aim.floor else 0
        if self.aim.penalty is not None and len(empty) > most:
            raise _collapse(
                f"{self._pressure} collapses the network: it closes all channels of {len(empty)} of the "
                f"{len(self._required)} layers that the network cannot do without ({', '.join(empty)})"
            )
        with torch.no_grad():
            for name in empty:
                best = gates[name].scores.argsort(descending=True, stable=True)[: self._floor(name)]
                gates[name].scores[best] = LEAST_SCORE * LAST_SCALE / gates[name].scale

    @property
    def _guess(self) -> float:
        """An accuracy within reach of guessing."""
        labels = self.data.selection.labels
        share = float(torch.bincount(labels).max()) / len(labels)
        return share + 2 * math.sqrt(share * (1 - share) / len(labels))

    def _refuse_guessing(self, accuracy: float) -> None:
        """Stop where the trained slim network is no better than guessing, and the full one was."""
        if accuracy <= self._guess < self._full_accuracy:
            raise _collapse(
                f"{self._pressure} collapses the network: right about {accuracy:.1%} of the images when fine-tuned, "
                f"within reach of guessing ({self._guess:.1%}), where the full one was about {self._full_accuracy:.1%}"
            )

    @property
    def _pressure(self) -> str:
        return f"a budget of {self.aim.budget}" if self.aim.penalty is None else f"a penalty of {self.aim.penalty:g}"

    def _alternatives(self, genotype: NDArray[np.int64]) -> Genotypes:
        """Return what the same order of channels would leave at other thresholds, the nearest in size first."""
        scores = self._scores()
        every = np.sort(np.concatenate(list(scores.values())))
        found = []
        for threshold in every[np.linspace(0, len(every) - 1, 2 * ALTERNATIVES).astype(int)]:
            try:
                found.append(self._kept(scores, dict.fromkeys(scores, float(threshold)))[0])
            except Emptied:
                continue
        rows = np.unique(np.array(found, dtype=np.int64).reshape(-1, self.space.n_sites), axis=0)
        rows = rows[(rows != genotype).any(axis=1)]
        total = self.space.counts(rows).sum(axis=1) - self.space.counts(genotype[None]).sum()
        return rows[np.argsort(np.abs(total), kind="stable")][:ALTERNATIVES]

    def _selected(self, phase: str, net: nn.Module, genotype: NDArray[np.int64], facts: Mapping[str, Any]) -> Selection:
        net.eval()
        accuracy, loss = _measured(net, self.data.selection)
        ranking = genotype[None]
        if self.done + 1 == self.stages:
            ranking = np.concatenate([ranking, self._alternatives(genotype)])
        return Selection(ranking, self._facts(phase, genotype, {**facts, "valid": accuracy, "valid_loss": loss}))

    def _facts(self, phase: str, genotype: NDArray[np.int64], facts: Mapping[str, Any]) -> dict[str, Any]:
        counts = self.space.counts(genotype[None])[0]
        share = self._cost(genotype, self._masks) / self._full_cost
        return {"phase": phase, **facts, "channels": counts.tolist(), "cost": share}

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {
            "gated": self.gated.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "full_accuracy": self._full_accuracy,
            "levels": self._levels,
            "means": self._means,
            "masks": None if self._masks is None else {k: torch.from_numpy(v) for k, v in self._masks.items()},
            "slim": None if self._slim is None else self._slim.state_dict(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.gated.load_state_dict(state["gated"])
        self._full_accuracy = float(state["full_accuracy"])
        self._levels, self._means = dict(state["levels"]), dict(state["means"])
        if state["masks"] is not None:
            self._masks = {name: mask.numpy() for name, mask in state["masks"].items()}
        if state["slim"] is not None:
            self._build_slim()
            assert self._slim is not None
            self._slim.load_state_dict(state["slim"])
        self._optimizer.load_state_dict(state["optimizer"])


class _Told:
    """Loss and accuracy of an epoch as it goes; refuses a loss that is no number."""

    def __init__(self, what: str, epoch: int):
        self._what, self._epoch = what, epoch
        self._loss, self._right, self._seen = 0.0, 0, 0

    def step(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self._loss += float(loss.detach()) * len(labels)
        self._right += int((logits.detach().argmax(dim=1) == labels).sum())
        self._seen += len(labels)

    def facts(self) -> dict[str, float]:
        if not math.isfinite(self._loss):
            raise TrainingError(f"the loss of {self._what} became {self._loss / self._seen} in epoch {self._epoch + 1}")
        return {"train": self._right / self._seen, "train_loss": self._loss / self._seen}


@torch.no_grad()
def _measured(net: nn.Module, part: Part) -> tuple[float, float]:
    """Return accuracy and loss of a network in the mode it is in."""
    right, loss = 0, 0.0
    for images, labels in part.chunks(BATCH):
        logits = net(images)
        right += int((logits.argmax(dim=1) == labels).sum())
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    return right / len(part), loss / len(part)


@contextmanager
def _own_stream(key: list[int], device: torch.device) -> Iterator[None]:
    """Let dropout, which draws from the device's global stream, draw from one of its own."""
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for one in cuda:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(seed)
        yield


def _open(mask: Mask, scores: NDArray[np.float64], count: int) -> None:
    """Open the best closed gates until ``count`` are open."""
    missing = count - int(mask.sum())
    if missing > 0:
        closed = np.flatnonzero(~mask)
        mask[closed[np.argsort(-scores[closed], kind="stable")[:missing]]] = True


def _collapse(message: str) -> TrainingError:
    error = TrainingError(message)
    error.remedy = "Lower the penalty, raise the budget, or set a floor"
    return error
