"""Parameters and FLOPs of whole batches of architectures in closed form; imports no torch.

Shapes: n architectures; every function takes valid genotypes ``(n, s)`` and returns exact int64 ``(n,)``. The sizes are
those of the space's torch network, with the benchmark's or paper's own as defaults.

Parameters are all weights, those of norms and of operations that cannot reach the output included, as in the official
tables: architectures of one canonical class may differ. FLOPs are multiply-adds of convolutions and linear layers for
one image, norms and pooling left out. NAS-Bench-201's tables count one addition more for each class, the bias of the
classifier, NAS-Bench-Macro's do not; each function here agrees with its space's table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces.base import Genotypes, Space
from nasplug.spaces.darts import DARTS, EDGES
from nasplug.spaces.darts_reduced import REDUCED
from nasplug.spaces.elastic import Elastic
from nasplug.spaces.modules.layout import (
    SINGLE_PATH_SIZES,
    darts_cells,
    elastic_layers,
    macro_layers,
    require_even_sides,
    require_positive,
)
from nasplug.spaces.modules.width_layers import SPACES, width_flops, width_params
from nasplug.spaces.single_path import (
    SinglePath,
    SinglePathDigits,
    SinglePathImageNet,
    SinglePathImageNetSE,
    squeeze_units,
)

__all__ = [
    "darts_flops",
    "darts_params",
    "elastic_flops",
    "elastic_params",
    "flops",
    "nasbench201_flops",
    "nasbench201_params",
    "nasbench_macro_flops",
    "nasbench_macro_params",
    "params",
    "single_path_flops",
    "single_path_params",
]

Counts = NDArray[np.int64]

_ELASTIC = Elastic()


def params(space: Space, genotypes: Genotypes, **sizes: Any) -> Counts:
    """Return the parameters of each network, ``(n,)``.

    Raises: InputError for a space without networks, for genotypes that are not of the space, for sizes out of range.
    """
    return _form(space, 0)(space.check(genotypes), **sizes)


def flops(space: Space, genotypes: Genotypes, **sizes: Any) -> Counts:
    """Return the multiply-adds of each network for one image, ``(n,)``; raises like :func:`params`."""
    return _form(space, 1)(space.check(genotypes), **sizes)


# -- NAS-Bench-201 -----------------------------------------------------------------------------------------------------


def nasbench201_params(
    genotypes: Genotypes, *, channels: int = 16, cells: int = 5, classes: int = 10, in_channels: int = 3
) -> Counts:
    """Return the parameters of each NAS-Bench-201 network, ``(n,)``."""
    require_positive(channels=channels, cells=cells, classes=classes, in_channels=in_channels)
    first, second, third = widths = (channels, 2 * channels, 4 * channels)
    fixed = 9 * in_channels * first + 2 * first + 2 * third + (third + 1) * classes
    # Residual blocks: 3x3 from c/2 to c, 3x3 from c to c, and the shortcut's 1x1 from c/2 to c, which has no norm.
    fixed += sum(14 * c * c + 4 * c for c in (second, third))
    pointwise = cells * sum(c * c + 2 * c for c in widths)
    full = cells * sum(9 * c * c + 2 * c for c in widths)
    return fixed + _summed([0, 0, pointwise, full, 0], genotypes)


def nasbench201_flops(
    genotypes: Genotypes,
    *,
    channels: int = 16,
    cells: int = 5,
    classes: int = 10,
    in_channels: int = 3,
    size: int = 32,
) -> Counts:
    """Return the multiply-adds of each NAS-Bench-201 network on an image of ``size`` x ``size``, ``(n,)``.

    Raises: InputError where ``size`` is not divisible by 4.
    """
    require_positive(channels=channels, cells=cells, classes=classes, in_channels=in_channels)
    require_even_sides(size, 2, "nasbench201")
    # A stage halves the sides and doubles the width, so a convolution costs the same in each; so do the two blocks.
    area = size * size
    unit = channels * channels * area
    fixed = 9 * in_channels * channels * area + 2 * 14 * unit + (4 * channels + 1) * classes
    pointwise = 3 * cells * unit
    return fixed + _summed([0, 0, pointwise, 9 * pointwise, 0], genotypes)


# -- NAS-Bench-Macro ---------------------------------------------------------------------------------------------------


def nasbench_macro_params(
    genotypes: Genotypes,
    *,
    stem: int = 32,
    width: int = 1280,
    strides: Sequence[int] = (2, 2, 2),
    classes: int = 10,
    in_channels: int = 3,
) -> Counts:
    """Return the parameters of each NAS-Bench-Macro network, ``(n,)``."""
    layers = macro_layers(stem, strides)
    require_positive(width=width, classes=classes, in_channels=in_channels)
    table = []
    for inputs, outputs, stride in layers:
        identity = 0 if stride == 1 and inputs == outputs else inputs * outputs + 2 * outputs
        row = [identity]
        for kernel, expansion in ((3, 3), (5, 6)):
            hidden = expansion * inputs
            row.append(inputs * hidden + kernel**2 * hidden + hidden * outputs + 2 * (hidden + hidden + outputs))
        table.append(row)
    last = layers[-1].outputs
    fixed = 9 * in_channels * stem + 2 * stem + last * width + 2 * width + (width + 1) * classes
    return fixed + _summed(table, genotypes)


def nasbench_macro_flops(
    genotypes: Genotypes,
    *,
    stem: int = 32,
    width: int = 1280,
    strides: Sequence[int] = (2, 2, 2),
    classes: int = 10,
    in_channels: int = 3,
    size: int = 32,
) -> Counts:
    """Return the multiply-adds of each NAS-Bench-Macro network on an image of ``size`` x ``size``, ``(n,)``."""
    layers = macro_layers(stem, strides)
    require_positive(width=width, classes=classes, in_channels=in_channels, size=size)
    fixed = 9 * in_channels * stem * size**2
    side = size
    table = []
    for inputs, outputs, stride in layers:
        before, side = side**2, -(-side // stride)
        after = side**2
        row = [0 if stride == 1 and inputs == outputs else inputs * outputs * after]
        for kernel, expansion in ((3, 3), (5, 6)):
            hidden = expansion * inputs
            row.append(inputs * hidden * before + kernel**2 * hidden * after + hidden * outputs * after)
        table.append(row)
    fixed += layers[-1].outputs * width * side**2 + width * classes
    return fixed + _summed(table, genotypes)


# -- DARTS -------------------------------------------------------------------------------------------------------------


def darts_params(
    space: DARTS, genotypes: Genotypes, *, channels: int = 36, layers: int = 20, classes: int = 10, in_channels: int = 3
) -> Counts:
    """Return the parameters of each DARTS network without auxiliary head, ``(n,)``."""
    require_positive(classes=classes, in_channels=in_channels)
    cells = darts_cells(channels, layers)
    stem = 3 * channels
    total = np.full(len(genotypes), 9 * in_channels * stem + 2 * stem + (4 * cells[-1].channels + 1) * classes)
    counted = _darts_operations(space, genotypes)
    for cell in cells:
        c = cell.channels
        norms = {"sep_conv_3x3": 4 * c, "sep_conv_5x5": 4 * c, "dil_conv_3x3": 2 * c, "dil_conv_5x5": 2 * c}
        total += (cell.before_last + cell.last) * c + 4 * c
        costs = {name: count + norms.get(name, 0) for name, count in _darts_weights(c).items()}
        total += counted[:, int(cell.reduction)] @ _darts_costs(space, costs, reduce=c * c + 2 * c)
    return total


def darts_flops(
    space: DARTS,
    genotypes: Genotypes,
    *,
    channels: int = 36,
    layers: int = 20,
    classes: int = 10,
    in_channels: int = 3,
    size: int = 32,
) -> Counts:
    """Return the multiply-adds of each DARTS network on an image of ``size`` x ``size``, ``(n,)``.

    Raises: InputError where ``size`` is not divisible by 4.
    """
    require_positive(classes=classes, in_channels=in_channels)
    cells = darts_cells(channels, layers)
    require_even_sides(size, 2, space.name)
    fixed = 9 * in_channels * 3 * channels * size**2 + 4 * cells[-1].channels * classes
    total = np.full(len(genotypes), fixed)
    counted = _darts_operations(space, genotypes)
    side = size
    for cell in cells:
        c = cell.channels
        total += (cell.before_last + cell.last) * c * side**2
        side //= 1 + cell.reduction
        total += counted[:, int(cell.reduction)] @ _darts_costs(space, _darts_weights(c), reduce=c * c) * side**2
    return total


def _darts_weights(c: int) -> dict[str, int]:
    """Return the convolution weights of the operations that have some, at width ``c`` and stride 1."""
    small, large = 9 * c + c * c, 25 * c + c * c
    return {"sep_conv_3x3": 2 * small, "sep_conv_5x5": 2 * large, "dil_conv_3x3": small, "dil_conv_5x5": large}


def _darts_operations(space: DARTS, genotypes: Genotypes) -> Counts:
    """Return how often each operation of the space occurs in a normal and in a reduction cell, ``(n, 2, o + 1)``.

    The last column counts the skip connections that halve the sides, and so have weights.
    """
    places, codes = space.edges(genotypes)
    names = np.array(space.operations)[space.named(places, codes)]
    counts = (names[..., None] == np.array(space.operations)).sum(axis=2)
    halving = (names == "skip_connect") & (np.array(EDGES)[places, 0] < 2)
    halving[:, 0] = False
    return np.concatenate([counts, halving.sum(axis=2, keepdims=True)], axis=2)


def _darts_costs(space: DARTS, costs: Mapping[str, int], reduce: int) -> Counts:
    """Return the costs that the columns of :func:`_darts_operations` stand for, ``(o + 1,)``."""
    return np.array([*(costs.get(name, 0) for name in space.operations), reduce])


# -- elastic -----------------------------------------------------------------------------------------------------------


def elastic_params(
    genotypes: Genotypes,
    *,
    stem: int = 16,
    widths: Sequence[int] = (24, 40, 80),
    strides: Sequence[int] = (1, 2, 2),
    classes: int = 10,
    in_channels: int = 3,
) -> Counts:
    """Return the parameters of each elastic sub-network, ``(n,)``."""
    layers = elastic_layers(stem, widths, strides)
    require_positive(classes=classes, in_channels=in_channels)
    fixed = 9 * in_channels * stem + 2 * stem + (layers[-1].outputs + 1) * classes
    inputs, outputs, _ = np.array(layers).T
    kernel, hidden = _elastic_blocks(genotypes, inputs)
    return fixed + (hidden * (inputs + kernel**2 + outputs + 4) + 2 * outputs * (hidden > 0)).sum(axis=1)


def elastic_flops(
    genotypes: Genotypes,
    *,
    stem: int = 16,
    widths: Sequence[int] = (24, 40, 80),
    strides: Sequence[int] = (1, 2, 2),
    classes: int = 10,
    in_channels: int = 3,
    size: int = 32,
) -> Counts:
    """Return the multiply-adds of each elastic sub-network on an image of ``size`` x ``size``, ``(n,)``."""
    layers = elastic_layers(stem, widths, strides)
    require_positive(classes=classes, in_channels=in_channels, size=size)
    inputs, outputs, stride = np.array(layers).T
    sides = [size]
    for step in stride:
        sides.append(-(-sides[-1] // int(step)))
    before, after = np.array(sides[:-1]) ** 2, np.array(sides[1:]) ** 2
    kernel, hidden = _elastic_blocks(genotypes, inputs)
    fixed = 9 * in_channels * stem * size**2 + layers[-1].outputs * classes
    return fixed + (hidden * (inputs * before + kernel**2 * after + outputs * after)).sum(axis=1)


def _elastic_blocks(genotypes: Genotypes, inputs: Counts) -> tuple[Counts, Counts]:
    """Return kernel size and hidden channels of each block, ``(n, 9)``; no hidden channels where inactive."""
    kernel = np.array(_ELASTIC.kernels)[genotypes[:, _ELASTIC.kernel_sites]]
    expansion = np.array(_ELASTIC.expansions)[genotypes[:, _ELASTIC.expand_sites]]
    return kernel, expansion * inputs * _ELASTIC.active(genotypes)


# -- Single-Path NAS ---------------------------------------------------------------------------------------------------


def single_path_params(space: SinglePath, genotypes: Genotypes, **sizes: Any) -> Counts:
    """Return the parameters of each network of a Single-Path space, ``(n,)``; sizes are ``SinglePathSizes``'s."""
    s = dataclasses.replace(SINGLE_PATH_SIZES[space.name], **sizes)
    table = []
    for inputs, outputs, _ in s.layers():
        row = []
        for block in space.blocks:
            hidden, units = block.expansion * inputs, squeeze_units(block, inputs)
            squeeze = 2 * hidden * units + units + hidden if units else 0
            row.append(hidden * (inputs + block.kernel**2 + outputs + 4) + 2 * outputs + squeeze)
        table.append([*row, 0])
    before, after = s.widths[-1], s.final
    fixed = 9 * s.in_channels * s.stem + 2 * s.stem
    fixed += s.stem * (9 + s.first + 2) + 2 * s.first
    fixed += 6 * before * (before + 9 + after + 4) + 2 * after
    fixed += after * s.width + 2 * s.width + (s.width + 1) * s.classes
    return fixed + _summed(table, genotypes)


