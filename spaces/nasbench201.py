"""NAS-Bench-201: a cell of four nodes, one of five operations on each of its six edges (Dong and Yang, ICLR 2020)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces.base import Genotypes, Space
from nasplug.spaces.graph import Graph
from nasplug.spaces.parameters import Categorical

__all__ = ["EDGES", "OPERATIONS", "NASBench201"]

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""Operation names in code order, the order of the official API and of the built-in tables."""

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(source, target) of each site, in the order of architecture strings."""

_PATTERN = re.compile(r"\|\+".join("".join(rf"\|(\w+)~{source}" for source in range(n)) for n in (1, 2, 3)) + r"\|")
_SYMBOLS = "..bca"  # nor_conv_1x1, nor_conv_3x3 and avg_pool_3x3, in the alphabetical order of their names
_PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))
_WORDS = [word for length in range(4) for word in product((1, 2, 3), repeat=length)]
_WORD_NUMBERS = [sum(letter * 4**place for place, letter in enumerate(reversed(word))) for word in _WORDS]


class NASBench201(Space):
    """The 15,625 cells of NAS-Bench-201; site i is the operation on edge ``EDGES[i]``.

    Strings are the official ones, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``. Canonical classes are the benchmark's own
    6,466 (graph isomorphism after ``none`` and ``skip_connect`` are resolved).

    Encodings:
        onehot: 30 features; pairwise: 30 + 375.
        adjacency: 6 x 4, one indicator an operation other than ``none``, so an absent edge is all zeros.
        path: how many of the four input-to-output paths read as each word over the three working operations, 40 words
            of length 0 to 3; a path with ``none`` counts nowhere and ``skip_connect`` is the empty letter (White et
            al., BANANAS, AAAI 2021; differs: counts, and skips vanish, so cells of one function have one encoding).
        depth: the same four paths by the length of their word, 4 counts.
    """

    encodings = ("onehot", "pairwise", "counts", "adjacency", "path", "depth")

    def __init__(self) -> None:
        super().__init__("nasbench201", [Categorical(f"edge_{a}_{b}", OPERATIONS) for a, b in EDGES])

    def to_string(self, genotypes: Genotypes) -> list[str]:
        names = [p.decode(genotypes[:, site]) for site, p in enumerate(self.parameters)]
        return [f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|" for a, b, c, d, e, f in zip(*names, strict=True)]

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        code = {name: i for i, name in enumerate(OPERATIONS)}
        rows = np.empty((len(strings), 6), dtype=np.int64)
        for row, text in enumerate(strings):
            match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
            if match is None or not all(op in code for op in match.groups()):
                raise InputError(
                    f"not a NAS-Bench-201 string: {str(text)[:120]!r}; expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2| "
                    f"with operations {', '.join(OPERATIONS)}"
                )
            rows[row] = [code[op] for op in match.groups()]
        return rows

    def graphs(self, genotype: NDArray[np.int64]) -> tuple[Graph, ...]:
        """Return the cell; an edge without operation is left out."""
        edges = tuple((*edge, OPERATIONS[op]) for edge, op in zip(EDGES, genotype, strict=True) if op)
        return (Graph("cell", ("input", "1", "2", "output"), edges),)

    def canonical(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Return the class id of each row, ``(n,)``, in 0..6465."""
        return self._class_of_key[self.keys(genotypes)]

    def representative(self, genotypes: Genotypes) -> Genotypes:
        """Return the lightest member of each row's class, ``(n, 6)``: fewest 3x3, then fewest 1x1 convolutions.

        As networks, members of a class differ a little: a convolution of a node that is always zero still adds the
        offset of its norm. The lightest member has no such convolution where there is one without.
        """
        return self.all()[self._lightest[self.canonical(genotypes)]]

    @cached_property
    def _lightest(self) -> NDArray[np.int64]:
        """The key of the lightest member of each class."""
        genotypes = self.all()
        ones, threes = ((genotypes == OPERATIONS.index(op)).sum(axis=1) for op in ("nor_conv_1x1", "nor_conv_3x3"))
        order = np.lexsort((ones, threes))
        return order[np.unique(self._class_of_key[order], return_index=True)[1]]

    @cached_property
    def _class_of_key(self) -> NDArray[np.int64]:
        forms = [_written_out(cell) for cell in self.all().tolist()]
        return np.unique(forms, return_inverse=True)[1].astype(np.int64)

    def _encode_adjacency(self, genotypes: Genotypes) -> NDArray[np.float32]:
        present: NDArray[np.bool_] = genotypes[:, :, None] == np.arange(1, len(OPERATIONS))
        return present.reshape(len(genotypes), 24).astype(np.float32)

    def _encode_path(self, genotypes: Genotypes) -> NDArray[np.float32]:
        # A word over the three working operations has the number of its digits in base 4 (1..3; none and skip: 0).
        letter = np.array([0, 0, 1, 2, 3])[genotypes]
        broken = genotypes == 0
        counts = np.zeros((len(genotypes), 4**3), dtype=np.float32)
        rows = np.arange(len(genotypes))
        for path in _PATHS:
            word = np.zeros(len(genotypes), dtype=np.int64)
            for edge in path:
                word = np.where(letter[:, edge] > 0, 4 * word + letter[:, edge], word)
            alive = ~broken[:, path].any(axis=1)
            np.add.at(counts, (rows[alive], word[alive]), 1.0)
        return counts[:, _WORD_NUMBERS]

    def _encode_depth(self, genotypes: Genotypes) -> NDArray[np.float32]:
        lengths = np.array([len(word) for word in _WORDS])
        return self._encode_path(genotypes) @ (lengths[:, None] == np.arange(4)).astype(np.float32)


def _written_out(cell: list[int]) -> str:
    """Return the output node as a sum of operations on earlier nodes, the benchmark's own canonical form.

    A zero edge, or an edge from a node that is exactly zero, is a zero term ``#``, and zero terms stay in the sum; a
    skip connection is replaced by the text of the node it copies. Terms are sorted as text, so which nested sums
    coincide depends on the alphabet: symbols here sort as those of the official API do.
    """
    node = ["0", "", "", ""]
    for target in (1, 2, 3):
        terms = []
        for op, (source, end) in zip(cell, EDGES, strict=True):
            if end == target:
                zero = op == 0 or node[source] == "#"
                terms.append("#" if zero else node[source] if op == 1 else f"({node[source]}){_SYMBOLS[op]}")
        node[target] = "+".join(sorted(terms))
    return node[3]
