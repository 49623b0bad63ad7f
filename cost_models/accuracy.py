"""How good a cost model is: errors in milliseconds and agreement of ranks, against measured latencies."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError

__all__ = ["Accuracy", "accuracy"]


@dataclass(frozen=True)
class Accuracy:
    """Agreement of predictions with measurements.

    Attributes:
        tested: measurements.
        rmse: root of the mean squared error, ms.
        mae: mean absolute error, ms. Some papers print it under the name of the former.
        mape: mean absolute error as a fraction of the measurement.
        within_10pct: share of predictions within 10 % of the measurement.
        spearman: rank correlation, average ranks for ties; NaN where either side is constant.
        kendall: tau-b.
    """

    tested: int
    rmse: float
    mae: float
    mape: float
    within_10pct: float
    spearman: float
    kendall: float

    def to_json(self) -> dict[str, float | int | None]:
        """Return a JSON-ready dict; NaN is None."""
        return {key: None if value != value else value for key, value in asdict(self).items()}


def accuracy(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> Accuracy:
    """Compare predictions ``(n,)`` with measurements ``(n,)``, both in ms; raises InputError for fewer than two."""
    from scipy.stats import kendalltau, spearmanr

    if predicted.shape != measured.shape or len(measured) < 2:
        raise InputError(f"expected two arrays of equal length, at least 2, got {predicted.shape} and {measured.shape}")
    error = predicted - measured
    relative = np.abs(error) / measured
    constant = np.ptp(predicted) == 0 or np.ptp(measured) == 0
    return Accuracy(
        tested=len(measured),
        rmse=float(np.sqrt(np.mean(error**2))),
        mae=float(np.abs(error).mean()),
        mape=float(relative.mean()),
        within_10pct=float((relative <= 0.1).mean()),
        spearman=float("nan") if constant else float(spearmanr(predicted, measured)[0]),
        kendall=float("nan") if constant else float(kendalltau(predicted, measured)[0]),
    )
