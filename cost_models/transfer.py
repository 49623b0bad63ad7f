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
from scipy.optimize import nnls

from nasplug.cost_models.base import BankModel, LatencyBank
from nasplug.cost_models.corrected import Corrected, fit_corrected
from nasplug.cost_models.features import Features, kernel_sums
from nasplug.cost_models.mlp import MLP, MLPPaper, check_training, chunked, paper_encoding, restored_network
from nasplug.cost_models.perceptron import Perceptron, Recipe, layer_sizes, train
from nasplug.cost_models.workload import Kind
from nasplug.errors import InputError
from nasplug.spaces import Genotypes

__all__ = ["KernelTimes", "Transfer", "TransferPaper"]

REFERENCE = 3000
"""Networks drawn, always the same, over which the bases' predictions are standardised."""


@dataclass(frozen=True)
class KernelTimes:
    """Milliseconds of what networks make a device do, whatever space they are of.

    Attributes:
        kernel_ms: of each column of :func:`kernel_sums` and, last, of every network, none below zero.
    """

    kernel_ms: NDArray[np.float64]

    @classmethod
    def fitted(cls, sums: NDArray[np.float64], ms: NDArray[np.float64]) -> KernelTimes:
        """Return the times with the least relative errors; ``sums`` ``(n, 36)``, ``ms`` ``(n,)``, NaN for unknown."""
        known = ~np.isnan(ms)
        columns = np.column_stack([sums, np.ones(len(sums))])[known] / ms[known, None]
        return cls(nnls(columns, np.ones(len(columns)))[0])

    def __call__(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return milliseconds ``(n,)``."""
        ms: NDArray[np.float64] = sums @ self.kernel_ms[:-1] + self.kernel_ms[-1]
        return ms

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the times by name; :meth:`from_arrays` takes them back."""
        return {"kernel_ms": self.kernel_ms}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> KernelTimes:
        """Read :meth:`arrays`; raises ValueError where they are not finite times of 36 columns and a constant."""
        times = np.asarray(arrays["kernel_ms"], dtype=np.float64)
        if times.shape != (4 * len(Kind) + 1,) or not np.isfinite(times).all():
            raise ValueError("its kernel times are not those of this version")
        return cls(times)


Base = Corrected | KernelTimes

_NO_BANK = "{self} needs pretrain(bank), on the command line --bank TABLE, before fit; for one device alone use {alone}"


@dataclass(kw_only=True, eq=False)
class Transfer(BankModel):
    """Fine-tune models of other devices: what they predict, what layers cost here, then the network.

    :meth:`pretrain` fits an :class:`MLP` on each device of the bank. A bank of another space serves as well, where the
    networks of both are described: its bases are then :class:`KernelTimes`, which predict any network made of such
    kernels; they help below some 20 measurements, between networks of one family. :meth:`fit` regresses the new device
    on the bases' predictions and on :class:`Features` at once, by ridge with the predictions scaled up, so that few
    measurements lean on the bases and many need not; from 300 on, the network of the base that correlates best is
    trained further, all layers, on what is left, and believed as far as it holds on measurements that it does not see.

    Source: the setting is arXiv:2101.00732's, whose method is :class:`TransferPaper`. The scale was chosen on
    NAS-Bench-201 and FBNet devices of shared data and on rows 7,000 to 8,499 of the two tables of that paper.

    Args:
        scale: of the bases' predictions among the features; larger leans on them more.
        hidden, epochs, learning_rate, weight_decay, batch: as in :class:`MLP`, of the bases and of fine-tuning.
        seed: of the first weights and of the order of the rows.

    Raises: InputError for an option out of range.
    """

    scale: float = 30.0
    hidden: str | int = "256-128"
    epochs: int = 40
    learning_rate: float = 3e-3
    weight_decay: float = 1.0
    batch: int = 128
    seed: int = 0
    _bases: dict[str, Base] = field(default_factory=dict, init=False, repr=False)
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
        """Fit a base on each device of the bank and return the model.

        Raises: InputError for a device without a measurement, or a bank of another space where the networks of either
            are not described.
        """
        _check_measured(bank)
        if bank.space == self.space:
            return self._start_from({device: self._network(bank, device) for device in bank.devices}, bank.genotypes)
        sums = kernel_sums(bank.space, bank.genotypes)
        bases: dict[str, Base] = {device: KernelTimes.fitted(sums, bank.on(device)) for device in bank.devices}
        return self._start_from(bases, self.space.sample(REFERENCE, np.random.default_rng(1)))

    def _plain(self) -> MLP:
        options = ("hidden", "epochs", "learning_rate", "weight_decay", "batch", "seed")
        return MLP(space=self.space, **{name: getattr(self, name) for name in options})

    def _network(self, bank: LatencyBank, device: str) -> Corrected:
        known = ~np.isnan(bank.on(device))
        return self._plain().fit(bank.genotypes[known], bank.on(device)[known]).function

    def _start_from(self, bases: Mapping[str, Base], pool: Genotypes | None) -> Self:
        self._bases, self._pool, self._function = dict(bases), pool, None
        drawn = self.space.sample(REFERENCE, np.random.default_rng(0))
        predicted = self._predicted(drawn, self.features.sites(drawn))
        self._spread = np.stack([predicted.mean(axis=0), np.maximum(predicted.std(axis=0), 1e-12) / self.scale])
        return self

    def suggest(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Return ``n`` architectures of the bank, ``(n, s)``, one of each n-th part when ranked by predicted latency.

        After a bank of another space, of 3,000 random ones. Random within its part: on the validation rows, networks
        chosen to differ most taught less than random ones.

        Raises: InputError before :meth:`pretrain`, or for more than the bank holds.
        """
        pool = _pool_of(self, self._pool, n)
        ranked = pool[np.argsort(self._based(pool, self.features.sites(pool)).mean(axis=1), kind="stable")]
        edges = np.linspace(0, len(pool), n + 1).astype(int)
        return ranked[rng.integers(edges[:-1], edges[1:])]

    def _based(self, genotypes: Genotypes, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the bases' predictions, standardised over the space and scaled, ``(n, b)``."""
        return (self._predicted(genotypes, rows) - self._spread[0]) / self._spread[1]

    def _predicted(self, genotypes: Genotypes, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        bases = list(self._bases.values())
        foreign = any(isinstance(base, KernelTimes) for base in bases)
        sums = kernel_sums(self.space, genotypes) if foreign else np.empty((len(rows), 0))
        return np.stack([base(sums) if isinstance(base, KernelTimes) else base(rows) for base in bases], axis=1)

    def _fit(self, genotypes: Genotypes, ms: NDArray[np.float64]) -> None:
        if not self._bases:
            raise InputError(_NO_BANK.format(self="Transfer", alone="mlp"))
        further = self._based(genotypes, self.features.sites(genotypes))
        start, recipe = self._nearest(further, ms), self._plain().recipe()
        self._function = fit_corrected(self.features, genotypes, ms, start, recipe, self.seed, further)

    def _nearest(self, predicted: NDArray[np.float64], ms: NDArray[np.float64]) -> Perceptron:
        """Return the network of the base whose predictions ``(n, b)`` go along best; a random one where it has none."""
        along = (predicted - predicted.mean(axis=0)).T @ (ms - ms.mean()) / (predicted.std(axis=0) + 1e-300)
        base = list(self._bases.values())[int(np.argmax(along))]
        if isinstance(base, Corrected):
            return base.network
        return Perceptron.drawn([self.features.width, *layer_sizes(self.hidden), 1], np.random.default_rng(self.seed))

    def _predict(self, genotypes: Genotypes) -> NDArray[np.float64]:
        function = self._function
        assert function is not None

        def some_ms(some: Genotypes) -> NDArray[np.float64]:
            rows = self.features.sites(some)
            return function(rows, self._based(some, rows))

        return chunked(some_ms, genotypes)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        assert self._function is not None
        arrays: dict[str, NDArray[Any]] = {"sources": np.array(list(self._bases))}
        parts: dict[str, Base] = {f"base_{i}": base for i, base in enumerate(self._bases.values())}
        for prefix, part in {**parts, "target": self._function}.items():
            arrays |= {f"{prefix}.{name}": values for name, values in part.arrays().items()}
        return arrays

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        def part(prefix: str) -> dict[str, NDArray[Any]]:
            return {k.removeprefix(f"{prefix}."): v for k, v in arrays.items() if k.startswith(f"{prefix}.")}

        sources, width = [str(name) for name in arrays["sources"]], self.features.width
        if not sources:
            raise ValueError("it has no base")
        bases: dict[str, Base] = {}
        for i, name in enumerate(sources):
            held = part(f"base_{i}")
            foreign = "kernel_ms" in held
            bases[name] = KernelTimes.from_arrays(held) if foreign else Corrected.from_arrays(held, width)
        self._start_from(bases, None)
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
    hidden: str | int = "400-400-400"
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
        if bank.space != self.space:
            raise InputError(f"the bank is of space {bank.space.name!r}, the model of {self.space.name!r}")
        _check_measured(bank)
        if len(bank.devices) != 1:
            raise InputError(
                f"transfer-paper fine-tunes one base device, the bank has {', '.join(bank.devices)}; "
                "choose by --sources DEVICE, in Python by bank.only([DEVICE])"
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
            raise InputError(_NO_BANK.format(self="TransferPaper", alone="mlp-paper"))
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


def _check_measured(bank: LatencyBank) -> None:
    for device in bank.devices:
        if np.isnan(bank.on(device)).all():
            raise InputError(f"the bank has no measurement of {device!r}; leave that device out")


def _pool_of(model: BankModel, pool: Genotypes | None, n: int) -> Genotypes:
    if pool is None:
        raise InputError(f"{type(model).__name__} needs pretrain(bank) before it can suggest what to measure")
    if not 1 <= n <= len(pool):
        raise InputError(f"expected between 1 and {len(pool)} architectures to measure, got {n}")
    return pool
