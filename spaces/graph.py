"""What an architecture looks like: nodes and edges, for whoever draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Graph", "chain"]


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph to look at.

    Attributes:
        title: what of the architecture it shows, such as ``normal cell``.
        nodes: the text of each node, every one behind those it reads.
        edges: (from, to, text), indices of nodes; the text is the operation where edges carry them, else empty.
        rows: for a chain, the row that each node is best drawn in, such as its stage; else empty.
    """

    title: str
    nodes: tuple[str, ...]
    edges: tuple[tuple[int, int, str], ...]
    rows: tuple[int, ...] = ()

    def sentences(self) -> list[str]:
        """Return the graph in words: ``input → 1: skip_connect``, one line an edge; of a chain one line a row."""
        if self.rows:
            rows = [
                ", ".join(node for node, at in zip(self.nodes, self.rows, strict=True) if at == row)
                for row in range(max(self.rows) + 1)
            ]
            return [f"stage {row}: {nodes}" for row, nodes in enumerate(rows, 1)]
        ends = ((self.nodes[a], self.nodes[b], text) for a, b, text in self.edges)
        return [f"{a} → {b}: {text}" if text else f"{a} → {b}" for a, b, text in ends]


def chain(title: str, stages: Sequence[Sequence[str]]) -> Graph:
    """Return the graph of blocks one behind the other, between ``input`` and ``output``; a row a stage."""
    nodes = ("input", *(block for stage in stages for block in stage), "output")
    rows = (0, *(row for row, stage in enumerate(stages) for _ in stage), len(stages) - 1)
    return Graph(title, nodes, tuple((i, i + 1, "") for i in range(len(nodes) - 1)), rows)
