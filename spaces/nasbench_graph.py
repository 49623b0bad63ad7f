"""NAS-Bench-Graph: graph neural networks whose four layers form a tree (Qin et al., NeurIPS 2022 Datasets)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from itertools import permutations, product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces.base import EnumeratedSpace, Genotypes
from nasplug.spaces.graph import Graph
from nasplug.spaces.parameters import Categorical

__all__ = ["LINKS", "OPERATIONS", "NASBenchGraph", "NASBenchGraphProteins"]

OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
"""Operation names in the order of the tables' keys."""

LINKS = (
    (0, 0, 0, 0),
    (0, 0, 0, 1),
    (0, 0, 1, 1),
    (0, 0, 1, 2),
    (0, 0, 1, 3),
    (0, 1, 1, 1),
    (0, 1, 1, 2),
    (0, 1, 2, 2),
    (0, 1, 2, 3),
)
"""The node that each of nodes 1 to 4 reads, 0 being the input: one numbering of each of the nine trees."""

_PARENTS = np.array(LINKS)
_NODES = 4
_LONGEST_WORD = 3


class NASBenchGraph(EnumeratedSpace):
    """The 26,206 architectures of NAS-Bench-Graph: a tree of four operations under the input, its leaves the output.

    Sites are ``link`` (which tree) and ``op_1`` to ``op_4``. Of the 9 x 9^4 combinations one representative a function
    is valid, the one in the tables:

    1. A ``skip`` with something below it, without a sibling, or with nothing but ``skip`` up to the input adds
       nothing where it stands. Going through the nodes in order, each such skip leaves, what hung below it moves up
       by one, and in exchange the whole tree is hung below one more skip at the input. (A skip leaf beside others
       stays: it hands the features of its parent to the output.)
    2. Of the numberings of the tree that give one of :data:`LINKS`, the one with the smallest operations counts.

    Four skips compute nothing and are not in the tables. :meth:`repair` makes the last of them ``fc``, the least that
    can be trained: ``0,1,2,3|skip|skip|skip|fc``.

    Strings are ``0,0,1,2|gcn|gat|skip|fc``: what each node reads, then the operations.

    Encodings:
        onehot: 9 + 36 features; pairwise: 45 + 810.
        adjacency: 9 indicators of what nodes 2, 3 and 4 read, 36 of the operations.
        path: for each word of at most 3 operations, ``skip`` being the empty letter, how many nodes are reached from
            the input along it; 585 words. Not injective: a fourth letter is not told apart.
        depth: how many nodes have 0, 1, ..., 4 working operations between them and the input, their own included.

    Source: the tables' own package, nas-bench-graph 1.4.0. Differs: the rules are tables over whole batches, and give
    an answer for every combination.
    """

    encodings = ("onehot", "pairwise", "counts", "adjacency", "path", "depth")

    operations: ClassVar[tuple[str, ...]] = OPERATIONS
    """Operation names in code order; ``fc`` and ``skip`` are always among them."""
    _registered: ClassVar[str] = "nasbench-graph"
    _size: ClassVar[int] = 26_206

    def __init__(self) -> None:
        sites = [Categorical("link", tuple(",".join(map(str, link)) for link in LINKS))]
        sites += [Categorical(f"op_{node}", self.operations) for node in range(1, _NODES + 1)]
        super().__init__(self._registered, sites)

    @cached_property
    def size(self) -> int:
        """Number of representatives; written down, since counting them is the slow part of opening a table."""
        return self._size

    def repair(self, genotypes: Genotypes) -> Genotypes:
        """Return the representative of each combination ``(n, 5)``; see the class for the rules."""
        return self._representatives[self.keys(genotypes)]

    def _enumerate(self) -> Genotypes:
        return np.unique(self._representatives, axis=0)

    @cached_property
    def _representatives(self) -> Genotypes:
        """The representative of every combination, by key, ``(9 * k^4, 5)`` for k operations."""
        combinations = self._unrank(np.arange(self.n_choices.prod()))
        skip = self.operations.index("skip")
        parents, ops = _lift_skips(_PARENTS[combinations[:, 0]], combinations[:, 1:], skip)
        rows = _smallest_numbering(parents, ops)
        rows[(combinations[:, 1:] == skip).all(axis=1), -1] = self.operations.index("fc")
        return rows

    # -- words -------------------------------------------------------------------------------------------------------

    def to_string(self, genotypes: Genotypes) -> list[str]:
        columns = [p.decode(genotypes[:, site]) for site, p in enumerate(self.parameters)]
        return ["|".join(row) for row in zip(*columns, strict=True)]

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Return the representatives ``(n, 5)`` of strings; raises InputError naming the first bad one."""
        code = [{value: i for i, value in enumerate(p.choices)} for p in self.parameters if isinstance(p, Categorical)]
        rows = np.empty((len(strings), self.n_sites), dtype=np.int64)
        for row, text in enumerate(strings):
            words = text.split("|") if isinstance(text, str) else []
            if len(words) != self.n_sites or any(w not in known for w, known in zip(words, code, strict=True)):
                raise InputError(
                    f"not an architecture of {self.name!r}: {str(text)[:80]!r}; expected LINK|OP|OP|OP|OP, LINK one of "
                    f"{' '.join(','.join(map(str, link)) for link in LINKS)}, OP one of {', '.join(self.operations)}"
                )
            rows[row] = [known[word] for word, known in zip(words, code, strict=True)]
        return self.repair(rows)

    def graphs(self, genotype: NDArray[np.int64]) -> tuple[Graph, ...]:
        """Return the tree between input and output; its leaves are put together."""
        parents, last = LINKS[int(genotype[0])], _NODES + 1
        nodes = ("input", *(self.operations[op] for op in genotype[1:]), "output")
        leaves = [node for node in range(1, last) if node not in parents]
        edges = [(parent, node, "") for node, parent in enumerate(parents, 1)]
        return (Graph("network", nodes, (*edges, *((leaf, last, "") for leaf in leaves))),)

    # -- the package's tables ----------------------------------------------------------------------------------------

    def package_key(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Return the key of each representative in the package's tables, ``(n,)``.

        Its decimal digits are the link and the four places of the operations in :data:`OPERATIONS`, also for proteins.
        """
        digits = np.concatenate([genotypes[:, :1], self._package_ops[genotypes[:, 1:]]], axis=1)
        return digits @ 10 ** np.arange(_NODES, -1, -1)

    def from_package_key(self, keys: NDArray[np.int64]) -> Genotypes:
        """Return the representative ``(n, 5)`` of each table key; raises InputError for a key no table has."""
        keys = np.asarray(keys, dtype=np.int64)
        known = self.package_key(self.all())  # ascending, as the genotypes are
        at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        if (known[at] != keys).any():
            raise InputError(f"{keys[known[at] != keys][0]} is not a table key of {self.name!r}")
        return self.all()[at]

    @cached_property
    def _package_ops(self) -> NDArray[np.int64]:
        return np.array([OPERATIONS.index(name) for name in self.operations])

    # -- encodings ---------------------------------------------------------------------------------------------------

    def _encode_adjacency(self, genotypes: Genotypes) -> NDArray[np.float32]:
        parents = _PARENTS[genotypes[:, 0]]
        reads = [parents[:, [node]] == np.arange(node + 1) for node in range(1, _NODES)]
        ops = genotypes[:, 1:, None] == np.arange(len(self.operations))
        return np.concatenate([*reads, ops.reshape(len(genotypes), _NODES * len(self.operations))], axis=1).astype(
            np.float32
        )

    def _encode_path(self, genotypes: Genotypes) -> NDArray[np.float32]:
        base = len(self.operations)
        # Letters 1, 2, ...; skip, the last operation, is the empty letter 0. A word is a number in that base.
        letters = (genotypes[:, 1:] + 1) % base
        parents = _PARENTS[genotypes[:, 0]]
        rows = np.arange(len(genotypes))
        words = np.zeros((len(genotypes), _NODES + 1), dtype=np.int64)
        counts = np.zeros((len(genotypes), base**_LONGEST_WORD), dtype=np.float32)
        for node in range(_NODES):
            before, letter = words[rows, parents[:, node]], letters[:, node]
            words[:, node + 1] = np.where(letter > 0, before * base + letter, before)
            short = words[:, node + 1] < base**_LONGEST_WORD
            np.add.at(counts, (rows[short], words[short, node + 1]), 1.0)
        spelled = [word for k in range(_LONGEST_WORD + 1) for word in product(range(1, base), repeat=k)]
        return counts[:, [sum(c * base**place for place, c in enumerate(reversed(word))) for word in spelled]]

    def _encode_depth(self, genotypes: Genotypes) -> NDArray[np.float32]:
        works = genotypes[:, 1:] != self.operations.index("skip")
        parents = _PARENTS[genotypes[:, 0]]
        depth = np.zeros((len(genotypes), _NODES + 1), dtype=np.int64)
        for node in range(_NODES):
            depth[:, node + 1] = np.take_along_axis(depth, parents[:, [node]], 1)[:, 0] + works[:, node]
        return (depth[:, 1:, None] == np.arange(_NODES + 1)).sum(axis=1).astype(np.float32)


