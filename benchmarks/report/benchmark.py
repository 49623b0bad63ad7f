"""What the page says of one benchmark: landmarks, every effect size, curve, costs, tests, the best architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasplug.benchmarks.report.architecture import describe
from nasplug.benchmarks.report.curves import Curves
from nasplug.benchmarks.report.pairs import Pairs, matrix
from nasplug.benchmarks.report.scatter import scatter
from nasplug.benchmarks.report.study import Study, number
from nasplug.benchmarks.report.texts import Cell, cell, interval, join, percent, short, with_interval

__all__ = ["describe_benchmark"]

_UNITS = {"_ms": "ms", "_s": "s", "_mb": "MB", "_mj": "mJ"}


def describe_benchmark(
    study: Study, name: str, place: int, curves: Curves, pairs: Pairs, best: Sequence[str], order: Sequence[str]
) -> dict[str, Any]:
    """Return one benchmark, ready for the template.

    Args:
        place: its number in the study.
        pairs: its pairwise tests, empty where there are none.
        best: the strategies with the best mean.
        order: strategies, the first one first.
    """
    about = study.about(name)
    row = next(row for (b, _), row in study.rows.items() if b == name)
    search, report = (
        str(row.get(f"{side}_signal") or row.get(f"split_{side}") or "–") for side in ("search", "report")
    )
    mean, optimum = number(about.get("random_mean")), number(about.get("optimum"))
    return {
        "name": name,
        "id": f"benchmark-{place}",
        "chart": f"chart-{place}",
        "search": search,
        "report": report,
        "figure_note": f"search sees {search}, curve shows {report}",
        "alt": f"Anytime curves on {name}" + (f"; best at the end: {join(best)}" if best else ""),
        "best": join(best) if best else "",
        "marks": [
            cell(mean, scale=100),
            cell(about.get("random_median"), scale=100),
            cell(about.get("random_search_final"), scale=100),
            cell(optimum, scale=100),
            percent(100 * (optimum - mean) / mean if mean and optimum is not None else None),
        ],
        "effects": [_effects(study.row(name, s)) for s in order],
        "anytime": curves.table(name),
        "pairs": matrix(order, pairs) if pairs else None,
        "costs": [
            made
            for entry in study.entries("pareto")
            if entry.get("benchmark") == name and (made := _cost(entry, curves, order)) is not None
        ],
        "architecture": describe(study.mapping("best", name), about),
    }


def _effects(row: Mapping[str, Any]) -> list[Cell]:
    """Return every effect size of a pair, each with its interval where it has one."""
    seconds = number(row.get("simulated_cost_s_mean"))
    against = [f"relative_improvement{baseline}" for baseline in ("", "_vs_median", "_vs_random_search")]
    return [
        with_interval(cell(row.get("value_mean"), scale=100), row.get("value_ci95"), 100),
        cell(row.get("value_median"), scale=100),
        cell(row.get("value_std"), scale=100),
        *(
            with_interval(cell(row.get(f"{key}_pct"), "{:+z.2f}"), row.get(f"{key}_ci95"), 1, "{:+z.2f}")
            for key in against
        ),
        with_interval(cell(row.get("regret_mean"), scale=100), row.get("regret_ci95"), 100),
        cell(row.get("normalized_regret_mean"), "{:z.3f}"),
        cell(row.get("oracle_report_mean"), scale=100),
        cell(None if seconds is None else seconds / 3600, "{:,.1f}"),
    ]


# -- costs -----------------------------------------------------------------------------------------------------------


def _cost(entry: Mapping[str, Any], curves: Curves, order: Sequence[str]) -> dict[str, Any] | None:
    """Return accuracy against one cost: the figure and the table behind it; None where no run has both."""
    metric, by = str(entry.get("metric")), entry.get("strategies")
    found = {s: by[s] for s in order if isinstance(by.get(s), Mapping)} if isinstance(by, Mapping) else {}
    title = _title(metric)
    front = _dots(entry.get("front"))
    figure = scatter(
        f"Accuracy against {title} of what each run recommends, with the front of what each strategy bought"
        + (" and that of the whole table" if front else ""),
        title,
        front,
        {
            s: (curves.index(s), curves.colour(s), _dots(one.get("recommended")), _dots(one.get("bought")))
            for s, one in found.items()
        },
    )
    if not figure:
        return None
    rows = []
    for s, one in found.items():
        mean, (low, high) = number(one.get("cost_mean")), interval(one.get("cost_ci95"))
        rows.append(
            {
                "name": s,
                "colour": curves.colour(s),
                "cells": [
                    {
                        "text": "–" if mean is None else short(mean),
                        "sort": "" if mean is None else mean,
                        "note": "" if low is None or high is None else f"[{short(low)}, {short(high)}]",
                    },
                    cell(_mean([y for _, y in _dots(one.get("recommended"))])),
                    cell(one.get("short_of_front_mean"), scale=100),
                ],
            }
        )
    return {"title": title, "figure": figure, "rows": rows, "has_front": bool(front)}


def _title(metric: str) -> str:
    """Return a metric as a reader says it: ``latency, ms``."""
    if metric in ("params", "flops"):
        return {"params": "parameters", "flops": "multiply-adds"}[metric]
    unit = next((ending for ending in _UNITS if metric.endswith(ending)), "")
    words = metric.removesuffix(unit).replace("_", " ")
    words = {"train": "training time"}.get(words, words)
    return f"{words}, {_UNITS[unit]}" if unit else words


def _dots(value: Any) -> list[tuple[float, float]]:
    """Return the (cost, accuracy in percent) pairs that are numbers."""
    if not isinstance(value, list):
        return []
    pairs = [(number(one[0]), number(one[1])) for one in value if isinstance(one, list) and len(one) == 2]
    return [(x, 100 * y) for x, y in pairs if x is not None and y is not None and x > 0]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
