"""The strategy that learns how many channels each layer needs: DNAL.

Imports no torch: a strategy is known, and its options are checked, before anything is trained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError, UnknownNameError
from nasplug.images import Images
from nasplug.spaces import Genotypes
from nasplug.spaces.widths import WidthSpace
from nasplug.strategies.supernet.run import require_torch
from nasplug.strategies.supernet.strategy import SupernetStrategy

if TYPE_CHECKING:
    from torch import nn

    from nasplug.strategies.supernet.method import Method

__all__ = ["DNAL"]

_SAMPLE = 64
"""Architectures that tell one cost model from another."""


@dataclass(frozen=True, kw_only=True)
class DNAL(SupernetStrategy):
    """DNAL: gates on channels, trained while they turn binary, propose the widths of every layer.

    Source: Guo et al., Differentiable neural architecture learning for efficient neural networks, Pattern Recognition
    126 (2022) 108448, arXiv 2103.02126. Every epoch is a stage: of the weights (the full network), of the gates (the
    widths they leave), of the slim network, which is fine-tuned. Then come the widths that other thresholds on the
    same gates would leave. Differs: see :class:`nasplug.strategies.supernet.channel_gates.Gating`.

    Args:
        budget: largest share of the full network's cost; 0.25 where no penalty is given.
        penalty: the published way, a lambda in the loss of the gates; it has to grow as the steps of an epoch shrink
            (3e-2 on digits does what 1e-4 does on ImageNet).
        cost: what is to be saved: ``params``, ``flops``, or ``count`` of channels, as published; ``model`` with one.
        weight_epochs, gate_epochs, tuning_epochs: of the three phases.
        batch_size: images a step.
        learning_rate: of the weights, at the start of a cosine; half of it fine-tunes.
        gate_rate: learning rate of the gates.
        floor: channels that every layer keeps which the network cannot do without.
        share: of the images that weights are trained on; the others judge.
        held_out: train the gates on those others, not on the images of the weights, as published.
        residual: gates where outputs of layers are added: ``tied``, ``own`` or ``none``.
        network: a torch module of one's own, for a space that
            :func:`nasplug.strategies.supernet.channel_gates.space_of` made of it; its weights are where training
            starts.
        model: a cost model of the space, such as a fitted one of :mod:`nasplug.cost_models`: what has ``predict``, or
            a function, from genotypes ``(n, s)`` to milliseconds ``(n,)``.

    Raises:
        UnknownNameError: another cost or treatment of residuals.
        InputError: both penalty and budget; a space that is not of widths; numbers out of range.
    """

    budget: float | None = None
    penalty: float | None = None
    cost: Literal["params", "flops", "count", "model"] = "params"
    weight_epochs: int = 20
    gate_epochs: int = 10
    tuning_epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.1
    gate_rate: float = 0.01
    floor: int = 1
    share: float = 0.8
    held_out: bool = False
    residual: Literal["tied", "own", "none"] = "tied"
    network: Any = None
    model: Any = None

    spaces: ClassVar = ("vgg-widths", "resnet-widths", "mobilenet-widths")

    def __post_init__(self) -> None:
        if self.network is None:
            super().__post_init__()
        if not isinstance(self.whole_space, WidthSpace):
            raise InputError(f"DNAL searches widths; space {self.whole_space.name!r} is no WidthSpace")
        if self.budget is not None and self.penalty is not None:
            raise InputError(f"give a budget or a penalty, not both: got {self.budget} and {self.penalty}")
        for what, value, known in (
            ("cost", self.cost, ("params", "flops", "count", "model")),
            ("treatment of residuals", self.residual, ("tied", "own", "none")),
        ):
            if value not in known:
                raise UnknownNameError(what, str(value), known)
        if (self.cost == "model") != (self.model is not None):
            raise InputError(f"cost={self.cost!r} and model={self.model!r} do not go together")
        if self.network is None and self.residual != "tied":
            raise InputError(f"widths of {self.whole_space.name!r} are those of tied residuals, got {self.residual!r}")
        if min(self.weight_epochs, self.gate_epochs, self.tuning_epochs) < 1:
            raise InputError("each phase lasts at least 1 epoch")

    def _facts(self, images: Images, seed: int) -> dict[str, Any]:
        facts = super()._facts(images, seed)
        facts["options"] |= {"network": None, "model": None}
        if self.network is not None:  # what it computes, not only its layers: its forward may have been edited
            require_torch()
            from nasplug.spaces.modules.gating import trace

            digest = hashlib.blake2b((str(self.network) + trace(self.network).code).encode(), digest_size=16)
            for name, value in self.network.state_dict().items():
                digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
            facts["options"]["network"] = digest.hexdigest()
        if self.model is not None:
            sample = self.whole_space.sample(_SAMPLE, np.random.default_rng(0))
            predicted = np.asarray(self._predict()(sample), dtype=np.float64)
            facts["options"]["model"] = hashlib.blake2b(predicted.tobytes(), digest_size=16).hexdigest()
        return facts

    def _predict(self) -> Callable[[Genotypes], NDArray[np.float64]]:
        predict: Callable[[Genotypes], NDArray[np.float64]] = getattr(self.model, "predict", self.model)
        return predict

    def _stages(self, images: Images) -> int:
        return self.weight_epochs + self.gate_epochs + self.tuning_epochs

    def _method(self, images: Images, seed: int) -> Method:
        from nasplug.spaces.modules.gating import Gated
        from nasplug.strategies.supernet.channel_gates import Aim, Gating, Phases
        from nasplug.strategies.supernet.data import halves

        assert isinstance(self.whole_space, WidthSpace)
        data = halves(images, share=self.share, device=self.device)
        net = self._network(data.classes, data.channels, seed) if self.network is None else self.network
        gated = Gated(net, (data.channels, data.side, data.side), residual=self.residual)
        phases = Phases(
            self.weight_epochs,
            self.gate_epochs,
            self.tuning_epochs,
            self.batch_size,
            self.learning_rate,
            self.learning_rate / 2,
            gate_rate=self.gate_rate,
        )
        budget = 0.25 if self.budget is None and self.penalty is None else self.budget
        aim = Aim(self.penalty, budget, self.cost, self.floor)
        model = None if self.model is None else self._predict()
        return Gating(gated, self.whole_space, data, phases, aim, seed, held_out=self.held_out, model=model)

    def _network(self, classes: int, in_channels: int, seed: int) -> nn.Module:
        from nasplug.spaces.modules.build import network

        full = self.whole_space.n_choices - 1
        return network(self.whole_space, full, classes=classes, in_channels=in_channels, seed=seed)
