"""What a network makes a device do: additive terms of an architecture, and the kernels that each term launches.

A latency is nearly a sum over the layers. A :class:`Workload` names the terms of that sum: each architecture has one
term in every slot, and a linear model gives each term a weight. Where the network behind a space is known, a term also
lists its kernels, from which the time it takes on a described device follows (:mod:`nasplug.cost_models.virtual`).

Shapes:
    n: architectures; l: slots; w: terms; m: kernels; t: timed terms (``w``, or ``w`` at each of several resolutions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from nasplug.spaces import FBNet, Genotypes, NASBench201, NASBenchMacro, OFAMobileNetV3, Space
from nasplug.spaces import fbnet as fb
from nasplug.spaces import nasbench201 as nb
from nasplug.spaces import ofa_mobilenetv3 as ofa
from nasplug.spaces.modules.layout import macro_layers

__all__ = ["Kernels", "Kind", "Workload", "workload"]

CHUNK = 1 << 16
"""Architectures whose terms are gathered at once: they stay in cache."""


class Kind(IntEnum):
    """Kinds of kernels that devices run at different rates."""

    POINTWISE = 0
    CONVOLUTION = 1
    DEPTHWISE_SMALL = 2
    DEPTHWISE_LARGE = 3
    GROUPED = 4
    NORM = 5
    """A norm or an activation: fused into the convolution by many an engine."""
    COPY = 6
    """An addition, a shuffle or a rescaling: moves numbers, computes next to nothing."""
    POOL = 7
    ZERO = 8
    """Writes zeros; left out by many an engine."""


class _Kernel(NamedTuple):
    term: int
    kind: Kind
    macs: int
    values: int
    weights: int


@dataclass(frozen=True, eq=False)
class Kernels:
    """The kernels of all terms, for one image.

    Attributes:
        term: which timed term launches it, ``(m,)``.
        kind: :class:`Kind`, ``(m,)``.
        macs: multiply-accumulates, ``(m,)``.
        values: numbers read and written an image, ``(m,)``.
        weights: numbers read once a batch, ``(m,)``.
        folds: linear maps ``(w, t)`` from the time of timed terms to weights of terms; more than one where devices
            differ in which terms run.
    """

    term: NDArray[np.int64]
    kind: NDArray[np.int64]
    macs: NDArray[np.float64]
    values: NDArray[np.float64]
    weights: NDArray[np.float64]
    folds: tuple[NDArray[np.float64], ...]

    def per_term(self, amounts: NDArray[np.float64], fold: int = 0) -> NDArray[np.float64]:
        """Return amounts of kernels ``(..., m)`` summed to weights of terms ``(..., w)``."""
        shape = (len(self.term), self.folds[fold].shape[1])
        sums = csr_array((np.ones(len(self.term)), self.term, np.arange(len(self.term) + 1)), shape=shape)
        by_term: NDArray[np.float64] = np.asarray(amounts @ sums)
        return by_term @ self.folds[fold].T


@dataclass(frozen=True, eq=False)
class Workload:
    """The additive terms of a space's architectures.

    Attributes:
        space: the space.
        width: number of terms w.
        terms: genotypes ``(n, s)`` -> the term in each slot, ``(n, l)``; None where the terms are the space's one-hot
            encoding, which may hold ordered numbers.
        factors: genotypes -> what multiplies the term of each slot, ``(n, l)``; None for one.
        kernels: None where the network behind the space is not described here.
        connected: genotypes -> whether the output depends on the input, ``(n,)``; None where it always does.
    """

    space: Space
    width: int
    terms: Callable[[Genotypes], NDArray[np.int64]] | None = None
    factors: Callable[[Genotypes], NDArray[np.float64]] | None = None
    kernels: Kernels | None = None
    connected: Callable[[Genotypes], NDArray[np.bool_]] | None = None

    def matrix(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Return the terms as features, ``(n, w)``."""
        if self.terms is None:
            return self.space.encode(genotypes, "onehot").astype(np.float64)
        terms = self.terms(genotypes)
        features = np.zeros((len(genotypes), self.width))
        factors = np.ones(terms.shape) if self.factors is None else self.factors(genotypes)
        np.add.at(features, (np.arange(len(genotypes))[:, None], terms), factors)
        return features

    def total(self, genotypes: Genotypes, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of each architecture's weighted terms, ``matrix(genotypes) @ weights``, ``(n,)``, faster."""
        parts = [self._total(genotypes[at : at + CHUNK], weights) for at in range(0, len(genotypes), CHUNK)]
        return np.concatenate([np.empty(0), *parts])

    def _total(self, genotypes: Genotypes, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.terms is None:
            return self.matrix(genotypes) @ weights
        gathered = weights[self.terms(genotypes)]
        result: NDArray[np.float64] = (
            gathered.sum(axis=1) if self.factors is None else np.einsum("nl,nl->n", gathered, self.factors(genotypes))
        )
        return result


@lru_cache(maxsize=16)
def workload(space: Space) -> Workload:
    """Return the workload of a space: with kernels where its network is described here, else its one-hot encoding."""
    build = _DESCRIBED.get(type(space))
    if build is not None:
        return build(space)
    return Workload(space, space.encode(space.sample(1, np.random.default_rng(0)), "onehot").shape[1])


def _kernels(launched: Iterable[_Kernel], timed: int, folds: tuple[NDArray[np.float64], ...] | None = None) -> Kernels:
    term, kind, macs, values, weights = np.array(list(launched), dtype=np.float64).T
    folds = (np.eye(timed),) if folds is None else folds
    return Kernels(term.astype(np.int64), kind.astype(np.int64), macs, values, weights, folds)


def _mobile_block(
    term: int,
    inputs: int,
    hidden: int,
    outputs: int,
    side: int,
    stride: int,
    kernel: int,
    groups: int = 1,
    squeeze: bool = False,
) -> list[_Kernel]:
    """Return what an inverted residual launches: expand, depthwise, project, each with its norm and activation."""
    before, after = side**2, ((side - 1) // stride + 1) ** 2
    pointwise = Kind.POINTWISE if groups == 1 else Kind.GROUPED
    depthwise = Kind.DEPTHWISE_SMALL if kernel == 3 else Kind.DEPTHWISE_LARGE
    expand, project = inputs * hidden // groups, hidden * outputs // groups
    wide, narrow, out = 2 * hidden * before, 2 * hidden * after, 2 * outputs * after
    launched = [
        _Kernel(term, pointwise, expand * before, (inputs + hidden) * before, expand),
        *[_Kernel(term, Kind.NORM, 0, wide, 0)] * 2,
        *[_Kernel(term, Kind.COPY, 0, wide, 0)] * (groups > 1),
        _Kernel(term, depthwise, kernel**2 * hidden * after, hidden * (before + after), kernel**2 * hidden),
        *[_Kernel(term, Kind.NORM, 0, narrow, 0)] * 2,
        _Kernel(term, pointwise, project * after, (hidden + outputs) * after, project),
        _Kernel(term, Kind.NORM, 0, out, 0),
    ]
    if squeeze:
        inner = hidden * hidden // 2
        launched += [_Kernel(term, Kind.POOL, 0, hidden * after, 0)]
        launched += [_Kernel(term, Kind.POINTWISE, inner, hidden, inner), _Kernel(term, Kind.COPY, 0, narrow, 0)]
    if stride == 1 and inputs == outputs:
        launched.append(_Kernel(term, Kind.COPY, 0, 3 * outputs * after, 0))
    return launched


def _resize(term: int, inputs: int, outputs: int, side: int, stride: int) -> list[_Kernel]:
    """Return what a skip launches: nothing, or the 1x1 convolution with norm and activation that resizes."""
    if stride == 1 and inputs == outputs:
        return []
    before, after = side**2, ((side - 1) // stride + 1) ** 2
    convolution = _Kernel(
        term, Kind.POINTWISE, inputs * outputs * after, inputs * before + outputs * after, inputs * outputs
    )
    return [convolution, *[_Kernel(term, Kind.NORM, 0, 2 * outputs * after, 0)] * 2]


def _nasbench201(space: Space) -> Workload:
    """Each edge twice: as it is written, and as it is left when what cannot reach the output is taken out."""
    operations, sites = len(nb.OPERATIONS), len(nb.EDGES)
    width = sites * operations
    launched = []
    for site in range(sites):
        # Three stages of five cells, CIFAR's 32 x 32 with 16 channels at first.
        for channels, side in ((16, 32), (32, 16), (64, 8)):
            values = 2 * channels * side**2
            for code, run in (
                (0, ((Kind.ZERO, 0),)),
                (2, ((Kind.NORM, 0), (Kind.POINTWISE, channels**2), (Kind.NORM, 0))),
                (3, ((Kind.NORM, 0), (Kind.CONVOLUTION, 9 * channels**2), (Kind.NORM, 0))),
                (4, ((Kind.POOL, 0),)),
            ):
                for kind, weights in run:
                    kernel = _Kernel(site * operations + code, kind, weights * side**2, values, weights)
                    launched += [kernel] * 5
    written, left = np.split(np.eye(2 * width), 2, axis=1)
    starts = operations * np.arange(2 * sites)

    def terms(genotypes: Genotypes) -> NDArray[np.int64]:
        alive = np.where(_alive(genotypes), genotypes, 0)
        return np.concatenate([genotypes, alive], axis=1) + starts

    def connected(genotypes: Genotypes) -> NDArray[np.bool_]:
        return np.asarray(_alive(genotypes).any(axis=1))

    kernels = _kernels(launched, width, folds=(written, left))
    return Workload(space, 2 * width, terms, kernels=kernels, connected=connected)


def _alive(genotypes: Genotypes) -> NDArray[np.bool_]:
    """Return which edges of NAS-Bench-201 cells lie on a path from the input to the output, ``(n, 6)``."""
    a, b, c, d, e, f = (genotypes != 0).T
    first, second = a, b | (a & c)  # reached from the input
    from_second, from_first = f, e | (c & f)  # reaches the output
    return np.stack([a & from_first, b & from_second, first & c & from_second, d, first & e, second & f], axis=1)


def _fbnet(space: Space) -> Workload:
    launched = []
    for i, layer in enumerate(fb.LAYERS):
        for code, name in enumerate(fb.OPERATIONS):
            term = i * len(fb.OPERATIONS) + code
            if name == "skip":
                launched += _resize(term, *layer[:2], layer.side, layer.stride)
                continue
            kernel, expansion, *grouped = name.split("_")
            hidden = layer.inputs * int(expansion[1:])
            launched += _mobile_block(
                term, layer.inputs, hidden, layer.outputs, layer.side, layer.stride, int(kernel[1:]), 1 + len(grouped)
            )
    return _by_site(space, launched)


def _nasbench_macro(space: Space) -> Workload:
    launched, side = [], 32
    for i, layer in enumerate(macro_layers()):
        launched += _resize(3 * i, layer.inputs, layer.outputs, side, layer.stride)
        for code, kernel, expansion in ((1, 3, 3), (2, 5, 6)):
            hidden = expansion * layer.inputs
            launched += _mobile_block(3 * i + code, layer.inputs, hidden, layer.outputs, side, layer.stride, kernel)
        side = (side - 1) // layer.stride + 1
    return _by_site(space, launched)


def _by_site(space: Space, launched: list[_Kernel]) -> Workload:
    """Return the workload whose slots are the sites and whose terms are their codes."""
    starts = np.cumsum(space.n_choices) - space.n_choices
    width = int(space.n_choices.sum())
    return Workload(space, width, lambda genotypes: genotypes + starts, kernels=_kernels(launched, width))


def _ofa_mobilenetv3(space: Space) -> Workload:
    """Each block twice: once as it is, once times the area of its output, because the work grows with it."""
    assert isinstance(space, OFAMobileNetV3)
    forms = len(ofa.KERNELS) * len(ofa.EXPANSIONS) + 1  # the first: no block
    width = ofa.BLOCKS * forms
    before, after = _ofa_sides(np.array(ofa.RESOLUTIONS))
    area = (after / after[-1]) ** 2
    timed = (0, len(ofa.RESOLUTIONS) // 2, len(ofa.RESOLUTIONS) - 1)
    launched = []
    fold = np.zeros((2 * width, len(timed) * width))
    for block in range(ofa.BLOCKS):
        stage, place = divmod(block, ofa.BLOCKS // ofa.STAGES)
        stride, outputs = (ofa.STRIDES[stage] if place == 0 else 1), ofa.WIDTHS[stage]
        inputs = outputs if place else (ofa.STEM, *ofa.WIDTHS)[stage]
        line = np.linalg.pinv(np.stack([np.ones(len(timed)), area[list(timed), block]], axis=1))
        for form in range(1, forms):
            kernel, expansion = divmod(form - 1, len(ofa.EXPANSIONS))
            hidden, term = inputs * ofa.EXPANSIONS[expansion], block * forms + form
            for at, resolution in enumerate(timed):
                side = int(before[resolution, block])
                launched += _mobile_block(
                    at * width + term,
                    inputs,
                    hidden,
                    outputs,
                    side,
                    stride,
                    ofa.KERNELS[kernel],
                    squeeze=ofa.SQUEEZE[stage],
                )
                fold[[term, width + term], at * width + term] = line[:, at]
    starts = forms * np.arange(ofa.BLOCKS)

    def terms(genotypes: Genotypes) -> NDArray[np.int64]:
        s = space.settings(genotypes)
        kernel, expansion = np.searchsorted(ofa.KERNELS, s.kernel), np.searchsorted(ofa.EXPANSIONS, s.expand)
        form = np.where(s.kernel > 0, 1 + kernel * len(ofa.EXPANSIONS) + expansion, 0) + starts
        return np.concatenate([form, form + width], axis=1)

    def factors(genotypes: Genotypes) -> NDArray[np.float64]:
        grows = area[np.searchsorted(ofa.RESOLUTIONS, space.settings(genotypes).resolution)]
        return np.concatenate([np.ones(grows.shape), grows], axis=1)

    return Workload(space, 2 * width, terms, factors, _kernels(launched, len(timed) * width, folds=(fold,)))


def _ofa_sides(resolutions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the side of the map that enters and that leaves each block at each resolution, ``(r, 20)`` both."""
    side = (resolutions + 1) // 2
    before, after = [], []
    for block in range(ofa.BLOCKS):
        stage, place = divmod(block, ofa.BLOCKS // ofa.STAGES)
        before.append(side)
        if place == 0:
            side = (side - 1) // ofa.STRIDES[stage] + 1
        after.append(side)
    return np.stack(before, axis=1), np.stack(after, axis=1)


_DESCRIBED: Mapping[type[Space], Callable[[Any], Workload]] = {
    NASBench201: _nasbench201,
    FBNet: _fbnet,
    NASBenchMacro: _nasbench_macro,
    OFAMobileNetV3: _ofa_mobilenetv3,
}
