"""The convolutions of the networks of a width space, and what they cost, in closed form; imports no torch.

Shapes: n architectures; genotypes are ``(n, s)``, results exact int64 ``(n,)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasplug.spaces.base import Genotypes
from nasplug.spaces.modules.layout import require_positive
from nasplug.spaces.widths import (
    MOBILENET,
    RESNET,
    VGG,
    MobileNetWidths,
    ResNetWidths,
    VGGWidths,
    WidthSpace,
)

__all__ = ["SPACES", "width_flops", "width_params"]

IMAGE = -1
"""In place of a group: the channels of the images."""


@dataclass(frozen=True)
class Convolution:
    """One convolution with its batch-norm.

    Attributes:
        inputs, outputs: groups that its channels are of; equal and ``depthwise`` for one filter a channel.
        kernel: pixels of a side.
        pixels: of the output, all of it.
        depthwise: whether each output sees one input.
    """

    inputs: int
    outputs: int
    kernel: int
    pixels: int
    depthwise: bool = False


def _vgg(side: int) -> Iterator[Convolution]:
    inputs = IMAGE
    for stage in VGG:
        for _ in stage:
            yield Convolution(inputs, inputs + 1, 3, side * side)
            inputs += 1
        side //= 2


def _resnet(side: int) -> Iterator[Convolution]:
    yield Convolution(IMAGE, 0, 3, side * side)
    stream, site = 0, 0
    for i, (_, blocks) in enumerate(RESNET):
        for j in range(blocks):
            inputs, inner, first = stream, site + 1, i > 0 and j == 0
            site = inner + first
            stream = site if first else stream
            side = -(-side // 2) if first else side
            yield Convolution(inputs, inner, 3, side * side)
            yield Convolution(inner, stream, 3, side * side)
            if first:
                yield Convolution(inputs, stream, 1, side * side)


def _mobilenet(side: int) -> Iterator[Convolution]:
    yield Convolution(IMAGE, 0, 3, side * side)
    stream, site = 0, 0
    for _, _, blocks, stride in MOBILENET:
        for j in range(blocks):
            inputs, hidden = stream, site + 1
            site = hidden + (j == 0)
            stream = site if j == 0 else stream
            yield Convolution(inputs, hidden, 1, side * side)
            side = -(-side // stride) if j == 0 else side
            yield Convolution(hidden, hidden, 3, side * side, depthwise=True)
            yield Convolution(hidden, stream, 1, side * side)
    yield Convolution(stream, site + 1, 1, side * side)


SPACES: Mapping[str, tuple[Callable[[], WidthSpace], Callable[[int], Iterator[Convolution]]]] = {
    "vgg-widths": (VGGWidths, _vgg),
    "resnet-widths": (ResNetWidths, _resnet),
    "mobilenet-widths": (MobileNetWidths, _mobilenet),
}
"""Width spaces by name, and their convolutions for images of so many pixels a side; the last one feeds the
classifier."""


def width_params(name: str, genotypes: Genotypes, *, classes: int = 10, in_channels: int = 3) -> NDArray[np.int64]:
    """Return the parameters of each network of the width space ``name``, ``(n,)``."""
    width, layers = _widths(name, genotypes, 1, classes, in_channels)
    total = (width(layers[-1].outputs) + 1) * classes
    for layer in layers:
        total = total + _weights(layer, width) + 2 * width(layer.outputs)
    return total


def width_flops(
    name: str, genotypes: Genotypes, *, classes: int = 10, in_channels: int = 3, size: int = 32
) -> NDArray[np.int64]:
    """Return the multiply-adds of each network of the width space ``name`` on an image of ``size`` x ``size``."""
    width, layers = _widths(name, genotypes, size, classes, in_channels)
    total = width(layers[-1].outputs) * classes
    for layer in layers:
        total = total + _weights(layer, width) * layer.pixels
    return total


Width = Callable[[int], NDArray[np.int64]]


def _widths(
    name: str, genotypes: Genotypes, size: int, classes: int, in_channels: int
) -> tuple[Width, list[Convolution]]:
    require_positive(classes=classes, in_channels=in_channels, size=size)
    space, convolutions = SPACES[name]
    counts = space().counts(genotypes)

    def width(group: int) -> NDArray[np.int64]:
        return np.full(len(counts), in_channels) if group == IMAGE else counts[:, group]

    return width, list(convolutions(size))


def _weights(layer: Convolution, width: Width) -> NDArray[np.int64]:
    inputs = 1 if layer.depthwise else width(layer.inputs)
    return layer.kernel**2 * inputs * width(layer.outputs)
