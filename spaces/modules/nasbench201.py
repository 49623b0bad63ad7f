"""Networks of NAS-Bench-201: one cell, repeated in three stages (Dong and Yang, ICLR 2020, section 2.1).

Shapes: N images with sides H = W, divisible by 4; C the width of the first stage.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasplug.errors import UnknownNameError
from nasplug.spaces.modules.layers import ConvNorm, Head, Norm, ReLUConvNorm, Zero, conv
from nasplug.spaces.modules.layout import require_positive
from nasplug.spaces.nasbench201 import EDGES, OPERATIONS

__all__ = ["Cell", "ResidualBlock", "Skeleton", "network", "operation"]


def operation(name: str, channels: int, *, norm: Norm = nn.BatchNorm2d) -> nn.Module:
    """Return the operation on one edge of a cell, ``(N, channels, H, W)`` to the same shape.

    Args:
        name: one of :data:`nasplug.spaces.nasbench201.OPERATIONS`.
        channels: the width of the cell.
        norm: makes the norm of the two convolutions; the others have none.

    Raises: UnknownNameError for another name.
    """
    match name:
        case "none":
            return Zero()
        case "skip_connect":
            return nn.Identity()
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        case "nor_conv_1x1" | "nor_conv_3x3":
            return ReLUConvNorm(channels, channels, int(name[-1]), norm=norm)
    raise UnknownNameError("operation of nasbench201", name, OPERATIONS)


class Cell(nn.Module):
    """Four nodes: the input, and three that are each the sum of their incoming edges; the last one is the output.

    Args:
        edges: the modules on :data:`nasplug.spaces.nasbench201.EDGES`, in that order: operations, or in a supernet
            whatever mixes them.
    """

    def __init__(self, edges: Iterable[nn.Module]):
        super().__init__()
        self.edges = nn.ModuleList(edges)

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for node in (1, 2, 3):
            terms = [edge(nodes[source]) for edge, (source, end) in zip(self.edges, EDGES, strict=True) if end == node]
            nodes.append(reduce(torch.add, terms))
        return nodes[-1]


class ResidualBlock(nn.Module):
    """Between two stages: halves the sides and widens, two 3x3 convolutions beside a pooled 1x1 one without norm."""

    def __init__(self, inputs: int, outputs: int, *, norm: Norm = nn.BatchNorm2d):
        super().__init__()
        self.first = ReLUConvNorm(inputs, outputs, 3, stride=2, norm=norm)
        self.second = ReLUConvNorm(outputs, outputs, 3, norm=norm)
        self.shortcut = nn.Sequential(OrderedDict(pool=nn.AvgPool2d(2), conv=conv(inputs, outputs, 1)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x)) + self.shortcut(x)
        return out


class Skeleton(nn.Module):
    """Stem, three stages of cells at C, 2C and 4C with a residual block before the second and third, norm, ReLU, head.

    ``(N, in_channels, H, W) -> (N, classes)`` logits.

    Args:
        cell: makes one cell of so many channels, called ``3 * cells`` times.
        channels: C, 16 in the benchmark.
        cells: cells a stage, 5 in the benchmark.
        classes: outputs.
        in_channels: channels of the images.
        norm: of stem, residual blocks and head; a supernet may give its cells another.
    """

    def __init__(
        self,
        cell: Callable[[int], nn.Module],
        *,
        channels: int = 16,
        cells: int = 5,
        classes: int = 10,
        in_channels: int = 3,
        norm: Norm = nn.BatchNorm2d,
    ):
        require_positive(channels=channels, cells=cells, classes=classes, in_channels=in_channels)
        super().__init__()
        self.stem = ConvNorm(in_channels, channels, 3, norm=norm)
        blocks: list[nn.Module] = []
        for width in (channels, 2 * channels, 4 * channels):
            if width > channels:
                blocks.append(ResidualBlock(width // 2, width, norm=norm))
            blocks += [cell(width) for _ in range(cells)]
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm(4 * channels)
        self.head = Head(4 * channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.norm(self.blocks(self.stem(x)))))
        return logits


def network(
    genotype: NDArray[np.int64],
    *,
    channels: int = 16,
    cells: int = 5,
    classes: int = 10,
    in_channels: int = 3,
    norm: Norm = nn.BatchNorm2d,
) -> Skeleton:
    """Return the network of a valid genotype ``(6,)``: the benchmark's own with the default sizes.

    Operations that cannot reach the output are built all the same and count among the parameters, as in the official
    tables. So cells of one canonical class differ in parameters and FLOPs; they also differ a little in function: a
    convolution of a node that is always zero still adds the learned offset of its norm, a constant a channel.
    """
    return Skeleton(
        lambda width: Cell(operation(OPERATIONS[code], width, norm=norm) for code in genotype),
        channels=channels,
        cells=cells,
        classes=classes,
        in_channels=in_channels,
        norm=norm,
    )
