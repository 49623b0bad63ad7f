"""Networks of NAS-Bench-Macro: a chain of inverted residuals or identities (Su et al., CVPR 2021, arXiv 2103.11922).

Shapes: N images; sides of any size, a stride of 2 halves them and rounds up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nasplug.errors import UnknownNameError
from nasplug.spaces.modules.layers import ConvNorm, Head, Norm, SqueezeExcite, conv
from nasplug.spaces.modules.layout import macro_layers, require_positive
from nasplug.spaces.nasbench_macro import OPERATIONS

__all__ = ["InvertedResidual", "Skeleton", "network", "operation"]

Layer = Callable[[int, int, int], nn.Module]


def operation(name: str, inputs: int, outputs: int, stride: int, *, norm: Norm = nn.BatchNorm2d) -> nn.Module:
    """Return one layer of the chain, ``(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)``.

    Args:
        name: one of :data:`nasplug.spaces.nasbench_macro.OPERATIONS`. An identity that has to resize or widen is a
            1x1 convolution with norm and no activation.
        inputs: channels that come.
        outputs: channels that leave.
        stride: 1 or 2.
        norm: makes every norm of the layer.

    Raises: UnknownNameError for another name.
    """
    match name:
        case "identity":
            plain = stride == 1 and inputs == outputs
            return nn.Identity() if plain else ConvNorm(inputs, outputs, 1, stride=stride, norm=norm)
        case "mbconv_k3_e3":
            return InvertedResidual(inputs, outputs, stride, kernel=3, expansion=3, norm=norm)
        case "mbconv_k5_e6":
            return InvertedResidual(inputs, outputs, stride, kernel=5, expansion=6, norm=norm)
    raise UnknownNameError("operation of nasbench-macro", name, OPERATIONS)


class InvertedResidual(nn.Module):
    """1x1 convolution to ``expansion * inputs``, depthwise convolution with the stride, 1x1 to ``outputs``.

    Each is followed by a norm, the first two by ReLU; with expansion 1 there is no first, unless ``always_expand``. A
    squeeze-and-excitation of ``squeeze`` units stands before the last. The input is added where shape and width stay.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        *,
        kernel: int,
        expansion: int,
        squeeze: int = 0,
        always_expand: bool = False,
        norm: Norm = nn.BatchNorm2d,
    ):
        super().__init__()
        hidden = expansion * inputs
        self.residual = stride == 1 and inputs == outputs
        layers = OrderedDict[str, nn.Module]()
        if expansion > 1 or always_expand:
            layers |= {"expand": conv(inputs, hidden, 1), "expand_norm": norm(hidden), "expand_relu": nn.ReLU()}
        layers["depthwise"] = conv(hidden, hidden, kernel, stride=stride, groups=hidden)
        layers |= {"depthwise_norm": norm(hidden), "depthwise_relu": nn.ReLU()}
        if squeeze:
            layers["squeeze"] = SqueezeExcite(hidden, squeeze)
        layers |= {"project": conv(hidden, outputs, 1), "project_norm": norm(outputs)}
        self.layers = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out + x if self.residual else out


class Skeleton(nn.Module):
    """Stem, eight layers in stages of 2, 3 and 3, a wide 1x1 convolution, head.

    ``(N, in_channels, H, W) -> (N, classes)`` logits.

    Args:
        layers: what makes each of the eight layers from channels that come, channels that leave, and stride.
        stem: channels of the stem; each stage doubles them.
        width: channels of the convolution before the head.
        strides: of the first layer of each stage. The benchmark's (2, 2, 2) ends at 4x4 for images of 32x32, and at
            1x1 for 8x8, where a depthwise kernel sees mostly padding; (1, 2, 2) and (1, 1, 2) end such images at 2x2
            and 4x4.
        classes: outputs.
        in_channels: channels of the images.
        norm: of stem and head.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        stem: int = 32,
        width: int = 1280,
        strides: Sequence[int] = (2, 2, 2),
        classes: int = 10,
        in_channels: int = 3,
        norm: Norm = nn.BatchNorm2d,
    ):
        places = macro_layers(stem, strides)
        require_positive(width=width, classes=classes, in_channels=in_channels)
        super().__init__()
        self.stem = ConvNorm(in_channels, stem, 3, norm=norm)
        self.layers = nn.Sequential(*(layer(*place) for layer, place in zip(layers, places, strict=True)))
        self.last = ConvNorm(places[-1].outputs, width, 1, norm=norm)
        self.relu = nn.ReLU()
        self.head = Head(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.layers(self.relu(self.stem(x)))
        logits: Tensor = self.head(self.relu(self.last(features)))
        return logits


def network(
    genotype: NDArray[np.int64],
    *,
    stem: int = 32,
    width: int = 1280,
    strides: Sequence[int] = (2, 2, 2),
    classes: int = 10,
    in_channels: int = 3,
    norm: Norm = nn.BatchNorm2d,
) -> Skeleton:
    """Return the network of a valid genotype ``(8,)``: the benchmark's own with the default sizes."""

    def layer(code: int) -> Layer:
        return lambda inputs, outputs, stride: operation(OPERATIONS[code], inputs, outputs, stride, norm=norm)

    return Skeleton(
        [layer(code) for code in genotype],
        stem=stem,
        width=width,
        strides=strides,
        classes=classes,
        in_channels=in_channels,
        norm=norm,
    )
