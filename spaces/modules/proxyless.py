"""The stochastic supernet of DNAL: a ProxylessNAS chain (arXiv 1812.00332) whose layers add up all their candidates.

Shapes: N images of H x W pixels, sides of any size; a stride of 2 halves them and rounds up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from nasplug.errors import InputError
from nasplug.spaces.modules.layers import Head, conv
from nasplug.spaces.modules.layout import require_positive

__all__ = ["CANDIDATES", "MBConv", "Mixture", "SuperProxyless"]

CANDIDATES = tuple((kernel, expansion) for expansion in (3, 6) for kernel in (3, 5, 7))
"""Kernel and expansion of the six candidates of a layer."""

STAGES = ((24, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2), (320, 1, 1))
"""Width, layers and first stride of each stage of the ImageNet supernet."""


class MBConv(nn.Sequential):
    """1x1 convolution to ``expansion * inputs`` (none for 1), depthwise with the stride, 1x1 to ``outputs``.

    Each with batch-norm, the first two with ReLU6. No shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, kernel: int, expansion: int):
        hidden = expansion * inputs
        layers: list[tuple[str, nn.Module]] = []
        if expansion > 1:
            layers += [("expand", conv(inputs, hidden, 1)), ("expand_norm", nn.BatchNorm2d(hidden))]
            layers += [("expand_act", nn.ReLU6())]
        layers += [("depthwise", conv(hidden, hidden, kernel, stride=stride, groups=hidden))]
        layers += [("depthwise_norm", nn.BatchNorm2d(hidden)), ("depthwise_act", nn.ReLU6())]
        layers += [("project", conv(hidden, outputs, 1)), ("project_norm", nn.BatchNorm2d(outputs))]
        super().__init__(OrderedDict(layers))


class Mixture(nn.Module):
    """The sum of all candidates, plus the input where stride and width allow it: with all gates closed, the input."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.shortcut = stride == 1 and inputs == outputs
        self.candidates = nn.ModuleDict(
            {
                f"k{kernel}_e{expansion}": MBConv(inputs, outputs, stride, kernel, expansion)
                for kernel, expansion in CANDIDATES
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs = [candidate(x) for candidate in self.candidates.values()]
        total = x + outputs[0] if self.shortcut else outputs[0]
        for one in outputs[1:]:
            total = total + one
        return total


class SuperProxyless(nn.Sequential):
    """Stem, an MBConv without expansion, layers of six candidates each, a wide 1x1 convolution, head.

    ``(N, in_channels, H, W) -> (N, classes)`` logits. With the defaults it is the paper's: 16,034,168 parameters, and
    60,704 gates of ``Gated(network, image, residual="own")``.

    Args:
        stem, first, last: channels of the stem, of the MBConv behind it and of the convolution before the head.
        stages: width, layers and stride of the first layer of each stage.
        stem_stride: 2 as published; 1 for small images.
        classes: outputs.
        in_channels: channels of the images.

    Raises: InputError for sizes below 1 or no stages.
    """

    def __init__(
        self,
        *,
        stem: int = 32,
        first: int = 16,
        stages: Sequence[tuple[int, int, int]] = STAGES,
        last: int = 1280,
        stem_stride: int = 2,
        classes: int = 1000,
        in_channels: int = 3,
    ):
        require_positive(
            stem=stem, first=first, last=last, stem_stride=stem_stride, classes=classes, in_channels=in_channels
        )
        if not stages or any(number < 1 for stage in stages for number in stage):
            raise InputError(f"stages need width, layers and stride of at least 1 each, got {list(stages)}")
        layers: list[tuple[str, nn.Module]] = [
            ("stem", conv(in_channels, stem, 3, stride=stem_stride)),
            ("stem_norm", nn.BatchNorm2d(stem)),
            ("stem_act", nn.ReLU6()),
            ("first", MBConv(stem, first, 1, 3, 1)),
        ]
        inputs = first
        for number, (width, count, stride) in enumerate(stages, 1):
            for place in range(count):
                layers.append((f"stage{number}_layer{place + 1}", Mixture(inputs, width, stride if place == 0 else 1)))
                inputs = width
        layers += [("last", conv(inputs, last, 1)), ("last_norm", nn.BatchNorm2d(last)), ("last_act", nn.ReLU6())]
        super().__init__(OrderedDict([*layers, ("head", Head(last, classes))]))
