"""Plain convolutional networks of given widths: VGG-, ResNet- and MobileNetV2-shaped, for small images.

Shapes: N images of H x W pixels, ``(N, in_channels, H, W) -> (N, classes)`` logits. Widths come as the channels of each
group, in the order of the space (:mod:`nasplug.spaces.widths`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nasplug.errors import InputError
from nasplug.spaces.modules.layers import ConvNorm, Head, conv
from nasplug.spaces.modules.layout import require_positive
from nasplug.spaces.widths import (
    MOBILENET,
    MOBILENET_ENDS,
    RESNET,
    VGG,
    MobileNetWidths,
    ResNetWidths,
    VGGWidths,
    WidthSpace,
    mobilenet_groups,
    resnet_groups,
    vgg_groups,
)

__all__ = ["SPACES", "mobilenet", "network", "resnet", "vgg"]


def vgg(
    widths: Sequence[int] | None = None,
    *,
    plan: Sequence[Sequence[int]] = VGG,
    classes: int = 10,
    in_channels: int = 3,
) -> nn.Sequential:
    """Return a chain of 3x3 convolutions with batch-norm and ReLU, max-pooling between stages, mean and linear layer.

    Args:
        widths: channels of each convolution; the plan's own if not given.
        plan: channels of each convolution, stage by stage.
        classes: outputs.
        in_channels: channels of the images.

    Raises: InputError for another number of widths than the plan has, or one below 1.
    """
    take = _widths(widths, vgg_groups(plan), classes, in_channels)
    layers: list[tuple[str, nn.Module]] = []
    inputs, place = in_channels, iter(take)
    for i, stage in enumerate(plan, 1):
        parts: list[tuple[str, nn.Module]] = []
        for j, _ in enumerate(stage, 1):
            outputs = next(place)
            parts += [(f"conv{j}", ConvNorm(inputs, outputs, 3)), (f"act{j}", nn.ReLU())]
            inputs = outputs
        layers.append((f"stage{i}", nn.Sequential(OrderedDict(parts))))
        if i < len(plan):
            layers.append((f"pool{i}", nn.MaxPool2d(2)))
    return nn.Sequential(OrderedDict([*layers, ("head", Head(inputs, classes))]))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with norm, added to the input, or to its 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int, project: bool):
        super().__init__()
        self.first = ConvNorm(inputs, inner, 3, stride=stride)
        self.act = nn.ReLU()
        self.second = ConvNorm(inner, outputs, 3)
        self.shortcut = ConvNorm(inputs, outputs, 1, stride=stride) if project else nn.Identity()
        self.last = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.second(self.act(self.first(x)))
        total: Tensor = self.last(out + self.shortcut(x))
        return total


def resnet(
    widths: Sequence[int] | None = None,
    *,
    plan: Sequence[tuple[int, int]] = RESNET,
    classes: int = 10,
    in_channels: int = 3,
) -> nn.Sequential:
    """Return a residual network of basic blocks; the first block of a stage but the first has a 1x1 shortcut.

    Args:
        widths: channels of the stem's stream, then of each block inside, each later stage's stream behind its first
            block; the plan's own if not given.
        plan: width and blocks of each stage.
        classes: outputs.
        in_channels: channels of the images.

    Raises: InputError for another number of widths than the plan has, or one below 1.
    """
    place = iter(_widths(widths, resnet_groups(plan), classes, in_channels))
    stream = next(place)
    layers: list[tuple[str, nn.Module]] = [("stem", ConvNorm(in_channels, stream, 3)), ("act", nn.ReLU())]
    for i, (_, blocks) in enumerate(plan, 1):
        parts: list[tuple[str, nn.Module]] = []
        for j in range(1, blocks + 1):
            inner, inputs, project = next(place), stream, i > 1 and j == 1
            stream = next(place) if project else stream
            parts.append((f"block{j}", BasicBlock(inputs, inner, stream, 2 if project else 1, project)))
        layers.append((f"stage{i}", nn.Sequential(OrderedDict(parts))))
    return nn.Sequential(OrderedDict([*layers, ("head", Head(stream, classes))]))


class InvertedResidual(nn.Module):
    """1x1 convolution to ``hidden``, depthwise 3x3, 1x1 to ``outputs``; the input is added where ``residual``."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int, residual: bool):
        super().__init__()
        self.expand = ConvNorm(inputs, hidden, 1)
        self.expand_act = nn.ReLU6()
        self.depthwise = nn.Sequential(
            OrderedDict(conv=conv(hidden, hidden, 3, stride=stride, groups=hidden), norm=nn.BatchNorm2d(hidden))
        )
        self.depthwise_act = nn.ReLU6()
        self.project = ConvNorm(hidden, outputs, 1)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.depthwise_act(self.depthwise(self.expand_act(self.expand(x)))))
        return out + x if self.residual else out


