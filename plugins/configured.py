"""What a user writes, turned into a strategy over a space and a seed: shared by the plugins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug import registry
from nasplug.errors import InputError
from nasplug.registry import Spec, configure
from nasplug.spaces import Genotypes, NASBench201, Space
from nasplug.strategies import Strategy

__all__ = ["checked_seed", "drawn_seed", "fitting", "strategy_over"]


def checked_seed(seed: object) -> int | None:
    """Return a seed as a Python int, None as it is; raises InputError for anything but a whole number of at least 0."""
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed must be an integer of at least 0, or None, got {seed!r}")
    return int(seed)


def drawn_seed() -> int:
    """Return a seed from the system's entropy."""
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])


def strategy_over(strategy: str | Spec | type[Strategy] | Strategy, space: Space | None) -> Strategy:
    """Return the strategy over a space: configured by name, made of a class, or an object moved to the space.

    Without a space, which a study or experiment will have, it is made over NAS-Bench-201, so that a wrong name or
    option is an error at once.

    Raises:
        InputError: unknown names or options, or none of these; no space for a strategy that needs one of its own.
    """
    if space is None:
        _require_any_space(strategy)
        space = NASBench201()
    if isinstance(strategy, Strategy):
        return strategy if strategy.space == space else replace(strategy, space=space)
    if isinstance(strategy, type) and issubclass(strategy, Strategy):
        return strategy(space=space)
    if not isinstance(strategy, str | Spec):
        raise InputError(f"strategy must be a name, a Spec, a Strategy class or object, got {strategy!r}")
    made: Strategy = configure("strategy", strategy, space)
    return made


def _require_any_space(strategy: object) -> None:
    if isinstance(strategy, str):
        strategy = Spec.parse(strategy)
    kind = registry.load("strategy", strategy.name) if isinstance(strategy, Spec) else strategy
    known = getattr(kind, "spaces", None)
    if known and NASBench201().name not in known:
        what = strategy.name if isinstance(strategy, Spec) else getattr(kind, "__name__", type(kind).__name__)
        raise InputError(f"{what} searches spaces of its own; give space= one of them: {', '.join(known)}")


def fitting(
    params: Sequence[Mapping[str, Any]], n_sites: int, codes: Callable[[Sequence[Mapping[str, Any]]], Genotypes]
) -> tuple[Genotypes, NDArray[np.bool_]]:
    """Return genotypes ``(n, s)`` and which rows are of the space ``(n,)``: those that ``codes`` does not refuse."""
    found = np.zeros((len(params), n_sites), np.int64)
    fits = np.zeros(len(params), dtype=bool)
    if len(params):
        try:
            found[:] = codes(params)
            fits[:] = True
        except InputError:
            if len(params) > 1:  # one bad row refuses the batch
                for row in range(len(params)):
                    found[row : row + 1], fits[row : row + 1] = fitting(params[row : row + 1], n_sites, codes)
    return found, fits
