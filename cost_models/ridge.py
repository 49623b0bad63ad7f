"""Ridge regression whose penalty is chosen by leave-one-out, in closed form.

Shapes: n rows; d penalised columns; f free columns, which are fitted without a penalty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ridge", "fit_ridge"]

PENALTIES = 10.0 ** np.arange(-5, 6, 0.5)
"""Penalties tried, for columns of about unit variance."""


@dataclass(frozen=True)
class Ridge:
    """A fitted regression: ``rows @ weights + free @ free_weights + constant``.

    Attributes:
        weights: ``(d,)``.
        free_weights: ``(f,)``.
        constant: the intercept.
        penalty: the one chosen.
        error: root mean square of the leave-one-out errors at that penalty, in units of the target.
    """

    weights: NDArray[np.float64]
    free_weights: NDArray[np.float64]
    constant: float
    penalty: float
    error: float


def fit_ridge(
    rows: NDArray[np.float64], targets: NDArray[np.float64], free: NDArray[np.float64] | None = None
) -> Ridge:
    """Fit by the penalty out of :data:`PENALTIES` with the smallest leave-one-out error.

    Args:
        rows: ``(n, d)``, n at least 1; fewer rows than columns are fine.
        targets: ``(n,)``.
        free: ``(n, f)``, f below n.
    """
    n = len(rows)
    fixed = np.column_stack([np.ones(n), np.empty((n, 0)) if free is None else free])
    basis = np.linalg.svd(fixed, full_matrices=False)[0][:, : np.linalg.matrix_rank(fixed)]
    inside, target = rows - basis @ (basis.T @ rows), targets - basis @ (basis.T @ targets)
    u, s, vt = np.linalg.svd(inside, full_matrices=False)
    kept = s > 1e-8 * max(float(s.max(initial=0.0)), 1e-300)
    u, s, vt = u[:, kept], s[kept], vt[kept]
    along = u.T @ target
    # What no column reaches is in every residual; the rest shrinks with the penalty. Written so that nothing cancels
    # where a small penalty fits every row.
    beyond, left = target - u @ along, np.maximum(1.0 - (basis**2).sum(axis=1) - (u**2).sum(axis=1), 0.0)
    best = (np.inf, float(PENALTIES[-1]))
    for penalty in PENALTIES:
        shrunk = penalty / (s**2 + penalty)
        errors = (beyond + u @ (shrunk * along)) / np.maximum(left + u**2 @ shrunk, 1e-12)
        best = min(best, (float(np.mean(errors**2)), float(penalty)))
    penalty = best[1]
    weights: NDArray[np.float64] = vt.T @ (s / (s**2 + penalty) * along)
    solved = np.asarray(np.linalg.lstsq(fixed, targets - rows @ weights, rcond=None)[0], dtype=np.float64)
    return Ridge(weights, solved[1:], float(solved[0]), penalty, float(np.sqrt(best[0])))
