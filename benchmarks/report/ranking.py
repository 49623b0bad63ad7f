"""The critical-difference diagram as inline SVG: mean ranks on a line, bars over those that cannot be told apart.

Source: Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

__all__ = ["cliques", "diagram"]

_WIDTH, _SIDE, _LETTER = 760, 236, 6.9


def cliques(ranks: Sequence[float], distance: float) -> list[tuple[int, int]]:
    """Return the longest runs (first, last) of the ascending ``ranks`` that differ by less than ``distance``."""
    found: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(k for k in range(first, len(ranks)) if k == first or ranks[k] - ranks[first] < distance)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def diagram(mean_rank: Mapping[str, float], colours: Mapping[str, int], distance: float, label: str) -> str:
    """Return the SVG element of a diagram: rank 1, the best, on the left.

    Args:
        mean_rank: of two strategies or more.
        colours: palette index of each.
        distance: the critical difference.
        label: the text alternative.
    """
    names = sorted(mean_rank, key=lambda name: (mean_rank[name], name))
    ranks = [mean_rank[name] for name in names]
    last, bars = max(2, len(names)), cliques(ranks, distance)
    left, right, axis = _SIDE, _WIDTH - _SIDE, 54.0

    def at(rank: float) -> float:
        return left + (rank - 1) / (last - 1) * (right - left)

    shapes = [f'<line class="axis" x1="{left}" x2="{right}" y1="{axis}" y2="{axis}"/>']
    for tick in range(1, last + 1):
        shapes.append(f'<line class="axis" x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="{axis - 5}" y2="{axis}"/>')
        shapes.append(f'<text x="{at(tick):.1f}" y="{axis - 10}">{tick}</text>')
    end = at(1 + min(distance, last - 1))
    more = "" if distance <= last - 1 else " (longer than the axis)"
    shapes.append(f'<path class="distance" d="M{left} 12v8m0 -4H{end:.1f}m0 -4v8"/>')
    shapes.append(f'<text class="left" x="{end + 8:.1f}" y="20">critical difference {distance:.2f}{more}</text>')
    for level, (first, final) in enumerate(bars):
        y = axis + 12 + 9 * level
        ends = at(ranks[first]) - 4, at(ranks[final]) + 4
        shapes.append(f'<line class="clique" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{y}" y2="{y}"/>')
    begin, half = axis + 22 + 9 * len(bars), math.ceil(len(names) / 2)
    for k, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        best = k < half
        below = begin + 20 * (k if best else len(names) - 1 - k)
        edge = left - 14 if best else right + 14
        room = int((_SIDE - 60) / _LETTER)
        shown = html.escape(name if len(name) <= room else f"{name[: room - 1]}…")
        shapes.append(
            f'<g style="--c:var(--s{colours[name]})"><path class="drop" d="M{at(rank):.1f} {axis}V{below:.1f}H{edge}"/>'
            f'<circle cx="{at(rank):.1f}" cy="{axis}" r="4.5"/></g>'
            f'<text class="{"right" if best else "left"}" x="{edge + (-5 if best else 5)}" y="{below + 4:.1f}">'
            f'{shown} <tspan class="rank">{rank:.2f}</tspan></text>'
        )
    height = begin + 20 * half
    return (
        f'<svg class="differences" role="img" aria-label="{html.escape(label)}" viewBox="0 0 {_WIDTH} {height:.0f}">'
        f"{''.join(shapes)}</svg>"
    )