def mobilenet(
    widths: Sequence[int] | None = None,
    *,
    plan: Sequence[tuple[int, int, int, int]] = MOBILENET,
    ends: tuple[int, int] = MOBILENET_ENDS,
    classes: int = 10,
    in_channels: int = 3,
) -> nn.Sequential:
    """Return a chain of inverted residuals between a 3x3 stem and a wide 1x1 convolution.

    Args:
        widths: channels of the stem, each expansion, each stage's stream behind the expansion of its first block, and
            of the last convolution; the plan's own if not given.
        plan: expansion, width, blocks and stride of the first block of each stage.
        ends: channels of stem and last convolution.
        classes: outputs.
        in_channels: channels of the images.

    Raises: InputError for another number of widths than the plan has, or one below 1.
    """
    place = iter(_widths(widths, mobilenet_groups(plan, ends), classes, in_channels))
    inputs = next(place)
    layers: list[tuple[str, nn.Module]] = [("stem", ConvNorm(in_channels, inputs, 3)), ("act", nn.ReLU6())]
    for i, (_, _, blocks, stride) in enumerate(plan, 1):
        parts: list[tuple[str, nn.Module]] = []
        for j in range(1, blocks + 1):
            block = partial(InvertedResidual, inputs, next(place))
            inputs = next(place) if j == 1 else inputs
            parts.append((f"block{j}", block(inputs, stride if j == 1 else 1, j > 1)))
        layers.append((f"stage{i}", nn.Sequential(OrderedDict(parts))))
    last = next(place)
    ending: list[tuple[str, nn.Module]] = [("last", ConvNorm(inputs, last, 1)), ("last_act", nn.ReLU6())]
    return nn.Sequential(OrderedDict([*layers, *ending, ("head", Head(last, classes))]))


SPACES: Mapping[str, tuple[Callable[[], WidthSpace], Callable[..., nn.Sequential]]] = {
    "vgg-widths": (VGGWidths, vgg),
    "resnet-widths": (ResNetWidths, resnet),
    "mobilenet-widths": (MobileNetWidths, mobilenet),
}
"""Spaces of widths by name, and what builds their networks."""


def network(name: str, genotype: NDArray[np.int64], *, classes: int = 10, in_channels: int = 3) -> nn.Sequential:
    """Return the network of a valid genotype ``(s,)`` of the space ``name``."""
    space, build = SPACES[name]
    return build(space().counts(genotype[None])[0], classes=classes, in_channels=in_channels)


def _widths(
    widths: Sequence[int] | None, groups: Sequence[tuple[str, int]], classes: int, in_channels: int
) -> list[int]:
    require_positive(classes=classes, in_channels=in_channels)
    given = [full for _, full in groups] if widths is None else [int(width) for width in widths]
    if len(given) != len(groups):
        raise InputError(
            f"expected {len(groups)} widths, one each of {', '.join(n for n, _ in groups)}; got {len(given)}"
        )
    require_positive(**{name: width for (name, _), width in zip(groups, given, strict=True)})
    return given
