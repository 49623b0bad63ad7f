"""Architectures as inline SVG: chains in rows, trees from left to right, cells as nodes on a line with arcs in lanes.

Positions are computed here, colours come from the page's style sheet. Texts are of unknown origin and are escaped.
"""

from __future__ import annotations

import html
from collections import Counter
from itertools import pairwise

from nasplug.spaces import Graph

__all__ = ["draw"]

_LETTER = 6.7
"""Width of a letter of the drawings' font, 11 pixels and monospaced, with a little to spare."""
_HEIGHT = 26
_MARGIN = 10
_LANE = 27
_PORT = 9

Point = tuple[float, float]
_Arc = tuple[int, str, int]
"""Target and text of an edge that is no straight line; the number of the edge, -1 where it has no text."""


def draw(graph: Graph) -> str:
    """Return the SVG element of a graph, its text alternative in it."""
    if graph.rows:
        shapes, width, height = _chain(graph)
    elif _is_tree(graph):
        shapes, width, height = _tree(graph)
    else:
        shapes, width, height = _lanes(graph)
    words = html.escape(f"{graph.title}: {'; '.join(graph.sentences())}")
    return (
        f'<svg class="graph" role="img" aria-label="{words}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}">{"".join(shapes)}</svg>'
    )


# -- shapes ----------------------------------------------------------------------------------------------------------


def _wide(text: str) -> float:
    return max(_LETTER * len(text) + 14, _HEIGHT)


def _node(text: str, centre: Point, width: float) -> str:
    x, y = centre
    kind = "end" if text in ("input", "output") else "idle" if text in ("identity", "skip") else "node"
    return (
        f'<rect class="{kind}" x="{x - width / 2:.1f}" y="{y - _HEIGHT / 2:.1f}" width="{width:.1f}" '
        f'height="{_HEIGHT}" rx="6"/><text x="{x:.1f}" y="{y + 4:.1f}">{html.escape(text)}</text>'
    )


def _path(steps: str, tip: Point, direction: str) -> str:
    """Return a line that ends in an arrow at ``tip``, which points ``right``, ``down`` or ``up``."""
    x, y = tip
    back = {"right": "l-7 -3.5v7z", "down": "l-3.5 -7h7z", "up": "l-3.5 7h7z"}[direction]
    return f'<path class="line" d="{steps}"/><path class="tip" d="M{x:.1f} {y:.1f}{back}"/>'


def _label(text: str, centre: Point) -> str:
    if not text:
        return ""
    x, y = centre
    width = _LETTER * len(text) + 6
    kind = "label idle" if text == "skip_connect" else "label"
    return (
        f'<rect class="{kind}" x="{x - width / 2:.1f}" y="{y - 9:.1f}" width="{width:.1f}" height="18" rx="4"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}">{html.escape(text)}</text>'
    )


# -- layouts: shapes, width, height ----------------------------------------------------------------------------------


def _chain(graph: Graph) -> tuple[list[str], float, float]:
    width, gap, pitch = max(map(_wide, graph.nodes)), 22, _HEIGHT + 24
    places: list[Point] = []
    seen: Counter[int] = Counter()
    for row in graph.rows:
        places.append((_MARGIN + width / 2 + seen[row] * (width + gap), _MARGIN + _HEIGHT / 2 + row * pitch))
        seen[row] += 1
    shapes = []
    for (ax, ay), (bx, by) in pairwise(places):
        if ay == by:
            tip = (bx - width / 2, by)
            shapes.append(_path(f"M{ax + width / 2:.1f} {ay:.1f}H{tip[0] - 6:.1f}", tip, "right"))
        else:
            tip = (bx, by - _HEIGHT / 2)
            between = ay + _HEIGHT / 2 + 9
            shapes.append(
                _path(
                    f"M{ax:.1f} {ay + _HEIGHT / 2:.1f}V{between:.1f}H{bx:.1f}V{tip[1] - 6:.1f}",
                    tip,
                    "down",
                )
            )
    shapes += [_node(text, place, width) for text, place in zip(graph.nodes, places, strict=True)]
    longest = max(seen.values())
    return shapes, 2 * _MARGIN + longest * width + (longest - 1) * gap, 2 * _MARGIN + max(graph.rows) * pitch + _HEIGHT


def _is_tree(graph: Graph) -> bool:
    """Return whether all nodes between the first and the last read one other, and no edge carries a text."""
    last = len(graph.nodes) - 1
    read = Counter(b for _, b, _ in graph.edges)
    return not any(text for *_, text in graph.edges) and all(read[node] == 1 for node in range(1, last))


