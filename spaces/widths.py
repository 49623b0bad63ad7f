"""Spaces of widths: a network's layers stay where they are, and each has so many channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces.base import Genotypes, Space
from nasplug.spaces.parameters import Integer

__all__ = ["MOBILENET", "RESNET", "VGG", "MobileNetWidths", "ResNetWidths", "VGGWidths", "WidthSpace"]


class WidthSpace(Space):
    """How many channels each group of layers of a network has; layers of a group (a residual stream) have as many.

    Site i is group i; its values are about ``levels`` equally distant counts up to the group's full width, which is
    always one of them. Strings are compact JSON, ``{"group": channels, ...}``.

    Args:
        name: of the space.
        groups: name and full width of each group, in the order of the network.
        levels: how many counts a group has, more where they do not come out even; None: every count.
        multiple: what counts differ by is a multiple of this, and so are the counts of a group whose width is one. Some
            runtimes are slow with other numbers of channels: ONNX Runtime works on blocks of 8 or 16.
        lows: the fewest channels of each group, 0 where the network can do without; 1 each if not given.

    Raises: InputError for no groups, two of one name, or widths, lows, levels or a multiple out of range.
    """

    def __init__(
        self,
        name: str,
        groups: Sequence[tuple[str, int]],
        *,
        levels: int | None = 8,
        lows: Sequence[int] | None = None,
        multiple: int = 1,
    ):
        fewest = [1] * len(groups) if lows is None else list(lows)
        if (levels is not None and levels < 1) or multiple < 1:
            raise InputError(f"levels and multiple must be at least 1, got {levels} and {multiple}")
        if len(fewest) != len(groups) or any(
            not 0 <= low <= full for low, (_, full) in zip(fewest, groups, strict=False)
        ):
            raise InputError(f"every group needs a low from 0 to its width, got {fewest} for {[w for _, w in groups]}")
        super().__init__(
            name, [_site(group, full, low, levels, multiple) for (group, full), low in zip(groups, fewest, strict=True)]
        )

    @property
    def full(self) -> NDArray[np.int64]:
        """The genotype of the full network, ``(s,)``."""
        return self.n_choices - 1

    def counts(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Return the channels of each group, ``(n, s)``."""
        lows, steps = self._lines
        return lows + steps * genotypes

    def at_least(self, counts: NDArray[np.int64]) -> Genotypes:
        """Return the narrowest genotypes that have so many channels, ``(n, s)``, or all of them."""
        lows, steps = self._lines
        return np.clip(-((lows - counts) // steps), 0, self.full)

    @property
    def _lines(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        sites = [p for p in self.parameters if isinstance(p, Integer)]
        return np.array([p.low for p in sites], dtype=np.int64), np.array([p.step for p in sites], dtype=np.int64)


def _site(name: str, full: int, low: int, levels: int | None, multiple: int) -> Integer:
    step = 1 if levels is None else max(1, full // levels)
    step = min(full, -(-step // multiple) * multiple)
    while low == 0 and full % step:  # nothing at all has to be one of the counts
        step -= 1
    return Integer(name, full - (full - low) // step * step, full, step)


# -- small networks for small images, one of each shape ----------------------------------------------------------------

VGG: tuple[tuple[int, ...], ...] = ((32, 32), (64, 64), (128, 128))
"""Convolutions of each stage; the side is halved between stages."""

RESNET: tuple[tuple[int, int], ...] = ((16, 3), (32, 3), (64, 3))
"""Width and blocks of each stage; the side is halved by the first block of all but the first stage."""

MOBILENET: tuple[tuple[int, int, int, int], ...] = ((4, 16, 2, 1), (4, 32, 2, 2), (4, 64, 2, 2))
"""Expansion, width, blocks and first stride of each stage; a stem of 16 channels stands before, 128 behind."""

MOBILENET_ENDS = (16, 128)
"""Channels of the stem and of the last convolution."""


class VGGWidths(WidthSpace):
    """Widths of a chain of six 3x3 convolutions, of 32, 32, 64, 64, 128, 128 channels: 8^6 architectures.

    Source of the shape: Simonyan and Zisserman, arXiv 1409.1556, with batch-norm, for images of 8x8 and more.
    """

    def __init__(self) -> None:
        super().__init__("vgg-widths", vgg_groups(VGG))


class ResNetWidths(WidthSpace):
    """Widths of a residual network of nine basic blocks in stages of 16, 32, 64 channels: 8^12 architectures.

    A site is a stage's residual stream, or what is inside a block. Source of the shape: He et al., arXiv 1512.03385.
    """

    def __init__(self) -> None:
        super().__init__("resnet-widths", resnet_groups(RESNET))


class MobileNetWidths(WidthSpace):
    """Widths of six inverted residuals in stages of 16, 32, 64 channels, a stem and a last convolution: 8^11.

    A site is the stem, a stage's residual stream, the expansion inside a block, or the last convolution. Source of the
    shape: Sandler et al., arXiv 1801.04381.
    """

    def __init__(self) -> None:
        super().__init__("mobilenet-widths", mobilenet_groups(MOBILENET, MOBILENET_ENDS))


def vgg_groups(plan: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
    """Return the groups of a chain of convolutions, named as its batch-norms."""
    return [(f"stage{i}.conv{j}.norm", width) for i, stage in enumerate(plan, 1) for j, width in enumerate(stage, 1)]


def resnet_groups(plan: Sequence[tuple[int, int]]) -> list[tuple[str, int]]:
    """Return the groups of a residual network, named as the first batch-norms of each."""
    groups = [("stem.norm", plan[0][0])]
    for i, (width, blocks) in enumerate(plan, 1):
        for j in range(1, blocks + 1):
            groups.append((f"stage{i}.block{j}.first.norm", width))
            if i > 1 and j == 1:
                groups.append((f"stage{i}.block1.second.norm", width))
    return groups


def mobilenet_groups(plan: Sequence[tuple[int, int, int, int]], ends: tuple[int, int]) -> list[tuple[str, int]]:
    """Return the groups of a chain of inverted residuals, named as the first batch-norms of each."""
    groups, inputs = [("stem.norm", ends[0])], ends[0]
    for i, (expansion, width, blocks, _) in enumerate(plan, 1):
        for j in range(1, blocks + 1):
            groups.append((f"stage{i}.block{j}.depthwise.norm", expansion * inputs))
            if j == 1:
                groups.append((f"stage{i}.block1.project.norm", width))
            inputs = width
    return [*groups, ("last.norm", ends[1])]
