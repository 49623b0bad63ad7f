"""All networks of a space in one, whose edges mix their operations by weights that come with the images.

Shapes: N images; d decisions (edges that choose an operation); o choices of each.

Source: Liu et al., DARTS, ICLR 2019. Differs: weights of the mixture are an argument of the forward pass, not a
parameter of the network. So a softmax of logits, one path, or a mixture with an operation taken out are all the same
call, and nothing has to be put back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial, reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasplug.errors import InputError
from nasplug.spaces.base import Genotypes, Space
from nasplug.spaces.darts import CELLS, DARTS, NODES
from nasplug.spaces.darts import EDGES as DARTS_EDGES
from nasplug.spaces.modules import darts, nasbench201
from nasplug.spaces.modules.layers import Norm, Zero
from nasplug.spaces.modules.layout import DARTSCell
from nasplug.spaces.modules.seeding import seeded
from nasplug.spaces.nasbench201 import EDGES, OPERATIONS

__all__ = [
    "CELL_NORM",
    "NORM",
    "DARTSSupernet",
    "MixedEdge",
    "Mixture",
    "NASBench201Supernet",
    "Supernet",
    "supernet",
]

NORM: Norm = partial(nn.BatchNorm2d, track_running_stats=False)
"""Statistics of the batch, always: running ones belong to the whole mixture and mislead about a part of it."""

CELL_NORM: Norm = partial(nn.BatchNorm2d, track_running_stats=False, affine=False)
"""Within cells also without scale, which could take back what the mixture's weights say."""


class Mixture:
    """The weights of the forward pass under way, which the edges of a supernet share.

    Attributes:
        weights: ``(d, o)``.
        active: for each decision and choice, whether its weight is other than zero.
    """

    weights: Tensor
    active: list[list[bool]]

    def set(self, weights: Tensor) -> None:
        """Use other weights from now on."""
        self.weights, self.active = weights, (weights.detach() != 0).tolist()


