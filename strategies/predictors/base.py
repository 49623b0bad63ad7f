"""The contract of a predictor: fit on some architectures, rank others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nasplug.spaces import Genotypes, Space

__all__ = ["WHOLE_SPACE", "Model", "Predictor", "expected_improvement"]

WHOLE_SPACE = 50_000
"""Spaces up to this size are predicted whole; larger ones on a drawn set of candidates."""


class Model(ABC):
    """A fitted predictor. Shapes: k candidates."""

    @abstractmethod
    def mean(self, candidates: Genotypes) -> NDArray[np.float64]:
        """Return the predicted target of each candidate, ``(k,)``."""

    @abstractmethod
    def best_first(self, candidates: Genotypes, incumbent: float) -> Iterator[int]:
        """Yield the rows of ``candidates``, the highest expected improvement over ``incumbent`` first."""


class Predictor(ABC):
    """Something that fits a :class:`Model`; holds no fit itself, only what can be reused between fits.

    Args:
        space: the space of all genotypes it will see.
    """

    def __init__(self, space: Space):
        self.space = space

    @abstractmethod
    def fit(self, genotypes: Genotypes, targets: NDArray[np.float64], rng: np.random.Generator) -> Model:
        """Return a model of ``targets`` ``(n,)`` on ``genotypes`` ``(n, s)``; n is at least 1."""


def expected_improvement(
    mean: NDArray[np.float64], deviation: NDArray[np.float64], incumbent: float
) -> NDArray[np.float64]:
    """Return E[max(0, target - incumbent)] for normal targets, elementwise."""
    z = (mean - incumbent) / deviation
    improvement: NDArray[np.float64] = deviation * (z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))
    return improvement
