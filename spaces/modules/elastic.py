"""The elastic network: a once-for-all network whose sub-networks are nested slices of its weights.

Slices: a block takes the first channels of its hidden layer and the centre of its depthwise kernels; a stage takes its
first blocks. Source: Cai et al., Once-for-All, ICLR 2020. Differs: a smaller kernel is the centre as it is, without the
learnt linear map; channels are not sorted by importance; every batch norm takes the statistics of the batch at hand, so
that the network holds none that belong to another slice (a sub-network gets its own by
:func:`nasplug.spaces.modules.recalibration.recalibrate`).

Shapes: N images ``(N, C, H, W)`` with sides of any size; r requests; b blocks of the largest network.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nasplug.spaces.elastic import Elastic
from nasplug.spaces.modules.layers import ConvNorm, Head, Norm
from nasplug.spaces.modules.layout import elastic_layers, require_positive
from nasplug.spaces.modules.nasbench_macro import InvertedResidual
from nasplug.spaces.modules.relaxed import Choices

__all__ = ["Chain", "SuperNetwork", "network"]

SPACE = Elastic()


class Chain(nn.Module):
    """Stem, the active blocks of the genotype, head: ``(N, in_channels, H, W) -> (N, classes)`` logits.

    Blocks carry the number that they have in the largest network, so that weights of one name are slices of another.

    Args:
        genotype: valid, ``(s,)``.
        stem: channels of the first convolution.
        widths: channels that leave each stage.
        strides: of the first block of each stage.
        classes: outputs.
        in_channels: channels of the images.
        norm: of every block and the stem.
    """

    def __init__(
        self,
        genotype: NDArray[np.int64],
        *,
        stem: int = 16,
        widths: Sequence[int] = (24, 40, 80),
        strides: Sequence[int] = (1, 2, 2),
        classes: int = 10,
        in_channels: int = 3,
        norm: Norm = nn.BatchNorm2d,
    ):
        layers = elastic_layers(stem, widths, strides)
        require_positive(classes=classes, in_channels=in_channels)
        super().__init__()
        self.stem = ConvNorm(in_channels, stem, 3, norm=norm)
        self.relu = nn.ReLU()
        blocks = OrderedDict[str, nn.Module]()
        for i, kernel, expansion in _active(genotype):
            blocks[str(i)] = InvertedResidual(
                *layers[i], kernel=kernel, expansion=expansion, always_expand=True, norm=norm
            )
        self.blocks = nn.Sequential(blocks)
        self.head = Head(layers[-1].outputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.relu(self.stem(x))))
        return logits


def network(
    genotype: NDArray[np.int64],
    *,
    stem: int = 16,
    widths: Sequence[int] = (24, 40, 80),
    strides: Sequence[int] = (1, 2, 2),
    classes: int = 10,
    in_channels: int = 3,
    norm: Norm = nn.BatchNorm2d,
) -> Chain:
    """Return the network of a valid genotype ``(s,)``."""
    return Chain(
        genotype, stem=stem, widths=widths, strides=strides, classes=classes, in_channels=in_channels, norm=norm
    )


class SuperNetwork(nn.Module):
    """All sub-networks of the space at once, sharing the weights of the largest.

    Batch norms have no running statistics: a forward pass, in either mode, normalises by its own batch, so N should be
    64 or more where the answers matter.

    Args:
        stem, widths, strides, classes, in_channels: as :class:`Chain`'s.
    """

    def __init__(
        self,
        *,
        stem: int = 16,
        widths: Sequence[int] = (24, 40, 80),
        strides: Sequence[int] = (1, 2, 2),
        classes: int = 10,
        in_channels: int = 3,
    ):
        super().__init__()
        self.sizes: dict[str, Any] = {"stem": stem, "widths": tuple(widths), "strides": tuple(strides)}
        self.classes, self.in_channels = classes, in_channels
        without_statistics = partial(nn.BatchNorm2d, track_running_stats=False)
        largest = SPACE.n_choices - 1
        self.whole = Chain(
            largest,
            stem=stem,
            widths=widths,
            strides=strides,
            classes=classes,
            in_channels=in_channels,
            norm=without_statistics,
        )

    def forward(self, x: Tensor, genotype: NDArray[np.int64]) -> Tensor:
        """Return the logits ``(N, classes)`` of one sub-network ``(s,)``, computed on slices only."""
        whole = self.whole
        x = whole.relu(whole.stem(x))
        for i, kernel, expansion in _active(genotype):
            x = _sliced(self._block(i), x, kernel, expansion)
        logits: Tensor = whole.head(x)
        return logits

    def relaxed(self, x: Tensor, choices: Choices) -> Tensor:
        """Return the logits ``(r * m, classes)`` of r relaxed sub-networks, differentiable in the choices.

        One-hot choices give each request the logits that :meth:`forward` gives its sub-network on its images.

        Args:
            x: m images a request, ``(r * m, C, H, W)``, request by request; each is normalised by its own images.
            choices: of r requests.
        """
        whole, requests = self.whole, len(choices.depth)
        images = len(x) // requests
        active = choices.active(SPACE)
        stem: Any = whole.stem
        x = whole.relu(_normalised(stem.conv(x), stem.norm, requests))
        for i in range(SPACE.blocks):
            block = self._block(i)
            kernel, expand = (_per_image(weights[:, i], images) for weights in (choices.kernel, choices.expand))
            out = _mixed(block, x, kernel, expand, requests)
            if SPACE.place[i]:
                out = out * _per_image(active[:, i], images)[:, None, None, None]
            x = out + x if block.residual else out
        logits: Tensor = whole.head(x)
        return logits

    def extract(self, genotype: NDArray[np.int64], classes: Sequence[int] | None = None) -> Chain:
        """Return one sub-network ``(s,)`` as a plain network with its own copy of the weights.

        Its batch norms hold no statistics yet: recalibrate them, on images of the classes it is for.

        Args:
            genotype: which.
            classes: the classes it keeps, in the order of its outputs; None for all.
        """
        kept = list(range(self.classes)) if classes is None else list(classes)
        plain = network(genotype, classes=len(kept), in_channels=self.in_channels, **self.sizes)
        plain.to(next(self.parameters()).device)
        weights = dict(self.whole.named_parameters())
        with torch.no_grad():
            for name, weight in plain.named_parameters():
                source = weights[name][kept] if name.startswith("head.") else weights[name]
                weight.copy_(_slice(source, weight.shape))
        return plain

    def _block(self, i: int) -> InvertedResidual:
        block = self.whole.blocks[i]
        assert isinstance(block, InvertedResidual)
        return block


def _active(genotype: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Return number, kernel and expansion of each active block, in order."""
    kernels, expansions = genotype[SPACE.kernel_sites], genotype[SPACE.expand_sites]
    (active,) = SPACE.active(genotype[None])
    return [
        (int(i), SPACE.kernels[kernels[i]], SPACE.expansions[expansions[i]]) for i in np.flatnonzero(active).tolist()
    ]