class NASBenchGraphProteins(NASBenchGraph):
    """The 2,021 architectures measured on ogbn-proteins: as :class:`NASBenchGraph`, with five operations."""

    operations = ("gcn", "sage", "arma", "fc", "skip")
    _registered = "nasbench-graph-proteins"
    _size = 2_021


def _lift_skips(parents: NDArray[np.int64], ops: Genotypes, skip: int) -> tuple[NDArray[np.int64], Genotypes]:
    """Move skips that add nothing to the input; parents and operations ``(n, 4)`` in and out (rule 1)."""
    n = len(ops)
    parents = parents.copy()
    stays = np.ones((n, _NODES), dtype=bool)
    bare = np.ones((n, _NODES + 1), dtype=bool)  # nothing but skips up to the input; column 0 is the input
    for node in range(_NODES):
        is_skip = ops[:, node] == skip
        bare[:, node + 1] = is_skip & np.take_along_axis(bare, parents[:, [node]], 1)[:, 0]
        below = stays & (parents == node + 1)
        siblings = stays & (parents == parents[:, [node]])
        siblings[:, node] = False
        lifted = is_skip & (below.any(axis=1) | ~siblings.any(axis=1) | bare[:, node + 1])
        stays[lifted, node] = False
        parents = np.where(below & lifted[:, None], parents[:, [node]], parents)
    # Lifted skips come first, as a chain; the others keep their order and hang below it.
    order = np.argsort(stays, axis=1, kind="stable")
    place = np.argsort(order, axis=1) + 1
    chain = _NODES - stays.sum(axis=1, keepdims=True)
    moved = np.where(parents == 0, chain, np.take_along_axis(place, np.maximum(parents - 1, 0), 1))
    moved = np.take_along_axis(moved, order, 1)
    return np.where(np.arange(_NODES) < chain, np.arange(_NODES), moved), np.take_along_axis(ops, order, 1)


