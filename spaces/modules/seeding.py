"""Weights from a seed: the draws that torch's constructors make, taken from a generator of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["seeded"]

_DRAWS = frozenset({"bernoulli_", "normal", "normal_", "rand", "randint", "randn", "random_", "randperm", "uniform_"})


def seeded(seed: int | torch.Generator) -> AbstractContextManager[object]:
    """Let what is built inside the ``with`` block draw its CPU weights from ``seed`` and not from the global stream.

    The weights are those that ``torch.manual_seed(seed)`` before the same constructors would give, bit for bit, but
    the global stream is neither read nor moved, and other threads notice nothing.

    Args:
        seed: a seed, or a CPU generator, which is advanced.

    Example:
        >>> with seeded(0):
        ...     layer = torch.nn.Linear(2, 2)
    """
    return _Draws(seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed))


class _Draws(TorchFunctionMode):
    """Hands the generator to every drawing function that was given none; a mode of torch belongs to its thread."""

    def __init__(self, generator: torch.Generator):
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        # The functions of torch.nn.init arrive with the generator that their caller left out: None.
        draws = "generator" in given or getattr(func, "__name__", "") in _DRAWS
        if draws and given.get("generator") is None:
            given["generator"] = self._generator
        return func(*args, **given)
