"""Layers that the networks of several spaces are made of.

Shapes: N images, C channels, H x W pixels; every layer takes and returns ``(N, C, H, W)``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["ConvNorm", "FactorizedReduce", "Head", "Norm", "ReLUConvNorm", "SqueezeExcite", "Zero", "conv"]

Norm = Callable[[int], nn.Module]
"""Makes the normalisation of so many channels. ``nn.BatchNorm2d``, or for a supernet, whose mixture weights an affine
scale would absorb, ``partial(nn.BatchNorm2d, affine=False)``."""


def conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution without bias; at stride 1 an odd kernel keeps the sides, at stride 2 it halves them."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)


class ConvNorm(nn.Sequential):
    """Convolution and norm, no activation; the stem of the cell networks."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, norm: Norm = nn.BatchNorm2d):
        super().__init__(
            OrderedDict(conv=conv(inputs, outputs, kernel, stride=stride), norm=norm(outputs)),
        )


class ReLUConvNorm(nn.Sequential):
    """ReLU, convolution, norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, norm: Norm = nn.BatchNorm2d):
        super().__init__(
            OrderedDict(relu=nn.ReLU(), conv=conv(inputs, outputs, kernel, stride=stride), norm=norm(outputs))
        )


class FactorizedReduce(nn.Module):
    """Halve even sides by two 1x1 convolutions at stride 2, the second one pixel further: ReLU, both, norm.

    Each makes half of the output channels, so no pixel goes unseen.
    """

    def __init__(self, inputs: int, outputs: int, *, norm: Norm = nn.BatchNorm2d):
        super().__init__()
        self.relu = nn.ReLU()
        self.even = conv(inputs, outputs // 2, 1, stride=2)
        self.odd = conv(inputs, outputs - outputs // 2, 1, stride=2)
        self.norm = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        halves = torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1)
        out: Tensor = self.norm(halves)
        return out


class SqueezeExcite(nn.Module):
    """Scale each channel by what all channels' means say: 1x1 to ``units``, ReLU, 1x1 back, sigmoid."""

    def __init__(self, channels: int, units: int):
        super().__init__()
        self.reduce, self.excite = nn.Conv2d(channels, units, 1), nn.Conv2d(units, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.excite(torch.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class Zero(nn.Module):
    """Zeros of the input's shape, whatever comes in; no gradient passes."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Head(nn.Sequential):
    """Mean over the pixels, then a linear layer with bias: ``(N, C, H, W) -> (N, classes)`` logits."""

    def __init__(self, channels: int, classes: int):
        super().__init__(
            OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(channels, classes))
        )
