"""Where the cells and layers of each space's network stand: widths and strides, without torch.

The torch networks and the closed forms of :mod:`nasplug.spaces.modules.complexity` are both written from these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

from nasplug.errors import InputError
from nasplug.spaces import elastic
from nasplug.spaces.nasbench_macro import STAGES
from nasplug.spaces.single_path import DIGITS_STAGES, IMAGENET_STAGES

__all__ = [
    "ELASTIC_SMALL",
    "MACRO_SMALL",
    "SINGLE_PATH_SIZES",
    "SINGLE_PATH_SMALL",
    "DARTSCell",
    "MacroLayer",
    "SinglePathSizes",
    "darts_cells",
    "elastic_layers",
    "macro_layers",
    "require_even_sides",
    "require_positive",
]

ELASTIC_SMALL: dict[str, Any] = {"stem": 8, "widths": (8, 12, 16), "strides": (1, 2, 2)}
"""Sizes of an elastic network for images of 8 x 8; the defaults are for 32 x 32."""

MACRO_SMALL: dict[str, Any] = {"stem": 4, "width": 64, "strides": (2, 2, 1)}
"""Sizes of a NAS-Bench-Macro network for images of 8 x 8; the defaults are for 32 x 32."""


SINGLE_PATH_SMALL: dict[str, Any] = {
    "stem": 8,
    "stem_stride": 1,
    "first": 4,
    "widths": (4, 8, 12, 12, 16),
    "strides": (1, 2, 1, 1, 2),
    "final": 24,
    "width": 64,
}
"""Sizes of a network of Single-Path NAS's ImageNet space for images of 8 x 8; the defaults are the published ones."""


class MacroLayer(NamedTuple):
    """One searchable layer of a chain of blocks: channels that come and leave, and the stride."""

    inputs: int
    outputs: int
    stride: int


class DARTSCell(NamedTuple):
    """One cell of a DARTS network: channels of the two cells before it, its own width, and where sides are halved.

    ``reduction``: this cell halves the sides; ``after_reduction``: the cell just before it does, so that the output
    of the cell before that is still twice as wide and high.
    """

    before_last: int
    last: int
    channels: int
    reduction: bool
    after_reduction: bool


def macro_layers(stem: int = 32, strides: Sequence[int] = (2, 2, 2)) -> tuple[MacroLayer, ...]:
    """Return the eight layers of a chain: the first of each stage doubles the channels and has the stage's stride.

    Raises: InputError where ``strides`` is not one stride, 1 or 2, a stage.
    """
    if len(strides) != len(STAGES) or not all(stride in (1, 2) for stride in strides):
        raise InputError(f"strides must be {len(STAGES)} numbers, each 1 or 2, one a stage; got {tuple(strides)}")
    require_positive(stem=stem)
    layers = []
    channels = stem
    for length, stride in zip(STAGES, strides, strict=True):
        layers.append(MacroLayer(channels, 2 * channels, stride))
        channels *= 2
        layers += [MacroLayer(channels, channels, 1)] * (length - 1)
    return tuple(layers)


def elastic_layers(
    stem: int = 16, widths: Sequence[int] = (24, 40, 80), strides: Sequence[int] = (1, 2, 2)
) -> tuple[MacroLayer, ...]:
    """Return the nine blocks of the largest elastic network: the first of each stage widens and has its stride.

    Raises: InputError where ``widths`` or ``strides``, each 1 or 2, are not one a stage.
    """
    if len(strides) != elastic.STAGES or not all(stride in (1, 2) for stride in strides):
        raise InputError(f"strides must be {elastic.STAGES} numbers, each 1 or 2, one a stage; got {tuple(strides)}")
    if len(widths) != elastic.STAGES:
        raise InputError(f"widths must be {elastic.STAGES} numbers, one a stage; got {tuple(widths)}")
    require_positive(stem=stem, **{f"width {i}": width for i, width in enumerate(widths, 1)})
    layers = []
    channels = stem
    for width, stride in zip(widths, strides, strict=True):
        layers.append(MacroLayer(channels, width, stride))
        layers += [MacroLayer(width, width, 1)] * (elastic.DEPTHS[-1] - 1)
        channels = width
    return tuple(layers)


