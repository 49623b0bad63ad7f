"""Networks of Single-Path NAS, and the supernet whose superkernels hold all networks of a space.

Shapes: N images ``(N, in_channels, H, W)``, sides of any size; s sites of a space; k choices of a site.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasplug.errors import InputError
from nasplug.spaces import NASBenchMacro, SinglePathDigits, SinglePathImageNet, SinglePathImageNetSE, Space
from nasplug.spaces.modules import nasbench_macro
from nasplug.spaces.modules.layers import ConvNorm, Head, Norm
from nasplug.spaces.modules.layout import SINGLE_PATH_SIZES, SinglePathSizes
from nasplug.spaces.modules.nasbench_macro import InvertedResidual, Layer
from nasplug.spaces.modules.superkernel import Gate, JointKernel, NestedSqueeze, SuperBlock, Superkernel
from nasplug.spaces.single_path import SinglePath, squeeze_units

__all__ = ["SPACES", "Skeleton", "Supernet", "network"]

SPACES: Mapping[str, SinglePath] = {
    space.name: space for space in (SinglePathDigits(), SinglePathImageNet(), SinglePathImageNetSE())
}


class Skeleton(nn.Module):
    """Stem, a fixed layer, the searchable layers, a fixed layer, a wide 1x1 convolution, head: logits ``(N, classes)``.

    Differs from the published network: no dropout before the classifier.

    Args:
        layers: what makes each searchable layer from channels that come, channels that leave, and stride.
        sizes: widths and strides.
        norm: of everything outside the searchable layers.
    """

    def __init__(self, layers: Sequence[Layer], sizes: SinglePathSizes, *, norm: Norm = nn.BatchNorm2d):
        super().__init__()
        places = sizes.layers()
        self.stem = ConvNorm(sizes.in_channels, sizes.stem, 3, stride=sizes.stem_stride, norm=norm)
        self.relu = nn.ReLU()
        self.first = InvertedResidual(sizes.stem, sizes.first, 1, kernel=3, expansion=1, norm=norm)
        self.layers = nn.Sequential(*(layer(*place) for layer, place in zip(layers, places, strict=True)))
        self.final = InvertedResidual(places[-1].outputs, sizes.final, 1, kernel=3, expansion=6, norm=norm)
        self.last = ConvNorm(sizes.final, sizes.width, 1, norm=norm)
        self.head = Head(sizes.width, sizes.classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.final(self.layers(self.first(self.relu(self.stem(x)))))
        logits: Tensor = self.head(self.relu(self.last(features)))
        return logits


def network(space: SinglePath, genotype: NDArray[np.int64], *, norm: Norm = nn.BatchNorm2d, **sizes: Any) -> Skeleton:
    """Return the network of a valid genotype ``(s,)``, by default of the published sizes.

    Args:
        space: one of :data:`SPACES`.
        genotype: one architecture.
        norm: makes every norm.
        sizes: what of :class:`SinglePathSizes` is to be different.

    Raises: InputError for sizes out of range.
    """

    def layer(code: int) -> Layer:
        if code == space.skip:
            return lambda *_: nn.Identity()
        block = space.blocks[code]
        return lambda inputs, outputs, stride: InvertedResidual(
            inputs,
            outputs,
            stride,
            kernel=block.kernel,
            expansion=block.expansion,
            squeeze=squeeze_units(block, inputs),
            norm=norm,
        )

    return Skeleton([layer(int(code)) for code in genotype], _sizes(space, sizes), norm=norm)


def _sizes(space: SinglePath, sizes: Mapping[str, Any]) -> SinglePathSizes:
    given: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in sizes.items()}
    return dataclasses.replace(SINGLE_PATH_SIZES[space.name], **given)


published_norm = partial(nn.BatchNorm2d, eps=1e-3)


class Supernet(nn.Module):
    """All networks of a space in one path: ``(N, in_channels, H, W) -> (N, classes)`` logits.

    What it computes is the network that its weights and thresholds decide for, :meth:`genotype`; unlike a network of
    its own, it lets dropped channels send constants (:class:`SuperBlock`).

    Args:
        space: ``nasbench-macro`` or one of :data:`SPACES`.
        faithful: plain norms against thresholds, whose gradients vanish (:class:`Gate`).
        skip_resizing: whether layers that resize can be skipped where the space allows it, by a 1x1 convolution beside
            them; as published they cannot.
        norm: makes every norm; the published one has an epsilon of 1e-3. A dropped group comes back by its gradient at
            zero, which a norm with a small epsilon makes a large one.
        sizes: as the space's networks take them.

    Raises: InputError for a space that has no superkernels, or sizes out of range.
    """

    def __init__(
        self,
        space: Space,
        *,
        faithful: bool = False,
        skip_resizing: bool = False,
        norm: Norm = published_norm,
        **sizes: Any,
    ):
        super().__init__()
        self.space, self.faithful, self.norm, self.sizes = space, faithful, norm, sizes
        self.skip_resizing = skip_resizing
        if isinstance(space, NASBenchMacro):
            layers: list[Layer] = [self._macro_layer] * space.n_sites
            self.body: nn.Module = nasbench_macro.Skeleton(layers, norm=norm, **sizes)
        elif space.name in SPACES and isinstance(space, SinglePath):
            layers = [self._layer(p.size > len(space.blocks)) for p in space.parameters]
            self.body = Skeleton(layers, _sizes(space, sizes), norm=norm)
        else:
            raise InputError(
                f"space {space.name!r} has no superkernels; spaces that have: nasbench-macro, {', '.join(SPACES)}"
            )

    def _macro_layer(self, inputs: int, outputs: int, stride: int) -> SuperBlock:
        resizes = stride != 1 or inputs != outputs
        kernel = JointKernel(6 * inputs, skippable=self.skip_resizing or not resizes, faithful=self.faithful)
        return SuperBlock(kernel, inputs, outputs, stride, shortcut=resizes and self.skip_resizing, norm=self.norm)

    def _layer(self, skippable: bool) -> Layer:
        assert isinstance(self.space, SinglePath)
        squeezes = self.space.blocks[::4]  # the blocks that differ in nothing else

        def layer(inputs: int, outputs: int, stride: int) -> SuperBlock:
            kernel = Superkernel(6 * inputs, skippable=skippable, faithful=self.faithful)
            widths = [squeeze_units(block, inputs) for block in squeezes if block.squeeze]
            squeeze = NestedSqueeze(kernel.hidden, widths, faithful=self.faithful) if widths else None
            return SuperBlock(kernel, inputs, outputs, stride, squeeze=squeeze, norm=self.norm)

        return layer

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits

    @property
    def blocks(self) -> list[SuperBlock]:
        """The searchable layers, in the order of sites."""
        return cast(list[SuperBlock], list(cast(Any, self.body).layers))

    @cached_property
    def gates(self) -> Mapping[str, Gate]:
        """All decisions by name: ``layer_3.keep``, ``layer_3.ring``, ``layer_3.upper``, ..."""
        named = {}
        for p, block in zip(self.space.parameters, self.blocks, strict=True):
            for path, part in block.named_modules():
                if isinstance(part, Gate):
                    named[f"{p.name}.{path.split('.', 1)[1]}"] = part
        return named

    def thresholds(self) -> list[nn.Parameter]:
        """Return the thresholds, one a decision."""
        return [gate.threshold for gate in self.gates.values()]

    def weights(self) -> Iterator[nn.Parameter]:
        """Yield all other parameters."""
        thresholds = set(map(id, self.thresholds()))
        return (weight for weight in self.parameters() if id(weight) not in thresholds)

    def choices(self) -> list[Tensor]:
        """Return one ``(k,)`` a site, 1 at the choice taken and 0 elsewhere, with the gradients of the decisions."""
        return [block.choices() for block in self.blocks]

    def genotype(self) -> NDArray[np.int64]:
        """Return the network that weights and thresholds decide for, ``(s,)``; dropout of decisions left out."""
        factors = {gate: gate.factor for gate in self.gates.values()}
        self.drop(None)
        with torch.no_grad():
            codes = [int(choice.argmax()) for choice in self.choices()]
        for gate, factor in factors.items():
            gate.factor = factor
        return np.array(codes, dtype=np.int64)

    @torch.no_grad()
    def probabilities(self) -> list[NDArray[np.float64]]:
        """Return how likely each choice of a site is, ``(k,)`` a site, each decision drawn by its sigmoid.

        Norms behind a soft decision are those of the softened kernel. The likeliest choice of a site need not be
        :meth:`genotype`'s: skip is one outcome, what is left is shared by all blocks.
        """
        gates = list(self.gates.values())
        for gate in gates:
            gate.soft = True
        likely = [choice.cpu().double().numpy() for choice in self.choices()]
        for gate in gates:
            gate.soft = False
        return likely

    def force(self, genotype: NDArray[np.int64] | None) -> None:
        """Be this network ``(s,)``, whatever the weights; None lets them decide again.

        Raises: InputError for a network that skips a layer which this supernet always has.
        """
        codes = [None] * len(self.blocks) if genotype is None else [int(code) for code in genotype]
        for p, block, code in zip(self.space.parameters, self.blocks, codes, strict=True):
            if code is not None and not block.kernel.skippable and block.block(code) is None:
                raise InputError(f"{p.name} is always there in this supernet; build it with skip_resizing=True")
            block.force(code)

    def drop(self, draw: Callable[[int], NDArray[np.float64]] | None, keep: float = 1.0) -> None:
        """Let each decision be dropped with probability ``1 - keep`` from now on; one that stays counts ``1 / keep``.

        Args:
            draw: uniform numbers in [0, 1), such as ``rng.random``; None ends it.
            keep: probability to stay.
        """
        gates = list(self.gates.values())
        drawn = np.zeros(len(gates)) if draw is None else draw(len(gates))
        for gate, number in zip(gates, drawn, strict=True):
            gate.factor = 1.0 if draw is None else float(number < keep) / keep
