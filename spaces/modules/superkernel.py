"""Superkernels: one over-sized depthwise kernel that holds every candidate of a layer as a nested part of itself.

Source: Stamoulis et al., arXiv:1904.02877, and the authors' code. A group of weights stays where its norm exceeds a
trained threshold; the decision is a step on the way forward and a sigmoid on the way back.

Shapes: N images; c channels that come, C = 6 c of the depthwise kernel, whose weight is ``(C, 1, 5, 5)``; k choices of
a layer, in the code order of its space. An indicator is a scalar tensor, 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasplug.errors import InputError
from nasplug.spaces.modules.layers import ConvNorm, Norm, conv

__all__ = ["Block", "Gate", "JointKernel", "NestedSqueeze", "Shape", "SuperBlock", "Superkernel", "indicator"]

KERNEL, EXPANSION = 5, 6


class Block(NamedTuple):
    """What a layer is cut down to: a kernel side, channels of the depthwise kernel, units of the squeeze."""

    kernel: int
    hidden: int
    squeeze: int = 0


def indicator(margin: Tensor) -> Tensor:
    """Return 1 where ``margin >= 0``, else 0; the gradient is that of the sigmoid."""
    soft = torch.sigmoid(margin)
    # The bracket is exactly zero: also at an infinite margin, where the sigmoid is 0 or 1 and flat.
    return (margin >= 0).to(margin.dtype) + (soft - soft.detach())


class Gate(nn.Module):
    """One decision: whether a group of weights stays, ``group (any shape) -> indicator``.

    Args:
        size: weights of the group; what it is given may hold zeros beside them.
        faithful: compare the plain norm with the threshold, as the published code does. Its gradient vanishes: norms
            start between 11 and 38, where the sigmoid is flat, down to exactly 0 in float32. By default the norm is
            divided by the square root of the size, so the margin stays near 0 whatever the width.

    Attributes:
        threshold: scalar, starts at 0, where every group stays.
        forced: None, or the value that the indicator takes whatever the weights; not part of the state.
        factor: multiplies the indicator: 1, or what dropout of decisions draws; not part of the state.
        soft: whether the indicator is the sigmoid itself, a probability; not part of the state.
    """

    def __init__(self, size: int, faithful: bool = False):
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(()))
        self.scale = 1.0 if faithful else size**-0.5
        self.forced: bool | None = None
        self.factor = 1.0
        self.soft = False

    def margin(self, group: Tensor) -> Tensor:
        """Return how far the group's norm is above the threshold, a scalar."""
        return self.scale * torch.linalg.vector_norm(group) - self.threshold

    def forward(self, group: Tensor) -> Tensor:
        if self.forced is not None:
            return group.new_tensor(float(self.forced))
        if self.soft:
            return torch.sigmoid(self.margin(group))
        taken = indicator(self.margin(group))
        return taken if self.factor == 1.0 else taken * self.factor


class Shape(NamedTuple):
    """A superkernel as its decisions leave it.

    Attributes:
        weight: ``(C, 1, 5, 5)``, zero where a group is dropped.
        keep: indicator of the whole layer; 1 where it cannot be skipped.
        expand: indicator of the upper half of the channels.
        choices: ``(k,)``, 1 at what the layer is and 0 elsewhere, with the indicators' gradients.
    """

    weight: Tensor
    keep: Tensor
    expand: Tensor
    choices: Tensor


class _Kernel(nn.Module):
    """What superkernels share: the weight, its groups, and how decisions are counted."""

    def __init__(self, hidden: int, skippable: bool):
        super().__init__()
        if hidden < 2 or hidden % 2:
            raise InputError(f"a superkernel is cut in two halves and needs an even number of channels, got {hidden}")
        self.hidden, self.skippable = hidden, skippable
        self.weight = nn.Parameter(torch.empty(hidden, 1, KERNEL, KERNEL))
        nn.init.normal_(self.weight, std=(2 / KERNEL**2) ** 0.5)  # the published draw: fan-out of a depthwise kernel
        centre = torch.zeros(KERNEL, KERNEL)
        centre[1:-1, 1:-1] = 1
        self.centre: Tensor
        self.register_buffer("centre", centre, persistent=False)
        self.keep: Gate | None = None

    def _kept(self, group: Tensor) -> Tensor:
        return group.new_ones(()) if self.keep is None else self.keep(group)


