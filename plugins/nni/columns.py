"""The record of an experiment as a strategy sees it: a history over one space."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nasplug.plugins.configured import fitting
from nasplug.plugins.nni.ledger import Entry, Ledger
from nasplug.spaces import Genotypes, Space
from nasplug.strategies import History

__all__ = ["Columns"]


class Columns:
    """Genotypes of a ledger's entries, each read once; entries that are not of the space are left out.

    Shapes: n entries, s sites.

    Args:
        space: what the entries' parameters are read as.
        ledger: may grow.
    """

    def __init__(self, space: Space, ledger: Ledger):
        self.space = space
        self._ledger = ledger
        self._codes: Genotypes = np.empty((0, space.n_sites), np.int64)
        self._fits: NDArray[np.bool_] = np.empty(0, dtype=bool)

    def _read(self) -> None:
        fresh = [entry.params for entry in self._ledger.entries[len(self._fits) :]]
        if fresh:
            codes, fits = fitting(fresh, self.space.n_sites, self.space.from_params)
            self._codes = np.concatenate([self._codes, codes])
            self._fits = np.concatenate([self._fits, fits])

    def history(self, sign: float) -> History:
        """Return the entries in the order in which they were asked for; ``sign`` turns values to higher is better."""
        self._read()
        rows = [entry for entry, fits in zip(self._ledger.entries, self._fits, strict=True) if fits]
        values = [math.nan if entry.value is None else sign * entry.value for entry in rows]
        return History(
            self.space,
            self._codes[self._fits],
            np.array(values).reshape(-1, 1),
            np.array([entry.status for entry in rows], dtype=np.int8),
            np.zeros(len(rows)),
        )

    def find(self, genotype: NDArray[np.int64]) -> list[Entry]:
        """Return the entries of a genotype ``(s,)``."""
        self._read()
        same = np.flatnonzero(self._fits & (self._codes == genotype).all(axis=1))
        return [self._ledger.entries[row] for row in same]
