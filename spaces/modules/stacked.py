"""Many small networks trained as one: the same layers of all of them become one grouped layer.

On a CPU a small network is bound by the cost of calling its layers, not by arithmetic. The networks of one space share
a skeleton, so a batch of them can pass through it together: a convolution becomes one with a group a network, a batch
norm one over all channels, and where networks differ (an edge of a cell, a layer of a chain) each kind of operation
serves the networks that have it.

Shapes: M networks; B images; a layer of C channels sees ``(B, M * C, H, W)``, the networks one after the other.

Source: grouped convolutions for training several models at once are an old device; torch.func.stack_module_state does
the like for networks of equal structure, which those of a search space are not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasplug.errors import InputError
from nasplug.spaces.modules import nasbench201, nasbench_macro
from nasplug.spaces.modules.layers import ConvNorm, Head, ReLUConvNorm, Zero

__all__ = ["Stack"]

_SKELETONS = (nn.Sequential, nn.ModuleList, nasbench201.Cell, nasbench201.Skeleton, nasbench_macro.Skeleton)
"""Modules that are looked into where networks differ; any other is an operation, served whole."""

_BLOCKS = (*_SKELETONS, ConvNorm, ReLUConvNorm, nasbench201.ResidualBlock, nasbench_macro.InvertedResidual)
"""Modules whose own code works on the channels of many networks as on those of one; a concatenation does not."""


class Stack(nn.Module):
    """Networks as one module: ``(B, channels, H, W) -> (M, B, classes)`` logits, what each gives alone.

    A single network is kept as it is, of whatever layers; of several the weights are copied. Training the stack on the
    sum of the losses trains every network on its own, since no path leads from one to another. Rounding differs from
    that of a single network in the last bits.

    Args:
        networks: of one space and equal sizes, such as :func:`nasplug.spaces.modules.network` builds.

    Raises: InputError for no networks, networks of several spaces or sizes, or layers that have no stacked form.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        if not networks:
            raise InputError("a stack needs at least one network")
        if len({_outline(network) for network in networks}) > 1:
            raise InputError("the networks of a stack must be of one space and have equal sizes: their ends differ")
        self.n_networks = len(networks)
        self.body = _stacked(networks) if len(networks) > 1 else networks[0]

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        return logits if self.n_networks > 1 else logits[None]


def _outline(network: nn.Module) -> tuple[Any, ...]:
    """Return what all networks of a space have alike: between stem and head they may differ, in operations alone."""
    ends = tuple(_signature(network._modules.get(end) or nn.Identity()) for end in ("stem", "head"))
    return type(network), tuple(name for name, _ in network.named_children()), ends


def _stacked(modules: Sequence[nn.Module]) -> nn.Module:
    """Return one module for the same place in every network."""
    first = modules[0]
    alike = len({_signature(module) for module in modules}) == 1
    same_outline = len({(type(m), tuple(name for name, _ in m.named_children())) for m in modules}) == 1
    if not alike and not (same_outline and type(first) in _SKELETONS):
        return _Mixed(modules)
    for kinds, make in _LEAVES:
        if type(first) in kinds:  # a subclass may do something else
            return make(modules)
    if type(first) not in _BLOCKS:
        raise InputError(f"a layer of type {type(first).__name__} has no stacked form")
    out = copy.copy(first)
    out._modules = {name: _stacked([m._modules[name] for m in modules]) for name in first._modules}  # type: ignore[misc]
    return out


def _signature(module: nn.Module) -> tuple[Any, ...]:
    """Return what makes two modules the same layer with other weights."""
    settings = module.extra_repr()
    kept = {
        k: v for k, v in vars(module).items() if isinstance(v, bool | int | float | str | tuple) and k != "training"
    }
    plain = tuple(sorted((k, repr(v)) for k, v in kept.items()))
    return type(module), settings, plain, tuple((name, _signature(child)) for name, child in module.named_children())


