"""The smaller plain network that closed gates leave: rows, inputs and norm entries of idle channels are really gone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from nasplug.spaces.modules.flow import Mask
from nasplug.spaces.modules.gating import Gated

__all__ = ["Spread", "slimmed"]

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class Spread(nn.Module):
    """Give each channel its place among the channels of another tensor, ``(N, C, ...) -> (N, width, ...)``.

    Stands where a tensor that lost channels meets one that has others.

    Args:
        have: which of the places the incoming channels take, ascending.
        want: which places to return; zeros where nothing comes in.
    """

    source: Tensor

    def __init__(self, have: Mask, want: Mask):
        super().__init__()
        place = np.where(have, np.cumsum(have) - 1, have.sum())  # the channel of zeros is put behind the others
        self.register_buffer("source", torch.from_numpy(place[want].astype(np.int64)))
        self.pads = bool((want & ~have).any())

    def forward(self, x: Tensor) -> Tensor:
        if self.pads:
            x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, 1))
        return x.index_select(1, self.source)


def slimmed(gated: Gated, masks: Mapping[str, Mask]) -> fx.GraphModule:
    """Return the network with only the channels that ``masks`` keep, in the mode (training or not) of ``gated``.

    Its output is that of ``gated`` with these masks in hard mode, up to rounding. Names of layers are those of the
    network; weights are copies.

    Args:
        gated: the network and its gates.
        masks: which channels stay, bool ``(C,)`` a group; see :meth:`Gated.settled` where whole branches are to go.

    Raises: InputError, naming layers, where something that is needed has no channel left to work on.
    """
    return _Slimming(gated, gated.present(masks)).run()


class _Slimming:
    """One pass over the graph that builds the slim one."""

    def __init__(self, gated: Gated, present: Mapping[fx.Node, Mask]):
        self.flow, self.present = gated.flow, present
        self.graph = fx.Graph()
        self.modules: dict[str, nn.Module] = {}
        self.done: dict[fx.Node, fx.Node] = {}

    def run(self) -> fx.GraphModule:
        for node in self.flow.nodes:
            if len(self.present[node]) and not self.present[node].any():
                continue
            self.done[node] = self._copied(node)
        names = {str(node.target) for node in self.graph.nodes if node.op == "get_attr"}
        attributes = {name: copy.deepcopy(attrgetter(name)(self.flow.traced)) for name in names}
        slim = fx.GraphModule({**self.modules, **attributes}, self.graph, class_name="Slim")
        slim.graph.eliminate_dead_code()
        slim.delete_all_unused_submodules()
        slim.graph.lint()
        slim.recompile()
        return slim.train(self.flow.traced.training)

    def _copied(self, node: fx.Node) -> fx.Node:
        flow, here = self.flow, self.present[node]
        operands = flow.operands(node)
        match flow.kinds[node]:
            case "input":
                return self.graph.node_copy(node)
            case "conv" | "linear":
                (one,) = operands
                self._place(node, _sliced(flow.module(node), here, self.present[one]))
                return self._call(node, {})
            case "depthwise":
                self._place(node, _sliced(flow.module(node), here, None))
                return self._call(node, {operands[0]: here})
            case "norm":
                self._place(node, _norm(flow.module(node), here))
                return self._call(node, {operands[0]: here})
            case "gate":
                return self._aligned(operands[0], here)
            case "flatten":
                return self.graph.call_function(torch.flatten, (self.done[operands[0]], 1))
            case "add":
                left = [one for one in operands if self.present[one].any()]
                aligned = [self._aligned(one, here) for one in left]
                return aligned[0] if len(aligned) == 1 else self._call(node, dict.fromkeys(operands, here))
            case "cat":
                parts = [self.done[one] for one in operands if self.present[one].any()]
                return parts[0] if len(parts) == 1 else self.graph.call_function(torch.cat, (parts, 1))
            case "keep" | "lift" | "mul":
                self._place(node, None)
                return self._call(node, dict.fromkeys(operands, here))
            case "opaque" | "output":
                self._place(node, None)
                return self._call(node, {one: np.ones_like(self.present[one]) for one in operands})
        return self._call(node, {})  # a reading of a shape

    def _place(self, node: fx.Node, module: nn.Module | None) -> None:
        """Take over the module that a node calls, as it is or slim."""
        if node.op == "call_module":
            self.modules[str(node.target)] = copy.deepcopy(self.flow.module(node)) if module is None else module

    def _call(self, node: fx.Node, wanted: Mapping[fx.Node, Mask]) -> fx.Node:
        """Copy a node, its operands having the wanted channels."""
        aligned = {one: self._aligned(one, mask) for one, mask in wanted.items()}
        return self.graph.node_copy(node, lambda one: aligned[one] if one in aligned else self.done[one])

    def _aligned(self, node: fx.Node, want: Mask) -> fx.Node:
        have = self.present[node]
        if not len(have) or np.array_equal(have, want):
            return self.done[node]
        name = f"spread_{sum(isinstance(one, Spread) for one in self.modules.values())}"
        self.modules[name] = Spread(have, want).to(next(self.flow.traced.parameters()).device)
        return self.graph.call_module(name, (self.done[node],))


def _sliced(layer: nn.Module, rows: Mask, columns: Mask | None) -> nn.Module:
    """Return a convolution or linear layer with some outputs and inputs; ``columns`` None: one group an output."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    if rows.all() and (columns is None or columns.all()):
        return copy.deepcopy(layer)
    bias = layer.bias is not None
    outputs, inputs = int(rows.sum()), int(rows.sum() if columns is None else columns.sum())
    slim: nn.Conv2d | nn.Linear
    if isinstance(layer, nn.Linear):
        slim = _without_draws(nn.Linear, inputs, outputs, bias)
    else:
        slim = _without_draws(
            nn.Conv2d,
            inputs,
            outputs,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            outputs if columns is None else 1,
            bias,
            layer.padding_mode,
        )
    slim = slim.to(layer.weight.device, layer.weight.dtype)
    with torch.no_grad():
        weight = layer.weight[torch.from_numpy(rows)]
        slim.weight.copy_(weight if columns is None else weight[:, torch.from_numpy(columns)])
        if layer.bias is not None and slim.bias is not None:
            slim.bias.copy_(layer.bias[torch.from_numpy(rows)])
    return _like(layer, slim)


def _without_draws(kind: type[Layer], *sizes: Any) -> Layer:
    """Return a layer whose weights are whatever is in memory: drawing them would move the global stream."""
    return nn.utils.skip_init(kind, *sizes)  # type: ignore[no-untyped-call]


def _norm(layer: nn.Module, rows: Mask) -> nn.Module:
    assert isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    if rows.all():
        return copy.deepcopy(layer)
    slim = type(layer)(int(rows.sum()), layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    kept = torch.from_numpy(rows)
    state = {name: value[kept] if value.dim() else value for name, value in layer.state_dict().items()}
    for value in state.values():
        if value.is_floating_point():
            slim = slim.to(value.device, value.dtype)
    slim.load_state_dict(state)
    return _like(layer, slim)


def _like(layer: nn.Module, slim: nn.Module) -> nn.Module:
    for weight, model in zip(slim.parameters(), layer.parameters(), strict=True):
        weight.requires_grad_(model.requires_grad)
    return slim.train(layer.training)