def _tree(graph: Graph) -> tuple[list[str], float, float]:
    last = len(graph.nodes) - 1
    children: dict[int, list[int]] = {}
    for a, b, _ in graph.edges:
        if b != last:
            children.setdefault(a, []).append(b)
    depth, place = {0: 0}, dict[int, float]()
    leaves = 0

    def descend(node: int) -> None:
        nonlocal leaves
        for child in children.get(node, ()):
            depth[child] = depth[node] + 1
            descend(child)
        below = [place[child] for child in children.get(node, ())]
        place[node] = sum(below) / len(below) if below else leaves
        leaves += not below

    descend(0)
    depth[last], place[last] = max(depth.values()) + 1, place[0]
    width, gap, pitch = max(map(_wide, graph.nodes)), 40, _HEIGHT + 16
    at = {
        node: (_MARGIN + width / 2 + depth[node] * (width + gap), _MARGIN + _HEIGHT / 2 + place[node] * pitch)
        for node in place
    }
    shapes = []
    for a, b, _ in graph.edges:
        (ax, ay), (bx, by) = at[a], at[b]
        tip = (bx - width / 2, by)
        bend = tip[0] - gap  # straight past the columns between, where its row is free, then across
        shapes.append(
            _path(
                f"M{ax + width / 2:.1f} {ay:.1f}H{bend:.1f}C{bend + 22:.1f} {ay:.1f} {tip[0] - 24:.1f} {by:.1f} "
                f"{tip[0] - 6:.1f} {by:.1f}",
                tip,
                "right",
            )
        )
    shapes += [_node(text, at[node], width) for node, text in enumerate(graph.nodes)]
    return (
        shapes,
        2 * _MARGIN + (depth[last] + 1) * width + depth[last] * gap,
        2 * _MARGIN + max(leaves - 1, 0) * pitch + _HEIGHT,
    )


def _lanes(graph: Graph) -> tuple[list[str], float, float]:
    """Nodes on a line; an edge to the next node is straight, others run in a lane above or below.

    Two edges of one lane do not overlap, and a text stands between two neighbouring nodes, where nothing crosses.
    """
    straight: set[tuple[int, int]] = set()
    arcs: dict[_Arc, list[int]] = {}  # to the nodes it comes from: edges without text into one node share a lane
    for number, (a, b, text) in enumerate(graph.edges):
        if b == a + 1 and (a, b) not in straight:
            straight.add((a, b))
        else:
            arcs.setdefault((b, text, number if text else -1), []).append(a)
    lanes = _assign({key: (min(sources), key[0]) for key, sources in arcs.items()})
    highest = max([0, *lanes.values()])
    deepest = -min([0, *lanes.values()])

    # Where arcs meet a node: the higher its lane, the closer to the middle, so that no arc crosses another there.
    ends: dict[tuple[int, bool, bool], set[int]] = {}
    for key, sources in arcs.items():
        lane, target = lanes[key], key[0]
        ends.setdefault((target, lane > 0, False), set()).add(abs(lane))
        for source in sources:
            ends.setdefault((source, lane > 0, True), set()).add(abs(lane))

    def port(node: int, lane: int, leaves: bool) -> float:
        ordered = sorted(ends[node, lane > 0, leaves], reverse=True)
        offset = (ordered.index(abs(lane)) + 0.5) * _PORT
        return offset if leaves else -offset

    gap = max(max((_LETTER * len(text) + 6 for *_, text in graph.edges if text), default=0) + 26, 46)
    middle = _MARGIN + _HEIGHT / 2 + highest * _LANE + (4 if highest else 0)
    widths, x = [], float(_MARGIN)
    places: list[Point] = []
    for node, text in enumerate(graph.nodes):
        most = max((len(found) for (at, *_), found in ends.items() if at == node), default=0)
        widths.append(max(_wide(text), 2 * _PORT * most + 8))
        places.append((x + widths[-1] / 2, middle))
        x += widths[-1] + gap
    width = x - gap + _MARGIN
    height = middle + _HEIGHT / 2 + deepest * _LANE + _MARGIN + (4 if deepest else 0)

    lines, texts = [], []
    drawn = set(straight)
    for a, b, text in graph.edges:
        if (a, b) not in drawn:
            continue
        drawn.discard((a, b))
        start, tip = places[a][0] + widths[a] / 2, (places[b][0] - widths[b] / 2, middle)
        lines.append(_path(f"M{start:.1f} {middle:.1f}H{tip[0] - 6:.1f}", tip, "right"))
        texts.append(_label(text, ((start + tip[0]) / 2 - 3, middle)))
    for key, sources in arcs.items():
        lane, target, text = lanes[key], key[0], key[1]
        up = lane > 0
        edge = middle + (-_HEIGHT / 2 if up else _HEIGHT / 2)
        y = edge - lane * _LANE + (-4 if up else 4)
        tip = (places[target][0] + port(target, lane, leaves=False), edge)
        for source in sources:
            start = places[source][0] + port(source, lane, leaves=True)
            steps = f"M{start:.1f} {edge:.1f}V{y:.1f}H{tip[0]:.1f}V{tip[1] + (-6 if up else 6):.1f}"
            lines.append(_path(steps, tip, "down" if up else "up"))
        first = (min(sources) + target - 1) // 2  # the gap in the middle
        left, right = places[first][0] + widths[first] / 2, places[first + 1][0] - widths[first + 1] / 2
        texts.append(_label(text, ((left + right) / 2, y)))
    nodes = [_node(text, places[i], widths[i]) for i, text in enumerate(graph.nodes)]
    return [*lines, *nodes, *texts], width, height


def _assign(spans: dict[_Arc, tuple[int, int]]) -> dict[_Arc, int]:
    """Return a lane for each span of nodes, 1, 2, ... above and -1, -2, ... below: short ones near the nodes."""
    taken: dict[int, list[tuple[int, int]]] = {}
    lanes = {}
    for key, (start, end) in sorted(spans.items(), key=lambda item: (item[1][1] - item[1][0], item[1])):
        lane = next(
            lane
            for level in range(1, len(spans) + 1)
            for lane in (level, -level)
            if all(end <= a or b <= start for a, b in taken.get(lane, []))
        )
        taken.setdefault(lane, []).append((start, end))
        lanes[key] = lane
    return lanes
