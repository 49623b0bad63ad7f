"""The method of DNAL: weights, then channel gates, then the slim network, each by itself.

Shapes: s groups of channels, one a site of the space; C channels of a group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from nasplug.errors import InputError, TrainingError
from nasplug.spaces.modules.flow import Emptied
from nasplug.spaces.modules.gates import LAST_SCALE, scale_at
from nasplug.spaces.modules.gating import Gated
from nasplug.spaces.modules.slimming import slimmed
from nasplug.spaces.widths import WidthSpace
from nasplug.strategies.supernet.channel_budget import ChannelBudget
from nasplug.strategies.supernet.channel_choice import KEPT, LEAST_SCORE, ChannelChoice, CostModel, Masks
from nasplug.strategies.supernet.data import Halves, Part
from nasplug.strategies.supernet.evaluation import BATCH, batch_statistics
from nasplug.strategies.supernet.method import Method, Selection

__all__ = ["Aim", "Gating", "Phases", "space_of"]

LEAST_SHARE = 0.1
"""Share of a layer's channels that a budget leaves where the network cannot do without the layer."""

TIGHTENING = 0.6
"""Share of the gate epochs over which a budget is tightened; later gates hardly move."""


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
        self.phases, self.aim, self.seed = phases, aim, seed
        self.stages = phases.epochs
        self._gate_images = data.selection if held_out else data.weights
        self._slim: fx.GraphModule | None = None
        self._masks: Masks | None = None
        self._full_accuracy = 0.0
        self._optimizer = self._weight_optimizer(self.gated.weights(), phases.learning_rate)
        share = 0.0 if aim.budget is None else LEAST_SHARE
        self._choice = ChannelChoice(self.gated, space, cost=aim.cost, model=model, floor=aim.floor, share=share)
        self._budget = None if aim.budget is None else ChannelBudget(self._choice, aim.start)
        self._require_logits()
        if aim.budget is not None and (least := self._choice.least()) > aim.budget:
            raise InputError(
                f"the narrowest network costs {least:.3g} of the full one, the budget is {aim.budget:.3g}; raise it, "
                f"or lower the floor of {aim.floor} or the least widths of space {space.name!r}"
            )

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
        selection = self._selected("tuning", self._slim, self._choice.genotype(self._masks), facts)
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
        scale = scale_at(epoch, self.phases.gate_epochs)
        self.gated.set_mode("soft", scale)
        prices = self._choice.prices()
        facts: dict[str, Any] = self._gate_epoch(epoch, prices)
        try:
            if self._budget is not None:
                assert self.aim.budget is not None
                tightened = min(1.0, (epoch + 1) / (TIGHTENING * self.phases.gate_epochs))
                self._budget.press(prices, self.aim.budget**tightened)
            self._reopen_layers()
            genotype, masks = self.architecture()
        except Emptied as empty:
            raise _collapse(f"{self._pressure} collapses the network: {empty}") from None
        gates = np.concatenate([gate.values().detach().cpu().numpy() for gate in self.gated.gates.values()])
        if last:
            # A budget drew the line itself, so no score near it means anything.
            self._choice.decide(masks, everywhere=self._budget is not None)
        facts |= {"scale": scale, "undecided": int(((gates > 0.1) & (gates < 0.9)).sum())}
        self.gated.set_masks(masks)
        self.gated.set_mode("hard")
        with batch_statistics(self.gated):
            accuracy, loss = _measured(self.gated, self.data.selection)
        self._masks = masks
        facts |= {"valid": accuracy, "valid_loss": loss}
        ranking = np.concatenate([genotype[None], *([self._choice.alternatives(genotype)] if last else [])])
        return Selection(ranking, self._facts("gates", genotype, facts))

    def _gate_epoch(self, epoch: int, prices: Mapping[str, float]) -> dict[str, float]:
        """Train the scores alone; every other parameter, and every statistic, is as before, bit for bit."""
        scores, penalty = self.gated.scores(), 0.0 if self.aim.penalty is None else self.aim.penalty
        optimizer = torch.optim.SGD(scores, lr=self.phases.gate_rate, momentum=self.phases.gate_momentum)
        told = _Told("the gates", epoch)
        key = [self.seed, 2, self.done]
        with batch_statistics(self.gated), _own_stream(key, self._gate_images.labels.device):
            for images, labels in self._gate_images.batches(self.phases.batch_size, key, crop=self.data.crop):
                logits = self.gated(images)
                loss = F.cross_entropy(logits, labels)
                fees = [prices[name] * torch.sigmoid(gate.scores).sum() for name, gate in self.gated.gates.items()]
                gradients = torch.autograd.grad(loss + penalty * torch.stack(fees).sum(), scores)
                for one, gradient in zip(scores, gradients, strict=True):
                    one.grad = gradient
                optimizer.step()
                told.step(loss, logits, labels)
        for one in scores:
            one.grad = None
        return told.facts()

    def architecture(self) -> tuple[NDArray[np.int64], Masks]:
        """Return the genotype ``(s,)`` and the masks that the present scores leave, floors and levels applied."""
        return self._choice.kept(self._choice.scores())

    # -- what is told ------------------------------------------------------------------------------------------------

    def _reopen_layers(self) -> None:
        """Open the floor of every required layer that has really closed, as far as its present scale goes.

        Stops where a penalty has closed a layer without floor, or more than half of the layers with one.
        """
        gates, required = self.gated.gates, self._choice.required
        empty = [name for name in gates if name in required and float(gates[name].values().detach().max()) < 1 - KEPT]
        most = len(required) / 2 if self.aim.floor else 0
        if self.aim.penalty is not None and len(empty) > most:
            raise _collapse(
                f"{self._pressure} collapses the network: it closes all channels of {len(empty)} of the "
                f"{len(required)} layers that the network cannot do without ({', '.join(empty)})"
            )
        with torch.no_grad():
            for name in empty:
                best = gates[name].scores.argsort(descending=True, stable=True)[: self._choice.floor_of(name)]
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

    def _selected(self, phase: str, net: nn.Module, genotype: NDArray[np.int64], facts: Mapping[str, Any]) -> Selection:
        net.eval()
        accuracy, loss = _measured(net, self.data.selection)
        ranking = genotype[None]
        if self.done + 1 == self.stages:
            ranking = np.concatenate([ranking, self._choice.alternatives(genotype)])
        return Selection(ranking, self._facts(phase, genotype, {**facts, "valid": accuracy, "valid_loss": loss}))

    def _facts(self, phase: str, genotype: NDArray[np.int64], facts: Mapping[str, Any]) -> dict[str, Any]:
        counts = self.space.counts(genotype[None])[0]
        share = self._choice.cost(genotype, self._masks) / self._choice.full_cost
        return {"phase": phase, **facts, "channels": counts.tolist(), "cost": share}

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {
            "gated": self.gated.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "full_accuracy": self._full_accuracy,
            "budget": None if self._budget is None else {"levels": self._budget.levels, "means": self._budget.means},
            "masks": None if self._masks is None else {k: torch.from_numpy(v) for k, v in self._masks.items()},
            "slim": None if self._slim is None else self._slim.state_dict(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.gated.load_state_dict(state["gated"])
        self._full_accuracy = float(state["full_accuracy"])
        if self._budget is not None:
            self._budget.levels, self._budget.means = dict(state["budget"]["levels"]), dict(state["budget"]["means"])
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


def _collapse(message: str) -> TrainingError:
    error = TrainingError(message)
    error.remedy = "Lower the penalty, raise the budget, or set a floor"
    return error
