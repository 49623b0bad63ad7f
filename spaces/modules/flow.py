"""What flows through a convolutional network: which channels are zero, which are needed, and what they cost.

Read off a torch.fx graph. An operation that is not known here is safe: it is given all its channels, zeros included.

Shapes: C channels, axis 1 of a tensor ``(N, C, H, W)`` or ``(N, C)``; masks are bool ``(C,)``.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from nasplug.errors import InputError
from nasplug.spaces.modules.gates import Gate

__all__ = ["DROPS_PATHS", "ChannelFlow", "Cost", "Emptied", "Kind", "Mask"]

Mask = NDArray[np.bool_]
Kind = Literal[
    "input", "output", "conv", "depthwise", "linear", "norm", "gate", "keep", "lift", "add", "mul", "cat", "flatten",
    "shape", "opaque",
]  # fmt: skip
"""What a node does to channels. keep: to each by itself, and zero stays zero. lift: to each by itself, but zero does
not stay zero. shape: asks for sides or the batch. opaque: anything unknown, or that mixes channels in its own way."""

_KEEP_MODULES = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh, nn.Softsign,
    nn.Tanhshrink, nn.Hardshrink, nn.Softshrink, nn.Identity, nn.Dropout, nn.Dropout2d, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample, nn.ZeroPad2d,
)  # fmt: skip
DROPS_PATHS = ("DropPath", "StochasticDepth")
"""Modules, whoever wrote them, that drop whole branches in training and do nothing otherwise."""

_LIFT_MODULES = (nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.LogSigmoid)
_KEEP_NAMES = {
    "relu", "relu_", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "hardswish", "tanh", "max_pool2d",
    "avg_pool2d", "adaptive_avg_pool2d", "interpolate", "contiguous", "clone", "neg",
}  # fmt: skip
_LIFT_NAMES = {"sigmoid", "hardsigmoid", "softplus", "exp", "cos"}
_ADD = (operator.add, operator.iadd, torch.add, "add", "add_")
_MUL = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
_DIVIDE = (operator.truediv, torch.div, "div")
_CAT = (torch.cat, torch.concat)
_RESHAPE = (torch.flatten, torch.reshape, "flatten", "view", "reshape")
_MEAN = (torch.mean, "mean")
_DROPOUT = (F.dropout, F.dropout2d, torch.dropout)


@dataclass(frozen=True)
class Cost:
    """Of a network without its idle channels: parameters, and multiply-adds of convolutions and linear layers."""

    params: int
    flops: int


class ChannelFlow:
    """The channels of every tensor of a traced network.

    Args:
        traced: the network; gates of :class:`~nasplug.spaces.modules.gates.Gate` are known as such.
        image: shape of one image, ``(channels, H, W)``; the network runs on one unless its graph knows all shapes.

    Raises: InputError where the network cannot be run on such an image.
    """

    def __init__(self, traced: fx.GraphModule, image: tuple[int, int, int]):
        self.traced, self.image = traced, image
        self.nodes: tuple[fx.Node, ...] = tuple(traced.graph.nodes)
        if any("tensor_meta" not in node.meta for node in self.nodes if node.op == "placeholder"):
            _measure_shapes(traced, image)
        self.kinds: dict[fx.Node, Kind] = {node: _kind(node, traced) for node in self.nodes}

    # -- reading the graph -------------------------------------------------------------------------------------------

    def module(self, node: fx.Node) -> nn.Module:
        """Return the module that a node calls."""
        return self.traced.get_submodule(str(node.target))

    def operands(self, node: fx.Node) -> list[fx.Node]:
        """Return the tensors that a node works on, in order."""
        if self.kinds[node] == "flatten":
            return node.all_input_nodes[:1]
        return [one for one in node.all_input_nodes if self.kinds[one] != "shape"]

    def channels(self, node: fx.Node) -> int:
        """Return the width of a node's tensor, 0 where it is none with channels."""
        shape = _shape(node)
        return shape[1] if len(shape) >= 2 and node.op != "output" else 0

    def _pixels(self, node: fx.Node) -> int:
        return int(np.prod(_shape(node)[2:]))

    # -- masks -------------------------------------------------------------------------------------------------------

    def settled(self, masks: Mapping[str, Mask]) -> dict[str, Mask]:
        """Return the masks with those gates closed as well that nothing but a constant would pass.

        Where all channels of a layer are off, what follows computes a constant from nothing; the next gate that stands
        at one place only is closed, so that the whole branch vanishes.
        """
        return self._forward(masks, settle=True)[1]

    def zeros(self, masks: Mapping[str, Mask]) -> dict[fx.Node, Mask]:
        """Return which channels of every tensor are zero, whatever the image, given the gates' masks (True: open)."""
        return self._forward(masks, settle=False)[0]

    def _forward(self, masks: Mapping[str, Mask], *, settle: bool) -> tuple[dict[fx.Node, Mask], dict[str, Mask]]:
        zero: dict[fx.Node, Mask] = {}
        constant: dict[fx.Node, bool] = {}
        masks = dict(masks)
        places = [str(node.target) for node in self.nodes if self.kinds[node] == "gate"]
        for node in self.nodes:
            operands = self.operands(node)
            before = [zero[one] for one in operands]
            nothing = np.zeros(self.channels(node), dtype=bool)
            still = bool(operands) and all(constant[one] for one in operands)
            match self.kinds[node]:
                case "conv" | "linear":
                    bias = getattr(self.module(node), "bias", None) is not None
                    zero[node] = nothing | (before[0].all() and not bias)
                    still = still or bool(before[0].all())
                case "depthwise":
                    bias = getattr(self.module(node), "bias", None) is not None
                    zero[node] = nothing if bias else before[0]
                    still = still or bool(before[0].all())
                case "gate":
                    name = str(node.target)
                    if settle and still and places.count(name) == 1:
                        masks[name] = nothing
                    zero[node] = before[0] | ~masks[name]
                case "keep":
                    zero[node] = before[0]
                case "add":
                    zero[node] = np.logical_and.reduce(before)
                case "mul":
                    zero[node] = np.logical_or.reduce(before)
                case "cat":
                    zero[node] = np.concatenate(before)
                case "flatten":
                    zero[node] = np.repeat(before[0], self.channels(node) // len(before[0]))
                case _:
                    zero[node] = nothing
            constant[node] = still or (len(nothing) > 0 and bool(zero[node].all()))
        return zero, masks

    def present(self, masks: Mapping[str, Mask]) -> dict[fx.Node, Mask]:
        """Return which channels of every tensor a slim network has: those that are needed and not always zero.

        Raises: InputError, naming the layers, where a layer is needed but all that it works on is off.
        """
        zero = self.zeros(masks)
        need = {node: np.zeros(self.channels(node), dtype=bool) for node in self.nodes}
        for node in reversed(self.nodes):
            kind = self.kinds[node]
            live = need[node] & ~zero[node]
            if kind == "opaque" and need[node].any():
                live = np.ones_like(live)
            if kind == "output" or (kind == "opaque" and (live.any() or not len(live))) or self._asks(node):
                for one in self.operands(node):
                    need[one][:] = True
            elif not live.any():
                continue
            elif kind in ("conv", "linear"):
                need[self.operands(node)[0]][:] = True
            elif kind == "flatten":
                (one,) = self.operands(node)
                need[one] |= live.reshape(len(need[one]), -1).any(axis=1)
            elif kind == "cat":
                widths = np.cumsum([self.channels(one) for one in self.operands(node)])[:-1]
                for one, part in zip(self.operands(node), np.split(live, widths), strict=True):
                    need[one] |= part
            else:
                for one in self.operands(node):
                    need[one] |= live
        present: dict[fx.Node, Mask] = {}
        for node in self.nodes:
            have = [present[one] for one in self.operands(node)]
            match self.kinds[node]:
                case "opaque" | "input":
                    present[node] = np.full(len(need[node]), bool(need[node].any()))
                case "cat":
                    present[node] = np.concatenate(have)
                case "flatten":
                    present[node] = np.repeat(have[0], self.channels(node) // len(have[0]))
                case _:
                    present[node] = need[node] & ~zero[node]
            self._require_operands(node, present, masks)
        return present

    def _asks(self, node: fx.Node) -> bool:
        """Return whether a shape is read for anything but a flattening, which needs none."""
        kinds = [self.kinds[user] for user in node.users]
        return self.kinds[node] == "shape" and not all(
            kind == "flatten" or (kind == "shape" and not self._asks(user))
            for kind, user in zip(kinds, node.users, strict=True)
        )

    def _require_operands(self, node: fx.Node, present: Mapping[fx.Node, Mask], masks: Mapping[str, Mask]) -> None:
        kind = self.kinds[node]
        working = kind == "output" or present[node].any() or (kind == "opaque" and not len(present[node]))
        if not working or kind in ("add", "cat", "input", "shape"):
            return
        for one in self.operands(node):
            if len(present[one]) and not present[one].any():
                closed = dict.fromkeys(str(self.operands(gate)[0].target) for gate in self._closed_before(one, masks))
                raise Emptied(tuple(closed), str(node.target if kind != "output" else "the output"))

    def _closed_before(self, node: fx.Node, masks: Mapping[str, Mask]) -> Iterator[fx.Node]:
        seen, stack = set(), [node]
        while stack:
            one = stack.pop()
            if one in seen:
                continue
            seen.add(one)
            if self.kinds[one] == "gate" and not masks[str(one.target)].any():
                yield one
            else:
                stack.extend(self.operands(one))

    # -- cost --------------------------------------------------------------------------------------------------------

    def cost(self, masks: Mapping[str, Mask]) -> Cost:
        """Return what the slim network of these masks costs, without building it; raises like :meth:`present`."""
        present = self.present(masks)
        params = flops = 0
        for node in self.nodes:
            kind, outputs = self.kinds[node], int(present[node].sum())
            if node.op == "get_attr" and any(present[user].any() or not len(present[user]) for user in node.users):
                value = operator.attrgetter(str(node.target))(self.traced)
                params += value.numel() if isinstance(value, nn.Parameter) else 0
            if node.op != "call_module" or (len(present[node]) and not outputs) or kind == "gate":
                continue
            module = self.module(node)
            if kind in ("conv", "linear", "depthwise"):
                assert isinstance(module, nn.Conv2d | nn.Linear)
                inputs = 1 if kind == "depthwise" else int(present[self.operands(node)[0]].sum())
                per_output = inputs * int(np.prod(module.weight.shape[2:]))
                params += outputs * (per_output + (module.bias is not None))
                flops += outputs * per_output * self._pixels(node)
            elif kind == "norm":
                params += outputs * sum(1 for _ in module.parameters())
            else:
                params += sum(weight.numel() for weight in module.parameters())
                if isinstance(module, nn.Conv2d):
                    flops += outputs * module.weight[0].numel() * self._pixels(node)
        return Cost(params, flops)


class Emptied(InputError):
    """All channels of some gates are off, and something that has no way around them has nothing left to work on.

    Attributes:
        gates: the batch-norms that those gates stand behind.
        layer: what has nothing left.
    """

    def __init__(self, gates: tuple[str, ...], layer: str):
        names = ", ".join(gates) or "layers before it"
        super().__init__(
            f"all channels of {names} are off, so {layer} has nothing to work on; keep at least one (a floor of 1)"
        )
        self.gates, self.layer = gates, layer

    def __reduce__(self) -> tuple[type, tuple[tuple[str, ...], str]]:
        return type(self), (self.gates, self.layer)


def _measure_shapes(traced: fx.GraphModule, image: tuple[int, int, int]) -> None:
    first = next(traced.parameters(), torch.empty(0))
    modes = {part: part.training for part in traced.modules()}
    try:
        with torch.no_grad():
            ShapeProp(traced.eval()).propagate(torch.zeros(2, *image, dtype=first.dtype, device=first.device))
    except Exception as error:  # whatever the user's own network raises
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise InputError(f"the network does not run on images of shape {image}: {reason}") from error
    finally:
        for part, mode in modes.items():
            part.training = mode


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(getattr(node.meta.get("tensor_meta"), "shape", ()))


# -- what a node does to channels ------------------------------------------------------------------------------------


def _kind(node: fx.Node, traced: fx.GraphModule) -> Kind:
    if node.op == "placeholder":
        return "input"
    if node.op == "output":
        return "output"
    if node.op == "call_module":
        return _module_kind(node, traced.get_submodule(str(node.target)))
    if node.op in ("call_function", "call_method"):
        return _function_kind(node)
    return "opaque"


def _module_kind(node: fx.Node, module: nn.Module) -> Kind:
    shape = _shape(node)
    match module:
        case Gate():
            return "gate"
        case nn.Conv2d(groups=1):
            return "conv"
        case nn.Conv2d() if module.groups == module.in_channels == module.out_channels:
            return "depthwise"
        case nn.Linear() if len(shape) == 2:
            return "linear"
        case nn.BatchNorm2d() | nn.BatchNorm1d() if len(shape) in (2, 4):
            return "norm"
        case nn.Hardtanh():
            return "keep" if module.min_val <= 0 <= module.max_val else "lift"
        case nn.PReLU():
            return "keep" if module.num_parameters == 1 else "opaque"
        case nn.Flatten():
            return "flatten" if _flattens(node) else "opaque"
        case nn.MaxPool2d(return_indices=True) | nn.AdaptiveMaxPool2d(return_indices=True):
            return "opaque"
    if isinstance(module, _KEEP_MODULES) or type(module).__name__ in DROPS_PATHS:
        return "keep"
    return "lift" if isinstance(module, _LIFT_MODULES) else "opaque"


def _function_kind(node: fx.Node) -> Kind:
    target, tensors = node.target, [one for one in node.all_input_nodes if _shape(one)]
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    if target in _DROPOUT or "training" in node.kwargs:
        raise InputError(
            f"{node.name} is a function that differs between training and evaluation, which tracing freezes; use a "
            "module, such as nn.Dropout"
        )
    if _reads_sides(node):
        return "shape"
    if target in _RESHAPE:
        return "flatten" if _flattens(node) else "opaque"
    if target in _CAT:
        axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        return "cat" if axis in (1, 1 - len(_shape(node))) else "opaque"
    if target in _ADD or target in _MUL:
        alike = len(tensors) == len(node.args) == 2 and all(_shape(one)[1:2] == _shape(node)[1:2] for one in tensors)
        if alike and not node.kwargs:
            return "add" if target in _ADD else "mul"
        scalar = len(tensors) == 1 and any(isinstance(one, int | float) for one in node.args)
        return ("lift" if target in _ADD else "keep") if scalar else "opaque"
    if target in _DIVIDE:
        return "keep" if len(node.args) == 2 and isinstance(node.args[1], int | float) else "opaque"
    if target in _MEAN:
        axes = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        axes = [axes] if isinstance(axes, int) else axes
        sides = len(_shape(tensors[0]))
        known = isinstance(axes, list | tuple) and all(isinstance(axis, int) and axis % sides >= 2 for axis in axes)
        return "keep" if known and axes else "opaque"
    if len(tensors) == 1 and _shape(tensors[0])[:2] == _shape(node)[:2]:
        if name in _KEEP_NAMES:
            return "keep"
        if name in _LIFT_NAMES:
            return "lift"
    return "opaque"


def _flattens(node: fx.Node) -> bool:
    """Return whether ``(N, C, ...)`` becomes ``(N, C * ...)``: the only such reshaping, rows being images."""
    before, after = _shape(node.all_input_nodes[0]), _shape(node)
    return len(after) == 2 and len(before) >= 2 and after == (before[0], int(np.prod(before[1:])))


def _reads_sides(node: fx.Node) -> bool:
    """Return whether a node, directly or by what it is used for, asks for a shape but not for the channels."""
    if node.target == "size" and len(node.args) == 2:
        return node.args[1] in (0, 2, 3)
    if node.target == "size" or (node.target is getattr and node.args[1] == "shape"):
        return all(user.target is operator.getitem and user.args[1] in (0, 2, 3) for user in node.users)
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        return not _shape(node) and _reads_sides(node.args[0])
    return False