class Superkernel(_Kernel):
    """Three decisions, one after the other: the ring makes 3x3 into 5x5, the upper half expansion 3 into 6, keep.

    Norms of channel groups are those of the kernel after the decision on the ring. Choices are 0 k3_e3, 1 k5_e3,
    2 k3_e6, 3 k5_e6 and, where the layer may be skipped, last skip.

    Args:
        hidden: channels C.
        skippable: whether there is a decision to skip.
        faithful: see :class:`Gate`.

    Raises: InputError for an odd number of channels.
    """

    def __init__(self, hidden: int, *, skippable: bool = True, faithful: bool = False):
        super().__init__(hidden, skippable)
        half = self.weight.numel() // 2
        self.ring, self.upper = Gate(hidden * (KERNEL**2 - 9), faithful), Gate(half, faithful)
        self.keep = Gate(half, faithful) if skippable else None

    def forward(self) -> Shape:
        inner = self.weight * self.centre
        ring = self.weight - inner
        wide = self.ring(ring)
        kernel = inner + wide * ring
        lower, upper = kernel.chunk(2)
        expand, keep = self.upper(upper), self._kept(lower)
        weight = keep * torch.cat([lower, expand * upper])
        blocks = torch.stack([(1 - expand) * (1 - wide), (1 - expand) * wide, expand * (1 - wide), expand * wide])
        choices = torch.cat([keep * blocks, (1 - keep)[None]]) if self.skippable else blocks
        return Shape(weight, keep, expand, choices)

    def block(self, choice: int) -> Block | None:
        """Return what a choice cuts the kernel down to; None for skip."""
        if choice == 4:
            return None
        return Block((3, 5)[choice % 2], self.hidden if choice // 2 else self.hidden // 2)

    def force(self, choice: int | None) -> None:
        """Take a choice whatever the weights; None lets the weights decide again."""
        block = None if choice is None else self.block(choice)
        self.ring.forced = None if choice is None else block is not None and block.kernel == KERNEL
        self.upper.forced = None if choice is None else block is not None and block.hidden == self.hidden
        if self.keep is not None:
            self.keep.forced = None if choice is None else block is not None


class JointKernel(_Kernel):
    """NAS-Bench-Macro's layers: ring and upper half come together, from k3 e3 to k5 e6, and keep.

    Choices are 0 identity, 1 k3_e3, 2 k5_e6; without a decision to keep, 0 is never taken.

    Args: as :class:`Superkernel`.
    """

    def __init__(self, hidden: int, *, skippable: bool = True, faithful: bool = False):
        super().__init__(hidden, skippable)
        size = 9 * hidden // 2
        self.grown = Gate(self.weight.numel() - size, faithful)
        self.keep = Gate(size, faithful) if skippable else None
        inside = torch.zeros(hidden, 1, KERNEL, KERNEL)
        inside[: hidden // 2] = self.centre
        self.inside: Tensor
        self.register_buffer("inside", inside, persistent=False)

    def forward(self) -> Shape:
        inner = self.weight * self.inside
        outer = self.weight - inner
        grown, keep = self.grown(outer), self._kept(inner)
        weight = keep * (inner + grown * outer)
        return Shape(weight, keep, grown, torch.stack([1 - keep, keep * (1 - grown), keep * grown]))

    def block(self, choice: int) -> Block | None:
        """Return what a choice cuts the kernel down to; None for identity."""
        return (None, Block(3, self.hidden // 2), Block(5, self.hidden))[choice]

    def force(self, choice: int | None) -> None:
        """Take a choice whatever the weights; None lets the weights decide again."""
        self.grown.forced = None if choice is None else choice == 2
        if self.keep is not None:
            self.keep.forced = None if choice is None else choice != 0


class NestedSqueeze(nn.Module):
    """Squeeze-and-excitation whose widths are nested: no squeeze, the first units, or more of them.

    ``(N, C, H, W) -> (N, C, H, W)``. A group of units stays where the norm of its weights exceeds a threshold, and
    only behind the groups before it; without the first, the input leaves as it came. Biases are dropped with their
    unit, so a narrower squeeze is a slice.

    Args:
        channels: C.
        widths: units of each nested squeeze, ascending.
        faithful: see :class:`Gate`.

    Raises: InputError where widths do not ascend from at least 1.
    """

    def __init__(self, channels: int, widths: Sequence[int], *, faithful: bool = False):
        super().__init__()
        starts = (0, *widths[:-1])
        if not widths or any(end <= start for start, end in zip(starts, widths, strict=True)):
            raise InputError(f"widths of a nested squeeze ascend from at least 1, got {list(widths)}")
        self.widths = tuple(widths)
        self.sizes = [end - start for start, end in zip(starts, widths, strict=True)]
        self.reduce = nn.Conv2d(channels, widths[-1], 1)
        self.excite = nn.Conv2d(widths[-1], channels, 1)
        self.gates = nn.ModuleList(Gate(size * channels, faithful) for size in self.sizes)

    def indicators(self) -> list[Tensor]:
        """Return one indicator a group of units, each at most the one before it."""
        taken: list[Tensor] = []
        for gate, group in zip(self.gates, torch.split(self.reduce.weight, self.sizes), strict=True):
            taken.append(gate(group) * taken[-1] if taken else gate(group))
        return taken

    def choices(self, taken: Sequence[Tensor]) -> Tensor:
        """Return ``(len(widths) + 1,)``, 1 at the width that is taken, 0 for none first."""
        steps = [torch.ones_like(taken[0]), *taken, torch.zeros_like(taken[0])]
        return torch.stack([a - b for a, b in pairwise(steps)])

    def forward(self, x: Tensor, taken: Sequence[Tensor]) -> Tensor:
        units = torch.cat([one.expand(size) for one, size in zip(taken, self.sizes, strict=True)])
        squeezed = F.relu(self.reduce(x.mean((2, 3), keepdim=True))) * units.view(-1, 1, 1)
        there = taken[0].clamp(max=1)  # dropout of decisions makes what stays more than 1
        return x * (1 - there + there * torch.sigmoid(self.excite(squeezed)))

    def force(self, width: int | None) -> None:
        """Take the ``width``-th width, 0 for none; None lets the weights decide again."""
        for i, gate in enumerate(self.gates):
            assert isinstance(gate, Gate)
            gate.forced = None if width is None else i < width


class SuperBlock(nn.Module):
    """An inverted residual with a superkernel: every candidate of the layer in one path.

    ``(N, c, H, W) -> (N, outputs, H / stride, W / stride)``. Only the depthwise kernel is cut; both 1x1 convolutions
    keep their ``6 c`` channels, so a dropped channel still sends a constant, that of its norm and activation. With a
    squeeze, which would look at them, dropped channels are silenced.

    A skipped layer adds a constant a channel to its input; export moves such constants into the norms that follow
    (:mod:`nasplug.spaces.modules.superkernel_export`). Where the layer resizes, its input cannot stay: it is then
    either never skipped, as published, or has a 1x1 convolution to be skipped by (``shortcut``).

    Args:
        kernel: the superkernel, ``6 * inputs`` channels.
        inputs: channels that come.
        outputs: channels that leave.
        stride: 1 or 2.
        shortcut: whether a layer that resizes can be skipped; NAS-Bench-Macro's can.
        squeeze: makes the layer's squeeze-and-excitation searchable.
        norm: makes every norm.
    """

    def __init__(
        self,
        kernel: Superkernel | JointKernel,
        inputs: int,
        outputs: int,
        stride: int,
        *,
        shortcut: bool = False,
        squeeze: NestedSqueeze | None = None,
        norm: Norm = nn.BatchNorm2d,
    ):
        super().__init__()
        hidden = kernel.hidden
        self.residual = stride == 1 and inputs == outputs
        self.stride = stride
        self.expand, self.expand_norm = conv(inputs, hidden, 1), norm(hidden)
        self.kernel, self.depthwise_norm = kernel, norm(hidden)
        self.squeeze = squeeze
        self.project, self.project_norm = conv(hidden, outputs, 1), norm(outputs)
        self.shortcut = ConvNorm(inputs, outputs, 1, stride=stride, norm=norm) if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        shape: Shape = self.kernel()
        out = self.branch(x, shape)
        if self.residual:
            return out + x
        if self.shortcut is None:
            return out
        absent = (1 - shape.keep).clamp(min=0)  # dropout of decisions makes what stays more than 1
        return out + absent * self.shortcut(x)

    def branch(self, x: Tensor, shape: Shape) -> Tensor:
        """Return what the block adds to its input."""
        h = F.relu(self.expand_norm(self.expand(x)))
        h = F.conv2d(h, shape.weight, stride=self.stride, padding=KERNEL // 2, groups=len(shape.weight))
        h = F.relu(self.depthwise_norm(h))
        if self.squeeze is not None:
            half = len(shape.weight) // 2
            present = torch.cat([shape.keep.expand(half), (shape.keep * shape.expand).expand(half)])
            h = self.squeeze(h * present.view(-1, 1, 1), self.squeeze.indicators())
        return self.project_norm(self.project(h))

    def choices(self) -> Tensor:
        """Return ``(k,)``, 1 at what the layer is and 0 elsewhere, with the gradients of its decisions."""
        shape: Shape = self.kernel()
        if self.squeeze is None:
            return shape.choices
        n_blocks = len(shape.choices) - self.kernel.skippable
        widths = self.squeeze.choices(self.squeeze.indicators())
        blocks = (widths[:, None] * shape.choices[:n_blocks]).flatten()
        return torch.cat([blocks, shape.choices[n_blocks:]])

    def block(self, choice: int) -> Block | None:
        """Return what a choice cuts the layer down to; None for none at all."""
        if self.squeeze is None:
            return self.kernel.block(choice)
        width, of = divmod(choice, 4)
        block = self.kernel.block(of)
        assert block is not None
        return block._replace(squeeze=(0, *self.squeeze.widths)[width]) if width <= len(self.squeeze.widths) else None

    def force(self, choice: int | None) -> None:
        """Take a choice, a code of the layer's site, whatever the weights; None lets the weights decide again."""
        if self.squeeze is None:
            self.kernel.force(choice)
            return
        width, of = (None, None) if choice is None else divmod(choice, 4)
        skipped = width is not None and width > len(self.squeeze.widths)
        self.kernel.force(4 if skipped else of)
        self.squeeze.force(0 if skipped else width)