class _Conv(nn.Module):
    def __init__(self, modules: Sequence[nn.Conv2d]):
        super().__init__()
        first = modules[0]
        if first.bias is not None or first.padding_mode != "zeros":
            raise InputError("a convolution with bias, or with other padding than zeros, has no stacked form")
        self.weight = nn.Parameter(torch.cat([m.weight.detach() for m in modules]))
        self.groups, self.n_networks, self.inputs = first.groups, len(modules), first.in_channels
        self.stride, self.padding, self.dilation = first.stride, first.padding, first.dilation

    def forward(self, x: Tensor) -> Tensor:
        # Images come once for all networks: then it is one wide convolution.
        shared = x.shape[1] == self.inputs and self.groups == 1
        groups = 1 if shared else self.groups * self.n_networks
        weight: Tensor = self.weight
        padding = self.padding
        if self.dilation == (1, 1):
            met = [_met(*axis) for axis in zip(x.shape[2:], weight.shape[2:], self.stride, padding, strict=True)]
            weight = weight[:, :, met[0], met[1]]
            padding = tuple(p - taps.start for p, taps in zip(padding, met, strict=True))
        if self.groups > 1 or weight.shape[2:] == (1, 1):
            x = x.contiguous(memory_format=torch.channels_last)  # torch's kernels for these are faster so
        return F.conv2d(x, weight, None, self.stride, padding, self.dilation, groups)


@cache
def _met(size: int, kernel: int, stride: int, padding: int) -> slice:
    """Return the taps of a kernel that meet pixels along one axis: on small images the outer ones meet padding alone.

    Leaving those out changes no output, and less is computed: of 5x5 taps on 2x2 pixels 3x3 are left.
    """
    last = (size + 2 * padding - kernel) // stride
    return slice(max(0, padding - last * stride), min(kernel, size + padding))


class _Norm(nn.Module):
    def __init__(self, modules: Sequence[nn.BatchNorm2d]):
        super().__init__()
        if modules[0].momentum is None:
            raise InputError("a batch norm with cumulative statistics has no stacked form")
        self.eps, self.momentum = modules[0].eps, modules[0].momentum
        if modules[0].affine:
            self.weight = nn.Parameter(torch.cat([m.weight.detach() for m in modules]))
            self.bias = nn.Parameter(torch.cat([m.bias.detach() for m in modules]))
        else:
            self.weight = self.bias = None  # type: ignore[assignment]
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.cat([_known(m.running_mean) for m in modules]))
        self.register_buffer("running_var", torch.cat([_known(m.running_var) for m in modules]))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.shape[2] * x.shape[3] > 4:
            return self._normed(x)
        # Torch's kernel walks the pixels of one channel at a time, which are too few here: make channels the last axis.
        rows = x.flatten(2).transpose(1, 2)
        normed = self._normed(rows.reshape(-1, x.shape[1]))
        return normed.view(rows.shape).transpose(1, 2).reshape(x.shape)

    def _normed(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )


def _known(statistics: Tensor | None) -> Tensor:
    if statistics is None:
        raise InputError("a batch norm without running statistics has no stacked form")
    return statistics


