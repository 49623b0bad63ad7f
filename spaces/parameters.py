"""Parameters: the sites of a space, each a finite, coded set of values.

A code is an integer ``0 <= code < size``. A space stores codes only; values (operation names, integers, floats) appear
at the edge, in :meth:`decode` and :meth:`encode`.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError, UnknownNameError

__all__ = ["Categorical", "Codes", "Float", "Integer", "Parameter", "Value"]

Codes = NDArray[np.int64]
Value = None | bool | int | float | str

FLOAT_LEVELS = 2**20 + 1
"""Values a float without a step is rounded to: finer than any tuner needs, coarse enough to be a code."""

LARGEST = 2**53
"""Bound of integers and of the number of values: beyond, a float no longer tells neighbours apart."""


class Parameter(ABC):
    """One site of a space: a name and ``size`` coded values."""

    name: str

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of values, at least 1."""

    @property
    @abstractmethod
    def ordered(self) -> bool:
        """Whether codes are ordered by value, so that near codes are near values."""

    @abstractmethod
    def decode(self, codes: Codes) -> list[Any]:
        """Return the Python values of ``codes``, shape ``(n,)``."""

    @abstractmethod
    def encode(self, values: Sequence[Any]) -> Codes:
        """Return the codes of values; raises InputError for a value the parameter does not have."""

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        """Draw ``n`` codes from the prior: uniform, or log-uniform in the value where ``log`` is set."""
        return rng.integers(self.size, size=n)

    def perturb(self, codes: Codes, rng: np.random.Generator) -> Codes:
        """Return changed codes, never the one that came: any other value of a category, a near value of a number."""
        if self.size < 2:
            raise InputError(f"parameter {self.name!r} has a single value; there is nothing to change")
        if not self.ordered or self.size <= 3:
            return (codes + rng.integers(1, self.size, size=codes.shape)) % self.size
        # A tenth of the range in the parameter's own scale, at least one step.
        near = self.at(np.clip(self.coordinate(codes) + rng.normal(0.0, 0.1, size=codes.shape), 0.0, 1.0))
        step = np.where(codes == 0, 1, np.where(codes == self.size - 1, -1, rng.choice([-1, 1], size=codes.shape)))
        return np.where(near == codes, codes + step, near)

    def alternatives(self, code: int) -> Codes:
        """Return the codes one move away: all others, or for a long ordered range 1, 2, 4, ... steps up and down."""
        if not self.ordered or self.size <= 16:
            others = np.arange(self.size)
            return np.delete(others, code)
        steps = 2 ** np.arange(int(math.log2(self.size)) + 1)
        near = np.unique(np.concatenate([code - steps, code + steps]))
        return near[(near >= 0) & (near < self.size)]

    def coordinate(self, codes: Codes) -> NDArray[np.float64]:
        """Return the position of ordered codes in [0, 1], in the parameter's own (linear or log) scale."""
        return codes / max(self.size - 1, 1)

    def at(self, coordinates: NDArray[np.float64]) -> Codes:
        """Return the codes nearest to coordinates in [0, 1]; the inverse of :meth:`coordinate`."""
        return np.rint(coordinates * (self.size - 1)).astype(np.int64)


