"""``few-shot``: a new device from ten measured networks, with what other devices and physics say beforehand.

The latency is a constant plus a weighted sum of the architecture's terms (:mod:`nasplug.cost_models.workload`). Ten
measurements cannot settle a hundred weights; so weights are sought among mixtures of

- the source devices' latency surfaces, their mean, and each by itself;
- the surfaces of some hundred virtual devices (:mod:`nasplug.cost_models.virtual`), their mean, and each by itself:
  they reach targets unlike every source, such as a GPU when all sources are phones;
- and, least of all, any weights.

How much of each is needed is averaged over, not chosen (:mod:`nasplug.cost_models.hypotheses`), and so is which of the
measurements are outliers. The result is one weight a term, so predicting costs a few look-ups an architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nasplug.cost_models.base import BankModel, LatencyBank
from nasplug.cost_models.design import most_telling
from nasplug.cost_models.hypotheses import OUTLIER_VARIANCE, Hypotheses, Posterior, weigh
from nasplug.cost_models.virtual import draw_devices
from nasplug.cost_models.workload import CHUNK, Workload, workload
from nasplug.errors import InputError
from nasplug.spaces import Genotypes

__all__ = ["FewShot"]

PENALTY = 3.0
"""Ridge penalty of a source device's surface, for terms that are 0 or 1 and latencies of unit variance."""

MOST = 2_000
"""Measurements from which a model without assumptions does as well."""

REFERENCE = 2_000
"""Architectures over which features are centred and scaled where no bank gives them, and most that are chosen from."""

LIKELIEST = 16
"""Hypotheses whose own uncertainty is worked out."""

FLOOR = 1e-3
"""Least prediction, as a part of the smallest measurement: a linear model could go below zero."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Prior:
    """What is known before the first measurement.

    Attributes:
        centre: mean of the terms, ``(w,)``.
        groups: weights of each group's features, ``(w, r)`` each; every group's prior variance is 1 on average.
        centres: log10 of how much of the variance a group is expected to take, relative to others.
        candidates: architectures to choose measurements from, ``(b, s)``.
    """

    centre: Floats
    groups: tuple[Floats, ...]
    centres: Floats
    candidates: Genotypes


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What predictions are made of, in ms.

    Attributes:
        weights: of the terms, ``(w,)``.
        constant: ``()``.
        centre: what is taken from the terms before the covariance holds, ``(w,)``.
        covariance: of the weights and the constant, ``(w + 1, w + 1)``.
        noise: variance of a measurement, ``()``.
        floor: least prediction, ``()``.
    """

    weights: Floats
    constant: Floats
    centre: Floats
    covariance: Floats
    noise: Floats
    floor: Floats