def _smallest_numbering(parents: NDArray[np.int64], ops: Genotypes) -> Genotypes:
    """Return link and operations ``(n, 5)`` of the numbering with the smallest operations (rule 2)."""
    rows = np.empty((len(ops), _NODES + 1), dtype=np.int64)
    tree = parents @ (0, 12, 4, 1)
    for one in np.unique(tree):
        these = np.flatnonzero(tree == one)
        link, numberings = _numberings(tuple(parents[these[0]].tolist()))
        candidates = ops[these][:, numberings]  # (rows, numberings, nodes)
        best = np.argmin(candidates @ (len(OPERATIONS) ** np.arange(_NODES - 1, -1, -1)), axis=1)
        rows[these, 0] = link
        rows[these, 1:] = candidates[np.arange(len(these)), best]
    return rows


@cache
def _numberings(parents: tuple[int, ...]) -> tuple[int, NDArray[np.int64]]:
    """Return the one link of :data:`LINKS` that renumbering reaches, and all renumberings that do, ``(c, 4)``."""
    found: dict[int, list[tuple[int, ...]]] = {}
    for order in permutations(range(_NODES)):
        place = {0: 0} | {old + 1: new + 1 for new, old in enumerate(order)}
        link = tuple(place[parents[old]] for old in order)
        if link in LINKS:
            found.setdefault(LINKS.index(link), []).append(order)
    ((link_code, orders),) = found.items()
    return link_code, np.array(orders)
