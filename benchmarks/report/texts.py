"""Numbers as the report writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nasplug.benchmarks.report.study import number

__all__ = ["Cell", "cell", "interval", "join", "p_value", "percent", "plural", "short", "signed", "with_interval"]

Cell = dict[str, Any]
"""A table's cell: its text, the number that tables sort by (empty where there is none), a note below it."""


def cell(value: Any, form: str = "{:z.2f}", scale: float = 1.0) -> Cell:
    """Return the cell of a number, a dash where it is none."""
    found = number(value)
    return {
        "text": "–" if found is None else form.format(found * scale).replace("-", "−"),
        "sort": "" if found is None else found,
        "note": "",
    }


def percent(value: Any) -> Cell:
    """Return the cell of a signed percentage."""
    found = number(value)
    return {"text": "–" if found is None else f"{signed(found)} %", "sort": "" if found is None else found, "note": ""}


def with_interval(made: Cell, ends: Any, scale: float = 1.0, form: str = "{:z.2f}") -> Cell:
    """Return the cell with an interval as its note, where there is one."""
    low, high = interval(ends)
    if low is None or high is None:
        return made
    text = f"[{form.format(scale * low)}, {form.format(scale * high)}]".replace("-", "−")
    return made | {"note": text}


def interval(value: Any) -> tuple[float | None, float | None]:
    """Return both ends of an interval, (None, None) where one of them is no number."""
    if not isinstance(value, list) or len(value) != 2:
        return None, None
    low, high = number(value[0]), number(value[1])
    return (None, None) if low is None or high is None else (low, high)


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign."""
    return f"{value:+z.{digits}f}".replace("-", "−")


def short(value: float) -> str:
    """Return a number of any size with three digits: 15.9, 1.27 M."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{_digits(value / size)}{letter}"
    return _digits(value)


def _digits(value: float) -> str:
    places = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}".rstrip("0").rstrip(".") if places else f"{value:.0f}"


def plural(n: int, noun: str) -> str:
    """Return ``1 run``, ``2 runs``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def p_value(p: float | None) -> str:
    """Return a p-value as text, None being one that was not tested."""
    if p is None:
        return "not tested"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def join(names: Sequence[str]) -> str:
    """Return names as a sentence lists them."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