def single_path_flops(space: SinglePath, genotypes: Genotypes, *, size: int = 224, **sizes: Any) -> Counts:
    """Return the multiply-adds of each network of a Single-Path space on an image of ``size`` x ``size``, ``(n,)``."""
    s = dataclasses.replace(SINGLE_PATH_SIZES[space.name], **sizes)
    require_positive(size=size)
    side = -(-size // s.stem_stride)
    fixed = 9 * s.in_channels * s.stem * side**2 + s.stem * (9 + s.first) * side**2
    table = []
    for inputs, outputs, stride in s.layers():
        before, side = side**2, -(-side // stride)
        after = side**2
        row = []
        for block in space.blocks:
            hidden = block.expansion * inputs
            squeeze = 2 * hidden * squeeze_units(block, inputs)
            row.append(hidden * (inputs * before + block.kernel**2 * after + outputs * after) + squeeze)
        table.append([*row, 0])
    fixed += 6 * s.widths[-1] * (s.widths[-1] + 9 + s.final) * side**2
    fixed += s.final * s.width * side**2 + s.width * s.classes
    return fixed + _summed(table, genotypes)


# -- what they share ---------------------------------------------------------------------------------------------------


def _summed(table: Sequence[int] | Sequence[Sequence[int]], genotypes: Genotypes) -> Counts:
    """Return the sum over sites of ``table[site][code]``, ``(n,)``; one row serves all sites."""
    rows = np.broadcast_to(np.array(table, dtype=np.int64), (genotypes.shape[1], np.shape(table)[-1]))
    return rows[np.arange(genotypes.shape[1]), genotypes].sum(axis=1)


_FORMS: Mapping[str, tuple[Callable[..., Counts], Callable[..., Counts]]] = {
    "nasbench201": (nasbench201_params, nasbench201_flops),
    "nasbench-macro": (nasbench_macro_params, nasbench_macro_flops),
    **{
        space.name: (partial(darts_params, space), partial(darts_flops, space))
        for space in (DARTS(), *(reduced() for reduced in REDUCED))
    },
    "elastic": (elastic_params, elastic_flops),
    **{name: (partial(width_params, name), partial(width_flops, name)) for name in SPACES},
    **{
        space.name: (partial(single_path_params, space), partial(single_path_flops, space))
        for space in (SinglePathDigits(), SinglePathImageNet(), SinglePathImageNetSE())
    },
}


def _form(space: Space, which: int) -> Callable[..., Counts]:
    if space.name not in _FORMS:
        raise InputError(f"space {space.name!r} has no networks to count; spaces that have: {', '.join(_FORMS)}")
    return _FORMS[space.name][which]
