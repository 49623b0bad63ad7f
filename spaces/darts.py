"""The DARTS space: a normal and a reduction cell of four nodes, two inputs each (Liu et al., ICLR 2019)."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cached_property
from itertools import combinations, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces.base import Genotypes, Space
from nasplug.spaces.graph import Graph
from nasplug.spaces.parameters import Categorical

__all__ = ["CELLS", "DARTS", "EDGES", "NODES", "NOISE", "OPERATIONS", "everywhere"]

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""Operation names in code order, the published order without ``none``."""

NOISE = "noise"
"""An operation of the reduced space S4 (:mod:`nasplug.spaces.darts_reduced`)."""

CELLS = ("normal", "reduce")
NODES = (2, 3, 4, 5)
"""Intermediate nodes; 0 and 1 are the outputs of the two cells before."""

EDGES = tuple((source, node) for node in NODES for source in range(node))
"""The 14 places of edges in a cell, ``(source, node)``; eight of them are taken."""

EdgeOperations = tuple[tuple[tuple[str, ...], ...], ...]

_PAIRS = {node: tuple(combinations(range(node), 2)) for node in NODES}
_SOURCES = np.array([source for source, _ in EDGES])
_FIRST = np.array([EDGES.index((0, node)) for node in NODES])

# The 11 sites of a cell: the pair of each node (node 2 has no choice), the operations.
_PAIR_SITES = (None, 2, 5, 8)
_OP_SITES = np.array([0, 1, 3, 4, 6, 7, 9, 10])
_CELL_SITES = 11

_ORDERS = np.array(list(permutations(range(len(NODES)))))
"""The old place of each new node, in each of the 24 numberings."""

_NUMBERS = np.hstack([np.tile(np.arange(2), (len(_ORDERS), 1)), 2 + np.argsort(_ORDERS, axis=1)]).astype(np.int8)
"""The new number of each node, the inputs included, in each of them."""

_LONGEST_TEXT = 4000


def everywhere(*operations: str) -> EdgeOperations:
    """Return one list of operations for all edges of both cells, as :class:`DARTS` takes it."""
    return tuple(tuple(operations for _ in EDGES) for _ in CELLS)


_PUBLISHED = everywhere(*OPERATIONS)