def _slice(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the first channels of a weight and, of kernels, the centre."""
    for dim, size in enumerate(shape):
        start = (weight.shape[dim] - size) // 2 if dim >= 2 else 0
        weight = weight.narrow(dim, start, size)
    return weight


def _sliced(block: InvertedResidual, x: Tensor, kernel: int, expansion: int) -> Tensor:
    """Return what the slice of a block computes."""
    layers: Any = block.layers
    hidden = expansion * x.shape[1]

    def normalised(y: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        channels = y.shape[1]
        return F.batch_norm(y, None, None, norm.weight[:channels], norm.bias[:channels], training=True, eps=norm.eps)

    y = normalised(F.conv2d(x, layers.expand.weight[:hidden]), layers.expand_norm).relu()
    depthwise = _slice(layers.depthwise.weight, (hidden, 1, kernel, kernel))
    y = F.conv2d(y, depthwise, stride=layers.depthwise.stride, padding=kernel // 2, groups=hidden)
    y = normalised(y, layers.depthwise_norm).relu()
    y = normalised(F.conv2d(y, layers.project.weight[:, :hidden]), layers.project_norm)
    return x + y if block.residual else y


def _mixed(block: InvertedResidual, x: Tensor, kernel: Tensor, expand: Tensor, requests: int) -> Tensor:
    """Return what relaxed slices of a block compute, without the residual.

    Args:
        block: the largest form.
        x: ``(N, C, H, W)``.
        kernel: ``(N, kernels)``.
        expand: ``(N, expansions)``.
        requests: r; N / r images each.
    """
    layers: Any = block.layers
    channels = layers.depthwise.weight.shape[0]
    y = _normalised(layers.expand(x), layers.expand_norm, requests).relu()
    # A convolution is linear in its kernel: the mixture of the answers is the answer of the mixture.
    answers = [
        weight[:, None, None, None]
        * F.conv2d(
            y,
            _slice(layers.depthwise.weight, (channels, 1, size, size)),
            stride=layers.depthwise.stride,
            padding=size // 2,
            groups=channels,
        )
        for size, weight in zip(SPACE.kernels, kernel.T, strict=True)
    ]
    y = _normalised(torch.stack(answers).sum(dim=0), layers.depthwise_norm, requests).relu()
    ends = torch.tensor(SPACE.expansions, device=x.device) * x.shape[1]
    within = (torch.arange(channels, device=x.device) < ends[:, None]).to(x.dtype)
    # Masked once is enough: up to here, no channel has heard of another.
    y = y * (expand @ within)[:, :, None, None]
    return _normalised(layers.project(y), layers.project_norm, requests)


def _normalised(y: Tensor, norm: nn.BatchNorm2d, requests: int) -> Tensor:
    """Return a batch norm of each request's images by themselves."""
    apart = y.reshape(requests, -1, *y.shape[1:])
    var, mean = torch.var_mean(apart, dim=(1, 3, 4), correction=0, keepdim=True)
    apart = (apart - mean) * torch.rsqrt(var + norm.eps)
    return apart.flatten(0, 1) * norm.weight[:, None, None] + norm.bias[:, None, None]


def _per_image(weights: Tensor, images: int) -> Tensor:
    return weights.repeat_interleave(images, dim=0)
