"""The torch network of an architecture, whatever its space."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nasplug.errors import InputError, UnknownNameError
from nasplug.spaces.base import Space
from nasplug.spaces.modules import convnets, darts, elastic, nasbench201, nasbench_macro, single_path
from nasplug.spaces.modules.layout import SINGLE_PATH_SIZES
from nasplug.spaces.modules.seeding import seeded

__all__ = ["network", "require_sizes"]

_BUILDERS: Mapping[str, Callable[..., nn.Module]] = {
    "nasbench201": nasbench201.network,
    "nasbench-macro": nasbench_macro.network,
    **{name: partial(darts.network, space) for name, space in darts.SPACES.items()},
    "elastic": elastic.network,
    **{name: partial(convnets.network, name) for name in convnets.SPACES},
    **{name: partial(single_path.network, space) for name, space in single_path.SPACES.items()},
}


def network(
    space: Space,
    genotype: NDArray[np.int64],
    *,
    classes: int,
    in_channels: int,
    seed: int | torch.Generator,
    **sizes: Any,
) -> nn.Module:
    """Return the network of one architecture on the CPU, ``(N, in_channels, H, W) -> (N, classes)`` logits.

    Weights are torch's defaults, which the papers' own code uses, drawn from ``seed`` alone: the same space, genotype,
    sizes and seed give the same weights, and the global stream is not touched.

    Args:
        space: ``nasbench201``, ``nasbench-macro``, ``elastic``, ``darts`` or one of its reduced ones, or one of the
            ``single-path`` ones.
        genotype: one architecture of it, ``(s,)``.
        classes: outputs.
        in_channels: channels of the images.
        seed: a seed, or a CPU generator, which is advanced.
        sizes: what else the space's own ``network`` function takes, such as ``channels`` and ``cells``; the defaults
            are the sizes of the benchmark or paper.

    Raises: InputError for a space without networks, a genotype that is not of the space, sizes out of range;
        UnknownNameError for a size that its networks do not take.
    """
    require_sizes(space, {name: size for name, size in sizes.items() if name != "norm"})
    (row,) = space.check(np.asarray(genotype)[None])
    with seeded(seed):
        return _BUILDERS[space.name](row, classes=classes, in_channels=in_channels, **sizes)


def require_sizes(space: Space, sizes: Mapping[str, Any]) -> None:
    """Check the names of sizes for :func:`network`, and that there are several numbers where it takes several.

    Raises: UnknownNameError for a size that the space's networks do not take; InputError for a single number in the
        place of several, or a space without networks.
    """
    if space.name not in _BUILDERS:
        raise InputError(f"space {space.name!r} has no torch networks; spaces that have: {', '.join(_BUILDERS)}")
    known = {
        p.name: p.default
        for p in inspect.signature(_BUILDERS[space.name]).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }
    if space.name in SINGLE_PATH_SIZES:
        known |= asdict(SINGLE_PATH_SIZES[space.name])
    known = {name: size for name, size in known.items() if name not in ("classes", "in_channels", "norm")}
    for name, size in sizes.items():
        if name not in known:
            raise UnknownNameError(f"network size of space {space.name!r}", name, known)
        if isinstance(known[name], tuple) and isinstance(size, int):
            expected = ",".join(map(str, known[name]))
            raise InputError(f"{name} of space {space.name!r} are several numbers, such as {expected}; got {size!r}")