class DARTS(Space):
    """Pairs of cells as in DARTS; with its seven operations (180 x 7^8)^2 = 1.08e18, far too many to enumerate.

    In each cell, each of the nodes 2 to 5 sums two operations on two different earlier nodes; the cell's output is
    the four nodes side by side. Sites, for ``normal`` and then for ``reduce``: ``*_3_inputs`` to ``*_5_inputs``, the
    pair of sources such as ``0,2`` (node 2 has no choice), each before the node's ``*_op_a`` and ``*_op_b``, the
    operations on the smaller and the larger source. The seven operations are the published ones without ``none``,
    which no published cell may contain.

    Where edges have lists of their own, the code k of an operation is the k-th of the edge that it stands on, whichever
    that is, and so is its value: another pair of sources may then mean other operations.

    Strings are the usual genotypes, ``Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6),
    reduce=[...], reduce_concat=range(2, 6))``; a node's two edges may come in either order.

    Canonical classes: renumbering the nodes of a cell only permutes channels of its output, so all numberings of a
    cell that the space has share a class. (Equal values of nodes without weights are not looked for.)

    Encodings, both cells side by side, sizes with the seven operations:
        onehot: 150 features.
        pairwise: one-hot, then products of indicators of sites of one node only: 150 + 924.
        counts: how often each operation, and each pair of sources, occurs, 26.
        adjacency: one indicator an operation on each of the 14 possible edges of a cell, 196.
        path: for each input and each word of one or two operations, how many nodes are reached from that input along
            exactly it, 224; longer paths are cut off (White et al., BANANAS, AAAI 2021; differs: counts, and by length
            rather than by frequency). Equal for all numberings of a cell; not injective.

    Args:
        name: the registered name.
        on_edges: for each of :data:`CELLS` and each of :data:`EDGES` the operations it chooses from, equally many
            everywhere.
        mixes_none: whether a supernet of the space mixes ``none`` in, which no architecture may have.

    Attributes:
        operations: names of all operations of the space, in the published order.
        choices: what the codes of an operation stand for: names, or numbers where edges have lists of their own.

    Raises: InputError for other lists of operations.
    """

    encodings = ("onehot", "pairwise", "counts", "adjacency", "path")

    def __init__(self, name: str = "darts", on_edges: EdgeOperations = _PUBLISHED, *, mixes_none: bool = False):
        lists = [edge for cell in on_edges for edge in cell]
        self.operations = tuple(op for op in (*OPERATIONS, NOISE) if any(op in edge for edge in lists))
        if (
            [len(cell) for cell in on_edges] != [len(EDGES)] * len(CELLS)
            or len({len(edge) for edge in lists}) > 1
            or any(len(set(edge)) != len(edge) or not set(edge) <= set(self.operations) for edge in lists)
        ):
            raise InputError(
                f"the space {name!r} needs, for each of 2 cells and 14 edges, equally many different operations out of "
                f"{', '.join((*OPERATIONS, NOISE))}"
            )
        self.on_edges, self.mixes_none = on_edges, mixes_none
        self.choices: tuple[str, ...] | tuple[int, ...] = (
            lists[0] if len(set(lists)) == 1 else tuple(range(len(lists[0])))
        )
        sites = []
        for cell in CELLS:
            for node in NODES:
                if len(_PAIRS[node]) > 1:
                    sites.append(Categorical(f"{cell}_{node}_inputs", tuple(f"{a},{b}" for a, b in _PAIRS[node])))
                sites += [Categorical(f"{cell}_{node}_op_{edge}", self.choices) for edge in "ab"]
        super().__init__(name, sites)

    # -- edges -------------------------------------------------------------------------------------------------------

    def edges(self, genotypes: Genotypes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the edges of both cells: places in :data:`EDGES`, ascending, and codes, ``(n, 2, 8)`` each.

        A node's two edges are neighbours: 2 i and 2 i + 1 go into ``NODES[i]``.
        """
        return _edges(genotypes.reshape(-1, len(CELLS), _CELL_SITES))

    def from_edges(self, places: NDArray[np.int64], codes: NDArray[np.int64]) -> Genotypes:
        """Return the genotypes ``(n, 22)`` of such edges: the inverse of :meth:`edges`."""
        return _cells(places, codes).reshape(-1, self.n_sites)

    def named(self, places: NDArray[np.int64], codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of :attr:`operations` stands on each edge of :meth:`edges`, ``(n, 2, 8)``."""
        return self._names[np.arange(len(CELLS))[:, None], places, codes]

    @cached_property
    def _names(self) -> NDArray[np.int64]:
        """Which of the operations each code of each edge is, ``(2, 14, k)``."""
        return np.array([[[self.operations.index(op) for op in edge] for edge in cell] for cell in self.on_edges])

    @cached_property
    def _codes(self) -> NDArray[np.int64]:
        """The code of each operation on each edge, ``(2, 14, o)``; -1 where the edge does not have it."""
        codes = np.full((len(CELLS), len(EDGES), len(self.operations)), -1)
        np.put_along_axis(codes, self._names, np.arange(len(self.choices)), axis=2)
        return codes

    # -- classes -----------------------------------------------------------------------------------------------------

    def canonical(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Return the class id of each row, ``(n,)``: the smallest key among all numberings of both cells."""
        places, codes = self.edges(genotypes)
        names = self.named(places, codes)
        smallest = [self._smallest_cell(cell, places[:, cell], names[:, cell]) for cell in range(len(CELLS))]
        return smallest[0] * int(self._radix[_CELL_SITES - 1]) + smallest[1]

    def representative(self, genotypes: Genotypes) -> Genotypes:
        return self._unrank(self.canonical(genotypes))

    def _smallest_cell(self, cell: int, places: NDArray[np.int64], names: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the smallest key ``(n,)`` among the numberings of the nodes in which sources come before targets.

        Args:
            cell: which of :data:`CELLS`.
            places, names: of its edges, ``(n, 8)`` each.
        """
        sources, names = _SOURCES[places].reshape(-1, 4, 2), names.reshape(-1, 4, 2)
        moved = _NUMBERS[:, sources]  # (24, n, 4, 2)
        numbering, rows = np.nonzero((moved < _NUMBERS[:, None, 2:, None]).all(axis=(2, 3)))
        at = rows[:, None], _ORDERS[numbering]
        # Place and name in one number, which puts the two edges of a node in order.
        edges = (_FIRST[:, None] + moved[numbering[:, None], *at]) * len(self.operations) + names[at]
        edges = np.stack([edges.min(axis=2), edges.max(axis=2)], axis=2).reshape(-1, 8)
        codes = self._codes[cell].ravel()[edges]
        there = (codes >= 0).all(axis=1)
        smallest = np.full(len(places), np.iinfo(np.int64).max)
        keys = _cells(edges[there] // len(self.operations), codes[there]) @ self._radix[_CELL_SITES:]
        np.minimum.at(smallest, rows[there], keys)
        return smallest

    # -- words -------------------------------------------------------------------------------------------------------

    def to_string(self, genotypes: Genotypes) -> list[str]:
        places, codes = self.edges(genotypes)
        names, sources = self.named(places, codes).tolist(), _SOURCES[places].tolist()
        texts = []
        for both_names, both_sources in zip(names, sources, strict=True):
            parts = []
            for cell, ops, origins in zip(CELLS, both_names, both_sources, strict=True):
                pairs = [(self.operations[op], source) for op, source in zip(ops, origins, strict=True)]
                parts.append(f"{cell}={pairs}, {cell}_concat=range(2, 6)")
            texts.append(f"Genotype({', '.join(parts)})")
        return texts

    def graphs(self, genotype: NDArray[np.int64]) -> tuple[Graph, ...]:
        """Return both cells: two inputs, four nodes, the output."""
        places, codes = self.edges(genotype[None])
        named = self.named(places, codes)
        nodes = ("c[k-2]", "c[k-1]", *(str(i) for i in range(len(NODES))), "c[k]")
        joined = tuple((node, len(nodes) - 1, "") for node in NODES)
        return tuple(
            Graph(
                f"{name} cell",
                nodes,
                tuple((*EDGES[place], self.operations[op]) for place, op in zip(places[0, i], named[0, i], strict=True))
                + joined,
            )
            for i, name in enumerate(("normal", "reduction"))
        )

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Return the genotypes ``(n, 22)`` of ``Genotype(...)`` texts; raises InputError naming the first bad one.

        The text is parsed, never run.
        """
        edges = np.array([self._parsed(text) for text in strings], dtype=np.int64).reshape(-1, len(CELLS), 8, 2)
        return self.from_edges(edges[..., 0], edges[..., 1])

    def _parsed(self, text: Any) -> list[list[tuple[int, int]]]:
        """Return place and code of the eight edges of both cells; raises InputError for any other text."""
        try:
            return [self._parsed_cell(cell, edges) for cell, edges in enumerate(_cell_texts(text))]
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            raise InputError(
                f"not a DARTS genotype: {str(text)[:80]!r} ({error}); expected Genotype(normal=[(operation, source) x "
                "8], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"
            ) from None

    def _parsed_cell(self, cell: int, edges: Any) -> list[tuple[int, int]]:
        if not (isinstance(edges, list) and len(edges) == 2 * len(NODES)):
            raise ValueError("a cell is a list of 8 edges")
        parsed = []
        for i, node in enumerate(NODES):
            pair = []
            for edge in edges[2 * i : 2 * i + 2]:
                op, source = edge
                if type(source) is not int or not 0 <= source < node:
                    raise ValueError(f"{edge!r} is no edge into node {node}")
                place = int(_FIRST[i]) + source
                known = self.on_edges[cell][place]
                if op not in known:
                    raise ValueError(f"{edge!r} is no edge into node {node}; operations: {', '.join(known)}")
                pair.append((place, known.index(op)))
            if pair[0][0] == pair[1][0]:
                raise ValueError(f"both edges into node {node} come from node {source}")
            parsed += sorted(pair)
        return parsed

    # -- encodings ---------------------------------------------------------------------------------------------------

    @cached_property
    def _node_products(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The one-hot columns, left and right, of every product of two sites of one node."""
        site = np.repeat(np.arange(self.n_sites), self.n_choices)
        names = [p.name for p in self.parameters]
        node = np.unique([name.split("_op")[0].removesuffix("_inputs") for name in names], return_inverse=True)[1][site]
        left, right = np.nonzero((node[:, None] == node) & (site[:, None] < site))
        return left, right

    def _encode_pairwise(self, genotypes: Genotypes) -> NDArray[np.float32]:
        single = self._encode_onehot(genotypes)
        left, right = self._node_products
        return np.concatenate([single, single[:, left] * single[:, right]], axis=1)

    def _encode_counts(self, genotypes: Genotypes) -> NDArray[np.float32]:
        names = self.named(*self.edges(genotypes)).reshape(-1, 2 * 2 * len(NODES))
        often = (names[:, :, None] == np.arange(len(self.operations))).sum(axis=1, dtype=np.float32)
        pairs = super()._encode_counts(genotypes)[:, len(self.choices) :]  # behind the codes, which stand for no names
        return np.concatenate([often, pairs], axis=1)

    def _encode_adjacency(self, genotypes: Genotypes) -> NDArray[np.float32]:
        places, codes = self.edges(genotypes)
        return _marked(places, codes, len(self.choices)).reshape(-1, len(CELLS) * len(EDGES) * len(self.choices))

    def _encode_path(self, genotypes: Genotypes) -> NDArray[np.float32]:
        n, k = len(genotypes), len(self.operations)
        places, codes = self.edges(genotypes)
        both = _marked(places, self.named(places, codes), k)
        columns = []
        for cell in range(len(CELLS)):
            step = {edge: both[:, cell, place] for place, edge in enumerate(EDGES)}
            # One-letter words per input and node; two-letter words: those, then a letter on the way out of the node.
            first = {node: np.stack([step[0, node], step[1, node]], axis=1) for node in NODES}  # (n, 2, k)
            onward = {s: np.sum([step[s, node] for node in NODES if node > s], axis=0) for s in NODES[:-1]}  # (n, k)
            second = np.sum([first[s][..., None] * onward[s][:, None, None, :] for s in onward], axis=0)  # (n, 2, k, k)
            columns += [np.sum(list(first.values()), axis=0).reshape(n, 2 * k), second.reshape(n, 2 * k**2)]
        return np.concatenate(columns, axis=1)


def _edges(cells: Genotypes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return places and codes of the edges of cells ``(..., 11)``, ``(..., 8)`` each."""
    places = np.empty((*cells.shape[:-1], 2 * len(NODES)), dtype=np.int64)
    for i, (node, site) in enumerate(zip(NODES, _PAIR_SITES, strict=True)):
        pairs = np.array(_PAIRS[node])
        places[..., 2 * i : 2 * i + 2] = _FIRST[i] + (pairs[0] if site is None else pairs[cells[..., site]])
    return places, cells[..., _OP_SITES]


def _cells(places: NDArray[np.int64], codes: NDArray[np.int64]) -> Genotypes:
    """Return the cells ``(..., 11)`` of edges ``(..., 8)``: the inverse of :func:`_edges`."""
    cells = np.empty((*places.shape[:-1], _CELL_SITES), dtype=np.int64)
    cells[..., _OP_SITES] = codes
    for i, (node, site) in enumerate(zip(NODES, _PAIR_SITES, strict=True)):
        if site is not None:
            a, b = places[..., 2 * i] - _FIRST[i], places[..., 2 * i + 1] - _FIRST[i]
            cells[..., site] = a * (2 * node - a - 1) // 2 + b - a - 1  # the place of (a, b) in _PAIRS[node]
    return cells


def _marked(places: NDArray[np.int64], which: NDArray[np.int64], k: int) -> NDArray[np.float32]:
    """Return one indicator for each of k on each of the 14 places of both cells, ``(n, 2, 14, k)``."""
    marks = np.zeros((len(places), len(CELLS), len(EDGES), k), dtype=np.float32)
    marks[np.arange(len(places))[:, None, None], np.arange(len(CELLS))[:, None], places, which] = 1.0
    return marks


def _cell_texts(text: Any) -> list[Any]:
    """Return the values of ``normal`` and ``reduce`` in a ``Genotype(...)`` text; raises ValueError and the like."""
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
        raise ValueError("not a text of reasonable length")
    call = ast.parse(text.strip(), mode="eval").body
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
        raise ValueError("not a call of Genotype")
    fields = {word.arg: word.value for word in call.keywords}
    if call.args or len(fields) != len(call.keywords) or set(fields) != {*CELLS, *(f"{c}_concat" for c in CELLS)}:
        raise ValueError("the fields are normal, normal_concat, reduce, reduce_concat, each by name")
    for cell in CELLS:
        if ast.unparse(fields[f"{cell}_concat"]) not in ("range(2, 6)", "[2, 3, 4, 5]", "(2, 3, 4, 5)"):
            raise ValueError(f"{cell}_concat must be range(2, 6)")
    return [ast.literal_eval(fields[cell]) for cell in CELLS]
