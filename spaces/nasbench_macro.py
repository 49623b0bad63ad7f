"""NAS-Bench-Macro: a chain of eight layers in three stages (Su et al., CVPR 2021)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces.base import Genotypes, Space
from nasplug.spaces.graph import Graph, chain
from nasplug.spaces.parameters import Categorical

__all__ = ["OPERATIONS", "STAGES", "NASBenchMacro", "identities_last"]

OPERATIONS = ("identity", "mbconv_k3_e3", "mbconv_k5_e6")
"""Operation names in code order; the digits of architecture strings."""

STAGES = (2, 3, 3)
"""Layers a stage; the first layer of each halves the side and doubles the channels."""

_STARTS = (0, 2, 5)
_PATTERN = re.compile(r"[0-2]{8}", re.ASCII)


class NASBenchMacro(Space):
    """The 6,561 chains of NAS-Bench-Macro; site ``layer_i`` is the operation of layer i, 1 to 8.

    Strings are the official ones, eight digits such as ``22212220``. An identity behind the first layer of its stage
    does nothing, wherever it stands (in the first layer it still resizes), so there are 9 x 21 x 21 = 3,969 canonical
    classes; the published table trained each once.

    Encodings:
        onehot: 24 features; pairwise: 24 + 252.
        path: one indicator a function of each stage, that is its first operation and the others without identities:
            9 + 21 + 21 features, equal exactly for chains of one class.
    """

    encodings = ("onehot", "pairwise", "counts", "path")

    def __init__(self) -> None:
        super().__init__("nasbench-macro", [Categorical(f"layer_{i}", OPERATIONS) for i in range(1, sum(STAGES) + 1)])

    def to_string(self, genotypes: Genotypes) -> list[str]:
        return ["".join(map(str, row)) for row in genotypes.tolist()]

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        for text in strings:
            if not (isinstance(text, str) and _PATTERN.fullmatch(text)):
                raise InputError(
                    f"not a NAS-Bench-Macro string: {str(text)[:80]!r}; expected 8 digits, 0 identity, 1 MBConv k3 e3, "
                    "2 MBConv k5 e6, such as 22212220"
                )
        return np.array([list(map(int, text)) for text in strings], dtype=np.int64).reshape(-1, self.n_sites)

    def graphs(self, genotype: NDArray[np.int64]) -> tuple[Graph, ...]:
        """Return the chain, a row a stage."""
        names = [OPERATIONS[op] for op in genotype]
        stages = [names[start : start + length] for start, length in zip(_STARTS, STAGES, strict=True)]
        return (chain("network", stages),)

    def canonical(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Return the class id of each row, ``(n,)``: the key of the member whose stages end in their identities."""
        return self.keys(identities_last(genotypes))

    def representative(self, genotypes: Genotypes) -> Genotypes:
        return identities_last(genotypes)

    def _encode_path(self, genotypes: Genotypes) -> NDArray[np.float32]:
        settled = identities_last(genotypes)
        columns = []
        for start, length in zip(_STARTS, STAGES, strict=True):
            function = settled[:, start : start + length] @ 3 ** np.arange(length - 1, -1, -1)
            possible = identities_last(np.indices((3,) * length).reshape(length, -1).T, starts=(0,), stages=(length,))
            numbers = np.unique(possible @ 3 ** np.arange(length - 1, -1, -1))
            columns.append(function[:, None] == numbers)
        return np.concatenate(columns, axis=1).astype(np.float32)


def identities_last(
    genotypes: Genotypes, starts: Sequence[int] = _STARTS, stages: Sequence[int] = STAGES, identity: int = 0
) -> Genotypes:
    """Return the chains with each stage's identities, its first layer aside, moved to the stage's end."""
    settled = np.array(genotypes, dtype=np.int64)
    for start, length in zip(starts, stages, strict=True):
        rest = settled[:, start + 1 : start + length]
        order = np.argsort(rest == identity, axis=1, kind="stable")
        settled[:, start + 1 : start + length] = np.take_along_axis(rest, order, 1)
    return settled
