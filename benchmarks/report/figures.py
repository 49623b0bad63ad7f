"""Anytime curves as small multiples: one plotly figure a benchmark, and the data of each view its controls offer."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from nasplug.benchmarks.report.study import number

__all__ = ["COLOURS", "DASHES", "chart", "curve"]

COLOURS = 8
"""Colours of the palette; a ninth strategy starts again with the next dash."""
DASHES = ("solid", "dash", "dot", "dashdot")
_PARTS = {"low": "q25", "median": "median", "high": "q75"}


def curve(found: Mapping[str, Any], optimum: float | None, axis: str) -> dict[str, Any] | None:
    """Return a strategy's curve against ``queries`` or ``seconds``, in percent; None where the summary has none.

    Args:
        found: an entry of the summary's ``anytime``, its accuracies fractions.
        optimum: the best report value of the benchmark, None where it is unknown (no regret then). An entry that holds
            ``regret_median`` was measured against each run's own optimum, and is preferred.
        axis: what to show it against.

    Returns:
        ``{x, accuracy: {low, median, high}, regret: {...}}``, lists of one length; null where nothing is known yet.
    """
    start = "" if axis == "queries" else "seconds_"
    x = found.get(axis)
    values = {part: found.get(f"{start}value_{key}") for part, key in _PARTS.items()}
    if not _lists_like(x, *values.values()):
        return None
    made: dict[str, Any] = {"x": _scaled(x), "accuracy": {part: _scaled(v, 100) for part, v in values.items()}}
    regrets = {part: found.get(f"{start}regret_{key}") for part, key in _PARTS.items()}
    if _lists_like(x, *regrets.values()):
        made["regret"] = {part: _scaled(v, 100) for part, v in regrets.items()}
    elif optimum is not None:
        turned = {"low": "high", "median": "median", "high": "low"}
        made["regret"] = {
            part: [None if v is None else max(_digits(100 * optimum - v), 0.0) for v in made["accuracy"][turned[part]]]
            for part in _PARTS
        }
    return made


def _lists_like(x: Any, *others: Any) -> bool:
    return isinstance(x, list) and all(isinstance(one, list) and len(one) == len(x) for one in others)


def _digits(value: float) -> float:
    """Six digits are more than a screen shows."""
    return float(f"{value:.6g}")


def _scaled(values: Any, factor: float = 1.0) -> list[float | None]:
    return [None if (found := number(v)) is None else _digits(factor * found) for v in values]


def chart(
    identifier: str, names: Sequence[str], views: Mapping[str, Mapping[int, dict[str, Any]]], colours: Sequence[int]
) -> dict[str, Any]:
    """Return one small multiple, JSON-ready: a plotly figure without data, and the data of each view.

    Args:
        identifier: id of its element in the page.
        names: the page's curves; colour and dash follow the position, the same on every chart.
        views: axis -> position in ``names`` -> its :func:`curve`; a view without curves is not offered.
        colours: palette index of each name.
    """
    import plotly.graph_objects as go

    shown = sorted({k for view in views.values() for k in view})
    figure = go.Figure()
    for k in shown:  # bands first, so that no line is under another's band
        figure.add_scatter(mode="none", fill="toself", hoverinfo="skip", meta={"strategy": k, "part": "band"})
    for k in shown:
        figure.add_scatter(
            mode="lines",
            name=html.escape(names[k].replace("\n", " ")),  # plotly reads tags in names: escaped, they show as text
            line={"width": 2, "shape": "hv", "dash": dash(colours, k)},
            hovertemplate="%{customdata:.3f}<extra>%{fullData.name}</extra>",
            meta={"strategy": k, "part": "line"},
        )
    figure.update_layout(
        template="none",
        showlegend=False,
        hovermode="x unified",
        margin={"l": 52, "r": 8, "t": 8, "b": 38},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"size": 11},
        xaxis={"title": {"text": "", "standoff": 6}, "ticks": "outside", "ticklen": 3, "nticks": 6},
        yaxis={"title": {"text": "", "standoff": 4}, "nticks": 6, "automargin": True},
    )
    offered = {axis: dict(view) for axis, view in views.items() if view}
    unit = _readable_time(offered["seconds"]) if "seconds" in offered else "s"
    regrets = [
        v
        for view in offered.values()
        for one in view.values()
        for part in one.get("regret", {}).values()
        for v in part
        if v is not None
    ]
    positive = [v for v in regrets if v > 0] or [1.0]
    touches = any(v == 0 for v in regrets)
    # Where 0 goes on a logarithmic axis: clear of its lowest tick.
    floor = 0.4 * 10.0 ** math.floor(math.log10(min(positive))) if touches else min(positive)
    return {
        "id": identifier,
        "figure": figure.to_plotly_json(),
        "views": offered,
        "colours": {k: colours[k] for k in shown},
        "has_regret": bool(regrets),
        "floor": floor,
        "ceiling": max(positive),
        "touches": touches,
        "axis_titles": {
            "queries": "queries",
            "seconds": f"simulated training time, {unit}",
            "regret": "regret, points",
            "accuracy": "accuracy, %",
        },
    }


def dash(colours: Sequence[int], k: int) -> str:
    """Return the dash of curve ``k``: how many before it wear its colour."""
    return DASHES[list(colours[:k]).count(colours[k]) % len(DASHES)]


def _readable_time(view: dict[int, dict[str, Any]]) -> str:
    """Turn the seconds of a view into the largest unit that stays above 2, in place; return the unit."""
    longest = max((v for one in view.values() for v in one["x"] if v is not None), default=0.0)
    units = ((86400, "days"), (3600, "hours"), (60, "minutes"))
    size, unit = next(((size, unit) for size, unit in units if longest > 2 * size), (1, "s"))
    for k, one in view.items():
        view[k] = one | {"x": _scaled(one["x"], 1 / size)}
    return unit
