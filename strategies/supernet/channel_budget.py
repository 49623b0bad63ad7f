"""Scores of channel gates brought down to a budget: every group keeps its best channels, dear groups fewer of them.

Shapes: C channels of a group.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from nasplug.strategies.supernet.channel_choice import CLEAR, ChannelChoice

__all__ = ["ChannelBudget"]


class ChannelBudget:
    """Presses scores until what they leave costs no more than a share of the full network.

    Scores are compared by rank within a group: less x, they leave the best ``exp(-x)`` of its channels. A norm behind
    a group takes out any factor that its gates have in common, so their mean says nothing; without a norm, before the
    last linear layer, it says how sure the network should be, not which channels it needs. Spreads are those of noisy
    gradients. So groups that the network needs are told apart by their price alone. What can vanish as a whole, a
    branch, also counts how far training has moved its mean score, against the mean of all such.

    Ours: DNAL as published has a penalty and no budget.

    Args:
        choice: from scores to widths and costs.
        start: score that all gates begin with.
    """

    def __init__(self, choice: ChannelChoice, start: float):
        self.choice = choice
        self.means = dict.fromkeys(choice.gated.gates, start)
        self.levels = {name: 0.0 for name in choice.gated.gates if name not in choice.required}

    def press(self, prices: Mapping[str, float], share: float) -> None:
        """Lower the scores, each group's by its price, no further than to a share of the full network's cost.

        Args:
            prices: of a channel of each group, 1 on average (:meth:`ChannelChoice.prices`).
            share: in (0, 1].
        """
        choice = self.choice
        present = choice.scores()
        for name in self.levels:
            self.levels[name] += float(present[name].mean()) - self.means[name]
        unit = max(float(np.median([one.std() for one in present.values()])), CLEAR)
        ranks = self._ranks(present, unit)

        def shifted(by: float) -> dict[str, NDArray[np.float64]]:
            return {name: CLEAR + unit * (one - by * prices[name]) for name, one in ranks.items()}

        def fits(by: float) -> bool:
            return choice.cost(*choice.kept(shifted(by))) <= share * choice.full_cost

        least = min((price for price in prices.values() if price > 0), default=1.0)
        low, high = 0.0, (1 + max(float(one.max()) for one in ranks.values())) / max(least, 1e-3)
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        with torch.no_grad():
            for name, scores in shifted(0.0 if fits(0.0) else high).items():
                choice.gated.gates[name].scores.copy_(torch.from_numpy(scores))
                self.means[name] = float(scores.mean())

    def _ranks(self, scores: Mapping[str, NDArray[np.float64]], unit: float) -> dict[str, NDArray[np.float64]]:
        """Return comparable scores ``(C,)`` of each group, ``unit`` being what a level counts one for."""
        found = {}
        for name, one in scores.items():
            behind = (-one).argsort(kind="stable").argsort(kind="stable")  # 0 for the best
            found[name] = -np.log((behind + 0.5) / len(one))
        if self.levels:
            middle = float(np.mean(list(self.levels.values())))
            for name, level in self.levels.items():
                found[name] += (level - middle) / unit
        return found
