"""The page's curves: which strategies, in which colours, with which data, as charts and as tables behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasplug.benchmarks.report.figures import COLOURS, chart, curve, dash
from nasplug.benchmarks.report.study import Study, number
from nasplug.benchmarks.report.texts import Cell, cell

__all__ = ["Curves"]

_BASELINE = COLOURS  # palette index of the grey that random search wears
_STROKES = {"solid": "", "dash": "6 4", "dot": "2 3", "dashdot": "6 3 2 3"}
_MILESTONES = 7


class Curves:
    """Strategies in the order of the study, and exact random search where none of them is it."""

    EXPECTED = "random search, expected"

    def __init__(self, study: Study):
        self._study = study
        coloured = [s for s in study.strategies if s != "random"]
        self._names = list(study.strategies)
        self._colours = [coloured.index(s) % COLOURS if s != "random" else _BASELINE for s in study.strategies]
        self._found = {(one.get("benchmark"), one.get("strategy")): one for one in study.entries("anytime")}
        self._expected = {b: study.mapping("random_search", b) for b in study.benchmarks}
        if "random" not in self._names and any(self._expected.values()):
            self._names.append(self.EXPECTED)
            self._colours.append(_BASELINE)

    def colour(self, strategy: str) -> int:
        """Return the palette index of a strategy."""
        return self._colours[self._names.index(strategy)]

    def index(self, strategy: str) -> int:
        """Return the number under which the legend shows and hides a strategy."""
        return self._names.index(strategy)

    def legend(self) -> list[dict[str, Any]]:
        """Return one entry a curve."""
        return [
            {"index": k, "name": name, "colour": colour, "dashes": _STROKES[dash(self._colours, k)]}
            for k, (name, colour) in enumerate(zip(self._names, self._colours, strict=True))
        ]

    def chart(self, benchmark: str, identifier: str) -> dict[str, Any]:
        """Return a benchmark's chart, see :func:`nasplug.benchmarks.report.figures.chart`."""
        optimum = number(self._study.about(benchmark).get("optimum"))
        views: dict[str, dict[int, dict[str, Any]]] = {"queries": {}, "seconds": {}}
        for k, name in enumerate(self._names):
            found = self._data(benchmark, k, name)
            for axis, view in views.items():
                if made := curve(found, optimum, axis):
                    view[k] = made
        return chart(identifier, self._names, views, self._colours)

    def table(self, benchmark: str) -> dict[str, Any]:
        """Return a benchmark's curves as a table: median accuracies after some numbers of queries."""
        shown: list[dict[str, Any]] = []
        for k, name in enumerate(self._names):
            made = curve(self._data(benchmark, k, name), None, "queries")
            if made is None:
                continue
            known = {x: v for x, v in zip(made["x"], made["accuracy"]["median"], strict=True) if x is not None}
            shown.append({"name": name, "colour": self._colours[k], "known": known})
        heads = _milestones(sorted({x for one in shown for x in one["known"]}))
        rows: list[dict[str, Any]] = [
            {"name": one["name"], "colour": one["colour"], "cells": [_after(one["known"], x) for x in heads]}
            for one in shown
        ]
        return {"heads": [f"{x:.0f}" for x in heads], "rows": rows}

    def _data(self, benchmark: str, k: int, name: str) -> Mapping[str, Any]:
        if k < len(self._study.strategies):
            return self._found.get((benchmark, name), {})
        mean = self._expected[benchmark].get("value_mean")
        return {
            "queries": self._expected[benchmark].get("queries"),
            **dict.fromkeys(("value_median", "value_q25", "value_q75"), mean),
        }


def _milestones(x: list[float]) -> list[float]:
    """Return some of the numbers of queries, closer together at the start: 1, 2, 5, 10, ... and the last."""
    if not x:
        return []
    wanted = [v for v in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000) if v < x[-1]]
    return [*(v for v in x if v in wanted[-_MILESTONES:]), x[-1]]


def _after(known: Mapping[float, float | None], queries: float) -> Cell:
    """Return the last value known by then."""
    before = [x for x in known if x <= queries]
    return cell(known[max(before)] if before else None)
