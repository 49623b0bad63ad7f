"""``flops``, ``params`` and ``roofline``: what a predictor must beat, two numbers or three fitted to measurements."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.cost_models.base import CostModel
from nasplug.cost_models.virtual import grid_of_devices
from nasplug.cost_models.workload import Kernels, workload
from nasplug.errors import InputError
from nasplug.spaces import Genotypes
from nasplug.spaces.modules import complexity

__all__ = ["Flops", "Params", "Roofline"]

RATES = tuple(10.0 ** np.arange(3.0, 9.5, 0.5))
BANDWIDTHS = tuple(10.0 ** np.arange(2.0, 7.5, 0.5))
BATCHES = (1.0, 32.0)

Floats = NDArray[np.float64]


@dataclass(kw_only=True, eq=False)
class _Line(CostModel):
    """A straight line through one number an architecture: ``constant + slope * amount``, slope not below 0."""

    least = 2

    _line: tuple[float, float] | None = field(default=None, init=False, repr=False)

    @abstractmethod
    def _amount(self, genotypes: Genotypes) -> Floats:
        """Return the number, ``(n,)``."""

    @property
    def fitted(self) -> bool:
        return self._line is not None

    def _fit(self, genotypes: Genotypes, ms: Floats) -> None:
        self._line = _line(self._amount(genotypes), ms)

    def _predict(self, genotypes: Genotypes) -> Floats:
        assert self._line is not None
        constant, slope = self._line
        return constant + slope * self._amount(genotypes)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"line": np.array(self._line)}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        constant, slope = (float(value) for value in arrays["line"])
        self._line = constant, slope


@dataclass(kw_only=True, eq=False)
class Flops(_Line):
    """Latency as a line in the multiply-accumulates; spaces without a described network raise InputError."""

    def _amount(self, genotypes: Genotypes) -> Floats:
        try:
            return complexity.flops(self.space, genotypes).astype(np.float64)
        except InputError:
            return _kernel_total(self, "macs", genotypes)


@dataclass(kw_only=True, eq=False)
class Params(_Line):
    """Latency as a line in the number of weights; spaces without a described network raise InputError."""

    def _amount(self, genotypes: Genotypes) -> Floats:
        try:
            return complexity.params(self.space, genotypes).astype(np.float64)
        except InputError:
            return _kernel_total(self, "weights", genotypes)


def _kernel_total(model: CostModel, amount: str, genotypes: Genotypes) -> Floats:
    """Return an amount summed over the kernels that architectures differ in."""
    kernels = _described(model)
    # Counts are those of the network as written, whatever its input's resolution does to them.
    return workload(model.space).total(genotypes, kernels.per_term(getattr(kernels, amount)))


def _described(model: CostModel) -> Kernels:
    kernels = workload(model.space).kernels
    if kernels is None:
        raise InputError(
            f"{type(model).__name__.lower()} needs to know the network behind a space, which it does not for "
            f"{model.space.name!r}; use lookup, mlp or few-shot"
        )
    return kernels


@dataclass(kw_only=True, eq=False)
class Roofline(CostModel):
    """A device of three numbers: time of a launch, arithmetic rate, memory bandwidth (Williams et al., CACM 2009).

    A kernel takes the longest of the three. Of a grid of ratios, with norms fused or not, the one that fits best with a
    constant and a scale in milliseconds is taken; at least 2 measurements. Differs from the textbook: launches, and
    kernels of one network add up. Spaces without a described network raise InputError.
    """

    least = 2

    _weights: Floats | None = field(default=None, init=False, repr=False)
    _constant: float = field(default=0.0, init=False, repr=False)

    @cached_property
    def _times(self) -> Floats:
        kernels = _described(self)
        return grid_of_devices(RATES, BANDWIDTHS, BATCHES, len(kernels.folds)).times(kernels)

    @property
    def fitted(self) -> bool:
        return self._weights is not None

    def _fit(self, genotypes: Genotypes, ms: Floats) -> None:
        amounts = workload(self.space).matrix(genotypes) @ self._times.T
        lines = [_line(amount, ms) for amount in amounts.T]
        errors = [
            ((constant + slope * a - ms) ** 2).sum() for (constant, slope), a in zip(lines, amounts.T, strict=True)
        ]
        best = int(np.argmin(errors))
        self._constant, slope = lines[best]
        self._weights = slope * self._times[best]

    def _predict(self, genotypes: Genotypes) -> Floats:
        assert self._weights is not None
        return self._constant + workload(self.space).total(genotypes, self._weights)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        assert self._weights is not None
        return {"weights": self._weights, "constant": np.array(self._constant)}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._weights, self._constant = arrays["weights"], float(arrays["constant"])
        if self._weights.shape != (workload(self.space).width,):
            raise ValueError(f"weights of shape {self._weights.shape}")


def _line(amount: Floats, ms: Floats) -> tuple[float, float]:
    """Return constant and slope of the least-squares line, the slope not below 0; flat where nothing varies."""
    apart = amount - amount.mean()
    spread = float(apart @ apart)
    slope = max(float(apart @ ms) / spread, 0.0) if spread > 0 else 0.0
    return float(ms.mean() - slope * amount.mean()), slope
