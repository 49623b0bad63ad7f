"""A linear model of what layers cost, corrected by a network as far as the network has earned it.

Shapes: n measurements; d features of single sites; e features with the sums; b further columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.cost_models.features import Features
from nasplug.cost_models.perceptron import Perceptron, Recipe, train
from nasplug.cost_models.ridge import fit_ridge
from nasplug.spaces import Genotypes

__all__ = ["Corrected", "fit_corrected"]

ENOUGH = 300
"""Measurements from which the network pays: on the validation rows it helped at 700 and hurt at 100."""


@dataclass(frozen=True)
class Corrected:
    """Milliseconds as a function of standardised features, and of further columns if it was fitted with any.

    Attributes:
        weights: of the features, float32 ``(d,)``.
        further: of the further columns, ``(b,)``.
        constant: the intercept.
        network: sees the features.
        amplitude: milliseconds by which its output is scaled.
        least: no prediction is below it.
    """

    weights: NDArray[np.float32]
    further: NDArray[np.float64]
    constant: float
    network: Perceptron
    amplitude: float
    least: float

    def __call__(self, rows: NDArray[np.float32], further: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return milliseconds ``(n,)`` of ``Features.sites`` ``(n, d)`` and the further columns ``(n, b)``."""
        ms = (rows @ self.weights).astype(np.float64) + self.constant
        if further is not None:
            ms += further @ self.further
        if self.amplitude > 0:
            ms += self.amplitude * self.network(rows)
        return np.maximum(ms, self.least)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays; :meth:`from_arrays` takes them back."""
        scalars = np.array([self.constant, self.amplitude, self.least])
        return {"weights": self.weights, "further": self.further, "scalars": scalars, **self.network.arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], width: int, further: int = 0) -> Corrected:
        """Read :meth:`arrays`; raises KeyError or ValueError where they do not fit ``width`` features."""
        network = Perceptron.from_arrays(arrays)
        weights, more, scalars = (np.asarray(arrays[name]) for name in ("weights", "further", "scalars"))
        shapes = (network.sizes[0], *weights.shape, *more.shape, *scalars.shape)
        if shapes != (width, width, further, 3):
            raise ValueError(f"it is made for {network.sizes[0]} features, the space has {width}")
        if not all(np.isfinite(part).all() for part in (weights, more, scalars)):
            raise ValueError("its numbers are not finite")
        return cls(
            weights.astype(np.float32), more.astype(np.float64), float(scalars[0]), network, *map(float, scalars[1:])
        )


def fit_corrected(
    features: Features,
    genotypes: Genotypes,
    ms: NDArray[np.float64],
    start: Perceptron,
    recipe: Recipe,
    seed: int,
    further: NDArray[np.float64] | None = None,
) -> Corrected:
    """Fit the linear part, then the network to what it leaves.

    A network learns noise as well. How much of its correction to believe is the slope of the errors on its output for a
    fifth of the measurements that a first training does not see, between none and all of it. With fewer than 300
    measurements it is not believed at all.

    Args:
        features: of the space.
        genotypes: ``(n, s)``.
        ms: ``(n,)``.
        start: the network to train.
        recipe: how.
        seed: which fifth is held out, and the order of the rows.
        further: ``(n, b)``, columns of the linear part beside the features, on the scale that the ridge should see.
    """
    every = features.all(genotypes)
    columns = every if further is None else np.concatenate([every, further], axis=1)
    ridge = fit_ridge(columns, ms)
    weights, constant = features.on_sites(ridge.weights[: every.shape[1]])
    linear = Corrected(
        weights.astype(np.float32),
        ridge.weights[every.shape[1] :],
        constant + ridge.constant,
        start,
        amplitude=0.0,
        least=0.5 * float(ms.min()),
    )
    rows = features.sites(genotypes)
    left = ms - linear(rows, further)
    deviation = float(left.std())
    if len(ms) < ENOUGH or deviation == 0.0:
        return linear
    rng = np.random.default_rng([seed, 1])
    held = np.zeros(len(ms), dtype=bool)
    held[rng.permutation(len(ms))[: len(ms) // 5]] = True
    guess = train(start, rows[~held], left[~held] / deviation, recipe, rng)(rows[held]).astype(np.float64) * deviation
    belief = float(np.clip(guess @ left[held] / (guess @ guess + 1e-300), 0.0, 1.0))
    network = train(start, rows, left / deviation, recipe, rng)
    return Corrected(linear.weights, linear.further, linear.constant, network, belief * deviation, linear.least)