@dataclass(frozen=True)
class SinglePathSizes:
    """Sizes of a Single-Path network; the defaults are the published ones, for images of 224x224.

    Attributes:
        stages: searchable layers a stage.
        stem: channels of the 3x3 convolution.
        stem_stride: its stride.
        first: channels that leave the fixed layer behind it, kernel 3 without expansion.
        widths: channels of each searchable stage.
        strides: of the first layer of each.
        final: channels that leave the fixed layer behind the stages, kernel 3 with expansion 6.
        width: channels of the 1x1 convolution before the head.
        classes: outputs.
        in_channels: channels of the images.

    Raises: InputError where widths or strides, each 1 or 2, are not one a stage, or a size is not at least 1.
    """

    stages: tuple[int, ...] = IMAGENET_STAGES
    stem: int = 32
    stem_stride: int = 2
    first: int = 16
    widths: tuple[int, ...] = (24, 40, 80, 96, 192)
    strides: tuple[int, ...] = (2, 2, 2, 1, 2)
    final: int = 320
    width: int = 1280
    classes: int = 1000
    in_channels: int = 3

    def __post_init__(self) -> None:
        count = len(self.stages)
        if not len(self.widths) == len(self.strides) == count:
            raise InputError(
                f"widths and strides are {count} numbers each, one a stage; got {self.widths}, {self.strides}"
            )
        if not all(stride in (1, 2) for stride in (self.stem_stride, *self.strides)):
            raise InputError(f"strides are 1 or 2, got {(self.stem_stride, *self.strides)}")
        require_positive(
            **{name: getattr(self, name) for name in ("stem", "first", "final", "width", "classes", "in_channels")},
            **{f"width {i}": width for i, width in enumerate(self.widths, 1)},
        )

    def layers(self) -> tuple[MacroLayer, ...]:
        """Return the searchable layers."""
        layers = []
        channels = self.first
        for length, width, stride in zip(self.stages, self.widths, self.strides, strict=True):
            layers.append(MacroLayer(channels, width, stride))
            layers += [MacroLayer(width, width, 1)] * (length - 1)
            channels = width
        return tuple(layers)


def darts_cells(channels: int = 36, layers: int = 20) -> tuple[DARTSCell, ...]:
    """Return the cells of a network: those at one and two thirds of the depth reduce, and double the width.

    The stem has three times, and a cell's output four times, the width of the cells.
    """
    require_positive(channels=channels, layers=layers)
    cells: list[DARTSCell] = []
    before_last = last = 3 * channels
    reduced = False
    for i in range(layers):
        reduction = i in (layers // 3, 2 * layers // 3)
        channels *= 1 + reduction
        cells.append(DARTSCell(before_last, last, channels, reduction, reduced))
        before_last, last, reduced = last, 4 * channels, reduction
    return tuple(cells)


def require_positive(**values: Any) -> None:
    """Raise InputError where one of the named numbers is not an integer of at least 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise InputError(f"{name} must be an integer of at least 1, got {value!r}")


def require_even_sides(size: int, halvings: int, space: str) -> None:
    """Raise InputError where images of that side cannot be halved so often without a rest."""
    require_positive(size=size)
    if size % 2**halvings:
        raise InputError(f"networks of {space!r} need images with sides divisible by {2**halvings}, got {size}")


SINGLE_PATH_SIZES: Mapping[str, SinglePathSizes] = {
    "single-path-imagenet": SinglePathSizes(),
    "single-path-imagenet-se": SinglePathSizes(),
    "single-path-digits": SinglePathSizes(DIGITS_STAGES, 12, 1, 8, (12, 20), (1, 2), 32, 64, 10, 1),
}
"""Sizes of the registered spaces' networks, by name."""