@dataclass(kw_only=True, eq=False)
class FewShot(BankModel):
    """Latency from about ten measured networks; with a bank of other devices, or without.

    Deterministic in its options. :meth:`deviation` is that of one new measurement, its noise included. Takes 3 to 2,000
    measurements. Where a space has no described network, there are no virtual devices; a bank then matters more.

    Args:
        space: of the architectures.
        virtual: how many virtual devices are imagined; 0 for none.
        hypotheses: how many combinations of variances are averaged.
        outliers: chance that a measurement is disturbed; 0 to trust all.
        seed: of the virtual devices and of the hypotheses.
    """

    virtual: int = 300
    hypotheses: int = 300
    outliers: float = 0.03
    seed: int = 0
    _known: _Prior | None = field(default=None, init=False, repr=False)
    _fitted: _Fitted | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.virtual < 0 or self.hypotheses < 1 or not 0 <= self.outliers < 0.5:
            raise InputError(
                "few-shot needs virtual >= 0, hypotheses >= 1 and outliers in [0, 0.5), got "
                f"{self.virtual}, {self.hypotheses}, {self.outliers}"
            )

    @cached_property
    def _workload(self) -> Workload:
        return workload(self.space)

    # -- before measuring --------------------------------------------------------------------------------------------

    def pretrain(self, bank: LatencyBank) -> Self:
        """Learn the source devices' surfaces; a measurement that a device lacks (NaN) is left out for that device."""
        if bank.space != self.space:
            raise InputError(f"a model of space {self.space.name!r} learns from its own bank, got {bank.space.name!r}")
        self._known = self._prior(bank.genotypes, _surfaces(self._workload.matrix(bank.genotypes), bank))
        return self

    def suggest(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Return the architectures that would leave the least uncertainty over the bank, ``(n, s)``.

        Chosen greedily from a random half of the bank's connected networks, one of each canonical class; no latency of
        the new device is needed, and none of any other beyond what :meth:`pretrain` saw.
        """
        if self._known is None:
            raise InputError("few-shot chooses what to measure from a bank; call pretrain first")
        bank = self._known.candidates
        if not 1 <= n <= len(bank):
            raise InputError(f"the bank holds {len(bank)} architectures to choose from, asked for {n}")
        order = rng.permutation(len(bank))[: max(n, REFERENCE)]
        if self._workload.connected is not None:  # engines differ in what they leave of the others: nothing is learnt
            order = order[self._workload.connected(bank[order])]
        order = order[np.sort(np.unique(self.space.canonical(bank[order]), return_index=True)[1])]
        terms = self._workload.matrix(bank[order]) - self._known.centre
        shares = 10**self._known.centres / (10**self._known.centres).sum()
        groups = zip(shares, self._known.groups, strict=True)
        features = np.concatenate([np.sqrt(share) * terms @ group for share, group in groups], axis=1)
        chosen = order[most_telling(features, np.arange(min(max(n, len(order) // 2), len(order))), n)]
        rest = np.setdiff1d(np.arange(len(bank)), chosen)
        return bank[np.concatenate([chosen, rest[: n - len(chosen)]])]

    @cached_property
    def _without_bank(self) -> _Prior:
        drawn = self.space.sample(REFERENCE, np.random.default_rng([self.seed, 1]))
        return self._prior(drawn, np.empty((self._workload.width, 0)))

    def _prior(self, genotypes: Genotypes, surfaces: Floats) -> _Prior:
        """Return the prior of surfaces ``(w, d)``, scaled over these architectures."""
        terms = self._workload.matrix(genotypes)
        centre = terms.mean(axis=0)
        terms -= centre
        groups, centres = [], []
        if surfaces.shape[1]:
            groups += _mean_and_each(terms, surfaces)
            centres += [0.0, 0.0]
        if self.virtual and self._workload.kernels is not None:
            times = draw_devices(self.virtual, np.random.default_rng([self.seed, 0])).times(self._workload.kernels)
            groups += _mean_and_each(terms, times.T)
            centres += [-1.0, 0.0]
        # Whatever the others cannot express: dear while they can, all there is where there are no others.
        groups.append(_scaled(terms, np.eye(terms.shape[1])))
        centres.append(-2.0 if len(centres) else 0.0)
        return _Prior(centre, tuple(groups), np.array(centres), genotypes)

    # -- fitting -----------------------------------------------------------------------------------------------------

    def _fit(self, genotypes: Genotypes, ms: Floats) -> None:
        if not 3 <= len(ms) <= MOST:
            raise InputError(
                f"few-shot takes 3 to {MOST} measurements, got {len(ms)}; "
                + ("measure more networks" if len(ms) < 3 else "fit lookup or mlp to so many")
            )
        prior = self._known or self._without_bank
        terms = self._workload.matrix(genotypes) - prior.centre
        features = [terms @ group for group in prior.groups]
        hypotheses = Hypotheses.draw(self.hypotheses, prior.centres, np.random.default_rng([self.seed, 2]))
        posterior = weigh(np.stack([f @ f.T for f in features]), ms, hypotheses, self.outliers)
        means = np.zeros((len(posterior.weight), len(prior.centre)))
        for which, (group, feature) in enumerate(zip(prior.groups, features, strict=True)):
            means += (posterior.shares[:, which, None] * posterior.dual) @ feature @ group.T
        weights, constant = posterior.weight @ means, posterior.weight @ posterior.constant
        self._fitted = _Fitted(
            weights,
            np.array(constant - prior.centre @ weights),
            prior.centre,
            _covariance(prior.groups, terms, posterior, np.column_stack([means, posterior.constant])),
            np.array(posterior.weight @ (posterior.variance * posterior.noise)),
            np.array(FLOOR * ms.min()),
        )

    @property
    def fitted(self) -> bool:
        return self._fitted is not None

    def _predict(self, genotypes: Genotypes) -> Floats:
        assert self._fitted is not None
        ms = self._workload.total(genotypes, self._fitted.weights) + self._fitted.constant
        return np.maximum(ms, self._fitted.floor)

    def deviation(self, genotypes: Genotypes) -> Floats:
        if self._fitted is None:
            raise InputError("FewShot is not fitted yet")
        genotypes = self.space.check(genotypes)
        variance = np.empty(len(genotypes))
        for at in range(0, len(genotypes), CHUNK):
            terms = self._workload.matrix(genotypes[at : at + CHUNK]) - self._fitted.centre
            terms = np.column_stack([terms, np.ones(len(terms))])
            variance[at : at + CHUNK] = ((terms @ self._fitted.covariance) * terms).sum(axis=1)
        return np.sqrt(variance + self._fitted.noise)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        assert self._fitted is not None
        return dict(vars(self._fitted))

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        fitted = _Fitted(**{f.name: np.asarray(arrays[f.name], dtype=np.float64) for f in fields(_Fitted)})
        width = self._workload.width
        shapes = [array.shape for array in vars(fitted).values()]
        if shapes != [(width,), (), (width,), (width + 1, width + 1), (), ()]:
            raise ValueError(f"arrays of shapes {shapes} do not fit {width} terms")
        self._fitted = fitted


def _surfaces(terms: Floats, bank: LatencyBank) -> Floats:
    """Return each device's latencies as weights of terms, ``(w, d)``, by ridge regression on its own measurements."""
    surfaces = np.zeros((terms.shape[1], len(bank.devices)))
    for column, ms in enumerate(bank.ms.T):
        held = ~np.isnan(ms)
        if held.sum() < 3 or np.ptp(ms[held]) <= 1e-9 * ms[held].max():
            raise InputError(
                f"source device {bank.devices[column]!r} has {held.sum()} latencies of "
                f"{len(np.unique(ms[held]))} values; leave it out of the bank"
            )
        inside = terms[held] - terms[held].mean(axis=0)
        target = (ms[held] - ms[held].mean()) / ms[held].std()
        surfaces[:, column] = np.linalg.solve(inside.T @ inside + PENALTY * np.eye(inside.shape[1]), inside.T @ target)
    return surfaces


def _mean_and_each(terms: Floats, surfaces: Floats) -> list[Floats]:
    """Return two groups of surfaces ``(w, d)``, each first made to vary as much: their mean, and all of them."""
    spread = (terms @ surfaces).std(axis=0)
    surfaces = surfaces[:, spread > 0] / spread[spread > 0]
    return [_scaled(terms, surfaces.mean(axis=1, keepdims=True)), _scaled(terms, surfaces)]


def _scaled(terms: Floats, group: Floats) -> Floats:
    """Return a group ``(w, r)`` whose features have a prior variance of 1, averaged over centred ``terms``."""
    scaled: Floats = group / np.sqrt(((terms @ group) ** 2).sum(axis=1).mean())
    return scaled


def _covariance(groups: tuple[Floats, ...], terms: Floats, posterior: Posterior, means: Floats) -> Floats:
    """Return the posterior covariance of weights and constant, ``(w + 1, w + 1)``: within and between hypotheses.

    Args:
        groups: of the prior.
        terms: centred, of the measurements ``(n, w)``.
        posterior: all hypotheses; the spread within is that of the likeliest, enough to average.
        means: weights and constant by each hypothesis, ``(h, w + 1)``.
    """
    apart = means - posterior.weight @ means
    covariance: Floats = (apart * posterior.weight[:, None]).T @ apart
    priors = [group @ group.T for group in groups]
    likeliest = posterior.best(LIKELIEST)
    for h, weight in enumerate(likeliest.weight * likeliest.variance):
        prior = sum(share * one for share, one in zip(likeliest.shares[h], priors, strict=True))
        cross = terms @ prior
        noise = likeliest.noise[h] + OUTLIER_VARIANCE * likeliest.outlier[h]
        inverse = np.linalg.inv(cross @ terms.T + np.diag(noise))
        ones = inverse.sum(axis=1)
        known = inverse - np.outer(ones, ones) / ones.sum()
        covariance[:-1, :-1] += weight * (prior - cross.T @ known @ cross)
        shift = weight * cross.T @ ones / ones.sum()
        covariance[:-1, -1] -= shift
        covariance[-1, :-1] -= shift
        covariance[-1, -1] += weight / ones.sum()
    return covariance