class _Pool(nn.Module):
    """Average pooling as one product with a constant matrix: torch's kernel is several times slower than that."""

    def __init__(self, modules: Sequence[nn.AvgPool2d]):
        super().__init__()
        self.pool = modules[0]
        self._made_for: tuple[Any, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if self._made_for != (height, width, x.dtype, x.device):
            pixels = torch.eye(height * width, dtype=x.dtype, device=x.device)
            self._pooled: Tensor = self.pool(pixels.view(-1, 1, height, width))
            self._made_for = (height, width, x.dtype, x.device)
        out = x.reshape(-1, height * width) @ self._pooled.flatten(1)
        return out.view(*x.shape[:2], *self._pooled.shape[2:])


class _Head(nn.Module):
    """Mean over the pixels and one linear layer a network: ``(B, M * C, H, W) -> (M, B, classes)``."""

    def __init__(self, modules: Sequence[Head]):
        super().__init__()
        linears = [cast(nn.Linear, m.linear) for m in modules]
        self.weight = nn.Parameter(torch.stack([m.weight.detach().T for m in linears]))
        self.bias = nn.Parameter(torch.stack([m.bias.detach()[None] for m in linears]))

    def forward(self, x: Tensor) -> Tensor:
        features = x.flatten(2).mean(2).view(len(x), *self.weight.shape[:2])
        return torch.baddbmm(self.bias, features.transpose(0, 1), self.weight)


class _Mixed(nn.Module):
    """The place where networks differ: each kind of operation serves the networks that have it."""

    def __init__(self, modules: Sequence[nn.Module]):
        super().__init__()
        members: dict[Any, list[int]] = {}
        for i, module in enumerate(modules):
            if not isinstance(module, Zero):
                members.setdefault(_signature(module), []).append(i)
        self.n_networks = len(modules)
        self.kinds = nn.ModuleList(_stacked([modules[i] for i in rows]) for rows in members.values())
        for k, rows in enumerate(members.values()):
            self.register_buffer(f"rows_{k}", torch.tensor(rows), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        rows = [self.get_buffer(f"rows_{k}") for k in range(len(self.kinds))]
        parts = _Take.apply(self.n_networks, rows, x)  # type: ignore[no-untyped-call]
        done = [kind(part) for kind, part in zip(self.kinds, parts, strict=True)]
        out: Tensor = _Put.apply(self.n_networks, rows, *done)  # type: ignore[no-untyped-call]
        return out


class _Take(torch.autograd.Function):
    """The networks of each kind, copied out; no network is in two, so a gradient is written once, not added up."""

    @staticmethod
    def forward(ctx: Any, n_networks: int, rows: list[Tensor], x: Tensor) -> tuple[Tensor, ...]:
        ctx.n_networks, ctx.rows = n_networks, rows
        return _taken(x, n_networks, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor]:
        return None, None, _put(ctx.n_networks, ctx.rows, grads)


class _Put(torch.autograd.Function):
    """The inverse: parts at the places of their networks, zeros where a network is in none."""

    @staticmethod
    def forward(ctx: Any, n_networks: int, rows: list[Tensor], *parts: Tensor) -> Tensor:
        ctx.n_networks, ctx.rows = n_networks, rows
        return _put(n_networks, rows, parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *_taken(grad, ctx.n_networks, ctx.rows)


def _taken(x: Tensor, n_networks: int, rows: Sequence[Tensor]) -> tuple[Tensor, ...]:
    by_network = x.reshape(len(x), n_networks, -1)
    return tuple(by_network.index_select(1, chosen).view(len(x), -1, *x.shape[2:]) for chosen in rows)


def _put(n_networks: int, rows: Sequence[Tensor], parts: Sequence[Tensor]) -> Tensor:
    batch, channels, height, width = parts[0].shape
    whole = sum(map(len, rows)) == n_networks
    make = torch.empty if whole else torch.zeros
    out = make(
        (batch, n_networks, channels // len(rows[0]) * height * width), dtype=parts[0].dtype, device=parts[0].device
    )
    for chosen, part in zip(rows, parts, strict=True):
        out.index_copy_(1, chosen, part.reshape(batch, len(chosen), -1))
    return out.view(batch, -1, height, width)


_LEAVES: tuple[tuple[tuple[type[nn.Module], ...], Callable[[Sequence[Any]], nn.Module]], ...] = (
    ((nn.Conv2d,), _Conv),
    ((nn.BatchNorm2d,), _Norm),
    ((nn.AvgPool2d,), _Pool),
    ((Head,), _Head),
    ((nn.ReLU, nn.Identity, Zero), lambda modules: modules[0]),
)
