"""FBNet: 22 layers, each one of eight inverted-residual blocks or a skip (Wu et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces.base import Genotypes, Space
from nasplug.spaces.graph import Graph, chain
from nasplug.spaces.parameters import Categorical

__all__ = ["HEAD", "LAYERS", "OPERATIONS", "SIDE", "STEM", "FBNet", "Layer"]

OPERATIONS = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
"""Operation names in code order, that of HW-NAS-Bench and HELP: kernel, expansion, groups of the 1x1 convolutions."""

SIDE = 32
"""Side of the input image; the layers below are those for CIFAR-100."""

STEM = 16
"""Channels of the first convolution."""

HEAD = 1504
"""Channels of the last convolution."""


class Layer(NamedTuple):
    """One searchable layer: channels that come and leave, stride, and the side of the map that comes."""

    inputs: int
    outputs: int
    stride: int
    side: int


def _layers() -> tuple[Layer, ...]:
    layers, channels, side = [], STEM, SIDE
    for length, outputs, first_stride in (
        (1, 16, 1),
        (4, 24, 1),
        (4, 32, 2),
        (4, 64, 2),
        (4, 112, 1),
        (4, 184, 2),
        (1, 352, 1),
    ):
        for place in range(length):
            stride = first_stride if place == 0 else 1
            layers.append(Layer(channels, outputs, stride, side))
            channels, side = outputs, side // stride
    return tuple(layers)


LAYERS = _layers()
"""The 22 layers of the CIFAR-100 network of HW-NAS-Bench (Li et al., ICLR 2021)."""


class FBNet(Space):
    """9^22 chains of 22 layers; site ``layer_i`` is the block of layer i, 1 to 22.

    A skip is the identity where a layer keeps channels and side; where it does not, a 1x1 convolution that resizes.

    Strings are 22 operation names joined by ``|``, such as ``k3_e1|skip|k5_e6|...``.
    """

    def __init__(self) -> None:
        super().__init__("fbnet", [Categorical(f"layer_{i}", OPERATIONS) for i in range(1, len(LAYERS) + 1)])

    def to_string(self, genotypes: Genotypes) -> list[str]:
        return ["|".join(OPERATIONS[code] for code in row) for row in genotypes.tolist()]

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        code = {name: i for i, name in enumerate(OPERATIONS)}
        rows = np.empty((len(strings), self.n_sites), dtype=np.int64)
        for row, text in enumerate(strings):
            words = text.split("|", self.n_sites) if isinstance(text, str) else []
            if len(words) != self.n_sites or not all(word in code for word in words):
                raise InputError(
                    f"not an FBNet string: {str(text)[:80]!r}; expected {self.n_sites} of {', '.join(OPERATIONS)}, "
                    "joined by |"
                )
            rows[row] = [code[word] for word in words]
        return rows

    def graphs(self, genotype: NDArray[np.int64]) -> tuple[Graph, ...]:
        """Return the chain; a new row where channels change."""
        stages: list[list[str]] = []
        for code, layer in zip(genotype, LAYERS, strict=True):
            if not stages or layer.inputs != layer.outputs:
                stages.append([])
            stages[-1].append(OPERATIONS[code])
        return (chain("network", stages),)
