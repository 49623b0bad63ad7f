"""What has been evaluated: one observation, and the columnar history that a strategy is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces import Genotypes, Space

__all__ = ["History", "Observation", "Status"]


class Status(IntEnum):
    """How an evaluation ended."""

    OK = 0
    """Finished; its values are final."""
    FAILED = 1
    """Finished without a value; never proposed again."""
    RUNNING = 2
    """Proposed, not finished; counts as taken, so that parallel proposals differ."""
    PRUNED = 3
    """Stopped early; its value is the last one reported, a hint and never a result."""


@dataclass(frozen=True)
class Observation:
    """One evaluation of one architecture.

    Attributes:
        genotype: codes, one a site.
        values: one number an objective, higher is better; an accuracy is a fraction. NaN unless finished or pruned.
        status: how it ended.
        violation: total constraint violation; at most 0 is feasible, NaN is unknown.
        metric, split, epochs, training_seed: what was measured (``None``: does not apply).
        curve: the first objective at the history's fidelities, NaN where it was not looked at.
        cost_s: seconds the evaluation cost (of a table: simulated), NaN where unknown.
        source: who says so, for example a benchmark's name.
    """

    genotype: tuple[int, ...]
    values: tuple[float, ...]
    status: Status = Status.OK
    violation: float = 0.0
    metric: str = "value"
    split: str | None = None
    epochs: int | None = None
    training_seed: int | None = None
    curve: tuple[float, ...] = ()
    cost_s: float = float("nan")
    source: str = ""

    @property
    def value(self) -> float:
        """The first objective."""
        return self.values[0]


@dataclass(frozen=True)
class History:
    """Observations in columns, in the order in which they were started; frozen, so a strategy cannot spoil it.

    Shapes: n observations, s sites, m objectives, f fidelities. Columns of provenance live in :class:`Observation`
    records where a benchmark keeps them; a strategy sees only what it may learn from.

    Args:
        space: the space of the genotypes.
        genotypes: ``(n, s)``.
        values: ``(n, m)``, higher is better; not NaN for OK rows, NaN or a hint elsewhere.
        status: ``(n,)`` of :class:`Status`.
        violation: ``(n,)``, at most 0 is feasible, NaN is unknown.
        fidelities: training lengths at which trainings are looked at, ascending; none where they are not.
        curves: ``(n, f)``, the first objective at each of them, NaN where it is not known (yet).

    Raises: InputError for wrong shapes or an OK row whose value is NaN.
    """

    space: Space
    genotypes: Genotypes
    values: NDArray[np.float64]
    status: NDArray[np.int8]
    violation: NDArray[np.float64]
    fidelities: tuple[int, ...] = ()
    curves: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    keys: NDArray[np.int64] = field(init=False, repr=False)
    """``space.keys(genotypes)``, ``(n,)``."""

    def __post_init__(self) -> None:
        n = len(self.genotypes)
        if self.genotypes.ndim != 2 or self.genotypes.shape[1] != self.space.n_sites:
            raise InputError(f"history expects genotypes (n, {self.space.n_sites}), got {self.genotypes.shape}")
        if self.values.ndim != 2 or any(len(c) != n for c in (self.values, self.status, self.violation)):
            shapes = [c.shape for c in (self.values, self.status, self.violation)]
            raise InputError(f"history of {n} rows expects values (n, m), status (n,), violation (n,); got {shapes}")
        if not self.curves.size and not self.fidelities:
            object.__setattr__(self, "curves", np.empty((n, 0)))
        if self.curves.shape != (n, len(self.fidelities)):
            raise InputError(
                f"history expects curves ({n}, {len(self.fidelities)}), one column a fidelity, got {self.curves.shape}"
            )
        if np.isnan(self.values[self.status == Status.OK]).any():
            raise InputError("an OK observation has the value NaN; record it as FAILED")
        object.__setattr__(self, "keys", self.space.keys(self.genotypes))
        for column in fields(self):
            if isinstance(values := getattr(self, column.name), np.ndarray):
                values.flags.writeable = False

    @classmethod
    def empty(cls, space: Space, n_objectives: int = 1, fidelities: tuple[int, ...] = ()) -> History:
        """Return a history without observations."""
        return cls(
            space,
            np.empty((0, space.n_sites), np.int64),
            np.empty((0, n_objectives)),
            np.empty(0, np.int8),
            np.empty(0),
            fidelities,
            np.empty((0, len(fidelities))),
        )

    @classmethod
    def of(cls, space: Space, observations: Iterable[Observation], n_objectives: int = 1) -> History:
        """Return the history of observation records; raises InputError for a genotype outside the space."""
        rows = list(observations)
        if not rows:
            return cls.empty(space, n_objectives)
        return cls(
            space,
            space.check(np.array([row.genotype for row in rows], dtype=np.int64)),
            np.array([row.values for row in rows], dtype=np.float64),
            np.array([row.status for row in rows], dtype=np.int8),
            np.array([row.violation for row in rows], dtype=np.float64),
        )

    def extended(
        self,
        genotypes: Genotypes,
        values: NDArray[np.float64],
        status: Status = Status.OK,
        violation: NDArray[np.float64] | None = None,
        curves: NDArray[np.float64] | None = None,
    ) -> History:
        """Return a longer history; ``values`` is ``(k,)`` for one objective or ``(k, m)``, ``curves`` ``(k, f)``."""
        k = len(genotypes)
        violation = np.zeros(k) if violation is None else violation
        curves = np.full((k, len(self.fidelities)), np.nan) if curves is None else curves
        return History(
            self.space,
            np.concatenate([self.genotypes, genotypes]),
            np.concatenate([self.values, np.asarray(values, dtype=np.float64).reshape(k, self.n_objectives)]),
            np.concatenate([self.status, np.full(k, status, np.int8)]),
            np.concatenate([self.violation, violation]),
            self.fidelities,
            np.concatenate([self.curves, curves]),
        )

    def __len__(self) -> int:
        return len(self.genotypes)

    @property
    def n_objectives(self) -> int:
        """Number of objectives m."""
        return self.values.shape[1]

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Rows with a final value, ``(n,)``."""
        return self.status == Status.OK

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Rows with a final value that satisfy every constraint, ``(n,)``."""
        return self.finished & (self.violation <= 0)

    def best(self) -> int | None:
        """Return the row of the incumbent, or None while nothing has finished.

        The incumbent is the feasible observation with the highest first objective; while none is feasible, the one
        with the smallest violation, an unknown one (NaN) counting as the largest. Ties go to the earlier row.
        """
        if not self.finished.any():
            return None
        if self.feasible.any():
            return int(np.argmax(np.where(self.feasible, self.values[:, 0], -np.inf)))
        known = self.finished & ~np.isnan(self.violation)
        rows = known if known.any() else self.finished
        return int(np.flatnonzero(rows)[np.argmin(self.violation[rows])])