class MixedEdge(nn.Module):
    """The weighted sum of the operations of one edge; one of weight zero is not computed.

    Args:
        operations: one a choice; a :class:`nasplug.spaces.modules.layers.Zero` is never computed.
        mixture: where the weights are.
        decision: which row of them.
        stride: of the edge, for the zeros that come out where no operation is left.
    """

    def __init__(self, operations: Iterable[nn.Module], mixture: Mixture, decision: int, *, stride: int = 1):
        super().__init__()
        self.operations = nn.ModuleList(operations)
        self.decision, self.stride = decision, stride
        self._mixture = mixture
        self._works = [not isinstance(operation, Zero) for operation in self.operations]

    def forward(self, x: Tensor) -> Tensor:
        weights, active = self._mixture.weights[self.decision], self._mixture.active[self.decision]
        terms = [
            weights[choice] * operation(x)
            for choice, operation in enumerate(self.operations)
            if active[choice] and self._works[choice]
        ]
        return reduce(torch.add, terms) if terms else torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Supernet(nn.Module, ABC):
    """All networks of a space in one: ``(N, channels, H, W)`` and a mixture ``(d, o)`` to ``(N, classes)`` logits.

    Attributes:
        space: of the architectures.
        choices: names of the operations, o.
        selectable: ``(d, o)``, which of them an architecture may have.
        steps: decisions that are made together, in a set order within: each a tuple.
        nodes: where only ``inputs`` of the edges into a node may stay: decisions of those edges, node by node,
            grouped like ``steps``. Empty where every edge stays.
        inputs: how many edges into such a node stay.
    """

    space: Space
    choices: tuple[str, ...]
    selectable: NDArray[np.bool_]
    steps: tuple[tuple[int, ...], ...]
    nodes: tuple[tuple[tuple[int, ...], ...], ...] = ()
    inputs: int = 2

    def __init__(self) -> None:
        super().__init__()
        self._mixture = Mixture()

    @property
    def n_decisions(self) -> int:
        """Number of decisions d."""
        return len(self.selectable)

    def forward(self, images: Tensor, mixture: Tensor) -> Tensor:
        """Return the logits under weights ``(d, o)``; raises InputError for weights of another shape."""
        if mixture.shape != self.selectable.shape:
            raise InputError(f"the mixture of this supernet is {self.selectable.shape}, got {tuple(mixture.shape)}")
        self._mixture.set(mixture)
        logits: Tensor = self.body(images)
        return logits

    body: nn.Module
    """The network, whose edges look up their weights."""

    @abstractmethod
    def genotype(self, chosen: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the architecture ``(s,)`` of a choice for each decision ``(d,)`` and of the edges that stay ``(d,)``.

        ``chosen`` is selectable, and exactly ``inputs`` edges into each of ``nodes`` stay.
        """

    @abstractmethod
    def decisions(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Return the choice for each decision, ``(n, d)``, -1 where an architecture has no such edge."""


class NASBench201Supernet(Supernet):
    """The 15,625 cells of NAS-Bench-201 in one network; 1,686,106 parameters at C = 16 and 5 cells, as published.

    Raises: InputError for sizes out of range.
    """

    choices = OPERATIONS
    selectable = np.ones((len(EDGES), len(OPERATIONS)), dtype=bool)
    steps = tuple((edge,) for edge in range(len(EDGES)))

    def __init__(self, space: Space, *, channels: int = 16, cells: int = 5, classes: int = 10, in_channels: int = 3):
        super().__init__()
        self.space = space

        def cell(width: int) -> nasbench201.Cell:
            return nasbench201.Cell(
                MixedEdge(
                    [nasbench201.operation(name, width, norm=CELL_NORM) for name in OPERATIONS], self._mixture, edge
                )
                for edge in range(len(EDGES))
            )

        self.body = nasbench201.Skeleton(
            cell, channels=channels, cells=cells, classes=classes, in_channels=in_channels, norm=NORM
        )

    def genotype(self, chosen: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.asarray(chosen, dtype=np.int64)

    def decisions(self, genotypes: Genotypes) -> NDArray[np.int64]:
        return genotypes


class DARTSSupernet(Supernet):
    """A normal and a reduction cell with all 14 edges; 1,930,618 parameters at C = 16 and 8 cells, as published.

    Decisions are the edges of the normal cell in the order of :data:`nasplug.spaces.darts.EDGES`, then those of the
    reduction cell. Both cells' edges of one place are decided together, normal first, and so are their nodes of one
    number. Where the space mixes ``none`` in, that is choice 0, and not selectable; where edges have their own lists,
    choices are numbers. Behind pooling stands a norm, which a network of the space does not have.

    Source: Liu et al., DARTS, ICLR 2019, and the code of DARTS-PT. Differs: that code draws the edge of the reduction
    cell of a step apart from that of the normal cell.

    Args:
        space: one of :data:`nasplug.spaces.modules.darts.SPACES`.
        channels: C, the width of the first cells.
        layers: cells in all; those at one and two thirds of the depth reduce.
        classes: outputs.
        in_channels: channels of the images.

    Raises: InputError for sizes out of range.
    """

    steps = tuple((place, len(DARTS_EDGES) + place) for place in range(len(DARTS_EDGES)))
    nodes = tuple(
        tuple(
            tuple(cell * len(DARTS_EDGES) + place for place, (_, end) in enumerate(DARTS_EDGES) if end == node)
            for cell in range(len(CELLS))
        )
        for node in NODES
        if node > 2
    )

    def __init__(self, space: DARTS, *, channels: int = 16, layers: int = 8, classes: int = 10, in_channels: int = 3):
        super().__init__()
        self.space: DARTS = space
        self.choices = ("none",) * space.mixes_none + tuple(map(str, space.choices))
        self._first = int(space.mixes_none)  # the choice that is the code 0
        self.selectable = np.ones((len(CELLS) * len(DARTS_EDGES), len(self.choices)), dtype=bool)
        self.selectable[:, : self._first] = False

        def edge(place: DARTSCell, at: int) -> MixedEdge:
            stride = darts.edge_stride(place, DARTS_EDGES[at][0])
            operations = [_with_norm(name, place.channels, stride) for name in space.on_edges[place.reduction][at]]
            nothing = [Zero()] * self._first
            decision = place.reduction * len(DARTS_EDGES) + at
            return MixedEdge([*nothing, *operations], self._mixture, decision, stride=stride)

        def cell(place: DARTSCell) -> darts.Cell:
            edges = [edge(place, at) for at in range(len(DARTS_EDGES))]
            return darts.Cell(darts.preprocessing(place, norm=CELL_NORM), edges, [range(node) for node in NODES])

        self.body = darts.Skeleton(
            cell, channels=channels, layers=layers, classes=classes, in_channels=in_channels, norm=NORM
        )

    def genotype(self, chosen: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        places = np.nonzero(kept.reshape(len(CELLS), -1))[1].reshape(1, len(CELLS), -1)
        choices = np.take_along_axis(chosen.reshape(1, len(CELLS), -1), places, axis=2)
        (row,) = self.space.from_edges(places, choices - self._first)
        return row

    def decisions(self, genotypes: Genotypes) -> NDArray[np.int64]:
        places, codes = self.space.edges(genotypes)
        chosen = np.full((len(genotypes), len(CELLS), len(DARTS_EDGES)), -1)
        np.put_along_axis(chosen, places, codes + self._first, axis=2)
        return chosen.reshape(len(genotypes), self.n_decisions)


def _with_norm(name: str, channels: int, stride: int) -> nn.Module:
    """Return an operation of DARTS with the norms of a supernet: one behind pooling, too, which has none of its own."""
    operation = darts.operation(name, channels, stride, norm=CELL_NORM)
    return nn.Sequential(operation, CELL_NORM(channels)) if "pool" in name else operation


_SUPERNETS: Mapping[str, Callable[..., Supernet]] = {
    "nasbench201": NASBench201Supernet,
    **dict.fromkeys(darts.SPACES, DARTSSupernet),
}


def supernet(space: Space, *, classes: int, in_channels: int, seed: int | torch.Generator, **sizes: Any) -> Supernet:
    """Return the supernet of a space on the CPU, its weights drawn from ``seed`` alone.

    Args:
        space: one that has a supernet.
        classes: outputs.
        in_channels: channels of the images.
        seed: a seed, or a CPU generator, which is advanced.
        sizes: what else the space's supernet takes, such as ``channels`` and ``cells``.

    Raises: InputError for a space without supernet, or sizes out of range.
    """
    if space.name not in _SUPERNETS:
        raise InputError(f"space {space.name!r} has no supernet; spaces that have: {', '.join(_SUPERNETS)}")
    with seeded(seed):
        return _SUPERNETS[space.name](space, classes=classes, in_channels=in_channels, **sizes)
