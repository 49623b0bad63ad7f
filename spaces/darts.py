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
from nasplug.spaces.parameters import Categorical

__all__ = ["CELLS", "DARTS", "NODES", "OPERATIONS", "cell_edges"]

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

CELLS = ("normal", "reduce")
NODES = (2, 3, 4, 5)
"""Intermediate nodes; 0 and 1 are the outputs of the two cells before."""

_K = len(OPERATIONS)
_PAIRS = {node: tuple(combinations(range(node), 2)) for node in NODES}
_EDGES = tuple((source, node) for node in NODES for source in range(node))

# The 11 sites of a cell: the pair of each node (node 2 has no choice), the operations, and the cell's own key.
_PAIR_SITES = (None, 2, 5, 8)
_OP_SITES = np.array([0, 1, 3, 4, 6, 7, 9, 10])
_SIZES = np.array([_K, _K, 3, _K, _K, 6, _K, _K, 10, _K, _K])
_CELL_RADIX = np.array([int(np.prod(_SIZES[i + 1 :])) for i in range(len(_SIZES))])

_LONGEST_TEXT = 4000


class DARTS(Space):
    """The (180 x 7^8)^2 = 1.08e18 pairs of cells of DARTS, far too many to enumerate.

    In each cell, each of the nodes 2 to 5 sums two operations on two different earlier nodes; the cell's output is
    the four nodes side by side. Sites, for ``normal`` and then for ``reduce``: ``*_3_inputs`` to ``*_5_inputs``, the
    pair of sources such as ``0,2`` (node 2 has no choice), each before the node's ``*_op_a`` and ``*_op_b``, the
    operations on the smaller and the larger source. The seven operations are the published ones without ``none``,
    which no published cell may contain.

    Strings are the usual genotypes, ``Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6),
    reduce=[...], reduce_concat=range(2, 6))``; a node's two edges may come in either order.

    Canonical classes: renumbering the nodes of a cell only permutes channels of its output, so all numberings of a
    cell share a class. (Equal values of nodes without weights are not looked for.)

    Encodings, both cells side by side:
        onehot: 150 features.
        pairwise: one-hot, then products of indicators of sites of one node only: 150 + 924.
        adjacency: one indicator an operation on each of the 14 possible edges of a cell, 196.
        path: for each input and each word of one or two operations, how many nodes are reached from that input along
            exactly it, 224; longer paths are cut off (White et al., BANANAS, AAAI 2021; differs: counts, and by length
            rather than by frequency). Equal for all numberings of a cell; not injective.
    """

    encodings = ("onehot", "pairwise", "counts", "adjacency", "path")

    def __init__(self) -> None:
        sites = []
        for cell in CELLS:
            for node in NODES:
                if len(_PAIRS[node]) > 1:
                    sites.append(Categorical(f"{cell}_{node}_inputs", tuple(f"{a},{b}" for a, b in _PAIRS[node])))
                sites += [Categorical(f"{cell}_{node}_op_{edge}", OPERATIONS) for edge in "ab"]
        super().__init__("darts", sites)

    def canonical(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Return the class id of each row, ``(n,)``: the smallest key among all numberings of both cells."""
        smallest = [_smallest_cell(part) for part in np.split(genotypes, 2, axis=1)]
        return smallest[0] * int(self._radix[len(_SIZES) - 1]) + smallest[1]

    def representative(self, genotypes: Genotypes) -> Genotypes:
        return self._unrank(self.canonical(genotypes))

    # -- words -------------------------------------------------------------------------------------------------------

    def to_string(self, genotypes: Genotypes) -> list[str]:
        cells = [cell_edges(part) for part in np.split(genotypes, 2, axis=1)]
        texts = []
        for row in range(len(genotypes)):
            parts = []
            for name, (sources, ops) in zip(CELLS, cells, strict=True):
                pairs = [(OPERATIONS[o], s) for o, s in zip(ops[row].tolist(), sources[row].tolist(), strict=True)]
                parts.append(f"{name}={pairs}, {name}_concat=range(2, 6)")
            texts.append(f"Genotype({', '.join(parts)})")
        return texts

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Return the genotypes ``(n, 22)`` of ``Genotype(...)`` texts; raises InputError naming the first bad one.

        The text is parsed, never run.
        """
        return np.array([_parse(text) for text in strings], dtype=np.int64).reshape(-1, self.n_sites)

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

    def _encode_adjacency(self, genotypes: Genotypes) -> NDArray[np.float32]:
        return np.concatenate([_adjacency(part) for part in np.split(genotypes, 2, axis=1)], axis=1)

    def _encode_path(self, genotypes: Genotypes) -> NDArray[np.float32]:
        n = len(genotypes)
        columns = []
        for part in np.split(genotypes, 2, axis=1):
            on_edge = _adjacency(part).reshape(n, len(_EDGES), _K)
            step = {edge: on_edge[:, place] for place, edge in enumerate(_EDGES)}
            # One-letter words per input and node; two-letter words: those, then a letter on the way out of the node.
            first = {node: np.stack([step[0, node], step[1, node]], axis=1) for node in NODES}  # (n, 2, k)
            onward = {s: np.sum([step[s, node] for node in NODES if node > s], axis=0) for s in NODES[:-1]}  # (n, k)
            second = np.sum([first[s][..., None] * onward[s][:, None, None, :] for s in onward], axis=0)  # (n, 2, k, k)
            columns += [np.sum(list(first.values()), axis=0).reshape(n, 2 * _K), second.reshape(n, 2 * _K**2)]
        return np.concatenate(columns, axis=1)


def cell_edges(cell: Genotypes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return sources and operations of a cell's eight edges, ``(n, 8)`` each; two a node, smaller source first."""
    sources = np.empty((len(cell), 2 * len(NODES)), dtype=np.int64)
    for i, (node, site) in enumerate(zip(NODES, _PAIR_SITES, strict=True)):
        pairs = np.array(_PAIRS[node])
        sources[:, 2 * i : 2 * i + 2] = pairs[0] if site is None else pairs[cell[:, site]]
    return sources, cell[:, _OP_SITES]


def _adjacency(cell: Genotypes) -> NDArray[np.float32]:
    """Return one indicator an operation on each of the 14 possible edges, ``(n, 98)``."""
    sources, ops = cell_edges(cell)
    place = np.array([_EDGES.index((0, node)) for node in NODES]).repeat(2) + sources
    features = np.zeros((len(cell), len(_EDGES) * _K), dtype=np.float32)
    features[np.arange(len(cell))[:, None], place * _K + ops] = 1.0
    return features


def _smallest_cell(cell: Genotypes) -> NDArray[np.int64]:
    """Return the smallest key ``(n,)`` among the numberings of the nodes in which sources come before targets."""
    sources, ops = cell_edges(cell)
    sources, ops = sources.reshape(len(cell), 4, 2), ops.reshape(len(cell), 4, 2)
    smallest: NDArray[np.int64] = cell @ _CELL_RADIX
    for order in list(permutations(range(4)))[1:]:  # order[new] = old; the first is no change
        place = np.array([0, 1, *(np.argsort(order) + 2)])
        moved = place[sources[:, order]]
        rows = np.flatnonzero((moved < np.array(NODES)[:, None]).all(axis=(1, 2)))
        if not len(rows):
            continue
        moved, words = moved[rows], ops[rows][:, order]
        swap = moved[:, :, :1] > moved[:, :, 1:]
        moved, words = np.where(swap, moved[:, :, ::-1], moved), np.where(swap, words[:, :, ::-1], words)
        renumbered = np.empty((len(rows), len(_SIZES)), dtype=np.int64)
        renumbered[:, _OP_SITES] = words.reshape(len(rows), -1)
        for i, (node, site) in enumerate(zip(NODES, _PAIR_SITES, strict=True)):
            if site is not None:
                renumbered[:, site] = _pair_codes(node)[moved[:, i, 0], moved[:, i, 1]]
        smallest[rows] = np.minimum(smallest[rows], renumbered @ _CELL_RADIX)
    return smallest


def _pair_codes(node: int) -> NDArray[np.int64]:
    table = np.full((node, node), -1, dtype=np.int64)
    for code, (a, b) in enumerate(_PAIRS[node]):
        table[a, b] = code
    return table


def _parse(text: Any) -> list[int]:
    """Return the codes of one ``Genotype(...)`` text; raises InputError for anything else."""
    try:
        if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
            raise ValueError("not a text of reasonable length")
        call = ast.parse(text.strip(), mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
            raise ValueError("not a call of Genotype")
        fields = {word.arg: word.value for word in call.keywords}
        if call.args or len(fields) != len(call.keywords) or set(fields) != {*CELLS, *(f"{c}_concat" for c in CELLS)}:
            raise ValueError("the fields are normal, normal_concat, reduce, reduce_concat, each by name")
        codes: list[int] = []
        for cell in CELLS:
            if ast.unparse(fields[f"{cell}_concat"]) not in ("range(2, 6)", "[2, 3, 4, 5]", "(2, 3, 4, 5)"):
                raise ValueError(f"{cell}_concat must be range(2, 6)")
            codes += _cell_codes(ast.literal_eval(fields[cell]))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise InputError(
            f"not a DARTS genotype: {str(text)[:80]!r} ({error}); expected Genotype(normal=[(operation, source) x 8], "
            "normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"
        ) from None
    return codes


def _cell_codes(edges: Any) -> list[int]:
    if not (isinstance(edges, list) and len(edges) == 2 * len(NODES)):
        raise ValueError("a cell is a list of 8 edges")
    codes = []
    for i, node in enumerate(NODES):
        pair = []
        for edge in edges[2 * i : 2 * i + 2]:
            op, source = edge
            if op not in OPERATIONS or type(source) is not int or not 0 <= source < node:
                raise ValueError(f"{edge!r} is no edge into node {node}; operations: {', '.join(OPERATIONS)}")
            pair.append((source, OPERATIONS.index(op)))
        (a, op_a), (b, op_b) = sorted(pair)
        if a == b:
            raise ValueError(f"both edges into node {node} come from node {a}")
        codes += [_PAIRS[node].index((a, b))] if len(_PAIRS[node]) > 1 else []
        codes += [op_a, op_b]
    return codes
