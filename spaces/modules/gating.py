"""Gates on a network of one's own, and what a choice of channels makes of it.

The network is traced by torch.fx; nothing of it is written anew. A gate stands behind a batch-norm of a convolution
wherever closing it removes something: not where a depthwise convolution follows, which would make a constant of the
zero (there the gate behind the depthwise one removes the channel of both), and not where something unknown follows.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from nasplug.errors import InputError
from nasplug.spaces.modules.flow import DROPS_PATHS, ChannelFlow, Cost, Emptied, Mask
from nasplug.spaces.modules.gates import Gate, Mode

__all__ = ["Gated", "Group", "Residual", "trace"]

Residual = Literal["tied", "own", "none"]


@dataclass(frozen=True)
class Group:
    """Channels with one gate each.

    Attributes:
        name: the first of ``layers``.
        layers: the batch-norms that the gates stand behind; several where a residual stream ties them.
        channels: how many.
        required: whether the network falls apart without any of them; otherwise something else has a way around.
    """

    name: str
    layers: tuple[str, ...]
    channels: int
    required: bool


class Gated(nn.Module):
    """A copy of a convolutional network with channel gates, ``(N, channels, H, W) -> `` whatever the network returns.

    Args:
        network: any module that torch.fx can trace and that has batch-norms behind convolutions. It is copied.
        image: shape of one image, ``(channels, H, W)``.
        residual: what happens where outputs of layers are added. tied: they share one gate a channel, so that a
            channel goes from the whole stream or not at all. own: each has its own; a channel of one layer that others
            still feed leaves this layer only, and is put back as a zero where they meet. none: no gates there.
        leave: names or patterns (``*.downsample.*``) of batch-norms that get no gate.

    Raises: InputError, naming layers, for a network that cannot be traced, has no batch-norm behind a convolution,
        uses a layer or a weight twice, has an activation behind a gate that does not keep zero, or a residual stream
        that cannot be gated as asked.
    """

    def __init__(
        self,
        network: nn.Module,
        image: tuple[int, int, int],
        *,
        residual: Residual = "tied",
        leave: Collection[str] = (),
    ):
        super().__init__()
        if residual not in ("tied", "own", "none"):
            raise InputError(f"residual must be tied, own or none, got {residual!r}")
        traced = trace(network)
        _refuse_shared(traced)
        flow = ChannelFlow(traced, image)
        sites = _sites(flow, leave)
        groups = _grouped(flow, sites, residual)
        for layers in groups:
            _insert(traced, layers)
        traced.recompile()
        self.network = traced
        self.image = image
        self._layers = {_gate_name(layers[0].target): tuple(str(one.target) for one in layers) for layers in groups}
        if residual == "tied":
            self._require_whole_streams()

    @cached_property
    def flow(self) -> ChannelFlow:
        """What flows through the network, gates included."""
        return ChannelFlow(self.network, self.image)

    def __getstate__(self) -> dict[str, object]:
        """Copies and pickles read their own graph again."""
        return {name: value for name, value in vars(self).items() if name not in ("flow", "groups")}

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    # -- gates -------------------------------------------------------------------------------------------------------

    @property
    def gates(self) -> dict[str, Gate]:
        """The gates of each group by the name of the group, in the order of the network."""
        return {layers[0]: _as_gate(self.network.get_submodule(name)) for name, layers in self._layers.items()}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups in the order of the network."""
        return tuple(
            Group(layers[0], layers, len(gate.scores), self._is_required(name))
            for (name, layers), gate in zip(self._layers.items(), self.gates.values(), strict=True)
        )

    def scores(self) -> list[nn.Parameter]:
        """Return the parameters of the architecture, one ``(C,)`` a group."""
        return [gate.scores for gate in self.gates.values()]

    def weights(self) -> list[nn.Parameter]:
        """Return all other parameters."""
        scores = {id(one) for one in self.scores()}
        return [weight for weight in self.network.parameters() if id(weight) not in scores]

    def set_mode(self, mode: Mode, scale: float | None = None) -> None:
        """Set the mode of all gates, and their scale if one is given."""
        for gate in self.gates.values():
            gate.mode = mode
            gate.scale = gate.scale if scale is None else scale

    def set_masks(self, masks: Mapping[str, Mask]) -> None:
        """Set the masks of the hard mode, one a group by its name."""
        checked = self._checked(masks)
        for name, gate in self.gates.items():
            gate.mask.copy_(torch.from_numpy(checked[name]))

    def open_masks(self) -> dict[str, Mask]:
        """Return masks that keep everything."""
        return {name: np.ones(len(gate.scores), dtype=bool) for name, gate in self.gates.items()}

    # -- choosing channels -------------------------------------------------------------------------------------------

    def masks_of(
        self, counts: Sequence[int] | NDArray[np.int64], ranking: Mapping[str, NDArray[np.floating]]
    ) -> dict[str, Mask]:
        """Return the masks that keep so many channels of each group, those of highest ``ranking``, ties to the first.

        Raises: InputError for a count outside 0 to the channels of its group, or not one count a group.
        """
        gates = self.gates
        if len(counts) != len(gates):
            raise InputError(f"expected {len(gates)} counts, one a group, got {len(counts)}")
        masks = {}
        for (name, gate), count in zip(gates.items(), counts, strict=True):
            if not 0 <= count <= len(gate.scores):
                raise InputError(f"group {name} has {len(gate.scores)} channels, cannot keep {count}")
            masks[name] = np.zeros(len(gate.scores), dtype=bool)
            masks[name][np.argsort(-ranking[name], kind="stable")[:count]] = True
        return masks

    def settled(self, masks: Mapping[str, Mask]) -> dict[str, Mask]:
        """Return the masks with those gates closed too that only a constant would pass: a branch goes as a whole.

        Raises: Emptied, naming the layers, where the network would fall apart.
        """
        inner = self._inner(masks)
        settled = self.flow.settled(inner)
        try:
            self.flow.present(settled)
        except Emptied:
            self.flow.present(inner)  # names what was closed, not what followed
            raise
        return {layers[0]: settled[name] for name, layers in self._layers.items()}

    def cost(self, masks: Mapping[str, Mask]) -> Cost:
        """Return parameters and multiply-adds of the slim network, without building it.

        Raises: InputError where it falls apart, naming the layers.
        """
        return self.flow.cost(self._inner(masks))

    def present(self, masks: Mapping[str, Mask]) -> dict[fx.Node, Mask]:
        """Return the channels that each tensor of the slim network has; raises like :meth:`cost`."""
        return self.flow.present(self._inner(masks))

    def _inner(self, masks: Mapping[str, Mask]) -> dict[str, Mask]:
        checked = self._checked(masks)
        return {name: checked[layers[0]] for name, layers in self._layers.items()}

    def _checked(self, masks: Mapping[str, Mask]) -> dict[str, Mask]:
        checked = {}
        for name, gate in self.gates.items():
            mask = np.asarray(masks.get(name, ()))
            if mask.dtype != bool or mask.shape != tuple(gate.scores.shape):
                raise InputError(
                    f"group {name} needs a mask of {len(gate.scores)} bools, got {mask.dtype} {mask.shape}"
                )
            checked[name] = mask
        if unknown := set(masks) - set(checked):
            raise InputError(f"no group is called {', '.join(sorted(unknown))}; groups: {', '.join(checked)}")
        return checked

    # -- what may go -------------------------------------------------------------------------------------------------

    def _is_required(self, name: str) -> bool:
        masks = self._inner(self.open_masks())
        masks[name] = np.zeros_like(masks[name])
        try:
            self.flow.present(self.flow.settled(masks))
        except Emptied:
            return True
        return False

    def _require_whole_streams(self) -> None:
        """Check that a closed gate of a tied group leaves nothing on its stream."""
        for name, layers in self._layers.items():
            if len(layers) == 1 and not self._meets_others(name):
                continue
            masks = self._inner(self.open_masks())
            masks[name] = np.zeros_like(masks[name])
            zero = self.flow.zeros(masks)
            for node in _reached(self.flow, [one for one in self.flow.nodes if one.target == name]):
                if self.flow.kinds[node] == "add" and not zero[node].all():
                    others = sorted({str(one.target) for one in _sources(self.flow, node, zero)})
                    raise InputError(
                        f"the residual stream of {', '.join(layers)} is also fed by {', '.join(others)}, which has no "
                        f"gate; leave these batch-norms without gates too (leave=...), or take residual='own'"
                    )

    def _meets_others(self, name: str) -> bool:
        start = [one for one in self.flow.nodes if one.target == name]
        return any(self.flow.kinds[node] == "add" for node in _reached(self.flow, start))


