"""From a supernet of superkernels to a network of its own: plain modules, the same function.

A dropped channel of a superkernel still sends a constant, and a skipped layer adds one to its input. Behind every such
constant stands a 1x1 convolution with its norm, which takes it in: the norm's mean moves. So the exported network has
exactly the layers of its architecture, no more, and in evaluation mode equals the supernet to rounding. Slicing alone,
as published code does, gives another function.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasplug.errors import InputError
from nasplug.spaces.modules import nasbench_macro, single_path
from nasplug.spaces.modules.layers import ConvNorm, SqueezeExcite
from nasplug.spaces.modules.nasbench_macro import InvertedResidual
from nasplug.spaces.modules.superkernel import Block, NestedSqueeze, SuperBlock
from nasplug.spaces.single_path import SinglePath

__all__ = ["extract"]


def extract(supernet: single_path.Supernet, genotype: NDArray[np.int64] | None = None) -> nn.Module:
    """Return the network of an architecture with the supernet's weights, in evaluation mode.

    Its logits are those of ``supernet.eval()`` as that architecture, to rounding. Batch norms use the supernet's
    running statistics: recalibrate it first as the architecture asked for
    (:func:`nasplug.spaces.modules.recalibration.recalibrate`) where those are of another.

    Args:
        supernet: stays as it is.
        genotype: ``(s,)``, valid; None for what its weights decide.

    Raises: InputError for a genotype that is not of the space or that this supernet does not hold, or norms without
        running statistics.
    """
    space, sizes = supernet.space, supernet.sizes
    (row,) = space.check((supernet.genotype() if genotype is None else np.asarray(genotype))[None])
    if any(isinstance(m, nn.BatchNorm2d) and m.running_mean is None for m in supernet.modules()):
        raise InputError("export moves running statistics of batch norms; build the supernet with norms that keep them")
    first = next(supernet.parameters())
    net: Any
    if isinstance(space, SinglePath):
        net = single_path.network(space, row, norm=supernet.norm, **sizes)
    else:
        net = nasbench_macro.network(row, norm=supernet.norm, **sizes)
    net = net.to(device=first.device, dtype=first.dtype).eval()
    whole = copy.deepcopy(supernet).eval()
    whole.drop(None)
    whole.force(row)
    body = cast(Any, whole.body)
    with torch.no_grad():
        for name, part in body.named_children():
            if name != "layers":
                net.get_submodule(name).load_state_dict(part.state_dict())
        carry = first.new_zeros(whole.blocks[0].expand.in_channels)
        for block, layer, choice in zip(whole.blocks, net.layers, row, strict=True):
            carry = _cut(block, layer, int(choice), carry)
        if isinstance(space, SinglePath):
            _take_in(net.final.layers.expand, net.final.layers.expand_norm, carry)
        if not isinstance(space, SinglePath) or net.final.residual:
            _take_in(net.last.conv, net.last.norm, carry)
    return cast(nn.Module, net)


def _cut(block: SuperBlock, layer: nn.Module, choice: int, carry: Tensor) -> Tensor:
    """Fill a layer from its superblock, and return what every pixel behind it lacks, ``(outputs,)``.

    Args:
        carry: what every pixel before it lacks, ``(inputs,)``.
    """
    cut = block.block(choice)
    if cut is not None:
        assert isinstance(layer, InvertedResidual)
        _fill(block, layer, cut, carry)
        return carry if block.residual else carry.new_zeros(block.project.out_channels)
    constant = block.branch(carry.new_zeros(1, len(carry), 1, 1), block.kernel()).flatten()
    if block.residual:
        return carry + constant
    assert isinstance(layer, ConvNorm)
    assert block.shortcut is not None
    layer.load_state_dict(block.shortcut.state_dict())
    _take_in(cast(nn.Conv2d, layer.conv), cast(nn.BatchNorm2d, layer.norm), carry)
    return constant


def _fill(block: SuperBlock, layer: InvertedResidual, cut: Block, carry: Tensor) -> None:
    parts, kept = cast(Any, layer.layers), slice(0, cut.hidden)
    rim = (block.kernel.weight.shape[-1] - cut.kernel) // 2
    centre = slice(rim, rim + cut.kernel)
    parts.expand.weight.copy_(block.expand.weight[kept])
    parts.depthwise.weight.copy_(block.kernel.weight[kept, :, centre, centre])
    parts.project.weight.copy_(block.project.weight[:, kept])
    _copy_norm(cast(nn.BatchNorm2d, block.expand_norm), parts.expand_norm, kept)
    _copy_norm(cast(nn.BatchNorm2d, block.depthwise_norm), parts.depthwise_norm, kept)
    _copy_norm(cast(nn.BatchNorm2d, block.project_norm), parts.project_norm, slice(None))
    _take_in(parts.expand, parts.expand_norm, carry)
    if block.squeeze is None:
        silent = carry.new_zeros(1, block.kernel.hidden, 1, 1)
        sent = torch.relu(block.depthwise_norm(silent)).flatten()[cut.hidden :]
        parts.project_norm.running_mean -= block.project.weight[:, cut.hidden :].flatten(1) @ sent
    elif cut.squeeze:
        _fill_squeeze(block.squeeze, parts.squeeze, cut)


def _fill_squeeze(whole: NestedSqueeze, part: SqueezeExcite, cut: Block) -> None:
    part.reduce.weight.copy_(whole.reduce.weight[: cut.squeeze, : cut.hidden])
    part.excite.weight.copy_(whole.excite.weight[: cut.hidden, : cut.squeeze])
    for mine, its, size in ((part.reduce, whole.reduce, cut.squeeze), (part.excite, whole.excite, cut.hidden)):
        assert mine.bias is not None
        assert its.bias is not None
        mine.bias.copy_(its.bias[:size])


def _copy_norm(source: nn.BatchNorm2d, target: nn.BatchNorm2d, kept: slice) -> None:
    for name, value in source.state_dict().items():
        target.state_dict()[name].copy_(value[kept] if value.ndim else value)


def _take_in(conv: nn.Conv2d, norm: nn.BatchNorm2d, carry: Tensor) -> None:
    """Let a 1x1 convolution with its norm give for ``x`` what it gave for ``x + carry``."""
    assert norm.running_mean is not None
    norm.running_mean -= conv.weight.flatten(1) @ carry
