"""One latency model for many GPUs: conditioned on what a GPU is and on the batch size, for one never measured too.

Shapes: n architectures; k known GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nasplug.cost_models.base import BankModel, LatencyBank
from nasplug.cost_models.corrected import Corrected
from nasplug.cost_models.features import Features
from nasplug.cost_models.hardware import Hardware, device_and_batch, hardware, read_hardware
from nasplug.cost_models.mlp import MLP, chunked
from nasplug.errors import DataError, InputError
from nasplug.spaces import Genotypes

__all__ = ["GPU"]

Traits = tuple[float, float, float]
"""Logarithms of TFLOP/s and of GB/s, and the compute capability."""


@dataclass(kw_only=True, eq=False)
class GPU(BankModel):
    """Predict a GPU from others: their own models, carried over by the ratio of their speeds.

    :meth:`pretrain` fits an :class:`MLP` on each device of the bank; device names are ``HARDWARE_BATCH``. At a batch
    size b, a known GPU's log-latency is interpolated in log b between the sizes it was measured at; the slope e there
    says how far the GPU, and not the launching of its kernels, is what takes the time. Carried to a GPU with f times
    its TFLOP/s and w times its GB/s, a latency is divided by ``(f w)^(e / 2)``. Known GPUs are averaged, in logarithms,
    by weights ``exp(-d^2 / (2 reach^2))``, d being the distance in log TFLOP/s, log GB/s and compute capability, and in
    log b beyond the sizes measured; a GPU that was measured speaks alone for itself.

    Without any measurement the order of architectures is right long before the milliseconds are: host and driver are no
    specification. :meth:`fit` takes a few measurements of the new GPU and sets the scale, by the median ratio.

    Source: arXiv:2101.00732 appends CUDA cores, memory and bandwidth, unscaled, to the bits of an MLP and tests on the
    two GPUs it was trained on. Differs: logarithms, speed enters by a law instead of by learning (two or three GPUs
    cannot teach one), unknown GPUs are the purpose. ``reach`` was chosen leaving out one of three GPUs of shared data.

    Args:
        hardware: name of the GPU to predict, of the list in ``hardware.yaml`` or of ``hardware_file``.
        batch: batch size to predict.
        hardware_file: a YAML file of further hardware; its entries come before the list's.
        reach: of the weights.
        seed: of the known GPUs' models.

    Raises: InputError for an option out of range, UnknownNameError for hardware that is not listed.
    """

    hardware: str = ""
    batch: int = 1
    hardware_file: str = ""
    reach: float = 0.5
    seed: int = 0
    _models: dict[str, Corrected] = field(default_factory=dict, init=False, repr=False)
    _traits: dict[str, Traits] = field(default_factory=dict, init=False, repr=False)
    _target: Traits | None = field(default=None, init=False, repr=False)
    _pool: Genotypes | None = field(default=None, init=False, repr=False)
    _offset: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.batch < 1 or self.seed < 0 or not 0 < self.reach < 1e6:
            raise InputError(
                f"gpu expects batch >= 1, seed >= 0 and reach > 0, got {self.batch}, {self.seed} and {self.reach}"
            )

    @property
    def fitted(self) -> bool:
        """Whether it knows some GPUs and which one to predict; a measurement is not needed."""
        return bool(self._models) and self._target is not None

    @cached_property
    def features(self) -> Features:
        """The features of the space, made once."""
        return Features(self.space)

    @cached_property
    def _listed(self) -> Mapping[str, Hardware]:
        return read_hardware(Path(self.hardware_file)) if self.hardware_file else {}

    def _traits_of(self, name: str) -> Traits:
        own = {alias: one for one in self._listed.values() for alias in (one.name, *one.aliases)}
        one = own.get(name) or hardware(name)
        numbers = {field: getattr(one, field) for field in ("fp32_tflops", "bandwidth_gb_s", "capability")}
        if missing := [field for field, number in numbers.items() if number is None]:
            raise InputError(
                f"gpu needs {', '.join(missing)} of {one.name!r} ({one.full_name}, a {one.kind}), which is not listed; "
                "name a GPU, or describe it in a file of your own: gpu:hardware_file=FILE"
            )
        return math.log(numbers["fp32_tflops"]), math.log(numbers["bandwidth_gb_s"]), numbers["capability"]

    def pretrain(self, bank: LatencyBank) -> Self:
        """Fit a model of each device of the bank and return the model, aimed at ``hardware`` where that is set.

        Raises: InputError for a bank of another space, or devices without a batch size in their name, that are not
            listed or lack the numbers needed; UnknownNameError for ``hardware`` that is not listed.
        """
        if bank.space != self.space:
            raise InputError(f"the bank is of space {bank.space.name!r}, the model of {self.space.name!r}")
        traits: dict[str, Traits] = {}
        refused: dict[str, InputError] = {}
        for device in bank.devices:
            try:
                traits[device] = self._traits_of(device_and_batch(device)[0])
            except DataError:
                raise
            except InputError as error:
                refused[device] = error
        if refused:
            raise InputError(
                f"gpu cannot learn from {', '.join(refused)} ({next(iter(refused.values()))}); leave them out by "
                f"--sources {','.join(traits) or 'DEVICE,...'}, in Python by bank.only([...])"
            )
        models = {}
        for device in bank.devices:
            known = ~np.isnan(bank.on(device))
            if not known.any():
                raise InputError(f"the bank has no measurement of {device!r}; leave that device out")
            one = MLP(space=self.space, seed=self.seed).fit(bank.genotypes[known], bank.on(device)[known])
            models[device] = one.function
        self._models, self._traits, self._pool = models, traits, bank.genotypes
        return self.aim(self.hardware, self.batch) if self.hardware else self

    def aim(self, name: str, batch: int) -> Self:
        """Predict this GPU at this batch size from now on, at the scale of its specifications, and return the model.

        Raises: UnknownNameError for hardware that is not listed; InputError for a batch below 1, or hardware without
            the numbers needed.
        """
        if batch < 1:
            raise InputError(f"a batch size is at least 1, got {batch}")
        self._target = self._traits_of(name)
        self.hardware, self.batch, self._offset = name, batch, 0.0
        self.device = f"{name}_{batch}"
        return self

    def suggest(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Return ``n`` random architectures of the bank, ``(n, s)``: a scale can be read off any.

        Raises: InputError before :meth:`pretrain`, or for more than the bank holds.
        """
        if self._pool is None or not 1 <= n <= len(self._pool):
            held = 0 if self._pool is None else len(self._pool)
            raise InputError(f"gpu knows {held} architectures of a bank (see pretrain), asked for {n}")
        return self._pool[rng.permutation(len(self._pool))[:n]]

    def _fit(self, genotypes: Genotypes, ms: NDArray[np.float64]) -> None:
        if not self.fitted:
            raise InputError(
                "gpu needs pretrain(bank) and the hardware to predict, by option or aim(), before fit; on the command "
                "line --bank TABLE and gpu:hardware=NAME,batch=NUMBER"
            )
        self._offset = 0.0
        self._offset = float(np.median(np.log(ms) - np.log(self._predict(genotypes))))

    def _predict(self, genotypes: Genotypes) -> NDArray[np.float64]:
        return chunked(self._some_ms, genotypes)

    def _some_ms(self, genotypes: Genotypes) -> NDArray[np.float64]:
        assert self._target is not None
        rows = self.features.sites(genotypes)
        measured: dict[str, dict[int, NDArray[np.float64]]] = {}
        traits = {}
        for device, model in self._models.items():
            name, batch = device_and_batch(device)
            measured.setdefault(name, {})[batch] = np.log(model(rows))
            traits[name] = self._traits[device]
        near = {name: self._weight(one, measured[name]) for name, one in traits.items()}
        alone = [name for name, one in traits.items() if one == self._target]
        total = np.zeros(len(rows))
        used = dict.fromkeys(alone, 1.0) or near
        for name, weight in used.items():
            log_ms, slope = _at_batch(measured[name], self.batch)
            faster = self._target[0] - traits[name][0] + self._target[1] - traits[name][1]
            total += weight / sum(used.values()) * (log_ms - slope * faster / 2)
        return np.exp(total + self._offset)

    def _weight(self, known: Traits, sizes: Collection[int]) -> float:
        assert self._target is not None
        beyond = self.batch / np.clip(self.batch, min(sizes), max(sizes))
        squared = sum((a - b) ** 2 for a, b in zip(known, self._target, strict=True)) + math.log(beyond) ** 2
        # Far from all, the nearest still counts: a plain exponential would be zero for each.
        return math.exp(-min(squared / (2 * self.reach**2), 500.0))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        assert self._target is not None
        arrays: dict[str, NDArray[Any]] = {
            "devices": np.array(list(self._models)),
            "traits": np.array(list(self._traits.values())),
            "target": np.array(self._target),
            "offset": np.array(self._offset),
        }
        for i, model in enumerate(self._models.values()):
            arrays |= {f"known_{i}.{name}": values for name, values in model.arrays().items()}
        return arrays

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        devices = [str(name) for name in arrays["devices"]]
        numbers = [np.asarray(arrays[name], dtype=np.float64) for name in ("traits", "target", "offset")]
        if [part.shape for part in numbers] != [(len(devices), 3), (3,), ()] or not devices:
            raise ValueError("its GPUs and their numbers do not match")
        if not all(np.isfinite(part).all() for part in numbers):
            raise ValueError("its numbers are not finite")
        parts: list[dict[str, NDArray[Any]]] = [{} for _ in devices]
        for key, values in arrays.items():
            if key.startswith("known_"):
                index, _, name = key.removeprefix("known_").partition(".")
                parts[int(index)][name] = values
        width = self.features.width
        self._models = {d: Corrected.from_arrays(part, width) for d, part in zip(devices, parts, strict=True)}
        self._traits = {d: (a, b, c) for d, (a, b, c) in zip(devices, numbers[0].tolist(), strict=True)}
        a, b, c = numbers[1].tolist()
        self._target, self._offset = (a, b, c), float(numbers[2])
        for device in devices:
            device_and_batch(device)


def _at_batch(
    measured: Mapping[int, NDArray[np.float64]], batch: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log-latencies at a batch size, ``(n,)``, and their slope in its logarithm, between 0 and 1.

    Straight between the two nearest measured sizes; at a measured one the slope is the mean of both sides. With a
    single size, the slope is taken as 1: the GPU is at work all the time.
    """
    sizes = sorted(measured)
    if len(sizes) == 1:
        slope = np.ones_like(measured[sizes[0]])
        return measured[sizes[0]] + slope * math.log(batch / sizes[0]), slope
    logs = np.log(sizes)
    levels = np.stack([measured[size] for size in sizes])
    slopes = np.clip(np.diff(levels, axis=0) / np.diff(logs)[:, None], 0.0, 1.0)
    if batch in measured:
        at = sizes.index(batch)
        around = slopes[max(at - 1, 0) : at + 1]
        return levels[at], around.mean(axis=0)
    left = int(np.clip(np.searchsorted(sizes, batch) - 1, 0, len(sizes) - 2))
    anchor = left if batch < sizes[-1] else left + 1
    return levels[anchor] + slopes[left] * (math.log(batch) - logs[anchor]), slopes[left]
