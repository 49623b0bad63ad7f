"""Networks of the DARTS space for small images: normal cells with two reduction cells (Liu et al., ICLR 2019).

Shapes: N images with sides H = W, divisible by 4; C the width of the first cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasplug.errors import InputError, UnknownNameError
from nasplug.spaces.darts import DARTS, EDGES, NODES, NOISE, OPERATIONS
from nasplug.spaces.darts_reduced import REDUCED
from nasplug.spaces.modules.layers import ConvNorm, FactorizedReduce, Head, Norm, ReLUConvNorm, conv
from nasplug.spaces.modules.layout import DARTSCell, darts_cells, require_positive
from nasplug.spaces.modules.noise import Noise

__all__ = [
    "SPACES",
    "AuxiliaryHead",
    "Cell",
    "SeparableConv",
    "Skeleton",
    "drop_paths",
    "network",
    "operation",
    "preprocessing",
]


SPACES: Mapping[str, DARTS] = {space.name: space for space in (DARTS(), *(reduced() for reduced in REDUCED))}


def operation(name: str, channels: int, stride: int, *, norm: Norm = nn.BatchNorm2d) -> nn.Module:
    """Return the operation on one edge of a cell, ``(N, channels, H, W) -> (N, channels, H / stride, W / stride)``.

    Args:
        name: one of :data:`nasplug.spaces.darts.OPERATIONS`, or noise. A skip connection with stride 2 is a factorized
            reduce.
        channels: the width of the cell.
        stride: 2 on the edges that leave the two inputs of a reduction cell, else 1.
        norm: makes the norms of the operations with weights. Pooling has none: a supernet adds one behind it.

    Raises: UnknownNameError for another name.
    """
    match name:
        case "max_pool_3x3":
            return nn.MaxPool2d(3, stride=stride, padding=1)
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)
        case "skip_connect":
            return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, norm=norm)
        case "sep_conv_3x3" | "sep_conv_5x5":
            kernel = int(name[-1])
            return nn.Sequential(
                SeparableConv(channels, kernel, stride=stride, norm=norm), SeparableConv(channels, kernel, norm=norm)
            )
        case "dil_conv_3x3" | "dil_conv_5x5":
            return SeparableConv(channels, int(name[-1]), stride=stride, dilation=2, norm=norm)
        case "noise":
            return Noise(stride)
    raise UnknownNameError("operation of darts", name, (*OPERATIONS, NOISE))


class SeparableConv(nn.Module):
    """ReLU, depthwise convolution, 1x1 convolution, norm.

    One with dilation 2 is a ``dil_conv``, two in a row are a ``sep_conv``.
    """

    def __init__(self, channels: int, kernel: int, *, stride: int = 1, dilation: int = 1, norm: Norm = nn.BatchNorm2d):
        super().__init__()
        self.depthwise = conv(channels, channels, kernel, stride=stride, dilation=dilation, groups=channels)
        self.pointwise = conv(channels, channels, 1)
        self.norm = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.pointwise(self.depthwise(torch.relu(x))))
        return out


def preprocessing(place: DARTSCell, *, norm: Norm = nn.BatchNorm2d) -> tuple[nn.Module, nn.Module]:
    """Return what brings the outputs of the two cells before a cell to its width, and both to the same sides."""
    widen = FactorizedReduce if place.after_reduction else _pointwise
    return widen(place.before_last, place.channels, norm=norm), _pointwise(place.last, place.channels, norm=norm)


def _pointwise(inputs: int, outputs: int, *, norm: Norm) -> nn.Module:
    return ReLUConvNorm(inputs, outputs, 1, norm=norm)


class Cell(nn.Module):
    """Two inputs, four nodes that each sum their incoming edges, and the nodes side by side as the output.

    Args:
        inputs: the modules that prepare the outputs of the cell before the last, and of the last.
        edges: one module an edge, the edges of a node together, nodes in order.
        sources: for each node, the nodes its edges come from; 0 and 1 are the inputs. A supernet's cell has all
            edges: ``((0, 1), (0, 1, 2), ...)``.
    """

    def __init__(
        self,
        inputs: tuple[nn.Module, nn.Module],
        edges: Iterable[nn.Module],
        sources: Sequence[Sequence[int]],
    ):
        super().__init__()
        self.inputs = nn.ModuleList(inputs)
        self.edges = nn.ModuleList(edges)
        self.sources = tuple(map(tuple, sources))

    def forward(
        self, before_last: Tensor, last: Tensor, *, drop_path: float = 0.0, generator: torch.Generator | None = None
    ) -> Tensor:
        nodes = [prepare(x) for prepare, x in zip(self.inputs, (before_last, last), strict=True)]
        edges = iter(self.edges)
        for sources in self.sources:
            terms = []
            for source in sources:
                edge = next(edges)
                x = edge(nodes[source])
                kept = drop_path == 0 or isinstance(edge, nn.Identity)
                terms.append(x if kept else drop_paths(x, drop_path, generator))
            nodes.append(reduce(torch.add, terms))
        return torch.cat(nodes[2:], dim=1)


def drop_paths(x: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
    """Return ``x`` with whole images zeroed at random, the others scaled so that the mean stays.

    Raises: InputError where the probability is outside [0, 1) or there is no generator to draw from.
    """
    if generator is None or not 0 <= probability < 1:
        raise InputError(
            f"drop path needs a probability in [0, 1) and a torch.Generator, got {probability!r} and {generator!r}"
        )
    drawn = torch.rand((len(x), 1, 1, 1), generator=generator, device=generator.device)
    keep = (drawn >= probability).to(x.device, x.dtype)
    return x * keep / (1 - probability)


class AuxiliaryHead(nn.Module):
    """Classifies from the features at two thirds of the depth while training, ``(N, C, 8, 8) -> (N, classes)``.

    Raises: InputError, on the first image, where the features are not 8x8, that is the images not 32x32.
    """

    def __init__(self, channels: int, classes: int, *, norm: Norm = nn.BatchNorm2d):
        super().__init__()
        self.pool = nn.AvgPool2d(5, stride=3)
        self.reduce = ConvNorm(channels, 128, 1, norm=norm)
        # No padding: two by two pixels become one.
        self.widen = nn.Conv2d(128, 768, 2, bias=False)
        self.norm = norm(768)
        self.linear = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (8, 8):
            raise InputError(
                f"the auxiliary head is made for 8x8 features, from 32x32 images; got {tuple(x.shape[2:])}. "
                "Build the network without it"
            )
        x = torch.relu(self.reduce(self.pool(torch.relu(x))))
        logits: Tensor = self.linear(torch.relu(self.norm(self.widen(x))).flatten(1))
        return logits


class Skeleton(nn.Module):
    """Stem, cells of which two reduce, head: ``(N, in_channels, H, W) -> (N, classes)`` logits.

    Args:
        cell: makes the cell of a place; it is called with the outputs of the two cells before it, and answers four
            times its width.
        channels: C, 36 in the paper's evaluation, 16 in its search.
        layers: cells in all, 20 in the paper's evaluation, 8 in its search.
        classes: outputs.
        in_channels: channels of the images.
        auxiliary: whether to build the head at two thirds of the depth, for 32x32 images.
        norm: of the stem and of the auxiliary head.
    """

    def __init__(
        self,
        cell: Callable[[DARTSCell], nn.Module],
        *,
        channels: int = 36,
        layers: int = 20,
        classes: int = 10,
        in_channels: int = 3,
        auxiliary: bool = False,
        norm: Norm = nn.BatchNorm2d,
    ):
        places = darts_cells(channels, layers)
        require_positive(classes=classes, in_channels=in_channels)
        super().__init__()
        self.stem = ConvNorm(in_channels, 3 * channels, 3, norm=norm)
        self.cells = nn.ModuleList(cell(place) for place in places)
        self._auxiliary_after = 2 * layers // 3
        width = 4 * places[self._auxiliary_after].channels
        self.auxiliary = AuxiliaryHead(width, classes, norm=norm) if auxiliary else None
        self.head = Head(4 * places[-1].channels, classes)

    def forward(self, x: Tensor, *, drop_path: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
        """Return the logits; see :meth:`with_auxiliary` for the arguments."""
        return self._run(x, drop_path, generator)[0]

    def with_auxiliary(
        self, x: Tensor, *, drop_path: float = 0.0, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the logits and those of the auxiliary head, whose loss the paper adds with weight 0.4.

        Args:
            x: images.
            drop_path: probability of dropping an edge that is no identity, for each image apart; the paper raises it
                from 0 to 0.2 over the epochs. Ignored in evaluation mode.
            generator: what the drops are drawn from; needed where there are any.

        Raises: InputError where the network was built without auxiliary head.
        """
        logits, features = self._run(x, drop_path, generator)
        if self.auxiliary is None:
            raise InputError("this network has no auxiliary head; build it with auxiliary=True")
        return logits, self.auxiliary(features)

    def _run(self, x: Tensor, drop_path: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return the logits, and the features at two thirds of the depth."""
        probability = drop_path if self.training else 0.0
        before_last = last = features = self.stem(x)
        for i, cell in enumerate(self.cells):
            before_last, last = last, cell(before_last, last, drop_path=probability, generator=generator)
            if i == self._auxiliary_after:
                features = last
        return self.head(last), features


def network(
    space: DARTS,
    genotype: NDArray[np.int64],
    *,
    channels: int = 36,
    layers: int = 20,
    classes: int = 10,
    in_channels: int = 3,
    auxiliary: bool = False,
    norm: Norm = nn.BatchNorm2d,
) -> Skeleton:
    """Return the network of a valid genotype ``(22,)``: the paper's evaluation network with the default sizes.

    Args:
        space: one of :data:`SPACES`.
        genotype: one architecture of it.
        channels, layers, classes, in_channels, auxiliary, norm: as :class:`Skeleton` takes them; the norm is that of
            the cells, too.

    Raises: InputError for sizes out of range.
    """
    places, codes = space.edges(genotype[None])
    names = space.named(places, codes)[0].tolist()

    def cell(place: DARTSCell) -> Cell:
        ends = [EDGES[edge] for edge in places[0, int(place.reduction)]]
        edges = [
            operation(space.operations[op], place.channels, edge_stride(place, source), norm=norm)
            for op, (source, _) in zip(names[place.reduction], ends, strict=True)
        ]
        sources = [[source for source, end in ends if end == node] for node in NODES]
        return Cell(preprocessing(place, norm=norm), edges, sources)

    return Skeleton(
        cell,
        channels=channels,
        layers=layers,
        classes=classes,
        in_channels=in_channels,
        auxiliary=auxiliary,
        norm=norm,
    )


def edge_stride(place: DARTSCell, source: int) -> int:
    """Return the stride of an edge: 2 where it leaves an input of a reduction cell, else 1."""
    return 2 if place.reduction and source < 2 else 1
