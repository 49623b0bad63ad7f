"""What latency models look at: a space's encodings, from single sites to whole networks, on one scale.

Latency is nearly a sum over layers, and layers of a kind cost alike. A linear model therefore learns from few networks
when sums over many sites (how many blocks, how much work in all) are cheap to use and single sites are dear: columns of
the coarser encodings are scaled up, so that ridge regression penalises them less.

Shapes: n architectures; d columns of the single sites; e columns with the sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.cost_models.workload import Kind, workload
from nasplug.errors import InputError
from nasplug.spaces import Genotypes, Space

__all__ = ["KERNELS", "SITES", "SUMS", "Features", "kernel_sums"]

SITES = ("onehot", "work")
"""Encodings of single sites: of these, whichever a space has."""

SUMS: Mapping[str, float] = {"counts": 3.0, "stages": 3.0, "totals": 30.0}
"""Encodings whose columns are sums of those, and the scale of each. Chosen on rows 7,000 to 8,499 (validation) of the
two OFA tables of arXiv:2101.00732."""

KERNELS = 10.0
"""Scale of :func:`kernel_sums`, used where a space has no ``totals`` of its own. Chosen on FBNet and NAS-Bench-201
devices of shared data."""

REFERENCE = 3000
"""Networks drawn, always the same, to learn a space's own means and deviations; independent of what is measured."""


class Features:
    """Standardised features of a space; by the space's own spread, so that ten networks do not distort the scale.

    Args:
        space: the space.
    """

    def __init__(self, space: Space):
        self.space = space
        self.kinds = tuple(kind for kind in SITES if kind in space.encodings)
        self._sums = {kind: scale for kind, scale in SUMS.items() if kind in space.encodings}
        self._by_kernels = "totals" not in space.encodings and workload(space).kernels is not None
        self._reference = space.sample(REFERENCE, np.random.default_rng(0))
        self._mean, self._deviation = _spread(self._raw(self._reference, self.kinds))
        self._sums_mean, deviation = _spread(self._summed(self._reference))
        one = self._reference[:1]
        scales = [np.full(space.encode(one, kind).shape[1], scale) for kind, scale in self._sums.items()]
        scales.append(np.full(len(deviation) - sum(map(len, scales)), KERNELS))
        self._sums_deviation = deviation / np.concatenate(scales)

    @property
    def width(self) -> int:
        """How many features single sites have, d."""
        return len(self._mean)

    def sites(self, genotypes: Genotypes) -> NDArray[np.float32]:
        """Return the standardised features of single sites, float32 ``(n, d)``."""
        raw = self._raw(genotypes, self.kinds)
        raw -= self._mean.astype(np.float32)
        raw /= self._deviation.astype(np.float32)
        return raw

    def all(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Return them and the scaled sums, float64 ``(n, e)``."""
        sites = (self._raw(genotypes, self.kinds) - self._mean) / self._deviation
        sums = (self._summed(genotypes) - self._sums_mean) / self._sums_deviation
        return np.concatenate([sites, sums], axis=1)

    def on_sites(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """Return the linear function of :meth:`all` ``(e,)`` as one of :meth:`sites`: weights ``(d,)`` and a constant.

        Sums are linear in the sites, so nothing is lost and a prediction needs :meth:`sites` alone.
        """
        rows = np.column_stack([self.sites(self._reference).astype(np.float64), np.ones(len(self._reference))])
        target = self.all(self._reference) @ weights
        folded = np.asarray(np.linalg.lstsq(rows, target, rcond=1e-10)[0], dtype=np.float64)
        return folded[:-1], float(folded[-1])

    def _summed(self, genotypes: Genotypes) -> NDArray[np.float64]:
        sums = self._raw(genotypes, tuple(self._sums)).astype(np.float64)
        return np.concatenate([sums, kernel_sums(self.space, genotypes)], axis=1) if self._by_kernels else sums

    def _raw(self, genotypes: Genotypes, kinds: tuple[str, ...]) -> NDArray[np.float32]:
        parts = [self.space.encode(genotypes, kind) for kind in kinds]
        return np.concatenate([np.empty((len(genotypes), 0), np.float32), *parts], axis=1)


def kernel_sums(space: Space, genotypes: Genotypes) -> NDArray[np.float64]:
    """Return what each network makes a device do, the same 36 columns for every space that is described, ``(n, 36)``.

    By kind of kernel: multiply-accumulates, values moved and weights in millions, and how many are launched.

    Raises: InputError for a space whose networks are not described (:mod:`nasplug.cost_models.workload`).
    """
    terms = workload(space)
    kernels = terms.kernels
    if kernels is None:
        raise InputError(f"what networks of {space.name!r} make a device do is not described")
    columns = []
    for kind in Kind:
        of_kind = kernels.kind == kind
        for amounts in (kernels.macs / 1e6, kernels.values / 1e6, kernels.weights / 1e6, np.ones(len(of_kind))):
            columns.append(terms.total(genotypes, kernels.per_term(np.where(of_kind, amounts, 0.0))))
    return np.stack(columns, axis=1)


def _spread(columns: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation of each column; a constant column gets an infinite one, which makes it zero."""
    mean, deviation = columns.mean(axis=0, dtype=np.float64), columns.std(axis=0, dtype=np.float64)
    return mean, np.where(deviation > 1e-6 * (1e-6 + np.abs(mean)), deviation, np.inf)
