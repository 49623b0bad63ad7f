"""``lookup``: a table of milliseconds an operation, added up (ProxylessNAS, once-for-all)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nasplug.cost_models.base import CostModel
from nasplug.cost_models.ridge import fit_ridge
from nasplug.cost_models.workload import workload
from nasplug.errors import InputError
from nasplug.spaces import Genotypes
from nasplug.spaces.parameters import Value

__all__ = ["Lookup"]

Floats = NDArray[np.float64]


@dataclass(kw_only=True, eq=False)
class Lookup(CostModel):
    """Latency as a constant plus one entry for the operation at each site.

    Two ways to a table: :meth:`fit` to whole networks, by least squares with a ridge penalty chosen by leave-one-out,
    so that fewer networks than entries are fine; or :meth:`fit_blocks` from blocks measured one by one, which misses
    what a whole network does differently. Where work depends on the input's resolution, each entry has a part that
    grows with its area (once-for-all keeps a table a resolution instead).
    """

    least, per_operation = 3, True

    _table: Floats | None = field(default=None, init=False, repr=False)
    _constant: float = field(default=0.0, init=False, repr=False)

    @property
    def fitted(self) -> bool:
        return self._table is not None

    def fit_blocks(self, blocks_ms: Mapping[tuple[str, Value], float], rest_ms: float, *, device: str = "") -> Self:
        """Take the table from measured blocks.

        Args:
            blocks_ms: milliseconds of every (parameter name, choice) of the space, 0 or more.
            rest_ms: milliseconds of what all networks share: stem, head, launch.
            device: its name, for reports.

        Raises: InputError for a block that is missing, unknown or not a time, and for a space where a block's time does
            not follow from one site.
        """
        sites = [(p.name, choice) for p in self.space.parameters for choice in p.decode(np.arange(p.size))]
        if workload(self.space).factors is not None or any(p.ordered for p in self.space.parameters):
            raise InputError(f"blocks of {self.space.name!r} are more than a site's choice; fit whole networks instead")
        missing, unknown = set(sites) - set(blocks_ms), set(blocks_ms) - set(sites)
        if missing or unknown:
            raise InputError(
                f"a table of {self.space.name!r} has one entry a choice of each site ({len(sites)}); "
                f"missing {len(missing)} (such as {min(missing, default=None)}), unknown {sorted(unknown, key=str)[:3]}"
            )
        times = np.array([rest_ms, *(blocks_ms[site] for site in sites)], dtype=np.float64)
        if not np.isfinite(times).all() or (times < 0).any() or rest_ms <= 0:
            raise InputError("blocks take finite milliseconds, 0 or more, and what all networks share more than 0")
        width = workload(self.space).width
        self._constant, self._table = float(rest_ms), np.pad(times[1:], (0, width - len(sites)))
        self.device = device
        self.provenance = {"measurements": len(times), "built_from": "blocks"}
        return self

    def _fit(self, genotypes: Genotypes, ms: Floats) -> None:
        terms = workload(self.space)
        rows, used = terms.matrix(genotypes), self._entries()
        found = fit_ridge(rows[:, used], ms)
        self._table = np.zeros(terms.width)
        self._table[used] = found.weights
        self._constant = found.constant

    def _entries(self) -> NDArray[np.bool_]:
        """Return which terms are entries: those of the network as written, not of what an engine leaves of it."""
        terms = workload(self.space)
        if terms.kernels is None:
            return np.ones(terms.width, dtype=bool)
        return (terms.kernels.folds[0] != 0).any(axis=1)

    def _predict(self, genotypes: Genotypes) -> Floats:
        assert self._table is not None
        return self._constant + workload(self.space).total(genotypes, self._table)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        assert self._table is not None
        return {"table": self._table, "constant": np.array(self._constant)}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._table, self._constant = arrays["table"], float(arrays["constant"])
        if self._table.shape != (workload(self.space).width,):
            raise ValueError(f"table of shape {self._table.shape}")
