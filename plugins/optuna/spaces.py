"""Between Optuna's distributions and nasplug's parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nasplug.errors import InputError
from nasplug.plugins.configured import fitting
from nasplug.spaces import Categorical, Float, Genotypes, Integer, Parameter, ParameterSpace, Space

__all__ = ["ARCHITECTURE", "StudySpace", "distributions"]

ARCHITECTURE = "architecture"
"""Name of the single parameter of the compact encoding: an integer, the row of ``space.all()``."""


def distributions(space: Space, *, compact: bool = False) -> dict[str, BaseDistribution]:
    """Return the Optuna search space of a nasplug space, ready for ``study.ask``.

    Args:
        space: the architectures; one Optuna parameter a site, of the same name and values.
        compact: one integer parameter ``architecture`` instead, the row of ``space.all()``. A storage writes once a
            parameter, so this makes trials of many sites several times cheaper on SQLite or a journal.

    Raises:
        InputError: ``compact`` for a space that cannot be enumerated.
    """
    if compact:
        return {ARCHITECTURE: IntDistribution(0, len(space.all()) - 1)}
    return {p.name: _distribution(p) for p in space.parameters}


def _distribution(parameter: Parameter) -> BaseDistribution:
    match parameter:
        case Categorical():
            return CategoricalDistribution(parameter.choices)
        case Integer():
            return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=parameter.step)
        case Float():
            return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    raise InputError(f"Optuna has no distribution for {parameter!r}")


def _parameter(name: str, distribution: BaseDistribution) -> Parameter | None:
    """Return the nasplug parameter of a distribution, or None where there is none (a range too fine for codes)."""
    try:
        match distribution:
            case CategoricalDistribution(choices=choices):
                return Categorical(name, tuple(choices))
            case IntDistribution(low=low, high=high, step=step, log=log):
                return Integer(name, low, high, step=step, log=log)
            case FloatDistribution(low=low, high=high, step=step, log=log):
                return Float(name, low, high, step=step, log=log)
    except InputError:
        return None
    return None


@dataclass(frozen=True)
class StudySpace:
    """A space and how a study writes its architectures: one parameter a site, or compactly one integer.

    Shapes: n trials, s sites.
    """

    space: Space
    distributions: Mapping[str, BaseDistribution]
    compact: bool = False

    @classmethod
    def over(cls, space: Space, *, compact: bool = False) -> StudySpace:
        """Return the study's view of a nasplug space."""
        return cls(space, distributions(space, compact=compact), compact)

    @classmethod
    def of(cls, found: Mapping[str, BaseDistribution]) -> StudySpace | None:
        """Return the space of a study's own distributions; None where there is nothing to choose.

        Parameters of a single value, or of a range too fine for codes, are left to independent sampling.
        """
        kept = {
            name: parameter
            for name, one in sorted(found.items())
            if not one.single() and (parameter := _parameter(name, one)) is not None
        }
        if not kept:
            return None
        return cls(ParameterSpace(list(kept.values())), {name: found[name] for name in kept})

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.distributions)

    def decode(self, genotype: NDArray[np.int64]) -> dict[str, Any]:
        """Return the parameters of a genotype ``(s,)``, plain Python values."""
        if self.compact:
            return {ARCHITECTURE: int(self.space.index(genotype[None])[0])}
        return self.space.to_params(genotype[None])[0]

    def encode(self, params: Sequence[Mapping[str, Any]]) -> tuple[Genotypes, NDArray[np.bool_]]:
        """Return codes ``(n, s)`` and which rows fit ``(n,)``: all names there, all values in the space."""
        codes = np.zeros((len(params), self.space.n_sites), np.int64)
        fits = np.zeros(len(params), dtype=bool)
        rows = [row for row, one in enumerate(params) if self._names <= one.keys()]
        codes[rows], fits[rows] = fitting([params[row] for row in rows], self.space.n_sites, self.codes)
        return codes, fits

    def codes(self, params: Sequence[Mapping[str, Any]]) -> Genotypes:
        """Return the genotypes ``(n, s)``; raises InputError for missing names or values outside the space."""
        if not self.compact:
            return self.space.from_params(params)
        everything = self.space.all()
        row = Integer(ARCHITECTURE, 0, len(everything) - 1)
        return everything[row.encode([one[ARCHITECTURE] for one in params])]
