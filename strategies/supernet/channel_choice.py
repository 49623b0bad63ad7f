"""From the scores of channel gates to widths, and what these cost.

Shapes: s groups of channels, one a site of the space; C channels of a group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces import Genotypes
from nasplug.spaces.modules.flow import Emptied, Mask
from nasplug.spaces.modules.gates import LAST_SCALE
from nasplug.spaces.modules.gating import Gated
from nasplug.spaces.widths import WidthSpace

__all__ = ["CLEAR", "KEPT", "LEAST_SCORE", "ChannelChoice", "CostModel", "Masks", "Scores"]

Masks = dict[str, Mask]
Scores = Mapping[str, NDArray[np.float64]]
CostModel = Callable[[Genotypes], NDArray[np.float64]]

KEPT = 0.9
"""A channel stays if its gate is above this at the last scale."""

LEAST_SCORE = math.log(KEPT / (1 - KEPT)) / LAST_SCALE
"""Score of such a gate."""

CLEAR = 2 * LEAST_SCORE
"""Distance from zero of scores that are decided by a floor, a level or a budget: gates of 0.012 and 0.988."""

ALTERNATIVES = 20
"""Architectures that are ranked behind the one chosen."""


class ChannelChoice:
    """Which channels the scores of a gated network leave, floors and levels applied, and what that costs.

    Source: the threshold is that of DNAL (arXiv 2103.02126). Floors, levels and costs beyond a count are ours.

    Args:
        gated: the network with its gates.
        space: of its widths; architectures are rounded up to its levels.
        cost: ``count`` of channels, ``params``, ``flops``, or ``model``.
        model: genotypes ``(n, s)`` to milliseconds ``(n,)``, for the last of these.
        floor: channels that every group keeps without which nothing gets through the network.
        share: of its channels that such a group keeps at least.

    Raises: InputError, here and in :meth:`cost`, for a cost model that predicts no number above zero.
    """

    def __init__(
        self,
        gated: Gated,
        space: WidthSpace,
        *,
        cost: str,
        model: CostModel | None = None,
        floor: int = 1,
        share: float = 0.0,
    ):
        self.gated, self.space, self.kind, self.model = gated, space, cost, model
        self.floor, self.share = floor, share
        self.required = {group.name for group in gated.groups if group.required}
        self.full_cost = self.cost(space.full)

    def scores(self) -> dict[str, NDArray[np.float64]]:
        """Return the present scores ``(C,)`` of each group."""
        return {name: gate.scores.detach().cpu().double().numpy() for name, gate in self.gated.gates.items()}

    def floor_of(self, name: str) -> int:
        """Return the channels that a required group keeps at least."""
        return max(self.floor, math.ceil(self.share * len(self.gated.gates[name].scores)))

    def kept(self, scores: Scores) -> tuple[NDArray[np.int64], Masks]:
        """Return the genotype ``(s,)`` and the masks that scores leave.

        Raises: Emptied where nothing gets through the network and there is no floor.
        """
        masks = {name: one > LEAST_SCORE for name, one in scores.items()}
        for name in self.required:
            _open(masks[name], scores[name], self.floor_of(name))
        while True:
            counts = self.space.counts(self.genotype(masks)[None])[0]
            for (name, mask), count in zip(masks.items(), counts, strict=True):
                _open(mask, scores[name], int(count))
            try:
                masks = self.gated.settled(masks)
            except Emptied as empty:
                if self.floor == 0:
                    raise
                self._reopen(masks, scores, empty)
            else:
                return self.genotype(masks), masks

    def genotype(self, masks: Masks) -> NDArray[np.int64]:
        """Return the genotype ``(s,)`` of masks, rounded up to the levels of the space."""
        return self.space.at_least(np.array([mask.sum() for mask in masks.values()])[None])[0]

    def least(self) -> float:
        """Return the cost of the narrowest network, as a share of the full one's."""
        nothing = {name: np.full(len(one), -np.inf) for name, one in self.scores().items()}
        return self.cost(*self.kept(nothing)) / self.full_cost

    def decide(self, masks: Masks, *, everywhere: bool) -> None:
        """Move scores to the side of zero that the masks have them on, clear of it.

        Those that a floor, the levels or a closed branch overruled, or that training left undecided; or all.
        """
        with torch.no_grad():
            for name, gate in self.gated.gates.items():
                mask = torch.from_numpy(masks[name]).to(gate.scores.device)
                sure = torch.where(mask, gate.scores.clamp(min=CLEAR), gate.scores.clamp(max=-CLEAR))
                moved = (mask != (gate.scores > LEAST_SCORE)) | (gate.scores.abs() < LEAST_SCORE)
                gate.scores.copy_(sure if everywhere else torch.where(moved, sure, gate.scores))

    def alternatives(self, genotype: NDArray[np.int64]) -> Genotypes:
        """Return what the same order of channels would leave at other thresholds, the nearest in size first."""
        scores = self.scores()
        every = np.sort(np.concatenate(list(scores.values())))
        found = []
        for threshold in every[np.linspace(0, len(every) - 1, 2 * ALTERNATIVES).astype(int)]:
            try:
                found.append(self.kept({name: one - threshold for name, one in scores.items()})[0])
            except Emptied:
                continue
        rows = np.unique(np.array(found, dtype=np.int64).reshape(-1, self.space.n_sites), axis=0)
        rows = rows[(rows != genotype).any(axis=1)]
        total = self.space.counts(rows).sum(axis=1) - self.space.counts(genotype[None]).sum()
        return rows[np.argsort(np.abs(total), kind="stable")][:ALTERNATIVES]

    def cost(self, genotype: NDArray[np.int64], masks: Masks | None = None) -> float:
        """Return the cost of widths ``(s,)``: channels, parameters, multiply-adds or milliseconds.

        Which channels they are, masks ``(C,)`` a group, makes no difference but where a branch is closed.
        """
        if self.kind == "count":
            return float(self.space.counts(genotype[None]).sum())
        if self.model is not None:
            predicted = float(np.asarray(self.model(genotype[None]))[0])
            if not (math.isfinite(predicted) and predicted > 0):
                widths = self.space.to_string(genotype[None])[0]
                raise InputError(f"a cost model has to predict numbers above zero, got {predicted} for {widths}")
            return predicted
        if masks is None:
            masks = self.gated.settled(self.gated.masks_of(self.space.counts(genotype[None])[0], self.scores()))
        cost = self.gated.cost(masks)
        return float(cost.params if self.kind == "params" else cost.flops)

    def prices(self) -> dict[str, float]:
        """Return what a channel of each group costs in the full network, 1 on average over all channels.

        Raises: InputError for a cost that is the same for all widths.
        """
        widths = [len(gate.scores) for gate in self.gated.gates.values()]
        if self.kind == "count":
            return dict.fromkeys(self.gated.gates, 1.0)
        genotype = self.space.full
        prices = []
        for site in range(len(genotype)):
            other = genotype.copy()
            other[site] -= genotype[site] > 0
            channels = np.diff(self.space.counts(np.stack([genotype, other]))[:, site])[0]
            prices.append(max(0.0, (self.cost(other) - self.full_cost) / channels) if channels else 0.0)
        mean = float(np.average(prices, weights=widths))
        if not (mean > 0 and math.isfinite(mean)):
            raise InputError(f"the cost {self.kind!r} sees no difference between widths; there is nothing to save")
        return {name: price / mean for name, price in zip(self.gated.gates, prices, strict=True)}

    def _reopen(self, masks: Masks, scores: Scores, empty: Emptied) -> None:
        """Open the floor of the best of the groups without which nothing gets through."""
        groups = [group.name for group in self.gated.groups if set(group.layers) & set(empty.gates)]
        if not groups:  # nothing that one gate could mend, such as a product of channels that never meet
            raise empty
        best = max(groups, key=lambda name: float(scores[name].max()))
        _open(masks[best], scores[best], self.floor)


def _open(mask: Mask, scores: NDArray[np.float64], count: int) -> None:
    """Open the best closed gates until ``count`` are open."""
    missing = count - int(mask.sum())
    if missing > 0:
        closed = np.flatnonzero(~mask)
        mask[closed[np.argsort(-scores[closed], kind="stable")[:missing]]] = True
