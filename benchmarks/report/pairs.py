"""Which of two strategies is better, and whether that is sure: the summary's pairwise tests, ready for tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nasplug.benchmarks.report.study import Study, number
from nasplug.benchmarks.report.texts import Cell, p_value, signed

__all__ = ["ALPHA", "Pair", "Pairs", "matrix", "read_pairs", "sign", "wins"]

ALPHA = 0.05

Pair = Mapping[str, float | None]
Pairs = Mapping[tuple[str, str], Pair]


def read_pairs(study: Study) -> dict[str, Pairs]:
    """Return benchmark -> (a, b) -> difference a - b (a fraction) and Holm-corrected p, both ways round."""
    found: dict[str, dict[tuple[str, str], Pair]] = defaultdict(dict)
    for pair in study.entries("pairwise"):
        b, first, second = (str(pair.get(key)) for key in ("benchmark", "a", "b"))
        difference, p = number(pair.get("difference")), number(pair.get("p_holm"))
        found[b][first, second] = {"difference": difference, "p": p}
        found[b][second, first] = {"difference": None if difference is None else -difference, "p": p}
    return {b: found[b] for b in study.benchmarks if b in found}


def sign(pair: Pair | None) -> int:
    """Return 1 for significantly better, -1 for significantly worse, 0 for neither or not tested."""
    if pair is None or pair["p"] is None or pair["difference"] is None or pair["p"] >= ALPHA:
        return 0
    return int(np.sign(pair["difference"]))


def matrix(order: Sequence[str], pairs: Pairs) -> dict[str, Any]:
    """Return one benchmark's table of differences, a row and a column a strategy."""
    tested = {frozenset(names): sign(pair) for names, pair in pairs.items() if pair["p"] is not None}
    return {
        "note": f"{sum(sign != 0 for sign in tested.values())} of {len(tested)} pairs differ significantly",
        "cells": [[_difference(pairs.get((a, b))) for b in order] for a in order],
    }


def _difference(pair: Pair | None) -> Cell | None:
    if pair is None:
        return None
    difference = pair["difference"]
    return {
        "difference": "–" if difference is None else signed(100 * difference),
        "p": p_value(pair["p"]),
        "sign": sign(pair),
    }


def wins(order: Sequence[str], pairs: Mapping[str, Pairs]) -> list[list[Cell | None]]:
    """Return on how many benchmarks the row is significantly better and worse than the column, over all of them."""
    return [[None if a == b else _wins([one.get((a, b)) for one in pairs.values()]) for b in order] for a in order]


def _wins(found: Sequence[Pair | None]) -> Cell:
    signs = [sign(pair) for pair in found if pair is not None and pair["p"] is not None]
    better, worse = signs.count(1), signs.count(-1)
    return {
        "better": better,
        "worse": worse,
        "of": len(signs),
        "sign": int(np.sign(better - worse)),
    }
