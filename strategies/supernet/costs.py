"""What networks of a staged space cost, as a table a differentiable search can use, whatever the cost model is.

Shapes: n genotypes; r requests; c contexts (codes of the one further site a space may have, such as a resolution; 1
without); b blocks; a form is one kernel with one expansion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasplug.errors import InputError
from nasplug.spaces import Genotypes
from nasplug.spaces.modules import complexity
from nasplug.spaces.modules.relaxed import Choices
from nasplug.spaces.staged import StagedSpace

__all__ = ["Cost", "elastic_costs", "tabulated"]

Floats = NDArray[np.float64]
Predict = Callable[[Genotypes], Floats]


@dataclass(frozen=True, eq=False)
class Cost:
    """A kind of budget: a cost model of a staged space, and its table.

    The model has the last word on what a network costs; the table, a sum over the active blocks, is what gradients and
    bounds come from.

    Attributes:
        name: of the budget, such as ``flops``.
        space: the space.
        predict: genotypes ``(n, s)`` to the cost ``(n,)`` of a network without classifier outputs.
        blocks: cost of each form of each block, ``(c, b, kernels, expansions)``.
        rest: cost of what all networks share, ``(c,)``.
        allowed: contexts that may be used, ``(c,)``.
        error: mean relative error of the table against the model, on networks it was not made from.
        per_class: what each class of the task adds.
    """

    name: str
    space: StagedSpace
    predict: Predict
    blocks: Floats
    rest: Floats
    allowed: NDArray[np.bool_]
    error: float
    per_class: float = 0.0

    def of(self, genotypes: Genotypes, classes: NDArray[np.int64]) -> Floats:
        """Return the cost by the model of networks ``(n, s)`` for tasks of so many classes ``(n,)``."""
        return self.predict(genotypes) + self.per_class * classes

    def relaxed(self, choices: Choices) -> Tensor:
        """Return the cost by the table ``(r,)``, differentiable, without classifier outputs."""
        blocks, rest = (
            torch.as_tensor(values, dtype=choices.kernel.dtype, device=choices.kernel.device)
            for values in (self.blocks, self.rest)
        )
        context = choices.more[0] if choices.more else choices.kernel.new_ones((len(choices.kernel), 1))
        table = torch.tensordot(context, blocks, dims=1)
        forms = torch.einsum("rbke,rbk,rbe->rb", table, choices.kernel, choices.expand)
        return (forms * choices.active(self.space)).sum(dim=1) + context @ rest

    @cached_property
    def cheapest(self) -> tuple[NDArray[np.int64], float]:
        """The cheapest network found ``(s,)``, and its cost without classifier outputs."""
        row, cost = self._extreme(-1)
        while True:  # by the model, of which the table may be an approximation
            near = self.space.neighbors(row)
            near = near[self._allowed(near)]
            costs = self.predict(near)
            if not len(costs) or costs.min() >= cost:
                return row, cost
            row, cost = near[int(np.argmin(costs))], float(costs.min())

    @cached_property
    def span(self) -> tuple[float, float]:
        """Least and greatest cost, without classifier outputs."""
        return self.cheapest[1], self._extreme(1)[1]

    def _allowed(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        contexts = self.space.parameters[self.space.more_sites]
        return self.allowed[genotypes[:, -1]] if contexts else np.ones(len(genotypes), dtype=bool)

    def _extreme(self, sign: int) -> tuple[NDArray[np.int64], float]:
        """Return the network whose cost by the table is least (-1) or greatest (1), and its cost by the model."""
        space = self.space
        best: tuple[float, NDArray[np.int64]] | None = None
        for context in np.flatnonzero(self.allowed):
            row = np.zeros(space.n_sites, dtype=np.int64)
            row[space.more_sites] = context
            forms = sign * self.blocks[context].reshape(space.blocks, -1)
            row[space.kernel_sites], row[space.expand_sites] = np.divmod(forms.argmax(axis=1), len(space.expansions))
            by_depth = forms.max(axis=1).reshape(space.stages, -1).cumsum(axis=1)[:, np.array(space.depths) - 1]
            row[space.depth_sites] = by_depth.argmax(axis=1)
            total = float(by_depth.max(axis=1).sum() + sign * self.rest[context])
            if best is None or total > best[0]:
                best = total, row
        assert best is not None
        found = space.masked(best[1][None])
        return found[0], float(self.predict(found)[0])


def tabulated(
    name: str,
    space: StagedSpace,
    predict: Predict,
    *,
    allowed: NDArray[np.bool_] | None = None,
    per_class: float = 0.0,
    seed: int = 0,
) -> Cost:
    """Return a cost with the table that fits its model best, by least squares over random networks.

    Where the model is a sum over blocks (FLOPs, parameters, look-up tables) the table is exact; for any other, such as
    a neural predictor, :attr:`Cost.error` says how far it is off, and answers still obey the model itself.

    Args:
        name: of the budget.
        space: with at most one site beyond depths, kernels and expansions.
        predict: genotypes ``(n, s)`` to costs above zero ``(n,)``, of networks without classifier outputs.
        allowed: codes of the further site that the model knows, ``(c,)``; None for all.
        per_class: what each class of the task adds.
        seed: of the random networks.

    Raises: InputError for a space with more sites, and where a cost is not a finite number above zero.
    """
    more = space.parameters[space.more_sites]
    if len(more) > 1:
        raise InputError(f"a table holds one site beyond blocks, space {space.name!r} has {len(more)}")
    contexts = more[0].size if more else 1
    allowed = np.ones(contexts, dtype=bool) if allowed is None else allowed
    rng = np.random.default_rng(seed)
    forms = len(space.kernels) * len(space.expansions)
    blocks, rest = np.zeros((contexts, space.blocks * forms)), np.zeros(contexts)
    errors = []
    for context in np.flatnonzero(allowed):
        rows = space.sample(10 * space.blocks * forms, rng)
        rows[:, space.more_sites] = context
        costs = predict(rows)
        if not (np.isfinite(costs) & (costs > 0)).all():
            raise InputError(
                f"the budget {name!r} needs costs that are finite and above zero, its model says otherwise"
            )
        features = _forms(space, rows)
        split = len(rows) // 5
        solved = np.linalg.lstsq(features[split:], costs[split:], rcond=None)[0]
        errors.append(np.abs(features[:split] @ solved / costs[:split] - 1).mean())
        blocks[context], rest[context] = solved[:-1], solved[-1]
    shape = (contexts, space.blocks, len(space.kernels), len(space.expansions))
    return Cost(name, space, predict, blocks.reshape(shape), rest, allowed, float(np.mean(errors)), per_class)


def elastic_costs(space: StagedSpace, *, in_channels: int, size: int, **sizes: object) -> dict[str, Cost]:
    """Return FLOPs (multiply-adds) and parameters of sub-networks of an elastic network, by name, both exact.

    A task counts as many classifier outputs as it has classes.
    """
    given = {"in_channels": in_channels, **sizes}

    def kind(name: str, count: Callable[..., NDArray[np.int64]], **more: object) -> Cost:
        smallest = np.zeros((1, space.n_sites), dtype=np.int64)
        one, two = (count(space, smallest, classes=n, **given, **more)[0] for n in (1, 2))
        per_class = float(two - one)

        def predict(genotypes: Genotypes) -> Floats:
            return (count(space, genotypes, classes=1, **given, **more) - per_class).astype(np.float64)

        return tabulated(name, space, predict, per_class=per_class)

    return {
        "flops": kind("flops", complexity.flops, size=size),
        "params": kind("params", complexity.params),
    }


def _forms(space: StagedSpace, genotypes: Genotypes) -> Floats:
    """Return which form each block has, none where inactive, and a one: ``(n, b * forms + 1)``."""
    forms = len(space.kernels) * len(space.expansions)
    form = genotypes[:, space.kernel_sites] * len(space.expansions) + genotypes[:, space.expand_sites]
    bits = np.zeros((len(genotypes), space.blocks * forms + 1))
    rows, blocks = np.nonzero(space.active(genotypes))
    bits[rows, blocks * forms + form[rows, blocks]] = 1.0
    bits[:, -1] = 1.0
    return bits