@dataclass(frozen=True)
class Categorical(Parameter):
    """A choice among named values without order, such as the operation on an edge.

    Args:
        name: the site's name.
        choices: distinct values (None, bool, int, float or str); ``1`` and ``True`` count as different.
    """

    name: str
    choices: tuple[Value, ...] = field(compare=False)
    _codes: dict[tuple[type, str], int] = field(init=False, repr=False, compare=False)
    _labels: tuple[tuple[str, str], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
        # By type and repr: True == 1 == 1.0 in Python, and nan != nan. Equality and hash go by the labels.
        object.__setattr__(self, "_codes", {_label(choice): code for code, choice in enumerate(self.choices)})
        object.__setattr__(self, "_labels", tuple((kind.__qualname__, text) for kind, text in self._codes))
        if not self.choices:
            raise InputError(f"parameter {self.name!r} needs at least one choice")
        if len(self._codes) != len(self.choices):
            raise InputError(f"parameter {self.name!r} has a choice twice: {list(self.choices)}")

    def __reduce__(self) -> tuple[type, tuple[str, tuple[Value, ...]]]:
        return type(self), (self.name, self.choices)

    @property
    def size(self) -> int:
        return len(self.choices)

    @property
    def ordered(self) -> bool:
        return False

    def decode(self, codes: Codes) -> list[Value]:
        return [self.choices[code] for code in codes.tolist()]

    def encode(self, values: Sequence[Value]) -> Codes:
        codes = [self._codes.get(_label(value), -1) for value in values]
        if -1 in codes:
            raise UnknownNameError(f"choice of {self.name!r}", str(values[codes.index(-1)]), map(str, self.choices))
        return np.array(codes, dtype=np.int64)


def _label(value: Any) -> tuple[type, str]:
    value = value.item() if isinstance(value, np.generic) else value
    return type(value), repr(value)


@dataclass(frozen=True)
class _Number(Parameter):
    name: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        if not (self.low <= self.high and math.isfinite(self.high - self.low)):
            raise InputError(f"parameter {self.name!r} needs finite low <= high, got {self.low} and {self.high}")
        if self.step is not None and not (math.isfinite(self.step) and self.step > 0):
            raise InputError(f"parameter {self.name!r} needs a finite step > 0, got {self.step}")
        if self.step is not None and (self.high - self.low) / self.step >= LARGEST:
            raise InputError(f"parameter {self.name!r} has more than 2^53 values; raise its step")
        if self.log and self.low <= 0:
            raise InputError(f"parameter {self.name!r} has log=True and needs low > 0, got {self.low}")

    @property
    def ordered(self) -> bool:
        return True

    def _scale(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        scaled = np.log(values) if self.log else values
        return np.zeros_like(values) if high == low else np.clip((scaled - low) / (high - low), 0.0, 1.0)

    def _unscale(self, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return np.exp(low + coordinates * (high - low))
        return self.low + coordinates * (self.high - self.low)

    def _inside(self, values: Sequence[Any]) -> NDArray[np.float64]:
        """Return values as floats in ``[low, high]``; a rounding error outside is forgiven, anything else raises."""
        if not all(isinstance(value, numbers.Real) for value in values):
            raise InputError(f"parameter {self.name!r} expects numbers, got {list(values)[:3]}")
        given = np.array(values, dtype=np.float64)
        ends = np.array([self.low, self.high], dtype=np.float64)
        slack = 1e-9 * (ends if self.log else self.high - self.low) + 1e-15 * np.abs(ends)
        bad = ~((given >= ends[0] - slack[0]) & (given <= ends[1] + slack[1]))
        if bad.any():
            raise InputError(f"parameter {self.name!r} lies in [{self.low}, {self.high}], got {given[bad][0]}")
        return np.clip(given, self.low, self.high)

    def _on_steps(self, values: Sequence[Any]) -> Codes:
        places = (self._inside(values) - self.low) / (self.step or 1)
        codes = np.rint(places)
        # As coarse as Optuna's own test of a stepped value, plus what a float can tell apart at this place.
        off = np.abs(places - codes) > 1e-8 + 4e-16 * max(abs(self.low), abs(self.high)) / (self.step or 1)
        if off.any():
            bad = list(values)[int(np.argmax(off))]
            raise InputError(f"parameter {self.name!r} has values {self.low}, {self.low} + {self.step}, ...; got {bad}")
        return codes.astype(np.int64)


@dataclass(frozen=True)
class Integer(_Number):
    """An integer in ``[low, high]`` in steps, sampled log-uniformly with ``log``.

    ``high`` is lowered to the last value that a step reaches.
    """

    step: int = field(default=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(bound != int(bound) or abs(bound) > LARGEST for bound in (self.low, self.high, self.step)):
            raise InputError(f"integer parameter {self.name!r} needs whole low, high, step up to 2^53, got {self}")
        object.__setattr__(self, "low", int(self.low))
        object.__setattr__(self, "step", int(self.step))
        object.__setattr__(self, "high", int(self.high) - (int(self.high) - int(self.low)) % int(self.step))

    @property
    def size(self) -> int:
        return (int(self.high) - int(self.low)) // self.step + 1

    def decode(self, codes: Codes) -> list[int]:
        return [int(self.low) + self.step * code for code in codes.tolist()]

    def encode(self, values: Sequence[Any]) -> Codes:
        return self._on_steps(values)

    def draw(self, n: int, rng: np.random.Generator) -> Codes:
        return self.at(rng.random(n)) if self.log else super().draw(n, rng)

    def coordinate(self, codes: Codes) -> NDArray[np.float64]:
        return self._scale(self.low + self.step * codes.astype(np.float64))

    def at(self, coordinates: NDArray[np.float64]) -> Codes:
        return np.clip(np.rint((self._unscale(coordinates) - self.low) / self.step), 0, self.size - 1).astype(np.int64)


@dataclass(frozen=True)
class Float(_Number):
    """A float in ``[low, high]``: in steps, or on a grid of 2^20 + 1 values, uniform in the logarithm with ``log``.

    Differs from a continuous range: a value is rounded to the grid, a change of at most 5e-7 of the range.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step is not None and self.log:
            raise InputError(f"parameter {self.name!r} cannot have both step and log")
        if self.step is not None:
            whole = math.floor((self.high - self.low) / self.step + 1e-9)
            object.__setattr__(self, "high", min(self.high, self.low + whole * self.step))
        elif 0 < self.high - self.low < 1e-8 * max(abs(self.low), abs(self.high)):
            raise InputError(f"parameter {self.name!r} spans too little for floats: [{self.low}, {self.high}]")

    @property
    def size(self) -> int:
        if self.low == self.high:
            return 1
        return FLOAT_LEVELS if self.step is None else round((self.high - self.low) / self.step) + 1

    def decode(self, codes: Codes) -> list[float]:
        coordinates = codes / max(self.size - 1, 1)
        values = self._unscale(coordinates) if self.step is None else self.low + self.step * codes
        return [float(value) for value in np.clip(values, self.low, self.high)]

    def encode(self, values: Sequence[Any]) -> Codes:
        return self.at(self._scale(self._inside(values))) if self.step is None else self._on_steps(values)