def _as_gate(module: nn.Module) -> Gate:
    assert isinstance(module, Gate)
    return module


# -- tracing ---------------------------------------------------------------------------------------------------------


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or type(m).__name__ in DROPS_PATHS


def trace(network: nn.Module) -> fx.GraphModule:
    """Return a copy of a network as a graph; raises InputError where torch.fx cannot trace it."""
    try:
        own = copy.deepcopy(network)
        return fx.GraphModule(own, _Tracer().trace(own), type(network).__name__)
    except Exception as error:  # torch.fx runs the user's own code
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise InputError(
            f"torch.fx cannot trace {type(network).__name__} ({reason}); its forward may not depend on the values of "
            "tensors, nor take anything but the images"
        ) from error


def _refuse_shared(traced: fx.GraphModule) -> None:
    calls = Counter(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    owned = {name: traced.get_submodule(name) for name in calls}
    twice = [name for name, count in calls.items() if count > 1 and any(True for _ in owned[name].parameters())]
    if twice:
        raise InputError(
            f"used more than once, so its channels cannot be chosen: {', '.join(twice)}; give each its own"
        )
    names: dict[int, list[str]] = {}
    for name, module in owned.items():
        for weight in module.parameters():
            names.setdefault(id(weight), []).append(name)
    shared = sorted({name for users in names.values() if len(users) > 1 for name in users})
    if shared:
        raise InputError(f"layers share a weight, so their channels cannot be chosen: {', '.join(shared)}")


# -- where gates go --------------------------------------------------------------------------------------------------


def _sites(flow: ChannelFlow, leave: Collection[str]) -> list[fx.Node]:
    """Return the batch-norms to gate, in the order of the network."""
    norms = [
        node
        for node in flow.nodes
        if flow.kinds[node] == "norm" and flow.kinds[flow.operands(node)[0]] in ("conv", "depthwise")
    ]
    if not norms:
        raise InputError("the network has no batch-norm behind a convolution; gates need one to stand behind")
    unknown = [pattern for pattern in leave if not any(fnmatchcase(str(one.target), pattern) for one in norms)]
    if unknown:
        names = ", ".join(str(one.target) for one in norms)
        raise InputError(f"leave={unknown} names no batch-norm behind a convolution; there are {names}")
    wanted = [one for one in norms if not any(fnmatchcase(str(one.target), pattern) for pattern in leave)]
    sites = [one for one in wanted if _removes(flow, one)]
    if not sites:
        names = ", ".join(str(one.target) for one in wanted) or "those that leave= left over"
        raise InputError(f"no gate would remove anything: none of {names} leads to a convolution or linear layer")
    return sites


def _removes(flow: ChannelFlow, norm: fx.Node) -> bool:
    """Return whether zeros behind ``norm`` reach convolutions and linear layers only, and as zeros."""
    state: dict[fx.Node, str] = {norm: "zero"}
    culprit: dict[fx.Node, fx.Node] = {}
    for node in flow.nodes[flow.nodes.index(norm) + 1 :]:
        before = [one for one in flow.operands(node) if one in state]
        if not before:
            continue
        lifted = [one for one in before if state[one] == "lifted"]
        kind = flow.kinds[node]
        if kind in ("conv", "linear", "opaque", "output", "norm", "depthwise"):
            if lifted and kind in ("conv", "linear"):
                raise InputError(
                    f"{_called(culprit[lifted[0]])} does not keep zero, so closing channels of {norm.target} would not "
                    f"remove them; use an activation with f(0) = 0, or leave=[{str(norm.target)!r}]"
                )
            if kind not in ("conv", "linear"):
                return False
        elif kind == "lift":
            state[node], culprit[node] = "lifted", node
        elif lifted and not (kind == "mul" and len(lifted) < len(before)):
            state[node], culprit[node] = "lifted", culprit[lifted[0]]
        else:
            state[node] = "zero"
    return True


def _called(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _grouped(flow: ChannelFlow, sites: Sequence[fx.Node], residual: Residual) -> list[list[fx.Node]]:
    """Return the sites that share gates, in the order of the network."""
    stream = _streams(flow)
    if residual == "none":
        sites = [one for one in sites if not _added(flow, one)]
        if not sites:
            raise InputError("all gates would stand on residual streams; take residual='tied' or 'own'")
    groups: dict[object, list[fx.Node]] = {}
    for site in sites:
        groups.setdefault(stream[site] if residual == "tied" else site, []).append(site)
    return list(groups.values())


def _added(flow: ChannelFlow, site: fx.Node) -> bool:
    return any(flow.kinds[node] == "add" for node in _reached(flow, [site]))


def _streams(flow: ChannelFlow) -> dict[fx.Node, object]:
    """Return a label a tensor, equal for those whose channels are added to each other."""
    parent: dict[object, object] = {}

    def root(one: object) -> object:
        while parent.setdefault(one, one) != one:
            one = parent[one]
        return one

    label: dict[fx.Node, tuple[object, ...]] = {}  # one a piece of the tensor: a concatenation has several
    for node in flow.nodes:
        before = [label[one] for one in flow.operands(node)]
        match flow.kinds[node]:
            case "depthwise" | "norm" | "gate" | "keep" | "lift" | "flatten":
                label[node] = before[0]
            case "cat":
                label[node] = tuple(piece for one in before for piece in one)
            case "add" if len({len(one) for one in before}) == 1:
                for pieces in zip(*before, strict=True):
                    for other in pieces[1:]:
                        parent[root(other)] = root(pieces[0])
                label[node] = before[0]
            case _:
                label[node] = (node,)
    return {node: tuple(root(piece) for piece in pieces) for node, pieces in label.items()}


def _reached(flow: ChannelFlow, start: Sequence[fx.Node]) -> Iterator[fx.Node]:
    """Yield the tensors whose channels are those of ``start``, up to where others are made of them."""
    reached = set(start)
    for node in flow.nodes:
        if flow.kinds[node] in ("keep", "lift", "gate", "norm", "add", "mul", "cat", "flatten", "depthwise") and any(
            one in reached for one in flow.operands(node)
        ):
            reached.add(node)
            yield node


def _sources(flow: ChannelFlow, node: fx.Node, zero: Mapping[fx.Node, Mask]) -> Iterator[fx.Node]:
    """Yield the layers that make what is not zero in ``node``."""
    for one in flow.operands(node):
        if zero[one].all():
            continue
        if flow.kinds[one] in ("keep", "gate", "add", "mul", "cat", "lift"):
            yield from _sources(flow, one, zero)
        else:
            yield one


def _gate_name(target: object) -> str:
    return f"gates.{str(target).replace('.', '__')}"


def _insert(traced: fx.GraphModule, layers: Sequence[fx.Node]) -> None:
    norm = traced.get_submodule(str(layers[0].target))
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    gate = Gate(norm.num_features)
    first = next(norm.parameters(), norm.running_mean)
    name = _gate_name(layers[0].target)
    traced.add_submodule(name, gate if first is None else gate.to(first.device, first.dtype))
    for layer in layers:
        with traced.graph.inserting_after(layer):
            node = traced.graph.call_module(name, (layer,))
        node.meta["tensor_meta"] = layer.meta["tensor_meta"]
        for user in [one for one in layer.users if one is not node]:
            user.replace_input_with(layer, node)
