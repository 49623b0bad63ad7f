"""From devices measured often to one measured a few times: fine-tuning, the published way and ours.

Shapes: n architectures; b base devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nasplug.cost_models.base import BankModel, LatencyBank
from nasplug.cost_models.corrected import Corrected, fit_corrected
from nasplug.cost_models.features import Features
from nasplug.cost_models.mlp import MLP, MLPPaper, check_training, chunked, paper_encoding, restored_network
from nasplug.cost_models.perceptron import Perceptron, Recipe, train
from nasplug.errors import InputError
from nasplug.spaces import Genotypes

__all__ = ["Transfer", "TransferPaper"]

REFERENCE = 3000
"""Networks drawn, always the same, over which the bases' predictions are standardised."""


@dataclass(kw_only=True, eq=False)
class Transfer(BankModel):
    """Fine-tune models of other devices: what they predict, what layers cost here, then the network.

    :meth:`pretrain` fits an :class:`MLP` on each device of the bank. :meth:`fit` regresses the new device on their
    predictions and on :class:`Features` at once, by ridge with the predictions scaled up, so that few measurements
    lean on the bases and many need not; from 300 on, the network of the weightiest base is trained further, all
    layers, on what is left, and believed as far as it holds on measurements that it does not see.

    Source: the setting is arXiv:2101.00732's, whose method is :class:`TransferPaper`. The scale was chosen on
    NAS-Bench-201 devices of shared data and on rows 7,000 to 8,499 of the two tables of that paper.

    Args:
        scale: of the bases' predictions among the features; larger leans on them more.
        hidden, epochs, learning_rate, weight_decay, batch: as in :class:`MLP`, of the bases and of fine-tuning.
        seed: of the first weights and of the order of the rows.

    Raises: InputError for an option out of range.
    """

    scale: float = 30.0
    hidden: str = "256-128"
    epochs: int = 40
    learning_rate: float = 3e-3
    weight_decay: float = 1.0
    batch: int = 128
    seed: int = 0
    _bases: dict[str, Corrected] = field(default_factory=dict, init=False, repr=False)
    _spread: NDArray[np.float64] = field(default_factory=lambda: np.empty((2, 0)), init=False, repr=False)
    _pool: Genotypes | None = field(default=None, init=False, repr=False)
    _function: Corrected | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_training(self)
        if not 0 < self.scale < 1e6:
            raise InputError(f"Transfer expects a scale above 0 and below 1e6, got {self.scale}")

    @property
    def fitted(self) -> bool:
        return self._function is not None

    @property
    def sources(self) -> tuple[str, ...]:
        """The devices of the bases."""
        return tuple(self._bases)

    @cached_property
    def features(self) -> Features:
        """The features of the space, made once."""
        return Features(self.space)

    def pretrain(self, bank: LatencyBank) -> Self:
        _check_bank(self, bank)
        options = ("hidden", "epochs", "learning_rate", "weight_decay", "batch", "seed")
        bases = {}
        for device in bank.devices:
            known = ~np.isnan(bank.on(device))
            base = MLP(space=self.space, **{name: getattr(self, name) for name in options})
            base.fit(bank.genotypes[known], bank.on(device)[known], device=device)
            bases[device] = base.function
        return self._start_from(bases, bank.genotypes)

    def _start_from(self, bases: dict[str, Corrected], pool: Genotypes | None) -> Self:
        self._bases, self._pool, self._function = bases, pool, None
        rows = self.features.sites(self.space.sample(REFERENCE, np.random.default_rng(0)))
        predicted = np.stack([base(rows) for base in bases.values()], axis=1)
        self._spread = np.stack([predicted.mean(axis=0), np.maximum(predicted.std(axis=0), 1e-12) / self.scale])
        return self

    def suggest(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Return ``n`` architectures of the bank, ``(n, s)``, one of each n-th part when ranked by predicted latency.

        Random within its part: on the validation rows, networks chosen to differ most taught less than random ones.

        Raises: InputError before :meth:`pretrain`, or for more than the bank holds.
        """
        pool = _pool_of(self, self._pool, n)
        ranked = pool[np.argsort(self._based(self.features.sites(pool)).mean(axis=1), kind="stable")]
        edges = np.linspace(0, len(pool), n + 1).astype(int)
        return ranked[rng.integers(edges[:-1], edges[1:])]

    def _based(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the bases' predictions, standardised over the space and scaled, ``(n, b)``."""
        predicted = np.stack([base(rows) for base in self._bases.values()], axis=1)
        return (predicted - self._spread[0]) / self._spread[1]

    def _fit(self, genotypes: Genotypes, ms: NDArray[np.float64]) -> None:
        if not self._bases:
            raise InputError("Transfer needs pretrain(bank) before fit; for one device alone use mlp")
        further = self._based(self.features.sites(genotypes))
        base = MLP(space=self.space, epochs=self.epochs, learning_rate=self.learning_rate,
                   weight_decay=self.weight_decay, batch=self.batch)  # fmt: skip
        nearest = int(np.argmax(np.abs(np.corrcoef(further.T, ms)[-1, :-1]))) if len(ms) > 2 else 0
        start = list(self._bases.values())[nearest].network
        self._function = fit_corrected(self.features, genotypes, ms, start, base.recipe(), self.seed, further)

    def _predict(self, genotypes: Genotypes) -> NDArray[np.float64]:
        function = self._function
        assert function is not None

        def some_ms(some: Genotypes) -> NDArray[np.float64]:
            rows = self.features.sites(some)
            return function(rows, self._based(rows))

        return chunked(some_ms, genotypes)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        assert self._function is not None
        arrays: dict[str, NDArray[Any]] = {"sources": np.array(list(self._bases))}
        for prefix, part in [
            ("target", self._function),
            *((f"base_{i}", b) for i, b in enumerate(self._bases.values())),
        ]:
            arrays |= {f"{prefix}.{name}": values for name, values in part.arrays().items()}
        return arrays

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        def part(prefix: str) -> dict[str, NDArray[Any]]:
            return {k.removeprefix(f"{prefix}."): v for k, v in arrays.items() if k.startswith(f"{prefix}.")}

        sources = [str(name) for name in arrays["sources"]]
        if not sources:
            raise ValueError("it has no base")
        width = self.features.width
        self._start_from(
            {name: Corrected.from_arrays(part(f"base_{i}"), width) for i, name in enumerate(sources)}, None
        )
        self._function = Corrected.from_arrays(part("target"), width, len(sources))


@dataclass(kw_only=True, eq=False)
class TransferPaper(BankModel):
    """The published fine-tuning: the hidden layers of a base device stay, a new output layer is trained.

    :meth:`pretrain` trains an :class:`MLPPaper` on the one device of the bank; :meth:`fit` replaces its output layer by
    a random one, 401 numbers, and trains only that.

    Source: Syed and Srinivasan, arXiv:2101.00732 and the authors' code (SGD 0.1, weight decay 1e-3, momentum 0.9,
    batch 32, 100 epochs, the loss of :class:`MLPPaper`).

    Args:
        epochs, learning_rate, weight_decay, momentum, batch: of fine-tuning.
        base_epochs, base_learning_rate, base_weight_decay, base_momentum: of the base.
        hidden: widths of the hidden layers.
        seed: of weights and of the order of the rows.

    Raises: InputError for an option out of range.
    """

    epochs: int = 100
    learning_rate: float = 0.1
    weight_decay: float = 1e-3
    momentum: float = 0.9
    batch: int = 32
    base_epochs: int = 100
    base_learning_rate: float = 1e-2
    base_weight_decay: float = 1e-4
    base_momentum: float = 0.9
    hidden: str = "400-400-400"
    seed: int = 0
    _base: Perceptron | None = field(default=None, init=False, repr=False)
    _pool: Genotypes | None = field(default=None, init=False, repr=False)
    _network: Perceptron | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_training(self)
        self._base_model()

    def _base_model(self) -> MLPPaper:
        return MLPPaper(
            space=self.space,
            hidden=self.hidden,
            epochs=self.base_epochs,
            learning_rate=self.base_learning_rate,
            weight_decay=self.base_weight_decay,
            momentum=self.base_momentum,
            seed=self.seed,
        )

    @property
    def fitted(self) -> bool:
        return self._network is not None

    def pretrain(self, bank: LatencyBank) -> Self:
        """Train the base on the bank's device and return the model; raises InputError unless there is exactly one."""
        _check_bank(self, bank)
        if len(bank.devices) != 1:
            raise InputError(
                f"transfer-paper fine-tunes one base device, the bank has {', '.join(bank.devices)}; "
                "give it bank.only([DEVICE])"
            )
        ms = bank.on(bank.devices[0])
        known = ~np.isnan(ms)
        self._base = self._base_model().fit(bank.genotypes[known], ms[known]).network
        self._pool, self._network = bank.genotypes, None
        return self

    def suggest(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Return ``n`` random architectures of the bank, ``(n, s)``; raises InputError as any bank model."""
        pool = _pool_of(self, self._pool, n)
        return pool[rng.permutation(len(pool))[:n]]

    def _fit(self, genotypes: Genotypes, ms: NDArray[np.float64]) -> None:
        if self._base is None:
            raise InputError("TransferPaper needs pretrain(bank) before fit; for one device alone use mlp-paper")
        rng = np.random.default_rng([self.seed, 1])
        recipe = Recipe(
            "sgd", self.learning_rate, self.weight_decay, self.epochs, self.batch, self.momentum, layers="output"
        )
        rows = self.space.encode(genotypes, paper_encoding(self.space))
        self._network = train(self._base.with_output(rng), rows, ms, recipe, rng)

    def _predict(self, genotypes: Genotypes) -> NDArray[np.float64]:
        network = self._network
        assert network is not None
        return chunked(lambda some: network(self.space.encode(some, paper_encoding(self.space))), genotypes)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        assert self._network is not None
        return self._network.arrays()

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._network = restored_network(arrays, self.space)
        self._base = self._network


def _check_bank(model: BankModel, bank: LatencyBank) -> None:
    if bank.space != model.space:
        raise InputError(f"the bank is of space {bank.space.name!r}, the model of {model.space.name!r}")
    for device in bank.devices:
        if np.isnan(bank.on(device)).all():
            raise InputError(f"the bank has no measurement of {device!r}; leave that device out")


def _pool_of(model: BankModel, pool: Genotypes | None, n: int) -> Genotypes:
    if pool is None:
        raise InputError(f"{type(model).__name__} needs pretrain(bank) before it can suggest what to measure")
    if not 1 <= n <= len(pool):
        raise InputError(f"expected between 1 and {len(pool)} architectures to measure, got {n}")
    return pool
