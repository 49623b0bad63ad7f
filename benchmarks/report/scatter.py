"""Cost against accuracy as inline SVG: what the runs recommend, what a strategy bought, what the table holds."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

from nasplug.benchmarks.report.texts import short

__all__ = ["Dots", "scatter", "ticks"]

_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 46

Point = tuple[float, float]
Dots = Sequence[Point]


def scatter(
    label: str,
    axis: str,
    front: Dots,
    strategies: Mapping[str, tuple[int, int, Dots, Dots]],
) -> str:
    """Return the SVG element; the vertical axis is accuracy in percent, the horizontal one logarithmic.

    Args:
        label: the text alternative.
        axis: title of the horizontal axis.
        front: (cost, accuracy) of the architectures that no other beats, by rising cost; may be empty.
        strategies: name -> (number of its curve, its colour, what its runs recommend, the front of what it bought).
    """
    recommended = [point for *_, dots, _ in strategies.values() for point in dots]
    if not recommended:
        return ""
    best = max(y for _, y in (*recommended, *front))
    worst = min(y for _, y in recommended)
    room = max(best - worst, 0.05)
    low, high = worst - 0.6 * room, best + 0.08 * room  # of the fronts only what is near the recommendations
    fronts = [[p for p in dots if p[1] >= low] for dots in (front, *(bought for *_, bought in strategies.values()))]
    costs = [x for x, _ in (*recommended, *(p for dots in fronts for p in dots)) if x > 0]
    if not costs:
        return ""
    left, right = min(costs) / 1.06, max(costs) * 1.06

    def at(point: Point) -> Point:
        x, y = point
        along = math.log(max(x, left) / left) / math.log(right / left)
        return (
            _LEFT + along * (_WIDTH - _LEFT - _RIGHT),
            _TOP + (high - y) / (high - low) * (_HEIGHT - _TOP - _BOTTOM),
        )

    bottom, end = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    shapes = []
    for y in ticks(low, high):
        _, v = at((left, y))
        shapes.append(f'<line class="grid" x1="{_LEFT}" x2="{end}" y1="{v:.1f}" y2="{v:.1f}"/>')
        shapes.append(f'<text class="right" x="{_LEFT - 6}" y="{v + 4:.1f}">{y:g}</text>')
    for x in _decades(left, right):
        u, _ = at((x, low))
        shapes.append(f'<line class="grid" x1="{u:.1f}" x2="{u:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        shapes.append(f'<text x="{u:.1f}" y="{bottom + 16}">{short(x)}</text>')
    shapes.append(f'<text x="{(_LEFT + end) / 2:.0f}" y="{_HEIGHT - 8}">{html.escape(axis)}</text>')
    middle = (_TOP + bottom) / 2
    shapes.append(f'<text transform="translate(12 {middle:.0f}) rotate(-90)">accuracy, %</text>')

    def stairs(dots: Dots) -> str:
        steps = ""
        for k, point in enumerate(dots):
            u, v = at(point)
            steps += f"H{u:.1f}V{v:.1f}" if k else f"M{u:.1f} {bottom}V{v:.1f}"
        return f"{steps}H{end}"

    if fronts[0]:
        shapes.append(f'<path class="front" d="{stairs(fronts[0])}"/>')
    for (number, colour, dots, _), bought in zip(strategies.values(), fronts[1:], strict=True):
        line = f'<path class="bought" d="{stairs(bought)}"/>' if bought else ""
        marks = "".join('<circle cx="{:.1f}" cy="{:.1f}" r="4"/>'.format(*at(dot)) for dot in dots)
        shapes.append(f'<g data-strategy="{number}" style="--c:var(--s{colour})">{line}{marks}</g>')
    return (
        f'<svg class="scatter" role="img" aria-label="{html.escape(label)}" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f"{''.join(shapes)}</svg>"
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers between two numbers, at most ``most`` of them."""
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(size * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (size * factor) <= most)
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return round numbers for a logarithmic axis: finer ones where few decades are shown."""
    if high / low < 3:
        return ticks(low, high, 8)
    steps = (1, 2, 5) if high / low < 200 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [v for d in decades for s in steps if low <= (v := s * 10.0**d) <= high]
